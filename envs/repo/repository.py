"""Repositories without a future: a tar of a git repository whose history ends at one commit.

What is built holds the commit and its ancestors, one branch, and tags of ancestors, as plain references: annotations
are dropped, and so is a tag whose annotation is younger than the commit (``setuptools_scm`` needs the others).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import os
import shlex
import shutil
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from pivotgym.envs.errors import BadInput
from pivotgym.envs.repo import blind
from pivotgym.envs.repo.git_sources import NAME, Borrowed, borrowed, cache_folder, keep, run_git
from pivotgym.envs.repo.tasks import RepoTask
from pivotgym.envs.terminal.tasks import Setup

BRANCH = "main"
"""The only branch of a built repository."""
_FORMAT = "3"  # counted up when the same input gives another archive


def blind_archive(source: str, commit: str, *, at: str = "/testbed", patch: str = "", remake: bool = False) -> bytes:
    """A tar of the repository at ``commit`` as if nothing had happened after it; unpacked at ``/`` it stands at ``at``.

    The same source gives the same bytes.

    Args:
        source: a folder (clone, worktree or bare repository) or a URL (``https``, ``http``, ``git``, ``ssh`` or
            ``user@host:path``).
        commit: an object name, abbreviated or not, or a branch or tag of the source; empty means what a folder's HEAD
            is at.
        at: absolute path of the working tree.
        patch: a unified diff to apply; then the result is the only commit, and nothing tells the two apart.
        remake: build it even where the cache has it.

    Raises:
        NotRestorable: ``no_repository``: no such source or commit, or its objects are not complete.
        BadInput: a source or a commit that git would take for something else.
    """
    _check_name(commit)
    with borrowed(source, commit) as own:
        full = own.resolve(commit)
        tags = {} if patch else own.tags_before(full)
        parts = (_FORMAT, full, at, patch, own.shallow, *(f"{name} {target}" for name, target in tags.items()))
        key = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()
        kept = cache_folder() / f"{key}.tar"
        if not remake:
            with contextlib.suppress(OSError):
                data = kept.read_bytes()
                os.utime(kept)
                return data
        data = _build(own, full, at, patch, tags)
        keep(kept, data)
        return data


def _check_name(commit: str) -> None:
    if commit and not NAME.fullmatch(commit):
        raise BadInput(f"no name of a commit: {commit[:80]!r}", field="repository.commit")


def setup_of(spec: RepoTask) -> Setup:
    """The task's set-up with its repository: brought first and made blind, then the task's own set-up, then installed.

    Raises:
        NotRestorable: ``no_repository``, see :func:`blind_archive`.
        BadInput: a source or a commit that git would take for something else.
    """
    repository, own = spec.repository, spec.setup
    if not spec.workdir.startswith("/") or spec.workdir.rstrip("/") == "":
        raise BadInput(f"no folder for a repository: {spec.workdir!r}", field="workdir")
    _check_name(repository.commit)
    archives, steps = list(own.archives), []
    if repository.kind == "clone":
        data = blind_archive(repository.source, repository.commit, at=spec.workdir, patch=repository.patch)
        archives.insert(0, base64.b64encode(data).decode("ascii"))
        steps.append(_script(f"{_REFRESH}\n{_owner(spec)}", spec.workdir))
    elif repository.kind == "image":
        steps.append(blind.script(spec.workdir, repository.commit, repository.patch))
        if spec.user not in ("root", 0):
            steps.append(_script(_owner(spec), spec.workdir))
    if own.script:
        steps.append(_script(own.script, "/"))
    if repository.install:
        steps.append(_script(repository.install, spec.workdir))
    if repository.kind != "archive":
        steps.append(blind.FORGET_PACKAGES)
    return own.model_copy(update={"archives": archives, "script": _chain(steps)})


_REFRESH = "if command -v git > /dev/null; then git update-index -q --refresh; fi"
"""The index comes without the files' times: so that no later command has to find out that nothing changed."""


def _owner(spec: RepoTask) -> str:
    if spec.user in ("root", 0):
        return "true"
    user = shlex.quote(str(spec.user))
    return f"chown -R {user} ."


def _script(text: str, folder: str) -> str:
    """Bash source in a process of its own that stands in ``folder``: its options and its ``exit`` end with it."""
    return f"( cd {shlex.quote(folder)} || exit 1\n{text}\n)"


def _chain(steps: Sequence[str]) -> str:
    """One script that ends at the first step that fails; empty for no steps."""
    return "\n".join(f"{step}\nstatus=$?; [ $status -eq 0 ] || exit $status" for step in steps)


