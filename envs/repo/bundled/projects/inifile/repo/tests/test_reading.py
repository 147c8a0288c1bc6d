import unittest

from inifile import IniError, parse


class Values(unittest.TestCase):
    def setUp(self):
        self.doc = parse(
            "[common]\n"
            "root = /srv\n"
            "\n"
            "; about the server\n"
            "[web]\n"
            "Port = 8080   ; not 80\n"
            "debug = Off\n"
            "title = \"Status; live\" # shown on top\n"
            "path = a;b#c\n"
            "tags = red, green , blue\n"
            "empty =\n"
        )

    def test_plain_text(self):
        self.assertEqual(self.doc.get("common", "root"), "/srv")

    def test_comment_behind_a_value(self):
        self.assertEqual(self.doc.get_int("web", "port"), 8080)

    def test_quotes_protect(self):
        self.assertEqual(self.doc.get("web", "title"), "Status; live")

    def test_signs_inside_a_word_are_no_comment(self):
        self.assertEqual(self.doc.get("web", "path"), "a;b#c")

    def test_kinds(self):
        self.assertIs(self.doc.get_bool("web", "debug"), False)
        self.assertEqual(self.doc.get_list("web", "tags"), ["red", "green", "blue"])
        self.assertEqual(self.doc.get_list("web", "empty"), [])

    def test_names(self):
        self.assertEqual(self.doc.sections(), ["common", "web"])
        self.assertEqual(self.doc.keys("web"), ["port", "debug", "title", "path", "tags", "empty"])

    def test_missing(self):
        with self.assertRaises(IniError):
            self.doc.get("web", "nothing")


class BadFiles(unittest.TestCase):
    def test_value_before_heading(self):
        with self.assertRaises(IniError):
            parse("a = 1\n")

    def test_line_without_sense(self):
        with self.assertRaises(IniError):
            parse("[a]\nnonsense\n")
