"""Recognition of a format by content, and what is said of files that are none."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path
from typing import Any

import pytest

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats import FORMATS, detect, load_trajectories, save_trajectories
from pivotgym.envs.trajectory import Message, Trajectory

NATIVE = Trajectory(id="a", messages=[Message(role="user", content="hi")]).model_dump(mode="json")
OPENAI = {"messages": [{"role": "user", "content": "hi"}]}
SHAREGPT = {"conversations": [{"from": "human", "value": "hi"}]}
TAU2 = {
    "info": {"environment_info": {"domain_name": "airline", "policy": "p"}},
    "tasks": [],
    "simulations": [{"id": "s", "task_id": "1", "messages": [{"role": "user", "content": "hi"}]}],
}


def spellings(row: Any) -> dict[str, bytes]:
    line = json.dumps(row).encode()
    return {
        "one line": line,
        "jsonl": line + b"\n" + line + b"\n",
        "array on one line": b"[" + line + b", " + line + b"]",
        "array of lines": b"[\n" + line + b",\n" + line + b"\n]\n",
        "array of one line": b"[\n" + line + b"\n]",
        "indented array": json.dumps([row, row], indent=2).encode(),
        "indented object": json.dumps(row, indent=2).encode(),
        "object from its first line on": line.replace(b": [", b": [\n", 1),
        "bad first line": b"{oops\n" + line + b"\n",
        "array first line": b"[1, 2]\n" + line + b"\n",
        "cut first line": line[:-3] + b"\n" + line + b"\n",
        "byte order mark": b"\xef\xbb\xbf\n" + line,
        "gzip": gzip.compress(line),
    }


@pytest.mark.parametrize(("name", "row"), [("pivotgym", NATIVE), ("openai", OPENAI), ("sharegpt", SHAREGPT)])
@pytest.mark.parametrize("spelling", spellings({}))
def test_rows_are_recognised_by_content(name: str, row: Any, spelling: str, tmp_path: Path) -> None:
    path = tmp_path / "trajectories.bin"  # the name says nothing
    path.write_bytes(spellings(row)[spelling])
    assert detect(path) == name
    loaded = list(load_trajectories(path, on_error="skip", errors=[]))
    assert loaded and [message.text for message in loaded[0].messages] == ["hi"]


@pytest.mark.parametrize("indent", [None, 2])
def test_result_files_are_recognised(indent: int | None, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text(json.dumps(TAU2, indent=indent), encoding="utf-8")
    assert detect(path) == "tau2"
    assert [one.id for one in load_trajectories(path)] == ["s"]


def test_recorded_files_are_recognised(shared_data: Path) -> None:
    files = sorted((shared_data / "tau2").glob("*.json"))
    assert [detect(path) for path in files] == ["tau2"] * 6
    others = [*(shared_data / "agentbench_os").iterdir(), *(shared_data / "swe").glob("swe-bench*.json")]
    for path in others:
        with pytest.raises(BadInput, match="looked for"):
            detect(path)


def test_every_written_format_is_recognised_again(tmp_path: Path) -> None:
    trajectory = Trajectory.model_validate(NATIVE)
    for name, one in FORMATS.items():
        if one.write is None:
            continue
        for suffix in (".jsonl", ".json", ".jsonl.gz"):
            path = tmp_path / f"{name}{suffix}"
            assert save_trajectories(path, [trajectory], name) == 1
            assert detect(path) == name
            assert [loaded.id for loaded in load_trajectories(path)] == ["a"]


UNKNOWN: list[tuple[str, bytes | None, str]] = [
    ("missing", None, ": cannot be read: No such file"),
    ("empty", b"", ": the file is empty"),
    ("binary", b"\0\1\2\3", ":1: binary data"),
    ("text", b"hello\n" * 1000, ":1: not valid JSON"),
    ("truncated", json.dumps(NATIVE).encode()[:-5], ":1: not valid JSON"),
    ("truncated array", b"[\n" + json.dumps({"a": 1}).encode() + b",\n{", ":2: no row of a known"),
    ("other rows", b'{"prompt": "a"}\n', ":1: no row of a known trajectory format"),
    ("a number", b"5", ":1: no row of a known"),
    ("an array row", b"[1, 2]\n[3]\n", ":1: no row of a known"),
    ("an empty array", b"[]", ": no rows"),
]


@pytest.mark.parametrize(("content", "problem"), [case[1:] for case in UNKNOWN], ids=[case[0] for case in UNKNOWN])
def test_an_unknown_file_is_told_what_was_looked_for(content: bytes | None, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput) as caught:
        load_trajectories(path)  # at once, not at the first row
    assert str(caught.value).startswith(f"{path}{problem}")
    if content:
        for one in FORMATS.values():
            assert one.looks_for in str(caught.value)


def test_unknown_formats_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="unknown format 'csv'; known are tau2, pivotgym, sharegpt, openai"):
        load_trajectories(tmp_path / "x", "csv")
    with pytest.raises(BadInput, match="'tau2' is read, not written"):
        save_trajectories(tmp_path / "x", [], "tau2")


def test_a_broken_array_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    row = json.dumps(SHAREGPT)
    for text, line in ((f"[\n{row},\n{row[:-4]}\n", 3), (f"[\n{row}\n{row}\n]", 3), (f"[\n{row}]\n\nmore", 4)):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(BadInput, match="not valid JSON") as caught:
            list(load_trajectories(path, "sharegpt", "skip", []))
        assert caught.value.line == line


@pytest.mark.parametrize("shape", [".json", ".jsonl"])
def test_reading_time_grows_with_the_file_only(shape: str, tmp_path: Path) -> None:
    text = "word " * 400

    def seconds(count: int) -> float:
        path = tmp_path / f"{count}{shape}"
        rows = [Trajectory(id=str(n), messages=[Message(role="user", content=text)]) for n in range(count)]
        save_trajectories(path, rows, "sharegpt")
        times = []
        for _ in range(3):
            start = time.perf_counter()
            assert sum(1 for _ in load_trajectories(path)) == count
            times.append(time.perf_counter() - start)
        return min(times)

    # Eight times the rows take about 8 times as long; were it quadratic it would be 64.
    assert seconds(4000) < 45 * seconds(500)
