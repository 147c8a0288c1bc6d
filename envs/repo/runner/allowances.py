"""What a changed file may go on doing, since its original text did it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from pivotgym.envs.repo.runner.inside.audit import WORDS
from pivotgym.envs.sandbox.base import Sandbox

_BYTES = 2 << 20


def allowances(
    box: Sandbox, root: str, changed: Sequence[str], original: Mapping[str, str] | None = None
) -> dict[str, list[str]]:
    """Groups of :data:`WORDS` by changed file: those of which the file's text before the agent holds a word.

    Args:
        box: where the repository is; asked only without ``original``.
        root: its folder.
        changed: paths from there.
        original: text before, by path; files that were not there are missing.
    """
    texts = dict(original) if original is not None else _from_git(box, root, changed)
    found = {}
    for path in changed:
        groups = [group for group, words in WORDS.items() if any(word in texts.get(path, "") for word in words)]
        if groups:
            found[path] = groups
    return found


def _from_git(box: Sandbox, root: str, changed: Sequence[str]) -> dict[str, str]:
    """Only the lines with such words, of the files that ``HEAD`` has. The fork's git is the pristine one."""
    paths = [path for path in changed if path.endswith(".py")]
    if not paths:
        return {}
    words = sorted({word for words in WORDS.values() for word in words})
    patterns = " ".join(f"-e {shlex.quote(word)}" for word in words)
    places = " ".join(shlex.quote(path) for path in paths[:500])
    command = f"git -c safe.directory='*' -C {shlex.quote(root)} grep -F -z {patterns} HEAD -- {places} 2> /dev/null"
    texts: dict[str, str] = {}
    for line in box.run(command, timeout=30).output.splitlines():
        head, _, text = line.partition("\0")
        path = head.removeprefix("HEAD:")
        texts[path] = texts.get(path, "") + text[:1000] + "\n"
    return texts
