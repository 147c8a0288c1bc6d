"""What a task of the applications is made of, and the words its scripted expert is written in."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pivotgym.envs.browser.apps.draw import Draw

GENERATOR = 1
"""Version of the tasks; a task of another version is refused instead of being judged by other rules."""


@dataclass(frozen=True)
class Step:
    """One action of a script; the element is named as a person hears it: by role and accessible name.

    Attributes:
        action: what to do, in the words of the environment.
        role: of the element (``link``, ``button``, ``textbox``, ``combobox``, ``radio`` …).
        name: its accessible name.
        value: the text to type, the option to choose, the message to send.
        thought: what the expert says with it.
    """

    action: Literal["click", "fill", "select_option", "send_msg_to_user"]
    role: str = ""
    name: str = ""
    value: str = ""
    thought: str = ""

    def __call__(self, thought: str) -> Step:
        """The same step with a thought."""
        return replace(self, thought=thought)


def link(name: str) -> Step:
    """Follows a link."""
    return Step("click", "link", name, thought=f"I open “{name}”.")


def press(name: str) -> Step:
    """Presses a button."""
    return Step("click", "button", name, thought=f"I press “{name}”.")


def tick(name: str) -> Step:
    """Ticks a check box."""
    return Step("click", "checkbox", name, thought=f"I tick “{name}”.")


def pick(name: str) -> Step:
    """Chooses a radio button."""
    return Step("click", "radio", name, thought=f"I choose “{name}”.")


def fill(name: str, value: object, role: str = "textbox") -> Step:
    """Types into a field."""
    return Step("fill", role, name, str(value), f"I enter {str(value)[:60]!r} for {name.lower()}.")


def count(name: str, value: int) -> Step:
    """Types into a number field."""
    return fill(name, value, "spinbutton")


def find(words: str, field: str) -> list[Step]:
    """Searches by the box at the top of every page."""
    return [fill(field, words, "searchbox")(f"I search for {words}."), press("Search")]


def choose(name: str, option: str) -> Step:
    """Chooses from a list."""
    return Step("select_option", "combobox", name, option, f"I set {name.lower()} to {option}.")


def say(text: str) -> Step:
    """Tells the user, which ends the episode."""
    return Step("send_msg_to_user", value=text, thought="That is all.")


@dataclass(frozen=True)
class Change:
    """A row that has to be different in the end.

    Attributes:
        table: where.
        kind: what has to have happened to it.
        where: columns by which the row is found among the rows that differ (of an added row: its new values).
        values: new values of an added or changed row; a function refuses a value by returning False. A changed row may
            differ in these columns only; columns of an added row that are not named may be as they like.
    """

    table: str
    kind: Literal["added", "changed", "removed"]
    where: Mapping[str, object] = field(default_factory=dict)
    values: Mapping[str, object | Callable[[Any], bool]] = field(default_factory=dict)


def added(table: str, **values: Any) -> Change:
    """A new row."""
    return Change(table, "added", {}, values)


def changed(table: str, where: Mapping[str, object], **values: Any) -> Change:
    """New values in a row."""
    return Change(table, "changed", where, values)


def removed(table: str, **where: Any) -> Change:
    """A row that is gone."""
    return Change(table, "removed", where)


@dataclass(frozen=True)
class Built:
    """One task instance: a builder's result for one seed.

    Attributes:
        instruction: what the user asks.
        expert: the scripted solution.
        wrong: scripts that must not be rewarded, by what is wrong with them.
        changes: what has to differ in the end; nothing else may.
        answer: ways to write what the user wants to be told; None where the task asks for nothing.
        not_said: what must not be in the message beside the answer: the other candidates.
        signed_in: whether the browser starts with the user signed in.
    """

    instruction: str
    expert: Sequence[Step]
    wrong: Mapping[str, Sequence[Step]]
    changes: Sequence[Change] = ()
    answer: Sequence[str] | None = None
    not_said: Sequence[str] = ()
    signed_in: bool = True


Builder = Callable[[sqlite3.Connection, Draw], Built]
"""Makes a task instance in a seeded world: picks what it is about, and may add to the world what it needs."""
