"""Pivots: the candidates a policy sometimes gets right, which are the only ones with a gradient.

A group of equal rewards has advantage 0 everywhere, so a turn the policy always gets right or always wrong teaches
nothing (PivotRL, arXiv:2603.21383, proposition 3.1). Filtering keeps ``var > 0`` and ``mean <= max_mean``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.jsonl import read_jsonl, read_rows, write_rows
from pivotgym.envs.trajectory import JsonObject, Trajectory, canonical_json, digest
from pivotgym.harness.profiling import split_ids, split_key, trajectories_file
from pivotgym.harness.runs import derive_seed
from pivotgym.harness.turns import Candidate

TINY = 1e-12
"""A variance above this is one: equal rewards that are no binary fractions may differ in the last digit."""


class FilterConfig(BaseModel):
    """Which candidates become pivots.

    Attributes:
        max_mean: drop candidates with a higher mean reward (too easy).
        min_mean: drop candidates with a lower one.
        keep_unfaithful: keep candidates whose replay differs from the recording.
        heldout: share of trajectories (or tasks) whose pivots are held out for evaluation.
        split_by: what the split keeps together; by task, no trial of a task is on both sides.
        seed: of the split, and of the choice by ``target``.
        limit: at most so many training pivots, by :func:`select_by_difficulty`; None keeps all.
        target: the pass rate those should be near.
        width: how near, a standard deviation.
        drop_shared: drop held-out pivots at whose very state a training pivot stands too. With a split by task there
            are none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_mean: float = Field(0.6, ge=0, le=1)
    min_mean: float = Field(0.0, ge=0, le=1)
    keep_unfaithful: bool = False
    heldout: float = Field(0.2, ge=0, lt=1)
    split_by: Literal["trajectory", "task"] = "task"
    seed: int = 0
    limit: int | None = Field(None, ge=1)
    target: float = Field(0.5, ge=0, le=1)
    width: float = Field(0.25, gt=0)
    drop_shared: bool = True


class Pivot(BaseModel):
    """A row of ``pivots.jsonl``: a recorded turn with mixed outcomes, ready to train on.

    Attributes:
        trajectory: the whole recording (the state is restored from it, the verifier compares with it).
        turn: which turn.
        split: ``train`` or ``heldout``.
        profile: the candidate's row of ``profile.jsonl``, without the completions' texts.
    """

    model_config = ConfigDict(extra="forbid")

    trajectory: Trajectory
    turn: int = Field(ge=0)
    split: Literal["train", "heldout"] = "train"
    profile: JsonObject = Field(default_factory=dict)

    @property
    def candidate(self) -> Candidate:
        """The state to act in."""
        return Candidate(self.trajectory, self.turn)


_REASONS = (
    "infrastructure",
    "too_long",
    "not_restorable",
    "unfaithful",
    "always_wrong",
    "always_right",
    "always_equal",
    "too_easy",
    "too_hard",
    "dropped_shared",
    "over_limit",
)


@dataclass
class FilterReport:
    """What was kept and why the rest was not; every candidate is counted once, by the first reason that holds.

    Attributes:
        candidates: rows read.
        infrastructure: no rewards because something outside the policy failed.
        too_long: the prompt does not fit the policy's context.
        not_restorable: the state could not be rebuilt.
        unfaithful: the replay differs from the recording.
        always_wrong: every reward 0.
        always_right: every reward 1.
        always_equal: every reward the same, in between.
        too_easy: mean above ``max_mean``.
        too_hard: mean below ``min_mean``.
        dropped_shared: its trajectory is held out, but a training pivot stands at the very same state.
        over_limit: left out by ``limit``.
        pivots: kept.
        train: kept for training.
        heldout: kept for evaluation.
        train_trajectories: recordings the training pivots are from.
        heldout_trajectories: recordings the held-out pivots are from.
        shared_states: held-out pivots kept although a training pivot stands at the same state.
    """

    candidates: int = 0
    infrastructure: int = 0
    too_long: int = 0
    not_restorable: int = 0
    unfaithful: int = 0
    always_wrong: int = 0
    always_right: int = 0
    always_equal: int = 0
    too_easy: int = 0
    too_hard: int = 0
    dropped_shared: int = 0
    over_limit: int = 0
    pivots: int = 0
    train: int = 0
    heldout: int = 0
    train_trajectories: int = 0
    heldout_trajectories: int = 0
    shared_states: int = 0
    settings: JsonObject = field(default_factory=dict)

    def row(self) -> JsonObject:
        """As a JSON object."""
        return dict(vars(self))

    @property
    def kept(self) -> int:
        """How many candidates became pivots."""
        return self.pivots

    @property
    def dropped(self) -> dict[str, int]:
        """Each reason that dropped something, and how many."""
        return {name: getattr(self, name) for name in _REASONS if getattr(self, name)}


