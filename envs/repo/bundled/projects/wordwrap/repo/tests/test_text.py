import unittest
from pathlib import Path

from galley import Block, parse_blocks, set_text
from galley.text import least_width

EXAMPLE = Path(__file__).parent.parent / "examples" / "notes.txt"


class Blocks(unittest.TestCase):
    def test_kinds(self):
        text = "Para\ngoes on\n\n12. item\n    more\n> a\n> b\nSalt :: white\n\n\n    code  x\n"
        self.assertEqual(
            parse_blocks(text),
            [
                Block("paragraph", "Para goes on"),
                Block("blank"),
                Block("item", "item", "12. ", "    "),
                Block("verbatim", "    more"),
                Block("quote", "a b", "> ", "> "),
                Block("term", "white", "Salt :: ", "        "),
                Block("blank"),
                Block("verbatim", "    code  x"),
            ],
        )

    def test_items_go_on(self):
        self.assertEqual(parse_blocks("- a\n  b\n"), [Block("item", "a b", "- ", "  ")])


class Texts(unittest.TestCase):
    def test_example_of_the_readme(self):
        self.assertEqual(
            set_text(EXAMPLE.read_text(encoding="utf-8"), 30),
            "Some notes on the kitchen.\n\n- Boil the water before the\n  noodles go in.\n- Then wait.\n",
        )

    def test_quotes(self):
        self.assertEqual(set_text("> one two three\n", 9), "> one two\n> three\n")

    def test_verbatim_is_left_alone(self):
        self.assertEqual(set_text("    a  very  long  line\n", 8), "    a  very  long  line\n")

    def test_least_width(self):
        self.assertEqual(least_width("- kitchen\n\nab\n"), 9)
