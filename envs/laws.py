"""The laws, one function each. A law returns how much it compared and a sentence, or raises :class:`LawBroken`."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils.env_checker import check_env

from pivotgym.envs.blindness import blindness
from pivotgym.envs.core import AgentEnv
from pivotgym.envs.errors import InfrastructureError, ToolServerError
from pivotgym.envs.probes import call_of, random_action
from pivotgym.envs.snapshots import SnapshotStore
from pivotgym.envs.subject import (
    Checked,
    LawBroken,
    Subject,
    first_difference,
    in_forks,
    probes_of,
    response_of,
    where_of,
)
from pivotgym.envs.trajectory import Message, Trajectory, canonical_json

_PLAIN_KINDS = ("different", "missing", "unexpected")
_ALTERED = "altered by the conformance suite"
_ALTERED_AT_MOST = 8

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
    matched, unproven, altered = 0, 0, 0
    explained, problems = dict[str, int](), list[str]()
    for trajectory, turn in subject.turns:
        with subject.at(trajectory, turn) as env:
            report, where = env.episode.report, where_of(trajectory, turn)
            if report is None or report.turn != turn or env.episode.turn != turn:
                raise LawBroken(f"{where}: the environment stands elsewhere, or does not say where")
            if [message.chat() for message in env.transcript] != [
                message.chat() for message in trajectory.prefix(turn)
            ]:
                raise LawBroken(f"{where_of(trajectory, turn)}: the conversation is not the recorded one")
            action, recorded = trajectory.action(turn), trajectory.answer(turn)
            index = trajectory.turns[turn] + 1
            if not action.delivered:
                continue
            if altered < _ALTERED_AT_MOST:
                altered += _notices(env, trajectory, turn)
            checks = env.check_answer(action, env.advance(action, recorded).messages, recorded, index)
            for check in [*report.checks, *checks]:
                if check.status == "recorded":
                    unproven += 1
                elif check.status != "diverged":
                    matched += 1
                elif check.kind not in _PLAIN_KINDS:
                    explained[str(check.kind)] = explained.get(str(check.kind), 0) + 1
                else:
                    problems.append(f"{where}, message {check.message}: {check.diff}")
    known = [f"{count} {kind}" for kind, count in sorted(explained.items())]
    known += [f"{unproven} more taken from the recording"] if unproven else []
    told = f" ({', '.join(known)})" if known else ""
    total = matched + sum(explained.values()) + len(problems)
    if problems:
        raise LawBroken(f"{len(problems)} of {total} observations differ{told}; the first: {problems[0][:700]}", total)
    if sum(explained.values()) > total // 2:
        raise LawBroken(f"most observations differ, each with an explanation{told}", total)
    if not matched:
        if unproven:
            raise LawBroken(f"nothing was executed: all {unproven} observations are taken from the recording")
        raise LawBroken("no recorded observation to compare with: give trajectories whose actions are answered")
    return total, f"{matched} of {total} observations equal the recorded ones{told}; {altered} altered ones noticed"


def _notices(env: AgentEnv, trajectory: Trajectory, turn: int) -> int:
    """How many altered recorded results were found to differ; each that is not breaks the law.

    An environment that hands back what the recording holds agrees with any recording.
    """
    action, recorded = trajectory.action(turn), trajectory.answer(turn)
    index = trajectory.turns[turn] + 1
    changed = [
        message.model_copy(update={"content": _ALTERED}) if message.role == "tool" else message for message in recorded
    ]
    with closing(env.fork()) as fork:
        right = fork.check_answer(action, fork.advance(action, recorded).messages, recorded, index)
    with closing(env.fork()) as fork:
        wrong = fork.check_answer(action, fork.advance(action, changed).messages, changed, index)
    statuses = {check.message: check.status for check in wrong}
    replayed = [check.message for check in right if check.status in ("exact", "normalised")]
    for message in replayed:
        if statuses.get(message) != "diverged":
            raise LawBroken(
                f"{where_of(trajectory, turn)}, message {message}: with another recorded result the replay still "
                "agrees: what is compared comes from the recording, not from execution"
            )
    return len(replayed)


def isolation(subject: Subject) -> Checked:
    """Nothing done in a fork is visible in its parent, its siblings or a later restore."""
    checked = 0
    for trajectory, turn in subject.turns:
        store, where = SnapshotStore(), where_of(trajectory, turn)
        with subject.at(trajectory, turn) as env:
            wanted = subject.future(env, trajectory, turn)

        def same(env: AgentEnv, who: str, trajectory: Trajectory = trajectory, turn: int = turn) -> None:
            nonlocal checked
            found = subject.future(env, trajectory, turn)
            checked += len(found)
            if found != wanted:  # noqa: B023 (called within the iteration)
                raise LawBroken(f"{where_of(trajectory, turn)}: {who} {first_difference(found, wanted)}", checked)  # noqa: B023

        with subject.at(trajectory, turn, store) as parent:
            before, held = parent.save(), _contents(parent)
            recording = canonical_json(trajectory.model_dump())
            with closing(parent.fork()) as bystander:
                with closing(parent.fork()) as disturbed:
                    _disturb(subject, disturbed, trajectory, turn)
                    _scribble(disturbed)
                    after = parent.save()
                changes = parent.diff(before, after) if before is not None and after is not None else []
                checked += 1
                if changes:
                    raise LawBroken(
                        f"{where}: what a fork did changed its parent: {canonical_json(changes)[:500]}", checked
                    )
                if _contents(parent) != held:
                    raise LawBroken(f"{where}: a fork's messages or tools are its parent's", checked)
                if _contents(bystander) != held:
                    raise LawBroken(f"{where}: a fork's messages or tools are its sibling's", checked)
                if canonical_json(trajectory.model_dump()) != recording:
                    raise LawBroken(f"{where}: a fork's messages or tools are the recording's", checked)
                same(bystander, "what a fork did is visible in its sibling:")
            with closing(parent.fork()) as child:
                same(child, "what a fork did is visible in a fork made later:")
            with closing(parent.fork()) as orphan:
                _disturb(subject, parent, trajectory, turn)
                _scribble(parent)
                if _contents(orphan) != held:
                    raise LawBroken(f"{where}: the parent's messages or tools are its fork's", checked)
                parent.close()
                same(orphan, "what the parent did is visible in its fork:")
        with subject.at(trajectory, turn, store) as later:
            if _contents(later) != held:
                raise LawBroken(f"{where}: messages or tools changed earlier show in a later restore", checked)
            same(later, "what was done before is visible in a later restore from kept states:")
        with subject.at(trajectory, turn) as later:
            same(later, "what was done before is visible in a later replay:")
    return checked, f"{checked} answers and states unchanged by what forks, parents and siblings did"


def _contents(env: AgentEnv) -> str:
    return canonical_json([[message.model_dump() for message in env.transcript], env.tools])


def _scribble(env: AgentEnv) -> None:
    """Overwrites in place whatever the environment hands out."""
    for message in env.transcript:
        for call in message.tool_calls:
            if isinstance(call.arguments, dict):
                call.arguments["scribble"] = "scribble"
        message.content = "scribble"
    for tool in env.tools:
        tool["scribble"] = "scribble"
    env.transcript.clear()


def _disturb(subject: Subject, env: AgentEnv, trajectory: Trajectory, turn: int) -> None:
    """Does all kinds of things: the recorded actions to come, then each tool with random valid arguments."""
    subject.future(env, trajectory, turn)
    rng = np.random.default_rng([subject.seed, turn, 1])
    words = [word for message in env.messages for word in message.text[-5000:].split()][-500:] or ["hello"]
    for tool in env.tools:
        response_of(env, call_of(rng, tool, words))
    for action in probes_of(subject, env, turn):
        response_of(env, action)


def equivalence(subject: Subject) -> Checked:
    """A restored snapshot and a fresh replay of the same prefix cannot be told apart by any action."""
    checked, replays = 0, 0
    for trajectory, turn in subject.turns:
        store, where = SnapshotStore(), where_of(trajectory, turn)
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
            probes = probes_of(subject, fresh, turn)
            found, wanted = in_forks(kept, probes), in_forks(fresh, probes)
            if found != wanted:
                raise LawBroken(
                    f"{where}: kept and replayed state answer differently: {first_difference(found, wanted)}"
                )
            if one is not None and other is not None and turn:
                _diff_sees(subject, kept, trajectory, probes, found)
            found, wanted = subject.future(kept, trajectory, turn), subject.future(fresh, trajectory, turn)
            if found != wanted:
                raise LawBroken(
                    f"{where}: kept and replayed state go on differently: {first_difference(found, wanted)}"
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
        there = in_forks(start, probes)
        differing = [index for index in calls if there[index] != answers[index]]
        if differing:
            call = probes[differing[0]].tool_calls[0]
            raise LawBroken(
                f"trajectory {trajectory.id}: diff() finds nothing between states that answer {call.name} differently"
            )


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
                response_of(fork, trajectory.action(turn))

    once()
    once()
    done, held = 0, [_held()]
    # What an environment keeps ready for the next one grows once and not again; what leaks grows every time.
    for _ in range(2):
        began, count = time.perf_counter(), 0
        while count < subject.resets and (count < 5 or time.perf_counter() - began < subject.seconds_of_resets):
            once()
            count += 1
        done += count
        held.append(_held())
        grown = [name for name in held[0] if all(new[name] > old[name] for old, new in itertools.pairwise(held))]
        if not grown:
            break
    if grown:
        told = ", ".join(f"{name} from {held[0][name]} to {held[-1][name]}" for name in grown)
        raise LawBroken(f"left behind by {done} environments: {told}", done)
    return done, f"{done} environments made, restored, forked and closed: nothing left"


def _held() -> dict[str, int]:
    gc.collect()
    held = {"threads": threading.active_count()}
    proc = Path("/proc/self")
    if proc.is_dir():  # elsewhere than on Linux only threads are counted
        held["open files"] = len(list((proc / "fd").iterdir()))
        held["child processes"] = 0
        for task in (proc / "task").iterdir():
            with contextlib.suppress(OSError):  # the thread has just ended, or the kernel does not tell
                held["child processes"] += len((task / "children").read_text().split())
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
                answers = [response_of(env, action) for action in actions]
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
        try:
            said: str | None = env.normalise(env.step("hello")[0])
        except InfrastructureError:  # a recording whose goal nobody knows: an episode that ends cannot be judged
            said = None
    for mode in ("sync", "async"):
        with closing(gym.make_vec(subject.env_id, 2, vectorization_mode=mode, **subject.kwargs)) as many:
            found = [env.normalise(text) for text in many.reset(seed=subject.seed)[0]]
            found += [env.normalise(text) for text in many.reset(options=options)[0]]
            if found != wanted:
                raise LawBroken(f"{mode} vector: {first_difference(found, wanted)}")
            if said is None:
                continue
            answers = [env.normalise(text) for text in many.step(("hello", "hello"))[0]]
            if answers != [said, said]:
                raise LawBroken(f"{mode} vector, after a step: {first_difference(answers, [said, said])}")
    return (
        12 if said is not None else 8,
        f"2 environments, sync and async (process {os.getpid()} and workers): same as one alone",
    )


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
