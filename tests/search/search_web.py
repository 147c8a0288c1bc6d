"""A small web: a search API, pages, an embeddings endpoint and a judge, served by a real local HTTP server."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Answer = tuple[int, str, bytes]


class Web(ThreadingHTTPServer):
    """Answers by path; keeps every request.

    Attributes:
        asked: (method, path with query, headers, JSON body or None) of every request.
        pages: HTML by path.
        moved: redirects by path.
        failing: status codes to answer with before anything else, first come first served.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []
        self.pages: dict[str, Answer] = {}
        self.failing: list[int] = []
        self.moved: dict[str, str] = {}
        self.verdict: Callable[[str], str] = lambda prompt: '{"equivalent": true, "reason": "same"}'

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def put(self, path: str, html: str, kind: str = "text/html; charset=utf-8", status: int = 200) -> None:
        self.pages[path] = (status, kind, html.encode())

    def paths(self) -> list[str]:
        return [path for _, path, _, _ in self.asked]

    def answer(self, method: str, path: str, body: Any) -> Answer:
        if self.failing:
            return self.failing.pop(0), "text/plain", b"not now"
        where = urlsplit(path)
        if where.path == "/search":
            asked = {key: values[0] for key, values in parse_qs(where.query).items()}
            asked = body if isinstance(body, dict) else asked
            return self._json(self._hits(str(asked.get("q", "")), int(asked.get("n", 3))))
        if where.path == "/v1/embeddings":
            rows = [
                {"index": i, "embedding": _vector(text), "object": "embedding"} for i, text in enumerate(body["input"])
            ]
            return self._json({"object": "list", "data": rows[::-1], "model": body["model"], "usage": {}})
        if where.path == "/v1/chat/completions":
            text = self.verdict(body["messages"][-1]["content"])
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return self._json({"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]})
        if path in self.moved:
            return 302, "text/plain", b""
        return self.pages.get(where.path, (404, "text/plain", b"nothing here"))

    def _hits(self, query: str, count: int) -> Any:
        words = query.lower().split()
        found = [
            {"name": path.strip("/"), "link": self.url + path, "about": {"text": f"<b>{query}</b>  on {path}"}}
            for path, (_, _, body) in sorted(self.pages.items())
            if any(word in body.decode("utf-8", "replace").lower() for word in words)
        ]
        return {"data": [{"items": found[:count]}]}

    def _json(self, value: Any) -> Answer:
        return 200, "application/json", json.dumps(value).encode()


class _Handler(BaseHTTPRequestHandler):
    server: Web

    def _serve(self) -> None:
        size = int(self.headers.get("content-length") or 0)
        raw = self.rfile.read(size)
        body = json.loads(raw) if raw else None
        self.server.asked.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        status, kind, data = self.server.answer(self.command, self.path, body)
        self.send_response(status)
        if self.path in self.server.moved:
            self.send_header("location", self.server.moved[self.path])
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = _serve

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _vector(text: str) -> list[float]:
    """A bag of hashed words: texts with common words are near each other."""
    vector = [0.0] * 64
    for word in text.lower().replace("\n", " ").split():
        vector[int(hashlib.sha256(word.encode()).hexdigest(), 16) % 64] += 1.0
    return vector


@contextmanager
def serving() -> Iterator[Web]:
    """A running server; stopped and its port free afterwards."""
    web = Web()
    thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield web
    finally:
        web.shutdown()
        web.server_close()
        thread.join()
