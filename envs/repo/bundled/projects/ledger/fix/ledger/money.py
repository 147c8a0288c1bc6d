"""Amounts in whole cents: reading, writing, sharing out."""

from __future__ import annotations

import re
from fractions import Fraction

_AMOUNT = re.compile(r"([+-]?)(\d+)(?:\.(\d{1,2}))?")
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*%")


class MoneyError(ValueError):
    """A text is no amount or no rate."""


def parse_cents(text: str) -> int:
    """Read `"12.5"` as 1250 cents."""
    found = _AMOUNT.fullmatch(text.strip())
    if found is None:
        raise MoneyError(f"not an amount: {text!r}")
    sign, whole, part = found.groups()
    cents = int(whole) * 100 + int((part or "0").ljust(2, "0"))
    return -cents if sign == "-" else cents


def format_cents(cents: int) -> str:
    """Write 1250 cents as `"12.50"`."""
    sign = "-" if cents < 0 else ""
    whole, part = divmod(abs(cents), 100)
    return f"{sign}{whole}.{part:02d}"


def parse_rate(text: str) -> Fraction:
    """Read `"7.5%"` as the fraction 3/40."""
    found = _RATE.fullmatch(text.strip())
    if found is None:
        raise MoneyError(f"not a rate: {text!r}")
    return Fraction(found.group(1)) / 100


def share_of(cents: int, rate: Fraction) -> int:
    """The part `rate` of an amount, rounded to the nearest cent, halves away from zero."""
    exact = cents * Fraction(rate)
    top, bottom = abs(exact.numerator), exact.denominator
    rounded = (2 * top + bottom) // (2 * bottom)
    return -rounded if exact < 0 else rounded


def allocate(cents: int, parts: int) -> list[int]:
    """Split an amount into `parts` nearly equal parts that add up to it."""
    if parts < 1:
        raise MoneyError("an amount is split into one part or more")
    sign = -1 if cents < 0 else 1
    each, left = divmod(abs(cents), parts)
    return [sign * (each + (1 if place < left else 0)) for place in range(parts)]
