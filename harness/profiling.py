"""Profiling: ``K`` judged actions of a frozen policy at every candidate turn, fewer where the outcome is clear.

The work is cut into fixed chunks of candidates. A chunk is sampled as one batch with a seed of its own, and its rows
are appended together, so a row never depends on where an earlier run was stopped: killed and resumed profiles have
the same bytes as undisturbed ones.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean, pvariance
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.jsonl import RowAppender, read_rows, write_jsonl, write_rows
from pivotgym.envs.trajectory import JsonObject, Trajectory, canonical_json, digest
from pivotgym.harness.policies.base import Policy, Sampling
from pivotgym.harness.runs import (
    CostMeter,
    Progress,
    claim,
    derive_seed,
    deterministic,
    exclusive,
    no_progress,
    policy_fingerprint,
)
from pivotgym.harness.seats import Place
from pivotgym.harness.sequential import SequentialOptions, Stop, decide, looks
from pivotgym.harness.turns import Candidate, TurnResult, TurnRunner
from pivotgym.verifiers.base import Verifier

REASON_LENGTH = 160
"""Characters kept of a verdict's reason."""


class ProfileConfig(BaseModel):
    """How to profile.

    Attributes:
        rollouts: actions sampled at each candidate (K).
        temperature: of the sampling.
        top_p: of the sampling.
        max_tokens: longest action.
        seed: fixes sampling, the choice of candidates and the split.
        chunk: candidates sampled as one batch; part of what the results depend on.
        verifier: spec of the verifier, ``default`` for the environment's own.
        env_options: keyword arguments of ``gym.make``.
        turns: every assistant turn, or only those that call tools, or only those that talk.
        limit: at most so many candidates, drawn at random with ``seed``.
        split: only trajectories of one side of :func:`split_ids` with ``heldout`` and ``seed``.
        heldout: share of trajectories (or tasks) held out by ``split``.
        split_by: what is kept together by the split; by task, no trial of a task is on both sides.
        strict: states whose replay differs from the recording count as not restorable.
        workers: threads that restore and judge.
        attempts: tries before a failure of the infrastructure is recorded as one.
        stop_error: stop sampling a candidate early when its first rewards are all 0 or all 1; this is the largest
            probability of so losing a candidate whose success probability is at least ``stop_margin`` from 0 and 1
            (see :mod:`pivotgym.harness.sequential`). None draws all K.
        stop_margin: see ``stop_error``.
        stop_above: stop sampling a candidate once its mean is sure to be above this, the filter's ``max_mean``.
        store_logprobs: keep the sampled tokens' log-probabilities in ``<name>.logprobs.jsonl``: training's
            ``reference_logprobs``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rollouts: int = Field(8, ge=1)
    temperature: float = Field(1.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int = Field(256, ge=1)
    seed: int = 0
    chunk: int = Field(4, ge=1)
    verifier: str = "default"
    env_options: JsonObject = Field(default_factory=dict)
    turns: Literal["all", "calls", "messages"] = "all"
    limit: int | None = Field(None, ge=1)
    split: Literal["all", "train", "heldout"] = "all"
    heldout: float = Field(0.2, ge=0, lt=1)
    split_by: Literal["trajectory", "task"] = "task"
    strict: bool = False
    workers: int = Field(2, ge=1)
    attempts: int = Field(3, ge=1)
    stop_error: float | None = Field(None, gt=0, lt=1)
    stop_margin: float = Field(0.25, gt=0, le=0.5)
    stop_above: float | None = Field(None, ge=0, le=1)
    store_logprobs: bool = False

    def results_depend_on(self) -> JsonObject:
        """The fields that change results (threads and retries do not)."""
        left_out = {"workers", "attempts"}
        if self.sequential is None:  # a profile of K samples each is one whatever the margin
            left_out |= {"stop_error", "stop_margin", "stop_above"}
        if not self.store_logprobs:
            left_out |= {"store_logprobs"}
        return self.model_dump(exclude=left_out)

    @property
    def sequential(self) -> SequentialOptions | None:
        """When to stop early; None where every candidate gets all K."""
        if self.stop_error is None and self.stop_above is None:
            return None
        return SequentialOptions(error=self.stop_error, margin=self.stop_margin, max_mean=self.stop_above)


def split_ids(ids: Iterable[str], fraction: float, seed: int) -> tuple[set[str], set[str]]:
    """Splits names into (train, held out), by the order of their hashes.

    Args:
        ids: distinct or not; order does not matter.
        fraction: share held out, rounded to whole names; more than 0 holds out at least one where two exist.
        seed: another seed, another split.
    """
    ranked = sorted(set(ids), key=lambda name: digest(f"{seed}/{name}"))
    count = round(len(ranked) * fraction)
    if fraction > 0 and len(ranked) > 1:
        count = min(max(count, 1), len(ranked) - 1)
    return set(ranked[count:]), set(ranked[:count])


def split_key(trajectory: Trajectory, by: Literal["trajectory", "task"]) -> str:
    """The name a trajectory is split by: its own, or its task's."""
    if by == "task" and trajectory.task is not None:
        return f"{trajectory.task.env}/{trajectory.task.data.get('domain', '')}/{trajectory.task.id}"
    return trajectory.id


