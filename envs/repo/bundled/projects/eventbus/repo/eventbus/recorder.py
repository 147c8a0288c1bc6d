"""Keeping events for a later look."""


class Recorder:
    """Records the events under a pattern, before all ordinary handlers."""

    def __init__(self, bus, pattern="**", limit=1000):
        self.events = []
        self.limit = limit
        self._entry = bus.subscribe(pattern, self._keep, priority=10**6)

    def _keep(self, event):
        self.events.append(event)
        del self.events[: -self.limit]

    def topics(self):
        return [event.topic for event in self.events]

    def stop(self):
        self._entry.cancel()

    def replay(self, bus):
        """Publish the recorded events on another bus."""
        for event in list(self.events):
            bus.publish(event.topic, event.data)
