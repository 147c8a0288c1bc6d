"""From rows to figures: each metric of a policy, and its change to the base, item by item."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from pivotgym.envs.trajectory import JsonObject
from pivotgym.harness.forgetting.items import Metric
from pivotgym.harness.stats import DIFFERENCE, SHARE, Estimate, cluster_interval, paired_difference, student_t


def ratio_interval(
    over: Sequence[float], under: Sequence[float], clusters: Sequence[Hashable], confidence: float = 0.95
) -> Estimate:
    """``sum(over) / sum(under)`` with the Student t interval of the delete-one-cluster jackknife.

    With ``R`` the ratio and ``R_(c)`` the one without cluster ``c`` of ``C``: variance ``(C-1)/C · Σ (R_(c) - R)²``
    (Efron & Tibshirani 1993, "An introduction to the bootstrap", eq. 11.5, around the estimate itself).

    Args:
        over: one number for each item (nats, or the difference of two policies' nats).
        under: one positive number each (bytes, tokens).
        clusters: what is independent.
        confidence: coverage.

    Returns:
        Bounds are None for fewer than two clusters.
    """
    index: dict[Hashable, int] = {}
    label_N = np.array([index.setdefault(cluster, len(index)) for cluster in clusters])
    count = len(index)
    over_C = np.bincount(label_N, weights=np.asarray(over, dtype=np.float64), minlength=count)
    under_C = np.bincount(label_N, weights=np.asarray(under, dtype=np.float64), minlength=count)
    ratio = float(over_C.sum() / under_C.sum())
    if count < 2:
        return Estimate(ratio, None, None, len(label_N), count, confidence)
    without_C = (over_C.sum() - over_C) / (under_C.sum() - under_C)
    error = math.sqrt((count - 1) / count * float(((without_C - ratio) ** 2).sum()))
    half = student_t(0.5 + confidence / 2, count - 1) * error
    return Estimate(ratio, ratio - half, ratio + half, len(label_N), count, confidence)


def estimate(metric: Metric, rows: Sequence[JsonObject]) -> Estimate | None:
    """The metric over the rows that have it; None where none has."""
    used = [row for row in rows if metric.over in row["scores"]]
    if not used:
        return None
    values, groups = [float(row["scores"][metric.over]) for row in used], [row["group"] for row in used]
    if metric.kind == "ratio":
        return ratio_interval(values, [float(row["scores"][metric.under]) for row in used], groups)
    return cluster_interval(values, groups, bounds=SHARE)


def change(metric: Metric, before: Sequence[JsonObject], after: Sequence[JsonObject]) -> Estimate | None:
    """``after - before`` over the items both have, paired, with its interval.

    None where they have no item in common, or where a ratio is over other units (tokens of another tokenizer).
    """
    left = {row["id"]: row for row in before if metric.over in row["scores"]}
    pairs = [(left[row["id"]], row) for row in after if row["id"] in left and metric.over in row["scores"]]
    if not pairs:
        return None
    groups = [one["group"] for one, _ in pairs]
    old, new = ([float(row["scores"][metric.over]) for row in side] for side in zip(*pairs, strict=True))
    if metric.kind == "share":
        return paired_difference(old, new, groups, bounds=DIFFERENCE)
    under = [float(one["scores"][metric.under]) for one, _ in pairs]
    if under != [float(other["scores"][metric.under]) for _, other in pairs]:
        return None
    return ratio_interval([b - a for a, b in zip(old, new, strict=True)], under, groups)


def verdict(metric: Metric, found: Estimate | None) -> str:
    """``forgotten``, ``improved``, or empty where the interval of the change holds 0."""
    if found is None or found.low is None or found.high is None or found.low <= 0 <= found.high:
        return ""
    return "improved" if (found.mean > 0) == metric.higher_is_better else "forgotten"


def figures(
    metrics: Sequence[Metric], base: Sequence[JsonObject], others: Mapping[str, Sequence[JsonObject]]
) -> list[JsonObject]:
    """A row for each metric: the base's value, and every other policy's value, change and verdict."""
    found: list[JsonObject] = []
    for metric in metrics:
        start = estimate(metric, base)
        if start is None:
            continue
        row: JsonObject = {
            "metric": metric.name,
            "label": metric.label,
            "unit": "share" if metric.kind == "share" else metric.name.replace("_per_", " a ").replace("_", " "),
            "higher_is_better": metric.higher_is_better,
            "base": start.row(),
            "policies": {},
        }
        for name, rows in others.items():
            value, moved = estimate(metric, rows), change(metric, base, rows)
            row["policies"][name] = {
                "value": None if value is None else value.row(),
                "change": None if moved is None else moved.row(),
                "verdict": verdict(metric, moved),
            }
        found.append(row)
    return found