def filter_profile(
    rows: Iterable[JsonObject], max_mean: float = 0.6, min_mean: float = 0.0, keep_unfaithful: bool = False
) -> tuple[list[JsonObject], FilterReport]:
    """The rows of a profile that are pivots, and what was dropped.

    Args:
        rows: rows of ``profile.jsonl``.
        max_mean: see :class:`FilterConfig`.
        min_mean: see :class:`FilterConfig`.
        keep_unfaithful: see :class:`FilterConfig`.

    Raises:
        BadInput: a row that is none of a profile.
    """
    report, kept = FilterReport(), []
    for number, row in enumerate(rows, start=1):
        report.candidates += 1
        try:
            reason = _why_not(row, max_mean, min_mean, keep_unfaithful)
        except (KeyError, TypeError, AttributeError) as error:
            raise BadInput(f"no row of a profile ({type(error).__name__}: {error})", line=number) from error
        if reason is None:
            kept.append(row)
        else:
            setattr(report, reason, getattr(report, reason) + 1)
    report.pivots = len(kept)
    return kept, report


def _why_not(row: JsonObject, max_mean: float, min_mean: float, keep_unfaithful: bool) -> str | None:
    if row["status"] != "ok":
        return str(row["status"])
    if not keep_unfaithful and not row["restore"]["faithful"]:
        return "unfaithful"
    mean, var = float(row["mean"]), float(row["var"])
    if var <= TINY:
        return "always_wrong" if mean <= TINY else "always_right" if mean >= 1 - TINY else "always_equal"
    if mean > max_mean:
        return "too_easy"
    return "too_hard" if mean < min_mean else None


def make_pivots(
    rows: Sequence[JsonObject], trajectories: Iterable[Trajectory], config: FilterConfig | None = None
) -> list[Pivot]:
    """Joins kept rows with their recordings and splits them into training and held-out pivots.

    Two trajectories of one task begin at the same state. Where the split goes by trajectory, a held-out pivot may
    stand at a state that is trained on; ``drop_shared`` leaves those out (:func:`held_out_in_earnest`).

    Raises:
        BadInput: a row names a trajectory or a turn that is not there.
    """
    config = config or FilterConfig()
    wanted = {row["trajectory"] for row in rows}
    by_id = {item.id: item for item in trajectories if item.id in wanted}
    for row in rows:
        if row["trajectory"] not in by_id:
            raise BadInput(
                f"the profile names trajectory {row['trajectory']!r}, which is not there", field="trajectory"
            )
        if not 0 <= row["turn"] < len(by_id[row["trajectory"]].turns):
            raise BadInput(f"trajectory {row['trajectory']!r} has no turn {row['turn']}", field="turn")
    keys = {name: split_key(item, config.split_by) for name, item in by_id.items()}
    _, held = split_ids(keys.values(), config.heldout, config.seed)
    joined = [
        Pivot(
            trajectory=by_id[row["trajectory"]],
            turn=row["turn"],
            split="heldout" if keys[row["trajectory"]] in held else "train",
            profile={name: value for name, value in row.items() if name != "completions"},
        )
        for row in rows
    ]
    return held_out_in_earnest(joined) if config.drop_shared else joined


def state_key(pivot: Pivot) -> str:
    """A name of the state a pivot stands at: equal for equal tasks and equal messages so far."""
    task = pivot.trajectory.task
    prefix = [message.model_dump(mode="json", exclude={"source"}) for message in pivot.trajectory.prefix(pivot.turn)]
    return digest(canonical_json([None if task is None else task.key, prefix]))


def held_out_in_earnest(pivots: Sequence[Pivot]) -> list[Pivot]:
    """The pivots without held-out ones whose very state a training pivot has."""
    trained = {state_key(pivot) for pivot in pivots if pivot.split == "train"}
    return [pivot for pivot in pivots if pivot.split == "train" or state_key(pivot) not in trained]


