"""Questions with short answers: as tasks, and read from files (BrowseComp's, SimpleQA-like rows, our own)."""

from __future__ import annotations

import ast
import base64
import binascii
import csv
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pivotgym.envs.errors import BadInput, NotRestorable
from pivotgym.envs.formats.rows import Problems, iter_jsonl, read_text
from pivotgym.envs.trajectory import JsonObject, Task

ENV_ID = "pivotgym/Search-v0"
_QUESTION, _ID, _METADATA = ("problem", "question", "prompt"), ("id", "question_id"), ("metadata",)
_MAX_FIELD = 1 << 24


class Support(BaseModel):
    """One fact on the way to an answer.

    Attributes:
        documents: those that state it.
        states: what has to stand there, as the documents write it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    documents: tuple[str, ...] = Field(min_length=1)
    states: str = Field(min_length=1)


class Question(BaseModel):
    """A question and its right answer.

    Attributes:
        id: unique in its file.
        question: as the agent reads it.
        answers: the right answer, then its other names.
        metadata: what else the source says; the agent never sees it.
        support: the facts on the way to the answer, in their order; verifiers use them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    question: str = Field(min_length=1)
    answers: tuple[str, ...] = Field(min_length=1)
    metadata: JsonObject = Field(default_factory=dict)
    support: tuple[Support, ...] = ()

    def task(self) -> Task:
        """The task of answering it."""
        data: JsonObject = {"question": self.question, "expected": {"answers": list(self.answers)}}
        if self.metadata:
            data["metadata"] = self.metadata
        if self.support:
            data["support"] = [step.model_dump(mode="json") for step in self.support]
        return Task(env=ENV_ID, id=self.id, data=data)


def question_of(task: Task) -> str:
    """What a task asks. Raises NotRestorable for a task without a question."""
    question = task.data.get("question")
    if not isinstance(question, str) or not question.strip():
        raise NotRestorable("unknown_task", f"task {task.id!r} has no question")
    return question


def expected_of(task: Task) -> list[str]:
    """The right answers of a task, empty where it names none."""
    expected = task.data.get("expected")
    answers = expected.get("answers") if isinstance(expected, dict) else expected
    listed = answers if isinstance(answers, list) else [answers]
    return [str(one) for one in listed if isinstance(one, str | int | float) and str(one).strip()]


def support_of(task: Task) -> list[Support]:
    """The facts on the way to the answer, in their order; empty where the task does not say."""
    support = task.data.get("support")
    try:
        return [Support.model_validate(step) for step in support] if isinstance(support, list) else []
    except ValidationError as error:
        raise BadInput(f"task {task.id!r}: {error.errors()[0]['msg']}", field="task.data.support") from error


def load_questions(path: str | Path) -> list[Question]:
    """Reads questions; the columns tell what kind of file it is.

    - **BrowseComp**: a CSV file with ``problem``, ``answer`` and ``canary``; both texts are encrypted.
    - **SimpleQA-like**: CSV or JSONL with ``problem`` (or ``question``) and ``answer`` (in JSONL also ``answers``, a
      list: the answer and its other names); ``metadata`` is an object or its text; ``id`` is optional.

    Raises:
        BadInput: nothing to read there, or a row that is no question; with file, line and field.
    """
    where = Path(path)
    rows = _csv_rows(where) if where.name.lower().endswith((".csv", ".csv.gz")) else _jsonl_rows(where)
    found: dict[str, Question] = {}
    for line, row in rows:
        question = _question(where, line, row)
        if question.id in found:
            raise BadInput(f"{question.id!r} is used twice", file=where, line=line, field="id")
        found[question.id] = question
    if not found:
        raise BadInput("no question in this file", file=where)
    return list(found.values())


