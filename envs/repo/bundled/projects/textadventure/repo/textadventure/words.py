"""From what a player types to a command."""


class UnknownCommand(Exception):
    """Nobody knows what the player means; the message is for them."""


class Command:
    """A verb and what it is about ("" for nothing)."""

    def __init__(self, verb, noun=""):
        self.verb = verb
        self.noun = noun

    def __eq__(self, other):
        return isinstance(other, Command) and (self.verb, self.noun) == (other.verb, other.noun)

    def __repr__(self):
        return f"Command({self.verb!r}, {self.noun!r})"


ARTICLES = {"the", "a", "an"}
DIRECTIONS = {"n": "north", "s": "south", "e": "east", "w": "west", "u": "up", "d": "down"}
SYNONYMS = {"get": "take", "grab": "take", "leave": "drop", "i": "inventory", "inv": "inventory", "l": "look"}
ALONE = {"look", "inventory", "undo", "restart"}
WITH_NOUN = {"take", "drop", "go"}


def understand(line):
    """The command that a line means. Raises UnknownCommand."""
    words = [word for word in line.lower().split() if word not in ARTICLES]
    if not words:
        raise UnknownCommand("Say something.")
    verb, noun = SYNONYMS.get(words[0], words[0]), " ".join(words[1:])
    if not noun and (verb in DIRECTIONS or verb in DIRECTIONS.values()):
        return Command("go", DIRECTIONS.get(verb, verb))
    if verb in ALONE:
        if noun:
            raise UnknownCommand(f"Just say {verb}.")
        return Command(verb)
    if verb in WITH_NOUN:
        if not noun:
            raise UnknownCommand(f"{verb.capitalize()} what?")
        return Command(verb, DIRECTIONS.get(noun, noun) if verb == "go" else noun)
    raise UnknownCommand(f"I do not know how to {verb}.")
