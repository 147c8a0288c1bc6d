"""Where repositories come from: local clones and git URLs, read without trusting them.

Of a local clone only its objects, its ``shallow`` file and the names of its tags and branches are read, by a repository
of our own that borrows its objects: none of its configuration, hooks or attributes reaches git. A URL is fetched over
git's own transports only, into a repository of our own, which is kept for the next commit of the same URL.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from pivotgym.envs.errors import BadInput, NotRestorable
from pivotgym.envs.sandbox.layers import remove_tree
from pivotgym.envs.sandbox.runs import state_folder

FETCH_SECONDS = 1800.0
"""What one git command may take."""
CACHE_BYTES = 4 << 30
"""What the cache on disk may hold, of archives and of fetched repositories; what was not used longest goes first."""
_TRANSPORTS = "git:http:https:ssh"
_URL = re.compile(r"(?:https?|git|ssh)://[^\s\0-]|[A-Za-z0-9_][\w.-]*@[A-Za-z0-9_][\w.-]*:[^\s\0]")
NAME = re.compile(r"(?!-)[^\s\0~^:?*\[\\]+")
"""What may name a commit, a branch or a tag; nothing that git takes for an option or an expression."""
_HEX = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


def run_git(folder: Path, *arguments: str, data: bytes | None = None, env: Mapping[str, str] | None = None) -> bytes:
    """Runs git on a repository of our own, without anybody's configuration.

    Raises:
        NotRestorable: ``no_repository``: it failed, with what it said.
    """
    settings = {
        "core.hooksPath": "/dev/null",
        "core.fsmonitor": "false",
        "core.autocrlf": "false",
        "core.logAllRefUpdates": "false",
        "core.commitGraph": "false",  # a file of the source's that could tell another history
        "core.multiPackIndex": "false",
        "core.compression": "6",
        "pack.threads": "1",  # or the same objects give another pack
        "pack.writeBitmaps": "false",
        "repack.writeBitmaps": "false",
        "protocol.version": "2",
        "fetch.recurseSubmodules": "false",
        "gc.auto": "0",
        "maintenance.auto": "false",
        "safe.directory": "*",
        "advice.detachedHead": "false",
    }
    command = ["git", *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")), *arguments]
    kept = {
        name: os.environ[name] for name in ("PATH", "SSH_AUTH_SOCK", "https_proxy", "http_proxy") if name in os.environ
    }
    environment = {
        **kept,
        "HOME": str(folder),
        "LC_ALL": "C",
        "TZ": "UTC",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
        "GIT_ALLOW_PROTOCOL": _TRANSPORTS,
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_NO_LAZY_FETCH": "1",
        **(env or {}),
    }
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, input=data, capture_output=True, timeout=FETCH_SECONDS, check=False
        )
    except FileNotFoundError:
        raise NotRestorable("no_repository", "git is not installed on this machine") from None
    except subprocess.TimeoutExpired:
        raise NotRestorable("no_repository", f"git {arguments[0]} took over {FETCH_SECONDS:.0f} s") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode("utf-8", "replace").strip()
        raise NotRestorable("no_repository", f"git {arguments[0]}: {said[-600:] or f'status {done.returncode}'}")
    return done.stdout


class Borrowed:
    """A bare repository of our own that uses the source's objects and knows its tags and branches."""

    def __init__(self, path: Path, objects: Path, shallow: str, head: str) -> None:
        self.path, self.objects, self.shallow, self.head = path, objects, shallow, head

    def resolve(self, commit: str) -> str:
        """The full object name. Raises NotRestorable."""
        commit = commit or self.head
        for name in (f"{commit}^{{commit}}", f"refs/remotes/origin/{commit}^{{commit}}"):
            with contextlib.suppress(NotRestorable):
                return run_git(self.path, "rev-parse", "-q", "--verify", name).decode().strip()
        raise NotRestorable("no_repository", f"there is no commit {commit!r} in it")

    def tags_before(self, commit: str) -> dict[str, str]:
        """Tags of the commit and its ancestors, without those annotated later, by name."""
        when = int(run_git(self.path, "show", "-s", "--format=%ct", commit).split()[0])
        form = (
            "%(refname:lstrip=2)%00%(objectname)%00%(*objectname)%00%(objecttype)%00%(*objecttype)%00%(taggerdate:unix)"
        )
        rows = run_git(self.path, "for-each-ref", f"--merged={commit}", f"--format={form}", "refs/tags").decode(
            "utf-8", "surrogateescape"
        )
        found = {}
        for row in rows.splitlines():
            name, direct, peeled, kind, peeled_kind, tagged = row.split("\0")
            if "commit" in (kind, peeled_kind) and int(tagged or 0) <= when:
                found[name] = peeled or direct
        return dict(sorted(found.items()))


