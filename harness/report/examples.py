"""A few pivots to read: what the policy saw, what was demonstrated, what it did, and why that was judged so."""

from __future__ import annotations

import heapq
from collections import defaultdict
from typing import Any

from pydantic import ValidationError

from pivotgym.envs.trajectory import JsonObject, Message, Trajectory, canonical_json
from pivotgym.harness.report.candidates import kind_of, number
from pivotgym.harness.report.files import RunFiles, rows_of
from pivotgym.harness.report.pictures import Camera
from pivotgym.harness.report.text import clean

MESSAGES = 4
"""Messages shown before the pivot."""
POOL = 3
"""Pivots kept of each kind of action while reading; the examples are drawn from these."""


def examples(found: RunFiles, limit: int = 6, camera: Camera | None = None) -> list[JsonObject]:
    """Pivots of different kinds of action, those with the most even outcomes first.

    Args:
        found: the run.
        limit: how many at most.
        camera: takes pictures of the state before and after, where the domain has any.

    Returns:
        For each: ``trajectory, turn, kind, split, mean, earlier`` (messages left out), ``messages`` and
        ``demonstration`` (each ``role`` and ``text``), ``right`` and ``wrong`` (each ``text, count, reward, rule,
        reason``), and ``picture`` of the state before. The demonstration and the first action on each side have a
        ``picture`` of the state after them; it is empty where there is none. All texts are cut and free of unprintable
        characters, but not escaped for HTML.
    """
    if found.pivots is None or found.profile is None:
        return []
    chosen = {(str(row["trajectory"]), int(row["turn"])): row for row in _choose(found, limit)}
    if not chosen:
        return []
    made: dict[tuple[str, int], JsonObject] = {}
    for row in rows_of(found.pivots, found):
        key = (str((row.get("trajectory") or {}).get("id")), int(row.get("turn") or 0))
        if key in chosen and key not in made:
            try:
                trajectory = Trajectory.model_validate(row["trajectory"])
                made[key] = _example(trajectory, chosen[key], str(row.get("split")), camera)
            except (ValidationError, IndexError):
                continue
        if len(made) == len(chosen):
            break
    return [made[key] for key in chosen if key in made]


def _choose(found: RunFiles, limit: int) -> list[JsonObject]:
    """Rows of the profile, kinds in turn; only rows of pivots with a right and a wrong action."""
    assert found.profile is not None and found.pivots is not None
    keys = {
        (str((row.get("trajectory") or {}).get("id")), int(row.get("turn") or 0))
        for row in rows_of(found.pivots, found)
    }
    pools: dict[str, list[tuple[float, int, JsonObject]]] = defaultdict(list)
    for place, row in enumerate(rows_of(found.profile, found)):
        rewards, variance = row.get("rewards") or [], number(row.get("var"))
        if variance is None or (str(row.get("trajectory")), int(row.get("turn") or 0)) not in keys:
            continue
        if max(rewards) <= min(rewards) or not row.get("completions"):
            continue
        pool = pools[kind_of(row)]
        heapq.heappush(pool, (round(variance, 9), -place, row))  # the place breaks ties: rows do not compare
        if len(pool) > POOL:
            heapq.heappop(pool)
    ranked = [sorted(pool, reverse=True) for _, pool in sorted(pools.items())]
    rows = [pool[depth][2] for depth in range(POOL) for pool in ranked if depth < len(pool)]
    return rows[:limit]


def _example(trajectory: Trajectory, row: JsonObject, split: str, camera: Camera | None) -> JsonObject:
    turn = int(row["turn"])
    visible = [message for message in trajectory.prefix(turn) if message.visible_to_agent]
    right, wrong = _actions(row)
    acted: dict[str, str | Message] = {"demonstration": trajectory.action(turn)}
    acted |= {side: items[0]["raw"] for side, items in (("right", right), ("wrong", wrong)) if items}
    pictures = {} if camera is None else camera.of(trajectory, turn, acted)
    for side, items in (("right", right), ("wrong", wrong)):
        for place, item in enumerate(items):
            item["picture"] = pictures.get(side, "") if place == 0 else ""
            del item["raw"]
    return {
        "trajectory": clean(trajectory.id, 120),
        "turn": turn,
        "kind": clean(kind_of(row), 80),
        "split": split,
        "mean": row.get("mean"),
        "actions": len(row.get("rewards") or []),
        "earlier": max(0, len(visible) - MESSAGES),
        "messages": [{"role": message.role, "text": _message(message)} for message in visible[-MESSAGES:]],
        "picture": pictures.get("before", ""),
        "demonstration": {
            "role": "assistant",
            "text": _message(trajectory.action(turn)),
            "picture": pictures.get("demonstration", ""),
        },
        "right": right,
        "wrong": wrong,
    }


def _actions(row: JsonObject, limit: int = 3) -> tuple[list[JsonObject], list[JsonObject]]:
    """The distinct sampled actions, commonest first, apart by whether they had the best reward."""
    distinct: dict[tuple[str, float], JsonObject] = {}
    verdicts = row.get("verdicts") or []
    for text, reward, verdict in zip(row["completions"], row["rewards"], verdicts, strict=False):
        shown = distinct.setdefault(
            (str(text), float(reward)),
            {
                "raw": str(text),
                "text": clean(text) or "(nothing)",
                "count": 0,
                "reward": float(reward),
                "rule": clean(verdict.get("rule"), 60),
                "reason": clean(verdict.get("reason"), 240),
            },
        )
        shown["count"] += 1
    best = max(row["rewards"])
    ranked = sorted(distinct.values(), key=lambda item: -item["count"])
    right = [item for item in ranked if item["reward"] >= best]
    return right[:limit], [item for item in ranked if item["reward"] < best][:limit]


def _message(message: Any) -> str:
    parts = [clean(message.text)] if message.text else []
    for call in message.tool_calls:
        arguments = call.arguments if isinstance(call.arguments, str) else canonical_json(call.arguments, sort=False)
        parts.append(f"{clean(call.name, 80)} {clean(arguments)}")
    return "\n".join(parts) or "(empty)"
