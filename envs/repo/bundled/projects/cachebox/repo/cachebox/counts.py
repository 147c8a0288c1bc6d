"""How often a box was of use."""


class Counts:
    """Hits, misses, writes and evictions since the beginning or the last `clear`."""

    __slots__ = ("hits", "misses", "writes", "evictions")

    def __init__(self):
        self.clear()

    def clear(self):
        self.hits = self.misses = self.writes = self.evictions = 0

    @property
    def hit_rate(self):
        """Hits as a part of all reads; 0.0 before the first."""
        reads = self.hits + self.misses
        return self.hits / reads if reads else 0.0

    def as_dict(self):
        return {name: getattr(self, name) for name in self.__slots__}

    def __repr__(self):
        return "counts: " + ", ".join(f"{name}={number}" for name, number in self.as_dict().items())
