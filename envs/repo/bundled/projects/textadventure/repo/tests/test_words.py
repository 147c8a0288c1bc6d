import unittest

from textadventure import Command, UnknownCommand, understand


class Understanding(unittest.TestCase):
    def test_articles_and_case_do_not_matter(self):
        self.assertEqual(understand("Take the KNIFE"), Command("take", "knife"))

    def test_a_direction_is_enough(self):
        self.assertEqual(understand("n"), Command("go", "north"))
        self.assertEqual(understand("go w"), Command("go", "west"))

    def test_synonyms(self):
        self.assertEqual(understand("grab rope"), Command("take", "rope"))
        self.assertEqual(understand("i"), Command("inventory"))

    def test_what_is_not_understood(self):
        for line in ("", "the", "take", "dance", "look around"):
            with self.assertRaises(UnknownCommand):
                understand(line)
