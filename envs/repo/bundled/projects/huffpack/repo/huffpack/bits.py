"""Bits in and out of bytes, highest first."""

from __future__ import annotations


class BitWriter:
    """Collects bits."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._pending = 0
        self._count = 0

    def write(self, value: int, width: int) -> None:
        """Adds the lowest `width` bits of a value."""
        self._pending = (self._pending << width) | (value & ((1 << width) - 1))
        self._count += width
        while self._count >= 8:
            self._count -= 8
            self._bytes.append((self._pending >> self._count) & 0xFF)
        self._pending &= (1 << self._count) - 1

    def getvalue(self) -> bytes:
        """All bits so far, filled up with zeros to whole bytes."""
        if self._count == 0:
            return bytes(self._bytes)
        return bytes(self._bytes) + bytes([self._pending << (8 - self._count)])


class BitReader:
    """Gives bits one by one."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def read(self) -> int:
        """The next bit. Raises EOFError at the end."""
        index, offset = divmod(self._at, 8)
        if index >= len(self._data):
            raise EOFError("no bits left")
        self._at += 1
        return (self._data[index] >> (7 - offset)) & 1

    @property
    def unread_bytes(self) -> int:
        """Whole bytes of which no bit was read."""
        return len(self._data) - (self._at + 7) // 8
