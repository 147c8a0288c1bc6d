"""Effects: execute the demonstrated and the sampled action in two forks and compare what they did and showed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pivotgym.envs.core import AgentEnv, Effect, Pivot
from pivotgym.envs.trajectory import JsonObject, Message, ToolCall, canonical_json
from pivotgym.verifiers.arguments import (
    canonical_arguments,
    canonical_call,
    inadmissible,
    is_prose_answer,
    prose_arguments,
    tool_schema,
)
from pivotgym.verifiers.base import Verdict, Verifier, pivot_of
from pivotgym.verifiers.coverage import is_error, uncovered
from pivotgym.verifiers.talk import TalkRule, prose_problem
from pivotgym.verifiers.tool_call import NO_CALL

MAX_EXTRA_CALLS = 1
"""So many calls more than the demonstration are allowed, so that calling everything is no way to be right."""


class Effects(Verifier):
    """Right is an action that changes the same and tells at least as much.

    - **Change.** Both actions run in forks of the same state; their state changes must be equal. An action that
      changes more, less or something else is wrong.
    - **Observation.** Every fact of the demonstrated results (a JSON leaf with its key, wherever it stands) is in the
      sampled results. A result that does not say what it is about (``[]``, ``landed``) counts only with the
      demonstrated arguments. No sampled call fails unless a demonstrated one does.
    - **Free text.** Arguments that hold prose (a summary, a note) need not be spelled alike: see
      :func:`pivotgym.verifiers.talk.prose_problem`.
    - **Unseen change.** Where the state cannot be saved (an MCP server), nobody sees what an action changed: then only
      the demonstrated calls are right.
    - **Economy.** At most ``max_extra_calls`` calls more than the demonstration.
    - **Talk.** Where the demonstration talks to the user, :class:`pivotgym.verifiers.talk.TalkRule` judges texts, and
      an action with calls is wrong, reading ones included: the user would be kept waiting for what is already known.
      Where the demonstration calls, a text is wrong.

    Domains override :meth:`missing` (what of the demonstrated observation is not told), :meth:`failed` (is a message a
    reported failure) or :meth:`talks`.
    """

    name = "effects"
    cost = 10.0

    def __init__(self, talk: TalkRule | None = None, max_extra_calls: int = MAX_EXTRA_CALLS) -> None:
        self.talk = talk or TalkRule()
        self.max_extra_calls = max_extra_calls

    def verify(self, env: AgentEnv, action: Message) -> Verdict:
        """1 or 0 by rule ``effects``; for texts by the rules of :class:`TalkRule`."""
        pivot = pivot_of(env)
        demonstration = pivot.demonstration
        if self.talks(env, demonstration):
            if self.talks(env, action):
                return self.talk.judge(env, action)
            return self._wrong("calls a tool where the demonstration talks")
        if self.talks(env, action):
            return self._wrong(NO_CALL)
        problem = inadmissible(env.tools, demonstration.tool_calls, action.tool_calls, self.max_extra_calls)
        if problem is not None:
            return self._wrong(problem)
        prose = _align_prose(env, demonstration, action)
        if isinstance(prose, str):
            return self._wrong(prose)
        wanted, given = demonstrated_effect(env, pivot), env.effect(action)
        if not (wanted.known and given.known):
            return self._unseen(env, demonstration, action)
        return self._compare(env, demonstration, action, wanted, given, prose)

    def talks(self, env: AgentEnv, action: Message) -> bool:
        """Whether an action speaks to the user instead of acting. Default: it has no tool calls."""
        return not action.tool_calls

    def failed(self, env: AgentEnv, message: Message) -> bool:
        """Whether a message of an observation reports a failure."""
        return is_error(message)

    def missing(
        self, env: AgentEnv, demonstration: Message, wanted: Effect, action: Message, given: Effect
    ) -> list[str]:
        """What the demonstrated observation told that the sampled one does not. Override for a domain's own notion.

        Args:
            env: stands at the pivot.
            demonstration: the demonstrated action.
            wanted: its effect.
            action: the sampled action.
            given: its effect; the state change equals the demonstrated one. Free-text arguments of ``action`` and
                ``given`` that say the same have been put into the demonstrated words.
        """
        shown, got = _results(wanted.observation), _results(given.observation)
        changed = bool(wanted.changes)
        return uncovered(env, demonstration.tool_calls, shown, action.tool_calls, got, changed)

    def _compare(
        self,
        env: AgentEnv,
        demonstration: Message,
        action: Message,
        wanted: Effect,
        given: Effect,
        prose: list[tuple[str, str]],
    ) -> Verdict:
        failing = any(self.failed(env, message) for message in wanted.observation)
        errors = [message.text[:300] for message in given.observation if self.failed(env, message)]
        if errors and not failing:
            return self._wrong("a call fails", {"errors": errors})
        changes = _replace(given.changes, {sampled: shown for shown, sampled in prose})
        if canonical_json(changes) != canonical_json(wanted.changes):
            evidence = {"changes": given.changes[:20], "demonstrated_changes": wanted.changes[:20]}
            return self._wrong(_compare_changes(given, wanted), evidence)
        if given.done != wanted.done:
            return self._wrong("ends the episode" if given.done else "does not end the episode")
        aligned = _replace_prose(action, prose)
        told = Effect(changes, [_replace_text(message, prose) for message in given.observation], given.done)
        gaps = self.missing(env, demonstration, wanted, aligned, told)
        if gaps:
            return self._wrong("does not show " + "; ".join(gaps[:5])[:300], {"missing": gaps[:50]})
        what = "the same change" if wanted.changes else "no change"
        evidence = {"changes": given.changes[:20]}
        return Verdict(
            reward=1.0, rule=self.name, reason=f"{what}, and shows what the demonstration shows", evidence=evidence
        )

    def _unseen(self, env: AgentEnv, demonstration: Message, action: Message) -> Verdict:
        wanted = sorted(canonical_call(env.tools, call) for call in demonstration.tool_calls)
        if sorted(canonical_call(env.tools, call) for call in action.tool_calls) != wanted:
            return self._wrong("not the demonstrated calls, and this state cannot be compared")
        return Verdict(reward=1.0, rule=self.name, reason="the demonstrated calls, where the state cannot be compared")

    def _wrong(self, reason: str, evidence: JsonObject | None = None) -> Verdict:
        return Verdict(reward=0.0, rule=self.name, reason=reason, evidence=evidence or {})


def demonstrated_effect(env: AgentEnv, pivot: Pivot) -> Effect:
    """The demonstrated action's effect, executed once a pivot and kept in ``pivot.cache``."""
    if "effect" not in pivot.cache:
        pivot.cache["effect"] = env.effect(pivot.demonstration)
    effect: Effect = pivot.cache["effect"]
    return effect


