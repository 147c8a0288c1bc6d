"""The editor and handing in: what each dialect says and does, and that nothing an agent asks for is an exception."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tool_calls import WORKDIR, Desk, started

from pivotgym.envs.errors import BadInput
from pivotgym.envs.repo.tasks import Interface, RepoTask
from pivotgym.envs.repo.tools import EditorState, Toolbox, cause_in_repository, show_command, show_tool
from pivotgym.envs.repo.tools.state import KEPT
from pivotgym.envs.sandbox import CommandResult, Sandbox

DIALECTS: list[Interface] = ["tools", "swe-agent", "openhands"]
TEN = "".join(f"line {number}\n" for number in range(1, 11))


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    box = started()
    yield box
    box.stop()


@pytest.fixture
def box(shared: Sandbox) -> Sandbox:
    """A sandbox with nothing of the last test in it."""
    shared.run(f"cd {WORKDIR} && rm -rf ./* ./.[!.]*")
    return shared


@pytest.fixture(params=DIALECTS)
def desk(request: pytest.FixtureRequest, box: Sandbox) -> Desk:
    """Every dialect's editor."""
    return Desk(box, request.param)


# ------------------------------------------------------------------------------------------------------- viewing


def test_a_file_is_shown_as_cat_n_shows_it(desk: Desk) -> None:
    desk.put("a.txt", TEN)
    shown = desk.edit("view", f"{WORKDIR}/a.txt").text
    head, _, body = shown.partition("\n")
    assert head == f"Here's the result of running `cat -n` on {WORKDIR}/a.txt:"
    assert body.startswith(desk.box.run("cat -n a.txt").output)


def test_a_range_is_shown_with_the_files_own_numbers(desk: Desk) -> None:
    desk.put("a.txt", TEN)
    some = desk.edit("view", f"{WORKDIR}/a.txt", view_range=[4, 6]).text
    assert some.split("\n")[1:4] == ["     4\tline 4", "     5\tline 5", "     6\tline 6"]
    rest = desk.edit("view", f"{WORKDIR}/a.txt", view_range=[9, -1]).text
    assert "     9\tline 9\n    10\tline 10\n" in rest


@pytest.mark.parametrize(
    "wanted", [[0, 3], [5, 2], [3], [1, 2, 3], ["1", "2"], [99, 100], "3", [1.5, 2], [True, 2], [-1, 4], [3, -2]]
)
def test_a_range_that_is_none_is_refused(desk: Desk, wanted: Any) -> None:
    desk.put("a.txt", TEN)
    result = desk.edit("view", f"{WORKDIR}/a.txt", view_range=wanted)
    assert result.refused == "bad_arguments"
    assert "view_range" in result.text


def test_beyond_the_end_each_says_what_the_recorded_agents_said(box: Sandbox) -> None:
    Desk(box).put("a.txt", TEN)
    wanted: dict[str, Any] = {"view_range": [9, 40]}
    ours = Desk(box).edit("view", f"{WORKDIR}/a.txt", **wanted)
    assert ours.refused and "Its second element `40` should be smaller than the number of lines" in ours.text
    theirs = Desk(box, "openhands").edit("view", f"{WORKDIR}/a.txt", **wanted)
    assert not theirs.refused
    assert theirs.text.startswith("NOTE: We only show up to 10 since there're only 10 lines in this file.\nHere's")


def test_a_folder_is_shown_two_levels_deep_without_what_is_hidden(desk: Desk) -> None:
    for name in ("b/c/d.txt", "b/e.txt", "a.txt", ".git/config", "b/.hidden"):
        desk.put(name, "x")
    text = desk.edit("view", WORKDIR).text
    end = "/" if desk.interface == "openhands" else ""
    expected = [f"{WORKDIR}{end}", f"{WORKDIR}/a.txt", f"{WORKDIR}/b{end}", f"{WORKDIR}/b/c{end}", f"{WORKDIR}/b/e.txt"]
    assert [line for line in text.split("\n") if line.startswith(WORKDIR)] == expected
    assert desk.edit("view", WORKDIR, view_range=[1, 2]).refused == "bad_arguments"
    if desk.interface == "openhands":
        assert "1 hidden files/directories in this directory are excluded" in text


