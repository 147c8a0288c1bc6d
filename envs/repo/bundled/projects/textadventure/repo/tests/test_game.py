import unittest

from textadventure import Game, build_world

ROOMS = {
    "attic": {"text": "Low beams.", "exits": {"down": "kitchen"}},
    "kitchen": {"text": "It smells of soup.", "exits": {"up": "attic"}, "things": ["spoon", "pot"]},
}


class Playing(unittest.TestCase):
    def setUp(self):
        rooms = {name: {**room, "things": list(room.get("things", []))} for name, room in ROOMS.items()}
        self.game = Game({"start": "attic", "rooms": rooms, "carried": ["key"]})

    def test_look(self):
        self.assertEqual(self.game.play("look"), "The attic. Low beams. Exits: down.")

    def test_going(self):
        self.assertEqual(self.game.play("down"), "The kitchen. It smells of soup. You see: spoon, pot. Exits: up.")
        self.assertEqual(self.game.play("east"), "There is no way.")

    def test_taking_and_dropping(self):
        self.game.play("down")
        self.assertEqual(self.game.play("take the pot"), "Taken.")
        self.assertEqual(self.game.play("take pot"), "There is no such thing here.")
        self.assertEqual(self.game.play("i"), "You hold: key, pot.")
        self.assertEqual(self.game.play("drop key"), "Dropped.")
        self.assertEqual(self.game.world.room.things, ["spoon", "key"])

    def test_taking_all(self):
        self.game.play("down")
        self.assertEqual(self.game.play("take all"), "Taken.")
        self.assertEqual(self.game.world.room.things, [])
        self.assertEqual(self.game.play("take all"), "There is no such thing here.")

    def test_undo_of_a_way(self):
        self.game.play("down")
        self.assertEqual(self.game.play("undo"), "Undone.")
        self.assertEqual(self.game.world.here, "attic")
        self.assertEqual(self.game.play("undo"), "There is nothing to undo.")

    def test_a_goal(self):
        self.game.story["goal"] = {"room": "attic", "things": ["pot"]}
        for line in ("down", "take pot", "up"):
            self.game.play(line)
        self.assertFalse(self.game.won())
        self.game.play("drop pot")
        self.assertTrue(self.game.won())


class Stories(unittest.TestCase):
    def test_a_way_to_nowhere(self):
        with self.assertRaises(ValueError):
            build_world({"start": "a", "rooms": {"a": {"text": "", "exits": {"up": "b"}}}})
