"""Columns of a table."""

from dataclasses import dataclass

from .cells import cell_text, clip
from .width import display_width


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        title: what stands above it.
        align: "left", "right" or "center".
        limit: the most terminal columns it may take; None for no limit.
    """

    title: str
    align: str = "left"
    limit: int | None = None

    def show(self, value: object) -> str:
        """The text of a cell of this column."""
        text = cell_text(value)
        return text if self.limit is None else clip(text, self.limit)

    def measure(self, cells: list[str]) -> int:
        """Terminal columns needed by the title and these cells."""
        return max(display_width(text) for text in [self.show(self.title), *cells])