def test_a_long_file_is_cut(desk: Desk) -> None:
    desk.put("a.txt", "x" * 79 + "\n" + "y\n" * 20_000)
    shown = desk.edit("view", f"{WORKDIR}/a.txt").text
    assert "<response clipped>" in shown
    assert shown.count("y") < 9000


# ------------------------------------------------------------------------------------------------------- editing


def test_create_replace_insert_and_undo(desk: Desk) -> None:
    path = f"{WORKDIR}/a.py"
    assert desk.edit("create", path, file_text=TEN).text == f"File created successfully at: {path}"
    assert desk.get("a.py") == TEN.encode()
    replaced = desk.edit("str_replace", path, old_str="line 5\n", new_str="line five\nand more\n")
    assert replaced.text.startswith(
        f"The file {path} has been edited. Here's the result of running `cat -n` on a snippet"
    )
    assert "     5\tline five\n     6\tand more\n     7\tline 6\n" in replaced.text
    after_replace = desk.get("a.py")
    assert after_replace == TEN.replace("line 5\n", "line five\nand more\n").encode()
    inserted = desk.edit("insert", path, insert_line=0, new_str="# top")
    assert "     1\t# top\n     2\tline 1\n" in inserted.text
    assert desk.get("a.py") == b"# top\n" + after_replace
    desk.edit("insert", path, insert_line=12, new_str="last")
    assert desk.get("a.py").endswith(b"line 10\nlast\n")
    for expected in (b"# top\n" + after_replace, after_replace, TEN.encode(), TEN.encode()):
        undone = desk.edit("undo_edit", path)
        assert undone.text.startswith(f"Last edit to {path} undone successfully. Here's")
        assert desk.get("a.py") == expected
    last = desk.edit("undo_edit", path)
    assert last.refused == "no_history" and f"No edit history found for {path}." in last.text


def test_an_edit_that_cannot_be_made_changes_nothing(desk: Desk) -> None:
    path = f"{WORKDIR}/a.txt"
    desk.put("a.txt", TEN)
    refused = {
        "not_found": {"old_str": "line 11", "new_str": "x"},
        "not_unique": {"old_str": "line ", "new_str": "x"},
        "no_change": {"old_str": "line 3", "new_str": "line 3"},
    }
    for kind, arguments in refused.items():
        assert desk.edit("str_replace", path, **arguments).refused == kind
    assert "in lines [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]" in desk.edit("str_replace", path, old_str="line ").text
    assert desk.edit("create", path, file_text="x").refused == "exists"
    assert desk.edit("insert", path, insert_line=12, new_str="x").refused == "bad_arguments"
    assert desk.edit("insert", path, insert_line=-1, new_str="x").refused == "bad_arguments"
    assert desk.edit("view", f"{WORKDIR}/b.txt").refused == "no_file"
    assert desk.edit("str_replace", WORKDIR, old_str="a", new_str="b").refused == "directory"
    assert desk.edit("delete", path).refused == "bad_arguments"
    for command, needed in (("create", "file_text"), ("str_replace", "old_str"), ("insert", "insert_line")):
        where = f"{WORKDIR}/new" if command == "create" else path
        result = desk.edit(command, where)
        assert (
            result.refused == "bad_arguments"
            and f"Parameter `{needed}` is required for command: {command}" in result.text
        )
    assert desk.get("a.txt") == TEN.encode()


def test_openhands_errors_begin_as_its_own(box: Sandbox) -> None:
    desk = Desk(box, "openhands")
    text = desk.edit("view", "a.txt").text
    assert text.startswith(
        "ERROR:\nInvalid `path` parameter: a.txt. The path should be an absolute path, starting with `/`."
    )


def test_paths_are_from_where_the_shell_stands(box: Sandbox) -> None:
    ours, theirs = Desk(box), Desk(box, "swe-agent")
    ours.put("b/a.txt", "here\n")
    box.run("cd b")
    try:
        assert "here" in ours.edit("view", "a.txt").text
        assert "here" in ours.edit("view", "../b//./a.txt").text
        refused = theirs.edit("view", "a.txt")
        assert refused.text == (
            f"The path a.txt is not an absolute path, it should start with `/`. Maybe you meant {WORKDIR}/b/a.txt?"
        )
        ours.edit("create", "new/deep/c.txt", file_text="made")
        assert ours.get("b/new/deep/c.txt") == b"made"
    finally:
        box.run(f"cd {WORKDIR}")


