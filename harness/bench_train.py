"""One optimiser step, packed beside padded beside TRL's GRPO loss: the engine of ``pivotgym bench train``.

The three sides have the same model, tokens, advantages and optimiser, and each has a process of its own, so that the
most memory a process had is that side's. They take turns within one run, and a ratio is that of two steps taken one
after the other; medians with quartiles over the rounds. That all three took the same step is checked on the norm of
the gradient. The completions are random tokens of one length, which is the worst case for packing: they share nothing
but the prompt, and the padded batch wastes nothing on padding.

The padded sides go through the batch ``rows`` completions at a time, because one pass would not fit the memory of many
machines; a pass of thousands of tokens is as fast as a longer one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict
from importlib.util import find_spec
from typing import Any

from rich.console import Console
from rich.table import Table

from pivotgym.envs.errors import InfrastructureError
from pivotgym.harness.bench_train_config import Point, Side, Taken, TrainBenchConfig
from pivotgym.harness.figures import Figure, Figures

PACKED, PADDED, TRL = "packed", "padded", "trl"
STEP, CPU, MEMORY = "step", "step, CPU time", "peak memory"
SPEED, SHARE = "operations a second", "share of the card's peak"
"""Of the operations that the step takes by the model's definition: padded sides compute more of them, not faster."""
FASTER = 3.0
"""How many times faster a packed step has to be at the standard sizes."""
SAME = 1e-2
"""How far the norms of the gradients may be apart, relative; weights move apart by rounding from step to step."""


class StepsDiffer(InfrastructureError):
    """Two sides did not take the same step, so that their times say nothing about each other."""


def bench_train(
    repeats: int = 5,
    config: TrainBenchConfig | None = None,
    *,
    tell: Callable[[str], None] = lambda _: None,
    left_out: Callable[[str], None] = lambda _: None,
) -> list[Figure]:
    """Measures steps and memory at the main sizes and along the curves.

    Args:
        repeats: rounds at the main sizes.
        config: sizes and sides.
        tell: hears what is being done.
        left_out: hears why TRL is not measured.

    Raises:
        StepsDiffer: the sides' gradients differ.
        InfrastructureError: a side's process ended.
    """
    config = config or TrainBenchConfig()
    sides: list[Side] = ["packed", "padded"]
    if config.trl and find_spec("trl") is None:
        left_out("trl is left out: it is not installed (pip install trl)")
    elif config.trl:
        sides.append("trl")
    rows: list[Figure] = []
    for number, point in enumerate(config.points()):
        rounds = config.curve_repeats if number else repeats
        target = FASTER if number == 0 and config.is_standard else None
        rows += _measure(sides, config, point, rounds, target, tell)
    return rows


def check_same(taken: Mapping[Side, Taken], name: str) -> None:
    """Raises StepsDiffer where the norm of a side's gradient is not the packed side's, or is no number."""
    ours = taken["packed"].norm
    for side, other in taken.items():
        if not abs(other.norm - ours) <= SAME * ours:
            raise StepsDiffer(f"gradient norm {other.norm} ({side}), {ours} (packed) at {name}")


def label(point: Point) -> str:
    """The sizes as the figures' names have them."""
    return f"G {point.group}, prompt {point.prompt}, completion {point.completion}"


def print_train_rows(rows: Sequence[Figure], console: Console) -> None:
    """Prints the figures, a line a size and side."""
    table = Table(
        title="bench train: one optimiser step, medians with quartiles; over packed: how many times longer it takes",
        title_justify="left",
    )
    for column in (
        "",
        "side",
        "step (s)",
        "CPU (s)",
        "Top/s",
        "peak memory (MB)",
        "over packed",
        "quartiles",
        "CPU",
        "target",
    ):
        table.add_column(column, justify="left" if column in ("", "side") else "right")
    found = {(row.name, row.backend): row for row in rows}
    for name in dict.fromkeys(row.name.rpartition(": ")[0] for row in rows):
        for side in (PACKED, PADDED, TRL):
            step = found.get((f"{name}: {STEP}", side))
            if step is None:
                continue
            cpu, memory = found[f"{name}: {CPU}", side], found[f"{name}: {MEMORY}", side]
            speed, share = found[f"{name}: {SPEED}", side], found.get((f"{name}: {SHARE}", side))
            rate = f"{speed.median:.3g}" + (f" ({share.median:.0f} % of peak)" if share else "")
            cells = [name, side, f"{step.median / 1000:.3g}", f"{cpu.median / 1000:.3g}", rate, f"{memory.median:.0f}"]
            ratio = found.get((f"{name}: {STEP}", _over(side)))
            if ratio is not None:
                spread = f"{ratio.low:.3g} to {ratio.high:.3g}" if ratio.repeats > 1 else ""
                verdict = {None: "", True: "met", False: "[red]missed[/]"}[ratio.met]
                sign = "" if ratio.target is None else f"≥ {ratio.target:g} {verdict}"
                cells += [f"{ratio.median:.3g}", spread, f"{found[f'{name}: {CPU}', _over(side)].median:.3g}", sign]
            table.add_row(*cells)
    console.print(table)


