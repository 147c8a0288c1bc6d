"""Pictures of a run as inline SVG: no files, no fonts, no scripts, nothing fetched."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context, ticker
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from pivotgym.envs.trajectory import JsonObject

INK, MUTED, GRID = "#1f2933", "#66727f", "#e3e7eb"
BLUE, ORANGE, GREY, RED, GREEN = "#1f5fa8", "#c8641b", "#c3cad2", "#a8323e", "#2f7d4f"
# Few enough steps that the colour bar is drawn as shapes; with more it would become an embedded bitmap.
BLUES = LinearSegmentedColormap.from_list("counts", ["#e3ecf6", "#1f5fa8", "#0d2f57"], N=32)
STYLE: Any = {
    "svg.fonttype": "path",  # text as outlines: the page looks the same everywhere
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.8,
    "text.parse_math": False,
}
MAX_POINTS = 400
"""Points of a curve; longer ones are averaged in bins."""


class Pictures:
    """Draws the figures of one page; ids are kept apart so that several SVGs can share a document."""

    def __init__(self) -> None:
        self._count = 0

    def pivots_in_trajectories(self, profile: JsonObject) -> str:
        """Turn against mean reward, coloured by the number of candidates; below it the pivots of each turn."""
        grid = profile["grid"]
        if not grid["candidates"]:
            return ""
        counts_LC, pivots_LC = np.array(grid["candidates"]), np.array(grid["pivots"])
        width, columns, edges = grid["turns_per_column"], counts_LC.shape[1], grid["edges"]
        with rc_context(STYLE):
            figure = Figure(figsize=(5.0, 4.3), layout="constrained")
            upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[2.2, 1])
            x_edges = np.arange(columns + 1) * width - 0.5 * (width == 1)
            shown_LC = np.ma.masked_equal(counts_LC, 0)
            mesh = upper.pcolormesh(x_edges, edges, shown_LC, cmap=BLUES, vmin=0, linewidth=0.6, edgecolor="white")
            upper.grid(False)
            for level, column in zip(*np.nonzero(pivots_LC), strict=True):
                dot = (x_edges[column] + x_edges[column + 1]) / 2, (edges[level] + edges[level + 1]) / 2
                share = pivots_LC[level, column] / counts_LC[level, column]
                upper.plot(*dot, "o", color=ORANGE, mec="white", mew=0.6, ms=1.5 + 4 * share, zorder=3)
            upper.set_ylabel("mean reward")
            bar = figure.colorbar(mesh, ax=upper, pad=0.02, aspect=16)
            bar.outline.set_visible(False)
            bar.ax.yaxis.set_major_locator(ticker.MaxNLocator(4, integer=True))
            bar.set_label("candidates")
            centres = (x_edges[:-1] + x_edges[1:]) / 2
            lower.bar(centres, counts_LC.sum(0), 0.82 * width, color=GREY, label="candidates")
            lower.bar(centres, pivots_LC.sum(0), 0.82 * width, color=ORANGE, label=_pivot_word(profile))
            lower.set_xlabel("turn (0 is the first action)")
            lower.set_ylabel("count")
            lower.xaxis.set_major_locator(ticker.MaxNLocator(12, integer=True))
            lower.yaxis.set_major_locator(ticker.MaxNLocator(4, integer=True))
            figure.legend(*lower.get_legend_handles_labels(), loc="outside upper left", ncols=2)
            return self._svg(figure)

    def reward_histogram(self, profile: JsonObject, max_mean: float | None) -> str:
        """Candidates by mean reward, the pivots among them marked."""
        bins = profile["histogram"]
        if not any(place["candidates"] for place in bins):
            return ""
        with rc_context(STYLE):
            figure, axes = self._axes(5.0, 3.1)
            centres = [place["centre"] for place in bins]
            width = 0.86 * (centres[1] - centres[0])
            dropped = [place["candidates"] - place["pivots"] for place in bins]
            pivots = [place["pivots"] for place in bins]
            axes.bar(centres, pivots, width, color=ORANGE, label=_pivot_word(profile))
            axes.bar(
                centres,
                dropped,
                width,
                bottom=pivots,
                color=GREY,
                label="dropped" if profile["filtered"] else "equal outcomes",
            )
            if max_mean is not None and max_mean < 1:
                axes.axvline(max_mean, color=MUTED, linestyle="--", linewidth=1.1, label=f"limit {max_mean:g}")
            axes.grid(axis="x", visible=False)
            axes.set_xlabel(f"mean reward of {profile['rollouts']} actions" if profile["rollouts"] else "mean reward")
            axes.set_ylabel("candidates")
            axes.yaxis.set_major_locator(ticker.MaxNLocator(5, integer=True))
            _legend(figure, axes)
            return self._svg(figure)

    def training_reward(self, train: JsonObject) -> str:
        """Mean reward of each step's actions, and its moving average."""
        steps, rewards = _points(train["curves"], "reward_mean")
        if not steps:
            return ""
        with rc_context(STYLE):
            figure, axes = self._axes()
            window = train["window"]
            axes.plot(
                *_thin(steps, rewards),
                "o" if len(steps) <= MAX_POINTS else "-",
                color=BLUE,
                alpha=0.35,
                ms=3,
                label="one step",
            )
            if window > 1 and len(steps) > window:
                smooth = np.convolve(rewards, np.full(window, 1 / window), mode="valid")
                axes.plot(
                    *_thin(steps[window - 1 :], smooth.tolist()), color=BLUE, label=f"mean of the last {window} steps"
                )
            axes.set_ylabel("training reward")
            _step_axis(axes)
            _legend(figure, axes)
            return self._svg(figure)

    def heldout_reward(self, train: JsonObject) -> str:
        """Mean reward on held-out pivots with its interval."""
        rows = [row for row in train["evaluations"] if row["reward"]]
        if len(rows) < 2:
            return ""
        with rc_context(STYLE):
            figure, axes = self._axes()
            steps, means = [row["step"] for row in rows], [row["reward"]["mean"] for row in rows]
            bounded = [row for row in rows if row["reward"].get("low") is not None]
            if len(bounded) > 1:
                axes.fill_between(
                    [row["step"] for row in bounded],
                    [row["reward"]["low"] for row in bounded],
                    [row["reward"]["high"] for row in bounded],
                    color=GREEN,
                    alpha=0.18,
                    linewidth=0,
                    label=f"{100 * rows[0]['reward'].get('confidence', 0.95):g} % interval",
                )
            axes.plot(steps, means, "o-" if len(steps) < 60 else "-", color=GREEN, ms=4, label="mean")
            axes.set_ylabel("held-out reward")
            _step_axis(axes)
            _legend(figure, axes)
            return self._svg(figure)

    def groups(self, train: JsonObject) -> str:
        """How many pivots of a step had mixed outcomes, were all right, all wrong or excluded."""
        curves = train["curves"]
        steps, signal = _points(curves, "groups_with_signal")
        if not steps:
            return ""
        parts = [("mixed (gradient)", signal, ORANGE)]
        for name, label, colour in (
            ("groups_all_right", "all right", GREEN),
            ("groups_all_wrong", "all wrong", GREY),
            ("groups_excluded", "no verdict", RED),
        ):
            values = _points(curves, name)[1]
            if len(values) == len(steps) and any(values):
                parts.append((label, values, colour))
        with rc_context(STYLE):
            figure, axes = self._axes()
            thinned = [_thin(steps, values) for _, values, _ in parts]
            if len(steps) > 1:
                labels, colours = [part[0] for part in parts], [part[2] for part in parts]
                axes.stackplot(thinned[0][0], *[y for _, y in thinned], labels=labels, colors=colours, step="mid")
            else:
                axes.bar(steps, signal, 0.5, color=ORANGE, label=parts[0][0])
            axes.set_ylabel("pivots in a step")
            axes.set_ylim(bottom=0)
            axes.yaxis.set_major_locator(ticker.MaxNLocator(5, integer=True))
            _step_axis(axes)
            _legend(figure, axes)
            return self._svg(figure)

    def curve(self, curves: JsonObject, names: Sequence[tuple[str, str]], label: str, *, zero: bool = False) -> str:
        """One or more curves over the steps; those without a single number are left out.

        Args:
            curves: values by name, each with an entry for each of ``step``.
            names: (name, label) of each curve.
            label: of the vertical axis.
            zero: start the vertical axis at 0.
        """
        found = [(text, *_points(curves, name)) for name, text in names]
        found = [item for item in found if item[1]]
        if not found:
            return ""
        with rc_context(STYLE):
            figure, axes = self._axes()
            for (text, steps, values), colour in zip(found, (BLUE, ORANGE, GREEN, RED), strict=False):
                axes.plot(
                    *_thin(steps, values), "o-" if len(steps) < 3 else "-", color=colour, label=text, linewidth=1.5
                )
            axes.set_ylabel(label)
            if zero:
                axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
                if axes.get_ylim()[1] <= 1e-9:
                    axes.set_ylim(0, 1)
            _step_axis(axes)
            if len(found) > 1:
                _legend(figure, axes)
            return self._svg(figure)

    def before_after(self, rows: Sequence[tuple[str, JsonObject | None, JsonObject | None]]) -> str:
        """Means with intervals, before and after, one line a measure."""
        rows = [row for row in rows if row[1] or row[2]]
        if not rows:
            return ""
        with rc_context(STYLE):
            figure, axes = self._axes(5.0, 1.15 + 0.42 * len(rows))
            for place, (_, before, after) in enumerate(reversed(rows)):
                for estimate, shift, colour, text in ((before, 0.13, MUTED, "before"), (after, -0.13, BLUE, "after")):
                    if not estimate or estimate.get("mean") is None:
                        continue
                    y = place + shift
                    if estimate.get("low") is not None:
                        axes.plot([estimate["low"], estimate["high"]], [y, y], color=colour, linewidth=2.2)
                    axes.plot(estimate["mean"], y, "o", color=colour, ms=6, label=text if place == 0 else None)
            axes.set_yticks(range(len(rows)), [row[0] for row in reversed(rows)])
            axes.set_ylim(-0.5, len(rows) - 0.5)
            axes.set_xlim(-0.02, 1.02)
            axes.grid(axis="y", visible=False)
            axes.tick_params(axis="y", length=0)
            _legend(figure, axes)
            return self._svg(figure)

    def _axes(self, width: float = 5.0, height: float = 2.9) -> tuple[Figure, Axes]:
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        return figure, figure.subplots()

    def _svg(self, figure: Figure) -> str:
        self._count += 1
        prefix = f"p{self._count}-"
        buffer = io.StringIO()
        with rc_context({"svg.hashsalt": prefix}):
            figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        text = buffer.getvalue()
        text = text[text.index("<svg") :]
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
        text = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", text)
        text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.S)
        text = re.sub(r'xlink:href="#', 'href="#', text)
        text = re.sub(r'\bid="', f'id="{prefix}', text)
        text = re.sub(r'href="#', f'href="#{prefix}', text)
        text = re.sub(r"url\(#", f"url(#{prefix}", text)
        text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
        text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
        return text.strip()


def _pivot_word(profile: JsonObject) -> str:
    return "pivots" if profile["filtered"] else "mixed outcomes"


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside upper left", ncols=min(len(labels), 4), columnspacing=1.2)


def _step_axis(axes: Axes) -> None:
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(ticker.MaxNLocator(8, integer=True))


def _points(curves: JsonObject, name: str) -> tuple[list[float], list[float]]:
    """The steps and values of a curve where it has a value."""
    steps, values = curves.get("step") or [], curves.get(name) or []
    pairs = [(x, y) for x, y in zip(steps, values, strict=False) if x is not None and y is not None]
    return [x for x, _ in pairs], [y for _, y in pairs]


def _thin(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """At most :data:`MAX_POINTS` points: means of consecutive bins."""
    if len(x) <= MAX_POINTS:
        return list(x), list(y)
    parts = np.array_split(np.arange(len(x)), MAX_POINTS)
    return [float(np.mean(np.take(x, part))) for part in parts], [float(np.mean(np.take(y, part))) for part in parts]
