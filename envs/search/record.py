"""The record of a live session: every request and its answer, one JSON object a line, appended as they come."""

from __future__ import annotations

import threading
from pathlib import Path

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.jsonl import append_row
from pivotgym.envs.formats.rows import Problems, iter_jsonl
from pivotgym.envs.trajectory import JsonObject, canonical_json


class Record:
    """Answers by request.

    A row is ``{"request": {...}, "answer": {...}}``. The first answer to a request stays its answer: a session that
    asks again gets what it got before, as a restored one does.

    Args:
        path: JSONL file, read now where it exists and appended to; None keeps the record in memory.

    Raises:
        BadInput: a row that is no recorded request, with file, line and field.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = Path(path) if path is not None else None
        self._lock = threading.Lock()
        self._answers: dict[str, JsonObject] = {}
        self._read_to = -1
        self._refresh()

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, request: JsonObject) -> JsonObject | None:
        """The recorded answer, or None; also one that another process has recorded since."""
        key = canonical_json(request)
        with self._lock:
            if key not in self._answers:
                self._refresh()
            return self._answers.get(key)

    def put(self, request: JsonObject, answer: JsonObject) -> JsonObject:
        """Records an answer and returns it, or the earlier one where there is one."""
        key = canonical_json(request)
        with self._lock:
            if key not in self._answers:
                self._refresh()
            if key not in self._answers:
                self._answers[key] = answer
                if self.path is not None:
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                    append_row(self.path, {"request": request, "answer": answer})
                    self._read_to = self.path.stat().st_size
            return self._answers[key]

    def _refresh(self) -> None:
        if self.path is None or not self.path.is_file():
            return
        size = self.path.stat().st_size
        if size in (0, self._read_to):
            return
        for row in iter_jsonl(self.path, Problems()):
            if not isinstance(row.value, dict):
                raise BadInput("a recorded request is a JSON object", file=self.path, line=row.line)
            for field in ("request", "answer"):
                if not isinstance(row.value.get(field), dict):
                    raise BadInput("is no JSON object", file=self.path, line=row.line, field=field)
            self._answers.setdefault(canonical_json(row.value["request"]), row.value["answer"])
        self._read_to = size
