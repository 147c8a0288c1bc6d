"""The figures of a run, JSON only: what the page, the terminal and ``--json`` show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from pivotgym.envs.errors import BadInput
from pivotgym.envs.trajectory import JsonObject
from pivotgym.harness.evaluate import compare_means
from pivotgym.harness.pivots import FilterReport, filter_profile
from pivotgym.harness.report.candidates import number, pivot_figures, tally_profile
from pivotgym.harness.report.episodes import episode_figures
from pivotgym.harness.report.files import RunFiles, Stage, find_files, rows_of, side_of
from pivotgym.harness.runs import Cost, total_costs

COMMANDS = {
    "restore": "pivotgym restore FILE --json RUN/restore.json",
    "profile": "pivotgym profile FILE --policy P --rollouts K --out RUN/profile/profile.jsonl",
    "pivots": "pivotgym filter RUN/profile/profile.jsonl --out RUN/profile/pivots.jsonl",
    "train": "pivotgym train RUN/profile/pivots.jsonl --method pivotrl",
    "episodes": "pivotgym evaluate --env ID --policy P --trials N",
    "forgetting": "pivotgym forget --base P --policies P+RUN/train/final --out RUN/forgetting",
}
"""Which command makes a part of a run."""

CURVES = [
    "step",
    "reward_mean",
    "reward_std",
    "groups",
    "groups_with_signal",
    "groups_all_right",
    "groups_all_wrong",
    "groups_excluded",
    "malformed",
    "cut_off",
    "kl",
    "old_kl",
    "entropy",
    "grad_norm",
    "loss",
    "lr",
    "clip_fraction",
    "sampler_gap_mean",
    "sampler_gap_max",
    "sampler_kl",
    "weight_mean",
    "sampled_tokens",
    "trained_tokens",
]
COST_FIELDS = [field.name for field in fields(Cost)]
STAGE_NAMES = {
    "restore": "Restoring check",
    "sft": "Supervised warm start",
    "profile": "Profiling",
    "train": "Training on pivots",
    "evaluate pivots": "Evaluation on held-out pivots",
    "evaluate episodes": "Whole episodes",
}


def report_figures(run: Path) -> JsonObject:
    """The figures of the run in the folder ``run``.

    Returns:
        ``restore``, ``profile``, ``pivots``, ``filter``, ``train``, ``warm_start``, ``episodes``, ``forgetting``,
        ``cost``, ``run``, ``settings``, ``missing`` (part and the command that makes it) and ``notes``. A part the run
        does not have is None.

    Raises:
        BadInput: no such folder, or nothing of a run in it.
    """
    return figures_of(find_files(run))


def figures_of(found: RunFiles) -> JsonObject:
    """The figures of the files found; see :func:`report_figures`."""
    figures: JsonObject = {
        "run": {"folder": found.root.resolve().name, **found.run},
        "restore": restore_figures(found.restore) if found.restore is not None else None,
        "profile": None,
        "pivots": None,
        "filter": None,
        "train": None,
        "warm_start": None,
        "episodes": episode_figures(found),
        "forgetting": found.forgetting,
    }
    keys: set[tuple[str, int]] | None = None
    heldout: list[str] = []
    if found.pivots is not None:
        figures["pivots"], keys, heldout = pivot_figures(found)
    if found.profile is not None:
        figures["profile"] = tally_profile(found, keys).figures()
    if found.filter is not None:
        figures["filter"] = filter_figures(found.filter)
    elif found.profile is not None and figures["pivots"] is not None:
        figures["filter"] = refiltered(found, figures["pivots"])
    if found.train is not None:
        figures["train"] = train_figures(found.train, heldout)
    if found.warm_start is not None:
        figures["warm_start"] = warm_start_figures(found.warm_start)
    figures["cost"] = cost_figures(found)
    figures["settings"] = found.settings
    figures["missing"] = {part: command for part, command in COMMANDS.items() if figures[part] is None}
    figures["notes"] = found.notes
    return figures


def restore_figures(summary: JsonObject) -> JsonObject:
    """Fidelity: counts, divergences and what was not restored by kind, time."""
    diverged = Counter(str(item.get("kind")) for item in _objects(summary.get("divergences")))
    lost = Counter(str(item.get("kind")) for item in _objects(summary.get("not_restorable")))
    by_kind = Counter({str(kind): int(count) for kind, count in (summary.get("by_kind") or {}).items()})
    if not diverged and not lost and int(summary.get("diverged") or 0):
        diverged = by_kind  # a summary without its lists
    names = [
        "trajectories",
        "turns",
        "observations",
        "matched",
        "normalised",
        "diverged",
        "recorded",
        "before_first_turn",
        "inconsistent",
    ]
    counts: JsonObject = {name: int(summary.get(name) or 0) for name in names}
    turns, seconds = counts["turns"], number(summary.get("seconds"))
    observations = counts["observations"]
    return {
        "file": summary.get("file"),
        **counts,
        "fidelity": counts["matched"] / observations if observations else None,
        "not_restorable": sum(lost.values()),
        "diverged_by_kind": dict(diverged.most_common()),
        "not_restorable_by_kind": dict(lost.most_common()),
        "recorded_by_kind": dict((by_kind - diverged - lost).most_common()),
        "seconds": seconds,
        "seconds_per_restore": seconds / turns if seconds is not None and turns else None,
        "examples": [
            {name: item.get(name) for name in ("trajectory", "turn", "message", "kind", "diff")}
            for item in _one_of_each_kind(_objects(summary.get("divergences")))
        ],
    }


def filter_figures(report: JsonObject) -> JsonObject:
    """The filter's report with its reasons in order: what was dropped, by the first reason that held."""
    known = FilterReport(**{name: value for name, value in report.items() if name in vars(FilterReport())})
    return {**known.row(), "dropped": known.dropped}


