import unittest

from inifile import IniError, parse


class References(unittest.TestCase):
    def test_same_section_and_common(self):
        doc = parse("[common]\nroot = /srv\n[web]\nlogs = ${root}/log\nerrors = ${logs}/errors.txt\n")
        self.assertEqual(doc.get("web", "errors"), "/srv/log/errors.txt")

    def test_other_section(self):
        doc = parse("[a]\nx = ${b:y}!\n[b]\ny = <${z}>\nz = 1\n")
        self.assertEqual(doc.get("a", "x"), "<1>!")

    def test_dollar(self):
        doc = parse("[a]\nprice = 5 $$\n")
        self.assertEqual(doc.get("a", "price"), "5 $")

    def test_circle(self):
        doc = parse("[a]\nx = ${y}\ny = ${x}\n")
        with self.assertRaises(IniError):
            doc.get("a", "x")


class Dump(unittest.TestCase):
    def test_comments_stay(self):
        text = "# top\n[a]\nx = 1 ; one\n\ny = ${x}0\n"
        doc = parse(text)
        self.assertEqual(doc.dump(), text)
        doc.set("a", "x", "2")
        self.assertEqual(doc.dump(), text.replace("x = 1 ;", "x = 2 ;"))
