import pytest

from unitconv import UnitError, parse_unit


def test_powers():
    assert parse_unit("kg*m^2/s^2") == parse_unit("J")
    assert parse_unit("s^-1") == parse_unit("1/s")


def test_division_takes_the_next_factor_only():
    assert str(parse_unit("J/kg/K").dimension) == "length^2 * time^-2 * temperature^-1"


def test_unknown_name():
    with pytest.raises(UnitError):
        parse_unit("parsec")


def test_nonsense():
    with pytest.raises(UnitError):
        parse_unit("m//s")
