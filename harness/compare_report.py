"""What a comparison came to: figures, tables and plots.

Intervals: ``success`` pools the seeds and counts tasks as clusters (what these runs would do on other tasks);
``by_seed`` counts runs (what another run of the method would do), a Student interval over as many values as there are
seeds, hence wide. A difference is paired by seed, task and trial: all policies met the same random numbers.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import rich.table
from rich.console import Console

from pivotgym.envs.trajectory import JsonObject
from pivotgym.harness.compare_config import CompareConfig
from pivotgym.harness.report.forgetting import forgetting_markdown
from pivotgym.harness.runs import write_json
from pivotgym.harness.stats import DIFFERENCE, SHARE, Estimate, cluster_interval, paired_difference

Table = tuple[list[str], list[list[str]]]
"""Header and rows."""
START = "start"
_COUNTS = ("rollout_turns", "model_calls", "prompt_tokens", "sampled_tokens", "trained_tokens")


def write_results(config: CompareConfig, out: Path) -> JsonObject:
    """Writes ``metrics.json``, ``compare.json``, ``compare.md`` and the plots; returns what is in ``compare.json``."""
    import torch

    found = figures(config, out)
    forgetting = out / "forgetting" / "forgetting.json"  # made by the comparison, or put there by `pivotgym forget`
    forgotten = json.loads(forgetting.read_text(encoding="utf-8")) if forgetting.exists() else None
    asked = {} if config.forgetting is None or forgotten is None else {"forgetting": forgotten["metrics"]}
    write_json(out / "metrics.json", {**_without(found, "measured"), **asked})
    machine = {
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processor": platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    whole = {"config": config.model_dump(mode="json"), "machine": machine, **found}
    if forgotten is not None:
        whole["forgetting"] = forgotten
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
        "contrasts": [
            {
                **item.model_dump(),
                "sets": {wanted: _difference(phases[item.against], phases[item.arm], wanted) for wanted in sets},
            }
            for item in config.contrasts
        ],
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
    """How much higher ``after`` is, paired; interval by task, and the mean difference of each seed."""
    left, right = _wins(before, wanted), _wins(after, wanted)
    keys = [key for key in left if key in right]
    pooled = paired_difference(
        [left[key] for key in keys], [right[key] for key in keys], [key[1] for key in keys], bounds=DIFFERENCE
    )
    seeds = [fmean(right[key] - left[key] for key in keys if key[0] == place) for place in range(len(before))]
    return {**pooled.row(), "seeds": seeds, "identical": all(left[key] == right[key] for key in keys)}


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
    """What a difference shows: ``ahead``, ``behind``, or that it shows nothing.

    The interval is over tasks. A run of another seed is another policy, so the seeds have to agree as well.
    """
    if difference is None:
        return ""
    seeds, low, high = difference.get("seeds", []), difference["low"], difference["high"]
    if low is not None and low > 0 and all(mean > 0 for mean in seeds):
        return "ahead"
    return "behind" if high is not None and high < 0 and all(mean < 0 for mean in seeds) else "not told apart"


def success_table(found: JsonObject) -> Table:
    """Each arm's success on each set, and in brackets that of each seed where there are several."""
    header = ["arm", *(f"{name}: success" for name in found["sets"])]
    rows = []
    for name, arm in found["arms"].items():
        cells = [arm["sets"][wanted] for wanted in found["sets"]]
        seeds = [f" ({' '.join(f'{mean:.2f}' for mean in cell['seeds'].values())})" for cell in cells]
        seeds = seeds if len(found["seeds"]) > 1 else [""] * len(cells)
        rows.append([name, *(_interval(cell["success"]) + told for cell, told in zip(cells, seeds, strict=True))])
    return header, rows


def difference_table(found: JsonObject, against: str) -> Table:
    """How far each arm is above another one.

    Args:
        found: the figures.
        against: ``over_start`` or ``over_reference``.
    """
    other = START if against == "over_start" else found["reference_arm"]
    header = ["arm", *(f"{name}: against {other}" for name in found["sets"])]
    rows = [
        [name, *(told(arm["sets"][wanted][against]) for wanted in found["sets"])]
        for name, arm in found["arms"].items()
        if name not in (START, other)
    ]
    return header, rows


def contrast_table(found: JsonObject) -> Table:
    """What each named contrast shows."""
    header = ["question", "arms", *found["sets"]]
    rows = [
        [item["name"], f"{item['arm']} − {item['against']}", *(told(item["sets"][name]) for name in found["sets"])]
        for item in found["contrasts"]
    ]
    return header, rows


