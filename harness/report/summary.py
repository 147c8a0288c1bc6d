"""The result in words and rows: shared by the page and the terminal."""

from __future__ import annotations

from typing import Any

from pivotgym.envs.trajectory import JsonObject
from pivotgym.harness.report.candidates import number
from pivotgym.harness.report.text import (
    MISSING,
    clean,
    count,
    decimal,
    estimate,
    percent,
    percent_estimate,
    seconds,
    signed,
    words,
)
from pivotgym.harness.runs import Cost

COUNTS = ("rollout_turns", "model_calls", "prompt_tokens", "sampled_tokens", "trained_tokens", "env_actions")
assert {*COUNTS, "seconds"} == set(Cost().row())


def headline(figures: JsonObject) -> str:
    """The result in one or two sentences."""
    parts = []
    train, episodes = figures["train"], figures["episodes"]
    if train and train["before"] and train["after"] and train["before"]["reward"] and train["after"]["reward"]:
        before, after, gain = train["before"], train["after"], train["gain"]
        sentence = (
            f"The mean reward on held-out pivots {_moved(gain, before['reward'], after['reward'])} "
            f"{estimate(before['reward'])} to {estimate(after['reward'])}"
        )
        if gain:
            sentence += (
                f", a paired difference of {estimate(gain, sign=True)} over {_plural(gain['n'], 'pivot')} "
                f"of {_plural(gain['clusters'], 'task')}"
            )
        parts.append(sentence + ".")
    elif train and train["reward_first"] is not None:
        parts.append(
            f"Over {count(train['steps'])} steps the training reward went from {decimal(train['reward_first'])} "
            f"to {decimal(train['reward_last'])}."
        )
    before, after = _sides(episodes)
    if before and after and before.get("success") and after.get("success"):
        gain = (episodes or {}).get("gain")
        sentence = (
            f"Episode success {_moved(gain, before['success'], after['success'])} "
            f"{percent_estimate(before['success'])} to {percent_estimate(after['success'])}"
        )
        if gain:
            tasks = _plural(gain["clusters"], "task")
            sentence += f", a paired difference of {percent_estimate(gain, sign=True)} points over {tasks}".replace(
                " % ", " ", 1
            )
        parts.append(sentence + ".")
    if not parts:
        report, profile, restore = figures["filter"], figures["profile"], figures["restore"]
        if report:
            parts.append(f"{count(report['pivots'])} of {count(report['candidates'])} candidate turns are pivots.")
        elif profile:
            parts.append(f"{count(profile['candidates'])} candidate turns profiled.")
        elif restore:
            parts.append(
                f"{count(restore['turns'])} turns restored, {percent(restore['fidelity'], 2)} of "
                f"{count(restore['observations'])} observations as recorded."
            )
        else:
            parts.append("The run has no result yet.")
    return " ".join(parts)


def tiles(figures: JsonObject) -> list[dict[str, str]]:
    """The few numbers to see first."""
    shown = []
    restore, report, train, cost = (figures[name] for name in ("restore", "filter", "train", "cost"))
    if restore:
        shown.append(
            _tile("Fidelity", percent(restore["fidelity"], 2), f"of {count(restore['observations'])} observations")
        )
    if report:
        shown.append(_tile("Pivots", count(report["pivots"]), f"of {count(report['candidates'])} candidates"))
    elif figures["profile"]:
        profile = figures["profile"]
        shown.append(_tile("Mixed outcomes", count(profile["pivots"]), f"of {count(profile['candidates'])} candidates"))
    if train and train["before"] and train["after"]:
        before, after = train["before"]["reward"] or {}, train["after"]["reward"] or {}
        shown.append(
            _tile(
                "Held-out reward",
                f"{decimal(before.get('mean'))} → {decimal(after.get('mean'))}",
                f"difference {estimate(train['gain'], sign=True)}" if train["gain"] else "",
            )
        )
    before, after = _sides(figures["episodes"])
    if before and after and before.get("success") and after.get("success"):
        gain = figures["episodes"]["gain"]
        shown.append(
            _tile(
                "Episode success",
                f"{decimal(100 * before['success']['mean'], 1)} → {percent(after['success']['mean'])}",
                f"difference {percent_estimate(gain, sign=True)}" if gain else f"{count(after.get('tasks'))} tasks",
            )
        )
    if cost and cost["stages"]:
        total = cost["total"]
        shown.append(_tile("Time", seconds(total["seconds"]), f"{count(total['rollout_turns'])} rollout turns"))
    return shown


def comparison(figures: JsonObject) -> list[dict[str, str]]:
    """Rows of the table before and after: ``name, before, after, difference, basis`` and ``verdict``."""
    rows = []
    train = figures["train"]
    if train and train["before"]:
        before, after = train["before"], train["after"] or {}
        gain = train["gain"]
        rows.append(
            {
                "name": "Reward on held-out pivots",
                "before": estimate(before["reward"]),
                "after": estimate(after.get("reward")),
                "difference": estimate(gain, sign=True),
                "basis": f"{count(before['pivots'])} pivots × {count(before['rollouts'])} actions",
                "verdict": _verdict(gain),
            }
        )
        rows.append(
            {
                "name": "Malformed actions there",
                "before": percent(before["malformed"]),
                "after": percent(after.get("malformed")),
                "difference": _points(before["malformed"], after.get("malformed")),
                "basis": "the same actions",
                "verdict": "",
            }
        )
    before, after = _sides(figures["episodes"])
    if before or after:
        gain = figures["episodes"]["gain"]
        left, right = before or {}, after or {}
        known = right or left
        rows.append(
            {
                "name": "Episode success",
                "before": percent_estimate(left.get("success")),
                "after": percent_estimate(right.get("success")),
                "difference": percent_estimate(gain, sign=True),
                "basis": f"{count(known.get('tasks'))} tasks × {count(known.get('trials'))} trials",
                "verdict": _verdict(gain),
            }
        )
        for name, key in (("pass@", "pass_at_k"), ("pass^", "pass_hat_k")):
            found = {**(left.get(key) or {}), **(right.get(key) or {})}
            for k in sorted(found, key=int):
                if int(k) > 1:  # with k = 1 both are the success rate
                    rows.append(_pass_row(f"{name}{k}", (left.get(key) or {}).get(k), (right.get(key) or {}).get(k)))
    return rows


