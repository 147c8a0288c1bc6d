import pytest

from galley import fill_lines, set_text
from galley.__main__ import main

TEXT = "It was a dark and stormy night and the rain fell in torrents except at occasional intervals"


def test_rest_wider_than_first():
    assert fill_lines("aa bb cc dd ee", 8, "", "    ") == ["aa bb cc", "    dd", "    ee"]
    assert fill_lines("aa bb cc dd", 9, "* ", "    ") == ["* aa bb", "    cc dd"]


def test_rest_narrower_than_first():
    assert fill_lines("aa bb cc dd ee", 8, "Salt: ", "") == ["Salt: aa", "bb cc dd", "ee"]
    assert fill_lines("a b c d e f g", 9, "      ", "  ") == ["      a b", "  c d e f", "  g"]


def test_issue_example():
    text = "Ox :: an animal which pulls heavy carts and ploughs\n\n- see https://example.org/animals/ox\n"
    assert set_text(text, 24).splitlines() == [
        "Ox :: an animal which",
        "        pulls heavy",
        "        carts and",
        "        ploughs",
        "",
        "- see",
        "  https://example.org/an",
        "  imals/ox",
    ]


def test_long_word_behind_an_indent():
    assert fill_lines("abcdefghij", 6, "> ", "> ") == ["> abcd", "> efgh", "> ij"]


def test_long_word_over_different_indents():
    assert fill_lines("abcdefghijkl", 7, "- ", "    ") == ["- abcde", "    fgh", "    ijk", "    l"]
    assert fill_lines("abcdefghijkl", 7, "Ox :: ", " ") == ["Ox :: a", " bcdefg", " hijkl"]


def test_long_word_begins_on_its_own_line():
    assert fill_lines("ab cdefghijklmn op", 8, "", "  ") == ["ab", "  cdefgh", "  ijklmn", "  op"]


def test_text_goes_on_behind_the_last_piece():
    assert fill_lines("abcdefgh ij kl", 6, "  ", "  ") == ["  abcd", "  efgh", "  ij", "  kl"]
    assert fill_lines("abcdef i kl", 6, "  ", "  ") == ["  abcd", "  ef i", "  kl"]


def test_word_of_exactly_one_line_is_not_cut():
    assert fill_lines("a bcdef g", 7, "", "  ") == ["a bcdef", "  g"]
    assert fill_lines("abc defgh i", 7, "- ", "  ") == ["- abc", "  defgh", "  i"]


def test_no_line_is_too_long_and_no_letter_is_lost():
    for first, rest in (("", ""), ("- ", "  "), ("", "        "), ("Occasionally :: ", "    "), ("  ", "> ")):
        for width in range(17, 40):
            lines = fill_lines(TEXT + " " + "x" * 50, width, first, rest)
            assert max(map(len, lines)) <= width
            bodies = [lines[0][len(first) :]] + [line[len(rest) :] for line in lines[1:]]
            assert "".join(bodies).replace(" ", "") == TEXT.replace(" ", "") + "x" * 50


def test_equal_indents_and_plain_text():
    assert fill_lines("one two three", 9, "- ", "  ") == ["- one two", "  three"]
    assert fill_lines("abcdefghij kl", 4) == ["abcd", "efgh", "ij", "kl"]
    assert fill_lines("a abcdefgh", 4) == ["a", "abcd", "efgh"]


def test_texts_without_words_and_without_room():
    assert fill_lines("", 5, "  ", "") == []
    assert fill_lines(" \n", 5, "> ", "> ") == [">"]
    with pytest.raises(ValueError):
        fill_lines("a", 2, "- ", "")
    with pytest.raises(ValueError):
        fill_lines("a", 4, "", "    ")


def test_command_line(tmp_path, capsys):
    path = tmp_path / "terms.txt"
    path.write_text("A long term :: with a text below it\n> qqqqqqqqqqqqqqqqqqqqqqqqq\n", encoding="utf-8")
    assert main([str(path), "--width", "20"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "A long term :: with",
        "        a text below",
        "        it",
        "> qqqqqqqqqqqqqqqqqq",
        "> qqqqqqq",
    ]
