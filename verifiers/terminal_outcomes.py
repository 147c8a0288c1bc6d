"""What actions do in forks of the state at a pivot, and in the same state with other data in it."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

from pivotgym.envs.core import AgentEnv, Pivot
from pivotgym.envs.sandbox import Sandbox, SandboxFileError
from pivotgym.envs.sandbox.shell_state import sections
from pivotgym.envs.snapshots import State
from pivotgym.envs.trajectory import JsonObject, Message, ToolCall, canonical_json
from pivotgym.verifiers.terminal_changes import MAX_READ, Change, significant
from pivotgym.verifiers.terminal_commands import runs_files
from pivotgym.verifiers.terminal_sources import absolute_paths, named_paths
from pivotgym.verifiers.terminal_text import Shown, read
from pivotgym.verifiers.terminal_worlds import ASKED, take_away, vary

_COMMAND_ARGUMENTS = ("command", "cmd", "keystrokes", "keys")
_BASE = "base"


class Terminal(Protocol):
    """An environment with a sandbox."""

    @property
    def sandbox(self) -> Sandbox:
        """The running sandbox."""


@dataclass(frozen=True)
class Outcome:
    """What an action did in a fork.

    Attributes:
        change: what matters of the change (:func:`pivotgym.verifiers.terminal_changes.significant`).
        shown: what its calls showed.
        done: whether it ended the episode.
        known: False where the state cannot be saved (something runs in it).
    """

    change: Change
    shown: Shown
    done: bool = False
    known: bool = True

    @property
    def changes(self) -> list[JsonObject]:
        """The rows of the change."""
        return self.change.rows


class Outcomes:
    """Runs actions at one pivot. States are made once and disposed of with the pivot.

    Args:
        env: stands at ``pivot``.
        pivot: where what was found out is kept.
        incidental: regular expressions of paths that are no part of a change.
        demonstration: what to compare with instead of the recorded action.
    """

    def __init__(
        self, env: AgentEnv, pivot: Pivot, incidental: Sequence[str] = (), demonstration: Message | None = None
    ) -> None:
        self.env, self.pivot, self.incidental = env, pivot, tuple(incidental)
        self.demonstration = pivot.demonstration if demonstration is None else demonstration
        self.source = source_of(self.demonstration)
        self._of = "" if demonstration is None else f"{self.source} "

    def demonstrated(self) -> Outcome:
        """What the demonstration does; found once."""
        found: Outcome = self._once(f"{self._of}outcome", lambda: self.run(self.demonstration))
        return found

    def again(self) -> Shown:
        """What the demonstration shows when it is run a second time."""
        found: Shown = self._once(f"{self._of}again", lambda: self.run(self.demonstration, changes=False).shown)
        return found

    def demonstrated_in(self, world: str, *, changes: bool) -> Outcome | None:
        """What the demonstration does in a world; None where there is no such world."""
        if self._state(world) is None:
            return None
        run: Callable[[], Outcome] = lambda: self.run(self.demonstration, world, changes=changes)  # noqa: E731
        found: Outcome = self._once(f"{self._of}{world} {changes}", run)
        return found

    def run(self, action: Message, world: str = _BASE, *, changes: bool = True) -> Outcome:
        """What ``action`` does in a fork.

        Args:
            action: has calls.
            world: whose data to run it with.
            changes: whether to find out what it changes, too.
        """
        before = self._state(world)
        if before is None:
            return Outcome(Change([]), Shown(()), known=False)
        found = self._run_from(before, action, changes)
        # On a busy machine a command's last process may not be gone yet; what it leaves behind runs again, too.
        return found if found.known else self._run_from(before, action, changes)

    def _run_from(self, before: State, action: Message, changes: bool) -> Outcome:
        with self._fork(before) as (child, sandbox):
            response = child.respond(action, recorded=())
            shown = read([message.text for message in response.messages if message.role == "tool"])
            if not changes:
                return Outcome(Change([]), shown, response.done)
            after = child.save()
            if after is None:
                return Outcome(Change([]), shown, response.done, known=False)
            try:
                rows = child.diff(before, after)
                change = significant(
                    rows, lambda path: _read(sandbox, path), source_of(action), self.incidental, self.source
                )
                return Outcome(replace(change, rows=change.rows + _stack(before, after)), shown, response.done)
            finally:
                _dispose([after])

    def _state(self, world: str) -> State | None:
        found: State | None = self._once(f"{self._of}state {world}", lambda: self._made(world))
        return found

    def _made(self, world: str) -> State | None:
        if world == _BASE:
            with _closing(self.env.fork()) as child:
                sandbox = cast(Terminal, child).sandbox
                if not sandbox.shell.text:
                    sandbox.run(":")  # a shell that has run nothing does not say what it holds
                state = _saved(child)
        else:
            base = self._state(_BASE)
            if base is None:
                return None
            with self._fork(base) as (child, sandbox):
                folder = cwd_of(self.env)
                if world in ASKED:
                    varied = take_away(sandbox, world, folder, named_paths(self.source))
                else:
                    folders = [folder, *absolute_paths(self.source)]
                    varied = vary(sandbox, world, folders, programs=not runs_files(self.source))
                state = _saved(child) if varied else None
        if state is not None:
            kept: list[State] | None = self.pivot.cache.get("terminal states")
            if kept is None:
                kept = self.pivot.cache["terminal states"] = []
                weakref.finalize(self.pivot, _dispose, kept)
            kept.append(state)
        return state

    @contextmanager
    def _fork(self, state: State) -> Iterator[tuple[AgentEnv, Sandbox]]:
        # The state outlives the fork, so the fork does not own it.
        with _closing(self.env._fork_from(replace(state, dispose=None))) as child:
            yield child, cast(Terminal, child).sandbox

    def _once(self, name: str, find: Callable[[], Any]) -> Any:
        key = f"terminal {name}"
        if key not in self.pivot.cache:
            self.pivot.cache[key] = find()
        return self.pivot.cache[key]


@contextmanager
def _closing(env: AgentEnv) -> Iterator[AgentEnv]:
    try:
        yield env
    finally:
        env.close()


def _saved(env: AgentEnv) -> State | None:
    """The state now; what has just been set up may take a moment to be gone."""
    for pause in (0.05, 0.2, 0.0):
        state = env.save()
        if state is not None:
            return state
        time.sleep(pause)
    return None


def _dispose(states: list[State]) -> None:
    for state in states:
        if state.dispose is not None:
            state.dispose()


def command_of(call: ToolCall) -> str:
    """The bash source of a call; its arguments as JSON where it has none."""
    if isinstance(call.arguments, dict):
        for name in _COMMAND_ARGUMENTS:
            if isinstance(call.arguments.get(name), str):
                return str(call.arguments[name])
    return canonical_json(call.arguments)


def source_of(action: Message) -> str:
    """The bash source of all calls."""
    return "\n".join(command_of(call) for call in action.tool_calls)


def cwd_of(env: AgentEnv) -> str:
    """The directory that commands run in."""
    sandbox = cast(Terminal, env).sandbox
    return sandbox.shell.cwd if sandbox.shell.text else sandbox.config.workdir


def _stack(before: State, after: State) -> list[JsonObject]:
    """The directories that ``popd`` can go back to, where they changed."""
    one, two = (sections(state.payload.snapshot.shell)["directories"].splitlines()[1:] for state in (before, after))
    return [] if one == two else [{"shell": "directories", "value": two}]


def _read(sandbox: Sandbox, path: str) -> bytes | None:
    try:
        return sandbox.read_file(path, max_bytes=MAX_READ)
    except SandboxFileError:
        return None
