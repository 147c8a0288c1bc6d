from exprcalc import calculate, parse, render
from exprcalc.__main__ import main
from exprcalc.tree import Infix, Name, Number, Postfix, Prefix


def test_negative_of_a_square():
    assert calculate("-2 ^ 2") == -4
    assert calculate("-x ^ 2 + 5", {"x": 3}) == -4


def test_tree_of_a_signed_power():
    assert parse("-x ^ y") == Prefix("-", Infix("^", Name("x"), Name("y")))


def test_plus_sign_before_a_power():
    assert parse("+x ^ 2") == Prefix("+", Infix("^", Name("x"), Number(2)))


def test_two_signs_before_a_power():
    assert parse("--x ^ 2") == Prefix("-", Prefix("-", Infix("^", Name("x"), Number(2))))


def test_sign_within_an_exponent_covers_its_power():
    assert calculate("2 ^ -1 ^ 2") == 0.5
    assert parse("2 ^ -3 ^ 2") == Infix("^", Number(2), Prefix("-", Infix("^", Number(3), Number(2))))


def test_signed_power_in_a_product():
    assert calculate("3 * -2 ^ 2") == -12
    assert calculate("3 * -2 ^ 2 * 2") == -24


def test_parentheses_still_win():
    assert calculate("(-2) ^ 2") == 4
    assert calculate("-(2 ^ 2)") == -4


def test_signed_exponent():
    assert calculate("2 ^ -1") == 0.5
    assert calculate("2 ^ -1 * 4") == 2


def test_sign_binds_tighter_than_product():
    assert parse("-x * y") == Infix("*", Prefix("-", Name("x")), Name("y"))
    assert parse("-x % 3") == Infix("%", Prefix("-", Name("x")), Number(3))


def test_sign_and_factorial():
    assert parse("-3!") == Prefix("-", Postfix("!", Number(3)))
    assert calculate("-3! ^ 2") == -36


def test_what_is_rendered_parses_back():
    x, two = Name("x"), Number(2)
    trees = [
        Prefix("-", Infix("^", x, two)),
        Infix("^", Prefix("-", x), two),
        Infix("^", two, Prefix("-", Infix("^", x, two))),
        Infix("^", Infix("^", two, x), two),
        Prefix("-", Infix("*", x, two)),
        Infix("*", Prefix("-", Infix("^", x, two)), two),
        Postfix("!", Prefix("-", x)),
        Infix("-", x, Infix("-", x, two)),
    ]
    assert [parse(render(tree)) for tree in trees] == trees


def test_command_line_of_a_signed_power(capsys):
    assert main(["0 - 1 - 2 ^ 2"]) == 0
    assert main(["--", "-2 ^ 2"]) == 0
    assert capsys.readouterr().out == "-5\n-4\n"
