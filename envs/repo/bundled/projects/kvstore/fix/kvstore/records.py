"""Records as lines of a log."""

import json
import zlib
from dataclasses import dataclass
from typing import Any


class CorruptLog(Exception):
    """A line of a log is damaged."""


@dataclass(frozen=True)
class Record:
    """What happened to a key.

    Attributes:
        key: which.
        value: the new one, anything that JSON can hold.
        deleted: the key is gone from here on; it has no value then.
    """

    key: str
    value: Any = None
    deleted: bool = False


def encode_record(record: Record) -> bytes:
    """A record as a line, with its end."""
    entry = ["del", record.key] if record.deleted else ["set", record.key, record.value]
    body = json.dumps(entry, ensure_ascii=False).encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


def decode_record(line: bytes) -> Record:
    """The record of a line. Raises CorruptLog."""
    checksum, _, body = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(body):
        raise CorruptLog(f"damaged line: {line[:60]!r}")
    match json.loads(body):
        case ["set", str(key), value]:
            return Record(key, value)
        case ["del", str(key)]:
            return Record(key, deleted=True)
    raise CorruptLog(f"no record: {line[:60]!r}")
