"""Effects for terminals: run the demonstrated and the sampled command in forks, compare what they did and showed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import cast

from pivotgym.envs.core import AgentEnv
from pivotgym.envs.errors import BadInput
from pivotgym.envs.sandbox.shell_state import variables
from pivotgym.envs.trajectory import JsonObject, Message, ToolCall
from pivotgym.verifiers.arguments import canonical_call, inadmissible
from pivotgym.verifiers.base import Verdict, Verifier, pivot_of
from pivotgym.verifiers.effects import MAX_EXTRA_CALLS
from pivotgym.verifiers.talk import TalkRule
from pivotgym.verifiers.terminal_answers import judge_answer
from pivotgym.verifiers.terminal_changes import compare, loosely, place, settle
from pivotgym.verifiers.terminal_commands import (
    answers_by_status,
    chooses_by_place,
    only_reports,
    only_speaks,
    same_question,
    shows_whole,
    speaks,
    spelling,
)
from pivotgym.verifiers.terminal_outcomes import Outcome, Outcomes, Terminal, command_of, cwd_of, source_of
from pivotgym.verifiers.terminal_sources import asks_alike, computes, only_words, own_words_only
from pivotgym.verifiers.terminal_text import Asked, Shown, excess, facts, is_hash, is_numeric, made_up, untold
from pivotgym.verifiers.terminal_worlds import ASKED, LESS, MIXED, MORE, WORLDS
from pivotgym.verifiers.tool_call import NO_CALL


class TerminalEffects(Verifier):
    """Right is an action that changes the same in files and shell, and tells at least as much.

    - **Change.** Paths, kinds, modes, owners, link targets and contents, and the shell's directory, variables,
      functions, options, aliases and mask must be changed alike. Times do not count, nor does what two runs of the
      demonstration differ in, nor what programs leave in their caches, nor paths declared ``incidental``, nor loop
      variables, nor how archives, databases and git repositories store what they hold. One shell variable more that
      nothing else can see (not exported, not set before) is no other change.
    - **Observation.** Every demonstrated line is told (:func:`pivotgym.verifiers.terminal_text.untold`), except where
      the demonstration's programs only report the change that both made. Where the demonstration shows and changes
      nothing, silence must answer the same question.
    - **Status.** A command that fails where the demonstration succeeds is wrong; status 1 of ``grep`` and its kind is
      an answer.
    - **Found out, not made up.** What the command says itself (``echo 3``, put together or encoded) it did not find.
      And where the data is varied (:mod:`pivotgym.verifiers.terminal_worlds`) so that the demonstration shows, writes
      or assigns something else, so must the sampled command; where the demonstration shows the same, so must it. Where
      the demonstration shows its own words only (``test -f x && echo yes``), both must ask the same.
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
        self.incidental = tuple(incidental)
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
        problem = inadmissible(env.tools, demonstration.tool_calls, action.tool_calls, self.max_extra_calls)
        if problem is not None:
            return self._wrong(problem)
        if same_calls(env, demonstration, action):
            return Verdict(reward=1.0, rule=self.name, reason="the demonstrated commands")
        return self.compare(env, Outcomes(env, pivot, self.incidental), action)

    def compare(self, env: AgentEnv, runs: Outcomes, action: Message) -> Verdict:
        """Runs both and compares what they change and show."""
        wanted = runs.demonstrated()
        given = runs.run(action) if wanted.known else wanted
        if not (wanted.known and given.known):
            return self._wrong("not the demonstrated commands, and what runs in this state cannot be compared")
        evidence: JsonObject = {"shown": list(given.shown.lines[:20]), "changes": given.changes[:20]}
        asked = Asked(runs.source, source_of(action), cwd_of(env))
        if fails(given.shown, asked.sampled) and not fails(wanted.shown, asked.demonstrated):
            return self._wrong(f"fails with status {given.shown.status}", evidence)
        missing, extra = compare(wanted.changes, given.changes)
        extra = [row for row in extra if not _is_note(row, wanted, env)]
        if missing and extra:  # what differs between two demonstrations is no difference; as late as the action ran
            again = runs.run(runs.demonstration)
            missing, extra = settle(missing, extra, wanted.change, again.change, given.change)
        if missing or extra:
            found = {**evidence, "missing": missing[:20], "extra": extra[:20]}
            return self._wrong(_describe(missing, extra, wanted.changes), found)
        if given.done != wanted.done:
            return self._wrong("ends the episode" if given.done else "does not end the episode", evidence)
        if wanted.shown.lines:
            asked = replace(asked, volatile=_volatile(runs, wanted))
        problem = self._untold(wanted, given, asked) or self._not_found_out(runs, action, given, asked)
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

    def _not_found_out(self, runs: Outcomes, action: Message, given: Outcome, asked: Asked) -> str | None:
        """Says if what is shown, written or assigned does not come from where the demonstration has it from."""
        wanted = runs.demonstrated()
        shows = bool(wanted.shown.lines) and not (wanted.changes and only_reports(asked.demonstrated))
        writes = bool(wanted.changes) and computes(asked.demonstrated)
        if not (shows or writes):
            return None
        says = only_words(asked.demonstrated)
        if not says and only_words(asked.sampled):
            return "says what it should find out"
        if shows and (made_up(wanted.shown, asked) or (only_speaks(asked.sampled) and not only_speaks(runs.source))):
            return "says what it should find out"
        worlds = self.worlds
        if shows and not says and not wanted.changes and own_words_only(wanted.shown, asked):
            if speaks(asked.sampled) and not asks_alike(asked.demonstrated, asked.sampled):
                return "does not ask what the demonstration asks"
            worlds = (*worlds, *ASKED) if worlds else ()
        for world in worlds:
            there = runs.demonstrated_in(world, changes=writes)
            if there is None or not there.known:
                continue
            sampled: Outcome | None = None
            if shows and (world in ASKED or _says_something(there, wanted, asked)):
                sampled = runs.run(action, world, changes=writes)
                problem = _shown_otherwise(world, wanted, given, there, sampled, asked)
                if problem is not None:
                    return problem
            if writes and not (fails(there.shown, asked.demonstrated) and there.shown.status != wanted.shown.status):
                sampled = sampled or runs.run(action, world)
                if _written_otherwise(world, wanted, given, there, sampled, asked):
                    return "does not change what the demonstration changes where the data is other"
        return None

    def _wrong(self, reason: str, evidence: JsonObject | None = None) -> Verdict:
        return Verdict(reward=0.0, rule=self.name, reason=reason, evidence=evidence or {})


