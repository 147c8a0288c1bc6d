"""Keys and values in a file that grows at its end."""

from kvstore.records import CorruptLog, Record
from kvstore.store import KVStore

__all__ = ["CorruptLog", "KVStore", "Record"]
