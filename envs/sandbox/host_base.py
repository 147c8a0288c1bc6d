"""Root file systems that bubblewrap sandboxes stand on: this machine's programs, a folder, an unpacked archive."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from pivotgym.envs.errors import BadInput
from pivotgym.envs.sandbox.base import SandboxError
from pivotgym.envs.sandbox.host_usr import hidden_parts, make_usr, shown_python
from pivotgym.envs.sandbox.layers import remove_tree

_MADE_AT = 1_704_067_200
"""Times of what is made here, 2024-01-01: the same listing on every machine."""
_VERSION = "5"
"""Goes up when the made folders change."""
Base = tuple[str, tuple[str, ...]]
"""What one mount stands on: its place inside, and folders here, the one that lies on top first."""

_SHARED_ETC = (
    "alternatives",
    "bash.bashrc",
    "bash_completion",
    "debian_version",
    "inputrc",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "login.defs",
    "magic",
    "mime.types",
    "nanorc",
    "os-release",
    "perl",
    "profile",
    "protocols",
    "python3",
    "python3.11",
    "python3.12",
    "python3.13",
    "rpc",
    "services",
    "shells",
    "skel",
    "terminfo",
    "vim",
)
"""What programs read of ``/etc`` and holds no secret. Everything else of it is made here or missing."""

_ETC = {
    "passwd": (
        "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
        "bin:x:2:2:bin:/bin:/usr/sbin/nologin\nwww-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n"
        "user:x:1000:1000:user:/home/user:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    ),
    "group": (
        "root:x:0:\ndaemon:x:1:\nbin:x:2:\nadm:x:4:\ntty:x:5:\nwww-data:x:33:\nstaff:x:50:\nusers:x:100:\n"
        "user:x:1000:\nnogroup:x:65534:\n"
    ),
    "hosts": "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    "resolv.conf": "",
    "timezone": "Etc/UTC\n",
}
_FOLDERS = {
    "dev": 0o755,
    "etc": 0o755,
    "home": 0o755,
    "home/user": 0o755,
    "mnt": 0o755,
    "opt": 0o755,
    "proc": 0o555,
    "root": 0o700,
    "run": 0o755,
    "srv": 0o755,
    "sys": 0o555,
    "tmp": 0o1777,
    "usr": 0o755,
    "var": 0o755,
    "var/cache": 0o755,
    "var/lib": 0o755,
    "var/log": 0o755,
    "var/mail": 0o755,
    "var/spool": 0o755,
    "var/tmp": 0o1777,
    "var/www": 0o755,
}


def host_mounts(state: Path, owner: int | None) -> list[Base]:
    """The base of ``host``: a small root folder made here, and this machine's ``/usr`` without what is the site's.

    Args:
        state: folder that keeps made bases.
        owner: whose the files are outside; None for oneself.

    Returns:
        One base a mount.
    """
    hidden, python = hidden_parts(), shown_python()
    # What is hidden differs between installations of this package.
    mark = f"{owner} {[str(path) for path in hidden]} {python} {sys.version}"
    made = state / f"host-{_VERSION}-{hashlib.sha256(mark.encode()).hexdigest()[:6]}"
    with _made_once(made) as folder:
        if folder is not None:
            (folder / "root").mkdir(mode=0o755)
            _make_host_root(folder / "root", owner)
            _make_usr(folder / "usr", hidden, python, owner)
    return [("/", (f"{made}/root",)), ("/usr", (f"{made}/usr", "/usr"))]


def image_mounts(state: Path, image: str, owner: int | None) -> list[Base]:
    """The base of a root folder or a tar archive of one (as ``docker export`` writes it).

    A folder is used as it is when it belongs to whom the sandbox's root is outside; for root, whose sandboxes' users
    are others outside, a copy with their numbers is made once, as it is for an archive.

    Raises:
        BadInput: neither, or no root file system in it.
    """
    path = Path(image).expanduser()
    if not path.exists():
        raise BadInput(f"no folder or archive {image!r} (bubblewrap runs 'host', a root folder or a tar of one)")
    status = path.stat()
    if path.is_dir():
        if not (path / "bin").exists() or not ((path / "usr").is_dir() or (path / "etc").is_dir()):
            raise BadInput("no root file system: it has no /bin", file=path)
        if owner is None or status.st_uid == owner:
            return [("/", (str(path),))]
    elif not tarfile.is_tarfile(path):
        raise BadInput("neither a folder nor a tar archive", file=path)
    mark = f"{path.resolve()} {status.st_mtime_ns} {status.st_size} {_VERSION} {owner}"
    name = f"image-{hashlib.sha256(mark.encode()).hexdigest()[:16]}"
    with _made_once(state / name) as folder:
        if folder is not None:
            _unpack(path, folder)
            _settle(folder, owner)
            if not (folder / "bin").exists():
                raise BadInput("no root file system: it has no /bin", file=path)
    return [("/", (str(state / name),))]


@contextlib.contextmanager
def _made_once(target: Path) -> Iterator[Path | None]:
    """Yields a folder to fill, which becomes ``target``; None where that is there. Several processes take turns."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{target}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.exists():
            yield None
            return
        making = Path(f"{target}.making")
        remove_tree(making)
        making.mkdir(mode=0o755)
        making.chmod(0o755)
        try:
            yield making
            making.rename(target)
        except OSError as error:
            raise SandboxError(f"a base for sandboxes cannot be made: {error}") from error


