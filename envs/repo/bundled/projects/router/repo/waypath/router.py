"""The table of routes."""

from __future__ import annotations

from dataclasses import dataclass

from .pattern import Pattern
from .target import read_target


class NotFound(LookupError):
    """No route fits."""


@dataclass(frozen=True)
class Found:
    """A route fits: its name, the values of its placeholders, and the query string."""

    name: str
    values: dict[str, str | int]
    query: str = ""


@dataclass(frozen=True)
class Redirect:
    """A route fits but for the slash at the end; `to` is the right target."""

    to: str


class Router:
    """Routes, tried in the order in which they were added."""

    def __init__(self) -> None:
        self._routes: dict[str, Pattern] = {}

    def add(self, name: str, pattern: str) -> None:
        """Add a route.

        Raises:
            ValueError: the name is taken, or the pattern is wrong.
        """
        if name in self._routes:
            raise ValueError(f"there is a route {name!r} already")
        self._routes[name] = Pattern(pattern)

    def find(self, target: str) -> Found | Redirect:
        """The route for a request target (path and maybe query string).

        Raises:
            NotFound: there is none.
            ValueError: the target does not begin with a slash.
        """
        path = read_target(target)
        for name, pattern in self._routes.items():
            values = pattern.match(path.segments)
            if values is None:
                continue
            if pattern.slash != path.slash:
                query = f"?{path.query}" if path.query else ""
                return Redirect(pattern.build(dict(values)) + query)
            return Found(name, values, path.query)
        raise NotFound(target)

    def url_for(self, name: str, /, **values: object) -> str:
        """The URL path of a route.

        Raises:
            NotFound: there is no such route.
            ValueError: the values do not fit its placeholders.
        """
        if name not in self._routes:
            raise NotFound(name)
        return self._routes[name].build(values)
