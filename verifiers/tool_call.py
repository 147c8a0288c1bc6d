"""ToolCall: the same calls by their meaning, without executing them."""

from __future__ import annotations

from collections import Counter

from pivotgym.envs.core import AgentEnv
from pivotgym.envs.trajectory import Message
from pivotgym.verifiers.arguments import canonical_call, schema_problem
from pivotgym.verifiers.base import Verdict, Verifier, pivot_of
from pivotgym.verifiers.talk import TalkRule


class ToolCallMatch(Verifier):
    """Compares calls by schema, name and arguments (see :func:`pivotgym.verifiers.arguments.canonical_arguments`).

    Calls of one message were issued without seeing each other's results, so they are independent and are compared as
    a multiset; a missing or an extra call is wrong. A call where the demonstration talks is wrong, and the other way
    round. Where both talk, :class:`pivotgym.verifiers.talk.TalkRule` judges.
    """

    name = "tool_call"
    cost = 1.0

    def __init__(self, talk: TalkRule | None = None) -> None:
        self.talk = talk or TalkRule()

    def verify(self, env: AgentEnv, action: Message) -> Verdict:
        """1 for the same calls, else 0; a text is judged by its facts."""
        demonstration = pivot_of(env).demonstration
        if not demonstration.tool_calls and not action.tool_calls:
            return self.talk.judge(env, action)
        if not demonstration.tool_calls or not action.tool_calls:
            return self._wrong("calls a tool where the demonstration talks" if action.tool_calls else NO_CALL)
        for call in action.tool_calls:
            problem = schema_problem(env.tools, call)
            if problem is not None:
                return self._wrong(problem)
        wanted = Counter(canonical_call(env.tools, call) for call in demonstration.tool_calls)
        given = Counter(canonical_call(env.tools, call) for call in action.tool_calls)
        missing, extra = sorted((wanted - given).elements()), sorted((given - wanted).elements())
        if missing or extra:
            what = "a call differs" if missing and extra else "a call is missing" if missing else "an extra call"
            return self._wrong(what, missing=missing, extra=extra)
        return Verdict(reward=1.0, rule=self.name, reason="the demonstrated calls")

    def _wrong(self, reason: str, **evidence: list[str]) -> Verdict:
        return Verdict(reward=0.0, rule=self.name, reason=reason, evidence=dict(evidence))


NO_CALL = "talks where the demonstration calls a tool"
