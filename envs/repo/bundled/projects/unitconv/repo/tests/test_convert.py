import pytest

from unitconv import UnitError, convert, convert_all, difference
from unitconv.__main__ import main


def test_lengths():
    assert convert(2, "km", "m") == 2000.0
    assert round(convert(1, "mile", "km"), 6) == 1.609344


def test_speed():
    assert round(convert(90, "km/h", "m/s"), 9) == 25.0


def test_energy():
    assert round(convert(2, "kWh", "J"), 3) == 7.2e6
    assert convert(3, "N*m", "J") == 3.0


def test_temperatures():
    assert round(convert(25, "degC", "degF"), 9) == 77.0
    assert round(convert(0, "degC", "K"), 9) == 273.15
    assert round(convert(-40, "degF", "degC"), 9) == -40.0


def test_temperature_differences():
    assert round(convert(10, difference("degC"), difference("degF")), 9) == 18.0


def test_heat_capacity():
    assert round(convert(1, "J/degF", "J/K"), 9) == 1.8


def test_many():
    assert convert_all([1, 2], "m", "cm") == [100.0, 200.0]


def test_wrong_dimension():
    with pytest.raises(UnitError) as caught:
        convert(1, "kg", "m")
    assert str(caught.value) == "kg is a mass, m is a length"


def test_command_line(capsys):
    assert main(["90", "km/h", "m/s"]) == 0
    assert capsys.readouterr().out == "25\n"