# ------------------------------------------------------------------------------------------- files of other kinds

CONTENTS = [
    b"",
    b"\n",
    b"needle",
    b"a\r\nneedle\r\nb\r\n",
    b"a\r\nneedle\nb\r\n",
    b"caf\xe9 needle\n",  # Latin-1
    "naïve needle ✓\n".encode(),
    b"\xff\xfe needle \x80\n",
    b"\tneedle\there\n\t\tx\n",
    b"x\x0cneedle\x1cy\xc2\x85z\n",  # what str.splitlines() takes for line ends
    b"needle\n\n\n",
]


@pytest.mark.parametrize("content", CONTENTS)
def test_undo_gives_back_the_very_bytes(desk: Desk, content: bytes) -> None:
    desk.put("f", content, mode=0o750)
    path = f"{WORKDIR}/f"
    edits = [desk.edit("insert", path, insert_line=0, new_str="first")]
    if b"needle" in content:
        edits.append(desk.edit("str_replace", path, old_str="needle", new_str="pin"))
        assert b"pin" in desk.get("f") and b"needle" not in desk.get("f")
    assert [edit.refused for edit in edits] == [None] * len(edits)
    assert desk.box.run("stat -c %a f").output == "750\n"
    for _ in edits:
        assert desk.edit("undo_edit", path).refused is None
    assert desk.get("f") == content


def test_our_editor_keeps_line_ends_and_tabs(box: Sandbox) -> None:
    desk = Desk(box)
    desk.put("f", b"\tone\r\n\ttwo\r\n")
    desk.edit("str_replace", f"{WORKDIR}/f", old_str="\tone\n\ttwo", new_str="\tone\n\tand a half\n\ttwo")
    assert desk.get("f") == b"\tone\r\n\tand a half\r\n\ttwo\r\n"
    assert "\r" not in desk.edit("view", f"{WORKDIR}/f").text


def test_sweagents_editor_turns_tabs_into_spaces_as_the_recorded_one_did(box: Sandbox) -> None:
    desk = Desk(box, "swe-agent")
    desk.put("f", b"\tone\n\ttwo\n")
    desk.edit("str_replace", f"{WORKDIR}/f", old_str="\tone", new_str="\tthree")
    assert desk.get("f") == b"        three\n        two\n"


