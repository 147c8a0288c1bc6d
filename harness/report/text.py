"""Numbers and untrusted text, made fit for a page and a terminal."""

from __future__ import annotations

import re
from typing import Any

from pivotgym.harness.report.candidates import number

# Control characters but line feed and tab, marks that turn the writing direction, and halves of surrogate pairs:
# none of them may reach a page, where they could hide or reorder text or have no encoding.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
MISSING = "–"


def clean(value: Any, limit: int = 600) -> str:
    """Text of any origin: unprintable characters shown as ``�``, cut to ``limit`` characters, the rest counted."""
    text = value if isinstance(value, str) else "" if value is None else str(value)
    cut = len(text) - limit
    if cut > 0:
        text = text[:limit].rstrip()
    text = _UNPRINTABLE.sub("�", text)
    return f"{text} … ({cut:,} more characters)" if cut > 0 else text


def decimal(value: Any, digits: int = 3) -> str:
    """A number with fixed digits; a dash for what is no finite number."""
    found = number(value)
    return MISSING if found is None else f"{found:.{digits}f}"


def signed(value: Any, digits: int = 3) -> str:
    """With its sign, for differences."""
    found = number(value)
    return MISSING if found is None else f"{found:+.{digits}f}".replace("-", "−")


def count(value: Any) -> str:
    """An integer with thousands separators."""
    found = number(value)
    return MISSING if found is None else f"{round(found):,}"


def percent(value: Any, digits: int = 1) -> str:
    """A share in [0, 1] as per cent; never rounded up to 100 or down to 0."""
    found = number(value)
    if found is None:
        return MISSING
    text = f"{100 * found:.{digits}f}"
    least = 10**-digits
    if float(text) == 0 and found > 0:
        return f"< {least:g} %"
    if float(text) == 100 and found < 1:
        return f"> {100 - least:g} %"
    return f"{text} %"


def seconds(value: Any) -> str:
    """A time in the unit a person would use."""
    found = number(value)
    if found is None:
        return MISSING
    if found < 1:
        return f"{1000 * found:.2g} ms" if found < 0.01 else f"{1000 * found:.0f} ms"
    if found < 120:
        return f"{found:.1f} s"
    minutes, rest = divmod(round(found), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def estimate(row: Any, digits: int = 3, *, sign: bool = False) -> str:
    """A mean with its interval."""
    if not isinstance(row, dict) or number(row.get("mean")) is None:
        return MISSING
    show = signed if sign else decimal
    if number(row.get("low")) is None or number(row.get("high")) is None:
        return f"{show(row['mean'], digits)} (no interval)"
    return f"{show(row['mean'], digits)} [{show(row['low'], digits)}, {show(row['high'], digits)}]"


def percent_estimate(row: Any, *, sign: bool = False) -> str:
    """A share with its interval, in per cent."""
    if not isinstance(row, dict) or number(row.get("mean")) is None:
        return MISSING
    show = signed if sign else decimal
    if number(row.get("low")) is None or number(row.get("high")) is None:
        return f"{show(100 * row['mean'], 1)} % (no interval)"
    return f"{show(100 * row['mean'], 1)} % [{show(100 * row['low'], 1)}, {show(100 * row['high'], 1)}]"


def words(name: Any) -> str:
    """``not_restorable`` as ``not restorable``."""
    return clean(str(name).replace("_", " "), 80)
