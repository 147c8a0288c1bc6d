"""Paths that lead nowhere, which whoever works inside can make: the path is wrong then, and not the sandbox."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pivotgym.envs.sandbox import Backend, Sandbox, SandboxError, SandboxFileError

LONG = "n" * 256
MADE = f"""
cd /tmp; echo kept > file; mkdir folder
ln -s self self; ln -s there here; ln -s here there; ln -s deep/circle in; mkdir deep; ln -s ../in deep/circle
ln -s file to_file; ln -s file/x through_file; ln -s {LONG} to_long
ln -s /proc to_proc; ln -s /proc/self to_self; ln -s /proc/1/root to_root; ln -s nothing to_nothing
ln -s /proc/sys/kernel/hostname to_name
"""
NOWHERE = [
    *("self/x", "here/x", "there/x/y", "in/x"),
    *("file/x", "file/x/y", "to_file/x", "through_file/x"),
    *(LONG, f"{LONG}/x", f"folder/{LONG}", "to_long/x"),
    *("to_proc/self/environ", "to_proc/nothing", "to_self/environ", "to_self/none", "to_root/etc/passwd"),
]
"""Below /tmp; wrong for whatever is done with them, links followed at their end or not."""
DEEP = "folder/" * 2000 + "x"
FOLLOWED = ["self", "here", "through_file", "to_long", "to_self", "to_root", "to_name"]
"""Links that cannot be followed to a file."""


@pytest.fixture
def made(box: Sandbox) -> Sandbox:
    result = box.run(MADE)
    assert (result.status, result.output) == (0, ""), result
    return box


def _refused(act: Callable[[str], object], names: list[str]) -> None:
    for name in names:
        try:
            found = act(f"/tmp/{name}")
        except SandboxFileError:
            continue
        pytest.fail(f"{name[:40]}: {found!r}")


def test_reading(made: Sandbox) -> None:
    _refused(made.read_file, [*NOWHERE, *FOLLOWED, "to_nothing", "to_nothing/x", DEEP])
    assert made.read_file("/tmp/to_file") == made.read_file("/tmp/file") == b"kept\n"


def test_trees(made: Sandbox, backend: Backend) -> None:
    _refused(made.tree, [*NOWHERE, "to_nothing/x", DEEP])
    links = {name: entry.target for name, entry in made.tree("/tmp").items() if entry.kind == "link"}
    assert links["self"] == "self" and links["through_file"] == "file/x" and links["to_long"] == LONG
    for name in ("self", "here", "through_file", "to_long"):
        # The daemon follows each link that it is asked for.
        if backend.name == "docker":
            _refused(made.tree, [name])
        else:
            assert made.tree(f"/tmp/{name}")[""].target == links[name]


@pytest.mark.parametrize("way", ["write_file", "upload", "upload of a folder"])
def test_writing(made: Sandbox, way: str, tmp_path: Path) -> None:
    one = tmp_path / "x"
    one.write_text("new\n")
    source = tmp_path if way == "upload of a folder" else one

    def write(path: str) -> None:
        made.write_file(path, b"new\n") if way == "write_file" else made.upload(source, path)

    before = made.tree("/tmp")
    names = [*NOWHERE, "to_nothing/x", "to_self/new/er"]
    _refused(write, names if source is tmp_path else [*names, *FOLLOWED, "folder", "deep/.."])
    _refused(write, ["../proc/new", "../proc/1/new", "../sys/new"])
    assert made.tree("/tmp") == before  # no link gave way to a folder, nothing was made on the way
    write("/tmp/folder/new/er")
    assert made.run("cat /tmp/folder/new/er /tmp/folder/new/er/x 2> /dev/null").output == "new\n"
    if source is one:
        write("/tmp/to_nothing")
        assert made.read_file("/tmp/nothing") == b"new\n"


def test_names_in_a_failure_are_no_reason() -> None:
    """Only the words that the daemon ends with count: the path in its message is made by whoever works inside."""
    from pivotgym.envs.sandbox.docker_api import path_fault

    for message in (
        "lstat /var/lib/docker/x/merged/tmp/: not a directory/y: input/output error",
        "lstat /var/lib/docker/x/merged/tmp/too many links in: no space left on device",
        "write /x/: file name too long: disk quota exceeded",
        "Error processing tar file(exit status 1): write /too many links: no space left on device",
    ):
        assert path_fault(message) is None, message
    assert path_fault("lstat /var/lib/docker/x/merged/tmp/file/x: not a directory\n")


def test_a_stopped_sandbox_is_no_wrong_path(made: Sandbox) -> None:
    made.stop()
    for act in (made.read_file, made.tree, lambda path: made.write_file(path, b"")):
        with pytest.raises(SandboxError):
            act("/tmp/file/x")
