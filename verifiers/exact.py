"""ExactMatch: the baseline every other verifier must beat."""

from __future__ import annotations

from pivotgym.envs.core import AgentEnv
from pivotgym.envs.trajectory import Message, ToolCall, canonical_json
from pivotgym.verifiers.base import Verdict, Verifier, pivot_of


class ExactMatch(Verifier):
    """Right only where the action is written like the demonstration.

    Calls: same number, same order, same names, same JSON text of the arguments (keys in the order written). Without
    calls: same text. Text beside calls is ignored, as the environments ignore it.
    """

    name = "exact"
    cost = 0.0

    def verify(self, env: AgentEnv, action: Message) -> Verdict:
        """1 for the same spelling, else 0."""
        demonstration = pivot_of(env).demonstration
        if demonstration.tool_calls or action.tool_calls:
            wanted = [_spelling(call) for call in demonstration.tool_calls]
            given = [_spelling(call) for call in action.tool_calls]
            same, what = wanted == given, "calls"
        else:
            same, what = demonstration.text == action.text, "text"
        reason = f"the same {what} as demonstrated" if same else f"other {what} than demonstrated"
        return Verdict(reward=float(same), rule=self.name, reason=reason)


def _spelling(call: ToolCall) -> tuple[str, str]:
    arguments = call.arguments
    return call.name, arguments if isinstance(arguments, str) else canonical_json(arguments, sort=False)
