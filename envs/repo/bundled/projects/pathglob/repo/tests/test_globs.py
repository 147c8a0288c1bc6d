import pytest

from pathglob import GlobError, compile_glob, glob_match


def test_stars_stay_within_a_name():
    assert glob_match("*.txt", "a.txt")
    assert not glob_match("*.txt", "d/a.txt")
    assert glob_match("d/*/a", "d/x/a")


def test_double_stars():
    assert [glob_match("**/a", path) for path in ("a", "d/a", "d/e/a", "ba")] == [True, True, True, False]
    assert [glob_match("d/**", path) for path in ("d/a", "d/e/a", "d")] == [True, True, False]


def test_sets():
    assert [glob_match("[!a-c]?", text) for text in ("dx", "ax", "/x")] == [True, False, False]
    assert glob_match("[a.]", ".")


def test_other_signs_are_plain():
    assert glob_match("a+b(c).$", "a+b(c).$")


def test_bad_patterns():
    for bad in ("", "[abc"):
        with pytest.raises(GlobError):
            compile_glob(bad)
