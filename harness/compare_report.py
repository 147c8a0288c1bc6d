"""What a comparison came to: figures, tables and plots.

Intervals: ``success`` pools the seeds and counts tasks as clusters (what these runs would do on other tasks);
``by_seed`` counts runs (what another run of the method would do), a Student interval over as many values as there are
seeds, hence wide. A difference is paired by seed, task and trial: all policies met the same random numbers.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

from pivotgym.envs.trajectory import JsonObject
from pivotgym.harness.compare_config import CompareConfig
from pivotgym.harness.runs import write_json
from pivotgym.harness.stats import DIFFERENCE, SHARE, Estimate, cluster_interval, paired_difference

START = "start"
_COUNTS = ("rollout_turns", "model_calls", "prompt_tokens", "sampled_tokens", "trained_tokens")


def write_results(config: CompareConfig, out: Path) -> JsonObject:
    """Writes ``metrics.json``, ``compare.json``, ``compare.md`` and the plots; returns what is in ``compare.json``."""
    import torch

    found = figures(config, out)
    write_json(out / "metrics.json", _without(found, "measured"))
    machine = {
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processor": platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    whole = {"config": config.model_dump(mode="json"), "machine": machine, **found}
    write_json(out / "compare.json", whole)
    (out / "compare.md").write_text(markdown(whole), encoding="utf-8")
    for name, svg in plots(whole).items():
        (out / f"{name}.svg").write_text(svg, encoding="utf-8")
    return whole


def figures(config: CompareConfig, out: Path) -> JsonObject:
    """The figures of finished phases: by arm, success on each set, differences, and mean cost of a seed."""
    seeds = config.seeds
    phases = {
        name: [_phase(out / f"seed-{seed}" / name) for seed in seeds]
        for name in (START, *(arm.name for arm in config.arms))
    }
    sets = [wanted.name for wanted in config.evaluate]
    arms: JsonObject = {}
    for name, found in phases.items():
        arms[name] = {
            "method": found[0].get("method", "start"),
            "sets": {
                wanted: {
                    **_success(found, wanted, seeds),
                    "over_start": None if name == START else _difference(phases[START], found, wanted),
                    "over_reference": None
                    if name in (START, config.reference_arm)
                    else _difference(phases[config.reference_arm], found, wanted),
                }
                for wanted in sets
            },
            "steps": _mean([row.get("steps") for row in found]),
            "zero_variance": _mean([row.get("zero_variance") for row in found]),
            "legs": [row["legs"] for row in found] if "legs" in found[0] else None,
            "cost": None if name == START else _mean_cost([row["cost"] for row in found]),
            "curves": [row["curve"] for row in found] if "curve" in found[0] else None,
        }
    start, profiles = out / START / "phase.json", [out / f"seed-{seed}" / "profile" for seed in seeds]
    return {
        "reference_arm": config.reference_arm,
        "seeds": list(seeds),
        "sets": sets,
        "start": json.loads(start.read_text(encoding="utf-8")) if start.exists() else None,
        "profiles": [_phase(folder) for folder in profiles] if (profiles[0] / "phase.json").exists() else None,
        "arms": arms,
    }


def _phase(folder: Path) -> JsonObject:
    found: JsonObject = json.loads((folder / "phase.json").read_text(encoding="utf-8"))
    return found


def _wins(found: Sequence[JsonObject], wanted: str) -> dict[tuple[int, str, int], float]:
    """1 for success, 0 otherwise, by place of the seed, task and trial; excluded episodes are left out."""
    return {
        (place, task, trial): float(reward >= 1)
        for place, row in enumerate(found)
        for task, rewards in row["sets"][wanted]["rewards"].items()
        for trial, reward in enumerate(rewards)
        if reward is not None
    }


def _success(found: Sequence[JsonObject], wanted: str, seeds: Sequence[int]) -> JsonObject:
    wins = _wins(found, wanted)
    means = [fmean(win for key, win in wins.items() if key[0] == place) for place in range(len(seeds))]
    rows = [row["sets"][wanted] for row in found]
    return {
        "success": cluster_interval(list(wins.values()), [task for _, task, _ in wins], bounds=SHARE).row(),
        "by_seed": cluster_interval(means, list(seeds), bounds=SHARE).row(),
        "seeds": dict(zip(map(str, seeds), means, strict=True)),
        "episodes": len(wins),
        "excluded": sum(row["excluded"] for row in rows),
        "turns_mean": fmean(row["turns_mean"] for row in rows),
        "malformed": fmean(row["malformed"] for row in rows),
    }


def _difference(before: Sequence[JsonObject], after: Sequence[JsonObject], wanted: str) -> JsonObject:
    """How much higher ``after`` is, paired; interval by task."""
    left, right = _wins(before, wanted), _wins(after, wanted)
    keys = [key for key in left if key in right]
    return paired_difference(
        [left[key] for key in keys], [right[key] for key in keys], [key[1] for key in keys], bounds=DIFFERENCE
    ).row()


def _mean(values: Sequence[Any]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _mean_cost(costs: Sequence[JsonObject]) -> JsonObject:
    fixed = {name: fmean(cost[name] for cost in costs) for name in _COUNTS}
    return {**fixed, "measured": {name: fmean(c["measured"][name] for c in costs) for name in costs[0]["measured"]}}


def _without(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return {key: _without(item, name) for key, item in value.items() if key != name}
    return [_without(item, name) for item in value] if isinstance(value, list) else value


# Tables -------------------------------------------------------------------------------------------------------------


def verdict(difference: JsonObject | None) -> str:
    """What a difference shows: ``ahead``, ``behind``, or that it shows nothing."""
    if difference is None:
        return ""
    if difference["low"] is not None and difference["low"] > 0:
        return "ahead"
    return "behind" if difference["high"] is not None and difference["high"] < 0 else "not told apart"


def table_rows(found: JsonObject) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table of results, one row an arm; costs are means over seeds, profiling included."""
    header = ["arm", *(f"{name}: success" for name in found["sets"])]
    header += [f"{name}: against {found['reference_arm']}" for name in found["sets"]]
    header += ["rollout turns", "model calls", "sampled tokens", "trained tokens", "seconds", "groups without signal"]
    rows = []
    for name, arm in found["arms"].items():
        cost = arm["cost"]
        row = [name]
        row += [_interval(arm["sets"][wanted]["success"]) for wanted in found["sets"]]
        for wanted in found["sets"]:
            difference = arm["sets"][wanted]["over_reference"]
            row.append("" if difference is None else f"{_interval(difference, signed=True)} {verdict(difference)}")
        counts = ("rollout_turns", "model_calls", "sampled_tokens", "trained_tokens")
        row += [""] * 5 if cost is None else [f"{cost[count]:,.0f}" for count in counts]
        row += [] if cost is None else [f"{cost['measured']['seconds']:,.0f}"]
        row.append("" if arm["zero_variance"] is None else f"{arm['zero_variance']:.0%}")
        rows.append(row)
    return header, rows