def test_no_file_is_read_or_written_outside_the_sandbox(desk: Desk, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the host\n")
    desk.box.run(f"ln -s {secret} link; ln -s /../../../../..{secret} up; ln -s nowhere dangling; ln -s loop loop")
    for name in ("link", "up", "dangling", "loop"):
        result = desk.edit("view", f"{WORKDIR}/{name}")
        assert result.refused and "of the host" not in result.text
        made = desk.edit("create", f"{WORKDIR}/{name}", file_text="planted")
        assert secret.read_text() == "of the host\n"
        assert made.refused or name != "loop"
    assert not Path("/nowhere").exists()


def test_links_inside_are_followed(desk: Desk) -> None:
    desk.put("real/a.txt", "inside\n")
    desk.box.run(f"ln -s real/a.txt short; ln -s {WORKDIR}/real folder")
    assert "inside" in desk.edit("view", f"{WORKDIR}/short").text
    desk.edit("str_replace", f"{WORKDIR}/folder/a.txt", old_str="inside", new_str="changed")
    desk.edit("str_replace", f"{WORKDIR}/short", old_str="changed", new_str="twice")
    assert desk.get("real/a.txt") == b"twice\n"
    assert desk.box.run("test -L short && echo a link").output == "a link\n"


def test_what_is_no_text_file_is_refused_in_words(desk: Desk) -> None:
    desk.put("binary", b"\x7fELF\0\0\0needle")
    desk.box.run("mkfifo pipe; truncate -s 11M huge")
    kinds = {"binary": "binary", "pipe": "no_regular_file", "huge": "too_large"}
    for name, kind in kinds.items():
        for command, more in (("view", {}), ("str_replace", {"old_str": "needle", "new_str": "x"})):
            result = desk.edit(command, f"{WORKDIR}/{name}", **more)
            assert (result.refused, bool(result.text)) == (kind, True), (name, command, result.text)
    assert desk.get("binary") == b"\x7fELF\0\0\0needle"


def test_only_the_last_contents_are_kept(box: Sandbox) -> None:
    desk = Desk(box)
    desk.put("f", "0\n")
    for number in range(1, KEPT + 5):
        desk.edit("str_replace", f"{WORKDIR}/f", old_str=str(number - 1), new_str=str(number))
    for _ in range(KEPT):
        assert desk.edit("undo_edit", f"{WORKDIR}/f").refused is None
    assert desk.get("f") == b"4\n"
    assert desk.edit("undo_edit", f"{WORKDIR}/f").refused == "no_history"


@pytest.mark.parametrize("interface", DIALECTS)
def test_no_arguments_are_an_exception(box: Sandbox, interface: Interface) -> None:
    """Whatever a policy writes, it reads an answer."""
    desk = Desk(box, interface)
    desk.put("f.py", "def f():\n    return 1\n")
    draw = random.Random(7)
    toolbox = Toolbox(interface)
    names = [name for name in toolbox._commands if name not in ("submit", "finish")]
    words = [
        "command",
        "path",
        "file_text",
        "old_str",
        "new_str",
        "insert_line",
        "view_range",
        "line_number",
        "filename",
    ]
    words += ["search", "replace", "text", "line", "start_line", "end_line", "replacement_text", "command_line", "dir"]
    words += ["search_term", "file_name", "file", "file_path"]
    values: list[Any] = [
        "f.py",
        f"{WORKDIR}/f.py",
        "",
        "\0",
        "\ud800",
        "view",
        "create",
        "str_replace",
        "insert",
        0,
        -1,
        3,
    ]
    values += [
        10**30,
        None,
        True,
        [],
        [1, 2],
        {},
        1.5,
        "x" * 5000,
        "/",
        "..",
        "~",
        "*",
        "edit 1:1\nx",
        "a\nb",
        "/proc/self",
    ]
    refused = 0
    for _ in range(250):
        given = {word: draw.choice(values) for word in draw.sample(words, draw.randint(0, 6))}
        refused += desk(draw.choice(names), **given).refused is not None
    assert refused > 100


# ------------------------------------------------------------------------------------------------- what is on offer


@pytest.mark.parametrize("interface", [*DIALECTS, "bash"])
def test_every_tool_on_offer_is_executed_and_described(box: Sandbox, interface: Interface) -> None:
    toolbox = Toolbox(interface)
    definitions = toolbox.definitions()
    assert bool(definitions) == (interface != "bash")
    for tool in definitions:
        function = tool["function"]
        assert toolbox.knows(function["name"])
        jsonschema.Draft202012Validator.check_schema(function["parameters"])
        assert len(function["description"]) > 20
    assert not toolbox.knows("bash") and not toolbox.knows("execute_bash")
    answer = Desk(box, interface)("no_such_tool")
    assert (answer.refused, answer.text) == ("unknown_tool", "Error: unknown tool 'no_such_tool'")


def test_thinking_changes_nothing_and_finishing_ends(box: Sandbox) -> None:
    desk = Desk(box, "openhands")
    assert desk("think", thought="hm").text == "Your thought has been logged."
    done = desk("finish", message="all done", task_completed="true")
    assert (done.submitted, done.refused) == ("all done", None)


@pytest.mark.parametrize("backend", ["bubblewrap", "docker"])
@pytest.mark.parametrize("interface", ["tools", "swe-agent"])
def test_what_is_handed_in_is_a_patch_that_applies(backend: str, interface: Interface, tmp_path: Path) -> None:
    box = started(backend)
    try:
        desk = Desk(box, interface)
        desk.put("kept.txt", "one\ntwo\n")
        desk.put("gone.txt", "bye\n")
        box.run("git init -q && git add -A && git -c user.name=a -c user.email=a@b commit -qm base")
        desk.edit("str_replace", f"{WORKDIR}/kept.txt", old_str="two", new_str="zwei")
        desk.edit("create", f"{WORKDIR}/new.txt", file_text="new\n")
        box.run("rm gone.txt && git config diff.external false && git config color.ui always && cd /")
        staged = box.run(f"git -C {WORKDIR} diff --cached --name-only").output
        result = desk("submit")
        assert result.refused is None and result.submitted is not None
        assert (box.run(f"git -C {WORKDIR} diff --cached --name-only").output == staged) == (interface == "tools")
    finally:
        box.stop()
    (tmp_path / "kept.txt").write_text("one\ntwo\n")
    (tmp_path / "gone.txt").write_text("bye\n")
    subprocess.run(["git", "apply", "-"], input=result.submitted.encode(), cwd=tmp_path, check=True)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "kept.txt": "one\nzwei\n",
        "new.txt": "new\n",
    }


