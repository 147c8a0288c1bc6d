"""Whether an edit broke a Python file, as SWE-agent's editors decide: a few of flake8's checks, run on this machine."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from pivotgym.envs.errors import MissingExtra
from pivotgym.envs.repo.tools.confined import run_python

_CHECKS = "F821,F822,F831,E111,E112,E113,E999,E902"
_RUN = (
    "import runpy, sys\n"
    f"sys.argv = ['flake8', '--isolated', '-j1', '--select={_CHECKS}', '-']\n"
    "runpy.run_module('flake8', run_name='__main__')\n"
)


@dataclass(frozen=True)
class Problem:
    """One finding.

    Attributes:
        line: from 1.
        column: from 1.
        text: code and words.
    """

    line: int
    column: int
    text: str


def problems(path: str, data: bytes) -> list[Problem]:
    """What is wrong with a file; nothing for one that is no Python file, and for one the check cannot get through.

    Args:
        path: decides by its ending whether it is Python.
        data: the file's content.

    Raises:
        MissingExtra: flake8 is not installed.
    """
    if not path.endswith(".py"):
        return []
    if importlib.util.find_spec("flake8") is None:
        raise MissingExtra("flake8", "repo")
    found = []
    for row in (run_python(_RUN, data) or "").splitlines():
        place, _, text = row.partition(": ")
        parts = place.split(":")
        if len(parts) == 3 and parts[1].isdigit() and parts[2].isdigit():
            found.append(Problem(int(parts[1]), int(parts[2]), text))
    return found


def introduced(before: list[Problem], after: list[Problem], window: tuple[int, int], added: int) -> list[Problem]:
    """What an edit brought, as SWE-agent counts it: whatever was there before, moved by the edit, is not its doing.

    Args:
        before: findings in the old file.
        after: findings in the new one.
        window: first and last replaced line.
        added: lines in their place.
    """
    if not before:
        return after
    moved = added - (window[1] - window[0] + 1)
    known = [one for one in before if one.line < window[0]]
    known += [Problem(one.line + moved, one.column, one.text) for one in before if one.line > window[1]]
    return [one for one in after if one not in known]


def listed(found: list[Problem]) -> str:
    """Findings as the editors show them."""
    return "\n".join(f"- {one.text}" for one in found)
