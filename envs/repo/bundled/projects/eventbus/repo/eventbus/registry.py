"""Who listens to what."""

import itertools

from .patterns import check_pattern, matches


class Subscription:
    """One handler under one pattern. Cancel it to unsubscribe."""

    def __init__(self, registry, pattern, handler, priority, once, serial):
        self.pattern = pattern
        self.handler = handler
        self.priority = priority
        self.once = once
        self.serial = serial
        self.active = True
        self._registry = registry

    @property
    def rank(self):
        """Sorts subscriptions into the order of their calls."""
        return (-self.priority, self.serial)

    def cancel(self):
        """Unsubscribe. Doing so twice is harmless."""
        if self.active:
            self.active = False
            self._registry.discard(self)

    def __repr__(self):
        state = "" if self.active else ", cancelled"
        return f"<{self.pattern} priority {self.priority}{state}>"


class Registry:
    """All subscriptions of a bus, kept in the order of their calls."""

    def __init__(self):
        self._subscriptions = []
        self._serials = itertools.count()

    def __len__(self):
        return len(self._subscriptions)

    def add(self, pattern, handler, priority, once):
        entry = Subscription(self, check_pattern(pattern), handler, priority, once, next(self._serials))
        place = len(self._subscriptions)
        while place and self._subscriptions[place - 1].rank > entry.rank:
            place -= 1
        self._subscriptions.insert(place, entry)
        return entry

    def discard(self, entry):
        self._subscriptions.remove(entry)

    def with_handler(self, handler):
        """All subscriptions of a handler."""
        return [entry for entry in self._subscriptions if entry.handler == handler]

    def listening(self, topic):
        """Yield the subscriptions to a topic in the order of their calls."""
        for entry in self._subscriptions:
            if matches(entry.pattern, topic):
                yield entry