def _interval(row: JsonObject, signed: bool = False) -> str:
    form = "+.2f" if signed else ".2f"
    if row["low"] is None:
        return f"{row['mean']:{form}}"
    return f"{row['mean']:{form}} [{row['low']:{form}}, {row['high']:{form}}]"


def markdown(found: JsonObject) -> str:
    """The results as a page: the table, what was lost, what profiling cost and saved."""
    header, rows = table_rows(found)
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    lines += ["", _explanation(found), ""]
    lost = plain_losses(found)
    lines += (
        ["Where the reference does not win:", ""] if lost else ["The reference is ahead of every arm on every set."]
    )
    lines += [f"- {text}" for text in lost]
    for seed, row in zip(found["seeds"], found["profiles"] or [], strict=False):
        saved = row["savings"]
        told = f"seed {seed}: {row['pivots']} pivots of {row['candidates']} turns, {row['turns']} actions sampled"
        if saved is not None:
            told += f", {saved['saved']:.0%} fewer than a fixed K (stated error {saved['error']:.2f})"
        lines += ["", told]
    return "\n".join(lines) + "\n"


def _explanation(found: JsonObject) -> str:
    return (
        f"Success with 95 % intervals by task, {len(found['seeds'])} seeds pooled; differences are paired by seed, "
        "task and random numbers. Costs are means of one seed, profiling included, evaluation and the common start not."
    )


