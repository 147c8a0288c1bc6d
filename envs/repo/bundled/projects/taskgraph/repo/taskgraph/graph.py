"""The tasks and their needs."""

from __future__ import annotations

from .cycles import CycleError, find_cycle


class TaskGraph:
    """Tasks by name, each with a cost and the tasks it needs."""

    def __init__(self) -> None:
        self._needs: dict[str, list[str]] = {}
        self._cost: dict[str, int] = {}

    def add(self, name: str, needs: tuple[str, ...] | list[str] = (), cost: int | None = None) -> None:
        """Add a task, or further needs to one that is known; its cost stays unless one is given."""
        known = self._needs.setdefault(name, [])
        for need in needs:
            if need not in known:
                known.append(need)
            self._needs.setdefault(need, [])
        if cost is not None:
            if cost < 1:
                raise ValueError(f"cost of {name}: {cost}")
            self._cost[name] = cost

    @property
    def names(self) -> list[str]:
        """All tasks as they were first named."""
        return list(self._needs)

    def needs(self, name: str) -> list[str]:
        """What ``name`` needs directly."""
        return list(self._needs[name])

    def cost(self, name: str) -> int:
        """Minutes that ``name`` takes."""
        return self._cost.get(name, 1)

    def find_cycle(self) -> list[str] | None:
        """Return the names along a cycle or None."""
        return find_cycle(self._needs, self.needs)

    def check(self) -> None:
        """Raise :class:`CycleError` if there is a cycle."""
        cycle = self.find_cycle()
        if cycle is not None:
            raise CycleError(cycle)

    def order(self) -> list[str]:
        """Return all tasks, each after what it needs."""
        self.check()
        done: dict[str, None] = {}

        def place(name: str) -> None:
            if name in done:
                return
            for need in self._needs[name]:
                place(need)
            done[name] = None

        for name in self._needs:
            place(name)
        return list(done)

    def waves(self) -> list[list[str]]:
        """Return lists of tasks that can run together: a task stands in the first list in which it can."""
        depth: dict[str, int] = {}
        for name in self.order():
            depth[name] = 1 + max((depth[need] for need in self._needs[name]), default=-1)
        waves: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
        for name in self._needs:
            waves[depth[name]].append(name)
        return waves

    def needed_by(self, name: str) -> list[str]:
        """Return the tasks that need ``name``, directly or not, as they were first named."""
        found = {name}
        for task in self.order():
            if found.intersection(self._needs[task]):
                found.add(task)
        return [task for task in self._needs if task in found and task != name]
