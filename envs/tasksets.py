"""Sets of tasks by name: those of this package, imported when first asked for, and those that others register."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Generic, TypeVar

from pivotgym.envs.errors import BadInput

S = TypeVar("S")


class TaskSets(Generic[S]):
    """The known task sets of one domain.

    Args:
        domain: its name, for messages.
        own: where this package has them (``module:attribute``), by name.
    """

    def __init__(self, domain: str, own: Mapping[str, str]) -> None:
        self._domain, self._own = domain, dict(own)
        self._registered: dict[str, Callable[[], S]] = {}
        self._made: dict[str, S] = {}

    def register(self, name: str, make: Callable[[], S]) -> None:
        """Makes a set known; it takes the place of an earlier one of that name."""
        self._registered[name] = make
        self._made.pop(name, None)

    def names(self) -> list[str]:
        """Every known name, sorted."""
        return sorted({*self._registered, *self._own})

    def get(self, name: str) -> S:
        """The set of that name, made once. Raises BadInput for an unknown one."""
        if name not in self._made:
            self._made[name] = self._maker(name)()
        return self._made[name]

    def _maker(self, name: str) -> Callable[[], S]:
        if name in self._registered:
            return self._registered[name]
        if name not in self._own:
            known = ", ".join(self.names())
            raise BadInput(f"no {self._domain} task set {name!r}; known: {known}", field="tasks")
        module, _, attribute = self._own[name].partition(":")
        maker: Callable[[], S] = getattr(import_module(module), attribute)
        return maker
