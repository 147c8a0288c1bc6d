"""Trajectory JSONL and append-only row files: round trips, kills, and where a bad row is said to be."""

from __future__ import annotations

import gzip
import json
import logging
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.jsonl import RowAppender, append_row, read_jsonl, read_rows, write_jsonl
from pivotgym.envs.trajectory import Message, Outcome, Task, ToolCall, Trajectory

GOOD = {"id": "good", "messages": [{"role": "user", "content": "hi"}]}


def trajectory(identifier: str = "t", text: str = "hi") -> Trajectory:
    call = ToolCall(name="find", arguments={"id": 1, "note": "é\u2028\x85"}, id="c")
    return Trajectory(
        id=identifier,
        task=Task(env="pivotgym/Tools-v0", id="1"),
        messages=[Message(role="user", content=text), Message(role="assistant", tool_calls=[call])],
        outcome=Outcome(reward=0.1),
        source={"nothing": None, "nested": {"list": [1, 2.5, None]}},
    )


@pytest.mark.parametrize("name", ["t.jsonl", "t.jsonl.gz"])
def test_round_trip(name: str, tmp_path: Path) -> None:
    # Line separators other than the newline are ordinary characters within a row.
    rows = [trajectory(str(n), text="a\u2028b\u0085c\r\nd" * n) for n in range(5)]
    path = tmp_path / "new" / name
    assert write_jsonl(path, iter(rows)) == 5
    assert list(read_jsonl(path)) == rows
    assert (path.read_bytes()[:2] == b"\x1f\x8b") == name.endswith(".gz")
    assert [entry.name for entry in path.parent.iterdir()] == [name]


def test_gzip_bytes_depend_on_the_rows_only(tmp_path: Path) -> None:
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        write_jsonl(tmp_path / name, [trajectory()])
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()


