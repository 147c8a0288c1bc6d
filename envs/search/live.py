"""A live search API behind the same interface: any JSON endpoint, told by a URL template and field paths."""

from __future__ import annotations

import json
import os
import re
from functools import lru_cache
from typing import Any, Literal
from urllib.parse import quote, urlsplit

import httpx
import tenacity
from pydantic import BaseModel, ConfigDict, Field, field_validator

from pivotgym.envs.errors import BadInput, EndpointError
from pivotgym.envs.search.corpus import PAGE_CHARS, Document, Paged, text_of_html
from pivotgym.envs.search.engine import SNIPPET_CHARS, Engine, Hit, NotRecorded, Unreadable
from pivotgym.envs.search.record import Record
from pivotgym.envs.trajectory import JsonObject, canonical_json, digest

_GONE = {404, 410, 451}
"""What says of a document that it is not there."""
_REFUSED = {400, 401, 403, 405, 406, 415}
"""From the document's own server, that it is not to be had; from an API, that our key or request is bad."""


class LiveApi(BaseModel):
    """How to ask a search API, and where its answers hold what.

    Templates know ``{query}``, ``{k}``, ``{id}`` and ``{url}``; in URLs the values are percent-encoded (a document URL
    that is ``{url}`` alone is taken as it is). Paths are dotted: ``data.0.items``.

    Attributes:
        search_url: for example ``https://api.example.org/search?q={query}&count={k}``.
        method: of a search.
        body: JSON body of a search by POST; a string ``"{k}"`` becomes the number.
        headers: ``${NAME}`` in a value is the environment variable of that name. Never recorded.
        results: where the list of results is.
        id: within a result, the document's id; by default its address.
        title: within a result.
        url: within a result.
        snippet: within a result.
        document_url: where a document is read; by default its own address.
        document_text: where the answer holds the document's text; by default the answer is the document itself, HTML
            or plain text.
        document_title: where the answer holds its title; by default the search result's (HTML: the page's).
        timeout: seconds for one request.
        attempts: requests for one answer before giving up; only failures that may pass are tried again.
        wait: seconds before the second request, doubled each time, at most 20.
        max_bytes: longer answers are cut (documents) or refused (searches).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    search_url: str
    method: Literal["GET", "POST"] = "GET"
    body: JsonObject | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    results: str = "results"
    id: str | None = None
    title: str = "title"
    url: str = "url"
    snippet: str = "snippet"
    document_url: str = "{url}"
    document_text: str | None = None
    document_title: str | None = None
    timeout: float = Field(default=30.0, gt=0)
    attempts: int = Field(default=4, ge=1)
    wait: float = Field(default=0.5, ge=0)
    max_bytes: int = Field(default=4 << 20, ge=1024)

    @field_validator("search_url")
    @classmethod
    def _is_web(cls, url: str) -> str:
        if urlsplit(url).scheme not in ("http", "https"):
            raise ValueError("is no http or https address")
        return url

    @property
    def identity(self) -> str:
        """Equal for settings that ask the same; without headers, which may hold keys."""
        asked = self.model_dump(exclude={"headers", "timeout", "attempts", "wait", "max_bytes"})
        return digest(canonical_json(asked))


class LiveEngine(Engine):
    """A live API and the record of what it answered.

    A request is answered from the record where it has it, so a session that goes back gets what it got before.
    Otherwise the API is asked and the answer recorded, unless ``offline`` or the caller forbids it.

    Args:
        api: the settings.
        record: answers so far.
        offline: never ask the API.
        page_chars: length of a page.
    """

    needs_hits = True

    def __init__(self, api: LiveApi, record: Record, *, offline: bool = False, page_chars: int = PAGE_CHARS) -> None:
        self.api, self.record, self.offline, self._page_chars = api, record, offline, page_chars
        self.fingerprint = digest(canonical_json([api.identity, str(record.path), page_chars]))

    def search(self, query: str, k: int, *, recorded_only: bool = False) -> list[Hit]:
        """The API's results, in its own order; what has no address and no id is left out."""
        request: JsonObject = {"api": self.api.identity, "search": query, "k": k}
        answer = self.record.get(request)
        if answer is None:
            self._may_ask(f"search {query!r} with k={k}", recorded_only)
            answer = self.record.put(request, {"hits": self._search(query, k)})
        return [
            Hit(str(row.get("id")), str(row.get("title")), str(row.get("url", "")), str(row.get("snippet", "")))
            for row in answer.get("hits", [])
        ]

    def read(self, name: str, url: str = "", *, recorded_only: bool = False) -> Paged | None:
        """The document as it was when first read."""
        request: JsonObject = {"api": self.api.identity, "open": name, "url": url}
        answer = self.record.get(request)
        if answer is None:
            self._may_ask(f"open {name!r}", recorded_only)
            answer = self.record.put(request, self._read(name, url))
        if "problem" in answer:
            raise Unreadable(str(answer["problem"]))
        return Paged(Document(name, str(answer.get("title", "")), str(answer.get("text", "")), url), self._page_chars)

    # Inner parts ----------------------------------------------------------------------------------------------

    def _may_ask(self, what: str, recorded_only: bool) -> None:
        if recorded_only or self.offline:
            raise NotRecorded(f"the record {self.record.path or 'in memory'} has no answer to: {what}")

    def _search(self, query: str, k: int) -> list[JsonObject]:
        api = self.api
        values = {"query": query, "k": str(k)}
        body = _filled(api.body, query, k) if api.method == "POST" else None
        status, kind, raw = self._fetch(api.method, _url(api.search_url, values), body)
        if status >= 400:
            raise EndpointError(f"search at {_host(api.search_url)}: status {status}: {raw[:200]!r}")
        rows = at(self._json(raw, kind), api.results)
        if not isinstance(rows, list):
            raise EndpointError(f"search at {_host(api.search_url)}: no list at {api.results!r}")
        hits: list[JsonObject] = []
        for row in rows[:k]:
            url = _line(at(row, api.url))
            name = _line(at(row, api.id)) if api.id is not None else url
            if name:
                snippet = _line(at(row, api.snippet))
                cut = snippet if len(snippet) <= 2 * SNIPPET_CHARS else snippet[: 2 * SNIPPET_CHARS].rstrip() + " …"
                hits.append({"id": name, "title": _line(at(row, api.title)) or name, "url": url, "snippet": cut})
        return hits

    def _read(self, name: str, url: str) -> JsonObject:
        api = self.api
        target = url or name if api.document_url == "{url}" else _url(api.document_url, {"id": name, "url": url})
        if urlsplit(target).scheme not in ("http", "https"):
            return {"problem": "it has no web address"}
        status, kind, raw = self._fetch("GET", target, None)
        if status in _GONE or (status in _REFUSED and api.document_url == "{url}"):
            return {"problem": f"the server answered with status {status}"}
        if status >= 400:
            raise EndpointError(f"document {name!r} at {_host(target)}: status {status}")
        title = name
        if api.document_text is not None:
            value = self._json(raw, kind)
            text = at(value, api.document_text)
            title = _line(at(value, api.document_title)) or title if api.document_title is not None else title
            text = text if isinstance(text, str) else ""
        elif "html" in kind:
            heading, text = text_of_html(raw)
            title = heading or title
        elif kind.startswith("text/") or "json" in kind or "xml" in kind or not kind:
            text = raw
        else:
            return {"problem": f"it is of the type {kind.split(';')[0]}, which has no text"}
        return {"title": title, "text": text} if text.strip() else {"problem": "it has no text"}

    def _fetch(self, method: str, url: str, body: Any) -> tuple[int, str, str]:
        """Status, content type and text. Raises EndpointError where no answer can be had."""
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Passing),
            stop=tenacity.stop_after_attempt(self.api.attempts),
            wait=tenacity.wait_exponential(multiplier=self.api.wait, max=20.0),
            reraise=True,
        )
        try:
            return retrying(self._request, method, url, body)
        except (httpx.HTTPError, httpx.InvalidURL, _Passing, UnicodeError) as error:
            raise EndpointError(f"{_host(url)}: {type(error).__name__}: {error}") from error

    def _request(self, method: str, url: str, body: Any) -> tuple[int, str, str]:
        headers = {name: _with_variables(value) for name, value in self.api.headers.items()}
        # Keys go to the search API only, not to the sites whose pages its results name.
        if urlsplit(url).netloc not in {urlsplit(self.api.search_url).netloc, urlsplit(self.api.document_url).netloc}:
            headers = {}
        options: JsonObject = {"json": body} if body is not None else {}
        try:
            with (
                # A redirect would take the keys to another host.
                httpx.Client(timeout=self.api.timeout, follow_redirects=not headers, max_redirects=5) as client,
                client.stream(method, url, headers=headers, **options) as answer,
            ):
                raw = bytearray()
                for piece in answer.iter_bytes():
                    raw += piece
                    if len(raw) > self.api.max_bytes:
                        break
                if answer.status_code == 429 or answer.status_code >= 500:
                    raise _Passing(f"status {answer.status_code}")
                text = bytes(raw[: self.api.max_bytes]).decode(answer.encoding or "utf-8", "replace")
                return answer.status_code, answer.headers.get("content-type", "").lower(), text
        except (httpx.TransportError, LookupError) as error:
            raise _Passing(f"{type(error).__name__}: {error}") from error

    def _json(self, raw: str, kind: str) -> Any:
        try:
            return json.loads(raw)
        except (ValueError, RecursionError) as error:
            told = f"an answer of type {kind or 'unknown'} that is no JSON: {raw[:200]!r}"
            raise EndpointError(f"{_host(self.api.search_url)}: {told}") from error


