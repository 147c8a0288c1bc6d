"""The mapping itself.

The entries hang in a ring of nodes, oldest first. A sentinel node closes the ring: `_ring.next` is
the oldest node and `_ring.prev` the newest.
"""

from collections.abc import ItemsView, MutableMapping, ValuesView

from cachebox.counts import Counts


class TooHeavy(ValueError):
    """One entry alone weighs more than the box may hold."""


class _Node:
    __slots__ = ("key", "value", "weight", "prev", "next")

    def __init__(self, key=None, value=None, weight=0):
        self.key = key
        self.value = value
        self.weight = weight
        self.prev = self.next = self

    def unlink(self):
        self.prev.next = self.next
        self.next.prev = self.prev

    def link_before(self, other):
        self.prev, self.next = other.prev, other
        other.prev.next = self
        other.prev = self


class CacheBox(MutableMapping):
    """A mapping that holds entries up to a total weight.

    Args:
        capacity: The greatest total weight; with the default `weigh`, the number of entries.
        weigh: The weight of a value, a whole number from 0.
        on_evict: Called with key and value of an entry that was dropped for lack of room.
    """

    def __init__(self, capacity, weigh=None, on_evict=None):
        if capacity < 1:
            raise ValueError("a box holds a weight of 1 or more")
        self.capacity = capacity
        self.weight = 0
        self.counts = Counts()
        self._weigh = weigh or (lambda value: 1)
        self._on_evict = on_evict
        self._nodes = {}
        self._ring = _Node()

    def __len__(self):
        return len(self._nodes)

    def __iter__(self):
        return iter([node.key for node in self._oldest_first()])

    def __contains__(self, key):
        return key in self._nodes

    def items(self):
        """The pairs of key and value, oldest first, without using them."""
        return ItemsView(self._plain())

    def values(self):
        """The values, oldest first, without using them."""
        return ValuesView(self._plain())

    def __getitem__(self, key):
        node = self._nodes.get(key)
        if node is None:
            self.counts.misses += 1
            raise KeyError(key)
        self.counts.hits += 1
        self._refresh(node)
        return node.value

    def __setitem__(self, key, value):
        weight = self._weigh(value)
        if weight > self.capacity:
            raise TooHeavy(f"the entry {key!r} weighs {weight}, the box holds {self.capacity}")
        node = self._nodes.get(key)
        if node is None:
            node = self._nodes[key] = _Node(key)
            node.link_before(self._ring)
        else:
            self._refresh(node)
        self.weight += weight - node.weight
        node.value, node.weight = value, weight
        self.counts.writes += 1
        self._shrink()

    def __delitem__(self, key):
        self._forget(self._nodes[key])

    def __repr__(self):
        return f"<CacheBox {self.weight}/{self.capacity}: {', '.join(map(repr, self))}>"

    def peek(self, key, default=None):
        """The value of a key without using it."""
        node = self._nodes.get(key)
        return default if node is None else node.value

    def first_out(self):
        """The key that would be dropped next.

        Raises:
            KeyError: The box is empty.
        """
        if not self._nodes:
            raise KeyError("the box is empty")
        return self._ring.next.key

    def resize(self, capacity):
        """Change the capacity and drop what has no room any more."""
        if capacity < 1:
            raise ValueError("a box holds a weight of 1 or more")
        self.capacity = capacity
        self._shrink()

    def _oldest_first(self):
        node = self._ring.next
        while node is not self._ring:
            yield node
            node = node.next

    def _plain(self):
        return {node.key: node.value for node in self._oldest_first()}

    def _refresh(self, node):
        node.unlink()
        node.link_before(self._ring)

    def _forget(self, node):
        node.unlink()
        del self._nodes[node.key]
        self.weight -= node.weight

    def _shrink(self):
        while self.weight > self.capacity:
            node = self._ring.next
            self._forget(node)
            self.counts.evictions += 1
            if self._on_evict is not None:
                self._on_evict(node.key, node.value)