def cost_table(found: JsonObject) -> Table:
    """What one seed of each arm cost, profiling included."""
    counts = ("rollout_turns", "model_calls", "sampled_tokens", "trained_tokens")
    header = ["arm", *(name.replace("_", " ") for name in counts), "CPU seconds", "updates", "groups without signal"]
    rows = []
    for name, arm in found["arms"].items():
        cost = arm["cost"]
        if cost is not None:
            signal = "" if arm["zero_variance"] is None else f"{arm['zero_variance']:.0%}"
            seconds = f"{cost['measured']['cpu_seconds']:,.0f}"
            rows.append([name, *(f"{cost[count]:,.0f}" for count in counts), seconds, f"{arm['steps']:.0f}", signal])
    return header, rows


def tables(found: JsonObject) -> list[Table]:
    """All tables, in the order of the page."""
    made = [success_table(found), difference_table(found, "over_reference"), difference_table(found, "over_start")]
    return [*made, *([contrast_table(found)] if found["contrasts"] else []), cost_table(found)]


def told(difference: JsonObject) -> str:
    """A difference, its interval and its verdict, as tables have it."""
    if difference.get("identical"):  # the same run, most likely: an interval would look like a measurement
        return "equal in every episode"
    return f"{_interval(difference, signed=True)} {verdict(difference)}"


def _interval(row: JsonObject, signed: bool = False) -> str:
    def said(value: float) -> str:
        return f"{round(value, 2) + 0.0:{'+.2f' if signed else '.2f'}}"  # adding 0 takes the sign off a zero

    if row["low"] is None:
        return said(row["mean"])
    return f"{said(row['mean'])} [{said(row['low'])}, {said(row['high'])}]"


def markdown(found: JsonObject) -> str:
    """The results as a page: the table, what was lost, what profiling cost and saved."""
    lines: list[str] = []
    for table in tables(found):
        lines += [markdown_table(table), ""]
    lines += [_explanation(found), ""]
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
    return "\n".join([*lines, "", *forgetting_markdown(found.get("forgetting"))]) + "\n"


def markdown_table(table: Table) -> str:
    """A table in Markdown."""
    header, rows = table
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _explanation(found: JsonObject) -> str:
    return (
        f"Success with 95 % intervals by task, {len(found['seeds'])} seeds pooled, in brackets each seed's. "
        "Differences are paired by seed, task and random numbers, with intervals by task; ahead or behind is "
        "what is so in every seed and outside the interval. Costs are means of one seed, profiling included, "
        "evaluation and the common start not."
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
                shown = "equal in every episode" if difference.get("identical") else _interval(difference, True)
                said.append(f"{wanted}: {name} and {found['reference_arm']} are not told apart ({shown})")
    return said


def print_results(found: JsonObject, console: Console) -> None:
    """The same on a terminal."""
    for header, rows in tables(found):
        shown = rich.table.Table()
        for place, name in enumerate(header):
            shown.add_column(name, justify="left" if place == 0 else "right")
        for row in rows:
            shown.add_row(*row)
        console.print(shown)
    for text in plain_losses(found):
        console.print(text, highlight=False)


# Plots --------------------------------------------------------------------------------------------------------------


def plots(found: JsonObject) -> dict[str, str]:
    """SVG by name: ``success`` (each arm on each set) and ``training`` (reward and signal along sampled turns)."""
    from pivotgym.harness.report.plots import MUTED

    names = list(found["arms"])

    def success(figure: Any) -> None:
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

    def training(figure: Any) -> None:
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

    size = (3.4 * len(found["sets"]) + 1.4, 0.36 * len(names) + 1.2)
    return {
        "success": drawing(success, size, salt="compare"),
        "training": drawing(training, (8.6, 3.2), salt="compare"),
    }


def drawing(draw: Callable[[Any], None], size: tuple[float, float], salt: str) -> str:
    """SVG of a figure that ``draw`` is given; the same bytes for the same figures.

    Args:
        draw: fills a Matplotlib figure.
        size: width and height in inches.
        salt: names the drawing, so that the ids of two on one page differ.
    """
    import io

    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from pivotgym.harness.report.plots import STYLE

    with rc_context({**STYLE, "svg.hashsalt": salt}):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        FigureCanvasAgg(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _colour(place: int) -> str:
    return f"C{place % 10}"


def _smooth(values: Sequence[float], window: int = 5) -> list[float]:
    """Mean of the last ``window`` values at each place."""
    return [fmean(values[max(0, end - window) : end]) for end in range(1, len(values) + 1)]
