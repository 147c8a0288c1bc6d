"""The bus: delivery of events to handlers."""

from collections import namedtuple

from .patterns import check_topic
from .registry import Registry

Event = namedtuple("Event", "topic data")


class DeliveryError(Exception):
    """Handlers failed. `problems` holds their exceptions in the order of the calls."""

    def __init__(self, event, problems):
        super().__init__(f"{len(problems)} handler(s) of {event.topic!r} failed: {problems[0]!r}")
        self.event = event
        self.problems = problems


class EventBus:
    """Delivers events to the handlers whose pattern they match."""

    def __init__(self):
        self._registry = Registry()

    def __len__(self):
        """The number of subscriptions."""
        return len(self._registry)

    def subscribe(self, pattern, handler, priority=0, once=False):
        """Have a handler called with every event under a pattern; returns the subscription."""
        return self._registry.add(pattern, handler, priority, once)

    def on(self, pattern, priority=0, once=False):
        """Decorator form of `subscribe`."""

        def register(handler):
            self.subscribe(pattern, handler, priority, once)
            return handler

        return register

    def unsubscribe(self, handler):
        """Cancel all subscriptions of a handler; returns how many there were."""
        entries = self._registry.with_handler(handler)
        for entry in entries:
            entry.cancel()
        return len(entries)

    def publish(self, topic, data=None):
        """Deliver an event; returns the number of handlers called.

        Raises:
            DeliveryError: Handlers failed. All others were called nevertheless.
        """
        event = Event(check_topic(topic), data)
        called = 0
        problems = []
        for entry in self._registry.listening(topic):
            if entry.once:
                entry.cancel()
            called += 1
            try:
                entry.handler(event)
            except Exception as problem:
                problems.append(problem)
        if problems:
            raise DeliveryError(event, problems)
        return called
