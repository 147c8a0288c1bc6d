"""Restoring any turn of a recorded trajectory, and proof of how faithful the result is.

The nearest kept snapshot on the way is loaded, the rest is replayed, every replayed observation is compared with the
recorded one, and the states passed on the way are kept for the next time. States are keyed by everything that led
to them (environment, task, messages), so trajectories with a common prefix share them.
"""

from __future__ import annotations

import difflib
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import gymnasium as gym
from gymnasium.envs.registration import load_env_creator
from pydantic import BaseModel, Field

from pivotgym.envs.errors import NotRestorable, RestoreDiverged
from pivotgym.envs.trajectory import FORMAT_VERSION, Message, Task, Trajectory, canonical_json

if TYPE_CHECKING:
    from pivotgym.envs.core import AgentEnv

Status = Literal["exact", "normalised", "recorded", "diverged"]
_CHECK_BYTES = 600
"""What an :class:`ObservationCheck` takes, beside its diff."""


class ObservationCheck(BaseModel):
    """One replayed observation against the recorded one.

    Attributes:
        turn: the turn whose action brought it.
        message: index of the recorded message in the trajectory.
        status: ``exact``, ``normalised`` (equal after the domain's normaliser), ``recorded`` (taken from the recording,
            not replayed: its call never ran) or ``diverged``.
        kind: for a divergence its known cause, else ``different``, ``missing`` or ``unexpected``.
        diff: for a divergence a readable diff, at most 2,000 characters.
    """

    turn: int
    message: int
    status: Status
    kind: str | None = None
    diff: str | None = None


class RestoreReport(BaseModel):
    """How a turn was restored and how faithful the result is.

    Attributes:
        replayed: actions executed now; the other ``turn - replayed`` came with a kept snapshot.
        checks: one per observation on the way, those from before the snapshot included.
        seconds: wall-clock time of this restore.
        errors: what the world around the recording lacked (a request that no archive holds): the state may show less
            than the recorded agent saw, even where every observation is equal.
        note: what else there is to know (why the state could not be kept).
    """

    trajectory: str
    turn: int
    replayed: int
    checks: list[ObservationCheck] = Field(default_factory=list)
    seconds: float = 0.0
    errors: list[str] = Field(default_factory=list)
    note: str | None = None

    @property
    def diverged(self) -> list[ObservationCheck]:
        """The observations that differ from the recording."""
        return [check for check in self.checks if check.status == "diverged"]

    @property
    def faithful(self) -> bool:
        """Whether no observation differs and nothing was lacking."""
        return not self.diverged and not self.errors

    @property
    def fidelity(self) -> float:
        """Share of replayed observations that match; 1.0 where there are none."""
        replayed = sum(check.status != "recorded" for check in self.checks)
        return 1.0 - len(self.diverged) / replayed if replayed else 1.0


def prefix_keys(env: AgentEnv, trajectory: Trajectory, task: Task, last: int | None = None) -> list[str]:
    """A key for the state before each turn (up to ``last``): equal keys mean equal environment, task and messages.

    Tool-call ids and what ``source`` holds do not enter: they do not touch the state. The tools a trajectory brings do:
    they are kept beside the state.
    """
    running = hashlib.sha256(f"{env.fingerprint} {task.key}".encode())
    if trajectory.tools:
        running.update(canonical_json(trajectory.tools).encode("utf-8", "surrogatepass"))
    keys: list[str] = []
    for message in trajectory.messages:
        if message.role == "assistant":
            keys.append(running.hexdigest())
            if last is not None and len(keys) > last:
                break
        text = message.content if isinstance(message.content, str) else canonical_json(message.content)
        # repr tells JSON values apart as surely as JSON text does, in a fifth of the time.
        calls = repr([(call.name, call.arguments) for call in message.tool_calls])
        # The lengths keep two messages apart that differ only in where one part ends.
        heard = "" if message.delivered else "undelivered "
        parts = (
            f"\n{heard}{message.role} {message.requestor} {type(message.content).__name__} {len(text)} {len(calls)}\n"
        )
        running.update((parts + text + calls).encode("utf-8", "surrogatepass"))
    return keys


