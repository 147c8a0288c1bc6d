"""Forms as they were sent, their values checked field by field."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from werkzeug.datastructures import MultiDict


class Form:
    """Values by field, and what is wrong with them.

    Every reading method gives the value, or a harmless one where it is wrong; then :attr:`errors` says why, in words
    for the person who filled the form in.
    """

    def __init__(self, sent: MultiDict[str, str] | Mapping[str, str] | None = None) -> None:
        self.sent: MultiDict[str, str] = MultiDict(sent or {})
        self.errors: dict[str, str] = {}

    def raw(self, name: str) -> str:
        """A value as it was sent, without blanks around it."""
        return (self.sent.get(name) or "").replace("\r\n", "\n").strip()

    def many(self, name: str) -> list[str]:
        """All values of a field (check boxes)."""
        return list(self.sent.getlist(name))

    def text(self, name: str, label: str, *, required: bool = True, longest: int = 200) -> str:
        """A text."""
        value = self.raw(name)
        if required and not value:
            self.errors[name] = f"Enter {label}."
        elif len(value) > longest:
            self.errors[name] = f"{label[:1].upper()}{label[1:]} must be {longest} characters or fewer."
        return value

    def match(self, name: str, label: str, pattern: str, hint: str) -> str:
        """A text of a given form."""
        value = self.text(name, label)
        if value and not re.fullmatch(pattern, value):
            self.errors[name] = f"Enter {label} {hint}."
        return value

    def number(self, name: str, label: str, low: int, high: int) -> int:
        """A whole number."""
        value = self.raw(name)
        if not re.fullmatch(r"[0-9]{1,6}", value) or not low <= int(value) <= high:
            self.errors[name] = f"Enter {label} between {low} and {high}."
            return low
        return int(value)

    def choice(self, name: str, label: str, options: Iterable[object], *, required: bool = True) -> str:
        """One of some values."""
        value = self.raw(name)
        if (required or value) and value not in {str(option) for option in options}:
            self.errors[name] = f"Choose {label}."
            return ""
        return value

    def flag(self, name: str) -> bool:
        """Whether a box is ticked."""
        return bool(self.raw(name))
