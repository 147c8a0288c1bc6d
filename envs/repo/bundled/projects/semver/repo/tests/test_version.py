import unittest

from semrange import InvalidVersion, Version


class VersionTest(unittest.TestCase):
    def test_text_comes_back(self):
        for text in ("1.2.3", "0.1.0-rc.1", "1.0.0-alpha.beta+exp.5"):
            self.assertEqual(str(Version.parse(text)), text)

    def test_numbers_compare_as_numbers(self):
        self.assertLess(Version.parse("1.4.0"), Version.parse("1.10.0"))

    def test_prerelease_comes_before_release(self):
        self.assertLess(Version.parse("1.0.0-rc.1"), Version.parse("1.0.0"))

    def test_alpha_beta_rc(self):
        versions = [Version.parse(f"1.0.0-{word}.1") for word in ("alpha", "beta", "rc")]
        self.assertEqual(sorted(versions[::-1]), versions)

    def test_build_metadata_does_not_count(self):
        self.assertEqual(Version.parse("1.0.0+a"), Version.parse("1.0.0+b"))

    def test_invalid(self):
        for text in ("1.2", "1.02.3", "1.0.0-01", "v1.0.0"):
            with self.assertRaises(InvalidVersion):
                Version.parse(text)

    def test_bump(self):
        self.assertEqual(str(Version.parse("1.2.3").bump("minor")), "1.3.0")
        self.assertEqual(str(Version.parse("1.2.3-rc.1").bump("patch")), "1.2.3")


if __name__ == "__main__":
    unittest.main()
