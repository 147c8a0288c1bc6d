"""How the lines of a table are drawn."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Style:
    """Signs between cells and below the titles.

    Attributes:
        left: what begins a line of cells.
        between: what stands between two cells.
        right: what ends a line of cells.
        rule: the sign that fills the line below the titles.
        cross: what stands in that line for `between`.
        rule_left: what begins that line.
        rule_right: what ends that line.
        frame: whether the rule also stands above and below the table.
        trim: whether blanks at the end of a line are left out.
    """

    left: str
    between: str
    right: str
    rule: str
    cross: str
    rule_left: str
    rule_right: str
    frame: bool = False
    trim: bool = False


STYLES = {
    "plain": Style("", " | ", "", "-", "-+-", "", "", trim=True),
    "box": Style("| ", " | ", " |", "-", "-+-", "+-", "-+", frame=True),
    "markdown": Style("| ", " | ", " |", "-", " | ", "| ", " |"),
}
