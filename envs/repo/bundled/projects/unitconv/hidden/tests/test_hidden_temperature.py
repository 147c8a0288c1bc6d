import pytest

from unitconv import UnitError, convert, convert_all, difference, parse_unit
from unitconv.__main__ import main


def test_gradient():
    assert round(convert(6.5, "degC/km", "K/m"), 9) == 0.0065
    assert round(convert(6.5, "degC/km", "degF/mile"), 6) == 18.829325
    assert [round(x, 9) for x in convert_all([0, 1, -2], "degC/m", "K/m")] == [0.0, 1.0, -2.0]


def test_gradient_back():
    assert round(convert(0.0065, "K/m", "degC/km"), 9) == 6.5
    assert round(convert(1.8, "degF/s", "degC/s"), 9) == 1.0


def test_products():
    assert round(convert(5, "degC*s", "K*s"), 9) == 5.0
    assert round(convert(5, "s*degC", "K*s"), 9) == 5.0
    assert round(convert(9, "degF*h", "degC*h"), 9) == 5.0


def test_powers():
    assert round(convert(3, "degC^2", "K^2"), 9) == 3.0
    assert round(convert(81, "degF^2", "degC^2"), 9) == 25.0


def test_reciprocals():
    assert round(convert(1, "J/degF", "J/K"), 9) == 1.8
    assert round(convert(2, "1/degC", "K^-1"), 9) == 2.0
    assert round(convert(2, "degC^-1", "1/K"), 9) == 2.0


def test_several_temperatures():
    assert round(convert(4, "degC*degC", "K^2"), 9) == 4.0
    assert round(convert(4, "W*degC/m", "W*K/m"), 9) == 4.0


def test_plain_temperatures_keep_their_offset():
    assert round(convert(0, "degC", "K"), 9) == 273.15
    assert round(convert(212, "degF", "degC"), 9) == 100.0
    assert round(convert(300, "K", "degF"), 9) == 80.33
    assert [round(x, 9) for x in convert_all([0, 100], "degC", "degF")] == [32.0, 212.0]


def test_power_of_one_and_blanks_are_a_plain_temperature():
    assert round(convert(20, "degC^1", "K"), 9) == 293.15
    assert round(convert(20, " degC ", "K"), 9) == 293.15


def test_parsed_units_behave_like_their_text():
    gradient = parse_unit("degF/m")
    assert round(convert(9, gradient, "K/m"), 9) == 5.0
    assert round(convert(5, "K/m", gradient), 9) == 9.0
    assert round(convert(50, parse_unit("degF"), parse_unit("degC")), 9) == 10.0


def test_differences():
    assert round(convert(18, difference("degF"), "K"), 9) == 10.0
    assert round(convert(10, "K", difference(parse_unit("degC"))), 9) == 10.0


def test_dimensions_are_still_checked():
    with pytest.raises(UnitError) as caught:
        convert(1, "degC/m", "degC")
    assert str(caught.value) == "degC/m is a length^-1 * temperature, degC is a temperature"


def test_command_line(capsys):
    assert main(["6.5", "degC/km", "K/m"]) == 0
    assert main(["20", "degC", "K"]) == 0
    assert capsys.readouterr().out == "0.0065\n293.15\n"
