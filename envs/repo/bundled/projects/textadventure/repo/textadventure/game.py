"""The rules: what commands do, and how they are taken back."""

from .words import UnknownCommand, understand
from .world import build_world


class Game:
    """A game of a story.

    world: its state now.
    past: states before each command that changed something, the last one at the end.
    """

    def __init__(self, story):
        self.story = story
        self.begin()

    def begin(self):
        """The beginning of the story; nothing is there to be undone."""
        self.world = build_world(self.story)
        self.past = []

    def play(self, line):
        """Does what the player says; returns what they are told."""
        try:
            command = understand(line)
        except UnknownCommand as error:
            return str(error)
        return getattr(self, f"do_{command.verb}")(command.noun)

    def won(self):
        """Whether the goal is reached; never where the story has none."""
        goal = self.story.get("goal")
        if goal is None:
            return False
        return set(goal["things"]) <= set(self.world.rooms[goal["room"]].things)

    # Commands

    def do_look(self, noun):
        return self.world.room.describe()

    def do_inventory(self, noun):
        return f"You hold: {', '.join(self.world.carried) or 'nothing'}."

    def do_go(self, direction):
        target = self.world.room.exits.get(direction)
        if target is None:
            return "There is no way."
        self.remember()
        self.world.here = target
        return self.world.room.describe()

    def do_take(self, thing):
        return self.move(thing, self.world.room.things, self.world.take, "There is no such thing here.", "Taken.")

    def do_drop(self, thing):
        return self.move(thing, self.world.carried, self.world.drop, "You do not hold that.", "Dropped.")

    def do_undo(self, noun):
        if not self.past:
            return "There is nothing to undo."
        self.world.here, self.world.carried, things = self.past.pop()
        for name, found in things.items():
            self.world.rooms[name].things = found
        return "Undone."

    def do_restart(self, noun):
        self.begin()
        return self.world.room.describe()

    # How they work

    def move(self, thing, source, step, missing, done):
        """One thing, or all there are, from one place to another by ``step``."""
        chosen = list(source) if thing == "all" else [thing]
        if not chosen or any(one not in source for one in chosen):
            return missing
        self.remember()
        for one in chosen:
            step(one)
        return done

    def remember(self):
        """Keeps the state as it is now, to come back to it."""
        things = {name: room.things for name, room in self.world.rooms.items()}
        self.past.append((self.world.here, self.world.carried, things))
