from fractions import Fraction

import pytest

from ledger import MoneyError, allocate, format_cents, parse_cents, parse_rate, share_of


def test_parse_and_format():
    assert parse_cents("12.5") == 1250
    assert parse_cents("-0.05") == -5
    assert format_cents(1250) == "12.50"
    assert format_cents(-5) == "-0.05"


def test_bad_amount():
    with pytest.raises(MoneyError):
        parse_cents("12,50")


def test_rate():
    assert parse_rate("7.5%") == Fraction(3, 40)


def test_share_rounds_to_the_nearest_cent():
    assert share_of(1000, Fraction(19, 100)) == 190
    assert share_of(1999, Fraction(19, 100)) == 380
    assert share_of(1, Fraction(1, 2)) == 1
    assert share_of(-1999, Fraction(19, 100)) == -380


def test_allocate_loses_nothing():
    assert allocate(100, 3) == [34, 33, 33]
    assert allocate(-100, 3) == [-34, -33, -33]
