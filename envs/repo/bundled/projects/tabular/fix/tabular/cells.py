"""The text of single cells."""

from .width import char_width, display_width

ELLIPSIS = "\u2026"


def cell_text(value: object) -> str:
    """What a cell shows: nothing for None, floats with two digits, everything else by `str`, on one line."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.2f}"
    return " ".join(str(value).split())


def clip(text: str, limit: int) -> str:
    """The text, cut if it takes more than `limit` columns.

    A cut text keeps as many leading characters as fit into `limit` - 1 columns and ends with an ellipsis, which takes
    one column.

    Raises:
        ValueError: `limit` is below 1.
    """
    if limit < 1:
        raise ValueError("limit must be at least 1")
    if display_width(text) <= limit:
        return text
    used = 0
    for index, char in enumerate(text):
        used += char_width(char)
        if used > limit - 1:
            return text[:index] + ELLIPSIS
    return text


def pad(text: str, width: int, align: str = "left") -> str:
    """The text with blanks that bring it to `width` columns; wider text is left alone.

    With `align` "center" an odd blank goes to the right.

    Raises:
        ValueError: `align` is not "left", "right" or "center".
    """
    blanks = max(0, width - display_width(text))
    if align == "left":
        return text + " " * blanks
    if align == "right":
        return " " * blanks + text
    if align == "center":
        return " " * (blanks // 2) + text + " " * (blanks - blanks // 2)
    raise ValueError(f"no such alignment: {align}")