def refiltered(found: RunFiles, pivots: JsonObject) -> JsonObject | None:
    """What the filter must have dropped, where its report was not kept: counted again within the pivots' limits."""
    low, high, unfaithful = pivots["reward_low"], pivots["reward_high"], pivots["unfaithful"] > 0
    assert found.profile is not None
    if low is None or high is None:
        return None
    try:
        _, report = filter_profile(rows_of(found.profile, found), high, low, unfaithful)
    except BadInput as error:
        found.notes.append(f"What the filter dropped is not known: {error}")
        return None
    row = {**filter_figures(report.row()), **{name: pivots[name] for name in pivots if name in report.row()}}
    return {**row, "settings": {}}


def train_figures(stage: Stage, heldout: Sequence[str] = ()) -> JsonObject:
    """Learning curves, evaluations on held-out pivots, and the paired difference of the last and the first.

    Args:
        stage: the training run.
        heldout: the task of each held-out pivot, in order: the clusters of the difference of a run that has
            not ended (one that has gives the difference itself).
    """
    rows, evaluations = stage.kind("train") or stage.kind("episodes"), stage.kind("eval")
    before, after = (evaluations[0], evaluations[-1]) if evaluations else (None, None)
    gain = stage.summary.get("gain")
    if gain is None and before is not None and after is not None and len(evaluations) > 1:
        gain = _gain(before, after, heldout)
    first, last = _ends(rows)
    return {
        "method": stage.summary.get("method", "pivotrl"),
        "steps": int(rows[-1].get("step") or 0) if rows else 0,
        "train_pivots": stage.summary.get("train_pivots"),
        "heldout_pivots": stage.summary.get("heldout_pivots") or (before or {}).get("pivots"),
        "curves": {
            name: [number(row.get(name)) for row in rows] for name in CURVES if any(name in row for row in rows)
        },
        "evaluations": [_evaluation(row) for row in evaluations],
        "before": _evaluation(before) if before else None,
        "after": _evaluation(after) if after and len(evaluations) > 1 else None,
        "gain": gain,
        "reward_first": first,
        "reward_last": last,
        "window": _window(rows),
    }


def warm_start_figures(stage: Stage) -> JsonObject:
    """The supervised warm start: loss by step and how much it was trained on."""
    rows = stage.kind("sft")
    losses = [number(row.get("loss")) for row in rows]
    return {
        "steps": int(rows[-1].get("step") or 0) if rows else 0,
        "conversations": stage.summary.get("conversations"),
        "trained_tokens": sum(int(row.get("trained_tokens") or 0) for row in rows),
        "first_loss": losses[0] if losses else None,
        "last_loss": losses[-1] if losses else None,
        "curves": {"step": [number(row.get("step")) for row in rows], "loss": losses},
    }


