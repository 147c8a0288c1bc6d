from argshell.jobs import number, stats, wrap


def test_number():
    assert number({"a": "x\n\ny\n"}, 1, False, ": ") == "1: x\n\n2: y\n"


def test_number_goes_on():
    assert number({"a": "x\n", "b": "y\n"}, 9, True, " ") == "9 x\n10 y\n"


def test_wrap_keeps_the_indent():
    assert wrap({"a": "  one two three\n"}, 9, True) == "  one two\n  three\n"


def test_wrap_without_indent():
    assert wrap({"a": "  one two three\n"}, 9, False) == "  one two\nthree\n"


def test_stats():
    assert stats({"a": "x y\n", "b": "z\n"}, True, False) == "a 1 2 4\nb 1 1 2\ntotal 2 3 6\n"