def test_handing_in_without_a_repository_says_so(box: Sandbox) -> None:
    result = Desk(box)("submit")
    assert (result.refused, result.submitted) == ("no_patch", None)
    assert "not a git repository" in result.text


def test_an_editors_style_that_is_none_is_named() -> None:
    with pytest.raises(BadInput, match=r"definition\.editor\.window"):
        EditorState.of(RepoTask(definition={"editor": {"window": 0}}))


def test_templates_show_the_open_file_and_a_tools_text_as_it_is() -> None:
    template = "{{ output if exact else output.rstrip() }}|{{ editor_file }}|{{ cwd }}"
    spec = RepoTask(observation="template", observation_template=template)
    state = EditorState(open_file='/a "quoted" {{ name }}.py')
    assert show_tool("text\n", spec, state, "/w") == f"text\n|{state.open_file}|/w"
    assert show_command(CommandResult("out\n", 0, cwd="/w"), spec, EditorState()) == "out|n/a|/w"
    assert show_tool("text\n", RepoTask(), state, "/w") == "text\n"


@pytest.mark.parametrize(
    ("command", "replayed", "recorded", "kind"),
    [
        ("pip install -e .", "a", "b", "installation"),
        ("ls -F", "a\nb\nc", "a  b\nc", "columns"),
        ("ls -F", "a\nb", "a  b\nc", "missing_files"),
        ("cd x && ls", "a\nb\nc", "a", "more_files"),
        ("ls", "a b", "a c", None),
        ("cat x", "a\nb", "a b c", None),
        (
            "python x",
            "/usr/lib/python3/dist-packages/a.py",
            "/opt/lib/python3.9/site-packages/a.py",
            "python_environment",
        ),
        ("python x", "ValueError", "KeyError", None),
    ],
)
def test_why_two_observations_differ(command: str, replayed: str, recorded: str, kind: str | None) -> None:
    assert cause_in_repository(command, replayed, recorded) == kind


def test_the_same_calls_read_the_same_on_every_backend() -> None:
    """Paths, links, folders, permissions and searches, through the daemon as through bubblewrap."""

    def play(backend: str) -> list[str]:
        box = started(backend)
        try:
            desk = Desk(box, "swe-agent")
            desk.put("real/a.txt", "one\ntwo\n", mode=0o750)
            desk.put("real/deep/b.txt", "b")
            box.run(f"ln -s real/a.txt short; ln -s {WORKDIR}/real folder; ln -s loop loop; mkdir empty; mkfifo pipe")
            told = [desk.edit("view", f"{WORKDIR}/{name}").text for name in (".", "folder", "short", "empty", "loop")]
            told += [
                desk.edit("view", f"{WORKDIR}/{name}").text for name in ("pipe", "none", "real/a.txt/none", "x" * 400)
            ]
            told.append(desk.edit("str_replace", f"{WORKDIR}/short", old_str="two", new_str="zwei").text)
            told.append(desk.edit("create", f"{WORKDIR}/empty/new.txt", file_text="new").text)
            told.append(desk.edit("undo_edit", f"{WORKDIR}/short").text)
            told.append(desk.edit("create", f"{WORKDIR}/real/a.txt/new", file_text="new").text)
            for name in ("loop", "loop/new", "x" * 400, "real/" + "y" * 300 + "/z"):
                assert desk.edit("create", f"{WORKDIR}/{name}", file_text="new").refused in (
                    "unwritable",
                    "no_directory",
                )
            told += [desk("open", path="folder/a.txt").text, desk("scroll_down").text, desk.state.open_file]
            told.append(desk("create", filename="made/too.txt").text)
            told += [desk("find_file", file_name="*.txt").text, desk("search_dir", search_term="two").text]
            told.append(box.run("stat -c %a real/a.txt; test -L short && echo link; cat empty/new.txt").output)
            return told
        finally:
            box.stop()

    one, other = play("bubblewrap"), play("docker")
    assert one == other
    assert one[-1] == "750\nlink\nnew"
    assert f"{WORKDIR}/real/a.txt" in one