def restore(env: AgentEnv, trajectory: Trajectory, turn: int, *, strict: bool = False) -> RestoreReport:
    """Puts ``env`` into the state before turn ``turn``.

    Raises:
        NotRestorable: no task, no assistant message, no such turn, or the domain cannot build the task.
        RestoreDiverged: ``strict`` and an observation differs; the environment then has no episode.
    """
    from pivotgym.envs.core import Pivot

    began = time.perf_counter()
    task = _task_of(env, trajectory)
    turns = trajectory.turns
    if not 0 <= turn < len(turns):
        raise NotRestorable("no_such_turn", f"trajectory {trajectory.id} has {len(turns)} turns, asked for {turn}")
    keys = prefix_keys(env, trajectory, task, turn)
    done, trail = _load_nearest(env, trajectory, task, keys, turn)
    checks = trail.checks() if trail is not None else []
    for now in range(done, turn):
        action, recorded = trajectory.action(now), trajectory.answer(now)
        found: list[ObservationCheck] = []
        if action.delivered:  # a malformed action was refused: nothing was executed, nothing is
            response = env.respond(action, recorded)
            found = env.check_answer(action, response.messages, recorded, turns[now] + 1)
            found = [check.model_copy(update={"turn": now}) for check in found]
            checks += found
        if strict and any(check.status == "diverged" for check in found):
            worst = next(check for check in found if check.status == "diverged")
            env.close()
            raise RestoreDiverged(f"trajectory {trajectory.id} turn {now}, message {worst.message}: {worst.diff}")
        trail = _Trail(trail, tuple(found)) if found else trail
        _keep(env, keys[now + 1], trail, found)
    episode = env.episode
    episode.share_messages(trajectory.prefix(turn))
    episode.turn = turn
    episode.malformed = _refused_in_a_row(episode.read_messages())
    episode.pivot = Pivot(trajectory, turn)
    episode.recording = trajectory
    episode.report = RestoreReport(
        trajectory=trajectory.id,
        turn=turn,
        replayed=turn - done,
        checks=checks,
        seconds=time.perf_counter() - began,
        errors=list(env.restore_errors()),
        note=env.restore_note(),
    )
    report = episode.report
    if strict and not report.faithful:
        env.close()
        if not report.diverged:
            raise RestoreDiverged(f"trajectory {trajectory.id} before turn {turn}: {report.errors[0]}")
        worst = report.diverged[0]
        raise RestoreDiverged(f"trajectory {trajectory.id} turn {worst.turn}, message {worst.message}: {worst.diff}")
    return episode.report


def check_observations(
    env: AgentEnv, action: Message, replayed: Sequence[Message], recorded: Sequence[Message], first_index: int = 0
) -> list[ObservationCheck]:
    """Pairs the tool messages of both sides by position and compares their texts."""
    ours = [message for message in replayed if message.role == "tool"]
    theirs = [(first_index + offset, message) for offset, message in enumerate(recorded) if message.role == "tool"]
    checks = []
    for position in range(max(len(ours), len(theirs))):
        got = ours[position] if position < len(ours) else None
        index, want = theirs[position] if position < len(theirs) else (first_index + len(recorded), None)
        checks.append(_compare(env, action, got, want, index))
    return checks


def _compare(env: AgentEnv, action: Message, got: Message | None, want: Message | None, index: int) -> ObservationCheck:
    if got is not None and want is not None:
        if got is want:
            return ObservationCheck(turn=0, message=index, status="recorded", kind=env.explain(action, None, want))
        if got.text == want.text:
            return ObservationCheck(turn=0, message=index, status="exact")
        if env.normalise(got.text) == env.normalise(want.text):
            return ObservationCheck(turn=0, message=index, status="normalised")
    plain = "different" if got and want else "missing" if want else "unexpected"
    kind = env.explain(action, got, want) or plain
    return ObservationCheck(turn=0, message=index, status="diverged", kind=kind, diff=_diff(want, got))


