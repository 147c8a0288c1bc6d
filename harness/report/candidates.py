"""Figures on candidates and pivots: where they are, how hard they are, which rule judged their actions.

A profile is read once, row by row, into counters: its size does not matter.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean
from typing import Any

from pivotgym.envs.trajectory import JsonObject, Trajectory
from pivotgym.harness.pivots import TINY
from pivotgym.harness.profiling import split_key
from pivotgym.harness.report.files import RunFiles, rows_of
from pivotgym.harness.stats import SHARE, cluster_interval

MAX_BINS = 20
"""Bins of a histogram of rewards that are not multiples of 1/K."""
MAX_TURN_BINS = 40
"""Columns of the picture of turns; more turns than that share columns."""
MAX_KINDS = 14
"""Kinds of action shown by name; the rest goes together."""
MAX_REASONS = 4000
"""Distinct reasons counted for one rule."""
PROFILE_STATUSES = ("ok", "not_restorable", "too_long", "infrastructure")


@dataclass
class _Tally:
    candidates: int = 0
    judged: int = 0
    pivots: int = 0
    reward: float = 0.0

    def add(self, mean: float | None, pivot: bool) -> None:
        self.candidates += 1
        self.pivots += pivot
        if mean is not None:
            self.judged += 1
            self.reward += mean

    def row(self) -> JsonObject:
        return {
            "candidates": self.candidates,
            "judged": self.judged,
            "pivots": self.pivots,
            "reward_mean": self.reward / self.judged if self.judged else None,
        }


@dataclass
class _Rule:
    actions: int = 0
    reward: float = 0.0
    wrong: Counter[str] = field(default_factory=Counter)
    wrong_actions: int = 0


class ProfileTally:
    """Counts what the report says about a profile.

    Args:
        pivots: (trajectory, turn) of each pivot; None where nothing was filtered, then turns with mixed outcomes count.
    """

    def __init__(self, pivots: set[tuple[str, int]] | None) -> None:
        self.pivots = pivots
        self.status: Counter[str] = Counter()
        self.turns: dict[int, _Tally] = {}
        self.kinds: dict[str, _Tally] = {}
        self.rules: dict[str, _Rule] = {}
        self.levels: Counter[tuple[float, bool]] = Counter()
        self.cells: Counter[tuple[int, float, bool]] = Counter()
        self.means: list[float] = []
        self.clusters: list[str] = []
        self.sizes: Counter[int] = Counter()
        self.actions = self.malformed = self.cut_off = self.tokens = self.multiples = 0
        self.faithful = self.restored = 0

    def is_pivot(self, row: JsonObject) -> bool:
        """Whether the row of the profile became a pivot."""
        if self.pivots is not None:
            return (str(row.get("trajectory")), int(row.get("turn") or 0)) in self.pivots
        return (number(row.get("var")) or 0.0) > TINY

    def add(self, row: JsonObject) -> None:
        """Counts one row of ``profile.jsonl``."""
        self.status[str(row.get("status"))] += 1
        turn, mean, pivot = int(row.get("turn") or 0), number(row.get("mean")), self.is_pivot(row)
        self.turns.setdefault(turn, _Tally()).add(mean, pivot)
        self.kinds.setdefault(kind_of(row), _Tally()).add(mean, pivot)
        restore = row.get("restore")
        if isinstance(restore, dict):
            self.restored += 1
            self.faithful += bool(restore.get("faithful"))
        if mean is None:
            return
        rewards = row.get("rewards") or []
        level = round(min(max(mean, 0.0), 1.0), 9)
        self.levels[(level, pivot)] += 1
        self.cells[(turn, level, pivot)] += 1
        self.means.append(mean)
        self.clusters.append(str(row.get("trajectory")))
        self.sizes[len(rewards)] += 1
        self.multiples += abs(mean * len(rewards) - round(mean * len(rewards))) < 1e-6
        self.actions += len(rewards)
        self.malformed += int(row.get("malformed") or 0)
        self.cut_off += sum(reason == "length" for reason in row.get("stop_reasons") or [])
        self.tokens += sum(int(count) for count in row.get("tokens") or [])
        for reward, verdict in zip(rewards, row.get("verdicts") or [], strict=False):
            self._judged(float(reward), str(verdict.get("rule")), str(verdict.get("reason") or ""))

    def _judged(self, reward: float, rule: str, reason: str) -> None:
        tally = self.rules.setdefault(rule, _Rule())
        tally.actions += 1
        tally.reward += reward
        if reward < 1:
            tally.wrong_actions += 1
            if reason in tally.wrong or len(tally.wrong) < MAX_REASONS:
                tally.wrong[reason] += 1

    def figures(self) -> JsonObject:
        """What the report shows, JSON only."""
        rollouts = self.sizes.most_common(1)[0][0] if self.sizes else 0
        edges = self._edges(rollouts)
        reward = None
        if self.means:
            reward = cluster_interval(self.means, self.clusters, bounds=SHARE).row()
        candidates = sum(self.status.values())
        return {
            "candidates": candidates,
            "trajectories": len(set(self.clusters)),
            "rollouts": rollouts,
            "actions": self.actions,
            "status": dict(self.status.most_common()),
            "restored": self.restored,
            "faithful": self.faithful,
            "filtered": self.pivots is not None,
            "pivots": sum(tally.pivots for tally in self.turns.values()),
            "reward": reward,
            "malformed": self.malformed / self.actions if self.actions else None,
            "cut_off": self.cut_off / self.actions if self.actions else None,
            "tokens_mean": self.tokens / self.actions if self.actions else None,
            "histogram": self._histogram(edges),
            "by_turn": [{"turn": turn, **self.turns[turn].row()} for turn in sorted(self.turns)],
            "grid": self._grid(edges),
            "by_kind": self._kinds(),
            "rules": self._rules(),
        }

    def _edges(self, rollouts: int) -> list[float]:
        """Bin edges: one bin around each multiple of 1/K where the means are such, else equal bins on [0, 1]."""
        if 0 < rollouts < MAX_BINS and len(self.sizes) == 1 and self.multiples == len(self.means):
            return [(step - 0.5) / rollouts for step in range(rollouts + 2)]
        return [step / MAX_BINS for step in range(MAX_BINS + 1)]

    def _histogram(self, edges: list[float]) -> list[JsonObject]:
        bins: list[JsonObject] = [
            {"low": max(low, 0.0), "high": min(high, 1.0), "centre": (low + high) / 2, "candidates": 0, "pivots": 0}
            for low, high in pairwise(edges)
        ]
        for (level, pivot), count in self.levels.items():
            place = bins[bin_of(level, edges)]
            place["candidates"] += count
            place["pivots"] += count if pivot else 0
        return bins

    def _grid(self, edges: list[float]) -> JsonObject:
        """Candidates and pivots by turn (columns) and mean reward (rows, lowest first)."""
        if not self.cells:
            return {"turns_per_column": 1, "candidates": [], "pivots": []}
        last = max(turn for turn, _, _ in self.cells)
        width = math.ceil((last + 1) / MAX_TURN_BINS)
        columns = last // width + 1
        candidates = [[0] * columns for _ in edges[1:]]
        pivots = [[0] * columns for _ in edges[1:]]
        for (turn, level, pivot), count in self.cells.items():
            row, column = bin_of(level, edges), turn // width
            candidates[row][column] += count
            pivots[row][column] += count if pivot else 0
        return {"turns_per_column": width, "edges": edges, "candidates": candidates, "pivots": pivots}

    def _kinds(self) -> list[JsonObject]:
        ranked = sorted(self.kinds.items(), key=lambda item: (-item[1].candidates, item[0]))
        rows: list[JsonObject] = [{"kind": kind, **tally.row()} for kind, tally in ranked[:MAX_KINDS]]
        rest = [tally for _, tally in ranked[MAX_KINDS:]]
        if rest:
            together = _Tally(
                sum(t.candidates for t in rest),
                sum(t.judged for t in rest),
                sum(t.pivots for t in rest),
                sum(t.reward for t in rest),
            )
            rows.append({"kind": f"{len(rest)} other kinds", **together.row()})
        return rows

    def _rules(self) -> list[JsonObject]:
        ranked = sorted(self.rules.items(), key=lambda item: (-item[1].actions, item[0]))
        return [
            {
                "rule": name,
                "actions": rule.actions,
                "share": rule.actions / self.actions if self.actions else None,
                "reward_mean": rule.reward / rule.actions,
                "wrong": rule.wrong_actions,
                "commonest_reason": rule.wrong.most_common(1)[0][0] if rule.wrong else None,
                "commonest_count": rule.wrong.most_common(1)[0][1] if rule.wrong else 0,
            }
            for name, rule in ranked
        ]


def tally_profile(found: RunFiles, pivots: set[tuple[str, int]] | None) -> ProfileTally:
    """Reads the profile once."""
    tally = ProfileTally(pivots)
    assert found.profile is not None
    for row in rows_of(found.profile, found):
        tally.add(row)
    return tally


def pivot_figures(found: RunFiles) -> tuple[JsonObject, set[tuple[str, int]], list[str]]:
    """Counts of ``pivots.jsonl``; (trajectory, turn) of each pivot; the task of each held-out one, in order."""
    assert found.pivots is not None
    keys: set[tuple[str, int]] = set()
    heldout: list[str] = []
    means: list[float] = []
    unfaithful = 0
    splits: dict[str, Counter[str]] = {"train": Counter(), "heldout": Counter()}
    for row in rows_of(found.pivots, found):
        trajectory = str((row.get("trajectory") or {}).get("id"))
        keys.add((trajectory, int(row.get("turn") or 0)))
        profile = row.get("profile") or {}
        if (mean := number(profile.get("mean"))) is not None:
            means.append(mean)
        unfaithful += not (profile.get("restore") or {}).get("faithful", True)
        if row.get("split") == "heldout":
            heldout.append(_task_key(row.get("trajectory") or {}, trajectory))
        splits.setdefault(str(row.get("split")), Counter())[trajectory] += 1
    figures: JsonObject = {
        "pivots": len(keys),
        "reward_mean": fmean(means) if means else None,
        "reward_low": min(means, default=None),
        "reward_high": max(means, default=None),
        "unfaithful": unfaithful,
    }
    for split, trajectories in splits.items():
        figures[split] = trajectories.total()
        figures[f"{split}_trajectories"] = len(trajectories)
    return figures, keys, heldout


def _task_key(recording: JsonObject, otherwise: str) -> str:
    """As :func:`pivotgym.harness.profiling.split_key`, of a recording that is still a JSON object."""
    try:
        return split_key(Trajectory(id=otherwise, task=recording.get("task"), messages=[]), "task")
    except ValueError:
        return otherwise


def kind_of(row: JsonObject) -> str:
    """The tools the demonstration of a profile's row calls, or ``message`` where it talks."""
    names = [str(name) for name in row.get("demonstration") or []]
    if not names:
        return "message to the user"
    return " + ".join(dict.fromkeys(names)) + (" (several calls)" if len(names) > len(set(names)) else "")


def bin_of(value: float, edges: list[float]) -> int:
    """The bin of ``value``; the last one includes its upper edge."""
    step = edges[1] - edges[0]
    return min(max(int((value - edges[0]) / step + 1e-9), 0), len(edges) - 2)


def number(value: Any) -> float | None:
    """A finite number, or None for everything else (missing, NaN, infinite, text)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None