# Building -----------------------------------------------------------------------------------------------------------


def _build(own: Borrowed, commit: str, at: str, patch: str, tags: Mapping[str, str]) -> bytes:
    """The repository at ``commit``, as a tar."""
    with tempfile.TemporaryDirectory(prefix="pivotgym-repo-") as name:
        tree = Path(name) / "tree"
        tree.mkdir()
        run_git(tree, "init", "-q", f"--initial-branch={BRANCH}", "--template=", f"--object-format={_kind(commit)}")
        git = tree / ".git"
        info = git / "objects" / "info"
        info.mkdir(parents=True, exist_ok=True)
        alternates = info / "alternates"
        alternates.write_text(f"{own.objects}\n", encoding="utf-8")
        if own.shallow:
            (git / "shallow").write_text(own.shallow, encoding="ascii")
        when = run_git(tree, "show", "-s", "--format=%ct", commit).decode().split()[0]
        run_git(tree, "read-tree", commit)
        run_git(tree, "checkout-index", "-a", "-f")
        if patch:
            commit = _with_patch(tree, patch, when)
            (git / "shallow").unlink(missing_ok=True)
        for ref, target in {
            f"refs/heads/{BRANCH}": commit,
            **{f"refs/tags/{t}": c for t, c in tags.items()},
        }.items():
            run_git(tree, "update-ref", ref, target)
        run_git(tree, "pack-refs", "--all")
        run_git(tree, "repack", "-a", "-d", "-q", "--no-write-bitmap-index")
        alternates.unlink()
        run_git(tree, "prune-packed", "-q")
        run_git(tree, "prune", "--expire=now")
        # Everything must be there without the source; and an index without the files' times is the same each time.
        run_git(tree, "rev-list", "--objects", "--quiet", "HEAD")
        (git / "index").unlink()
        run_git(tree, "read-tree", "HEAD")
        for left in ("ORIG_HEAD", "FETCH_HEAD", "COMMIT_EDITMSG", "logs", "hooks", "branches", "description"):
            path = git / left
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        _write_config(git, commit)
        return _tar(tree, at.strip("/"), int(when))


def _with_patch(tree: Path, patch: str, when: str) -> str:
    """Applies a patch; a commit of its result, without parents."""
    data = patch if patch.endswith("\n") else f"{patch}\n"
    run_git(tree, "update-index", "-q", "--refresh")
    run_git(tree, "apply", "--index", "--whitespace=nowarn", "-", data=data.encode("utf-8", "surrogateescape"))
    who = {
        f"GIT_{role}_{part}": value
        for role in ("AUTHOR", "COMMITTER")
        for part, value in (("NAME", "agent"), ("EMAIL", "agent@localhost"), ("DATE", f"{when} +0000"))
    }
    written = run_git(tree, "write-tree").decode().strip()
    return run_git(tree, "commit-tree", written, "-m", "Initial commit", env=who).decode().strip()


def _write_config(git: Path, commit: str) -> None:
    """A configuration of known content: nothing of the machine that built it."""
    lines = ["[core]", "\tfilemode = true", "\tbare = false", "\tlogallrefupdates = true"]
    if _kind(commit) == "sha256":
        lines[1:1] = ["\trepositoryformatversion = 1"]
        lines += ["[extensions]", "\tobjectformat = sha256"]
    else:
        lines[1:1] = ["\trepositoryformatversion = 0"]
    lines += ["[user]", "\tname = agent", "\temail = agent@localhost"]  # or nobody could commit or stash
    (git / "config").write_text("\n".join(lines) + "\n", encoding="ascii")


def _kind(commit: str) -> str:
    return "sha256" if len(commit) == 64 else "sha1"


def _tar(tree: Path, at: str, when: int) -> bytes:
    """The folder as a tar in which everything is root's and as old as the commit."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in (tree, *sorted(tree.rglob("*"))):
            name = at if path == tree else f"{at}/{path.relative_to(tree).as_posix()}"
            member = archive.gettarinfo(path, name)
            member.uid = member.gid = 0
            member.uname = member.gname = "root"
            member.mtime = when
            if member.isfile() or member.isdir():
                member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            if member.islnk():
                member.type, member.linkname = tarfile.REGTYPE, ""
            if member.isreg():
                with path.open("rb") as content:
                    archive.addfile(member, content)
            else:
                archive.addfile(member)
    return data.getvalue()
