import pytest
from exprcalc import ParseError, parse
from exprcalc.tree import Call, Infix, Name, Number, Prefix


def test_product_before_sum():
    assert parse("1 + 2 * 3") == Infix("+", Number(1), Infix("*", Number(2), Number(3)))


def test_difference_groups_to_the_left():
    assert parse("9 - 3 - 2") == Infix("-", Infix("-", Number(9), Number(3)), Number(2))


def test_sign_of_a_factor():
    assert parse("2 * -x") == Infix("*", Number(2), Prefix("-", Name("x")))


def test_call():
    assert parse("max(1, x)") == Call("max", (Number(1), Name("x")))


def test_column_of_an_error():
    with pytest.raises(ParseError) as caught:
        parse("1 + $")
    assert caught.value.column == 5


def test_missing_parenthesis():
    with pytest.raises(ParseError, match="expected"):
        parse("(1 + 2")
