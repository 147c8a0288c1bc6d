"""Puts the figures of docs/results/*.json into the pages that show them: what `make benchmarks` ends with."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pivotgym.harness.compare_report import drawing

Row = dict[str, Any]
Rows = Sequence[Row]


def repo_page(page: str, rows: Rows) -> str:
    """docs/repo.md with the table of this run."""
    found = _by_name(rows)

    def each(name: str) -> list[float]:
        return [found[name][backend]["median"] for backend in ("bubblewrap", "docker")]

    def line(name: str, values: Sequence[float], text: Callable[[float], str]) -> list[str]:
        return [name, *map(text, values)]

    restore, replay = "restore of turn 10 to first output", "docker run and replay of 10 turns to first output"
    over, over_docker = each("docker run and replay over restore of turn 10")
    change = [sum(pair) for pair in zip(each("reward: change"), each("reward: fork"), strict=True)]
    return _table(
        page,
        ["", "bubblewrap", "Docker"],
        [
            line(restore, each(restore), _ms),
            line(f"`docker run`{replay.removeprefix('docker run')}", each(replay), _ms),
            ["the second over the first", f"{over:.0f} x (≥ 20)", f"{over_docker:.1f} x"],
            line("a reward, all of it", each("reward: all of it (12 tests)"), _seconds),
            line("of it: reading the change, fork", change, lambda ms: _ms(ms) if ms < 100 else _seconds(ms)),
            line("of it: starting Python and pytest", each("reward: tests: import"), _seconds),
            line("of it: the tests", each("reward: tests: genuine"), _seconds),
            line("of it: their twins", each("reward: tests: twins"), _seconds),
        ],
    )


def browser_page(page: str, rows: Rows) -> str:
    """docs/browser.md with the table of this run."""
    cells = []
    for name, of in _by_name(rows).items():
        ours, theirs, over = (of.get(side) for side in ("pivotgym", "browsergym", "browsergym over pivotgym"))
        many = ours is not None and ours["repeats"] > 1
        spread = f"{ours['low']:,.0f} to {ours['high']:,.0f}, {ours['repeats']}" if ours and many else ""
        cells.append([name, _value(ours), spread, _value(theirs), _value(over)])
    return _table(page, ["", "PivotGym", "quartiles, n", "BrowserGym", "ratio"], cells)


def training_page(page: str, rows: Rows) -> str:
    """docs/training.md with the table of this run."""
    cells = []
    for name, of in _steps(rows).items():
        line = [name]
        for side in ("packed", "padded", "trl"):
            line.append(f"{of['step'][side]['median'] / 1000:.1f} s, {of['peak memory'][side]['median'] / 1000:.1f} GB")
            if side != "packed":
                line.append(_ratio(of["step"][f"{side} over packed"]))
        cells.append(line)
    return _table(page, ["", "packed", "padded", "over packed", "TRL", "over packed"], cells)


def training_plot(rows: Rows) -> str:
    """SVG: how many times longer the other sides take, over group sizes and prompt lengths."""
    found = _steps(rows)
    sizes = {name: tuple(int(part.split()[-1]) for part in name.split(", ")) for name in found}
    (group, prompt, _), *_ = sizes.values()

    def draw(figure: Any) -> None:
        every = figure.subplots(1, 2, sharey=True)
        curves = (("completions of a prompt, G", 0, 1, prompt), ("tokens of the prompt", 1, 0, group))
        for axes, (text, along, fixed, value) in zip(every, curves, strict=True):
            points = sorted((size[along], name) for name, size in sizes.items() if size[fixed] == value)
            for place, side in enumerate(("padded", "trl")):
                ratios = [found[name]["step"][f"{side} over packed"]["median"] for _, name in points]
                label = {"padded": "padded", "trl": "TRL"}[side]
                axes.plot([at for at, _ in points], ratios, "o-", color=f"C{place}", label=label)
            axes.axhline(1, color="0.7", linewidth=0.8)
            axes.set_xscale("log", base=2)
            axes.set_xticks([at for at, _ in points], [str(at) for at, _ in points])
            axes.set_xlabel(text)
            axes.set_ylim(0)
        every[0].set_ylabel("time of a step over packed")
        every[0].legend()

    return drawing(draw, (7.6, 2.9), salt="bench train")


def _steps(rows: Rows) -> dict[str, dict[str, dict[str, Row]]]:
    """By sizes, what was measured, and side."""
    found: dict[str, dict[str, dict[str, Row]]] = {}
    for row in rows:
        sizes, _, what = row["name"].rpartition(": ")
        found.setdefault(sizes, {}).setdefault(what, {})[row["backend"]] = row
    return found


def _by_name(rows: Rows) -> dict[str, dict[str, Row]]:
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        found.setdefault(row["name"], {})[row["backend"]] = row
    return found


def _ms(ms: float) -> str:
    return f"{ms:,.0f} ms"


def _seconds(ms: float) -> str:
    return f"{ms / 1000:.2f} s"


def _value(row: Row | None) -> str:
    return "" if row is None else f"{row['median']:,.0f} {row['unit']}{_target(row)}"


def _ratio(row: Row) -> str:
    spread = f", {row['low']:.2g} to {row['high']:.2g}" if row["repeats"] > 1 else ""
    return f"{row['median']:.1f} x{_target(row)}{spread}"


def _target(row: Row) -> str:
    return "" if row["target"] is None else f" ({'≥' if row['at_least'] else '≤'} {row['target']:g})"


def _table(page: str, header: list[str], rows: Sequence[Sequence[str]]) -> str:
    """The page with the table that has this header made anew."""
    first = f"| {' | '.join(header)} |".replace("|  |", "| |")
    start = page.index(first)
    end = page.find("\n\n", start)
    lines = [first, "|---" * len(header) + "|", *(f"| {' | '.join(row)} |" for row in rows)]
    return page[:start] + "\n".join(lines) + (page[end:] if end >= 0 else "\n")


PAGES: dict[str, Callable[[str, Rows], str]] = {"repo": repo_page, "browser": browser_page, "train": training_page}
"""By result file, what fills its page."""
PLACES = {"repo": "repo.md", "browser": "browser.md", "train": "training.md"}


def main(docs: Path) -> None:
    """Rewrites the tables and the plot under ``docs``."""
    for name, fill in PAGES.items():
        rows = json.loads((docs / "results" / f"{name}.json").read_text(encoding="utf-8"))
        page = docs / PLACES[name]
        page.write_text(fill(page.read_text(encoding="utf-8"), rows), encoding="utf-8")
        if name == "train":
            (docs / "results" / "train.svg").write_text(training_plot(rows), encoding="utf-8")


if __name__ == "__main__":
    main(Path(__file__).resolve().parents[2] / "docs")
