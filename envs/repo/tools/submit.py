"""Handing in: the change so far as a patch."""

from __future__ import annotations

import shlex

from pivotgym.envs.repo.tools.session import Session
from pivotgym.envs.repo.tools.state import Refused, ToolResult

SUBMITTED_TEXT = "Submitted."
_DIFF = "git -c core.pager=cat -c color.ui=never -c diff.external= diff --cached --no-ext-diff"


def submit(session: Session) -> ToolResult:
    """Hands in what differs from the last commit; the agent's index stays as it is."""
    return ToolResult(SUBMITTED_TEXT, session.state, submitted=_patch(session, own_index=True))


def submit_staged(session: Session) -> ToolResult:
    """As SWE-agent does: stages everything, shows the patch and hands it in."""
    patch = _patch(session, own_index=False)
    classic = session.style.family != "windowed" or session.style.release.startswith("1.0")
    return ToolResult(f"\n{patch}" if classic else patch, session.state, submitted=patch)


def _patch(session: Session, *, own_index: bool) -> str:
    """What differs from the last commit, new files and all. Raises Refused where git does not answer."""
    enter = f"cd {shlex.quote(session.workdir)} && git rev-parse --git-dir > /dev/null || exit 1; "
    if own_index:
        # A copy keeps what the index knows of unchanged files, else git would read them all.
        script = (
            f"{enter}index=$(mktemp) && trap 'rm -f \"$index\"' EXIT && "
            'cp "$(git rev-parse --git-path index)" "$index" 2>/dev/null; '
            f'export GIT_INDEX_FILE="$index"; git add -A 2>/dev/null; {_DIFF}'
        )
    else:
        script = f"{enter}git add -A 2>/dev/null; {_DIFF}"
    result = session.run(f"/bin/sh -c {shlex.quote(script)}")
    if result.ending != "exit" or result.status != 0:
        told = result.output.strip()[:400] or f"the command ended with {result.ending}"
        raise Refused(f"Nothing was handed in: git cannot show the change: {told}", "no_patch")
    return result.output
