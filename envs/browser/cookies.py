"""Cookies by the page's clock: Chromium expires them by the machine's, which an episode must not depend on.

A cookie that is past its time by the page's clock when it is set is gone, as its site wants. Any other lasts as long
as the episode, whenever that is restored. ``times.js`` does the same for cookies that scripts set.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

LASTING_SECONDS = 400 * 24 * 3600
"""The longest that Chromium keeps any cookie (RFC 6265bis, section 5.5)."""
_TOKEN = re.compile(r"[^\t\x20-/;-@\[-`{-~]+")
_TIME = re.compile(r"(\d{1,2}):(\d{1,2}):(\d{1,2})(?!\d)", re.ASCII)
_DAY, _YEAR = re.compile(r"(\d{1,2})(?!\d)", re.ASCII), re.compile(r"(\d{2,4})(?!\d)", re.ASCII)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def lasting_headers(headers: Sequence[tuple[str, str]], clock: int) -> list[tuple[str, str]]:
    """A response's headers with the lifetimes of its cookies rewritten.

    Args:
        headers: name and value of each.
        clock: the page's, in milliseconds since 1970.
    """
    return [(name, lasting(value, clock) if name.lower() == "set-cookie" else value) for name, value in headers]


def lasting(line: str, clock: int) -> str:
    """One ``Set-Cookie`` value. What has no lifetime that can be read is left as it is: it lasts for the session."""
    pair, *attributes = line.split(";")
    left: float | None = None
    by_age = False
    for attribute in attributes:  # the last one counts, and an age more than a date
        name, _, value = (part.strip() for part in attribute.partition("="))
        if name.lower() == "max-age" and value.removeprefix("-").isdecimal():
            left, by_age = float(value), True
        elif name.lower() == "expires" and not by_age:
            date = cookie_date(value)
            left = left if date is None else date - clock / 1000
    if left is None:
        return line
    others = [one for one in attributes if one.partition("=")[0].strip().lower() not in ("max-age", "expires")]
    return ";".join([pair, *others, f" Max-Age={LASTING_SECONDS if left > 0 else 0}"])


def cookie_date(text: str) -> float | None:
    """A cookie's date in seconds since 1970, read as browsers do (RFC 6265, section 5.1.1); None where it is none."""
    time = day = month = year = None
    for token in _TOKEN.findall(text):
        if time is None and (found := _TIME.match(token)):
            time = [int(part) for part in found.groups()]
        elif day is None and (found := _DAY.match(token)):
            day = int(found[1])
        elif month is None and token[:3].lower() in _MONTHS:
            month = _MONTHS.index(token[:3].lower()) + 1
        elif year is None and (found := _YEAR.match(token)):
            year = int(found[1])
            year += 1900 if 70 <= year < 100 else 2000 if year < 70 else 0
    if time is None or day is None or month is None or year is None or year < 1601:
        return None
    hour, minute, second = time
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()
    except ValueError:
        return None
