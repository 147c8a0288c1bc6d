"""What is Docker's own: confinement, images, deep histories, ways to kill, files the daemon makes."""

from __future__ import annotations

import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from docker_daemon import tiny_root
from needs import require
from sandboxes import taken

from pivotgym.envs.errors import BadInput
from pivotgym.envs.sandbox import (
    Limits,
    Sandbox,
    SandboxConfig,
    Snapshot,
    docker_container,
    docker_images,
)
from pivotgym.envs.sandbox.docker import DEFAULT_IMAGE, DockerBackend
from pivotgym.envs.sandbox.docker_changes import Differ
from pivotgym.envs.sandbox.docker_clean import listed
from pivotgym.envs.sandbox.docker_host_view import HostView
from pivotgym.envs.sandbox.docker_sandbox import DockerSandbox, DockerState

require("docker", "docker")

Start = Callable[..., DockerSandbox]


@pytest.fixture
def config() -> SandboxConfig:
    return SandboxConfig(image=DEFAULT_IMAGE)


@pytest.fixture
def start(docker: DockerBackend, config: SandboxConfig) -> Iterator[Start]:
    begun: list[Sandbox] = []

    def begin(snapshot: Snapshot | None = None, **changes: object) -> Sandbox:
        changed = config.model_copy(update=changes)
        box = docker.start(changed) if snapshot is None else docker.load(snapshot, config=changed if changes else None)
        begun.append(box)
        return box

    yield begin  # type: ignore[misc]
    for box in begun:
        box.stop()


def said(box: Sandbox, command: str, **options: float) -> str:
    result = box.run(command, **options)
    assert result.ending == "exit", result
    return result.output


# Confinement ----------------------------------------------------------------------------------------------------------


def test_no_network_and_nothing_of_the_host(start: Start, tmp_path: Path) -> None:
    box = start()
    assert said(box, "ls /sys/class/net") == "lo\n"
    for address in ("169.254.169.254", "172.17.0.1", "8.8.8.8"):
        result = box.run(f"timeout 5 bash -c 'exec 3<>/dev/tcp/{address}/80'")
        assert result.status == 1 and "unreachable" in result.output
    assert said(box, "cat /etc/resolv.conf") == "nameserver 127.0.0.1\n"
    assert said(box, "ls /var/run/docker.sock /run/docker.sock 2>&1 | grep -c 'No such'") == "2\n"
    (tmp_path / "secret").write_text("of this machine")
    assert box.run(f"cat {tmp_path}/secret").status == 1
    names = set(said(box, "env | cut -d= -f1").split())
    assert names <= {
        "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TERM", "HOSTNAME", "PWD", "OLDPWD", "SHLVL", "_",
    }  # fmt: skip


def test_root_inside_has_no_power_over_the_kernel(start: Start) -> None:
    box = start()
    held = int(said(box, "grep CapEff /proc/self/status").split()[1], 16)
    # By number: chown 0, dac_override 1, fowner 3, fsetid 4, kill 5, setgid 6, setuid 7.
    assert held == sum(1 << number for number in (0, 1, 3, 4, 5, 6, 7))
    assert said(box, "grep -E 'NoNewPrivs|Seccomp:' /proc/self/status").split() == ["NoNewPrivs:", "1", "Seccomp:", "2"]
    for command in (
        "mknod /tmp/disk b 254 0",
        "mount -t tmpfs none /mnt",
        "unshare --user true",
        "chroot / true",
        "echo 1 > /proc/sys/kernel/panic",
        "date -s 2001-01-01",
    ):
        assert box.run(command).status not in (0, None), command


def test_an_ordinary_user(start: Start) -> None:
    box = start(user="agent", workdir="/home/agent/work")
    assert said(box, "id -un; pwd; echo $HOME; stat -c %U .") == "agent\n/home/agent/work\n/home/agent\nagent\n"
    assert box.run("touch /etc/x").status == 1
    assert "CapEff:\t0000000000000000" in said(box, "cat /proc/self/status")
    box.write_file("/home/agent/deep/file", b"x")
    assert said(box, "stat -c '%U %a' ~/deep/file; rm -r ~/deep; echo $?") == "agent 644\n0\n"


