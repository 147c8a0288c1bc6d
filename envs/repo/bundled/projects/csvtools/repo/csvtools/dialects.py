"""What differs between flavours of delimited text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Dialect:
    """The characters that have a meaning, and the end of a record for writing."""

    delimiter: str = ","
    quote: str = '"'
    end: str = "\r\n"
    quote_all: bool = False

    def __post_init__(self) -> None:
        if len(self.delimiter) != 1 or len(self.quote) != 1 or self.delimiter == self.quote:
            raise ValueError("delimiter and quote are two different single characters")
        if self.end not in ("\n", "\r", "\r\n"):
            raise ValueError(f"not an end of a record: {self.end!r}")


EXCEL = Dialect()
UNIX = Dialect(end="\n", quote_all=True)
TABS = Dialect(delimiter="\t", end="\n")
DIALECTS = {"excel": EXCEL, "unix": UNIX, "tabs": TABS}
