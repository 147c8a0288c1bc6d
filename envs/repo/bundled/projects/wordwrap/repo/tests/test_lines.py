import unittest

from galley import fill_lines


class Filling(unittest.TestCase):
    def test_as_many_words_as_fit(self):
        self.assertEqual(fill_lines("aa bb cc dddd ee", 8), ["aa bb cc", "dddd ee"])

    def test_exact_fit(self):
        self.assertEqual(fill_lines("aaaa bbb", 8), ["aaaa bbb"])

    def test_line_breaks_are_blanks(self):
        self.assertEqual(fill_lines("a\nb\t c", 10), ["a b c"])

    def test_indents(self):
        self.assertEqual(fill_lines("one two three", 9, "- ", "  "), ["- one two", "  three"])

    def test_long_word(self):
        self.assertEqual(fill_lines("abcdefghij", 4), ["abcd", "efgh", "ij"])

    def test_no_words(self):
        self.assertEqual(fill_lines("  ", 10), [])
        self.assertEqual(fill_lines("", 10, "- ", "  "), ["-"])

    def test_no_room(self):
        with self.assertRaises(ValueError):
            fill_lines("a", 4, "", "    ")
