"""The same figures as tables in a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pivotgym.envs.trajectory import JsonObject
from pivotgym.harness.report import summary, text
from pivotgym.harness.report.figures import report_figures
from pivotgym.harness.report.forgetting import print_forgetting


def print_run_summary(run: Path | JsonObject, console: Console) -> None:
    """Prints the result, the filter, before and after, and the costs.

    Args:
        run: the run's folder, or its figures as :func:`pivotgym.harness.report.report_figures` gives them.
        console: where to.

    Raises:
        BadInput: no such folder, or nothing of a run in it.
    """
    figures = run if isinstance(run, dict) else report_figures(Path(run))
    console.print(Text(summary.headline(figures), style="bold"))
    if restore := figures["restore"]:
        console.print(
            Text(
                f"restored {text.count(restore['turns'])} turns: {text.count(restore['matched'])} of "
                f"{text.count(restore['observations'])} observations as recorded "
                f"({text.percent(restore['fidelity'], 2)}), {text.seconds(restore['seconds_per_restore'])} a turn"
            )
        )
    if report := figures["filter"]:
        print_table(
            console,
            "Candidates",
            ["", "count", "share"],
            [
                [name, text.count(n), text.percent(n / report["candidates"] if report["candidates"] else None)]
                for name, n, _ in summary.filter_rows(report)
            ],
        )
    if (train := figures["train"]) and train["reward_first"] is not None:
        window = train["window"]
        console.print(
            Text(
                f"training reward {text.decimal(train['reward_first'])} over the first "
                f"{'step' if window == 1 else f'{window} steps'}, {text.decimal(train['reward_last'])} over the last "
                f"({text.count(train['steps'])} steps)"
            )
        )
    rows = summary.comparison(figures)
    if rows:
        print_table(
            console,
            "Before and after (95 % intervals)",
            ["", "before", "after", "difference", "based on"],
            [[row["name"], row["before"], row["after"], row["difference"], row["basis"]] for row in rows],
            styles=[{"better": "green", "worse": "red"}.get(row["verdict"], "") for row in rows],
        )
    if found := figures["forgetting"]:
        print_forgetting(found, console)
    if cost := figures["cost"]:
        print_table(
            console,
            "Cost",
            ["stage", "turns", "calls", "prompt tok.", "sampled tok.", "trained tok.", "env actions", "time"],
            [
                [row["name"], *[text.count(value) for value in row["counts"]], text.seconds(row["seconds"])]
                for row in summary.cost_rows(cost)
            ],
        )
    for part, command in figures["missing"].items():
        console.print(Text(f"no {part} in this run: {command}", style="dim"))
    for note in figures["notes"]:
        console.print(Text(text.clean(note, 300), style="yellow"))


def print_table(
    console: Console, title: str, head: list[str], rows: list[list[Any]], styles: list[str] | None = None
) -> None:
    """A table whose first column is a name; ``styles`` has one style a row."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, title_style="bold", pad_edge=False)
    for place, name in enumerate(head):
        table.add_column(name, justify="right" if place else "left", overflow="fold")
    for place, row in enumerate(rows):
        # Text, not str: names come from recordings, and markup in them is not ours.
        table.add_row(*[Text(str(cell)) for cell in row], style=styles[place] if styles else None)
    console.print(table)
