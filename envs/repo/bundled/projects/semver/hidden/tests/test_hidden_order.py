import unittest

from semrange import Version, matching, newest, parse_range, sort_versions


class OrderTest(unittest.TestCase):
    def test_newest_candidate(self):
        texts = ["2.0.0-rc.8", "2.0.0-rc.9", "2.0.0-rc.10", "2.0.0-rc.11"]
        self.assertEqual(newest(reversed(texts), ">=2.0.0-rc.1"), "2.0.0-rc.11")
        self.assertEqual(sort_versions(reversed(texts)), texts)

    def test_order_of_the_specification(self):
        texts = ["alpha", "alpha.1", "alpha.beta", "beta", "beta.2", "beta.11", "rc.1"]
        texts = [f"1.0.0-{text}" for text in texts] + ["1.0.0"]
        self.assertEqual(sort_versions(reversed(texts)), texts)

    def test_numbers_alone(self):
        texts = ["1.0.0-2", "1.0.0-10", "1.0.0-100"]
        self.assertEqual(sort_versions(reversed(texts)), texts)

    def test_numbers_come_before_text(self):
        texts = ["1.0.0-9", "1.0.0--", "1.0.0--1", "1.0.0-1a", "1.0.0-a"]
        self.assertEqual(sort_versions(reversed(texts)), texts)

    def test_number_in_a_later_place(self):
        texts = ["1.0.0-rc.1.2.final", "1.0.0-rc.1.10.draft", "1.0.0-rc.1.x"]
        self.assertEqual(sort_versions(reversed(texts)), texts)

    def test_digits_within_text_are_text(self):
        texts = ["1.0.0-rc10", "1.0.0-rc9"]
        self.assertEqual(sort_versions(reversed(texts)), texts)

    def test_range_across_ten(self):
        allowed = parse_range(">=2.0.0-rc.9 <2.0.0-rc.12")
        found = [n for n in range(7, 14) if allowed.allows(Version.parse(f"2.0.0-rc.{n}"))]
        self.assertEqual(found, [9, 10, 11])

    def test_caret_of_a_prerelease(self):
        texts = ["1.0.0-beta.2", "1.0.0-beta.10", "1.0.0", "1.1.0-beta.11", "2.0.0"]
        self.assertEqual(matching(texts, "^1.0.0-beta.3"), ["1.0.0-beta.10", "1.0.0"])

    def test_more_identifiers_are_later(self):
        texts = ["1.0.0-a", "1.0.0-a.0", "1.0.0-a.0.0"]
        self.assertEqual(sort_versions(reversed(texts)), texts)

    def test_equal_versions_are_one_in_a_set(self):
        versions = {Version.parse(text) for text in ("1.0.0-rc.10+a", "1.0.0-rc.10+b", "1.0.0-rc.1")}
        self.assertEqual(len(versions), 2)

    def test_parts_and_text_stay(self):
        version = Version.parse("1.0.0-rc.10+build.007")
        self.assertEqual(str(version), "1.0.0-rc.10+build.007")
        self.assertEqual((version.release, version.build), ((1, 0, 0), ("build", "007")))

    def test_release_after_its_candidates(self):
        self.assertEqual(newest(["1.0.0", "1.0.0-rc.10", "1.0.0-zz"], ">=1.0.0-a"), "1.0.0")