def same_calls(env: AgentEnv, demonstration: Message, action: Message) -> bool:
    """Whether both make the same calls, but for the spelling of what means the same."""

    def spelled(message: Message) -> list[tuple[str, str]]:
        return [(call.name, _spelled(env, call)) for call in message.tool_calls]

    calls = Counter(canonical_call(env.tools, call) for call in demonstration.tool_calls)
    given = Counter(canonical_call(env.tools, call) for call in action.tool_calls)
    return (calls == given and len(demonstration.tool_calls) == 1) or spelled(demonstration) == spelled(action)


def _spelled(env: AgentEnv, call: ToolCall) -> str:
    """A call that is nothing but a command by its spelling; of any other, all arguments count."""
    lone = isinstance(call.arguments, dict) and len(call.arguments) == 1
    return spelling(command_of(call)) if lone else canonical_call(env.tools, call)


def fails(shown: Shown, source: str) -> bool:
    """Whether a command failed; status 1 of ``grep`` and its kind is an answer."""
    return shown.status != 0 and not (shown.status == 1 and answers_by_status(source))


def _told_alike(one: Shown, other: Shown, *, in_order: bool = False) -> bool:
    same = one.lines == other.lines if in_order else Counter(one.lines) == Counter(other.lines)
    return same and one.status == other.status


def _says_something(there: Outcome, wanted: Outcome, asked: Asked) -> bool:
    """Whether a world in which the demonstration fails, as it does not otherwise, was none for it."""
    return there.shown.status == wanted.shown.status or not fails(there.shown, asked.demonstrated)


