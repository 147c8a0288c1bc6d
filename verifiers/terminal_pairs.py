"""Labelled pairs of a demonstrated and a sampled terminal action, for measuring verifiers.

``terminal_pairs.jsonl`` holds two kinds of lines: a *state* (files, set-up script, commands of the session) and a
*pair* in one of the states, with what the sampled action is worth and why. The labels say what an engineer would: does
the sampled action do the same, and tell at least as much.

The rules of :class:`pivotgym.verifiers.terminal.TerminalEffects` were written with the pairs of the set ``tuned`` at
hand, among them sets that had been held out before, and fakes that an earlier verifier fell for (state ``traps``).
Those of ``held_out`` were labelled, and committed, before the verifier saw them.

On its first run on ``held_out`` the verifier accepted 42 of 45 right and 8 of 33 wrong actions: precision 84 %, recall
93 %. In that run the state ``history`` was no git repository, because its script lacked a folder; with the script
repaired and the verifier as it was, precision was 89 % (42 of 47 accepted are right) and recall 93 %. After that two
rules were changed: copies of files stand in another world than contents that were exchanged (``grep -l x *`` is not
``ls``), and executable files are spared where a command runs files. What it still gets wrong there are lists that hold
the chosen among others (rows by another column, members of a folder for those of an archive), and one label that is
disputable: the message of a merge, which names the branch that is merged into.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pivotgym.envs.errors import BadInput
from pivotgym.envs.terminal.prompts import BASH_TOOL
from pivotgym.envs.terminal.tasks import Setup, TerminalTask
from pivotgym.envs.trajectory import Message, ToolCall, Trajectory
from pivotgym.verifiers.measure import Labelled, read_lines

PAIRS = Path(__file__).parent / "terminal_pairs.jsonl"
SETS = ("tuned", "held_out")
FIRST_RUN = "precision 84 % (42 of 50 accepted are right), recall 93 % (42 of 45)"
"""What ``terminal_effects`` did on ``held_out`` when it saw those pairs for the first time."""
Written = str | list[str] | dict[str, str]
"""An action as a pair has it: a command, a list of commands (one call each), or ``{"text": …}``."""


class PairState(BaseModel):
    """Where pairs are run.

    Attributes:
        state: its name.
        workdir: of the shell.
        files: text files by absolute path.
        script: bash source run as root afterwards.
        start: bash source run in the agent's session.
    """

    model_config = ConfigDict(extra="forbid")

    state: str
    workdir: str
    files: dict[str, str] = Field(default_factory=dict)
    script: str = ""
    start: str = ""


class Pair(BaseModel):
    """A demonstrated and a sampled action.

    Attributes:
        id: unique.
        set: ``tuned`` or ``held_out``.
        state: name of its :class:`PairState`.
        kind: what it is about (``git``, ``text`` …).
        demonstrated: the action of the recording.
        sampled: the action that is judged.
        worth: 1 where it is right, 0 where it is wrong.
        why: what makes it so.
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    id: str
    set: Literal["tuned", "held_out"]
    state: str = Field(alias="in")
    kind: str
    demonstrated: Written
    sampled: Written
    worth: Literal[0, 1]
    why: str


@lru_cache(maxsize=8)
def read_pairs(path: Path = PAIRS) -> tuple[dict[str, PairState], tuple[Pair, ...]]:
    """The states by name, and the pairs.

    Raises:
        BadInput: a line that is neither, or a pair in an unknown state; file, line and field are named.
    """
    states: dict[str, PairState] = {}
    pairs: list[Pair] = []

    def kind_of(row: Any) -> type[PairState | Pair]:
        return PairState if isinstance(row, dict) and "state" in row else Pair

    for number, pair in read_lines(path, kind_of):
        if isinstance(pair, PairState):
            states[pair.state] = pair
            continue
        if pair.state not in states:
            raise BadInput(f"no state {pair.state!r} above this line", file=path, line=number, field="in")
        pairs.append(pair)
    return states, tuple(pairs)


def labelled(name: str, path: Path = PAIRS) -> list[Labelled]:
    """The pairs of one set as labelled actions, those with one demonstration next to each other.

    Args:
        name: ``tuned`` or ``held_out``.
        path: a file of states and pairs.
    """
    states, pairs = read_pairs(path)
    trajectories: dict[tuple[str, str], Trajectory] = {}
    found: list[tuple[int, Labelled]] = []
    for pair in pairs:
        if pair.set != name:
            continue
        key = (pair.state, json.dumps(pair.demonstrated))
        if key not in trajectories:
            trajectories[key] = _trajectory(states[pair.state], pair)
        place = list(trajectories).index(key)
        kind = f"{pair.id} {pair.kind}: {pair.why}"
        item = Labelled(
            trajectory=trajectories[key], turn=0, action=_message(pair.sampled), right=pair.worth == 1, kind=kind
        )
        found.append((place, item))
    return [item for _, item in sorted(found, key=lambda one: one[0])]


def _trajectory(state: PairState, pair: Pair) -> Trajectory:
    setup = Setup(files=state.files, script=state.script, start=state.start)
    task = TerminalTask(instruction=_INSTRUCTION, system="", workdir=state.workdir, setup=setup, timeout=20.0)
    return Trajectory(
        id=pair.id,
        task=task.task(f"pairs-{pair.state}"),
        tools=[BASH_TOOL],
        messages=[Message(role="user", content=_INSTRUCTION), _message(pair.demonstrated)],
    )


_INSTRUCTION = "Go on."


def _message(written: Written) -> Message:
    if isinstance(written, dict):
        return Message(role="assistant", content=written["text"])
    commands = [written] if isinstance(written, str) else written
    calls = [
        ToolCall(name="bash", arguments={"command": command}, id=f"call_{number}")
        for number, command in enumerate(commands)
    ]
    return Message(role="assistant", tool_calls=calls)
