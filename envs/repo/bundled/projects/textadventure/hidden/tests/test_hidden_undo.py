import copy
import json
import pathlib
import unittest

from textadventure import Game

STORY = {
    "start": "shore",
    "rooms": {
        "shore": {"text": "Waves.", "exits": {"east": "hut"}, "things": ["shell", "net", "oar"]},
        "hut": {"text": "A cold stove.", "exits": {"west": "shore"}},
    },
    "carried": ["knife"],
    "goal": {"room": "hut", "things": ["net"]},
}


def state(game):
    things = {name: list(room.things) for name, room in game.world.rooms.items()}
    return game.world.here, list(game.world.carried), things


class Undoing(unittest.TestCase):
    def setUp(self):
        self.story = copy.deepcopy(STORY)
        self.game = Game(self.story)

    def test_undo_of_taking(self):
        before = state(self.game)
        self.game.play("take net")
        self.assertEqual(self.game.play("undo"), "Undone.")
        self.assertEqual(state(self.game), before)
        self.assertEqual(self.game.play("i"), "You hold: knife.")

    def test_undo_of_dropping(self):
        before = state(self.game)
        self.game.play("drop knife")
        self.game.play("undo")
        self.assertEqual(state(self.game), before)

    def test_undo_of_all_keeps_the_order(self):
        before = state(self.game)
        self.game.play("take all")
        self.game.play("undo")
        self.assertEqual(state(self.game), before)

    def test_step_by_step_back_to_the_beginning(self):
        states = []
        lines = ["take net", "take oar", "east", "drop net", "drop all", "west", "take shell"]
        for line in lines:
            states.append(state(self.game))
            self.game.play(line)
        for expected in reversed(states):
            self.game.play("undo")
            self.assertEqual(state(self.game), expected)
        self.assertEqual(self.game.play("undo"), "There is nothing to undo.")

    def test_going_on_after_undo(self):
        self.game.play("take net")
        self.game.play("undo")
        self.game.play("take oar")
        self.assertEqual(state(self.game), ("shore", ["knife", "oar"], {"shore": ["shell", "net"], "hut": []}))
        self.game.play("undo")
        self.assertEqual(state(self.game), ("shore", ["knife"], {"shore": ["shell", "net", "oar"], "hut": []}))

    def test_undo_of_a_way_only_goes_back(self):
        self.game.play("east")
        self.game.play("undo")
        self.assertEqual(state(self.game), ("shore", ["knife"], {"shore": ["shell", "net", "oar"], "hut": []}))

    def test_what_changes_nothing_is_not_undone(self):
        for line in ("take anchor", "north", "look", "dance", "drop net"):
            self.game.play(line)
        self.assertEqual(self.game.play("undo"), "There is nothing to undo.")


class Beginning(unittest.TestCase):
    def test_restart_gives_everything_back(self):
        game = Game(copy.deepcopy(STORY))
        before = state(game)
        for line in ("take all", "east", "drop net", "drop knife"):
            game.play(line)
        self.assertEqual(game.play("restart"), "The shore. Waves. You see: shell, net, oar. Exits: east.")
        self.assertEqual(state(game), before)
        self.assertEqual(game.play("undo"), "There is nothing to undo.")

    def test_a_game_leaves_its_story_alone(self):
        story = copy.deepcopy(STORY)
        game = Game(story)
        for line in ("take all", "east", "drop all", "undo", "drop net"):
            game.play(line)
        self.assertTrue(game.won())
        self.assertEqual(story, STORY)

    def test_games_side_by_side(self):
        story = copy.deepcopy(STORY)
        one, two = Game(story), Game(story)
        one.play("take net")
        self.assertEqual(two.play("take net"), "Taken.")
        self.assertEqual(one.play("i"), "You hold: knife, net.")
        self.assertEqual(two.play("i"), "You hold: knife, net.")

    def test_a_story_without_things(self):
        game = Game({"start": "void", "rooms": {"void": {"text": "Nothing."}}})
        self.assertEqual(game.play("look"), "The void. Nothing.")
        self.assertEqual(game.play("take all"), "There is no such thing here.")
        self.assertEqual(game.play("i"), "You hold: nothing.")
        self.assertFalse(game.won())

    def test_the_story_that_comes_along(self):
        path = pathlib.Path(__file__).resolve().parent.parent / "stories" / "cellar.json"
        game = Game(json.loads(path.read_text()))
        for line in ("take all", "up", "north", "drop rope"):
            game.play(line)
        self.assertFalse(game.won())
        game.play("drop lamp")
        self.assertTrue(game.won())