@contextlib.contextmanager
def borrowed(source: str, commit: str) -> Iterator[Borrowed]:
    """A repository of our own over the source's objects."""
    if not source or source.startswith("-") or "\0" in source:
        raise BadInput(f"no source of a repository: {source[:80]!r}", field="repository.source")
    # Asked for `file://`, git would run a program in the source, under the source's configuration.
    path = Path(source.removeprefix("file://")).expanduser()
    if path.is_dir():
        git, common = _git_folders(path)
        with _over(git, common) as own:
            yield own
        return
    if not _URL.match(source) or "::" in source.split("/", 1)[0]:
        if re.match(r"[A-Za-z][\w+.-]*:", source):
            known = ", ".join(_TRANSPORTS.split(":"))
            raise BadInput(f"git fetches over {known} only, not {source[:80]!r}", field="repository.source")
        raise NotRestorable("no_repository", f"no folder {source!r} and no URL")
    with _fetched(source, commit) as mirror, _over(mirror, mirror) as own:
        yield own


def _git_folders(path: Path) -> tuple[Path, Path]:
    """The git folder of a clone, a worktree or a bare repository, and the one that has its objects and tags."""
    git = path / ".git"
    if git.is_file():
        text = git.read_text(encoding="utf-8", errors="surrogateescape").strip()
        git = (path / text.removeprefix("gitdir:").strip()).resolve()
    elif not git.is_dir():
        git = path
    common = git
    with contextlib.suppress(OSError):
        common = (git / (git / "commondir").read_text(encoding="utf-8", errors="surrogateescape").strip()).resolve()
    if not (common / "objects").is_dir():
        raise NotRestorable("no_repository", f"{path} is no git repository")
    return git.resolve(), common.resolve()


@contextlib.contextmanager
def _over(git: Path, common: Path) -> Iterator[Borrowed]:
    with tempfile.TemporaryDirectory(prefix="pivotgym-repo-") as name:
        own = Path(name)
        references = _references(git, common)
        sizes = {len(value) for value in references.values()}
        form = "sha256" if sizes == {64} else "sha1"
        run_git(own, "init", "-q", "--bare", "--template=", f"--object-format={form}")
        objects = common / "objects"
        if "\n" in str(objects):
            raise BadInput("a line break in the path of a repository", field="repository.source")
        (own / "objects" / "info").mkdir(parents=True, exist_ok=True)
        (own / "objects" / "info" / "alternates").write_text(f"{objects}\n", encoding="utf-8", errors="surrogateescape")
        shallow = ""
        with contextlib.suppress(FileNotFoundError):
            lines = (common / "shallow").read_text(encoding="ascii", errors="replace").split()
            shallow = "".join(f"{line}\n" for line in sorted(lines) if _HEX.fullmatch(line))
            (own / "shallow").write_text(shallow, encoding="ascii")
        if references:
            rows = "".join(f"{value} {name}\n" for name, value in sorted(references.items()))
            (own / "packed-refs").write_text(
                f"# pack-refs with: sorted \n{rows}", encoding="utf-8", errors="surrogateescape"
            )
        head = ""
        with contextlib.suppress(OSError):
            head = (git / "HEAD").read_text(encoding="utf-8", errors="replace").strip().removeprefix("ref:").strip()
        yield Borrowed(own, objects, shallow, head if NAME.fullmatch(head) else "HEAD")