def _shown_otherwise(
    world: str, wanted: Outcome, given: Outcome, there: Outcome, sampled: Outcome, asked: Asked
) -> str | None:
    """Says if the output of both does not depend on the data in the same way."""
    if _told_alike(there.shown, wanted.shown):
        # Whoever looks at the same thing shows it here, too.
        if sampled.shown.status == given.shown.status and not untold(there.shown, sampled.shown, asked, once=True):
            return None
        return "shows something else where the demonstration would show the same"
    # Whoever sees a file as it is sees what stands where in it.
    in_order = (world == MIXED or chooses_by_place(asked.demonstrated)) and shows_whole(asked.sampled)
    if _told_alike(sampled.shown, given.shown, in_order=in_order):
        return "shows the same where the demonstration would show something else"
    # Hard-wired names and line numbers may be known from before; so only what can be an accident is asked for again:
    # lone numbers where lines are more or less, the first or last line where lines changed places.
    placed = chooses_by_place(asked.sampled) and not re.search(r"\b(?:sed|awk)\b", asked.sampled)
    numbered = re.search(r"\bNR\b|\bsed\b[^|;]*?[\"' ]\d+[pqd,]", asked.sampled) or placed
    # Names of copies are not known from before.
    same_files = world == LESS or (world == MORE and not _lists_names(asked.demonstrated))
    doubtful = (same_files and is_numeric(wanted.shown, asked) and not numbered) or (
        world == MIXED and placed and not chooses_by_place(asked.demonstrated)
    )
    nothing = not sampled.shown.lines and {fact for line in there.shown.lines for fact in facts(line)} == {"0"}
    if doubtful and not nothing and untold(there.shown, sampled.shown, asked, once=True):
        return "shows what the demonstration shows by accident"
    return None


def _lists_names(source: str) -> bool:
    """Whether what a command shows or writes depends on which files there are."""
    return re.search(r"[*?]|\b(?:find|ls|git|tree|du)\b|\s-\w*[rR]", source) is not None


def _written_otherwise(
    world: str, wanted: Outcome, given: Outcome, there: Outcome, sampled: Outcome, asked: Asked
) -> bool:
    """Whether what both write does not depend on the data in the same way; None where that is not known."""
    theirs, ours = loosely(there.change), loosely(sampled.change)
    noted = {place(row) for row in theirs}
    ours = [row for row in ours if not (row.get("shell") == "variable" and place(row) not in noted)]
    if theirs == ours:
        return False
    if theirs == loosely(wanted.change):
        return True
    placed = chooses_by_place(asked.sampled) or chooses_by_place(asked.demonstrated)
    # Names that the action knows from before are not those of the copies.
    names = world == MORE and _lists_names(asked.demonstrated)
    return (world != MIXED and not placed and not names) or loosely(given.change) == loosely(sampled.change)


def _volatile(runs: Outcomes, wanted: Outcome) -> frozenset[str]:
    """Demonstrated facts that a second run does not show; where commits were made, all ids, as those differ."""
    once = {fact for line in wanted.shown.lines for fact in facts(line)}
    differing = once - {fact for line in runs.again().lines for fact in facts(line)}
    made = {fact for fact in once if is_hash(fact)} if any("git" in row for row in wanted.changes) else set()
    return frozenset(differing | made)


def _is_note(row: JsonObject, wanted: Outcome, env: AgentEnv) -> bool:
    """A new shell variable that is not exported: nobody but the shell's user sees it."""
    if row.get("shell") != "variable" or not str(row.get("value") or "").startswith("-- "):
        return False
    if any(other.get("name") == row["name"] for other in wanted.changes):
        return False
    return row["name"] not in variables(cast(Terminal, env).sandbox.shell)


def _describe(missing: list[JsonObject], extra: list[JsonObject], wanted: list[JsonObject]) -> str:
    if not wanted:
        return f"changes {', '.join(map(place, extra[:3]))} where the demonstration changes nothing"
    both = [place(row) for row in missing if place(row) in {place(other) for other in extra}]
    if both:
        return f"changes {', '.join(both[:3])} in another way"
    if missing:
        return f"does not change {', '.join(map(place, missing[:3]))}"
    return f"also changes {', '.join(map(place, extra[:3]))}"


__all__ = ["Outcome", "TerminalEffects", "command_of"]
