"""The options of the commands: their types, built-in defaults and help."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Option:
    """An option of a command. One whose default is a bool is a switch."""

    name: str
    default: int | str | bool
    help: str

    @property
    def is_switch(self) -> bool:
        """Whether it takes no value."""
        return isinstance(self.default, bool)

    @property
    def flag(self) -> str:
        """Its form on the command line."""
        return "--" + self.name.replace("_", "-")


COMMANDS: dict[str, tuple[Option, ...]] = {
    "number": (
        Option("start", 1, "number of the first line"),
        Option("blank", False, "count lines without text, too"),
        Option("sep", ": ", "text between the number and the line"),
    ),
    "wrap": (
        Option("width", 72, "characters of a line"),
        Option("keep_indent", True, "indent continued lines like the first"),
    ),
    "stats": (
        Option("total", False, "add a line with the sums"),
        Option("words_only", False, "count nothing but words"),
    ),
}