def _make_host_root(folder: Path, owner: int | None) -> None:
    for name, mode in _FOLDERS.items():
        (folder / name).mkdir(exist_ok=True)
        (folder / name).chmod(mode)
    (folder / "var/run").symlink_to("/run")
    (folder / "var/lock").symlink_to("/run/lock")
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        here = Path("/", name)
        if here.is_symlink():
            (folder / name).symlink_to(here.readlink())
        elif here.is_dir():
            raise SandboxError(
                f"/{name} is a folder of its own: 'host' needs a merged /usr; give a root folder as image"
            )
    for name in _SHARED_ETC:
        source, made = Path("/etc", name), folder / "etc" / name
        if source.is_dir() and not source.is_symlink():
            shutil.copytree(source, made, symlinks=True, ignore_dangling_symlinks=True)
        elif source.exists():
            shutil.copy2(source, made, follow_symlinks=False)
    for name, text in _ETC.items():
        made = folder / "etc" / name
        made.unlink(missing_ok=True)
        made.write_text(text)
        made.chmod(0o644)
    (folder / "etc/ssl").mkdir()
    if Path("/etc/ssl/openssl.cnf").is_file():
        shutil.copy2("/etc/ssl/openssl.cnf", folder / "etc/ssl/openssl.cnf")
    (folder / "etc/localtime").symlink_to("/usr/share/zoneinfo/Etc/UTC")
    (folder / "etc/mtab").symlink_to("/proc/self/mounts")
    _settle(folder, owner, shift=False)
    if owner is not None:
        for name in ("", "/user"):
            os.chown(f"{folder}/home{name}", *(2 * [owner + (1000 if name else 0)]))
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (_MADE_AT, _MADE_AT), follow_symlinks=False)


def _make_usr(folder: Path, hidden: Sequence[Path], python: Path | None, owner: int | None) -> None:
    made = make_usr(folder, hidden, python)
    _settle(folder, owner, shift=False)
    for path in made:  # a Python's files keep theirs
        os.utime(path, (_MADE_AT, _MADE_AT))


def _unpack(source: Path, folder: Path) -> None:
    if source.is_dir():
        # Through tar: numbers of users, links, sparse files and times stay what they are.
        command = (
            f'tar -C "$1" --one-file-system --numeric-owner -cf - . | tar -C "$2" --numeric-owner -xpf - {_EXCLUDED}'
        )
    else:
        command = f'tar -C "$2" --numeric-owner -xpf "$1" {_EXCLUDED}'
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command, "unpack", source, folder], capture_output=True, text=True
    )
    if done.returncode:
        raise BadInput(f"cannot be unpacked: {done.stderr.strip()[-500:]}", file=source)
    for name in ("proc", "sys", "dev", "tmp"):
        if not (folder / name).exists():
            (folder / name).mkdir()


_EXCLUDED = "--exclude='./dev/*' --exclude='dev/*' --exclude='./proc/*' --exclude='./sys/*'"


def _settle(folder: Path, owner: int | None, *, shift: bool = True) -> None:
    """Gives everything to the sandbox's users and drops device nodes."""
    for path, folders, files in os.walk(folder, topdown=False):
        for name in [*folders, *files]:
            item = os.path.join(path, name)  # noqa: PTH118 (a root file system has many)
            status = os.lstat(item)
            if stat.S_ISBLK(status.st_mode) or stat.S_ISCHR(status.st_mode):
                os.unlink(item)  # noqa: PTH108
            elif owner is not None:
                user, group = (status.st_uid, status.st_gid) if shift else (0, 0)
                os.lchown(item, owner + user % 65536, owner + group % 65536)
                if not stat.S_ISLNK(status.st_mode):
                    os.chmod(item, stat.S_IMODE(status.st_mode))  # noqa: PTH101 (a change of owner drops setuid)
    if owner is not None:
        os.chown(folder, owner, owner)


def user_number(mounts: list[Base], user: str | int) -> tuple[int, str]:
    """A user's number and home folder inside, by the base's ``/etc/passwd``. Raises BadInput for an unknown name."""
    entries = []
    with contextlib.suppress(OSError):
        path = Path(mounts[0][1][0], "etc/passwd")
        if not path.is_symlink():
            entries = [
                line.split(":") for line in path.read_text(errors="replace").splitlines() if line.count(":") == 6
            ]
    if isinstance(user, int) or user.isdecimal():
        number = int(user)
        home = next((entry[5] for entry in entries if entry[2] == str(number)), "/root" if number == 0 else "/")
        if not 0 <= number < 65535:
            raise BadInput(f"user {number} is not below 65535", field="user")
        return number, home
    if user == "root":
        return 0, "/root"
    found = next((entry for entry in entries if entry[0] == user), None)
    if found is None:
        raise BadInput(f"no user {user!r} in the image's /etc/passwd", field="user")
    return int(found[2]), found[5]
