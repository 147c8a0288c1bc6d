"""Give the tasks of a graph to workers."""

from __future__ import annotations

from dataclasses import dataclass, field

from .graph import TaskGraph


@dataclass(frozen=True)
class Step:
    """One task on one worker, from minute ``start`` to minute ``end``."""

    name: str
    worker: int
    start: int
    end: int


@dataclass
class Plan:
    """The steps in the order of their start."""

    steps: list[Step] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Minutes until the last step is done."""
        return max((step.end for step in self.steps), default=0)

    def lane(self, worker: int) -> list[str]:
        """The tasks of one worker."""
        return [step.name for step in self.steps if step.worker == worker]


def make_plan(graph: TaskGraph, workers: int = 1) -> Plan:
    """Give each task, in order, to the worker that can start it first; of equal ones to the first."""
    if workers < 1:
        raise ValueError(f"{workers} workers")
    free = [0] * workers
    end: dict[str, int] = {}
    steps = []
    for name in graph.order():
        ready = max((end[need] for need in graph.needs(name)), default=0)
        worker = min(range(workers), key=lambda number: (max(free[number], ready), number))
        start = max(free[worker], ready)
        end[name] = free[worker] = start + graph.cost(name)
        steps.append(Step(name, worker, start, end[name]))
    return Plan(sorted(steps, key=lambda step: (step.start, step.worker)))
