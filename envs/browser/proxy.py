"""The only thing a page can reach: a proxy of its own, in this process, that serves the episode's site.

URLs are the same in every environment (``http://shop.test/``), nothing leaves the machine, and what nobody serves is
refused and noted.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import h11

from pivotgym.envs.browser.cookies import lasting_headers
from pivotgym.envs.browser.engine import BrowserError
from pivotgym.envs.browser.tasks import Answer, Request, Site

MAX_REQUEST = 64 * 1024 * 1024
MAX_RESPONSE = 32 * 1024 * 1024
"""Bytes of one response; a larger one is refused and noted: no page an agent reads is that large."""
MAX_NOTES = 50
_DOCUMENTS = 8
_IDLE_SECONDS = 300.0
SLOW_SECONDS = 0.02
"""Sites that take longer for an answer, on average, answer in threads of their own: handing a request to one costs more
than most sites need, but meanwhile nobody else's pages are served."""
OVERDUE_SECONDS = 1.0
_pace: dict[type, float] = {}
"""Seconds an answer takes, by the site's class. It decides where an answer is made, never what it is or its order."""


@dataclass(frozen=True)
class DocumentRequest:
    """A request for a document.

    Attributes:
        url: without its fragment.
        method: upper case.
        cookie: the header.
        site: the server's state before.
        missing: what had been asked in vain before.
    """

    url: str
    method: str
    cookie: str
    site: bytes
    missing: tuple[str, ...]


