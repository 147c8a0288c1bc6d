"""Precision and recall of verifiers on labelled actions: the engine of ``pivotgym bench verifiers``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from pivotgym.envs.errors import BadInput
from pivotgym.verifiers import browser_pairs, make
from pivotgym.verifiers.measure import Interval, Labelled, Measurement, measure
from pivotgym.verifiers.terminal_pairs import FIRST_RUN, PAIRS, SETS, labelled

PLAIN = ("exact", "tool_call")
"""Exact match and argument comparison, which the effects have to beat."""
VERIFIERS = (*PLAIN, "terminal_effects")
"""Verifiers of terminal actions: as above, and effects."""
BROWSER = "browser_"
"""What the names of the sets of browser actions begin with."""
BROWSER_SETS = tuple(BROWSER + name for name in browser_pairs.SETS)
TARGET = 0.95
"""What precision and recall of the effects must reach on the sets that have a target."""
TARGET_SETS = ("tuned", *BROWSER_SETS)
"""For terminals the pairs the rules were written with; for browsers all."""
ALL = "all"


@dataclass(frozen=True)
class _Domain:
    """Whose actions are labelled.

    Attributes:
        prefix: what the names of its sets begin with.
        effects: its own verifier.
        pairs: reads a set of it.
        options: keyword arguments of ``gym.make``.
        first_runs: how its verifier did at first, by set.
    """

    prefix: str
    effects: str
    pairs: Callable[[str], list[Labelled]]
    first_runs: dict[str, str]
    options: dict[str, Any] = field(default_factory=dict)


class VerifierRow(BaseModel):
    """How one verifier did on one set of labelled actions.

    Attributes:
        verifier: its spec.
        set: ``tuned``, ``held_out``, or ``all``; of browser actions with ``browser_`` before it.
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
        sets: of the pairs: ``tuned`` and ``held_out`` are terminal actions; ``browser_tuned``, ``browser_held_out`` and
            ``browser_hard`` browser actions.
        verifiers: specs; a partial reward counts as a rejection. ``terminal_effects`` stands for the domain's own.
        backend: what terminal commands run in.
        path: a file of states and pairs (see :mod:`pivotgym.verifiers.terminal_pairs`).

    Returns:
        One row a set and verifier, and one for all sets of a domain together. The sets of :data:`TARGET_SETS` have the
        target; ``held_out`` tells what to expect of actions that the rules were not written with.

    Raises:
        BadInput: an unknown set, or a broken line in the file.
    """
    known = (*SETS, *BROWSER_SETS)
    for name in sets:
        if name not in known:
            raise BadInput(f"no pairs {name!r}; there are: {', '.join(known)}", field="sets")
    rows: list[VerifierRow] = []
    for domain in _domains(backend, path):
        chosen = [name for name in sets if name.startswith(BROWSER) == bool(domain.prefix)]
        specs = [domain.effects if spec == "terminal_effects" else spec for spec in verifiers]
        rows += _bench_domain(domain, chosen, specs)
    return rows


def _domains(backend: str = "bubblewrap", path: Path = PAIRS) -> list[_Domain]:
    return [
        _Domain(
            "", "terminal_effects", lambda name: labelled(name, path), {"held_out": FIRST_RUN}, {"backend": backend}
        ),
        _Domain(BROWSER, "browser_effects", browser_pairs.labelled, browser_pairs.FIRST_RUNS),
    ]


def _bench_domain(domain: _Domain, sets: Sequence[str], verifiers: Sequence[str]) -> list[VerifierRow]:
    found = {name: domain.pairs(name.removeprefix(domain.prefix)) for name in sets}
    rows: list[VerifierRow] = []
    pooled: dict[str, list[Measurement]] = {spec: [] for spec in verifiers}
    for name, items in found.items():
        for spec in verifiers:
            # Comparing calls needs no state, but every verifier is asked in the same way.
            measured = measure(make(spec), items, name=spec, env_options=domain.options)
            pooled[spec].append(measured)
            rows.append(_row(name, measured, items))
            if spec == domain.effects and name in TARGET_SETS:
                rows[-1].target = TARGET
    everything = [item for items in found.values() for item in items]
    for spec in verifiers if found else ():
        rows.append(_row(domain.prefix + ALL, _pool(spec, pooled[spec]), everything))
    return rows


def print_verifier_rows(rows: Iterable[VerifierRow], console: Console, *, mistakes: bool = True) -> None:
    """Prints precision and recall with their intervals, and what the effects got wrong."""
    rows = list(rows)
    sets = {row.set for row in rows}
    first = [
        f"{domain.prefix}{name} on its first run: {said}"
        for domain in _domains()
        for name, said in domain.first_runs.items()
        if domain.prefix + name in sets
    ]
    table = Table(
        title="bench verifiers: labelled actions of terminals and browsers (browser_); 95 % Wilson intervals",
        caption="\n".join(
            [
                "right actions are written otherwise than the demonstration does: that is what exact match cannot see",
                *first,
            ]
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
        if row.verifier.endswith("_effects") and not row.set.endswith(ALL):
            listed += row.mistakes
    console.print(table)
    if mistakes and listed:
        console.print("judged otherwise than labelled by the effects:", highlight=False)
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
