"""Orders and their history."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Entry:
    """One line of the history: on that day the event led to the target."""

    day: int
    event: str
    target: str


@dataclass
class Order:
    """An order.

    Attributes:
        number: its name.
        total: what is to be paid.
        opened: the day it was opened.
        state: the state it is in.
        since: the day it entered that state.
        paid: what has been paid and not been refunded.
        notes: remarks for people.
        history: every state it entered, the oldest first.
    """

    number: str
    total: int
    opened: int
    state: str = "open"
    since: int = 0
    paid: int = 0
    notes: list[str] = field(default_factory=list)
    history: list[Entry] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.history:
            self.since = self.opened
            self.history.append(Entry(self.opened, "new", self.state))

    def enter(self, state: str, event: str, day: int) -> None:
        """Be in `state` from `day` on."""
        self.state = state
        self.since = day
        self.history.append(Entry(day, event, state))

    def times(self, event: str) -> int:
        """How often an event has happened."""
        return sum(entry.event == event for entry in self.history)
