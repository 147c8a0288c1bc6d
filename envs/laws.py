"""The laws, one function each. A law returns how much it compared and a sentence, or raises :class:`LawBroken`."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils.env_checker import check_env
from pydantic import BaseModel

from pivotgym.envs.core import AgentEnv, Episode, Pivot
from pivotgym.envs.errors import InfrastructureError, ToolServerError
from pivotgym.envs.probes import call_of, random_action
from pivotgym.envs.snapshots import SnapshotStore
from pivotgym.envs.trajectory import Message, Task, Trajectory, canonical_json

Checked = tuple[int, str]
_PLAIN_KINDS = ("different", "missing", "unexpected")


class LawBroken(Exception):
    """A law does not hold; the message says how that shows."""

    def __init__(self, reason: str, checked: int = 0) -> None:
        super().__init__(reason)
        self.checked = checked


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is being checked: the environment, the turns to restore, and how thorough to be."""

    env_id: str
    kwargs: Mapping[str, Any]
    make: Callable[[SnapshotStore | None], AgentEnv]
    turns: Sequence[tuple[Trajectory, int]]
    horizon: int
    resets: int
    seconds_of_resets: float
    seed: int

    @contextmanager
    def at(self, trajectory: Trajectory, turn: int, store: SnapshotStore | None = None) -> Iterator[AgentEnv]:
        """A new environment, restored to a turn (without ``store``: by replay); closed afterwards."""
        with closing(self.make(store)) as env:
            env.reset(options={"trajectory": trajectory, "turn": turn})
            yield env

    def future(self, env: AgentEnv, trajectory: Trajectory, turn: int) -> list[list[str]]:
        """What the recorded actions from ``turn`` on bring in ``env``; uses it up."""
        last = min(turn + self.horizon, len(trajectory.turns))
        return [_response(env, trajectory.action(now), trajectory.answer(now)) for now in range(turn, last)]


def _response(env: AgentEnv, action: Message, recorded: Sequence[Message] = ()) -> list[str]:
    try:
        response = env.advance(action, recorded)
    except InfrastructureError as error:
        return [f"({type(error).__name__})"]
    return [env.normalise(message.text) for message in response.messages]


def _in_forks(env: AgentEnv, actions: Sequence[Message]) -> list[list[str]]:
    answers = []
    for action in actions:
        with closing(env.fork()) as fork:
            answers.append(_response(fork, action))
    return answers


def _probes(subject: Subject, env: AgentEnv, turn: int) -> list[Message]:
    """Random valid actions; few where every fork is a replay."""
    rng = np.random.default_rng([subject.seed, turn])
    return [random_action(rng, env.tools, env.messages) for _ in range(2 if env.save() is None else 8)]


def _where(trajectory: Trajectory, turn: int) -> str:
    return f"trajectory {trajectory.id} turn {turn}"


def _first_difference(one: Sequence[Any], other: Sequence[Any]) -> str:
    for index, (mine, theirs) in enumerate(zip(one, other, strict=False)):
        if mine != theirs:
            return f"answer {index}: {str(mine)[:200]} instead of {str(theirs)[:200]}"
    return f"{len(one)} answers instead of {len(other)}"


# The laws -------------------------------------------------------------------------------------------------------------