def cost_figures(found: RunFiles) -> JsonObject | None:
    """What each stage cost, by ``timings.jsonl``; redone and failed work counts.

    A warm start that was made before the run (``warm_start`` of ``run.json``) has a row of its own, outside the total.
    """
    stages: list[JsonObject] = []
    total = Cost()
    seen: Counter[str] = Counter()
    costs: list[tuple[Path, str, Cost]] = []
    for folder in found.timings:
        try:
            costs += [(folder, stage, cost) for stage, cost in total_costs(folder).items()]
        except (BadInput, KeyError, TypeError) as error:
            found.notes.append(f"{found.name(folder)}/timings.jsonl cannot be read ({error}).")
    for _, stage, _ in costs:
        seen[stage] += 1
    restore = found.restore
    if restore is not None and not any(stage.startswith("restore") for _, stage, _ in costs):
        seconds = number(restore.get("seconds")) or 0.0
        total += Cost(seconds=seconds)
        stages.append(_cost_row("restore", STAGE_NAMES["restore"], {"seconds": seconds}))
    for folder, stage, cost in sorted(costs, key=lambda item: (_order(item[1]), "after" in found.name(item[0]))):
        name = STAGE_NAMES.get(stage, stage[:1].upper() + stage[1:])
        if seen[stage] > 1:
            name += f" ({side_of(found, folder)})"
        stages.append(_cost_row(stage, name, cost.row()))
        total += cost
    shipped = found.run.get("warm_start")
    before = None
    if isinstance(shipped, dict):
        name = str(shipped.get("name") or "the shipped supervised warm start")
        before = _cost_row("warm_start", name, _paid(shipped))
        if all(before[name] is None for name in COST_FIELDS):
            before = None
    if not stages and before is None:
        return None
    return {"stages": stages, "total": total.row(), "before_the_run": before}


def _cost_row(stage: str, name: str, cost: Mapping[str, Any]) -> JsonObject:
    return {"stage": stage, "name": name, **{field: number(cost.get(field)) for field in COST_FIELDS}}


def _paid(shipped: JsonObject) -> JsonObject:
    """The cost of a warm start: its ``cost``, by stage or already in one, or the figures beside its name."""
    cost = shipped.get("cost")
    if not isinstance(cost, dict):
        return shipped
    stages = _objects(list(cost.values()))
    if not stages:
        return cost
    return {name: sum(number(stage.get(name)) or 0 for stage in stages) for name in COST_FIELDS}


def _order(stage: str) -> int:
    """Stages in the order of the loop, unknown ones last."""
    known = list(STAGE_NAMES)
    return known.index(stage) if stage in known else len(known)


def _evaluation(row: JsonObject) -> JsonObject:
    return {
        "step": int(row.get("step") or 0),
        "reward": row.get("reward"),
        "pivots": row.get("pivots"),
        "rollouts": row.get("rollouts"),
        "malformed": number(row.get("malformed")),
        "excluded": row.get("excluded") or {},
    }


def _gain(before: JsonObject, after: JsonObject, heldout: Sequence[str]) -> JsonObject | None:
    """The paired difference of two evaluations; None where the clusters are not known."""
    means = before.get("means") or [], after.get("means") or []
    if not means[0] or not len(means[0]) == len(means[1]) == len(heldout):
        return None
    try:
        return compare_means(means[0], means[1], heldout).row()
    except BadInput:
        return None


def _window(rows: Sequence[JsonObject]) -> int:
    return max(1, min(10, len(rows) // 4))


def _ends(rows: Sequence[JsonObject]) -> tuple[float | None, float | None]:
    """Mean training reward over the first and the last steps."""
    rewards = [reward for row in rows if (reward := number(row.get("reward_mean"))) is not None]
    if not rewards:
        return None, None
    width = _window(rows)
    return sum(rewards[:width]) / len(rewards[:width]), sum(rewards[-width:]) / len(rewards[-width:])


def _objects(value: Any) -> list[JsonObject]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _one_of_each_kind(items: list[JsonObject], limit: int = 6) -> list[JsonObject]:
    first: dict[str, JsonObject] = {}
    for item in items:
        first.setdefault(str(item.get("kind")), item)
    return list(first.values())[:limit]
