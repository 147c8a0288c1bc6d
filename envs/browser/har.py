"""Recorded sites: pages of the live web, replayed offline from a HAR archive.

A request that the archive does not hold is answered with an error and noted for the report of the restore. Nothing is
ever asked of the network.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from pivotgym.envs.browser.tasks import Answer, BrowserTask, Final, Request, Site, TaskSet
from pivotgym.envs.errors import BadInput, InfrastructureError, NotRestorable
from pivotgym.envs.trajectory import JsonObject, Task
from pivotgym.envs.verdict import Verdict

_DROPPED = frozenset(
    {
        "content-encoding",  # archives hold the decoded body
        "content-length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "alt-svc",
        "strict-transport-security",
        "report-to",
        "nel",
    }
)


class NoGoal(InfrastructureError):
    """A recorded site has no goal of its own: its episodes cannot be judged."""


class Archive:
    """The responses of a HAR file by request.

    Several for one request are given in the order they were recorded; the last one repeats.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            entries = json.loads(path.read_text(encoding="utf-8-sig"))["log"]["entries"]
        except OSError as error:
            raise BadInput(str(error), file=path) from error
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(f"no HAR archive: {error}", file=path, field="log.entries") from error
        self.answers: dict[str, list[Answer]] = {}
        self.first_page: str | None = None
        for position, entry in enumerate(entries):
            try:
                self._add(entry)
            except (KeyError, TypeError, ValueError) as error:
                raise BadInput(f"unusable entry: {error!r}", file=path, field=f"log.entries.{position}") from error

    def _add(self, entry: JsonObject) -> None:
        request, response = entry["request"], entry["response"]
        if int(response["status"]) <= 0 or not request["url"].startswith(("http://", "https://")):
            return  # a request that was cancelled, or one that never left the browser
        body = self._body(response.get("content") or {})
        headers = [
            (str(header["name"]), str(header["value"]).replace("\n", " "))
            for header in response.get("headers", ())
            if str(header["name"]).lower() not in _DROPPED and not str(header["name"]).startswith(":")
        ]
        posted = (request.get("postData") or {}).get("text") or ""
        answer = Answer(int(response["status"]), headers, body)
        for key in _keys(request["method"], request["url"], posted.encode("utf-8", "surrogatepass")):
            self.answers.setdefault(key, []).append(answer)
        if self.first_page is None and "html" in str((response.get("content") or {}).get("mimeType", "")):
            self.first_page = request["url"]

    def _body(self, content: JsonObject) -> bytes:
        if "_file" in content:  # Playwright's archives may hold bodies in files beside them
            wanted = (self.path.parent / str(content["_file"])).resolve()
            if not wanted.is_relative_to(self.path.parent.resolve()):
                raise ValueError(f"a body outside the archive's folder: {content['_file']}")
            return wanted.read_bytes()
        text = content.get("text") or ""
        if content.get("encoding") == "base64":
            return base64.b64decode(text)
        return str(text).encode("utf-8", "surrogatepass")


def _keys(method: str, url: str, body: bytes) -> list[str]:
    """Under which a request is found: with its body, and for archives without bodies without it."""
    plain = f"{method.upper()} {url.partition('#')[0]}"
    if not body:
        return [plain]
    return [f"{plain} {hashlib.sha256(body).hexdigest()}", plain]


@lru_cache(maxsize=8)
def read_archive(path: str) -> Archive:
    """The archive at ``path``. Raises BadInput."""
    return Archive(Path(path))


class RecordedSite:
    """Answers from an archive; its state is how often each request was made."""

    intercepts = True

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._asked: dict[str, int] = {}

    def handle(self, request: Request) -> Answer | None:
        """The recorded response, or None."""
        url = f"{request.scheme}://{request.host}{request.port}{request.path}"
        url += f"?{request.query}" if request.query else ""
        for key in _keys(request.method, url, request.body):
            found = self._archive.answers.get(key)
            if found:
                asked = self._asked.get(key, 0)
                self._asked[key] = asked + 1
                return found[min(asked, len(found) - 1)]
        return None

    def save(self) -> bytes:
        """How often each request was made."""
        return json.dumps(self._asked, sort_keys=True).encode()

    def load(self, state: bytes) -> None:
        """Goes back to a saved state."""
        self._asked = json.loads(state)

    def facts(self, state: bytes) -> dict[str, Any]:
        """Nothing: what was asked how often is no property of a page."""
        return {}

    def close(self) -> None:
        """Nothing."""


class RecordedSites(TaskSet):
    """Sessions on recorded sites: they can be restored and compared; their goal nobody knows."""

    name: ClassVar[str] = "recorded"

    def tasks(self) -> Sequence[Task]:
        """None: they come with their recordings."""
        return []

    def open(self, task: Task, spec: BrowserTask) -> Site:
        """Serves the archive."""
        path = spec.definition.get("har")
        if not isinstance(path, str):
            raise NotRestorable("bad_task", f"task {task.id} names no HAR archive (data.definition.har)")
        return RecordedSite(read_archive(path))

    def goal(self, task: Task, final: Final) -> Verdict:
        """Raises NoGoal."""
        raise NoGoal(f"task {task.id} comes from a recording, which does not say what its goal is")


def har_task(path: str | Path, url: str | None = None, *, goal: str | None = None, **fields: Any) -> Task:
    """A task on the sites of a HAR archive.

    Args:
        path: the archive.
        url: where to start; by default the first page in it.
        goal: what the user asks.
        fields: more of :class:`BrowserTask`'s.

    Raises:
        BadInput: no archive, or one without a page.
    """
    archive = read_archive(str(path))
    start = url or archive.first_page
    if start is None:
        raise BadInput("the archive holds no page", file=path, field="log.entries")
    definition = {"har": str(Path(path).resolve())}
    spec = BrowserTask(
        set="recorded", name=urlsplit(start).netloc, url=start, goal=goal, definition=definition, **fields
    )
    return spec.task(f"recorded.{Path(path).stem}")
