"""What a person sees while a command works: progress bars, tables, one-line errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as Remaining


class StageProgress:
    """Progress of several stages on one display; callable as ``progress(stage, done, total, figures)``.

    Where standard error is no terminal, a line is printed at most every tenth of a stage instead of a moving bar.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars: dict[str, TaskID] = {}
        self._printed: dict[str, int] = {}
        self._display = Progress(
            TextColumn("{task.description:>20}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            Remaining(),
            TextColumn("[dim]{task.fields[figures]}"),
            console=console,
            disable=not console.is_terminal,
        )

    def __call__(self, stage: str, done: int, total: int, figures: Mapping[str, Any]) -> None:
        """Shows that ``done`` of ``total`` pieces of ``stage`` are finished."""
        text = describe(figures)
        if not self._console.is_terminal:
            tenth = done * 10 // max(total, 1)
            if self._printed.get(stage) != tenth:
                self._printed[stage] = tenth
                self._console.print(f"{stage}: {done}/{total} {text}", highlight=False)
            return
        if stage not in self._bars:
            self._bars[stage] = self._display.add_task(stage, total=total, figures="")
        self._display.update(self._bars[stage], completed=done, total=total, figures=text)

    def __enter__(self) -> StageProgress:
        self._display.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._display.stop()


@contextmanager
def stages(console: Console | None = None) -> Iterator[StageProgress]:
    """A progress display on standard error."""
    with StageProgress(console or Console(stderr=True)) as progress:
        yield progress


@contextmanager
def doing(console: Console | None = None) -> Iterator[Callable[[str], None]]:
    """Shows what is being done, as a line that changes; a line each where standard error is no terminal.

    Yields:
        What takes the text.
    """
    shown = console or Console(stderr=True)
    if not shown.is_terminal:
        yield lambda text: shown.print(text, highlight=False, markup=False, soft_wrap=True)
        return
    with shown.status("") as status:
        yield lambda text: status.update(escape(text))


_SHOWN = ("pivots", "reward", "reward_mean", "loss", "groups", "kl", "success", "errors", "excluded")


def describe(figures: Mapping[str, Any]) -> str:
    """The few figures that fit beside a bar."""
    parts = []
    for name in _SHOWN:
        value = figures.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        parts.append(f"{name.removesuffix('_mean')} {value:.3f}" if isinstance(value, float) else f"{name} {value}")
    return " ".join(parts[:4])
