import unicodedata

import pytest

from tabular import Column, Table, clip, display_width, pad
from tabular.__main__ import main

TOKYO = "\u6771\u4eac"
ORLEANS = "Orle\u0301ans"


def columns_of(text):
    total = 0
    for char in text:
        if not unicodedata.combining(char):
            total += 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1
    return total


def test_pad_counts_columns():
    assert pad(TOKYO, 7) == TOKYO + "   "
    assert pad(TOKYO, 7, "right") == "   " + TOKYO
    assert pad(TOKYO, 7, "center") == " " + TOKYO + "  "
    assert pad(ORLEANS, 9) == ORLEANS + "  "
    assert pad(ORLEANS, 9, "right") == "  " + ORLEANS


def test_pad_leaves_wider_text_alone():
    assert pad(TOKYO, 4) == TOKYO
    assert pad(TOKYO, 3, "right") == TOKYO
    assert pad(ORLEANS, 7, "center") == ORLEANS


def test_pad_and_clip_of_plain_text():
    assert pad("abc", 8, "center") == "  abc   "
    assert pad("", 2, "right") == "  "
    assert clip("abc", 3) == "abc"
    assert clip("abcd", 1) == "\u2026"


def test_clip_cuts_wide_text():
    assert clip("\u6771\u4eac\u90fd\u5e81", 7) == "\u6771\u4eac\u90fd\u2026"
    assert clip("\u6771\u4eac\u90fd\u5e81", 8) == "\u6771\u4eac\u90fd\u5e81"


def test_clip_never_exceeds_the_limit():
    assert clip("\u6771\u4eac\u90fd\u5e81", 6) == "\u6771\u4eac\u2026"
    assert clip("a\u6771\u4eac", 4) == "a\u6771\u2026"
    assert clip(TOKYO, 2) == "\u2026"


def test_clip_counts_no_marks():
    assert clip(ORLEANS, 7) == ORLEANS
    assert clip("e\u0301" * 3, 3) == "e\u0301" * 3
    assert clip("e\u0301" * 5, 3) == "e\u0301e\u0301\u2026"


def test_box_is_straight():
    table = Table([Column("city"), Column("n", align="right"), Column("x", align="center")])
    for row in (("Linz", 1, "-"), (TOKYO, 2, TOKYO), (ORLEANS, 3, "ab"), ("\uff21\uff22\uff23", None, ORLEANS)):
        table.append(*row)
    lines = table.render("box").splitlines()
    assert [columns_of(line) for line in lines] == [25] * 8
    assert lines[4] == "| " + TOKYO + "    | 2 |  " + TOKYO + "   |"


def test_titles_are_aligned_too():
    table = Table([Column(TOKYO, align="right"), Column("b")])
    table.append("xxxxxx", "y")
    assert table.render().splitlines() == ["  " + TOKYO + " | b", "-------+--", "xxxxxx | y"]


def test_limit_of_a_column_holds():
    table = Table([Column("city", limit=6)])
    table.append("\u6771\u4eac\u90fd\u5e81")
    table.append("Graz")
    assert table.widths() == [5]
    assert table.render("markdown").splitlines() == [
        "| city  |",
        "| ----- |",
        "| \u6771\u4eac\u2026 |",
        "| Graz  |",
    ]


def test_command_line(tmp_path, capsys):
    path = tmp_path / "x.csv"
    path.write_text("city,n\n" + TOKYO + ",1\nGraz,2\n", encoding="utf-8")
    assert main([str(path), "--style", "markdown"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "| city | n |",
        "| ---- | - |",
        "| " + TOKYO + " | 1 |",
        "| Graz | 2 |",
    ]
    assert display_width(TOKYO) == 4


def test_bad_arguments_are_still_refused():
    with pytest.raises(ValueError):
        clip(TOKYO, 0)
    with pytest.raises(ValueError):
        pad(TOKYO, 2, "justified")


def test_plain_style_has_no_blanks_at_the_end():
    table = Table([Column("a"), Column("note")])
    table.append(1.5, None)
    table.append(None, "two\nlines")
    assert table.render().splitlines() == ["a    | note", "-----+----------", "1.50 |", "     | two lines"]
