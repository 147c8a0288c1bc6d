"""The filters. Each takes the value and the arguments; markup comes in and goes out as ``Markup``."""

from tmpl.markup import Markup, escape

NOTHING = Markup("")


def upper(value):
    """The value in capitals."""
    return value.upper() if isinstance(value, str) else str(value).upper()


def trim(value):
    """The value without blanks at its ends."""
    return value.strip() if isinstance(value, str) else str(value)


def default(value, other):
    """``other`` where the value is missing or empty."""
    return other if value is None or value == "" else value


def join(values, glue=NOTHING):
    """The items with ``glue`` between them."""
    return escape(glue).join(values)


def bullets(values):
    """The items as an HTML list."""
    if not values:
        return NOTHING
    return Markup("</li><li>").join(values).wrap("li").wrap("ul")


def lines(value):
    """The lines of the value with a line break between them."""
    if isinstance(value, Markup):
        return Markup("<br>").join(Markup(line) for line in str(value).splitlines())
    return Markup("<br>").join(str(value).splitlines())


def strong(value):
    """The value in bold type."""
    return escape(value).wrap("b")


def raw(value):
    """The value as markup."""
    return Markup(value)


FILTERS = {
    "upper": upper,
    "trim": trim,
    "default": default,
    "join": join,
    "bullets": bullets,
    "lines": lines,
    "strong": strong,
    "raw": raw,
}
