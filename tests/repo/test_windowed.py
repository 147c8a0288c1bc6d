"""SWE-agent's file viewers and searches: the arithmetic of windows, edits and their checks, and typed commands."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from needs import require
from tool_calls import WORKDIR, Desk, started

from pivotgym.envs.repo.tools.classic import _View
from pivotgym.envs.repo.tools.commands import TYPED, parse_command
from pivotgym.envs.repo.tools.lint import Problem, introduced, problems
from pivotgym.envs.repo.tools.session import Session
from pivotgym.envs.repo.tools.state import EditorState
from pivotgym.envs.sandbox import Sandbox

LINES = "".join(f"line {number}\n" for number in range(1, 301))
CODE = "import os\n\n\ndef f(a):\n    if a:\n        return os.sep\n    return a\n"


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    require("flake8", "repo")
    box = started()
    yield box
    box.stop()


@pytest.fixture
def box(shared: Sandbox) -> Sandbox:
    """A sandbox with nothing of the last test in it."""
    shared.run(f"cd {WORKDIR} && rm -rf ./* ./.[!.]*")
    return shared


@pytest.fixture
def windowed(box: Sandbox) -> Desk:
    desk = Desk.of(box, "swe-agent")
    desk.put("a.txt", LINES)
    desk.put("a.py", CODE)
    return desk


@pytest.fixture
def classic(box: Sandbox) -> Desk:
    desk = Desk.of(box, "swe-agent", family="classic", release="0.7")
    desk.put("a.txt", LINES)
    desk.put("a.py", CODE)
    return desk


@pytest.fixture
def cursors(box: Sandbox) -> Desk:
    desk = Desk.of(box, "swe-agent", family="cursors", release="0.6", window=20)
    desk.put("a.txt", LINES)
    return desk


def shown(text: str) -> tuple[int, int]:
    """First and last line number in a window, which must be a run of the file's own lines."""
    rows = [line for line in text.split("\n") if ":line " in line]
    numbers = [int(row.partition(":")[0]) for row in rows]
    assert rows == [f"{number}:line {number}" for number in range(numbers[0], numbers[-1] + 1)]
    return numbers[0], numbers[-1]


# ------------------------------------------------------------------------------------------------------- windows


def test_a_window_moves_over_the_file(windowed: Desk) -> None:
    first = windowed("open", path="a.txt")
    assert first.text.startswith("[File: a.txt (300 lines total)]\n1:line 1\n")
    assert first.text.endswith("\n(200 more lines below)")
    assert shown(first.text) == (1, 100)
    # A sixth of the window is above the line gone to.
    assert shown(windowed("goto", line_number=150).text) == (133, 232)
    assert shown(windowed("scroll_down").text) == (201, 300)
    assert shown(windowed("scroll_up").text) == (103, 202)
    end = windowed("goto", line_number=300).text
    assert shown(end) == (201, 300) and "more lines below" not in end and "(200 more lines above)" in end
    assert windowed("open").text == end.replace("[File: a.txt", f"[File: {WORKDIR}/a.txt")
    assert windowed.state.open_file == f"{WORKDIR}/a.txt"


def test_a_window_of_before_release_1_1_never_ended_at_the_last_line(box: Sandbox) -> None:
    desk = Desk.of(box, "swe-agent", release="1.0")
    desk.put("a.txt", LINES)
    assert shown(desk("open", path="a.txt", line_number=300).text) == (200, 299)


def test_a_line_outside_the_file_is_moved_into_it(windowed: Desk) -> None:
    text = windowed("open", path="a.txt", line_number=999).text
    assert text.startswith("Warning: <line_number> (999) is greater than the number of lines in the file (300)\n")
    assert "Warning: Setting <line_number> to 1\n" in windowed("open", path="a.txt", line_number=0).text
    assert windowed("goto", line_number=301).text == "Error: <line> must be less than or equal to 300"
    assert windowed("goto", line_number="x").text == "Usage: goto <line>\nError: <line> must be a number"
    told = windowed("open", path="a.py", line_number="x")
    assert "Error: <line_number> must be a number" in told.text
    assert told.state.open_file == f"{WORKDIR}/a.py"  # as the recorded agents' viewer has it