def gymnasium_api(subject: Subject) -> Checked:
    """Gymnasium's own ``check_env`` passes."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with closing(subject.make(None)) as env:
            check_env(env)
    told = sorted({str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)})
    return 1, "check_env passes" + (f"; it warns: {'; '.join(told)[:500]}" if told else "")


def fidelity(subject: Subject) -> Checked:
    """After restoring turn t the conversation is the recorded one, and so is what the recorded action brings."""
    matched, explained, problems = 0, dict[str, int](), list[str]()
    for trajectory, turn in subject.turns:
        with subject.at(trajectory, turn) as env:
            report = env.episode.report
            if report is None or report.turn != turn or env.episode.turn != turn:
                raise LawBroken(f"{_where(trajectory, turn)}: the environment stands elsewhere, or does not say where")
            if [message.chat() for message in env.messages] != [message.chat() for message in trajectory.prefix(turn)]:
                raise LawBroken(f"{_where(trajectory, turn)}: the conversation is not the recorded one")
            action, recorded = trajectory.action(turn), trajectory.answer(turn)
            index = trajectory.turns[turn] + 1
            checks = env.check_answer(action, env.advance(action, recorded).messages, recorded, index)
            for check in [*report.checks, *checks]:
                if check.status != "diverged":
                    matched += 1
                elif check.kind not in _PLAIN_KINDS:
                    explained[str(check.kind)] = explained.get(str(check.kind), 0) + 1
                else:
                    problems.append(f"{_where(trajectory, turn)}, message {check.message}: {check.diff}")
    told = f" ({', '.join(f'{count} {kind}' for kind, count in sorted(explained.items()))})" if explained else ""
    total = matched + sum(explained.values()) + len(problems)
    if problems:
        raise LawBroken(f"{len(problems)} of {total} observations differ{told}; the first: {problems[0][:700]}", total)
    if sum(explained.values()) > total // 2:
        raise LawBroken(f"most observations differ, each with an explanation{told}", total)
    if not matched:
        raise LawBroken("no recorded observation to compare with: give trajectories whose actions are answered")
    return total, f"{matched} of {total} observations equal the recorded ones{told}"


def isolation(subject: Subject) -> Checked:
    """Nothing done in a fork is visible in its parent, its siblings or a later restore."""
    checked = 0
    for trajectory, turn in subject.turns:
        store, where = SnapshotStore(), _where(trajectory, turn)
        with subject.at(trajectory, turn) as env:
            wanted = subject.future(env, trajectory, turn)

        def same(env: AgentEnv, who: str, trajectory: Trajectory = trajectory, turn: int = turn) -> None:
            nonlocal checked
            found = subject.future(env, trajectory, turn)
            checked += len(found)
            if found != wanted:  # noqa: B023 (called within the iteration)
                raise LawBroken(f"{_where(trajectory, turn)}: {who} {_first_difference(found, wanted)}", checked)  # noqa: B023

        with subject.at(trajectory, turn, store) as parent:
            before, count = parent.save(), len(parent.messages)
            with closing(parent.fork()) as bystander:
                with closing(parent.fork()) as disturbed:
                    _disturb(subject, disturbed, trajectory, turn)
                    after = parent.save()
                changes = parent.diff(before, after) if before is not None and after is not None else []
                checked += 1
                if changes:
                    raise LawBroken(
                        f"{where}: what a fork did changed its parent: {canonical_json(changes)[:500]}", checked
                    )
                if len(parent.messages) != count:
                    raise LawBroken(f"{where}: a fork's messages appear in its parent", checked)
                same(bystander, "what a fork did is visible in its sibling:")
            with closing(parent.fork()) as child:
                same(child, "what a fork did is visible in a fork made later:")
            with closing(parent.fork()) as orphan:
                _disturb(subject, parent, trajectory, turn)
                parent.close()
                same(orphan, "what the parent did is visible in its fork:")
        with subject.at(trajectory, turn, store) as later:
            same(later, "what was done before is visible in a later restore from kept states:")
        with subject.at(trajectory, turn) as later:
            same(later, "what was done before is visible in a later replay:")
    return checked, f"{checked} answers and states unchanged by what forks, parents and siblings did"


def _disturb(subject: Subject, env: AgentEnv, trajectory: Trajectory, turn: int) -> None:
    """Does all kinds of things: the recorded actions to come, then each tool with random valid arguments."""
    subject.future(env, trajectory, turn)
    rng = np.random.default_rng([subject.seed, turn, 1])
    words = [word for message in env.messages for word in message.text[-5000:].split()][-500:] or ["hello"]
    for tool in env.tools:
        _response(env, call_of(rng, tool, words))
    for action in _probes(subject, env, turn):
        _response(env, action)


def equivalence(subject: Subject) -> Checked:
    """A restored snapshot and a fresh replay of the same prefix cannot be told apart by any action."""
    checked, replays = 0, 0
    for trajectory, turn in subject.turns:
        store, where = SnapshotStore(), _where(trajectory, turn)
        with subject.at(trajectory, turn, store):
            pass
        with subject.at(trajectory, turn, store) as kept, subject.at(trajectory, turn) as fresh:
            report = kept.episode.report
            one, other = kept.save(), fresh.save()
            if one is not None and other is not None:
                if report is not None and report.replayed and not store.stats.refused:
                    raise LawBroken(
                        f"{where}: {report.replayed} actions replayed although their states were kept", checked
                    )
                changes = kept.diff(other, one)
                if changes:
                    raise LawBroken(
                        f"{where}: kept and replayed state differ: {canonical_json(changes)[:500]}", checked
                    )
                checked += 1
            else:
                replays += 1
            probes = _probes(subject, fresh, turn)
            found, wanted = _in_forks(kept, probes), _in_forks(fresh, probes)
            if found != wanted:
                raise LawBroken(
                    f"{where}: kept and replayed state answer differently: {_first_difference(found, wanted)}"
                )
            if one is not None and other is not None and turn:
                _diff_sees(subject, kept, trajectory, probes, found)
            found, wanted = subject.future(kept, trajectory, turn), subject.future(fresh, trajectory, turn)
            if found != wanted:
                raise LawBroken(
                    f"{where}: kept and replayed state go on differently: {_first_difference(found, wanted)}"
                )
            checked += len(probes) + len(wanted)
    note = f"; {replays} turns by replay, as the environment does not save its state" if replays else ""
    return checked, f"{checked} states and answers are the same{note}"


def _diff_sees(
    subject: Subject, env: AgentEnv, trajectory: Trajectory, probes: Sequence[Message], answers: list[list[str]]
) -> None:
    """States that answer a call differently must have a difference: else ``diff`` overlooks something."""
    calls = [index for index, action in enumerate(probes) if action.tool_calls]
    with subject.at(trajectory, 0) as start:
        before, after = start.save(), env.save()
        if before is None or after is None or env.diff(before, after):
            return
        there = _in_forks(start, probes)
        differing = [index for index in calls if there[index] != answers[index]]
        if differing:
            call = probes[differing[0]].tool_calls[0]
            raise LawBroken(
                f"trajectory {trajectory.id}: diff() finds nothing between states that answer {call.name} differently"
            )


def blindness(subject: Subject) -> Checked:
    """The demonstrated action and what comes after it are nowhere in what the policy can read."""
    checked = 0
    for trajectory, turn in subject.turns:
        with closing(subject.make(None)) as env:
            observation, info = env.reset(options={"trajectory": trajectory, "turn": turn})
            where = _where(trajectory, turn)
            for path, value in _walk(info, "info"):
                if isinstance(value, Trajectory | Pivot | Episode | AgentEnv):
                    raise LawBroken(f"{where}: {path} holds the recording ({type(value).__name__})", checked)
            shown = {
                "the observation": observation,
                "the conversation": canonical_json([message.chat() for message in env.conversation]),
                "info": _text(info),
                "the tools": canonical_json(env.tools),
            }
            known = canonical_json([message.chat() for message in trajectory.prefix(turn)])
            with closing(subject.make(None)) as plain:
                plain.reset(options={"task": trajectory.task})
                known += canonical_json(trajectory.tools or plain.tools) + plain.task.id
            for mark in _marks(trajectory, turn):
                checked += 1
                if mark in known:
                    continue
                for place, text in shown.items():
                    if mark in text:
                        raise LawBroken(f"{where}: {place} shows what is still to come: {mark[:200]}", checked)
    for name, text in _task_secrets(subject):
        checked += 1
        if name:
            raise LawBroken(f"after a plain reset info shows the task's {name}: {text[:200]}", checked)
    return checked, f"{checked} pieces of what is to come are not shown"


def _marks(trajectory: Trajectory, turn: int) -> list[str]:
    """Recognisable pieces of the demonstrated action and all that follows, spelt as in JSON."""
    pieces: list[Any] = []
    for message in trajectory.messages[trajectory.turns[turn] :]:
        pieces.append(message.text)
        for call in message.tool_calls:
            pieces.append(call.arguments)
            pieces += [value for _, value in _walk(call.arguments, "") if isinstance(value, str)]
    texts = {json.dumps(piece, ensure_ascii=False)[1:-1] for piece in pieces if piece}
    return sorted(text for text in texts if len(text) >= 8)


def _task_secrets(subject: Subject) -> Iterator[tuple[str, str]]:
    """For each secret text of the task in use: ``(its name, the text)`` where ``info`` shows it, else ``("", "")``."""
    secret = ("goal", "expected", "reference", "evaluation_criteria", "solution", "tests", "reference_actions")
    with closing(subject.make(None)) as env:
        for trajectory in {trajectory.id: trajectory for trajectory, _ in subject.turns}.values():
            _, info = env.reset(options={"task": trajectory.task})
            shown = _text(info)
            for path, value in _walk(env.task.data, ""):
                hidden = next((name for name in secret if name in path.split(".")), None)
                if hidden and isinstance(value, str) and len(value) >= 8 and value not in env.task.id:
                    yield (hidden, value) if json.dumps(value, ensure_ascii=False)[1:-1] in shown else ("", "")


def _text(value: Any) -> str:
    def plain(item: Any) -> Any:
        return item.model_dump() if isinstance(item, BaseModel) else repr(item)

    return json.dumps(value, ensure_ascii=False, default=plain)


def _walk(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every value inside ``value`` with its dotted path; recordings and environments are not entered."""
    yield path, value
    if isinstance(value, Trajectory | Task | Pivot | Episode | AgentEnv):
        return
    items: list[tuple[Any, Any]] = []
    if isinstance(value, Mapping):
        items = list(value.items())
    elif isinstance(value, list | tuple | set):
        items = list(enumerate(value))
    elif isinstance(value, BaseModel) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        items = list(vars(value).items())
    for key, item in items:
        yield from _walk(item, f"{path}.{key}" if path else str(key))


