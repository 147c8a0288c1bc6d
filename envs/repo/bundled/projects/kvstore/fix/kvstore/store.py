"""A mapping that remembers."""

from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

from kvstore.log import Log
from kvstore.records import Record


class KVStore(MutableMapping[str, Any]):
    """Keys and values of a log file, all of them in memory, too.

    Attributes:
        dead: records in the file that say nothing about the state any more.
    """

    def __init__(self, path: str | Path) -> None:
        self._log = Log(Path(path))
        self._values: dict[str, Any] = {}
        self.dead = 0
        self._load()

    def _load(self) -> None:
        """Follows the log from its beginning."""
        for record in self._log.read():
            self._count_dead(record)
            if record.deleted:
                self._values.pop(record.key, None)
            else:
                self._values[record.key] = record.value

    def _count_dead(self, record: Record) -> None:
        """Counts what a record that is about to come makes useless: the one before it, and a deletion itself."""
        if record.key in self._values:
            self.dead += 1
        if record.deleted:
            self.dead += 1

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __setitem__(self, key: str, value: Any) -> None:
        if not isinstance(key, str):
            raise TypeError(f"keys are strings, not {type(key).__name__}")
        record = Record(key, value)
        self._log.append(record)
        self._count_dead(record)
        self._values[key] = value

    def __delitem__(self, key: str) -> None:
        if key not in self._values:
            raise KeyError(key)
        record = Record(key, deleted=True)
        self._log.append(record)
        self._count_dead(record)
        del self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def compact(self) -> None:
        """Leaves only what is needed in the file."""
        self._log.replace(Record(key, value) for key, value in self._values.items())
        self.dead = 0

    def close(self) -> None:
        """Closes the file; the store is not to be changed after that."""
        self._log.close()

    def __enter__(self) -> "KVStore":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