def _over(side: str) -> str:
    return f"{side} over {PACKED}"


def _measure(
    sides: Sequence[Side],
    config: TrainBenchConfig,
    point: Point,
    rounds: int,
    target: float | None,
    tell: Callable[[str], None],
) -> list[Figure]:
    name = label(point)
    step, cpu, memory = (f"{name}: {what}" for what in (STEP, CPU, MEMORY))
    targets = {} if target is None else {(_over(side), step): target for side in sides[1:]}
    times = {side: Figures(side, targets) for side in sides}
    ratios = {side: Figures(_over(side), targets, at_least=(step,)) for side in sides[1:]}
    with ExitStack() as stack:
        workers: dict[Side, _Process] = {}
        for side in sides:
            tell(f"{name}: starting {side}")
            workers[side] = stack.enter_context(closing(_Process(side, config)))
            workers[side].step(point, warm_up=True)
        for number in range(rounds):
            taken: dict[Side, Taken] = {}
            # Another side goes first in each round: whoever does finds other caches.
            for place in range(len(sides)):
                side = sides[(place + number) % len(sides)]
                tell(f"{name}: round {number + 1} of {rounds}, {side}")
                taken[side] = workers[side].step(point)
            check_same(taken, name)
            ours = taken["packed"]
            for side in sides:
                other = taken[side]
                times[side].add(step, other.ms)
                times[side].add(cpu, other.cpu_ms)
                speed = other.tflop / (other.ms / 1000)
                times[side].add(f"{name}: {SPEED}", speed, "Top/s")
                if other.card_tflops is not None:
                    times[side].add(f"{name}: {SHARE}", 100 * speed / other.card_tflops, "%")
                if side != "packed":
                    ratios[side].add(step, other.ms / ours.ms, "x")
                    ratios[side].add(cpu, other.cpu_ms / ours.cpu_ms, "x")
        for side in sides:
            times[side].add(memory, taken[side].peak_mb, "MB")
            if side != "packed":
                ratios[side].add(memory, taken[side].peak_mb / taken["packed"].peak_mb, "x")
    return [row for figures in (*times.values(), *ratios.values()) for row in figures.rows()]


class _Process:
    """A side, in a process of its own."""

    def __init__(self, side: Side, config: TrainBenchConfig) -> None:
        self.side = side
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed by close)
        kind = "lora" if config.lora else "full"
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "pivotgym.harness.bench_train_worker",
                side,
                config.model,
                kind,
                str(config.threads),
                config.dtype or "",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,  # a file: nobody reads it meanwhile, and a full pipe would stop the process
            text=True,
        )
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def step(self, point: Point, warm_up: bool = False) -> Taken:
        """One step of these sizes, or a pass that only makes it ready for them."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, and the answer is why
            self._process.stdin.write(json.dumps({**asdict(point), "warm_up": warm_up}) + "\n")
            self._process.stdin.flush()
        return Taken(**self._answer())

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()
        for file in (self._process.stdin, self._process.stdout, self._errors):
            with suppress(BrokenPipeError):
                if file is not None:
                    file.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            said = self._errors.read().strip().splitlines() or [f"with status {self._process.returncode}"]
            raise InfrastructureError(f"{self.side} ended: {said[-1]}")
        found: dict[str, Any] = json.loads(line)
        return found
