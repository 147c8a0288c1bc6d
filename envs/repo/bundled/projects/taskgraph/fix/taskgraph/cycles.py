"""Look for tasks that need themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable


class CycleError(ValueError):
    """Tasks need each other in a circle; ``cycle`` names them."""

    def __init__(self, cycle: list[str]) -> None:
        super().__init__("cycle: " + " -> ".join(cycle))
        self.cycle = cycle


def find_cycle(names: Iterable[str], needs: Callable[[str], Iterable[str]]) -> list[str] | None:
    """Return the names along a cycle, the first repeated at the end, or None.

    Args:
        names: where to begin; all tasks that they need are visited, too.
        needs: the names that a task needs directly.
    """
    cleared: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str] | None:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in cleared:
            return None
        path.append(name)
        for need in needs(name):
            cycle = visit(need, path)
            if cycle is not None:
                return cycle
        path.pop()
        cleared.add(name)
        return None

    for name in names:
        if name in cleared:
            continue
        cycle = visit(name, [])
        if cycle is not None:
            return cycle
    return None
