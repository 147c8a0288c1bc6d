"""Precision and recall of verifiers on labelled terminal actions: the engine of ``pivotgym bench verifiers``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from pivotgym.envs.errors import BadInput
from pivotgym.verifiers import make
from pivotgym.verifiers.measure import Interval, Labelled, Measurement, measure
from pivotgym.verifiers.terminal_pairs import FIRST_RUN, PAIRS, SETS, labelled

VERIFIERS = ("exact", "tool_call", "terminal_effects")
"""Exact match, argument comparison, effects."""
TARGET = 0.95
"""What precision and recall of ``terminal_effects`` must reach on the set ``tuned``."""
TARGET_SET = "tuned"
ALL = "all"


class VerifierRow(BaseModel):
    """How one verifier did on one set of labelled actions.

    Attributes:
        verifier: its spec.
        set: ``tuned``, ``held_out``, or ``all``.
        right: actions labelled right.
        wrong: actions labelled wrong.
        precision: share of right actions among the accepted; None where none was accepted.
        precision_interval: 95 % Wilson interval.
        recall: share of accepted actions among the right.
        recall_interval: 95 % Wilson interval.
        failed: actions not judged, because the infrastructure failed.
        mistakes: id, kind and reason of each wrongly judged action.
        target: what precision and recall must reach, or None.
    """

    verifier: str
    set: str
    right: int
    wrong: int
    precision: float | None
    precision_interval: tuple[float, float]
    recall: float | None
    recall_interval: tuple[float, float]
    failed: int
    mistakes: list[str]
    target: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without a target."""
        if self.target is None:
            return None
        reached = [value is not None and value >= self.target for value in (self.precision, self.recall)]
        return all(reached) and not self.failed


def bench_verifiers(
    sets: Sequence[str] = SETS,
    verifiers: Sequence[str] = VERIFIERS,
    *,
    backend: str = "bubblewrap",
    path: Path = PAIRS,
) -> list[VerifierRow]:
    """Lets each verifier judge every pair.

    Args:
        sets: of the pairs: ``tuned``, ``held_out``.
        verifiers: specs; a partial reward counts as a rejection.
        backend: what the commands run in.
        path: a file of states and pairs (see :mod:`pivotgym.verifiers.terminal_pairs`).

    Returns:
        One row a set and verifier, and one for all of them together. The set ``tuned`` has the target; ``held_out``
        tells what to expect of actions that the rules were not written with.

    Raises:
        BadInput: an unknown set, or a broken line in the file.
    """
    for name in sets:
        if name not in SETS:
            raise BadInput(f"no pairs {name!r}; there are: {', '.join(SETS)}", field="sets")
    found = {name: labelled(name, path) for name in sets}
    rows: list[VerifierRow] = []
    pooled: dict[str, list[Measurement]] = {spec: [] for spec in verifiers}
    for name, items in found.items():
        for spec in verifiers:
            # Comparing calls needs no state, but every verifier is asked in the same way.
            measured = measure(make(spec), items, name=spec, env_options={"backend": backend})
            pooled[spec].append(measured)
            rows.append(_row(name, measured, items))
            if spec == "terminal_effects" and name == TARGET_SET:
                rows[-1].target = TARGET
    everything = [item for items in found.values() for item in items]
    for spec in verifiers:
        rows.append(_row(ALL, _pool(spec, pooled[spec]), everything))
    return rows


def print_verifier_rows(rows: Iterable[VerifierRow], console: Console, *, mistakes: bool = True) -> None:
    """Prints precision and recall with their intervals, and what ``terminal_effects`` got wrong."""
    table = Table(
        title="bench verifiers: labelled terminal actions; 95 % Wilson intervals; the target is for tuned pairs",
        caption=(
            "right actions are written otherwise than the demonstration does: that is what exact match cannot see\n"
            f"held_out on its first run: {FIRST_RUN}"
        ),
        title_justify="left",
        caption_justify="left",
    )
    for column in ("pairs", "right", "wrong", "verifier", "precision", "recall", "failed", "target", ""):
        table.add_column(column, justify="left" if column in ("pairs", "verifier", "") else "right", no_wrap=True)
    listed: list[str] = []
    last = ""
    for row in rows:
        if last and row.set != last:
            table.add_section()
        last = row.set
        table.add_row(
            row.set,
            str(row.right),
            str(row.wrong),
            row.verifier,
            _share(row.precision, row.precision_interval),
            _share(row.recall, row.recall_interval),
            str(row.failed),
            "" if row.target is None else f"≥ {row.target:.0%}",
            {None: "", True: "met", False: "missed"}[row.met],
        )
        if row.verifier == "terminal_effects" and row.set != ALL:
            listed += row.mistakes
    console.print(table)
    if mistakes and listed:
        console.print("judged otherwise than labelled by terminal_effects:", highlight=False)
        for line in listed:
            console.print(f"  {line}", highlight=False, markup=False)


def _row(name: str, measured: Measurement, items: Sequence[Labelled]) -> VerifierRow:
    precision, recall = measured.precision, measured.recall
    right = sum(item.right for item in items)
    values: dict[str, Any] = {
        "precision": _value(precision),
        "precision_interval": (precision.low, precision.high),
        "recall": _value(recall),
        "recall_interval": (recall.low, recall.high),
    }
    return VerifierRow(
        verifier=measured.name,
        set=name,
        right=right,
        wrong=len(items) - right,
        failed=measured.failed,
        mistakes=[f"{item.kind} ({verdict.reason})" for item, verdict in measured.mistakes],
        **values,
    )


def _pool(name: str, parts: Sequence[Measurement]) -> Measurement:
    whole = Measurement(name, parts[0].threshold if parts else 1.0)
    for part in parts:
        whole.true_positive += part.true_positive
        whole.false_positive += part.false_positive
        whole.false_negative += part.false_negative
        whole.true_negative += part.true_negative
        whole.failed += part.failed
        whole.mistakes += part.mistakes
    return whole


def _value(share: Interval) -> float | None:
    return None if share.value != share.value else share.value  # NaN: nothing to count


def _share(value: float | None, interval: tuple[float, float]) -> str:
    if value is None:
        return "–"
    return f"{value:.1%} [{interval[0]:.0%}, {interval[1]:.0%}]"
