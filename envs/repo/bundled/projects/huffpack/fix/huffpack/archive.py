"""The format of an archive; the README describes it."""

from __future__ import annotations

import struct
from collections import Counter

from .bits import BitReader, BitWriter
from .codes import canonical_codes, code_lengths

MAGIC = b"HUF1"
HEADER = struct.Struct(">4sIH")


class ArchiveError(ValueError):
    """Bytes that are no archive, or a damaged one."""


def pack(data: bytes) -> bytes:
    """An archive of data."""
    lengths = code_lengths(Counter(data))
    codes = canonical_codes(lengths)
    writer = BitWriter()
    for byte in data:
        writer.write(*codes[byte])
    table = b"".join(bytes(entry) for entry in sorted(lengths.items()))
    return HEADER.pack(MAGIC, len(data), len(lengths)) + table + writer.getvalue()


def read_table(packed: bytes) -> tuple[int, dict[int, int], bytes]:
    """How many bytes are packed, the lengths of their codes, and the codes. Raises ArchiveError."""
    if len(packed) < HEADER.size:
        raise ArchiveError("too short")
    magic, size, different = HEADER.unpack_from(packed)
    if magic != MAGIC:
        raise ArchiveError("no archive")
    end = HEADER.size + 2 * different
    table = packed[HEADER.size : end]
    if len(table) < 2 * different:
        raise ArchiveError("the table is cut off")
    lengths = dict(zip(table[::2], table[1::2]))
    if len(lengths) < different or 0 in lengths.values():
        raise ArchiveError("the table is damaged")
    return size, lengths, packed[end:]


def unpack(packed: bytes) -> bytes:
    """What an archive holds. Raises ArchiveError."""
    size, lengths, body = read_table(packed)
    try:
        codes = canonical_codes(lengths)
    except ValueError as error:
        raise ArchiveError(f"the table is damaged: {error}") from error
    if size and not codes:
        raise ArchiveError("the table is empty")
    byte_of = {code: byte for byte, code in codes.items()}
    longest = max(lengths.values(), default=0)
    reader = BitReader(body)
    data = bytearray()
    for _ in range(size):
        code = length = 0
        while (code, length) not in byte_of:
            if length == longest:
                raise ArchiveError("bits that are no code")
            try:
                code, length = code << 1 | reader.read(), length + 1
            except EOFError as error:
                raise ArchiveError("the codes are cut off") from error
        data.append(byte_of[code, length])
    if reader.unread_bytes:
        raise ArchiveError("there is more than there should be")
    return bytes(data)