def honest_reward(subject: Subject) -> Checked:
    """An infrastructure that fails is a typed error out of ``step``; there is no reward, and a reset goes on."""
    trajectory, turn, action = _a_call(subject)
    with closing(subject.make(None)) as env:
        env.reset(options={"trajectory": trajectory, "turn": turn})
        names = [f"{type(owner).__name__}.{name}" for owner, name in env.faults()]
        for position, where in enumerate(names):
            env.reset(options={"trajectory": trajectory, "turn": turn})
            owner, name = env.faults()[position]
            with _broken(owner, name) as reached:
                try:
                    _, reward, _, _, info = env.step(action)
                except InfrastructureError:
                    pass
                else:
                    if not reached:
                        raise LawBroken(f"{where} was made to fail, but no recorded action comes there", position)
                    told = info.get("verdict") or info.get("termination")
                    raise LawBroken(f"{where} failed and step gave reward {reward} ({told})", position)
            try:
                env.step(action)
            except gym.error.ResetNeeded:
                continue
            raise LawBroken(f"{where} failed, yet the episode goes on in an unknown state", position)
        env.reset(options={"trajectory": trajectory, "turn": turn})
        _, reward, _, _, _ = env.step(action)
        if not isinstance(reward, float) or not 0.0 <= reward <= 1.0:
            raise LawBroken(f"reward {reward!r} is no number in [0, 1]", len(names))
    return len(names), f"{', '.join(names)}: a failure is an error, not a reward, and a reset goes on"


