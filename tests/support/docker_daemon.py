"""A Docker daemon of a test's own, which may be killed, and a root file system small enough to give it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from needs import missing

PROGRAMS = ("bash", "cat", "ls", "sleep", "echo", "mkdir", "touch", "id", "sh")


@contextmanager
def private_daemon(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Starts ``dockerd`` with all it has below ``folder``; its address and its process. Ended and swept on leaving."""
    program = shutil.which("dockerd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None or os.geteuid() != 0:
        missing("dockerd is not installed, or this is not root: apt-get install docker.io")
    address = f"unix://{folder}/docker.sock"
    # In a network of its own: a daemon without a bridge removes the other one's.
    command = [
        "unshare",
        "--net",
        program,
        "-H",
        address,
        "--data-root",
        f"{folder}/data",
        "--exec-root",
        f"{folder}/exec",
    ]
    command += ["--pidfile", f"{folder}/pid", "--bridge=none", "--iptables=false", "--ip-masq=false"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        until = time.monotonic() + 60
        while "API listen on" not in (folder / "log").read_text(errors="replace"):
            if process.poll() is not None or time.monotonic() > until:
                missing(f"a second dockerd does not start here: {(folder / 'log').read_text(errors='replace')[-500:]}")
            time.sleep(0.1)
        yield address, process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _sweep(folder)


def _sweep(folder: Path) -> None:
    """Ends what a killed daemon leaves: its containerd, the shims and their containers, and the mounts."""
    for _ in range(50):
        left = [pid for pid in _pids() if str(folder) in _command(pid) and pid != os.getpid()]
        below = [pid for pid in _pids() if _parent(pid) in left]
        for pid in {*left, *below}:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if not left:
            break
        time.sleep(0.1)
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if f" {folder}/" in line]
    for mount in sorted(mounts, reverse=True):
        subprocess.run(["umount", "-l", mount], check=False)


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""


def _parent(pid: int) -> int | None:
    try:
        found = re.search(r"^PPid:\s+(\d+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found.group(1)) if found else None


def tiny_root(folder: Path) -> Path:
    """A root file system of a few programs of this machine with their libraries."""
    for name in ("bin", "etc", "tmp", "root", "lib64"):
        (folder / name).mkdir(parents=True)
    (folder / "tmp").chmod(0o1777)
    (folder / "etc" / "passwd").write_text(
        "root:x:0:0:root:/root:/bin/bash\nworker:x:500:500::/home/worker:/bin/bash\n"
    )
    (folder / "etc" / "group").write_text("root:x:0:\nworker:x:500:\n")
    for program in PROGRAMS:
        found = shutil.which(program)
        if found is None:
            continue
        shutil.copy(found, folder / "bin" / program)
        listed = subprocess.run(["ldd", found], capture_output=True, text=True, check=False).stdout
        for library in re.findall(r"(/\S+\.so\S*)", listed):
            target = folder / library.lstrip("/")
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(library, target)
    return folder