def _diff(want: Message | None, got: Message | None) -> str:
    recorded = want.text.splitlines() if want else ["(nothing)"]
    replayed = got.text.splitlines() if got else ["(nothing)"]
    lines = difflib.unified_diff(recorded, replayed, "recorded", "replayed", lineterm="", n=1)
    return "\n".join(line[:500] for line in lines)[:2000]


def _task_of(env: AgentEnv, trajectory: Trajectory) -> Task:
    if trajectory.version > FORMAT_VERSION:
        raise NotRestorable(
            "newer_format",
            f"trajectory {trajectory.id} is of format version {trajectory.version}, known up to {FORMAT_VERSION}",
        )
    if not trajectory.messages:
        raise NotRestorable("no_messages", f"trajectory {trajectory.id} has no messages")
    if not trajectory.turns:
        raise NotRestorable("no_turns", f"trajectory {trajectory.id} has no assistant message")
    if trajectory.task is None:
        raise NotRestorable("no_environment", f"trajectory {trajectory.id} names no task")
    if not _plays(env, trajectory.task.env):
        made = env.spec.id if env.spec is not None else ""
        raise NotRestorable(
            "other_environment", f"trajectory {trajectory.id} was recorded in {trajectory.task.env}, this is {made}"
        )
    return trajectory.task


def _plays(env: AgentEnv, name: str) -> bool:
    """Whether recordings of the environment ``name`` belong in ``env``.

    An environment made without ``gym.make`` does not know its id and takes all. Another id of the same class (a plug-in
    that registers ours under its own name) or of a base class is the same environment.
    """
    if env.spec is None or env.spec.id == name:
        return True
    other = gym.registry.get(name)
    if other is None or other.entry_point is None:
        return False
    try:
        made_by = load_env_creator(other.entry_point) if isinstance(other.entry_point, str) else other.entry_point
    except (ImportError, AttributeError):
        return False
    return isinstance(made_by, type) and isinstance(env, made_by)


def _refused_in_a_row(messages: Sequence[Message]) -> int:
    count = 0
    for message in reversed(messages):
        if message.delivered:
            break
        count += message.role == "assistant"
    return count


@dataclass(frozen=True)
class _Trail:
    """The checks on the way to a kept state: the way to an earlier one, and what came since.

    Linked, not copied: a recording of many turns keeps a state at each, and each knows all checks before it.
    """

    before: _Trail | None
    since: tuple[ObservationCheck, ...]

    def checks(self) -> list[ObservationCheck]:
        """All of them, the first turn's first."""
        links: list[_Trail] = []
        link: _Trail | None = self
        while link is not None:
            links.append(link)
            link = link.before
        return [check for link in reversed(links) for check in link.since]


def _load_nearest(
    env: AgentEnv, trajectory: Trajectory, task: Task, keys: list[str], turn: int
) -> tuple[int, _Trail | None]:
    """Loads the latest kept state at or before ``turn`` or starts afresh.

    Returns:
        The turn it stands before, and the checks on the way there.
    """
    from pivotgym.envs.core import Episode

    for candidate in range(turn, -1, -1):
        if keys[candidate] not in env.snapshots:
            continue
        lease = env.snapshots.acquire(keys[candidate])
        if lease is None:  # evicted by another thread since
            continue
        trail, tools = lease.note
        env._episode = Episode(task, trajectory.tools or tools, [])
        env._lease = lease
        env.load(lease.state)
        return candidate, trail
    env._begin(task, messages=trajectory.prefix(0), tools=trajectory.tools)
    _keep(env, keys[0], None, [])
    return 0, None


def _keep(env: AgentEnv, key: str, trail: _Trail | None, found: Sequence[ObservationCheck]) -> None:
    if key in env.snapshots:
        return
    state = env.save()
    if state is not None:
        # The note is shared with the states before; its own part is what it costs.
        nbytes = sum(_CHECK_BYTES + len(check.diff or "") for check in found)
        env.snapshots.put(key, state, (trail, env.episode.shared_tools), note_bytes=nbytes)
