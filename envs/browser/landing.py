"""A state that is a page freshly loaded, and what is done in it since: no need to go through the pages before.

A document that was loaded by an address, with given cookies, storage and server, is the same document whenever it is
loaded so again: the clock and random numbers of a page begin with the page. So the documents before it can be left
out, provided it did not ask for them. What remains of them in a browser is the tab's history: a document that asks for
that, and an agent that goes back, get the state by way of all its actions (:class:`Shallow`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pivotgym.envs.browser.proxy import DocumentRequest
from pivotgym.envs.trajectory import JsonObject

if TYPE_CHECKING:
    from collections.abc import Mapping


class Shallow(Exception):
    """What was asked for needs the pages before, and this session did not go through them."""


@dataclass(eq=False)
class Landing:
    """How to load the document a state stands on.

    Attributes:
        turns: how many turns came before it.
        url: its address when it began.
        referrer: where it believes to come from.
        step_ms: how much of its time had passed at the end of that turn, in milliseconds.
        cookies: the browser's, as Playwright gives them.
        local: the local storage its scripts found, by key.
        session: the session storage.
        request: what was asked of the server, and the server's state before.
        mouse: where the mouse was.
        clipboard: the agent's.
        told: what the agent had told the user.
        refuted: whether it turned out to bring another state, so that it is not tried again.
    """

    turns: int
    url: str
    referrer: str
    step_ms: float
    cookies: list[Any]
    local: dict[str, str]
    session: dict[str, str]
    request: DocumentRequest
    mouse: tuple[float, float]
    clipboard: str
    told: list[str]
    refuted: bool = field(default=False)

    @property
    def nbytes(self) -> int:
        """About how large it is, in bytes."""
        stored = sum(len(key) + len(value) for part in (self.local, self.session) for key, value in part.items())
        return 2048 + len(self.request.site) + 4 * stored + 512 * len(self.cookies)

    def storage_script(self) -> str | None:
        """JavaScript that puts the storage back before the document's own scripts; None where there is none."""
        if not self.local and not self.session:
            return None
        wanted = json.dumps([self.url, self.local, self.session])
        return f"""(([url, local, session]) => {{
  if (window.top !== window || location.href !== url) return;
  for (const [store, rows] of [[localStorage, local], [sessionStorage, session]]) {{
    store.clear();
    for (const [key, value] of Object.entries(rows)) store.setItem(key, value);
  }}
}})({wanted})"""


def requested(born: JsonObject, requests: Sequence[DocumentRequest], cookies: Sequence[Any]) -> DocumentRequest | None:
    """The request that brought a document, where asking again brings the same.

    Args:
        born: what the document says of its beginning.
        requests: the last ones for documents.
        cookies: the browser's now.
    """
    if born["name"] or born["opened"] or born["state"] or born["local"] is None or born["session"] is None:
        return None
    address = str(born["url"]).partition("#")[0]
    found = next((one for one in reversed(requests) if one.url == address), None)
    if found is None or found.method != "GET":
        return None
    # The cookies it was asked with must be the ones there are now: others came only after it.
    return found if _pairs(found.cookie) == sorted((one["name"], one["value"]) for one in cookies) else None


def _pairs(header: str) -> list[tuple[str, str]]:
    pairs = (part.strip().partition("=") for part in header.split(";") if part.strip())
    return sorted((name, value) for name, _, value in pairs)


def same_page(one: str, other: str) -> bool:
    """Whether two observations show the same elements under the same ids; what stands above them may differ."""
    return one.partition("\n\n")[2] == other.partition("\n\n")[2]


def order(cookies: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Cookies as Playwright takes them back."""
    taken = ("name", "value", "domain", "path", "expires", "httpOnly", "secure", "sameSite")
    return [{key: cookie[key] for key in taken if key in cookie} for cookie in cookies]
