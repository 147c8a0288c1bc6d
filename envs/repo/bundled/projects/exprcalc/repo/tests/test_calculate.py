import pytest
from exprcalc import calculate, parse, render
from exprcalc.__main__ import main


def test_arithmetic():
    assert calculate("2 * (3 + 4) - 10 / 4") == 11.5


def test_power_groups_to_the_right():
    assert calculate("2 ^ 3 ^ 2") == 512


def test_signs():
    assert calculate("3 - -2") == 5


def test_factorial():
    assert calculate("3! + 1") == 7


def test_variables():
    assert calculate("x * y", {"x": 3, "y": 4}) == 12


def test_unknown_name():
    with pytest.raises(NameError):
        calculate("x + 1")


def test_render_drops_needless_parentheses():
    assert render(parse("((1 * 2)) + (3)")) == "1 * 2 + 3"


def test_render_keeps_needed_parentheses():
    assert render(parse("2*(3+4)")) == "2 * (3 + 4)"


def test_command_line(capsys):
    assert main(["--set", "x=3", "x ^ 2 + 1"]) == 0
    assert capsys.readouterr().out == "10\n"