def test_limits(start: Start) -> None:
    limits = Limits(memory_bytes=96 << 20, processes=40, file_bytes=1 << 20, open_files=64, disk_bytes=24 << 20)
    box = start(limits=limits)
    assert box.run("head -c 2000000 /dev/zero > /tmp/big").status != 0
    assert int(said(box, "stat -c %s /tmp/big")) == 1 << 20
    assert said(box, "ulimit -n") == "64\n"
    # One process alone gets no more memory; several together are stopped.
    assert "MemoryError" in said(box, "python3 -c 'x = bytearray(200 << 20)'; true")
    hog = "for i in 1 2 3 4; do python3 -c 'import time; x = bytearray(60 << 20); time.sleep(20)' & done; wait"
    result = box.run(hog, timeout=30)
    assert (result.ending, result.status) == ("memory", None)
    assert said(box, "echo fine; cat /proc/[0-9]*/comm").count("python3") == 0
    result = box.run("for i in $(seq 100); do head -c 1000000 /dev/zero > /tmp/f$i; done; sleep 20", timeout=60)
    assert result.ending == "disk"
    assert said(box, "rm /tmp/f*; echo fine") == "fine\n"
    result = box.run(":(){ :|:& };:; sleep 30", timeout=1.5)
    assert result.ending in ("timeout", "exit")
    assert said(box, "echo fine") == "fine\n"


def test_little_memory_is_kept_from_commands_and_not_from_the_runtime(start: Start) -> None:
    # The runtime starts every process of a container under the container's own limits, and needs more than this.
    for _ in range(5):
        box = start(limits=Limits(memory_bytes=32 << 20))
        assert said(box, "ulimit -Hd; ulimit -Sd") == "32768\n32768\n"
        assert "MemoryError" in said(box, "python3 -c 'x = bytearray(40 << 20)'; true")
        assert box.run("ulimit -d 65536").status == 1


FILLERS = {
    "nameless": """python3 -c '
import os, signal
for i in range(1000):
    file = os.open("/tmp/x", os.O_CREAT | os.O_WRONLY)
    os.unlink("/tmp/x")
    os.write(file, b"x" * (1 << 20))
signal.pause()'""",
    "empty": """python3 -c '
import itertools, os
os.mkdir("/tmp/d")
for i in itertools.count():
    os.close(os.open(f"/tmp/d/{i}", os.O_CREAT | os.O_WRONLY))'""",
    "deep": """python3 -c '
import os
for i in range(300):
    os.mkdir("d" * 200); os.chdir("d" * 200)
for i in range(1000):
    open(f"x{i}", "wb").write(b"x" * (1 << 20))
import signal; signal.pause()'""",
}


@pytest.mark.parametrize("filler", FILLERS)
def test_filling_the_disk_in_odd_ways(start: Start, filler: str) -> None:
    box = start(limits=Limits(disk_bytes=16 << 20))
    assert box.run(FILLERS[filler], timeout=30).ending == "disk"
    assert said(box, "rm -rf /tmp/* && echo fine") == "fine\n"


def test_filling_the_disk_between_commands(start: Start) -> None:
    box = start(limits=Limits(disk_bytes=16 << 20))
    said(box, "(for i in {1..1000}; do head -c 1M /dev/zero > /tmp/x$i; sleep 0.05; done) 2> /dev/null & disown")
    time.sleep(5)
    assert 16 <= int(said(box, "du -sm /tmp | cut -f1")) < 64
    assert "head" not in said(box, "sleep 0.2; cat /proc/[0-9]*/comm")


def test_a_sandbox_survives_the_death_of_all_its_processes(start: Start, docker: DockerBackend) -> None:
    box = start()
    box.run("x=1; cd /tmp; echo kept > file")
    docker.client.kill(box._container.id)  # as if the first process had been killed
    assert box.run("echo never").ending == "shell_killed"
    assert said(box, "pwd; echo $x; cat file") == "/tmp\n1\nkept\n"