def estimates(figures: JsonObject) -> list[tuple[str, JsonObject | None, JsonObject | None]]:
    """What the picture before and after shows: name and the two estimates."""
    rows: list[tuple[str, JsonObject | None, JsonObject | None]] = []
    train = figures["train"]
    if train and train["before"] and train["after"]:
        rows.append(("held-out reward", train["before"]["reward"], train["after"]["reward"]))
    before, after = _sides(figures["episodes"])
    if before and after:
        rows.append(("episode success", before.get("success"), after.get("success")))
        for name, key in (("pass@", "pass_at_k"), ("pass^", "pass_hat_k")):
            ks = [k for k in (before.get(key) or {}) if int(k) > 1 and k in (after.get(key) or {})]
            if ks:
                last = max(ks, key=int)
                rows.append((f"{name}{last}", before[key][last], after[key][last]))
    return rows


def filter_rows(report: JsonObject) -> list[tuple[str, int, bool]]:
    """What became of the candidates: name, count, and whether these are the pivots."""
    settings = report.get("settings") or {}
    told = {
        "always_wrong": "always wrong",
        "always_right": "always right",
        "always_equal": "always the same partial reward",
        "too_easy": "too easy" + _limit(settings, "max_mean", "mean above"),
        "too_hard": "too hard" + _limit(settings, "min_mean", "mean below"),
        "not_restorable": "not restorable",
        "unfaithful": "replay differs from the recording",
        "too_long": "prompt too long for the policy",
        "infrastructure": "infrastructure failure (no reward)",
    }
    rows = [("kept as pivots", int(report["pivots"]), True)]
    dropped = sorted(report["dropped"].items(), key=lambda item: -item[1])
    return rows + [(f"dropped: {told.get(name, words(name))}", int(number_), False) for name, number_ in dropped]


def cost_rows(cost: JsonObject) -> list[JsonObject]:
    """The rows of the cost table: ``name``, ``counts`` in the order of :data:`COUNTS`, ``seconds``, ``class``."""
    rows = [_cost_row(stage["name"], stage) for stage in cost["stages"]]
    if rows:
        rows.append(_cost_row("Total", cost["total"], "total"))
    if cost["before_the_run"]:
        shipped = cost["before_the_run"]
        rows.append(_cost_row(f"Before the run: {shipped['name']}", shipped, "aside"))
    return rows


def episode_rows(episodes: JsonObject) -> list[list[str]]:
    """One row for each side: what was played and how it ended."""
    return [
        [
            words(side),
            count(found.get("episodes")),
            count(found.get("tasks")),
            count(found.get("trials")),
            percent_estimate(found.get("success")),
            decimal(found.get("turns_mean"), 1),
            percent(found.get("malformed")),
            count(found.get("excluded")),
            ", ".join(f"{words(name)} {number_}" for name, number_ in (found.get("ended") or {}).items()) or MISSING,
        ]
        for side, found in episodes["sides"].items()
    ]


def _sides(episodes: JsonObject | None) -> tuple[JsonObject | None, JsonObject | None]:
    sides = (episodes or {}).get("sides") or {}
    return sides.get("before"), sides.get("after")


def _verdict(gain: JsonObject | None) -> str:
    low, high = number((gain or {}).get("low")), number((gain or {}).get("high"))
    if low is None or high is None:
        return ""
    return "better" if low > 0 else "worse" if high < 0 else ""


def _moved(gain: JsonObject | None, before: JsonObject, after: JsonObject) -> str:
    """Rose or fell only where the paired difference says so beyond its interval."""
    verdict = _verdict(gain)
    if verdict:
        return "rose from" if verdict == "better" else "fell from"
    if number((gain or {}).get("low")) is not None:
        return "did not change beyond its interval: from"
    return "went from"


def _pass_row(name: str, before: Any, after: Any) -> dict[str, str]:
    difference = _points((before or {}).get("mean"), (after or {}).get("mean"))
    basis = f"{count((after or before or {}).get('clusters'))} tasks"
    return {
        "name": name,
        "before": percent_estimate(before),
        "after": percent_estimate(after),
        "difference": difference,
        "basis": basis,
        "verdict": "",
    }


def _points(before: Any, after: Any) -> str:
    left, right = number(before), number(after)
    return MISSING if left is None or right is None else f"{signed(100 * (right - left), 1)} %"


def _limit(settings: JsonObject, name: str, words_: str) -> str:
    found = number(settings.get(name))
    return f" ({words_} {found:g})" if found is not None else ""


def _cost_row(name: str, cost: JsonObject, css: str = "") -> JsonObject:
    return {
        "name": clean(name, 80),
        "counts": [cost.get(field) for field in COUNTS],
        "seconds": cost.get("seconds"),
        "class": css,
    }


def _tile(label: str, value: str, detail: str) -> dict[str, str]:
    return {"label": label, "value": value, "detail": detail}


def _plural(number_: Any, one: str, many: str | None = None) -> str:
    return f"{count(number_)} {one if number_ == 1 else many or one + 's'}"
