"""Rollouts of the next step, sampled while this one is trained on.

The batch of step ``t + 1`` is sampled from the weights before update ``t``, so it is one batch old when it is trained
on, never more; that of step 1 is fresh. Checkpoints hold the batch that is ready, because the weights it came from are
gone by then: a killed run goes on to the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.jsonl import read_rows
from pivotgym.envs.trajectory import JsonObject, Message
from pivotgym.envs.verdict import Verdict
from pivotgym.harness.policies.base import Completion
from pivotgym.harness.turns import Candidate, TurnResult

AHEAD = "ahead.jsonl"
"""The file in a checkpoint."""


class Ahead:
    """Holds the rollouts of one step to come; a thread of its own makes them."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="pivotgym-ahead")
        self._running: Future[list[TurnResult]] | None = None
        self._number, self._updates = 0, 0
        self._ready: list[TurnResult] | None = None

    def begin(self, number: int, updates: int, work: Callable[[], list[TurnResult]]) -> None:
        """Starts the rollouts of step ``number``; ``updates`` is how many the sampling weights have seen."""
        assert self._running is None and self._ready is None
        self._number, self._updates = number, updates
        self._running = self._pool.submit(work)

    def wait(self) -> list[TurnResult]:
        """The rollouts that were begun, empty where none were; raises what they raised."""
        if self._running is None:
            return []
        running, self._running = self._running, None
        self._ready = running.result()
        return self._ready

    def take(self, number: int) -> tuple[list[TurnResult], int] | None:
        """The rollouts of step ``number`` and the updates their weights had seen; None where they were not made."""
        ready, self._ready = self._ready, None
        return (ready, self._updates) if ready is not None and self._number == number else None

    def rows(self) -> list[JsonObject]:
        """What is ready, for a checkpoint: a row a candidate, after one with the step's number."""
        if self._ready is None:
            return []
        head: JsonObject = {"step": self._number, "updates": self._updates}
        return [head, *map(rollout_row, self._ready)]

    def load(self, file: Path, candidates: Callable[[int], Sequence[Candidate]]) -> None:
        """Goes to what a checkpoint holds.

        Args:
            file: written from :meth:`rows`.
            candidates: of a step.

        Raises:
            BadInput: the file is not whole.
        """
        rows = list(read_rows(file)) if file.is_file() else []
        self._ready = None
        if not rows:
            return
        self._number, self._updates = int(rows[0]["step"]), int(rows[0]["updates"])
        expected = candidates(self._number)
        if len(rows) != len(expected) + 1:
            raise BadInput(f"{len(rows) - 1} rollouts for {len(expected)} pivots", file=file)
        self._ready = [rollout(row, candidate) for row, candidate in zip(rows[1:], expected, strict=True)]

    def close(self) -> None:
        """Ends the thread, after what it is at."""
        self._pool.shutdown()


def rollout_row(result: TurnResult) -> JsonObject:
    """A judged group as a row; floats keep every bit. How faithful the restored state is, is left out."""
    completions: list[JsonObject] = [
        {
            "message": completion.message.model_dump(mode="json"),
            "text": completion.text,
            "token_ids": completion.token_ids,
            "logprobs": completion.logprobs,
            "stop_reason": completion.stop_reason,
            "malformed": completion.malformed,
            "all_reasoning": completion.all_reasoning,
        }
        for completion in result.completions
    ]
    return {
        "status": result.status,
        "error": result.error,
        "env_actions": result.env_actions,
        "prompt_ids": result.completions[0].prompt_ids if result.completions else [],
        "completions": completions,
        "verdicts": [verdict.model_dump(mode="json") for verdict in result.verdicts],
    }


def rollout(row: JsonObject, candidate: Candidate) -> TurnResult:
    """The inverse of :func:`rollout_row`."""
    prompt_ids: list[int] = row["prompt_ids"]

    def completion(item: dict[str, Any]) -> Completion:
        return Completion(**{**item, "message": Message.model_validate(item["message"]), "prompt_ids": prompt_ids})

    return TurnResult(
        candidate=candidate,
        status=row["status"],
        error=row["error"],
        completions=[completion(item) for item in row["completions"]],
        verdicts=[Verdict.model_validate(item) for item in row["verdicts"]],
        env_actions=row["env_actions"],
    )
