"""What there is: rooms, things, and what the player holds."""


class Room:
    """A place.

    name, text: for the description.
    exits: names of rooms by direction.
    things: what lies there, in the order in which it is named.
    """

    def __init__(self, name, text, exits, things):
        self.name = name
        self.text = text
        self.exits = exits
        self.things = things

    def describe(self):
        """Name, text, things and exits in one line."""
        parts = [f"The {self.name}.", self.text]
        if self.things:
            parts.append(f"You see: {', '.join(self.things)}.")
        if self.exits:
            parts.append(f"Exits: {', '.join(sorted(self.exits))}.")
        return " ".join(parts)


class World:
    """The state of a game: rooms by name, where the player is, what they hold."""

    def __init__(self, rooms, here, carried):
        self.rooms = rooms
        self.here = here
        self.carried = carried

    @property
    def room(self):
        """Where the player is."""
        return self.rooms[self.here]

    def take(self, thing):
        """From the room into the hands."""
        self.room.things.remove(thing)
        self.carried.append(thing)

    def drop(self, thing):
        """From the hands into the room."""
        self.carried.remove(thing)
        self.room.things.append(thing)


def build_world(story):
    """The world as a story begins. Raises ValueError for a story that leads nowhere."""
    rooms = {}
    for name, entry in story["rooms"].items():
        rooms[name] = Room(name, entry["text"], entry.get("exits", {}), entry.get("things", []))
    for room in rooms.values():
        for direction, target in room.exits.items():
            if target not in rooms:
                raise ValueError(f"{room.name}: no room {target!r} {direction} of it")
    if story["start"] not in rooms:
        raise ValueError(f"no room {story['start']!r} to start in")
    return World(rooms, story["start"], story.get("carried", []))
