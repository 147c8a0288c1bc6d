"""A git repository whose future is everywhere that git can keep it."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

MARK = "the-fix-5d1e"
"""Stands in everything that is later than the starting commit, and nowhere else."""
BUGGY = "def add(a, b):\n    return a - b\n"
FIXED = f"def add(a, b):\n    return a + b  # {MARK}\n"


@dataclass(frozen=True)
class Planted:
    """The clone, the commit where an agent starts, and the one with the fix."""

    path: Path
    start: str
    fix: str
    first: str


def git(folder: Path, *arguments: str, when: int = 0, data: bytes | None = None, whole: bool = False) -> str:
    """Runs git; commits are made ``when`` days after a fixed day. ``whole``: the output as it is, as for a patch."""
    date = f"{1_600_000_000 + when * 86_400} +0000"
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_AUTHOR_DATE": date,
        "GIT_COMMITTER_DATE": date,
        "GIT_AUTHOR_NAME": "Ada",
        "GIT_AUTHOR_EMAIL": "ada@example.org",
        "GIT_COMMITTER_NAME": "Ada",
        "GIT_COMMITTER_EMAIL": "ada@example.org",
    }
    command = ["git", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", *arguments]
    done = subprocess.run(command, cwd=folder, env=env, input=data, capture_output=True, check=False)
    assert done.returncode == 0, (arguments, done.stderr.decode())
    return done.stdout.decode() if whole else done.stdout.decode().strip()


def commit(folder: Path, message: str, when: int, **files: str) -> str:
    """Writes files (``__`` in a name is ``/``), commits everything."""
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_py", ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(folder, "add", "-A", when=when)
    git(folder, "commit", "-q", "-m", message, when=when)
    return git(folder, "rev-parse", "HEAD")


def plant(folder: Path) -> Planted:
    """Makes it in ``folder``; that stands at the starting commit, as SWE-bench's images did."""
    path = folder / "owner__calc"
    path.mkdir(parents=True)
    git(path, "init", "-q", "-b", "main")
    first = commit(path, "Begin", 0, calc_py="def add(a, b):\n    return 0\n", README="calc\n")
    git(path, "tag", "-a", "-m", "First release", "v1", when=0)
    start = commit(path, "Add numbers", 10, calc_py=BUGGY, pkg____init___py="", docs__notes="notes\n")
    git(path, "tag", "v1.1", when=10)
    git(path, "tag", "-a", "-m", f"Backdated: {MARK}", "later-words", start, when=30)
    fix = commit(path, f"Fix: {MARK}", 20, calc_py=FIXED)
    git(path, "tag", "-a", "-m", f"Release with {MARK}", "v2", when=20)
    git(path, "branch", f"feature-{MARK}", when=20)
    commit(path, f"Later {MARK}", 21, tests__test_calc_py=f"# {MARK}\n")
    git(path, "notes", "add", "-m", f"note {MARK}", start, when=22)
    git(path, "checkout", "-q", "--detach", fix)
    lost = commit(path, f"Lost loose {MARK}", 23, lost=f"{MARK} loose\n")
    git(path, "checkout", "-q", "main")
    other = folder / "other"
    git(folder, "clone", "-q", str(path), str(other))
    ahead = commit(other, f"Upstream {MARK}", 24, upstream=f"{MARK}\n")
    git(path, "remote", "add", "origin", "https://someone:token-5d1e@example.org/owner/calc.git")
    git(path, "fetch", "-q", str(other), "main:refs/remotes/origin/main")
    git(path, "gc", "-q", "--prune=never")  # so that the lost commit is packed as well
    git(path, "reset", "-q", "--hard", start, when=25)
    (path / "calc.py").write_text(FIXED)
    git(path, "stash", when=26)
    git(path, "hash-object", "-w", "--stdin", data=f"loose blob {MARK}\n".encode())
    git(path, "update-ref", "refs/pull/7/head", ahead)
    git(path, "branch", "-q", "--track=direct", f"tracking-{MARK}", "refs/heads/main")
    git(path, "worktree", "add", "-q", str(folder / "tree"), fix)
    (path / ".git" / "FETCH_HEAD").write_text(f"{ahead}\t\tbranch 'main' of {MARK}\n")
    (path / ".git" / "ORIG_HEAD").write_text(f"{fix}\n")
    hook = path / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\necho {MARK} > {folder}/hook-ran\n")
    hook.chmod(0o755)
    assert MARK in git(path, "log", "--all", "--format=%B") and lost and MARK in git(path, "stash", "show", "-p")
    git(path, "update-ref", "refs/replace/" + start, fix)
    return Planted(path, start, fix, first)
