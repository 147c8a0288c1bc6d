"""Sandboxes whose commands left no shell that comes up: a bad episode, told from a machine that fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from needs import require
from sandboxes import taken

from pivotgym.envs.errors import BadInput
from pivotgym.envs.sandbox import (
    Sandbox,
    SandboxConfig,
    SandboxError,
    SandboxFileError,
    Snapshot,
    docker_container,
)
from pivotgym.envs.sandbox.base import CANNOT_START
from pivotgym.envs.sandbox.docker import DEFAULT_IMAGE, DockerBackend
from pivotgym.envs.sandbox.docker_sandbox import DockerSandbox, DockerState

require("docker", "docker")

Start = Callable[..., DockerSandbox]

BREAKERS = {
    "no bash": "rm -f /usr/bin/bash",
    "no program": "printf 'not a program' > /tmp/b; chmod +x /tmp/b; mv /tmp/b /usr/bin/bash",
    "a bash that ends": "cp /usr/bin/true /tmp/b; mv /tmp/b /usr/bin/bash",
    "no loader": "rm -f /lib64/ld-linux-x86-64.so.2",
    "no libc": "rm -f /lib/x86_64-linux-gnu/libc.so.6",
    # Nothing a linker knows: every program that is started ends by a signal.
    "a preload that crashes": "head -c 4096 /usr/lib/x86_64-linux-gnu/libc.so.6 > /tmp/l.so; echo /tmp/l.so > "
    "/etc/ld.so.preload",
    "nothing": "rm -rf --no-preserve-root /usr /lib64 /bin /lib 2>/dev/null",
}


@pytest.fixture
def start(docker: DockerBackend) -> Iterator[Start]:
    begun: list[Sandbox] = []

    def begin(snapshot: Snapshot | None = None, **options: object) -> Sandbox:
        if snapshot is None:
            box = docker.start(SandboxConfig(image=DEFAULT_IMAGE, workdir="/root/work").model_copy(update=options))
        else:
            box = docker.load(snapshot, **options)  # type: ignore[arg-type]
        begun.append(box)
        return box

    yield begin  # type: ignore[misc]
    for box in begun:
        box.stop()


def assert_broken(box: Sandbox) -> None:
    """It answers every command alike, its files can be had, and it is what it was."""
    for _ in range(2):
        result = box.run("echo never")
        assert (result.output, result.status, result.ending) == (CANNOT_START, None, "shell_killed")
    assert box.read_file("/root/kept") == b"kept\n"
    assert set(box.tree("/root")) >= {"", "kept"}
    with pytest.raises(SandboxFileError):
        box.read_file("/root/none")
    assert box.usage().memory_bytes == 0


@pytest.mark.parametrize("breaker", BREAKERS)
def test_files_on_which_no_shell_comes_up(start: Start, docker: DockerBackend, breaker: str) -> None:
    box = start()
    box.run("echo kept > /root/kept; echo 127.0.0.1 added >> /etc/hosts")
    box.run(BREAKERS[breaker])
    snapshot = taken(box)
    assert isinstance(snapshot.payload, DockerState) and "added" in snapshot.payload.special["/etc/hosts"].decode()
    for options in ({}, {"fresh_shell": True}, {"config": box.config.model_copy(update={"user": 1000})}):
        fork = start(snapshot, **options)
        if breaker == "a preload that crashes" and fork.run("true").output != CANNOT_START:
            pytest.fail("this linker takes no offence: the test shows nothing")
        assert_broken(fork)
        again = taken(fork)
        assert docker.changes(snapshot, again) == []
        assert again.shell.text == ("" if options else snapshot.shell.text)
        fork.stop()
        fork.stop()
        with pytest.raises(SandboxError):
            fork.run("true")
    assert_broken(start(again))


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_a_live_sandbox_whose_shell_does_not_come_back(
    start: Start, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    if where == "elsewhere":
        monkeypatch.setattr(docker_container.HostView, "of", classmethod(lambda *_: None))
    box = start(hostname=f"live-{where}")  # none from the pool
    box.run("echo kept > /root/kept; cd /tmp; x=1")
    result = box.run("echo last; rm -f /usr/bin/bash; kill -9 -1; sleep 1")
    assert (result.status, result.ending) == (None, "shell_killed")
    assert_broken(box)
    assert box.run("true").cwd == "/tmp"
    assert_broken(start(taken(box)))
    timed_out = start(hostname=f"live-{where}")
    timed_out.run("echo kept > /root/kept")
    assert timed_out.run("rm -f /usr/bin/bash; sleep 100", timeout=3.0).ending == "timeout"
    # The supervisor still runs: whether it finds a bash for a new shell or the container was halted, nothing is raised.
    assert_broken(timed_out)


@pytest.mark.slow
def test_a_bash_that_never_answers(start: Start) -> None:
    box = start()
    box.run("echo kept > /root/kept; printf '#!/bin/sh\\nsleep 1000\\n' > /tmp/b; chmod +x /tmp/b")
    box.run("mv /tmp/b /usr/bin/bash")
    fork = start(taken(box))
    began = time.monotonic()
    assert_broken(fork)
    assert time.monotonic() - began < 60


def test_a_base_that_fails_is_no_episode(start: Start, docker: DockerBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    box = start()
    box.run("rm -f /usr/bin/bash")
    snapshot = taken(box)
    tag = "pivotgym-test-broken"
    made = docker.client.create_container(DEFAULT_IMAGE, ["true"])["Id"]
    docker.client.commit(made, repository=tag)
    docker.client.remove_container(made)
    try:
        own = start(image=tag, hostname="base-gone")
        own.run("rm -f /usr/bin/bash")
        orphan = taken(own)
        assert isinstance(orphan.payload, DockerState) and orphan.payload.image.origin is not None
        # The image it began as is one on which nothing comes up either.
        assert isinstance(snapshot.payload, DockerState)
        monkeypatch.setattr(orphan.payload.image.origin, "id", snapshot.payload.image.id)
        with pytest.raises(SandboxError, match="nor does the image it began as"):
            start(orphan).run("true")
        # A sandbox in which nothing ran yet has nobody to blame but its image.
        monkeypatch.setattr(orphan.payload.image, "base", True)
        with pytest.raises((BadInput, SandboxError)):
            start(orphan).run("true")
    finally:
        monkeypatch.undo()
        own.stop()
        docker.client.remove_image(tag, force=True)


def test_the_daemons_files_outlive_a_restart(start: Start) -> None:
    box = start()
    box.run("echo 127.0.0.1 added >> /etc/hosts")
    box._container.halt()
    assert box.run("true").ending == "shell_killed"
    assert box.run("tail -n 1 /etc/hosts").output == "127.0.0.1 added\n"


@pytest.mark.parametrize(
    "trick",
    [
        "head -c 100000 /dev/zero > /etc/hosts",
        "mv /etc /e; ln -s /etc /etc",
        "mv /etc /e; touch /etc",
        "mv /etc /e; mkdir -p /etc/hosts",
        "cd /; rm -rf /root; touch /root",
        "cd /; rm -rf /root; ln -s /root /root",
    ],
)
def test_nothing_of_the_files_is_a_failure(start: Start, trick: str) -> None:
    box = start()
    box.run(f"{trick}; echo kept > /srv/kept")
    snapshot = box.snapshot() or box.snapshot(live=True)
    assert snapshot is not None
    for options in ({}, {"fresh_shell": True}):
        fork = start(snapshot, **options)
        assert fork.run("cat /srv/kept").output in ("kept\n", CANNOT_START)
        assert fork.read_file("/srv/kept") == b"kept\n"
        assert fork.snapshot(live=True) is not None


# Without a look at the daemon's machine -------------------------------------------------------------------------------


def test_a_live_snapshot_from_elsewhere_is_of_one_moment(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_container.HostView, "of", classmethod(lambda *_: None))
    box = start(hostname="moment")  # none from the pool
    # Two files that grow in step: in no moment do they differ by more than a line.
    box.run("x=1; cd /tmp; (while :; do echo 1 >> /root/a; echo 1 >> /root/b; done) & disown")
    time.sleep(0.3)
    assert box.snapshot() is None and "background" in box.incomplete
    snapshot = box.snapshot(live=True)
    assert snapshot is not None
    fork = start(snapshot)
    one, two = (fork.read_file(f"/root/{name}").count(b"\n") for name in "ab")
    assert one > 0 and 0 <= one - two <= 1
    # As elsewhere: it was killed, and the shell goes on.
    before = box.read_file("/root/a")
    assert box.run("sleep 0.3; pwd; echo $x").output == "/tmp\n1\n"
    assert box.read_file("/root/a") == before and before.count(b"\n") == one
    assert box.snapshot() is not None


def test_what_outlives_the_shell_hinders_a_snapshot(start: Start) -> None:
    box = start()
    box.run("(while :; do date +%N > /root/now; sleep 0.01; done) & disown")
    assert box.run("kill -9 $PPID; sleep 5", timeout=20).ending == "shell_killed"
    if box.snapshot() is None:
        assert "background process" in box.incomplete
        assert box.snapshot(live=True) is not None
    before = box.read_file("/root/now")
    time.sleep(0.3)
    assert box.read_file("/root/now") == before
