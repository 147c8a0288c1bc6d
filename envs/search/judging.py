"""An LLM decides whether a final answer is the right one, as BrowseComp and SimpleQA are graded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from pivotgym.envs.search.grading import grade
from pivotgym.envs.trajectory import JsonObject, digest
from pivotgym.envs.verdict import Verdict
from pivotgym.verifiers.judge import Judge, cut_middle
from pivotgym.verifiers.registry import VerifierOptions

PROMPT = Path(__file__).with_name("judge_answer.jinja")
_LONGEST = 4000


class AnswerJudge(Judge):
    """The :class:`Judge` with another question: do these two answers say the same?

    What the normalised match accepts is right without asking.
    """

    def grade(self, question: str, given: str, expected: Sequence[str]) -> Verdict:
        """1 or 0 by rule ``judge`` (``goal`` where nobody had to be asked).

        Raises:
            EndpointError: no verdict can be had; never a reward.
        """
        matched = grade(question, given, expected)
        if matched.reward == 1.0:
            return matched
        parts = {
            "question": json.dumps(question, ensure_ascii=False),
            "expected": json.dumps(list(expected), ensure_ascii=False),
            "given": json.dumps(cut_middle(given, _LONGEST), ensure_ascii=False),
        }
        # The answer must not be able to close its mark.
        escaped = {name: text.replace("<", "\\u003c").replace(">", "\\u003e") for name, text in parts.items()}
        prompt = self._template.render(mark=digest(json.dumps(parts))[:12], **escaped)
        key = digest(json.dumps([self.model, self._max_tokens, prompt]))
        answer = self._remembered(key)
        cached = answer is not None
        if answer is None:
            answer = self._ask(prompt)
            self._remember(key, answer)
        evidence: JsonObject = {"given": given[:300], "model": self.model, "cached": cached, "answer": answer}
        reason = str(answer.get("reason", ""))
        return Verdict(reward=float(answer["equivalent"]), rule=self.name, reason=reason, evidence=evidence)


@lru_cache(maxsize=8)
def answer_judge(url: str | None, model: str | None, cache: Path | None) -> AnswerJudge:
    """The judge at an endpoint, by default the one that the ``PIVOTGYM_JUDGE_…`` variables name.

    Raises:
        BadInput: no endpoint, or no model.
    """
    from pivotgym.envs.errors import BadInput

    options = VerifierOptions(judge_url=url, judge_model=model).resolved()
    if not options.judge_url or not options.judge_model:
        told = "set judge_url and judge_model, or PIVOTGYM_JUDGE_URL and PIVOTGYM_JUDGE_MODEL"
        raise BadInput(told, field="grader")
    return AnswerJudge(
        options.judge_url, options.judge_model, api_key=options.judge_api_key, cache=cache, prompt=PROMPT
    )