def test_byte_order_mark_crlf_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\r\n\r\n" + b'{"id": "b", "messages": []}')
    assert [one.id for one in read_jsonl(path)] == ["good", "b"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    write_jsonl(path, [trajectory("old")])

    def failing() -> Iterator[Trajectory]:
        yield trajectory("new")
        raise RuntimeError("source broke")

    with pytest.raises(RuntimeError, match="source broke"):
        write_jsonl(path, failing())
    assert [one.id for one in read_jsonl(path)] == ["old"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["t.jsonl"]


def test_reading_streams(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + "broken\n", encoding="utf-8")
    rows = read_jsonl(path)
    assert next(rows).id == "good"  # given out before the bad row is read
    with pytest.raises(BadInput):
        next(rows)


def test_half_a_surrogate_pair_survives_in_source(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    odd = Trajectory(id="t", messages=[], source={"text": "\ud83d"})
    write_jsonl(path, [odd])
    assert list(read_jsonl(path)) == [odd]


# --------------------------------------------------------------------------------------------------- bad input

BAD_ROWS: list[tuple[str, str, str | None, str]] = [
    ("truncated", json.dumps(GOOD)[:-9], None, "not valid JSON"),
    ("an array", "[1, 2]", None, "expected an object, got an array"),
    ("a number", "7", None, "expected an object, got an integer"),
    ("no id", '{"messages": []}', "id", "missing"),
    ("no messages", '{"id": "x"}', "messages", "missing"),
    ("messages text", '{"id": "x", "messages": "hi"}', "messages", "valid list"),
    ("id number", '{"id": 5, "messages": []}', "id", "valid string"),
    ("message text", '{"id": "x", "messages": ["hi"]}', "messages.0", "valid dict"),
    ("no role", '{"id": "x", "messages": [{"content": "a"}]}', "messages.0.role", "missing"),
    ("role", '{"id": "x", "messages": [{"role": "judge"}]}', "messages.0.role", "'system'"),
    ("content", '{"id": "x", "messages": [{"role": "user", "content": 5}]}', "messages.0.content", "valid string"),
    ("calls", '{"id": "x", "messages": [{"role": "user", "tool_calls": 5}]}', "messages.0.tool_calls", "valid list"),
    (
        "call name",
        '{"id": "x", "messages": [{"role": "assistant", "tool_calls": [{"function": {"name": 5}}]}]}',
        "messages.0.tool_calls.0.function.name",
        "valid string",
    ),
    (
        "call without name",
        '{"id": "x", "messages": [{"role": "assistant", "tool_calls": [{"function": {}}]}]}',
        "messages.0.tool_calls.0.function.name",
        "missing",
    ),
    ("unknown field", '{"id": "x", "messages": [], "taks": {}}', "taks", "not permitted"),
    ("task", '{"id": "x", "messages": [], "task": {"env": "e"}}', "task.id", "missing"),
    ("same id", json.dumps(GOOD), "id", "used twice (first on line 1)"),
    ("not UTF-8", "\udcff", None, "not UTF-8 text (byte 0xff"),
    ("NUL", "\0" * 9, None, "not valid JSON"),
    ("deep", "[" * 100_000, None, "not usable JSON"),
]


@pytest.mark.parametrize(("text", "field", "problem"), [row[1:] for row in BAD_ROWS], ids=[row[0] for row in BAD_ROWS])
def test_a_bad_row_is_located_and_the_rest_goes_on(text: str, field: str | None, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    # Long enough that the bad row is not in the part that decides whether a file is text at all.
    lines = [json.dumps(GOOD | {"source": {"long": "x" * 9999}}), text, json.dumps({**GOOD, "id": "after"})]
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))
    with pytest.raises(BadInput) as caught:
        list(read_jsonl(path))
    located = f"{path}:2: " + (f"field {field}: " if field else "")
    assert str(caught.value).startswith(located)
    assert problem in caught.value.problem
    errors: list[BadInput] = []
    assert [one.id for one in read_jsonl(path, "skip", errors)] == ["good", "after"]
    assert [str(error) for error in errors] == [str(caught.value)]


def test_skipping_without_a_list_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(GOOD) + "\n{\n", encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        assert len(list(read_jsonl(path, "skip"))) == 1
    assert f"{path}:2" in caplog.text


BAD_FILES: list[tuple[str, bytes | None, str]] = [
    ("missing", None, ": cannot be read: No such file"),
    ("empty", b"", ": the file is empty"),
    ("blank", b"\n \n", ": the file is empty (blank lines only)"),
    ("binary", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", ":1: binary data"),
    ("cut gzip", gzip.compress(json.dumps(GOOD).encode() * 99)[:-20], ": broken gzip data"),
    ("damaged gzip", b"\x1f\x8b\x08\0junk that is no deflate stream", ": broken gzip data"),
]


@pytest.mark.parametrize(("content", "problem"), [row[1:] for row in BAD_FILES], ids=[row[0] for row in BAD_FILES])
def test_a_bad_file_raises_even_when_skipping(content: bytes | None, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput) as caught:
        list(read_jsonl(path, "skip", []))
    assert str(caught.value).startswith(f"{path}{problem}")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        list(read_jsonl(tmp_path))


# ------------------------------------------------------------------------------------------------ growing files


def test_every_cut_of_the_last_row_loses_that_row_only(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows: list[dict[str, Any]] = [{"n": n, "text": "é{}\n"} for n in range(3)]
    for row in rows:
        append_row(path, row, fsync=True)
    whole = path.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for cut in range(last, len(whole) + 1):
        path.write_bytes(whole[:cut])
        kept = list(read_rows(path))
        # The row is complete as soon as its closing brace is there; the newline alone may be missing.
        assert kept == (rows if cut >= len(whole) - 1 else rows[:2])
        append_row(path, {"n": "next"})
        assert list(read_rows(path)) == [*kept, {"n": "next"}]
        assert path.read_bytes().endswith(b"\n")


def test_a_cut_longer_than_the_read_block_is_repaired(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    append_row(path, {"n": 0})
    with path.open("ab") as file:
        file.write(b'{"text": "' + b"x" * 200_000)
    append_row(path, {"n": 1})
    assert list(read_rows(path)) == [{"n": 0}, {"n": 1}]


def test_a_bad_row_that_is_not_the_last_raises(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"n": 0}\n{"n": \n{"n": 2}\n', encoding="utf-8")
    rows = read_rows(path)
    assert next(rows) == {"n": 0}
    with pytest.raises(BadInput, match=r"rows\.jsonl:2: not valid JSON"):
        next(rows)
    path.write_text('{"n": 0}\n[1]\n', encoding="utf-8")
    with pytest.raises(BadInput, match=r"rows\.jsonl:2: expected an object, got an array"):
        list(read_rows(path))


def test_no_file_and_no_bytes_are_no_rows(tmp_path: Path) -> None:
    assert list(read_rows(tmp_path / "none.jsonl")) == []
    (tmp_path / "empty.jsonl").touch()
    assert list(read_rows(tmp_path / "empty.jsonl")) == []


def test_rows_are_not_appended_to_gzip(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not to gzip"):
        RowAppender(tmp_path / "rows.jsonl.gz")


WRITER = """
import sys
from pivotgym.envs.formats.jsonl import RowAppender, read_rows
start = sum(1 for _ in read_rows(sys.argv[1]))
with RowAppender(sys.argv[1]) as rows:
    print("ready", flush=True)
    for n in range(start, 10**9):
        rows.append({"n": n, "text": "x" * (n % 997)})
"""


def test_killed_writers_leave_every_finished_row_once(tmp_path: Path) -> None:
    path, generator = tmp_path / "rows.jsonl", random.Random(0)
    for _ in range(4):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        time.sleep(generator.uniform(0.0, 0.05))
        process.kill()
        process.wait()
        process.stdout.close()
    rows = list(read_rows(path))
    assert len(rows) > 10
    assert [row["n"] for row in rows] == list(range(len(rows)))
