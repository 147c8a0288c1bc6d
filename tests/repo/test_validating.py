"""``pivotgym validate``: a file of tasks, each tried with its own solution."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

import pytest
from needs import missing
from planted import git
from slugs import FILES, HIDDEN, NAMES, REFERENCE

from pivotgym.envs.sandbox import SandboxConfig, SandboxUnavailable, get_backend
from pivotgym.envs.validation import Validating
from pivotgym.harness.cli import main
from pivotgym.harness.turns import make_env


@pytest.fixture
def rows(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Four tasks on one repository: a good one, one half done already, one that is no task, one without solution."""
    try:
        get_backend("bubblewrap").start(SandboxConfig()).stop()
    except SandboxUnavailable as error:
        missing(str(error))
    clone = tmp_path / "clones" / "owner__textkit"
    for path, text in FILES.items():
        (clone / path).parent.mkdir(parents=True, exist_ok=True)
        (clone / path).write_text(text)
    git(clone, "init", "-q", "-b", "main")
    git(clone, "add", "-A")
    git(clone, "commit", "-q", "-m", "Start")
    path, text = HIDDEN["pytest"]
    before, after = (body.splitlines(keepends=True) for body in (FILES[path], text))
    failing, passing = NAMES["pytest"]
    good = {
        "repo": "owner/textkit",
        "base_commit": git(clone, "rev-parse", "HEAD"),
        "problem_statement": "Slugs of titles with several spaces have several hyphens.",
        "patch": REFERENCE,
        "test_patch": "".join(difflib.unified_diff(before, after, f"a/{path}", f"b/{path}")),
        "FAIL_TO_PASS": failing,
        "PASS_TO_PASS": passing,
        "version": "1",
    }
    half = {**good, "FAIL_TO_PASS": [*failing, passing[0]], "PASS_TO_PASS": passing[1:]}
    torn = {**good, "test_patch": good["test_patch"].replace(path, "tests/test_nowhere.py")}
    found = {"good": good, "half": half, "torn": torn, "bare": {**good, "patch": ""}}
    return {name: {"instance_id": f"owner__textkit-{name}", **row} for name, row in found.items()}


def validate(tmp_path: Path, rows: list[dict[str, Any]], *more: str) -> tuple[int, list[dict[str, Any]]]:
    """The command's exit status, and the rows it wrote."""
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = json.dumps({"tasks": str(file), "repositories": str(tmp_path / "clones")})
    with pytest.raises(SystemExit) as ended:
        main(["validate", "--env-options", options, "--out", str(tmp_path / "out"), *more])
    written = (tmp_path / "out" / "validation.jsonl").read_text().splitlines()
    return int(ended.value.code or 0), [json.loads(line) for line in written]


def test_what_is_wrong_with_a_file_of_tasks(
    tmp_path: Path, rows: dict[str, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    status, found = validate(tmp_path, [*rows.values()], "--json", str(tmp_path / "figures.json"))
    assert status == 1
    assert [row["task"] for row in found] == [row["instance_id"] for row in rows.values()]
    assert [row["status"] for row in found] == ["usable", "unusable", "bad_input", "bad_input"]
    assert found[1]["problems"] == {NAMES["pytest"][1][0]: "passes without the solution"}
    # Of thousands of tasks it is the name that helps.
    assert "owner__textkit-torn" in found[2]["error"] and "tests.patch" in found[2]["error"]
    assert "no solution" in found[3]["error"]
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["status"] == {"usable": 1, "unusable": 1, "bad_input": 2}
    said = capsys.readouterr().out
    assert "passes without the solution" in said and "owner__textkit-good" not in said


def test_what_was_found_is_not_found_again(tmp_path: Path, rows: dict[str, dict[str, Any]]) -> None:
    chosen = [rows["good"], rows["half"]]
    status, first = validate(tmp_path, chosen[:1])
    assert status == 0 and first[0]["status"] == "usable"
    file = tmp_path / "out" / "validation.jsonl"
    with pytest.raises(AssertionError, match="0"):  # other tasks: the folder is refused, and keeps what it holds
        assert validate(tmp_path, chosen)[0] == 0
    assert json.loads(file.read_text()) == first[0]
    # A killed run leaves whole rows; one that the infrastructure failed is tried again, the others are not.
    (tmp_path / "out" / "settings.json").unlink()
    file.unlink()
    _, both = validate(tmp_path, chosen)
    marked = {**both[0], "seconds": -1.0}
    file.write_text(json.dumps(marked) + "\n" + json.dumps({**both[1], "status": "failed"}) + "\n" + '{"task": "cut')
    _, again = validate(tmp_path, chosen)
    assert again[0] == marked
    assert (again[1]["status"], again[1]["problems"]) == ("unusable", both[1]["problems"])


def test_tasks_without_solutions_are_refused(tmp_path: Path) -> None:
    env = make_env("pivotgym/Tools-v0")
    assert not isinstance(env, Validating)
    env.close()
    with pytest.raises(SystemExit) as ended:
        main(["validate", "--env", "pivotgym/Tools-v0", "--tasks", "1", "--out", str(tmp_path / "out")])
    assert ended.value.code == 2