def _references(git: Path, common: Path) -> dict[str, str]:
    """Tags and branches by their full names, read as text."""
    found: dict[str, str] = {}
    with contextlib.suppress(FileNotFoundError):
        for line in (common / "packed-refs").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
            value, _, name = line.partition(" ")
            if _HEX.fullmatch(value) and _wanted(name):
                found[name] = value
    for folder in ("refs/tags", "refs/heads", "refs/remotes/origin"):
        for path in sorted((common / folder).rglob("*")):
            name = path.relative_to(common).as_posix()
            if path.is_file() and not path.is_symlink() and path.stat().st_size < 200 and _wanted(name):
                value = path.read_text(encoding="ascii", errors="replace").strip()
                if _HEX.fullmatch(value):
                    found[name] = value
    return found


def _wanted(name: str) -> bool:
    plain = name.startswith(("refs/tags/", "refs/heads/", "refs/remotes/origin/")) and NAME.fullmatch(name)
    return bool(plain) and ".." not in name and not name.endswith((".lock", "/", "."))


@contextlib.contextmanager
def _fetched(url: str, commit: str) -> Iterator[Path]:
    """A bare repository of our own that has the commit of a URL; kept for the next commit of the same URL."""
    folder = cache_folder()
    mirror = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.git"
    with (folder / f"{mirror.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (mirror / "HEAD").exists():
            remove_tree(mirror)
            mirror.mkdir()
            run_git(mirror, "init", "-q", "--bare", "--template=")
        if not _has(mirror, commit):
            common = ("fetch", "-q", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--", url)
            everything = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
            # Servers need not give out a commit by its name; one that is on no branch can be had in no other way.
            if _HEX.fullmatch(commit):
                with contextlib.suppress(NotRestorable):
                    run_git(mirror, *common, *everything)
                if not _has(mirror, commit):
                    run_git(mirror, *common, commit)
            else:
                run_git(mirror, *common, *everything)
            _trim(keep=mirror)
        os.utime(mirror)
        yield mirror


def _has(mirror: Path, commit: str) -> bool:
    if not _HEX.fullmatch(commit):
        return False  # a branch may have moved on
    try:
        run_git(mirror, "cat-file", "-e", f"{commit}^{{commit}}")
    except NotRestorable:
        return False
    return True


def cache_folder() -> Path:
    """Where archives and fetched repositories are kept, beside what sandboxes keep. Raises SandboxUnavailable."""
    path = state_folder() / "repositories"
    path.mkdir(exist_ok=True)
    path.chmod(0o700)
    return path


def keep(path: Path, data: bytes) -> None:
    """Writes an archive into the cache; one that cannot be kept is made again next time."""
    if len(data) > CACHE_BYTES // 2:
        return
    with contextlib.suppress(OSError):
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".new-", delete=False) as file:
            file.write(data)
        Path(file.name).replace(path)
        _trim(keep=path)


def _trim(*, keep: Path) -> None:
    """Deletes what was not used longest until the cache is within its bound."""
    sizes: dict[Path, tuple[float, int]] = {}
    for path in keep.parent.iterdir():
        with contextlib.suppress(OSError):
            files = [item for item in path.rglob("*") if item.is_file()] if path.is_dir() else [path]
            sizes[path] = (path.stat().st_mtime, sum(item.stat().st_size for item in files))
    total = sum(size for _, size in sizes.values())
    for path, (_, size) in sorted(sizes.items(), key=lambda item: item[1][0]):
        if total <= CACHE_BYTES:
            return
        if path in (keep, keep.with_name(f"{keep.name}.lock")) or path.suffix == ".lock":
            continue
        with contextlib.suppress(OSError):
            if path.is_dir():
                remove_tree(path)
            else:
                path.unlink()
            total -= size


def local_source(folder: Path, repo: str) -> Path | None:
    """The clone of ``owner/name`` in a folder of clones: ``owner__name``, ``owner/name`` or ``name``; None without."""
    owner, _, name = repo.rpartition("/")
    for candidate in (f"{owner}__{name}" if owner else name, repo, name):
        path = folder / candidate
        if ".." not in Path(candidate).parts and path.is_dir():
            with contextlib.suppress(NotRestorable):
                _git_folders(path)
                return path
    return None