def candidates_of(trajectories: Sequence[Trajectory], config: ProfileConfig) -> list[Candidate]:
    """The turns to profile, in the order of the trajectories.

    Raises:
        BadInput: two trajectories of one id: their rows could not be told apart.
    """
    doubles = [name for name, count in Counter(item.id for item in trajectories).items() if count > 1]
    if doubles:
        raise BadInput(f"two trajectories have the id {doubles[0]!r}", field="id")
    kept = list(trajectories)
    if config.split != "all":
        sides = split_ids((split_key(item, config.split_by) for item in kept), config.heldout, config.seed)
        wanted = sides[config.split == "heldout"]
        kept = [item for item in kept if split_key(item, config.split_by) in wanted]
    found = []
    for trajectory in kept:
        for turn, index in enumerate(trajectory.turns):
            calls = bool(trajectory.messages[index].tool_calls)
            if config.turns == "all" or calls == (config.turns == "calls"):
                found.append(Candidate(trajectory, turn))
        if not trajectory.turns:
            found.append(Candidate(trajectory, 0))  # reported as not restorable rather than passed over
    if config.limit is not None and config.limit < len(found):
        rng = np.random.default_rng(derive_seed(config.seed, "candidates"))
        chosen = rng.choice(len(found), size=config.limit, replace=False)
        found = [found[index] for index in sorted(chosen.tolist())]
    return found