@pytest.mark.parametrize("where", ["elsewhere", "not root"])
def test_killing_without_being_root_beside_the_daemon(
    start: Start, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    if where == "elsewhere":
        monkeypatch.setattr(docker_container.HostView, "of", classmethod(lambda *_: None))
    else:
        monkeypatch.setattr(HostView, "send", refuse)
    box = start(hostname=f"other-{where.replace(' ', '-')}")  # none from the pool
    box.run("x=1; cd /tmp; echo kept > file")
    result = box.run("echo begun; sleep 100 & sleep 100", timeout=2.0)
    assert (result.output, result.ending) == ("begun\n", "timeout")
    assert said(box, "pwd; echo $x; cat file; cat /proc/[0-9]*/comm | grep -c sleep") == "/tmp\n1\nkept\n0\n"
    box.run("sleep 77 &")
    assert box.snapshot() is None and "background process" in box.incomplete
    snapshot = box.snapshot(live=True)
    assert snapshot is not None
    assert said(start(snapshot), "cat /tmp/file") == "kept\n"


# Snapshots ------------------------------------------------------------------------------------------------------------


def test_files_the_daemon_makes_travel_too(start: Start, docker: DockerBackend) -> None:
    box = start()
    before = taken(box)
    said(box, "echo 127.0.0.1 added >> /etc/hosts")
    after = taken(box)
    fork = start(after)
    assert said(fork, "tail -n 1 /etc/hosts") == "127.0.0.1 added\n"
    assert said(start(taken(fork)), "tail -n 1 /etc/hosts") == "127.0.0.1 added\n"
    assert said(start(before), "grep -c added /etc/hosts || true") == "0\n"
    assert [change.path for change in docker.changes(before, after)] == ["/etc/hosts"]


def test_images_live_as_long_as_somebody_holds_them(start: Start, docker: DockerBackend) -> None:
    def images() -> set[str]:
        found = listed(docker.client.images, filters={"label": "pivotgym=1"})
        return {tag for image in found for tag in image["RepoTags"] or ()}

    box = start()
    said(box, "echo 1 > /tmp/a")
    first = taken(box)
    assert isinstance(first.payload, DockerState)
    name = first.payload.image.tag
    fork = start(first)
    said(fork, "echo 2 > /tmp/a")
    second = taken(fork)
    docker.close(first)
    docker.close(first)
    box.stop()
    assert name in images()  # the second is made from it
    assert said(start(second), "cat /tmp/a") == "2\n"
    with pytest.raises(BadInput, match="closed"):
        docker.load(first)
    third = taken(fork)
    assert third.payload == second.payload and third.nbytes == 0


@pytest.fixture
def few_layers(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(docker_images, "MAX_LAYERS", 4)
    return 4


def test_a_chain_of_forks_stays_short(start: Start, docker: DockerBackend, few_layers: int) -> None:
    box, kept = start(), []
    for turn in range(7):
        said(box, f"echo {turn} >> /root/log; rm -f /root/only-{turn - 1}; touch /root/only-{turn}; turns={turn}")
        kept.append(taken(box))
        box.stop()
        box = start(kept[-1])
    for turn, snapshot in enumerate(kept):
        assert isinstance(snapshot.payload, DockerState)
        assert len(snapshot.payload.image.layers) <= few_layers
        found = said(
            start(snapshot), "cat /root/log | wc -l; ls /root; echo $turns; echo $PATH; stat -c %U /home/agent"
        )
        assert found == (
            f"{turn + 1}\nlog\nonly-{turn}\n{turn}\n"
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nagent\n"
        )
    # Over a flattened image nothing is shared, and yet only what differs is named.
    paths = [change.path for change in docker.changes(kept[2], kept[5])]
    assert paths == ["/root/log", "/root/only-2", "/root/only-5"]


def test_large_files_are_committed_once(start: Start) -> None:
    box = start()
    said(box, "head -c 40000000 /dev/urandom > /root/large; x=1; cd /tmp")
    assert taken(box).nbytes >= 40_000_000
    said(box, "echo small > /root/small")
    later = taken(box)
    assert later.nbytes < 1_000_000
    assert said(start(later), "stat -c %s /root/large; cat /root/small; echo $x; pwd") == "40000000\nsmall\n1\n/tmp\n"


@pytest.mark.slow
def test_turn_300_is_restored_as_fast_as_turn_1(start: Start, docker: DockerBackend) -> None:
    box, kept = start(), []
    for turn in range(300):
        said(box, f"echo {turn} >> /root/log; echo {turn} > /root/file-{turn}")
        kept.append(taken(box))

    def seconds(snapshot: Snapshot) -> float:
        times = []
        for _ in range(5):
            began = time.perf_counter()
            fork = docker.load(snapshot)
            fork.run("true")
            times.append(time.perf_counter() - began)
            fork.stop()
        return sorted(times)[2]

    assert said(start(kept[299]), "wc -l < /root/log") == "300\n"
    assert seconds(kept[299]) < 1.5 * seconds(kept[0]) + 0.1
    for snapshot in kept:
        docker.close(snapshot)


# Differences ----------------------------------------------------------------------------------------------------------


def test_a_change_that_hides_its_time_is_seen(start: Start, docker: DockerBackend) -> None:
    box = start()
    said(box, "mkdir /srv/d; echo one > /srv/d/file; touch /srv/d/other")
    before = taken(box)
    said(box, "touch -r /srv/d/file /tmp/time; echo two > /srv/d/file; touch -r /tmp/time /srv/d/file; rm /tmp/time")
    after = taken(box)
    assert [change.path for change in docker.changes(before, after)] == ["/srv/d/file"]


def test_both_ways_to_compare_agree(start: Start, docker: DockerBackend) -> None:
    box = start()
    said(box, "mkdir -p /srv/a/b; cd /srv; echo 1 > a/x; echo 1 > a/b/y; ln -s x a/l; echo h > h1; ln h1 h2")
    before = box.snapshot(live=True)  # names of one file travel apart
    said(
        box,
        "rm -r a/b; mkdir a/b; echo 2 > a/b/z; rm a/l; mkdir a/l; rm -r /usr/share/perl; chown agent a; chmod 4755 a/x;"
        " mkfifo p; echo 2 > h1; touch $'odd\\nname'; rm -r /opt; echo file > /opt; mkdir -p n/e/w; ln -s /etc n/link",
    )
    after = box.snapshot(live=True)
    assert before is not None and after is not None
    one, two = before.payload, after.payload
    assert isinstance(one, DockerState) and isinstance(two, DockerState)
    fast = docker.changes(before, after)
    slow = Differ(docker.client, look_at_layers=False).compare(one.image.id, two.image.id)
    assert fast == slow
    assert {change.path: (change.before, change.kind) for change in fast} == {
        "/opt": ("directory", "file"),
        "/srv/a": ("directory", "directory"),
        "/srv/a/b/y": ("file", "absent"),
        "/srv/a/b/z": ("absent", "file"),
        "/srv/a/l": ("link", "directory"),
        "/srv/a/x": ("file", "file"),
        "/srv/h1": ("file", "file"),
        "/srv/h2": ("file", "file"),
        "/srv/n": ("absent", "directory"),
        "/srv/n/e": ("absent", "directory"),
        "/srv/n/e/w": ("absent", "directory"),
        "/srv/n/link": ("absent", "link"),
        "/srv/odd\nname": ("absent", "file"),
        "/srv/p": ("absent", "fifo"),
        "/usr/share/perl": ("directory", "absent"),
    }


# Images ---------------------------------------------------------------------------------------------------------------


def test_a_folder_or_an_archive_as_image(start: Start, tmp_path: Path) -> None:
    root = tiny_root(tmp_path / "root")
    with tarfile.open(tmp_path / "root.tar", "w") as archive:
        archive.add(root, arcname=".")
    for image in (root, tmp_path / "root.tar"):
        box = start(image=str(image), user="worker", workdir="/home/worker")
        assert said(box, "echo $HOME; pwd; id -u") == "/home/worker\n/home/worker\n500\n"
    with pytest.raises(BadInput, match="no root file system"):
        start(image=str(tmp_path))


def test_images_that_are_none(start: Start) -> None:
    for image in ("no-such-image", "Not A Name", "host"):
        with pytest.raises(BadInput, match=image):
            start(image=image)
    with pytest.raises(BadInput, match="nobody-knows"):
        start(user="nobody-knows")


def test_a_volume_of_the_image_is_in_the_snapshot(start: Start, docker: DockerBackend) -> None:
    client = docker.client
    made = client.create_container(DEFAULT_IMAGE, ["true"])["Id"]
    client.commit(made, repository="pivotgym-test-volume", changes=["VOLUME /data", "ENV WORD='two words'"])
    client.remove_container(made)
    try:
        box = start(image="pivotgym-test-volume")
        said(box, "echo 1 > /data/x")
        assert said(start(taken(box)), "cat /data/x; printenv WORD") == "1\ntwo words\n"
    finally:
        client.remove_image("pivotgym-test-volume", force=True)


# Speed ----------------------------------------------------------------------------------------------------------------


def test_a_warm_container_is_ready_for_the_third_start(docker: DockerBackend) -> None:
    backend = DockerBackend(warm=1)
    config = SandboxConfig(image=DEFAULT_IMAGE, hostname="warm")
    try:
        for _ in range(2):
            backend.start(config).stop()
        until = time.monotonic() + 30
        while not backend._pool._ready and time.monotonic() < until:
            time.sleep(0.05)
        (ready,) = backend._pool._ready
        box = backend.start(config)
        assert isinstance(box, DockerSandbox) and box._container is ready
        assert said(box, "hostname") == "warm\n"
    finally:
        backend.shut_down()
    assert not docker.client.containers(all=True, filters={"id": ready.id})