def filter_file(profile: Path, out: Path, config: FilterConfig | None = None) -> FilterReport:
    """Filters the profile at ``profile`` into ``out`` (``pivots.jsonl``), written whole or not at all.

    Raises:
        BadInput: no such profile, an empty one, or its trajectories are not beside it.
    """
    config = config or FilterConfig()
    profile = Path(profile)
    if not profile.is_file():
        raise BadInput("no such file", file=profile)
    try:
        kept, report = filter_profile(read_rows(profile), config.max_mean, config.min_mean, config.keep_unfaithful)
    except BadInput as error:
        raise BadInput(error.problem, file=profile, line=error.line, field=error.field) from error
    if not report.candidates:
        raise BadInput("the profile is empty", file=profile)
    pivots = make_pivots(kept, read_jsonl(trajectories_file(profile)), config) if kept else []
    report.shared_states = len(pivots) - len(held_out_in_earnest(pivots))
    report.dropped_shared = len(kept) - len(pivots)
    whole = len(pivots)
    if config.limit is not None:
        training = [pivot for pivot in pivots if pivot.split == "train"]
        chosen_ids = set(
            map(id, select_by_difficulty(training, config.limit, config.target, config.width, config.seed))
        )
        pivots = [pivot for pivot in pivots if pivot.split == "heldout" or id(pivot) in chosen_ids]
    report.over_limit = whole - len(pivots)
    report.pivots = len(pivots)
    for side in ("train", "heldout"):
        chosen = [pivot for pivot in pivots if pivot.split == side]
        setattr(report, side, len(chosen))
        setattr(report, f"{side}_trajectories", len({pivot.trajectory.id for pivot in chosen}))
    report.settings = config.model_dump()
    write_rows(out, (pivot.model_dump(mode="json") for pivot in pivots))
    return report


def load_pivots(path: Path) -> list[Pivot]:
    """Reads ``pivots.jsonl``.

    Raises:
        BadInput: no such file, or a row that is no pivot (file, line, field).
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput("no such file", file=path)
    pivots = []
    for number, row in enumerate(read_rows(path), start=1):
        try:
            pivots.append(Pivot.model_validate(row))
        except ValidationError as error:
            first = error.errors()[0]
            raise BadInput(first["msg"], file=path, line=number, field=".".join(map(str, first["loc"]))) from error
    return pivots


def pass_rate(pivot: Pivot) -> float:
    """Mean reward of the pivot when it was profiled.

    Raises:
        BadInput: the pivot was never profiled.
    """
    mean = pivot.profile.get("mean")
    if mean is None:
        raise BadInput(f"turn {pivot.turn} of {pivot.trajectory.id} has no profile", field="profile.mean")
    return float(mean)


def select_by_difficulty(
    pivots: Sequence[Pivot], count: int, target: float = 0.5, width: float = 0.25, seed: int = 0
) -> list[Pivot]:
    """At most ``count`` of the pivots, drawn without replacement by how near their pass rate is to ``target``.

    A pivot's weight is ``exp(-(rate - target)^2 / (2 width^2))``, the Gaussian target over pass rates of NVIDIA's
    Nemotron 3 recipes (arXiv:2604.12374, section 3.2.4). Drawn by the largest ``log(weight) + Gumbel noise``
    (Efraimidis & Spirakis 2006, in the form of Kool et al. 2019, arXiv:1903.06059).

    Args:
        pivots: with their profiles.
        count: how many.
        target: the pass rate wanted.
        width: standard deviation of the target; small ones take the nearest, large ones anything.
        seed: of the noise.

    Returns:
        The chosen, in their order.
    """
    if count >= len(pivots):
        return list(pivots)
    rates_P = np.array([pass_rate(pivot) for pivot in pivots])
    noise_P = np.random.default_rng(derive_seed(seed, "difficulty", target, width)).gumbel(size=len(pivots))
    keys_P = -((rates_P - target) ** 2) / (2 * width * width) + noise_P
    return [pivots[index] for index in sorted(np.argsort(-keys_P, kind="stable")[:count].tolist())]


class Curriculum(BaseModel):
    """A target pass rate that moves over training, usually from easy to hard.

    Attributes:
        start: target of the first step.
        end: target of step ``steps`` and of all after it.
        width: standard deviation of the target.
        steps: over how many steps it moves.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    start: float = Field(0.7, ge=0, le=1)
    end: float = Field(0.3, ge=0, le=1)
    width: float = Field(0.2, gt=0)
    steps: int = Field(50, ge=1)

    def target(self, number: int) -> float:
        """The target of step ``number`` (from 1): on the straight line from start to end."""
        return self.start + (self.end - self.start) * min(1.0, (number - 1) / max(self.steps - 1, 1))

    def batch(self, pivots: Sequence[Pivot], size: int, number: int, seed: int) -> list[Pivot]:
        """The pivots of step ``number``: a function of its arguments alone, so that a resumed run needs no memory."""
        chosen = derive_seed(seed, "curriculum", number)
        return select_by_difficulty(pivots, size, self.target(number), self.width, chosen)


def thin(pivots: list[Pivot], limit: int | None, seed: int) -> list[Pivot]:
    """At most ``limit`` of the pivots, drawn at random with ``seed``, in their order."""
    if limit is None or limit >= len(pivots):
        return pivots
    rng = np.random.default_rng(derive_seed(seed, "heldout"))
    return [pivots[index] for index in sorted(rng.choice(len(pivots), size=limit, replace=False).tolist())]