class SiteHost:
    """The site of one episode behind a lock, with notes on what was asked in vain.

    Args:
        site: what answers; None refuses everything.
        clock: the page's, which cookies expire by, in milliseconds since 1970; None leaves them to the machine's.

    Attributes:
        documents: the last requests for documents, frames' included, the newest last.
        failure: what the site raised; no page's doing, and nothing that comes after it can be believed.
    """

    def __init__(self, site: Site | None, clock: int | None = None) -> None:
        self.site, self.clock = site, clock
        self.lock = threading.Lock()
        self._turn = asyncio.Lock()  # its waiters go in the order of arrival
        self.missing: list[str] = []
        self.failure: Exception | None = None
        self._waiting: list[float] = []  # since when requests wait for their answers
        self.documents: deque[DocumentRequest] = deque(maxlen=_DOCUMENTS)

    async def answered(self, request: Request, url: str) -> Answer:
        """As :meth:`answer`, one request after the other, without holding up other sites for long."""
        asked = time.monotonic()
        self._waiting.append(asked)
        try:
            async with self._turn:
                kind, began = type(self.site), time.monotonic()
                known = _pace.get(kind)
                if known is not None and known > SLOW_SECONDS:
                    answer = await asyncio.to_thread(self.answer, request, url)
                else:
                    answer = self.answer(request, url)
                took = time.monotonic() - began
                _pace[kind] = took if known is None else 0.8 * known + 0.2 * took
                return answer
        finally:
            self._waiting.remove(asked)

    def answer(self, request: Request, url: str) -> Answer:
        """The site's answer, or an error page that is noted."""
        if self.site is None:
            return self._refuse(502, url, "nothing is served to this page")
        try:
            with self.lock:
                if self.site is None:  # closed meanwhile
                    return self._refuse(502, url, "nothing is served to this page")
                # Browsers say so of documents only; what says which kind of request it is, they send to https alone.
                if "upgrade-insecure-requests" in request.headers:
                    self._note(request, url)
                found = self.site.handle(request)
        except Exception as error:  # the page sees a server error, and whoever asked for the turn gets this one
            self.failure = error
            return self._refuse(500, url, f"the site raised {type(error).__name__}: {error}")
        if found is None:
            return self._refuse(404, url, "not served")
        if len(found.body) > MAX_RESPONSE:
            return self._refuse(502, url, f"larger than {MAX_RESPONSE} bytes")
        if self.clock is None:
            return found
        return replace(found, headers=lasting_headers(found.headers, self.clock))

    @property
    def overdue(self) -> bool:
        """Whether a request has waited for its answer for more than :data:`OVERDUE_SECONDS`."""
        return bool(self._waiting) and time.monotonic() - min(self._waiting) > OVERDUE_SECONDS

    def check(self) -> None:
        """Raises BrowserError where the site raised while it answered: the disk is full, or it has a bug."""
        if self.failure is not None:
            error = self.failure
            raise BrowserError(f"the site raised {type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Ends the site, once it has answered what it is being asked; nothing is served from then on.

        Nobody waits for a site that is answering: it may never end.
        """
        if self.lock.acquire(blocking=False):
            self._end()
        else:
            threading.Thread(target=self._end_later, daemon=True).start()

    def _end_later(self) -> None:
        self.lock.acquire()
        self._end()

    def _end(self) -> None:
        """Ends the site and gives the lock back, which is held."""
        try:
            site, self.site = self.site, None
            if site is not None:
                site.close()
        finally:
            self.lock.release()

    def _note(self, request: Request, url: str) -> None:
        assert self.site is not None
        site = self.site.save()
        if self.documents and self.documents[-1].site == site:
            site = self.documents[-1].site  # most pages only read: one copy serves them all
        cookie = request.headers.get("cookie", "")
        self.documents.append(DocumentRequest(url, request.method, cookie, site, tuple(self.missing)))

    def refuse(self, url: str) -> None:
        """Notes a request that was refused."""
        if getattr(self.site, "intercepts", False):
            return  # a connection made in advance: requests themselves never come to the proxy
        self._refuse(502, url, "refused")

    def refuse_socket(self, url: str) -> None:
        """Notes a web socket; where requests come to the proxy, it noted the connection already."""
        if getattr(self.site, "intercepts", False):
            self._refuse(502, url, "web sockets are not served")

    def _refuse(self, status: int, url: str, why: str) -> Answer:
        # Browsers ask for it by themselves; its absence says nothing about a recording.
        if not url.endswith("/favicon.ico") and len(self.missing) < MAX_NOTES:
            self.missing.append(f"{url[:500]}: {why}")
        return Answer(status, [("Content-Type", "text/plain; charset=utf-8")], why.encode())


class Proxy:
    """An HTTP proxy on a port of its own; ``host`` may be exchanged between episodes."""

    def __init__(self) -> None:
        self.host = SiteHost(None)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self, listening: socket.socket) -> str:
        """Starts answering on a listening socket; gives the proxy's address."""
        port = listening.getsockname()[1]
        self._server = await asyncio.start_server(self._serve, sock=listening)
        return f"http://127.0.0.1:{port}"

    async def stop(self) -> None:
        """Stops listening and closes every connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._open):
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=256 * 1024)
        try:
            while await self._exchange(connection, reader, writer):
                connection.start_next_cycle()
        except (h11.ProtocolError, ConnectionError, TimeoutError, asyncio.IncompleteReadError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()
            with contextlib.suppress(ConnectionError, TimeoutError):
                await writer.wait_closed()

    async def _exchange(
        self, connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """One request and its response; False where the connection has to be closed."""
        head = await _next(connection, reader)
        if not isinstance(head, h11.Request):
            return False
        body = bytearray()
        while isinstance(part := await _next(connection, reader), h11.Data):
            body += part.data
            if len(body) > MAX_REQUEST:
                return False
        url, method = head.target.decode("latin-1"), head.method.decode("latin-1").upper()
        if method == "CONNECT":  # TLS, web sockets: nothing here speaks them
            self.host.refuse(f"https://{url}")
            answer = Answer(502)
        else:
            named = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
            answer = await self.host.answered(request_of(method, url, named, bytes(body)), url)
        headers = [(name, value) for name, value in answer.headers if name.lower() != "content-length"]
        if not any(name.lower() == "cache-control" for name, _ in headers):
            headers.append(("Cache-Control", "no-store"))
        headers.append(("Content-Length", str(len(answer.body))))
        encoded = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers]
        response = connection.send(h11.Response(status_code=answer.status, headers=encoded)) or b""
        if method != "HEAD" and answer.body:
            response += connection.send(h11.Data(data=answer.body)) or b""
        response += connection.send(h11.EndOfMessage()) or b""
        writer.write(response)
        await writer.drain()
        return connection.our_state is h11.DONE and connection.their_state is h11.DONE


def request_of(method: str, url: str, headers: Mapping[str, str], body: bytes) -> Request:
    """A request as a site gets it."""
    parts = urlsplit(url)
    lower = {name.lower(): value for name, value in headers.items()}
    host = (parts.hostname or lower.get("host", "").partition(":")[0]).lower()
    try:
        port = f":{parts.port}" if parts.port else ""
    except ValueError:  # none that can be
        port = ""
    return Request(method.upper(), host, parts.path or "/", parts.query, lower, body, parts.scheme or "http", port)


async def _next(connection: h11.Connection, reader: asyncio.StreamReader) -> object:
    while True:
        event = connection.next_event()
        if event is not h11.NEED_DATA:
            return event
        connection.receive_data(await asyncio.wait_for(reader.read(65536), _IDLE_SECONDS))