def plain_losses(found: JsonObject) -> list[str]:
    """A sentence for each arm and set where the reference arm is not clearly ahead."""
    said = []
    for name, arm in found["arms"].items():
        for wanted in found["sets"]:
            difference = arm["sets"][wanted]["over_reference"]
            shown = verdict(difference)
            if shown == "ahead":
                said.append(f"{wanted}: {name} is ahead of {found['reference_arm']} by {_interval(difference, True)}")
            elif shown == "not told apart":
                said.append(
                    f"{wanted}: {name} and {found['reference_arm']} are not told apart ({_interval(difference, True)})"
                )
    return said


def print_results(found: JsonObject, console: Console) -> None:
    """The same on a terminal."""
    header, rows = table_rows(found)
    table = Table()
    for place, name in enumerate(header):
        table.add_column(name, justify="left" if place == 0 else "right")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    for text in plain_losses(found):
        console.print(text, highlight=False)


# Plots --------------------------------------------------------------------------------------------------------------


def plots(found: JsonObject) -> dict[str, str]:
    """SVG by name: ``success`` (each arm on each set) and ``training`` (reward and signal along sampled turns)."""
    import io

    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from pivotgym.harness.report.plots import MUTED, STYLE

    drawn: dict[str, str] = {}

    def keep(name: str, figure: Figure) -> None:
        FigureCanvasAgg(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        drawn[name] = buffer.getvalue()

    names = list(found["arms"])
    with rc_context({**STYLE, "svg.hashsalt": "compare"}):
        figure = Figure(figsize=(3.4 * len(found["sets"]) + 1.4, 0.36 * len(names) + 1.2), layout="constrained")
        every = figure.subplots(1, len(found["sets"]), sharey=True, squeeze=False)[0]
        for axes, wanted in zip(every, found["sets"], strict=True):
            for place, name in enumerate(names):
                result = found["arms"][name]["sets"][wanted]
                estimate = Estimate(**result["success"])
                low, high = estimate.low or 0.0, 1.0 if estimate.high is None else estimate.high
                axes.plot([low, high], [place, place], color=_colour(place), linewidth=1.6)
                axes.plot(estimate.mean, place, "o", color=_colour(place))
                axes.plot(list(result["seeds"].values()), [place] * len(result["seeds"]), "|", color=MUTED)
            axes.set_title(wanted, fontsize=9.5)
            axes.set_xlabel("success")
            axes.set_xlim(0, 1)
        every[0].set_yticks(range(len(names)), names)
        every[0].invert_yaxis()
        keep("success", figure)
        figure = Figure(figsize=(8.6, 3.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        for place, name in enumerate(names):
            for number, curve in enumerate(found["arms"][name]["curves"] or []):
                points = [point for point in curve if "reward" in point]
                turns = [point["turns"] for point in points]
                label = name if number == 0 and points else None
                style: Any = {"color": _colour(place), "linewidth": 1.0, "alpha": 0.8}
                left.plot(turns, _smooth([point["reward"] for point in points]), label=label, **style)
                right.plot(turns, _smooth([point["signal"] for point in points]), **style)
        for axes, text in ((left, "training reward"), (right, "groups with a signal")):
            axes.set_xlabel("sampled turns, profiling included")
            axes.set_ylabel(text)
            axes.set_ylim(0, 1)
        if left.get_legend_handles_labels()[0]:
            figure.legend(loc="outside right upper")
        keep("training", figure)
    return drawn


def _colour(place: int) -> str:
    return f"C{place % 10}"


def _smooth(values: Sequence[float], window: int = 5) -> list[float]:
    """Mean of the last ``window`` values at each place."""
    return [fmean(values[max(0, end - window) : end]) for end in range(1, len(values) + 1)]
