import pytest

from tabular import clip, display_width, pad


def test_width_of_wide_characters():
    assert display_width("abc") == 3
    assert display_width("\u6771\u4eac") == 4


def test_width_of_combining_marks():
    assert display_width("Cafe\u0301") == 4


def test_clip():
    assert clip("abcdef", 6) == "abcdef"
    assert clip("abcdef", 4) == "abc\u2026"


def test_clip_needs_room():
    with pytest.raises(ValueError):
        clip("abc", 0)


def test_pad():
    assert pad("ab", 5) == "ab   "
    assert pad("ab", 5, "right") == "   ab"
    assert pad("ab", 5, "center") == " ab  "
    assert pad("abcdef", 3) == "abcdef"


def test_unknown_alignment():
    with pytest.raises(ValueError):
        pad("ab", 5, "middle")
