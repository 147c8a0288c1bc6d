"""What dead runs leave in a Docker daemon is found and removed, and nothing of the living is touched."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker_daemon import private_daemon, tiny_root
from needs import missing, require

from pivotgym.envs.sandbox import SandboxConfig, SandboxError, SandboxUnavailable, get_backend
from pivotgym.envs.sandbox.docker import DEFAULT_IMAGE, DockerBackend, ensure_image
from pivotgym.envs.sandbox.docker_api import is_orphan, labels

require("docker", "docker")

RUN = """
import sys, time
from pivotgym.envs.sandbox import SandboxConfig
from pivotgym.envs.sandbox.docker import DEFAULT_IMAGE, DockerBackend
backend, live = DockerBackend(), []
config = SandboxConfig(image=DEFAULT_IMAGE)
first = backend.start(config)
first.run("echo base > /root/base")
snapshots = [first.snapshot()]
for number in range(int(sys.argv[1])):
    one = backend.load(snapshots[-1]) if number % 2 else backend.start(config)
    one.run(f"echo {number} > /root/file; sleep 1000 & disown")
    if number % 3 == 0:
        snapshots.append(one.snapshot(live=True))
        one.run("sleep 1000 & disown")
    live.append(one)
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def docker() -> DockerBackend:
    try:
        backend = get_backend("docker")
    except SandboxUnavailable as error:
        missing(str(error))
    assert isinstance(backend, DockerBackend)
    ensure_image(backend.client)
    return backend


@pytest.fixture
def killed(docker: DockerBackend) -> Iterator[str]:
    """The owner label of a run that was killed with ten live sandboxes."""
    run = subprocess.Popen([sys.executable, "-c", RUN, "10"], stdout=subprocess.PIPE, text=True)
    try:
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
        everything = docker.client.containers(all=True, filters={"label": "pivotgym=1"})
        owners = {
            found["Labels"]["pivotgym.owner"]
            for found in everything
            if found["Labels"]["pivotgym.owner"].split(":")[1] == str(run.pid)
        }
    finally:
        run.kill()
        run.wait()
    (owner,) = owners
    yield owner


def left(docker: DockerBackend, owner: str) -> tuple[int, int]:
    """Containers and images of an owner."""
    mine = {"label": f"pivotgym.owner={owner}"}
    return len(docker.client.containers(all=True, filters=mine)), len(docker.client.images(filters=mine, all=True))


def test_a_killed_run_leaves_nothing_after_the_next_start(docker: DockerBackend, killed: str) -> None:
    containers, images = left(docker, killed)
    assert containers >= 11 and images >= 4
    box = docker.start(SandboxConfig(image=DEFAULT_IMAGE))
    box.run("echo mine > /root/mine")
    snapshot = box.snapshot()
    assert snapshot is not None
    second = DockerBackend(warm=0)  # another start: it sweeps
    assert left(docker, killed) == (0, 0)
    # What lives is as it was.
    assert box.run("cat /root/mine").output == "mine\n"
    fork = second.load(snapshot)
    assert fork.run("cat /root/mine").output == "mine\n"
    fork.stop()
    box.stop()
    docker.close(snapshot)
    second.shut_down()


def test_clean_counts_what_it_removes(docker: DockerBackend, killed: str) -> None:
    containers, images = left(docker, killed)
    cleaned = docker.clean()
    assert cleaned.containers >= containers and cleaned.images >= images
    assert left(docker, killed) == (0, 0)
    again = docker.clean()
    assert left(docker, killed) == (0, 0) and not again.containers


def test_a_run_that_ends_leaves_nothing(docker: DockerBackend) -> None:
    code = RUN.replace("time.sleep(600)", "from pivotgym.envs.sandbox.docker_api import labels; print(labels())")
    ended = subprocess.run([sys.executable, "-c", code, "3"], capture_output=True, text=True, check=True)
    owner = ended.stdout.split("'pivotgym.owner': '")[1].split("'")[0]
    assert left(docker, owner) == (0, 0)


def test_whose_owner_is_dead() -> None:
    mine = labels()
    boot, pid, started = mine["pivotgym.owner"].split(":")
    assert pid == str(os.getpid()) and is_orphan(mine) is False
    dead = subprocess.Popen(["true"])
    dead.wait()
    assert is_orphan({**mine, "pivotgym.owner": f"{boot}:{dead.pid}:{started}"}) is True
    # The number was given to another process since; the machine was started again since.
    assert is_orphan({**mine, "pivotgym.owner": f"{boot}:{pid}:{int(started) - 1}"}) is True
    assert is_orphan({**mine, "pivotgym.owner": f"other-boot:{pid}:{started}"}) is True
    # Another machine on the same daemon, something without our labels: not to be judged from here.
    assert is_orphan({**mine, "pivotgym.host": "another"}) is None
    assert is_orphan({}) is None


def test_no_daemon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(SandboxUnavailable, match=r"no Docker daemon answers at .*none\.sock.*start dockerd"):
        DockerBackend()


def test_a_daemon_that_dies_is_no_result(
    docker: DockerBackend, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("daemon")
    root = tiny_root(folder / "root")
    with private_daemon(folder) as (address, process):
        monkeypatch.setenv("DOCKER_HOST", address)
        backend = DockerBackend(warm=0)
        box = backend.start(SandboxConfig(image=str(root)))
        assert box.run("echo fine").output == "fine\n"
        snapshot = box.snapshot()
        assert snapshot is not None
        killer = subprocess.Popen(["bash", "-c", f"sleep 0.5; kill -9 {process.pid}"])
        with pytest.raises(SandboxError):
            box.run("sleep 20", timeout=30)
        killer.wait()
        for action in (lambda: box.run("true"), lambda: box.read_file("/etc/passwd"), lambda: backend.load(snapshot)):
            with pytest.raises(SandboxError):
                action()
        backend.shut_down()  # nothing is there to be stopped, and nothing is raised
