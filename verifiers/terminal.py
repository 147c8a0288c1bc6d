"""Effects for terminals: run the demonstrated and the sampled command in forks, compare what they did and showed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, cast

from pivotgym.envs.core import AgentEnv, Pivot
from pivotgym.envs.errors import BadInput
from pivotgym.envs.sandbox import Sandbox, SandboxFileError
from pivotgym.envs.sandbox.shell_state import sections, variables
from pivotgym.envs.snapshots import State
from pivotgym.envs.trajectory import JsonObject, Message, ToolCall, canonical_json
from pivotgym.verifiers.arguments import canonical_call, schema_problem
from pivotgym.verifiers.base import Verdict, Verifier, pivot_of
from pivotgym.verifiers.effects import MAX_EXTRA_CALLS
from pivotgym.verifiers.talk import TalkRule
from pivotgym.verifiers.terminal_answers import judge_answer
from pivotgym.verifiers.terminal_changes import INCIDENTAL, MAX_READ, compare, significant
from pivotgym.verifiers.terminal_commands import (
    answers_by_status,
    chooses_by_place,
    only_reports,
    only_speaks,
    runs_files,
    same_question,
    shows_whole,
    spelling,
)
from pivotgym.verifiers.terminal_text import Asked, Shown, excess, facts, is_hash, is_numeric, made_up, read, untold
from pivotgym.verifiers.terminal_worlds import LESS, MIXED, WORLDS, vary
from pivotgym.verifiers.tool_call import NO_CALL

_COMMAND_ARGUMENTS = ("command", "cmd", "keystrokes", "keys")


class Terminal(Protocol):
    """An environment with a sandbox."""

    @property
    def sandbox(self) -> Sandbox:
        """The running sandbox."""


@dataclass(frozen=True)
class Outcome:
    """What an action did in a fork.

    Attributes:
        changes: what matters of the change (:func:`pivotgym.verifiers.terminal_changes.significant`).
        shown: what its calls showed.
        done: whether it ended the episode.
        known: False where the state cannot be saved (something runs in it).
    """

    changes: list[JsonObject]
    shown: Shown
    done: bool = False
    known: bool = True


class TerminalEffects(Verifier):
    """Right is an action that changes the same in files and shell, and tells at least as much.

    - **Change.** Paths, kinds, modes, owners, link targets and contents, and the shell's directory, variables,
      functions, options, aliases and mask must be changed alike. Times do not count, nor do caches and histories
      (``incidental``), loop variables, and how archives, databases and git repositories store what they hold. One shell
      variable more that nothing else can see (not exported, not set before) is no other change.
    - **Observation.** Every demonstrated line is told (:func:`pivotgym.verifiers.terminal_text.untold`), except where
      the demonstration's programs only report the change that both made. Where the demonstration shows and changes
      nothing, silence must answer the same question.
    - **Status.** A command that fails where the demonstration succeeds is wrong; status 1 of ``grep`` and its kind is
      an answer.
    - **Found out, not made up.** What the command says itself (``echo 3``) it did not find. And where the data is
      varied (:mod:`pivotgym.verifiers.terminal_worlds`) so that the demonstration shows something else, the sampled
      command must show something else too.
    - **Economy.** No dumps, and at most ``max_extra_calls`` calls more.
    - **Answers.** Where the demonstration ends with a text, :func:`pivotgym.verifiers.terminal_answers.judge_answer`
      judges texts, and an action with calls is wrong.
    - **Unseen change.** While something runs in the sandbox its state cannot be compared: then only the demonstrated
      commands are right.
    """

    name = "terminal_effects"
    cost = 150.0

    def __init__(
        self,
        talk: TalkRule | None = None,
        max_extra_calls: int = MAX_EXTRA_CALLS,
        incidental: Iterable[str] = (),
        worlds: Sequence[str] = WORLDS,
    ) -> None:
        self.talk = talk or TalkRule()
        self.max_extra_calls = max_extra_calls
        self.incidental = (*INCIDENTAL, *incidental)
        self.worlds = tuple(worlds)

    def verify(self, env: AgentEnv, action: Message) -> Verdict:
        """1 or 0 by rule ``terminal_effects``; for texts see :func:`judge_answer`.

        Raises:
            BadInput: ``env`` has no sandbox, or does not stand at a turn of a recording.
            InfrastructureError: the sandbox broke.
        """
        if not hasattr(type(env), "sandbox"):
            raise BadInput(f"{type(env).__qualname__} has no sandbox: take the verifier effects", field="verifier")
        pivot = pivot_of(env)
        demonstration = pivot.demonstration
        if not demonstration.tool_calls:
            if action.tool_calls:
                return self._wrong("runs a command where the demonstration answers")
            return judge_answer(self.talk, env, demonstration.text, action)
        if not action.tool_calls:
            return self._wrong(NO_CALL)
        problem = self._inadmissible(env, demonstration, action)
        if problem is not None:
            return self._wrong(problem)
        if _same_calls(env, demonstration, action):
            return Verdict(reward=1.0, rule=self.name, reason="the demonstrated commands")
        return self._compare(env, pivot, demonstration, action)

    def _inadmissible(self, env: AgentEnv, demonstration: Message, action: Message) -> str | None:
        limit = len(demonstration.tool_calls) + self.max_extra_calls
        if len(action.tool_calls) > limit:
            return f"{len(action.tool_calls)} calls where at most {limit} are allowed"
        wanted = {canonical_call(env.tools, call) for call in demonstration.tool_calls}
        for call in action.tool_calls:
            problem = schema_problem(env.tools, call)
            # A recording may hold calls that do not fit the schema; repeating one is no mistake.
            if problem is not None and canonical_call(env.tools, call) not in wanted:
                return problem
        return None

    def _compare(self, env: AgentEnv, pivot: Pivot, demonstration: Message, action: Message) -> Verdict:
        if "terminal" not in pivot.cache:
            pivot.cache["terminal"] = self.outcome(env, demonstration)
        wanted: Outcome = pivot.cache["terminal"]
        given = self.outcome(env, action) if wanted.known else wanted
        if not (wanted.known and given.known):
            return self._wrong("not the demonstrated commands, and what runs in this state cannot be compared")
        evidence: JsonObject = {"shown": list(given.shown.lines[:20]), "changes": given.changes[:20]}
        source, sampled = _source(demonstration), _source(action)
        if _fails(given.shown, sampled) and not _fails(wanted.shown, source):
            return self._wrong(f"fails with status {given.shown.status}", evidence)
        missing, extra = compare(wanted.changes, given.changes)
        extra = [row for row in extra if not _is_note(row, wanted, env)]
        if missing or extra:
            found = {**evidence, "missing": missing[:20], "extra": extra[:20]}
            return self._wrong(_describe(missing, extra, wanted.changes), found)
        if given.done != wanted.done:
            return self._wrong("ends the episode" if given.done else "does not end the episode", evidence)
        asked = Asked(source, sampled, _cwd(env), self._volatile(env, pivot, wanted))
        problem = self._untold(wanted, given, asked)
        if problem is None and wanted.shown.lines and not (wanted.changes and only_reports(source)):
            problem = self._not_found_out(env, pivot, demonstration, action, wanted, given, asked)
        if problem is not None:
            return self._wrong(problem, evidence)
        what = "the same change" if wanted.changes else "no change"
        reason = f"{what}, and shows what the demonstration shows"
        return Verdict(reward=1.0, rule=self.name, reason=reason, evidence=evidence)

    def _untold(self, wanted: Outcome, given: Outcome, asked: Asked) -> str | None:
        dump = excess(wanted.shown, given.shown)
        if dump is not None:
            return dump
        if not wanted.shown.lines:
            if wanted.changes or same_question(asked.demonstrated, asked.sampled):
                return None
            return "silence, but not the answer to what was asked"
        if wanted.changes and only_reports(asked.demonstrated):
            return None
        gaps = untold(wanted.shown, given.shown, asked)
        return None if not gaps else "does not show " + "; ".join(gaps[:5])[:300]

    def _not_found_out(
        self,
        env: AgentEnv,
        pivot: Pivot,
        demonstration: Message,
        action: Message,
        wanted: Outcome,
        given: Outcome,
        asked: Asked,
    ) -> str | None:
        if made_up(wanted.shown, asked) or (only_speaks(asked.sampled) and not only_speaks(asked.demonstrated)):
            return "says what it should find out"
        for world in self.worlds:
            key = f"terminal {world}"
            if key not in pivot.cache:
                pivot.cache[key] = self._shown_in(env, world, demonstration)
            there: Shown | None = pivot.cache[key]
            if there is None or _told_alike(there, wanted.shown):
                continue
            if there.status != wanted.shown.status and _fails(there, asked.demonstrated):
                continue
            sampled = self._shown_in(env, world, action)
            if sampled is None:
                continue
            # Whoever sees a file as it is sees what stands where in it.
            in_order = chooses_by_place(asked.demonstrated) and shows_whole(asked.sampled)
            if _told_alike(sampled, given.shown, in_order=in_order):
                return "shows the same where the demonstration would show something else"
            # Hard-wired names and line numbers may be known from before; so only what can be an accident is asked
            # for again: lone numbers where there is less, the first or last line where lines changed places.
            placed = chooses_by_place(asked.sampled) and not re.search(r"\b(?:sed|awk)\b", asked.sampled)
            doubtful = (world == LESS and is_numeric(wanted.shown, asked)) or (
                world == MIXED and placed and not chooses_by_place(asked.demonstrated)
            )
            if doubtful and untold(there, sampled, asked, once=True):
                return "shows what the demonstration shows by accident"
        return None

    def _shown_in(self, env: AgentEnv, world: str, action: Message) -> Shown | None:
        with _fork(env) as (child, sandbox):
            source = _source(pivot_of(env).demonstration)
            if not vary(sandbox, world, [_cwd(env)], programs=not runs_files(source)):
                return None
            response = child.respond(action, recorded=())
            return read([message.text for message in response.messages if message.role == "tool"])

    def outcome(self, env: AgentEnv, action: Message) -> Outcome:
        """What ``action`` does, found by running it in a fork of ``env``."""
        with _fork(env) as (child, sandbox):
            if not sandbox.shell.text:
                sandbox.run(":")  # a shell that has run nothing does not say what it holds
            before = child.save()
            after = None
            try:
                response = child.respond(action, recorded=())
                shown = read([message.text for message in response.messages if message.role == "tool"])
                after = child.save() if before is not None else None
                if before is None or after is None:
                    return Outcome([], shown, response.done, known=False)
                rows = child.diff(before, after)
                changes = significant(rows, lambda path: _read(sandbox, path), _source(action), self.incidental)
                return Outcome(changes + _stack(before, after), shown, response.done)
            finally:
                for state in (before, after):
                    if state is not None and state.dispose is not None:
                        state.dispose()

    def _volatile(self, env: AgentEnv, pivot: Pivot, wanted: Outcome) -> frozenset[str]:
        """Demonstrated facts that a second run does not show; where commits were made, all ids, as those differ."""
        if "terminal again" not in pivot.cache:
            with _fork(env) as (child, _):
                messages = child.respond(pivot.demonstration, recorded=()).messages
            pivot.cache["terminal again"] = read([message.text for message in messages if message.role == "tool"])
        again: Shown = pivot.cache["terminal again"]
        once = {fact for line in wanted.shown.lines for fact in facts(line)}
        differing = once - {fact for line in again.lines for fact in facts(line)}
        made = {fact for fact in once if is_hash(fact)} if any("git" in row for row in wanted.changes) else set()
        return frozenset(differing | made)

    def _wrong(self, reason: str, evidence: JsonObject | None = None) -> Verdict:
        return Verdict(reward=0.0, rule=self.name, reason=reason, evidence=evidence or {})


@contextmanager
def _fork(env: AgentEnv) -> Iterator[tuple[AgentEnv, Sandbox]]:
    child = env.fork()
    try:
        yield child, cast(Terminal, child).sandbox
    finally:
        child.close()


def command_of(call: ToolCall) -> str:
    """The bash source of a call; its arguments as JSON where it has none."""
    if isinstance(call.arguments, dict):
        for name in _COMMAND_ARGUMENTS:
            if isinstance(call.arguments.get(name), str):
                return str(call.arguments[name])
    return canonical_json(call.arguments)


def _source(action: Message) -> str:
    return "\n".join(command_of(call) for call in action.tool_calls)


def _same_calls(env: AgentEnv, demonstration: Message, action: Message) -> bool:
    def spelled(message: Message) -> list[tuple[str, tuple[str, ...]]]:
        return [(call.name, spelling(command_of(call))) for call in message.tool_calls]

    calls = Counter(canonical_call(env.tools, call) for call in demonstration.tool_calls)
    given = Counter(canonical_call(env.tools, call) for call in action.tool_calls)
    return (calls == given and len(demonstration.tool_calls) == 1) or spelled(demonstration) == spelled(action)


def _cwd(env: AgentEnv) -> str:
    sandbox = cast(Terminal, env).sandbox
    return sandbox.shell.cwd if sandbox.shell.text else sandbox.config.workdir


def _fails(shown: Shown, source: str) -> bool:
    return shown.status != 0 and not (shown.status == 1 and answers_by_status(source))


def _told_alike(one: Shown, other: Shown, *, in_order: bool = False) -> bool:
    same = one.lines == other.lines if in_order else Counter(one.lines) == Counter(other.lines)
    return same and one.status == other.status


def _is_note(row: JsonObject, wanted: Outcome, env: AgentEnv) -> bool:
    """A new shell variable that is not exported: nobody but the shell's user sees it."""
    if row.get("shell") != "variable" or not str(row.get("value") or "").startswith("-- "):
        return False
    if any(other.get("name") == row["name"] for other in wanted.changes):
        return False
    return row["name"] not in variables(cast(Terminal, env).sandbox.shell)


def _describe(missing: list[JsonObject], extra: list[JsonObject], wanted: list[JsonObject]) -> str:
    def thing(row: JsonObject) -> str:
        return str(
            row.get("path") or row.get("git") or f"{row.get('shell')} {row.get('name', row.get('value', ''))}".strip()
        )

    if not wanted:
        return f"changes {', '.join(map(thing, extra[:3]))} where the demonstration changes nothing"
    both = [thing(row) for row in missing if thing(row) in {thing(other) for other in extra}]
    if both:
        return f"changes {', '.join(both[:3])} in another way"
    if missing:
        return f"does not change {', '.join(map(thing, missing[:3]))}"
    return f"also changes {', '.join(map(thing, extra[:3]))}"


def _stack(before: State, after: State) -> list[JsonObject]:
    """The directories that ``popd`` can go back to, where they changed."""
    one, two = (sections(state.payload.shell)["directories"].splitlines()[1:] for state in (before, after))
    return [] if one == two else [{"shell": "directories", "value": two}]


def _read(sandbox: Sandbox, path: str) -> bytes | None:
    try:
        return sandbox.read_file(path, max_bytes=MAX_READ)
    except SandboxFileError:
        return None


__all__ = ["Outcome", "TerminalEffects", "command_of"]
