"""Tables as a whole."""

from collections.abc import Iterable

from .cells import pad
from .columns import Column
from .styles import STYLES


class Table:
    """Rows below titles."""

    def __init__(self, columns: Iterable[Column]) -> None:
        self.columns = list(columns)
        self._rows: list[list[str]] = []
        if not self.columns:
            raise ValueError("a table needs a column")

    def append(self, *values: object) -> None:
        """Add a row.

        Raises:
            ValueError: not one value for each column.
        """
        if len(values) != len(self.columns):
            raise ValueError(f"{len(values)} values for {len(self.columns)} columns")
        self._rows.append([column.show(value) for column, value in zip(self.columns, values)])

    def widths(self) -> list[int]:
        """Terminal columns of each column."""
        return [column.measure([row[i] for row in self._rows]) for i, column in enumerate(self.columns)]

    def render(self, style: str = "plain") -> str:
        """The table as text without a final newline.

        Raises:
            ValueError: there is no such style.
        """
        if style not in STYLES:
            raise ValueError(f"no such style: {style}")
        signs = STYLES[style]
        widths = self.widths()
        rule = signs.rule_left + signs.cross.join(signs.rule * width for width in widths) + signs.rule_right
        lines = [[column.show(column.title) for column in self.columns], *self._rows]
        drawn = []
        for cells in lines:
            padded = [pad(text, width, column.align) for text, width, column in zip(cells, widths, self.columns)]
            line = signs.left + signs.between.join(padded) + signs.right
            drawn.append(line.rstrip() if signs.trim else line)
        out = [drawn[0], rule, *drawn[1:]]
        if signs.frame:
            out = [rule, *out, rule]
        return "\n".join(out)