def _results(observation: Sequence[Message]) -> list[Message]:
    return [message for message in observation if message.role == "tool" and message.requestor == "assistant"]


def _compare_changes(given: Effect, wanted: Effect) -> str:
    if not wanted.changes:
        return "changes something where the demonstration only reads"
    return "another change than demonstrated" if given.changes else "changes nothing where the demonstration does"


def _align_prose(env: AgentEnv, demonstration: Message, action: Message) -> list[tuple[str, str]] | str:
    """Pairs free-text arguments of calls that are otherwise alike: (demonstrated, sampled), or says what is wrong."""
    pairs: list[tuple[str, str]] = []
    free = list(action.tool_calls)
    for call in demonstration.tool_calls:
        names = prose_arguments(tool_schema(env.tools, call.name), call.arguments)
        partner = next((other for other in free if _alike(env, call, other, names)), None)
        if not names or partner is None or isinstance(call.arguments, str) or isinstance(partner.arguments, str):
            continue
        free.remove(partner)
        for name in sorted(names):
            shown, sampled = call.arguments[name], partner.arguments[name]
            if shown == sampled:
                continue
            problem = prose_problem(env, shown, sampled)
            if problem is not None:
                return f"{call.name}.{name}: {problem}"
            pairs.append((shown, sampled))
    return pairs


def _alike(env: AgentEnv, call: ToolCall, other: ToolCall, names: set[str]) -> bool:
    if call.name != other.name or isinstance(other.arguments, str) or isinstance(call.arguments, str):
        return False
    if not all(is_prose_answer(other.arguments.get(name)) for name in names):
        return False
    schema = tool_schema(env.tools, call.name)
    ours = {key: value for key, value in call.arguments.items() if key not in names}
    theirs = {key: value for key, value in other.arguments.items() if key not in names}
    return canonical_json(canonical_arguments(schema, ours)) == canonical_json(canonical_arguments(schema, theirs))


def _replace(value: Any, texts: dict[str, str]) -> Any:
    """``value`` with strings that contain a sampled free text brought to the demonstrated one."""
    if isinstance(value, str):
        for sampled, shown in texts.items():
            value = value.replace(sampled, shown)
        return value
    if isinstance(value, list):
        return [_replace(item, texts) for item in value]
    if isinstance(value, dict):
        return {key: _replace(item, texts) for key, item in value.items()}
    return value


def _replace_prose(action: Message, prose: list[tuple[str, str]]) -> Message:
    texts = {sampled: shown for shown, sampled in prose}
    calls = [call.model_copy(update={"arguments": _replace(call.arguments, texts)}) for call in action.tool_calls]
    return action.model_copy(update={"tool_calls": calls})


def _replace_text(message: Message, prose: list[tuple[str, str]]) -> Message:
    text = message.text
    for shown, sampled in prose:
        # Inside a JSON result the text is escaped.
        text = text.replace(canonical_json(sampled)[1:-1], canonical_json(shown)[1:-1]).replace(sampled, shown)
    return message.model_copy(update={"content": text})