def _a_call(subject: Subject) -> tuple[Trajectory, int, Message]:
    """A recorded tool call and its turn; where nothing ever called a tool, some action."""
    for trajectory, _ in subject.turns:
        for turn in range(len(trajectory.turns)):
            if trajectory.action(turn).tool_calls:
                return trajectory, turn, trajectory.action(turn)
    trajectory, turn = subject.turns[0]
    return trajectory, turn, trajectory.action(turn)


@contextmanager
def _broken(owner: Any, name: str) -> Iterator[list[bool]]:
    """Makes a method fail as an unreachable server does; yields a list that is empty until it was called."""
    reached: list[bool] = []

    def fail(*_: Any, **__: Any) -> Any:
        reached.append(True)
        raise ToolServerError("made to fail by the conformance suite")

    had, before = name in vars(owner), vars(owner).get(name)
    setattr(owner, name, fail)
    try:
        yield reached
    finally:
        if had:
            setattr(owner, name, before)
        else:
            delattr(owner, name)


def nothing_left(subject: Subject) -> Checked:
    """Closing frees everything: no process, thread or open file stays behind many resets."""
    trajectory, turn = subject.turns[len(subject.turns) // 2]

    def once() -> None:
        with closing(subject.make(None)) as env:
            env.reset(seed=subject.seed)
            env.reset(options={"trajectory": trajectory, "turn": turn})
            with closing(env.fork()) as fork:
                _response(fork, trajectory.action(turn))

    once()
    once()
    before, began, done = _held(), time.perf_counter(), 0
    while done < subject.resets and (done < 5 or time.perf_counter() - began < subject.seconds_of_resets):
        once()
        done += 1
    after = _held()
    grown = {name: (before[name], after[name]) for name in before if after[name] > before[name]}
    if grown:
        told = ", ".join(f"{name} from {old} to {new}" for name, (old, new) in grown.items())
        raise LawBroken(f"left behind by {done} environments: {told}", done)
    return done, f"{done} environments made, restored, forked and closed: nothing left"


def _held() -> dict[str, int]:
    gc.collect()
    held = {"threads": threading.active_count()}
    proc = Path("/proc/self")
    if proc.is_dir():  # elsewhere than on Linux only threads are counted
        held["open files"] = len(list((proc / "fd").iterdir()))
        held["child processes"] = sum(
            len((task / "children").read_text().split())
            for task in (proc / "task").iterdir()
            if (task / "children").exists()
        )
    return held


def determinism(subject: Subject) -> Checked:
    """The same seed gives the same task, observation and answers."""
    chosen = set()
    for seed in range(subject.seed, subject.seed + 5):
        found = []
        for _ in range(2):
            with closing(subject.make(None)) as env:
                observation, _ = env.reset(seed=seed)
                rng = np.random.default_rng(seed)
                actions = [random_action(rng, env.tools, env.messages) for _ in range(3)]
                answers = [_response(env, action) for action in actions]
                found.append((env.task.key, env.normalise(observation), actions, answers))
                chosen.add(env.task.key)
                many = len(env.tasks()) > 3
        if found[0] != found[1]:
            part = ("task", "observation", "tools", "answer")[_first_unequal(found[0], found[1])]
            raise LawBroken(f"seed {seed} gave a different {part} the second time", seed - subject.seed)
    if many and len(chosen) == 1:
        raise LawBroken("five seeds drew the same task of many", 5)
    return 5, f"5 seeds, {len(chosen)} tasks, twice the same"


def _first_unequal(one: Sequence[Any], other: Sequence[Any]) -> int:
    return next(index for index, (mine, theirs) in enumerate(zip(one, other, strict=True)) if mine != theirs)


def vectors(subject: Subject) -> Checked:
    """``gym.make_vec`` works in one process and in several, and both give what a single environment gives."""
    trajectory, turn = subject.turns[-1]
    options = {"trajectory": trajectory, "turn": turn}
    with closing(subject.make(None)) as env:
        wanted = [env.normalise(env.reset(seed=subject.seed + offset)[0]) for offset in range(2)]
        wanted += [env.normalise(env.reset(options=options)[0])] * 2
        said = env.normalise(env.step("hello")[0])
    for mode in ("sync", "async"):
        with closing(gym.make_vec(subject.env_id, 2, vectorization_mode=mode, **subject.kwargs)) as many:
            found = [env.normalise(text) for text in many.reset(seed=subject.seed)[0]]
            found += [env.normalise(text) for text in many.reset(options=options)[0]]
            if found != wanted:
                raise LawBroken(f"{mode} vector: {_first_difference(found, wanted)}")
            answers = [env.normalise(text) for text in many.step(("hello", "hello"))[0]]
            if answers != [said, said]:
                raise LawBroken(f"{mode} vector, after a step: {_first_difference(answers, [said, said])}")
    return 12, f"2 environments, sync and async (process {os.getpid()} and workers): same as one alone"


LAWS: dict[str, Callable[[Subject], Checked]] = {
    "gymnasium": gymnasium_api,
    "fidelity": fidelity,
    "isolation": isolation,
    "equivalence": equivalence,
    "blindness": blindness,
    "honest reward": honest_reward,
    "nothing left": nothing_left,
    "determinism": determinism,
    "vectors": vectors,
}
"""The laws by name, in the order they run."""
