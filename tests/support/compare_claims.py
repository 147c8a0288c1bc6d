"""The PivotRL paper's claims beside the committed comparison: the table in ``docs/compare.md``, from the figures."""

from __future__ import annotations

from typing import Any

from pivotgym.harness.compare_report import Table, told


def claims_table(found: dict[str, Any]) -> Table:
    """What arXiv:2603.21383 says, what came out here, and whether that measures it."""
    arms = found["arms"]
    contrasts = {(item["arm"], item["against"]): item["sets"] for item in found["contrasts"]}

    def between(arm: str, against: str) -> str:
        sets = contrasts.get((arm, against))
        return "not run" if sets is None else "; ".join(f"{name} {told(sets[name])}" for name in found["sets"])

    def over_start(name: str) -> str:
        wanted = found["sets"][-1]
        return f"{name} {told(arms[name]['sets'][wanted]['over_start'])}"

    def silent(name: str) -> str:
        return f"{name} {arms[name]['zero_variance']:.0%}" if name in arms else f"{name} not run"

    def seconds(name: str) -> str:
        return f"{arms[name]['cost']['measured']['cpu_seconds']:,.0f}"

    header = ["the paper", "there", "here", "measured?"]
    rows = [
        [
            "in domain PivotRL is above SFT on the same data",
            "+4.17 points, mean of four domains; below SFT on one",
            f"pivotrl − sft: {between('pivotrl', 'sft')}",
            "yes",
        ],
        [
            "out of domain it loses nothing, SFT much",
            "+0.21 against −9.83 points, eight benchmarks",
            f"against the start, {found['sets'][-1]}: {over_start('pivotrl')}; {over_start('sft')}",
            "other kinds of request only, no benchmarks",
        ],
        [
            "as good as end-to-end RL with fewer turns, and faster",
            "a quarter of the turns and 5.5 times faster at equal success; profiling not counted",
            f"pivotrl − grpo at equally many turns, profiling counted: {between('pivotrl', 'grpo')}; "
            f"CPU seconds {seconds('pivotrl')} and {seconds('grpo')}",
            "at an equal budget, not at equal success",
        ],
        [
            "filtering helps (with functional reward)",
            "+4.13 points (63.81, 59.68)",
            f"pivotrl − all-turns: {between('pivotrl', 'all-turns')}",
            "yes" if "all-turns" in arms else "no",
        ],
        [
            "so does the functional reward (without filter)",
            "+2.34 points (59.68, 57.34)",
            f"all-turns − all-turns-exact: {between('all-turns', 'all-turns-exact')}",
            "yes" if {"all-turns", "all-turns-exact"} <= set(arms) else "no",
        ],
        [
            "filtering alone, with exact match",
            "not reported",
            f"exact − all-turns-exact: {between('exact', 'all-turns-exact')}",
            "yes" if {"exact", "all-turns-exact"} <= set(arms) else "no",
        ],
        [
            "rewards on unfiltered turns lose their variance sooner",
            "a figure",
            f"groups without signal: {silent('pivotrl')}, {silent('all-turns')}",
            "yes" if "all-turns" in arms else "no",
        ],
        [
            "a KL to the start keeps what training does not touch",
            "a theorem, no ablation",
            f"kl − pivotrl: {between('kl', 'pivotrl')}",
            "one weight of the KL" if "kl" in arms else "no",
        ],
        ["AIME25, MATH500, LiveCodeBench, MMLU-Pro, IFBench, ...", "table 2", "", "no"],
        ["τ²-bench, SWE-bench, Terminal-Bench, BrowseComp", "table 1", "", "no"],
    ]
    return header, rows
