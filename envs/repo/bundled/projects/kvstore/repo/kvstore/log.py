"""The file: read from the top, written at the end."""

import os
from collections.abc import Iterable
from pathlib import Path

from kvstore.records import CorruptLog, Record, decode_record, encode_record


class Log:
    """A log file, open for appending."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()
        self._file = path.open("ab")

    def read(self) -> list[Record]:
        """All records. An incomplete last line is cut off the file.

        Raises:
            CorruptLog: another line is damaged.
        """
        data = self.path.read_bytes()
        complete = data.rfind(b"\n") + 1
        if complete < len(data):
            self._file.truncate(complete)
        found = []
        for number, line in enumerate(data[:complete].splitlines(keepends=True), 1):
            try:
                found.append(decode_record(line))
            except CorruptLog as error:
                raise CorruptLog(f"{self.path.name}, line {number}: {error}") from None
        return found

    def append(self, record: Record) -> None:
        """Writes one record to the disk."""
        self._file.write(encode_record(record))
        self._file.flush()
        os.fsync(self._file.fileno())

    def replace(self, records: Iterable[Record]) -> None:
        """Puts a log of these records in the file's place, all at once."""
        fresh = self.path.with_name(self.path.name + ".new")
        with fresh.open("wb") as file:
            for record in records:
                file.write(encode_record(record))
            file.flush()
            os.fsync(file.fileno())
        self._file.close()
        fresh.replace(self.path)
        self._file = self.path.open("ab")

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