@pytest.mark.parametrize("family", ["windowed", "classic", "cursors"])
def test_nothing_open_and_nothing_there(box: Sandbox, family: str) -> None:
    desk = Desk.of(box, "swe-agent", family=family, release="1.0" if family == "windowed" else "0.7")
    for name, given in (("goto", {"line_number": 1}), ("scroll_down", {}), ("scroll_up", {})):
        assert desk(name, **given).text.strip() == "No file open. Use the open command first."
    assert desk("edit", start_line=1, end_line=1, replacement_text="x\n").refused == "no_file_open"
    assert desk("open", path="no.txt").refused == "no_file"
    box.run("mkdir d")
    assert (
        "is a directory. You can only open files. Use cd or ls to navigate directories." in desk("open", path="d").text
    )
    desk.put("b", b"a\0b\n")
    assert desk("open", path="b").text
    assert desk("create", filename="").refused == "bad_arguments"


@pytest.mark.parametrize("seed", range(6))
def test_the_classic_window_is_what_grep_head_and_tail_give(box: Sandbox, seed: int) -> None:
    """Its window was made by these programs, and so are its roundings: here they make it again."""
    draw = random.Random(seed)
    desk = Desk.of(box, "swe-agent", family="classic", release="0.6")
    for _ in range(4):
        total, window = draw.randint(0, 60), draw.randint(1, 45)
        end = draw.choice(["", "\n"]) if total else ""
        data = "\n".join(f"x{number}" for number in range(total)) + end
        desk.put("f", data)
        session = Session(box, EditorState(style=desk.state.style), WORKDIR, desk._run)
        view = _View(session, f"{WORKDIR}/f", data.encode(), draw.randint(-5, 70), window, (0, 0)).constrained()
        top = max((2 * view.middle + window) // 2, window // 2)
        rows = box.run(f"grep -n $ f | head -n {top} | tail -n {window}").output
        printed = view.shown()[0]
        body = [line for line in printed.split("\n") if line[:1].isdigit()]
        assert body == rows.split("\n")[:-1]
        counted = box.run("awk 'END {print NR}' f").output.strip()
        assert printed.startswith(f"[File: {WORKDIR}/f ({counted} lines total)]\n")


def test_classic_scrolling_overlaps_and_warns(classic: Desk) -> None:
    assert shown(classic("open", path="a.txt").text) == (1, 100)
    assert shown(classic("scroll_down").text) == (99, 198)
    assert shown(classic("scroll_up").text) == (1, 100)
    assert "Scrolling many times in a row" in classic("scroll_down").text
    classic("goto", line_number=5)
    assert "Scrolling many times in a row" not in classic("scroll_down").text


def test_cursors_stay_in_the_window(cursors: Desk) -> None:
    text = cursors("open", path="a.txt", line_number=100).text
    assert "\n<<<<< START CURSOR >>>>>\n90:line 90\n<<<<< END CURSOR >>>>>\n" in text
    assert text.endswith("START_CURSOR moved to 90\nEND_CURSOR moved to 90\n\n")
    text = cursors("set_cursors", start_line=95, end_line=97).text
    assert "<<<<< START CURSOR >>>>>\n95:line 95\n96:line 96\n97:line 97\n<<<<< END CURSOR >>>>>\n98:" in text
    cursors("edit", replacement_text="new\n")
    assert cursors.get("a.txt").split(b"\n")[93:96] == [b"line 94", b"new", b"line 98"]
    assert cursors.state.cursors == (95, 95)
    assert cursors("set_cursors", start_line=9, end_line=3).refused == "bad_arguments"
    assert cursors("set_cursors", start_line="a", end_line=3).refused == "bad_arguments"


# --------------------------------------------------------------------------------------------------------- edits


def test_lines_are_replaced_and_deleted_by_number(windowed: Desk, classic: Desk) -> None:
    for desk in (windowed, classic):
        desk.put("a.txt", LINES)
        desk("open", path="a.txt")
        desk("edit", start_line=2, end_line=3, replacement_text="two\nthree\nand more\n")
        desk("edit", start_line=1, end_line=1, replacement_text="")
        assert desk.get("a.txt").startswith(b"two\nthree\nand more\nline 4\n")
        assert desk("edit", start_line=0, end_line=1, replacement_text="x\n").refused == "bad_arguments"
        assert desk("edit", start_line="one", end_line=1, replacement_text="x\n").refused == "bad_arguments"


def test_text_in_the_window_is_replaced(windowed: Desk) -> None:
    windowed("open", path="a.txt")
    done = windowed("edit", search="line 7\n", replace="seven\n")
    assert done.text.startswith("Text replaced. Please review the changes and make sure they are correct:\n\n1. The")
    assert "\n7:seven\n8:line 8\n" in done.text
    many = windowed("edit", search="line 2", replace="x")
    assert many.refused == "not_unique" and "Found more than one occurrence of 'line 2'" in many.text
    away = windowed("edit", search="line 250", replace="x")
    assert away.refused == "not_found" and away.text.rstrip().split("\n\n")[2] == "- line 250"
    none = windowed("edit", search="line 999", replace="x")
    assert none.refused == "not_found" and "(or anywhere in the file)" in none.text
    assert windowed("edit", search="a", replace="a").refused == "no_change"
    assert windowed("edit", search="", replace="a").refused == "bad_arguments"
    every = windowed("edit", search="line 1", replace="L1", replace_all=True)
    assert every.text.startswith("Replaced 111 occurrences.")
    assert b"line 1" not in windowed.get("a.txt") and windowed.get("a.txt").count(b"\n") == 300


def test_the_view_is_rewritten_and_lines_are_inserted(windowed: Desk) -> None:
    windowed.put("b.txt", "one\ntwo\n")
    windowed("open", path="b.txt")
    windowed("insert", text="end")
    windowed("insert", text="middle\n", line=1)
    assert windowed.get("b.txt") == b"one\nmiddle\ntwo\nend"
    assert windowed("edit", text="all\nnew").text == "Edit successful."
    assert windowed.get("b.txt") == b"all\nnew"
    assert windowed("insert", text=5).refused == "bad_arguments"


@pytest.mark.parametrize(("release", "content"), [("1.0", b"\n"), ("1.1", b""), ("main", b"")])
def test_a_new_file_is_as_the_release_made_it(box: Sandbox, release: str, content: bytes) -> None:
    desk = Desk.of(box, "swe-agent", release=release)
    text = desk("create", filename="sub/new.py").text
    assert desk.get("sub/new.py") == content
    assert text == ("[File: sub/new.py (1 lines total)]\n1:" if content else "[File: sub/new.py (0 lines total)]")
    assert desk("create", filename="sub/new.py").text == "Warning: File 'sub/new.py' already exists."


def test_an_edit_that_breaks_python_is_not_applied(windowed: Desk, classic: Desk) -> None:
    for desk, rule in ((windowed, 48), (classic, 49)):
        desk("open", path="a.py")
        for new, told in (
            ("        return )\n", "E999 SyntaxError: unmatched ')'"),
            ("  return os.sep\n", "E999 IndentationError"),
            ("        return undefined\n", "- F821 undefined name 'undefined'"),
        ):
            result = desk("edit", start_line=6, end_line=6, replacement_text=new)
            assert result.refused == "syntax_error"
            assert told in result.text and f"\n{'-' * rule}\n" in result.text
            assert "This is how your edit would have looked if applied" in result.text
            assert desk.get("a.py") == CODE.encode()
        assert desk("edit", start_line=6, end_line=6, replacement_text="        return os.name\n").refused is None
        desk.put("a.py", CODE)


def test_what_was_broken_before_does_not_hinder(windowed: Desk, classic: Desk) -> None:
    broken = CODE + "\n\ndef g():\n    return missing_name\n"
    for desk in (windowed, classic):
        desk.put("b.py", broken)
        desk("open", path="b.py")
        assert (
            desk("edit", start_line=6, end_line=6, replacement_text="        x = 1\n        return x\n").refused is None
        )
        result = desk("edit", start_line=6, end_line=6, replacement_text="        x = other_name\n")
        assert result.refused == "syntax_error" and "other_name" in result.text and "missing_name'" not in result.text
    old = Desk.of(windowed.box, "swe-agent", family="classic", release="0.6")
    old("open", path="b.py")
    assert "missing_name" in old("edit", start_line=1, end_line=1, replacement_text="import os\n").text


def test_files_of_other_kinds_are_not_checked(windowed: Desk) -> None:
    windowed("open", path="a.txt")
    assert windowed("edit", start_line=1, end_line=1, replacement_text="def (:\n").refused is None


@pytest.mark.parametrize(
    "text", ["(" * 5000, "-" * 100_000 + "1", "x = " + "[" * 900 + "]" * 900, "\0", "\x00\xff", "a=" * 9999]
)
def test_a_text_that_brings_a_parser_down_brings_nothing_else_down(text: str) -> None:
    require("flake8", "repo")
    assert all(isinstance(one, Problem) for one in problems("a.py", text.encode("latin-1")))


def test_only_what_an_edit_brought_counts() -> None:
    before = [Problem(2, 1, "a"), Problem(5, 1, "b"), Problem(9, 1, "c")]
    after = [Problem(2, 1, "a"), Problem(5, 1, "b"), Problem(11, 1, "c"), Problem(6, 1, "d")]
    assert introduced(before, after, (4, 6), 5) == [Problem(5, 1, "b"), Problem(6, 1, "d")]
    assert introduced([], after, (4, 6), 5) == after


# ------------------------------------------------------------------------------------------------------ searches


def test_searches_tell_where(windowed: Desk) -> None:
    windowed.put("d/b.txt", "needle\nhay\nneedle needle\n")
    windowed.put("d/it's odd.txt", "a needle\n")
    windowed.put(".hidden/c.txt", "needle\n")
    windowed.put("d/binary", b"needle\0\n")
    assert windowed("search_dir", search_term="needle").text == (
        f'Found 3 matches for "needle" in {WORKDIR}:\n{WORKDIR}/d/b.txt (2 matches)\n'
        f"{WORKDIR}/d/it's odd.txt (1 matches)\n"
        f'End of matches for "needle" in {WORKDIR}'
    )
    assert windowed("search_dir", search_term="-e 'x", dir="d").text == f'No matches found for "-e \'x" in {WORKDIR}/d'
    assert windowed("search_dir", search_term="x", dir="no").text == "Directory no not found"
    assert windowed("search_file", search_term="needle", file="d/b.txt").text == (
        f'Found 2 matches for "needle" in {WORKDIR}/d/b.txt:\nLine 1:needle\nLine 3:needle needle\n'
        f'End of matches for "needle" in {WORKDIR}/d/b.txt'
    )
    assert windowed("search_file", search_term="x").refused == "no_file_open"
    assert windowed("search_file", search_term="x", file="no").refused == "no_file"
    assert windowed("find_file", file_name="*.txt", dir="d").text == (
        f'Found 2 matches for "*.txt" in {WORKDIR}/d:\n{WORKDIR}/d/b.txt\n{WORKDIR}/d/it\'s odd.txt'
    )
    assert windowed("find_file", file_name="none").text == f'No matches found for "none" in {WORKDIR}'


def test_many_files_are_only_counted(windowed: Desk) -> None:
    windowed.box.run("mkdir many && for i in $(seq 120); do echo needle > many/$i; done")
    text = windowed("search_dir", search_term="needle").text
    assert text == f'More than 120 files matched for "needle" in {WORKDIR}. Please narrow your search.'


def test_what_the_agent_does_to_its_shell_is_no_part_of_a_search(windowed: Desk) -> None:
    windowed.put("d/b.txt", "needle\n")
    windowed.box.run("grep() { echo faked; }; find() { echo faked; }; alias grep=false; export -f grep find")
    assert "(1 matches)" in windowed("search_dir", search_term="needle", dir="d").text
    windowed.box.run("unset -f grep find; unalias grep")


def test_a_file_in_brief(windowed: Desk) -> None:
    body = "".join(f"    x{number} = {number}\n" for number in range(8))
    windowed.put("c.py", f"import os\n\n\ndef long():\n{body}\n\ndef short():\n    return os\n")
    text = windowed("filemap", file_path="c.py").text
    assert "     5 ... eliding lines 5-12 ..." in text and "x3" not in text and "    16     return os" in text
    windowed.put("c.py", "def (")
    assert windowed("filemap", file_path="c.py").refused == "no_python"


# ------------------------------------------------------------------------------------------------ typed commands


@pytest.mark.parametrize(
    ("typed", "name", "arguments"),
    [
        ("open src/a.py 12\n", "open", {"path": "src/a.py", "line_number": 12}),
        ('open "it is.py"', "open", {"path": "it is.py"}),
        ("goto 7", "goto", {"line_number": 7}),
        ("scroll_down\n", "scroll_down", {}),
        ("create 'a b.py'", "create", {"filename": "a b.py"}),
        ('search_dir "def f(a|b)$" src', "search_dir", None),
        ("search_dir 'def f(a|b)$' src", "search_dir", {"search_term": "def f(a|b)$", "dir": "src"}),
        ("find_file *.py", "find_file", None),
        ("find_file '*.py'", "find_file", {"file_name": "*.py"}),
        ("open a.py | head", "open", None),
        ("open $FILE", "open", None),
        ("open a b c", "open", None),
        ("open 'a", "open", None),
        ("set_cursors 1 2", "set_cursors", {"start_line": 1, "end_line": 2}),
        ("insert 'a\nb' 3", "insert", {"text": "a\nb", "line": 3}),
        (
            "edit 1:2\n  x = 'y'\n\nend_of_edit\n",
            "edit",
            {"start_line": 1, "end_line": 2, "replacement_text": "  x = 'y'\n\n"},
        ),
        ("edit 1:2\nend_of_edit", "edit", {"start_line": 1, "end_line": 2, "replacement_text": ""}),
        ("edit\nx\nend_of_edit", "edit", {"replacement_text": "x\n"}),
        ("edit 1:1\nx\nend_of_edit\nsubmit", "edit", None),
        ("edit 'a\nb' 'c'", "edit", {"search": "a\nb", "replace": "c"}),
        ("edit a b True", "edit", {"search": "a", "replace": "b", "replace_all": True}),
        ("submit", "submit", {}),
        ("submit now", "submit", None),
    ],
)
def test_typed_commands_are_taken_apart(typed: str, name: str, arguments: dict[str, Any] | None) -> None:
    assert parse_command(typed) == (name, {TYPED: typed.rstrip("\n")} if arguments is None else arguments)


def test_a_typed_command_is_executed_or_refused_in_words(windowed: Desk) -> None:
    assert shown(windowed("open", command_line="open a.txt 150").text) == (133, 232)
    refused = windowed("open", command_line="open a.txt | head")
    assert refused.refused == "unparsed_command" and "`open`" in refused.text
    assert windowed("open", command_line="goto 3").refused == "unparsed_command"
