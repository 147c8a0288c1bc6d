"""Puts the figures of docs/results/compare*.json and forgetting.json into the pages that show them.

It is what `make results-compare`, `make results-forgetting` and `make results-tuning` end with; the latter gives the
results of its comparisons, of which the part that the page shows is kept.

What is said about the figures in words is not made here; the tests of the pages find words that no longer fit.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compare_claims import claims_table

from pivotgym.harness.compare_report import (
    Table,
    contrast_table,
    markdown,
    markdown_table,
    plots,
    success_table,
    told,
)
from pivotgym.harness.report.forgetting import forgetting_line, forgetting_markdown

Found = dict[str, Any]


def comparison_page(page: str, found: Found, rewards: Found, tuning: dict[str, Found]) -> str:
    """docs/compare.md with the tables of these files."""
    shown = (success_table(rewards), contrast_table(rewards), first_rewards(rewards))
    page = _block(page, "results/compare_rewards.json", "\n\n".join(map(markdown_table, shown)))
    for name, tried in tuning.items():
        page = _block(page, f"results/compare_tuning.json: {name}", markdown_table(success_table(tried)))
    page = _block(page, "results/compare.json", markdown(found))
    return _block(page, "results/compare.json: claims", markdown_table(claims_table(found)))


def first_rewards(found: Found) -> Table:
    """Of the actions of the first update, the same ones for every arm, the share that each reward calls right."""
    header = ["reward of the same actions", *(f"seed {seed}" for seed in found["seeds"]), "steps with equal means"]
    rows, first = [], found["reference_arm"]
    for name, arm in found["arms"].items():
        if arm["curves"]:
            means = [f"{curve[0]['reward']:.3f}" for curve in arm["curves"]]
            same, steps = equal_steps(found, first, name)
            rows.append([name, *means, f"{same} of {steps}"])
    return header, rows


def equal_steps(found: Found, one: str, other: str) -> tuple[int, int]:
    """In how many steps of all seeds two arms had the same mean reward, and of how many."""
    curves = [found["arms"][name]["curves"] for name in (one, other)]
    pairs = [(left, right) for seed in zip(*curves, strict=True) for left, right in zip(*seed, strict=True)]
    return sum(left["reward"] == right["reward"] for left, right in pairs), len(pairs)


def paper_page(page: str, found: Found, rewards: Found, forgotten: Found) -> str:
    """docs/paper.md with the differences, gains and costs of these comparisons, and what was forgotten."""
    every = {"compare": found, "compare_rewards": rewards}
    contrasts = {
        (name, item["arm"], item["against"]): item["sets"] for name, one in every.items() for item in one["contrasts"]
    }
    arms, held_out = found["arms"], found["sets"][-1]

    def difference(match: re.Match[str]) -> str:
        file, arm, against = match["file"], match["arm"], match["against"]
        sets = "; ".join(f"{name} {told(row)}" for name, row in contrasts[file, arm, against].items())
        return f"{arm} − {against}: {sets} <!-- {file}.json: {arm} {against} -->"

    def gain(name: str) -> str:
        return f"{name} {told(arms[name]['sets'][held_out]['over_start'])}"

    def seconds(name: str) -> str:
        return f"{arms[name]['cost']['measured']['cpu_seconds']:,.0f}"

    page = _put(page, r"\S+ − \S+: [^|<]*<!-- (?P<file>\S+)\.json: (?P<arm>\S+) (?P<against>\S+) -->", difference)
    against_start = f"against the start: {gain('pivotrl')}, {gain('sft')} <!-- compare.json: start -->"
    page = _put(page, r"against the start: [^|<]*<!-- compare.json: start -->", lambda _: against_start)
    spent = f"CPU seconds of the same arms: {seconds('pivotrl')} and {seconds('grpo')} <!-- compare.json: seconds -->"
    page = _put(page, r"CPU seconds of the same arms: [^|<]*<!-- compare.json: seconds -->", lambda _: spent)
    changed = f"(forgetting.md): {forgetting_line(forgotten)} <!-- forgetting.json -->"
    return _put(page, r"\(forgetting.md\): [^|<]*<!-- forgetting.json -->", lambda _: changed)


def forgetting_page(page: str, forgotten: Found) -> str:
    """docs/forgetting.md with the table of this run."""
    return _block(page, "results/forgetting.json", "\n".join(forgetting_markdown(forgotten)))


def _put(page: str, pattern: str, text: Callable[[re.Match[str]], str]) -> str:
    page, count = re.subn(pattern, text, page)
    if not count:
        raise ValueError(f"no place for {pattern}")
    return page


def _block(page: str, name: str, text: str) -> str:
    head = f"<!-- made from {name} -->\n"
    start = page.index(head) + len(head)
    return page[:start] + "\n" + text.rstrip("\n") + "\n\n" + page[page.index("<!-- end -->", start) :]


def keep_tuning(results: Path, tried: list[Path]) -> None:
    """Puts results of comparisons into ``compare_tuning.json``, by the name of their folder."""
    file = results / "compare_tuning.json"
    kept: dict[str, Found] = {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in tried}
    for one in kept.values():
        for arm in one["arms"].values():
            arm.pop("curves")  # long, and the page does not show them
    file.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def main(docs: Path) -> None:
    """Rewrites the pages and the plots under ``docs``."""
    results = docs / "results"
    names = ("compare", "compare_rewards", "compare_tuning", "forgetting")
    files: list[Found] = [json.loads((results / f"{name}.json").read_text(encoding="utf-8")) for name in names]
    found, rewards, tuning, forgotten = files
    for page, filled in (
        (docs / "compare.md", lambda text: comparison_page(text, found, rewards, tuning)),
        (docs / "paper.md", lambda text: paper_page(text, found, rewards, forgotten)),
        (docs / "forgetting.md", lambda text: forgetting_page(text, forgotten)),
    ):
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
    for name, drawn in plots(found).items():
        (results / f"compare_{name}.svg").write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--tuning", nargs="*", type=Path, default=[])
    where = Path(__file__).resolve().parents[2] / "docs"
    if tuned := parser.parse_args().tuning:
        keep_tuning(where / "results", tuned)
    main(where)
