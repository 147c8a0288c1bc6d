"""Cookies by the page's clock: Chromium expires them by the machine's, which an episode must not depend on.

A cookie that is past its time by the page's clock when it is set is gone, as its site wants. Any other lasts as long
as the episode, whenever that is restored. ``times.js`` does the same for cookies that scripts set.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from email.utils import mktime_tz, parsedate_tz

LASTING_SECONDS = 400 * 24 * 3600
"""The longest that Chromium keeps any cookie (RFC 6265bis, section 5.5)."""


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
            date = parsedate_tz(value)
            with suppress(ValueError, OverflowError):  # years that nobody lives to see
                left = left if date is None else mktime_tz(date) - clock / 1000
    if left is None:
        return line
    others = [one for one in attributes if one.partition("=")[0].strip().lower() not in ("max-age", "expires")]
    return ";".join([pair, *others, f" Max-Age={LASTING_SECONDS if left > 0 else 0}"])