def profile(
    trajectories: Sequence[Trajectory],
    policy: Policy,
    config: ProfileConfig,
    out: Path,
    progress: Progress = no_progress,
    *,
    verifier: Verifier | None = None,
    place: Place | None = None,
) -> list[JsonObject]:
    """Profiles every candidate into ``out`` (JSONL, one row a candidate; see :func:`result_row`).

    Beside it: ``<name>.trajectories.jsonl`` (the trajectories profiled, so that filtering needs nothing else),
    ``<name>.settings.json``, ``timings.jsonl``, and on request ``<name>.logprobs.jsonl``. Called again with the same
    settings it goes on where it stopped.

    Args:
        trajectories: the recordings.
        policy: the frozen reference policy.
        config: settings.
        out: the file of results.
        progress: called after each chunk.
        verifier: instead of ``config.verifier``, for verifiers that have no spec.
        place: where the environments run; by default in this process. The rows are the same.

    Returns:
        All rows.

    Raises:
        BadInput: no candidates, ``out`` was begun with other settings, or log-probabilities are wanted of a policy
            that gives none.
        InfrastructureError: the policy's backend is down; what was finished is kept.
    """
    candidates = candidates_of(trajectories, config)
    if not candidates:
        raise BadInput("no turn to profile", field="trajectories")
    chunks = [candidates[start : start + config.chunk] for start in range(0, len(candidates), config.chunk)]
    settings = {
        **config.results_depend_on(),
        "policy": policy.name,
        "policy_fingerprint": policy_fingerprint(policy),
        "candidates": digest(canonical_json([[trajectory_digest(c.trajectory), c.turn] for c in candidates])),
    }
    if verifier is not None:
        settings["verifier"] = f"{type(verifier).__name__} {verifier.name}".strip()
    out = Path(out)
    with exclusive(out), deterministic():
        claim(settings_file(out), settings, [out])
        _write_trajectories(candidates, out)
        rows = _finished(out, chunks)
        if config.store_logprobs:
            _keep_logprobs(out, math.ceil(len(rows) / config.chunk))
        progress("profile", len(rows), len(candidates), {})
        with TurnRunner(
            verifier or config.verifier,
            env_options=config.env_options,
            strict=config.strict,
            workers=config.workers,
            attempts=config.attempts,
            place=place,
        ) as runner:
            for number in range(math.ceil(len(rows) / config.chunk), len(chunks)):
                with CostMeter(out.parent, "profile", number, policy) as meter:
                    results, stops = _profile_chunk(runner, policy, chunks[number], config, number)
                    meter.cost.rollout_turns += sum(len(result.completions) for result in results)
                    meter.cost.env_actions += sum(result.env_actions for result in results)
                fresh = [
                    {**result_row(result), **({} if config.sequential is None else {"stopped": stop})}
                    for result, stop in zip(results, stops, strict=True)
                ]
                if config.store_logprobs:
                    _store_logprobs(out, number, results)  # before the rows: these say that the chunk is finished
                _append_together(out, fresh)
                rows += fresh
                figures = {"pivots": sum(1 for row in rows if (row["var"] or 0) > 0)}
                progress("profile", len(rows), len(candidates), figures)
    return rows


def _profile_chunk(
    runner: TurnRunner, policy: Policy, chunk: list[Candidate], config: ProfileConfig, number: int
) -> tuple[list[TurnResult], list[Stop | None]]:
    """The results of a chunk, and why each candidate was stopped early.

    With sequential testing in rounds: what a round samples depends on the chunk, the round, and which candidates the
    rounds before left open, all of which the settings and the seed fix.
    """
    results: list[TurnResult] = []
    stops: list[Stop | None] = [None] * len(chunk)
    options = config.sequential
    open_ = list(range(len(chunk)))
    drawn = 0
    for place, upto in enumerate([config.rollouts] if options is None else looks(config.rollouts, options)):
        parts = ["profile", number] if place == 0 else ["profile", number, place]
        sampling = Sampling(config.temperature, config.top_p, config.max_tokens, derive_seed(config.seed, *parts))
        found = runner.run(policy, [chunk[index] for index in open_], upto - drawn, sampling)
        if place == 0:
            results = found
        else:
            for index, more in zip(open_, found, strict=True):
                results[index] = joined(results[index], more)
        drawn = upto
        if options is not None:
            for index in open_:
                if results[index].status == "ok":
                    stops[index] = decide(results[index].rewards, config.rollouts, options)
        open_ = [index for index in open_ if results[index].status == "ok" and stops[index] is None]
        if not open_:
            break
    return results, stops


def joined(first: TurnResult, more: TurnResult) -> TurnResult:
    """Two rounds of samples at one candidate as one result; a failure of the second is one of the whole."""
    return TurnResult(
        candidate=first.candidate,
        status=more.status,
        error=more.error,
        completions=[*first.completions, *more.completions],
        verdicts=[*first.verdicts, *more.verdicts] if more.status == "ok" else [],
        report=first.report,
        env_actions=first.env_actions + more.env_actions,
    )


