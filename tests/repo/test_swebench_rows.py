"""Every way of storing rows reads the same; what cannot be read is named."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from needs import require
from swebench_samples import FILES, ROW, stored

from pivotgym.envs.errors import BadInput, MissingExtra
from pivotgym.envs.repo.swebench import read_rows
from pivotgym.envs.repo.swebench_rows import raw_rows


def _jsonl(rows: list[dict[str, Any]], folder: Path) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("\ufeff" + "\n\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    return path


def _packed(rows: list[dict[str, Any]], folder: Path) -> Path:
    path = folder / "rows.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(json.dumps(row) for row in rows).encode()))
    return path


def _unnamed(rows: list[dict[str, Any]], folder: Path) -> Path:
    path = folder / "rows.txt"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def _wrapped(rows: list[dict[str, Any]], folder: Path) -> Path:
    path = folder / "rows.json"
    path.write_text(json.dumps({"rows": [{"row_idx": at, "row": row} for at, row in enumerate(rows)]}, indent=1))
    return path


def _by_name(rows: list[dict[str, Any]], folder: Path) -> Path:
    path = folder / "rows.json"
    path.write_text(json.dumps({row["instance_id"]: row for row in rows}))
    return path


def _folder(rows: list[dict[str, Any]], folder: Path) -> Path:
    for at, row in enumerate(rows):
        (folder / f"{at}.json").write_text(json.dumps(row))
    (folder / "README.md").write_text("not a row")
    return folder


def _parquet(rows: list[dict[str, Any]], folder: Path) -> Path:
    require("pyarrow", "datasets")
    import pyarrow
    import pyarrow.parquet

    path = folder / "test-00000-of-00001.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def _dataset(rows: list[dict[str, Any]], folder: Path) -> str:
    require("datasets", "datasets")
    (folder / "data").mkdir()
    _parquet(rows, folder / "data")
    return f"hf:{folder}"


@pytest.mark.parametrize("write", [_jsonl, _packed, _unnamed, _wrapped, _by_name, _folder, _parquet, _dataset])
def test_every_way_of_storing_rows_reads_the_same(
    write: Callable[[list[dict[str, Any]], Path], Path | str],
    shared_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    rows = stored(shared_data / "swe" / FILES[1])
    (tmp_path / "rows").mkdir()
    assert [row.data for row in raw_rows(write(rows, tmp_path / "rows"))] == rows


def test_a_dataset_that_is_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("datasets", "datasets")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    (tmp_path / "empty").mkdir()
    for where in (f"hf:{tmp_path}/empty", f"hf:{tmp_path}/nowhere"):
        with pytest.raises(BadInput, match="no such dataset"):
            list(raw_rows(where))
    (tmp_path / "rows").mkdir()
    where = _dataset([ROW], tmp_path / "rows")
    with pytest.raises(BadInput, match="no split 'dev'"):
        list(raw_rows(f"{where}:dev"))


def test_rows_are_read_as_they_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(ROW) + "\n\n{broken\n")
    tasks = read_rows(path)
    assert next(tasks).id == "owner__calc-1"
    with pytest.raises(BadInput) as raised:
        next(tasks)
    assert (raised.value.file, raised.value.line) == (path, 3)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.json", b"{"),
        ("a.json", b"3"),
        ("a.json", b'[{"a": 1}, 3]'),
        ("a.json", b"\xff\xfe"),
        ("a.json", b"[" * 100_000),
        ("a.jsonl", b"[]\n"),
        ("a.jsonl.gz", b"\x1f\x8b\x08"),
        ("a.parquet", b"PAR1 and nothing else"),
        ("a.jsonl", None),
    ],
)
def test_a_file_that_is_none_is_named(name: str, data: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(BadInput) as raised:
        list(raw_rows(path))
    assert str(raised.value.file) == str(path)


@pytest.mark.parametrize(("package", "where"), [("pyarrow", "rows.parquet"), ("datasets", "owner/name")])
def test_a_missing_package_is_named(package: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    with pytest.raises(MissingExtra, match=rf"{package}.*pivotgym\[datasets\]"):
        list(raw_rows(where))
