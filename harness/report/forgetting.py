"""What training made a policy forget, as rows of a table and on a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from pivotgym.envs.trajectory import JsonObject
from pivotgym.harness.report.text import clean, estimate, percent_estimate

HEAD = ("Measure", "Base", "Policy", "Trained", "Change", "")


def forgetting_rows(found: JsonObject | None) -> list[dict[str, str]]:
    """A row for each metric and policy: ``name, base, policy, after, change, verdict``.

    Shares are per cent, their changes points; the other figures are what their name says, lower is better.
    """
    rows: list[dict[str, str]] = []
    for metric in (found or {}).get("metrics") or []:
        share = metric.get("unit") == "share"
        policies: dict[str, Any] = metric.get("policies") or {}
        for name, one in policies.items():
            changed = _changed(one.get("change"), share)
            rows.append(
                {
                    "name": clean(metric.get("label"), 80),
                    "base": _shown(metric.get("base"), share),
                    "policy": clean(name, 60),
                    "after": _shown(one.get("value"), share),
                    "change": changed,
                    "verdict": {"forgotten": "worse", "improved": "better"}.get(str(one.get("verdict")), ""),
                }
            )
    return rows


def forgetting_line(found: JsonObject | None) -> str:
    """One sentence for each policy: on how many measures it is worse, better, or not told apart from the base."""
    said: list[str] = []
    for name in (found or {}).get("policies") or []:
        verdicts = [row["verdict"] for row in forgetting_rows(found) if row["policy"] == clean(name, 60)]
        worse, better = verdicts.count("worse"), verdicts.count("better")
        said.append(
            f"{clean(name, 60)}: worse than the base on {worse} of {len(verdicts)} held-out measures, better on "
            f"{better}, not told apart on {len(verdicts) - worse - better}."
        )
    return " ".join(said)


def forgetting_markdown(found: JsonObject | None) -> list[str]:
    """Lines of a page: the table and what could not be measured; without a result the command that makes one."""
    if not found:
        return [
            "Change to the base model on a held-out suite: not measured (`pivotgym forget`, see docs/forgetting.md)."
        ]
    lines = ["Change to the base model on a held-out suite (95 % intervals, paired by item):", ""]
    lines += ["| measure | base | policy | trained | change |", "|---|---|---|---|---|"]
    for row in forgetting_rows(found):
        cells = (row[key].replace("|", "\\|") for key in ("name", "base", "policy", "after", "change"))
        lines.append("| " + " | ".join(cells) + " |")
    missing = (found.get("unmeasured") or {}).items()
    return [*lines, *(f"\nNot measured: {clean(part, 80)}: {clean(reason, 300)}" for part, reason in missing)]


def print_forgetting(found: JsonObject, console: Console) -> None:
    """The table, and what could not be measured."""
    from pivotgym.harness.report.terminal import print_table

    several = len(found.get("policies") or []) > 1
    rows = forgetting_rows(found)
    keys = ["name", "base", *(["policy"] if several else []), "after", "change"]
    print_table(
        console,
        "Change to the base model (95 % intervals, paired by item)",
        ["", "base", *(["policy"] if several else []), "trained", "change"],
        [[row[key] for key in keys] for row in rows],
        styles=[{"better": "green", "worse": "red"}.get(row["verdict"], "") for row in rows],
    )
    console.print(Text(forgetting_line(found)))
    for part, reason in (found.get("unmeasured") or {}).items():
        console.print(Text(f"not measured: {clean(part, 80)}: {clean(reason, 300)}", style="yellow"))


def _shown(row: Any, share: bool) -> str:
    return percent_estimate(row) if share else estimate(row)


def _changed(row: Any, share: bool) -> str:
    return percent_estimate(row, sign=True).replace(" %", "", 1) if share else estimate(row, sign=True)