def result_row(result: TurnResult) -> JsonObject:
    """One candidate as a row of ``profile.jsonl``.

    ``rewards``, ``mean`` and ``var`` (population variance, divisor K) are there when ``status`` is ``ok``, otherwise
    empty and null. ``restore`` is null where no state was restored. Nothing in a row depends on time or caches.
    """
    trajectory, turn, report = result.candidate.trajectory, result.candidate.turn, result.report
    rewards = result.rewards
    demonstration = trajectory.action(turn) if turn < len(trajectory.turns) else None
    return {
        "trajectory": trajectory.id,
        "turn": turn,
        "turns": len(trajectory.turns),
        "demonstration": [call.name for call in demonstration.tool_calls] if demonstration is not None else [],
        "status": result.status,
        "error": result.error,
        "rewards": rewards,
        "mean": fmean(rewards) if rewards else None,
        "var": pvariance(rewards) if rewards else None,
        "verdicts": [{"rule": v.rule, "reason": v.reason[:REASON_LENGTH]} for v in result.verdicts],
        "malformed": result.malformed,
        "stop_reasons": [completion.stop_reason for completion in result.completions],
        "prompt_tokens": len(result.completions[0].prompt_ids) if result.completions else 0,
        "tokens": [len(completion.token_ids) for completion in result.completions],
        "completions": [completion.text for completion in result.completions],
        "restore": None
        if report is None
        else {
            "faithful": report.faithful,
            "fidelity": report.fidelity,
            "errors": report.errors,
            "diverged": [{"turn": c.turn, "message": c.message, "kind": c.kind} for c in report.diverged],
        },
    }


def trajectories_file(out: Path) -> Path:
    """Where the trajectories of the profile at ``out`` are."""
    return out.with_suffix(".trajectories.jsonl")


def settings_file(out: Path) -> Path:
    """Where the settings of the profile at ``out`` are."""
    return out.with_suffix(".settings.json")


def logprobs_file(out: Path) -> Path:
    """Where the log-probabilities of the actions sampled for the profile at ``out`` are, if they were stored."""
    return out.with_suffix(".logprobs.jsonl")


def trajectory_digest(trajectory: Trajectory) -> str:
    """A digest of all a recording says; where it was read from does not count."""
    return digest(canonical_json(trajectory.model_dump(mode="json", exclude={"source"})))


def _write_trajectories(candidates: list[Candidate], out: Path) -> None:
    # Each time: a file left there by other results must not be joined with these.
    write_jsonl(trajectories_file(out), {c.trajectory.id: c.trajectory for c in candidates}.values())


def _store_logprobs(out: Path, number: int, results: list[TurnResult]) -> None:
    from pivotgym.harness.reference import write_reference  # late: it brings torch

    sampled = [completion for result in results for completion in result.completions]
    if not write_reference(logprobs_file(out), sampled, chunk=number) and sampled:
        raise BadInput("the policy gives no token ids with log-probabilities to store", field="store_logprobs")


def _keep_logprobs(out: Path, chunks: int) -> None:
    """Cuts the stored log-probabilities back to those of finished chunks."""
    path = logprobs_file(out)
    rows = list(read_rows(path)) if path.exists() else []
    kept = [row for row in rows if row["chunk"] < chunks]
    if len(kept) < len(rows) or not path.exists():
        write_rows(path, kept)


def _finished(out: Path, chunks: list[list[Candidate]]) -> list[JsonObject]:
    """The rows of whole chunks; what a kill left of an unfinished one is cut off."""
    rows = list(read_rows(out))
    total = sum(len(chunk) for chunk in chunks)
    keep = len(rows) if len(rows) == total else len(rows) // len(chunks[0]) * len(chunks[0])
    if out.exists():
        write_rows(out, rows[:keep])
    return rows[:keep]


def _append_together(out: Path, rows: list[JsonObject]) -> None:
    with RowAppender(out, fsync=True) as appender:
        for row in rows:
            appender.append(row)
