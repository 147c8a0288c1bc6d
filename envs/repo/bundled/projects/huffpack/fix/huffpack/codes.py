"""Which byte gets which code."""

from __future__ import annotations

import heapq
from collections import Counter
from typing import Iterator, Mapping, Union

Tree = Union[int, tuple["Tree", "Tree"]]
"""A byte, or two trees."""


def code_lengths(frequencies: Mapping[int, int]) -> dict[int, int]:
    """Length of the code, in bits, of every byte that occurs; the sum over all data is as small as can be.

    Bytes of frequency 0 do not occur. Of trees with equal frequency the one with the lowest byte is taken first, so
    that equal frequencies always have equal lengths as a result.
    """
    heap: list[tuple[int, int, Tree]] = [(count, byte, byte) for byte, count in frequencies.items() if count > 0]
    if len(heap) < 2:
        # No tree has a branch here, and a code of no bits could not be told from no data.
        return {byte: 1 for _, byte, _ in heap}
    heapq.heapify(heap)
    while len(heap) > 1:
        count, lowest, left = heapq.heappop(heap)
        other_count, other_lowest, right = heapq.heappop(heap)
        heapq.heappush(heap, (count + other_count, min(lowest, other_lowest), (left, right)))
    return dict(sorted(_depths(heap[0][2], 0)))


def _depths(tree: Tree, depth: int) -> Iterator[tuple[int, int]]:
    if isinstance(tree, int):
        yield tree, depth
    else:
        yield from _depths(tree[0], depth + 1)
        yield from _depths(tree[1], depth + 1)


def canonical_codes(lengths: Mapping[int, int]) -> dict[int, tuple[int, int]]:
    """Code and its length by byte. Raises ValueError for lengths that no prefix code has."""
    codes: dict[int, tuple[int, int]] = {}
    code = previous = 0
    for byte, length in sorted(lengths.items(), key=lambda item: (item[1], item[0])):
        code <<= length - previous
        if code >> length:
            raise ValueError("too many short codes")
        codes[byte] = (code, length)
        code, previous = code + 1, length
    return codes


def mean_length(data: bytes) -> float:
    """Bits a byte that packing data takes on average, the header aside; 0 for no data."""
    frequencies = Counter(data)
    lengths = code_lengths(frequencies)
    if not data:
        return 0.0
    total = sum(lengths[byte] * count for byte, count in frequencies.items())
    return total / len(data)