class _Passing(Exception):
    """Internal: a failure that may pass."""


def at(value: Any, path: str) -> Any:
    """What stands at a dotted path in a JSON value; None where nothing does. An empty path is the value itself."""
    for part in path.split(".") if path else ():
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and re.fullmatch(r"-?\d+", part) and -len(value) <= int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


@lru_cache(maxsize=32)
def live_engine(settings: str, path: str | None, offline: bool, page_chars: int) -> LiveEngine:
    """The engine for these settings (JSON of :class:`LiveApi`), made once a process, so that its record is shared."""
    return LiveEngine(LiveApi.model_validate_json(settings), Record(path), offline=offline, page_chars=page_chars)


def _url(template: str, values: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: quote(values.get(found[1], found[0]), safe=""), template)


def _filled(value: Any, query: str, k: int) -> Any:
    if value == "{k}":
        return k
    if isinstance(value, str):
        return value.replace("{k}", str(k)).replace("{query}", query)
    if isinstance(value, dict):
        return {key: _filled(item, query, k) for key, item in value.items()}
    return [_filled(item, query, k) for item in value] if isinstance(value, list) else value


def _with_variables(value: str) -> str:
    def named(found: re.Match[str]) -> str:
        if found[1] not in os.environ:
            raise BadInput(f"the environment variable {found[1]} is not set", field="live.headers")
        return os.environ[found[1]]

    return re.sub(r"\$\{(\w+)\}", named, value)


def _line(value: Any) -> str:
    plain = re.sub(r"</?(?:b|em|strong|mark)>", "", str(value)) if isinstance(value, str | int) else ""
    return " ".join(plain.split())


def _host(url: str) -> str:
    return urlsplit(url).netloc or url[:80]
