"""What dead runs leave in a Docker daemon is found and removed, and nothing of the living is touched."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from docker_daemon import private_daemon, tiny_root
from needs import require

from pivotgym.envs.sandbox import SandboxConfig, SandboxError, SandboxUnavailable
from pivotgym.envs.sandbox.docker import DockerBackend
from pivotgym.envs.sandbox.docker_api import is_missing, is_orphan, labels

require("docker", "docker")

RUN = """
import sys, time
from pivotgym.envs.sandbox import SandboxConfig
from pivotgym.envs.sandbox.docker import DockerBackend
backend, live = DockerBackend(warm=0), []
config = SandboxConfig(image=sys.argv[2])
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
from pivotgym.envs.sandbox.docker_api import labels
print(labels()["pivotgym.owner"], flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a daemon that no other test uses: its clean-up would count what these leave."""
    folder = tmp_path_factory.mktemp("daemon")
    with private_daemon(folder) as (address, _):
        yield address


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_root(tmp_path_factory.mktemp("image") / "root"))


@pytest.fixture
def docker(daemon: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[DockerBackend]:
    monkeypatch.setenv("DOCKER_HOST", daemon)
    backend = DockerBackend(warm=0)
    yield backend
    backend.shut_down()


@pytest.fixture
def killed(docker: DockerBackend, image: str) -> str:
    """The owner label of a run that was killed with ten live sandboxes."""
    run = subprocess.Popen([sys.executable, "-c", RUN, "10", image], stdout=subprocess.PIPE, text=True)
    try:
        assert run.stdout is not None
        owner = run.stdout.readline().strip()
        assert owner.split(":")[1] == str(run.pid)
        return owner
    finally:
        run.kill()
        run.wait()


def left(docker: DockerBackend, owner: str) -> tuple[int, int]:
    """Containers and images of an owner."""
    mine = {"label": f"pivotgym.owner={owner}"}
    return len(docker.client.containers(all=True, filters=mine)), len(docker.client.images(filters=mine, all=True))


def assert_nothing_left(docker: DockerBackend, owner: str) -> None:
    """The daemon may still be at what it was asked to remove."""
    until = time.monotonic() + 30
    while left(docker, owner) != (0, 0) and time.monotonic() < until:
        time.sleep(0.1)
    assert left(docker, owner) == (0, 0)


def test_a_killed_run_leaves_nothing_after_the_next_start(docker: DockerBackend, killed: str, image: str) -> None:
    containers, images = left(docker, killed)
    assert containers >= 11 and images >= 4
    box = docker.start(SandboxConfig(image=image))
    box.run("echo mine > /root/mine")
    snapshot = box.snapshot()
    assert snapshot is not None
    second = DockerBackend(warm=0)  # the next start
    assert_nothing_left(docker, killed)
    # What lives is as it was.
    assert box.run("cat /root/mine").output == "mine\n"
    fork = second.load(snapshot)
    assert fork.run("cat /root/mine").output == "mine\n"
    fork.stop()
    second.shut_down()
    box.stop()
    docker.close(snapshot)
    until = time.monotonic() + 30
    while docker.client.containers(all=True) and time.monotonic() < until:
        time.sleep(0.1)
    assert docker.client.containers(all=True) == []


def test_clean_counts_what_it_removes(docker: DockerBackend, killed: str) -> None:
    found = left(docker, killed)
    cleaned = docker.clean()
    assert (cleaned.containers, cleaned.images) == found and not cleaned.notes
    assert_nothing_left(docker, killed)
    again = docker.clean()
    assert (again.containers, again.images) == (0, 0)


SWEEP = """
import sys
from pivotgym.envs.sandbox.docker_api import connect
from pivotgym.envs.sandbox.docker_clean import sweep
client = connect()
print("ready", flush=True)
sys.stdin.readline()
done = sweep(client)
print(done.images)
"""


def test_runs_that_start_together_clean_up_together(docker: DockerBackend, killed: str) -> None:
    """Whatever one of them finds gone already is as good as removed."""
    assert min(left(docker, killed)) > 0
    sweeps = [
        subprocess.Popen([sys.executable, "-c", SWEEP], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for one in sweeps:
        assert one.stdout is not None and one.stdout.readline() == "ready\n"
    ends = [one.communicate("\n", timeout=120)[0] for one in sweeps]
    assert [one.returncode for one in sweeps] == [0] * 4
    assert_nothing_left(docker, killed)
    assert any(int(number) for number in ends)


def test_a_run_that_ends_leaves_nothing(docker: DockerBackend, image: str) -> None:
    code = RUN.replace("time.sleep(600)", "")
    ended = subprocess.run([sys.executable, "-c", code, "3", image], capture_output=True, text=True, check=True)
    assert_nothing_left(docker, ended.stdout.strip())


@pytest.mark.parametrize(
    ("status", "said", "missing"),
    [
        (404, "No such image: sha256:79b7", True),
        (500, "unrecognized image ID sha256:79b7", True),  # another process removed it while the daemon looked
        (500, "removal in progress", False),
        (409, "conflict: unable to delete 79b7 (cannot be forced)", False),
    ],
)
def test_what_is_gone_already(status: int, said: str, missing: bool) -> None:
    from docker.errors import APIError

    response = requests.Response()
    response.status_code = status
    assert is_missing(APIError("no", response=response, explanation=said)) is missing


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
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, image: str
) -> None:
    with private_daemon(tmp_path_factory.mktemp("daemon")) as (address, process):
        monkeypatch.setenv("DOCKER_HOST", address)
        backend = DockerBackend(warm=0)
        box = backend.start(SandboxConfig(image=image))
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


# Images of tasks ------------------------------------------------------------------------------------------------------

BUILD = """
import sys
from pathlib import Path
from pivotgym.envs.sandbox.docker_api import labels
from pivotgym.envs.terminal.terminal_bench_folders import Folder, Plan
from pivotgym.envs.terminal.terminal_bench_images import build_image
folder = Path(sys.argv[1])
print(labels()["pivotgym.owner"], flush=True)
plan = Plan(generation=1, tests="", test_seconds=1)
print(build_image(Folder(folder, "", plan, folder / "Dockerfile", folder)).name, flush=True)
"""


@pytest.fixture
def base(docker: DockerBackend, image: str) -> Iterator[str]:
    """The name of an image that is nobody's here."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(image, arcname=".")
    docker.client.import_image_from_data(packed.getvalue(), repository="tiny")
    yield "tiny"
    docker.client.remove_image("tiny", force=True)


def builder(folder: Path, dockerfile: str) -> subprocess.Popen[str]:
    """A process that builds a task's image and says its owner label and the image's name."""
    folder.mkdir()
    (folder / "Dockerfile").write_text(dockerfile)
    return subprocess.Popen([sys.executable, "-c", BUILD, str(folder)], stdout=subprocess.PIPE, text=True)


def test_a_killed_build_leaves_nothing_after_the_next_start(docker: DockerBackend, base: str, tmp_path: Path) -> None:
    steps = f"# of a task\nFROM {base} AS first\nRUN echo 1 > /one\nFROM \\\n  {base}\nCOPY --from=first /one /\n"
    run = builder(tmp_path / "task", f"{steps}RUN echo 2 > /two\nRUN sleep 600\n")
    try:
        assert run.stdout is not None
        owner = run.stdout.readline().strip()
        until = time.monotonic() + 120
        mine = {"label": f"pivotgym.owner={owner}"}
        while not any("sleep 600" in one["Command"] for one in docker.client.containers(filters=mine)):
            assert time.monotonic() < until and run.poll() is None
            time.sleep(0.1)
        assert left(docker, owner)[1] >= 3
    finally:
        run.kill()
        run.wait()
    DockerBackend(warm=0).shut_down()
    assert_nothing_left(docker, owner)
    assert {name for found in docker.client.images(all=True) for name in found["RepoTags"] or ()} == {"tiny:latest"}


def test_a_finished_image_waits_for_clean(docker: DockerBackend, base: str, tmp_path: Path) -> None:
    run = builder(tmp_path / "task", f"FROM {base}\nRUN echo 1 > /one\nENV WORD=said\n")
    owner, name = run.communicate(timeout=120)[0].split()
    assert run.returncode == 0
    DockerBackend(warm=0).shut_down()
    # The next run uses it, and what it makes of it is its own: no snapshot is kept as the image is.
    code = RUN.replace("time.sleep(600)", "import os; os._exit(0)")
    used = subprocess.run([sys.executable, "-c", code, "3", name], capture_output=True, text=True, check=True)
    assert left(docker, used.stdout.strip())[1] >= 2
    box = docker.start(SandboxConfig(image=name))
    assert box.run("cat /one").output == "1\n"
    DockerBackend(warm=0).shut_down()
    assert_nothing_left(docker, used.stdout.strip())
    box.stop()
    assert docker.client.inspect_image(name)
    cleaned = docker.clean()
    assert cleaned.images >= 1 and cleaned.notes == []
    assert_nothing_left(docker, owner)
