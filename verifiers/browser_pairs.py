"""Labelled pairs of a demonstrated and a sampled browser action, for measuring verifiers.

``browser_pairs.jsonl`` holds two kinds of lines: a *recording* (a MiniWoB++ page, a seed and the calls that solve it)
and a *pair*: a turn of one of those recordings, or of a recording that ships with the shop or the tracker, with an
action in its place, what that is worth and why.

How they were labelled: from the observations of the turn, with the pages' forms and scripts at hand, before the
verifier was run on them. Right is what leaves the page, the browser and the site as the demonstrated turn does, or
tells the user the same. That is about one turn: to do the next turn's work as well, or another field first, is no pair
here, as it is right for the task and not the same (see :class:`pivotgym.verifiers.browser.BrowserEffects`).

- ``tuned`` was written before the verifier, and the verifier was corrected with it at hand: on its first run it
  accepted 57 of 60 right and none of 86 wrong actions.
- ``held_out`` was labelled when the verifier was done, on other tasks and other pages. On its first run there it
  accepted 43 of 43 right and 1 of 50 wrong actions.
- ``hard`` was labelled after that, with what might fool it, most of all messages. On its first run there it accepted
  24 of 26 right and 4 of 37 wrong actions. The mistakes were messages, for which rules were added since, and one page.

In each of the three, one label turned out to be wrong and is corrected in the file: a field whose page swallows keys,
an address that was the default already, a tab that takes clicks only. What is left is a number whose sentence says the
opposite (``the board is 100 g heavier``): the task asks for the number, and so does its goal.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pivotgym.envs.browser.actions import NotCalls, parse_calls
from pivotgym.envs.errors import BadInput
from pivotgym.envs.trajectory import Message, Trajectory
from pivotgym.verifiers.measure import Labelled, read_lines

PAIRS = Path(__file__).parent / "browser_pairs.jsonl"
SETS = ("tuned", "held_out", "hard")
FIRST_RUNS = {
    "held_out": "precision 98 % (43 of 44 accepted are right), recall 100 % (43 of 43)",
    "hard": "precision 86 % (24 of 28 accepted are right), recall 92 % (24 of 26)",
}
"""What ``browser_effects`` did on sets when it first saw their pairs, by the labels they had then."""
_BUNDLED = "bundled-"


class PairRecording(BaseModel):
    """A demonstration on a MiniWoB++ page.

    Attributes:
        recording: its name.
        page: the page, such as ``click-checkboxes``.
        seed: the page's seed.
        calls: one turn each, such as ``click('18')``.
    """

    model_config = ConfigDict(extra="forbid")

    recording: str
    page: str
    seed: int
    calls: list[str] = Field(min_length=1)


class Pair(BaseModel):
    """A demonstrated and a sampled action.

    Attributes:
        id: unique.
        set: ``tuned``, ``held_out`` or ``hard``.
        of: a :class:`PairRecording`, or a recording of the applications without ``bundled-``.
        turn: 0-based turn whose action is the demonstrated one.
        kind: what the sampled action is about (``keyboard``, ``row`` …).
        sampled: a call, a list of calls made in one turn, or ``{"text": …}``.
        worth: 1 where it is right, 0 where it is wrong.
        why: what makes it so.
    """

    model_config = ConfigDict(extra="forbid")

    id: str
    set: Literal["tuned", "held_out", "hard"]
    of: str
    turn: int = Field(ge=0)
    kind: str
    sampled: str | list[str] | dict[Literal["text"], str]
    worth: Literal[0, 1]
    why: str


@lru_cache(maxsize=8)
def read_pairs(path: Path = PAIRS) -> tuple[dict[str, PairRecording], tuple[Pair, ...]]:
    """The recordings on MiniWoB++ by name, and the pairs.

    Raises:
        BadInput: a line that is neither, or a pair of an unknown recording; file, line and field are named.
    """
    recordings: dict[str, PairRecording] = {}
    pairs: list[Pair] = []
    known: set[str] = set()

    def kind_of(row: Any) -> type[PairRecording | Pair]:
        return PairRecording if isinstance(row, dict) and "recording" in row else Pair

    for number, pair in read_lines(path, kind_of):
        if isinstance(pair, PairRecording):
            recordings[pair.recording] = pair
            continue
        try:
            sampled_message(pair)
        except NotCalls as problem:
            raise BadInput(str(problem), file=path, line=number, field="sampled") from problem
        known = known or set(_bundled())
        if pair.of not in recordings and pair.of not in known:
            raise BadInput(f"no recording {pair.of!r}", file=path, line=number, field="of")
        pairs.append(pair)
    return recordings, tuple(pairs)


def labelled(name: str | None, path: Path = PAIRS) -> list[Labelled]:
    """The pairs of one set (None: of all) as labelled actions, those of one turn next to each other.

    Chromium plays the demonstrations on MiniWoB++ pages now, so that they hold what the installed pages show.

    Args:
        name: ``tuned``, ``held_out`` or ``hard``.
        path: a file of recordings and pairs.

    Raises:
        BadInput: a broken line, or a demonstration that does not solve its page.
    """
    recordings, pairs = read_pairs(path)
    wanted = [pair for pair in pairs if name is None or pair.set == name]
    trajectories = record([recordings[of] for of in dict.fromkeys(pair.of for pair in wanted) if of in recordings])
    trajectories.update(_bundled())
    wanted.sort(key=lambda pair: (pair.of, pair.turn))
    return [
        Labelled(
            trajectory=trajectories[pair.of],
            turn=pair.turn,
            action=sampled_message(pair),
            right=pair.worth == 1,
            kind=f"{pair.id} {pair.kind}: {pair.why}",
        )
        for pair in wanted
    ]


def record(recordings: list[PairRecording]) -> dict[str, Trajectory]:
    """Plays demonstrations. Raises BadInput for one that does not solve its page."""
    from pivotgym.envs.browser.env import BrowserEnv
    from pivotgym.envs.browser.miniwob import miniwob_task
    from pivotgym.envs.snapshots import SnapshotStore

    found: dict[str, Trajectory] = {}
    env = BrowserEnv(snapshots=SnapshotStore(max_bytes=0))
    try:
        for one in recordings:
            env.reset(options={"task": miniwob_task(one.page, one.seed)})
            reward = 0.0
            for text in one.calls:
                _, reward, over, _, _ = env.step(as_message(text))
                if over:
                    break
            if reward <= 0.0:
                raise BadInput(f"the calls do not solve {one.page} with seed {one.seed}", field=one.recording)
            found[one.recording] = Trajectory(
                id=one.recording, task=env.task, tools=env.tools, messages=[message.clone() for message in env.messages]
            )
    finally:
        env.close()
    return found


def sampled_message(pair: Pair) -> Message:
    """The sampled action as a message. Raises NotCalls."""
    if isinstance(pair.sampled, dict):
        return Message(role="assistant", content=pair.sampled["text"])
    return as_message(pair.sampled if isinstance(pair.sampled, str) else "\n".join(pair.sampled))


def as_message(text: str) -> Message:
    """Calls in text, one a line, as a message with tool calls. Raises NotCalls."""
    calls = [call.model_copy(update={"id": f"call_{number}"}) for number, call in enumerate(parse_calls(text))]
    return Message(role="assistant", tool_calls=calls)


@lru_cache(maxsize=1)
def _bundled() -> dict[str, Trajectory]:
    from pivotgym.envs.browser.apps.taskset import bundled_trajectories

    return {row.id.removeprefix(_BUNDLED): row for row in bundled_trajectories(None)}
