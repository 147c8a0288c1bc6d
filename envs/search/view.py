"""Where a searching agent stands: what it was shown, what is open, at which page, what was found."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

from pivotgym.envs.search.engine import Engine
from pivotgym.envs.trajectory import JsonObject


@dataclass(frozen=True)
class View:
    """The whole state of an episode. Immutable, so that a snapshot and a fork cost one reference.

    Attributes:
        query: of the last search, with the ids of its results in ``results``.
        results: in their order.
        hits: every document that searches have shown, as (id, title, address), in the order of first sight.
        document: what is open, or None.
        page: the page shown last (1-based), 0 where none is open.
        read: every page shown so far, as (document, page), in the order of first sight.
        find: the text looked for last in the open document, or None.
        position: how many of its matches have been shown.
        answer: the final answer, or None.
    """

    query: str | None = None
    results: tuple[str, ...] = ()
    hits: tuple[tuple[str, str, str], ...] = ()
    document: str | None = None
    page: int = 0
    read: tuple[tuple[str, int], ...] = ()
    find: str | None = None
    position: int = 0
    answer: str | None = None

    def hit(self, name: str) -> tuple[str, str, str] | None:
        """A document that was among the results, by id or address."""
        return next((hit for hit in self.hits if name in (hit[0], hit[2])), None)

    def plain(self) -> JsonObject:
        """As JSON values."""
        return {one.name: _plain(getattr(self, one.name)) for one in fields(self)}


@dataclass
class Shown:
    """What the tools have shown in one action, for verifiers.

    Attributes:
        documents: ids among search results.
        passages: (document, number of the passage) that a page or a match has shown.
        places: (document, page) opened.
    """

    documents: list[str] = field(default_factory=list)
    passages: set[tuple[str, int]] = field(default_factory=set)
    places: set[tuple[str, int]] = field(default_factory=set)


@dataclass
class Session:
    """One running episode.

    Attributes:
        engine: what is searched.
        view: where the agent stands; replaced, never changed.
        replaying: only the record of a live engine may be asked, and what it lacks is told instead of raised.
        shown: collects what the running action shows.
    """

    engine: Engine
    view: View = field(default_factory=View)
    replaying: bool = False
    shown: Shown = field(default_factory=Shown)

    def move(self, **changes: Any) -> None:
        """Goes to a changed view."""
        self.view = replace(self.view, **changes)


def differences(before: View, after: View) -> list[JsonObject]:
    """``{"path", "before", "after"}`` of every part that differs, in the order of the fields."""
    if before == after:
        return []
    old, new = before.plain(), after.plain()
    return [{"path": name, "before": old[name], "after": new[name]} for name in old if old[name] != new[name]]


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
