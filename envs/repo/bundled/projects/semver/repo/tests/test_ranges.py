import unittest

from semrange import Version, matching, newest, parse_range


def allows(wanted, text):
    return parse_range(wanted).allows(Version.parse(text))


class RangeTest(unittest.TestCase):
    def test_caret(self):
        self.assertTrue(allows("^1.4", "1.9.2"))
        self.assertFalse(allows("^1.4", "2.0.0"))
        self.assertFalse(allows("^0.2.3", "0.3.0"))

    def test_tilde(self):
        self.assertTrue(allows("~1.2.3", "1.2.9"))
        self.assertFalse(allows("~1.2.3", "1.3.0"))

    def test_either(self):
        self.assertTrue(allows("^1.2 || ^3.0", "3.1.0"))
        self.assertFalse(allows("^1.2 || ^3.0", "2.1.0"))

    def test_prerelease_only_where_named(self):
        self.assertFalse(allows("^1.0", "1.5.0-rc.1"))
        self.assertTrue(allows(">=1.5.0-alpha.1", "1.5.0-rc.1"))
        self.assertFalse(allows("*", "1.5.0-rc.1"))

    def test_matching(self):
        texts = ["2.0.0", "1.10.0", "1.4.0", "1.3.9"]
        self.assertEqual(matching(texts, "^1.4"), ["1.4.0", "1.10.0"])

    def test_newest(self):
        self.assertEqual(newest(["1.4.0", "1.10.0", "2.0.0"], "^1.4"), "1.10.0")
        self.assertIsNone(newest(["1.0.0"], "^2"))


if __name__ == "__main__":
    unittest.main()
