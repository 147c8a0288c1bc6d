"""A mapping with a limit, which drops what was not used for longest."""

from cachebox.core import CacheBox, TooHeavy
from cachebox.counts import Counts
from cachebox.dump import dump
from cachebox.memo import remember

__all__ = ["CacheBox", "Counts", "TooHeavy", "dump", "remember"]