def derive_key(password: str, length: int) -> bytes:
    """BrowseComp's key: the SHA-256 digest of the password, repeated to ``length`` bytes."""
    key = hashlib.sha256(password.encode()).digest()
    return (key * (length // len(key) + 1))[:length]


def decrypt(text: str, password: str) -> str:
    """A text of BrowseComp's file: base64 of the UTF-8 text, XORed with the key.

    Raises:
        ValueError: no base64, or not encrypted with this password.
    """
    try:
        raw = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"is no base64: {error}") from error
    plain = bytes(one ^ other for one, other in zip(raw, derive_key(password, len(raw)), strict=True))
    try:
        return plain.decode()
    except UnicodeDecodeError as error:
        raise ValueError("does not decrypt to text with this row's canary") from error


def _question(path: Path, line: int, row: JsonObject) -> Question:
    key = next((name for name in _QUESTION if row.get(name) not in (None, "")), None)
    if key is None:
        raise BadInput("is missing", file=path, line=line, field=_QUESTION[0])
    question, answers = row[key], row.get("answers", row.get("answer"))
    canary = row.get("canary")
    if isinstance(canary, str) and canary:
        question = _decrypted(path, line, key, question, canary)
        answers = _decrypted(path, line, "answer", answers, canary)
    if not isinstance(question, str) or not question.strip():
        raise BadInput("is no text", file=path, line=line, field=key)
    field = "answers" if "answers" in row else "answer"
    listed = answers if isinstance(answers, list) else [answers]
    if not listed or any(
        isinstance(one, bool) or not isinstance(one, str | int | float) or not str(one).strip() for one in listed
    ):
        told = "is missing" if answers in (None, "", []) else "is a text, or a list of texts"
        raise BadInput(told, file=path, line=line, field=field)
    name = next((row[one] for one in _ID if row.get(one) not in (None, "")), None)
    metadata = _metadata(path, line, row.get("metadata"))
    for other in ("problem_topic", "topic", "answer_type", "split"):
        if isinstance(row.get(other), str) and row[other]:
            metadata.setdefault(other, row[other])
    return Question(
        id=str(name) if name is not None else f"{path.name.split('.')[0]}-{line}",
        question=question.strip(),
        answers=tuple(str(one).strip() for one in listed),
        metadata=metadata,
        support=_support(path, line, row.get("support")),
    )


def _support(path: Path, line: int, value: Any) -> tuple[Support, ...]:
    if value in (None, ""):
        return ()
    if not isinstance(value, list):
        raise BadInput("is no list", file=path, line=line, field="support")
    try:
        return tuple(Support.model_validate(step) for step in value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(["support", *map(str, first["loc"])])
        raise BadInput(first["msg"], file=path, line=line, field=where) from error


def _decrypted(path: Path, line: int, field: str, value: Any, canary: str) -> str:
    if not isinstance(value, str) or not value:
        raise BadInput("is missing", file=path, line=line, field=field)
    try:
        return decrypt(value, canary)
    except ValueError as error:
        raise BadInput(str(error), file=path, line=line, field=field) from error


def _metadata(path: Path, line: int, value: Any) -> JsonObject:
    if value in (None, ""):
        return {}
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            try:
                value = ast.literal_eval(value)  # SimpleQA's own file writes Python's spelling
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                value = {"text": value}
    if not isinstance(value, dict):
        raise BadInput("is no object", file=path, line=line, field="metadata")
    try:
        plain: JsonObject = json.loads(json.dumps(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise BadInput(f"cannot be written as JSON: {error}", file=path, line=line, field="metadata") from error
    return plain


def _csv_rows(path: Path) -> Iterator[tuple[int, JsonObject]]:
    text = read_text(path).lstrip("﻿")
    before = csv.field_size_limit(_MAX_FIELD)
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        for column in ("answer", _QUESTION):
            wanted = (column,) if isinstance(column, str) else column
            if not set(wanted) & set(reader.fieldnames or ()):
                raise BadInput("the column is missing", file=path, line=1, field=wanted[0])
        # A quoted field may hold line breaks: a row begins after the one before it.
        begins = reader.line_num + 1
        for row in reader:
            if None in row:
                raise BadInput("more fields than columns", file=path, line=begins)
            yield begins, {key: value for key, value in row.items() if value is not None}
            begins = reader.line_num + 1
    except csv.Error as error:
        raise BadInput(f"broken CSV: {error}", file=path) from error
    finally:
        csv.field_size_limit(before)


def _jsonl_rows(path: Path) -> Iterator[tuple[int, JsonObject]]:
    for row in iter_jsonl(path, Problems()):
        if not isinstance(row.value, dict):
            raise BadInput("a question is a JSON object", file=path, line=row.line)
        assert row.line is not None
        yield row.line, row.value
