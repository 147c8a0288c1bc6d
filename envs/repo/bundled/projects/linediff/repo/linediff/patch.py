"""Differences read again, and brought into a text."""

from linediff.hunks import HEADER
from linediff.lcs import ADD, DROP, KEEP


class PatchError(ValueError):
    """A text is no difference, or does not fit."""


def parse_patch(text):
    """The hunks of a difference as (start, length, lines): index from 0 and length in the old text, marked lines."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        header = HEADER.match(line)
        if header:
            start = int(header[1])
            length = 1 if header[2] is None else int(header[2])
            # An empty range stands after the line that its header names.
            found.append((start if length == 0 else start - 1, length, []))
        elif not found:
            if not line.startswith(("--- ", "+++ ")):
                raise PatchError(f"line {number}: no hunk has begun")
        elif line[:1] in (KEEP, DROP, ADD):
            found[-1][2].append(line)
        else:
            raise PatchError(f"line {number}: no mark")
    return found


def apply_patch(old, text):
    """The text that a difference leads to. Raises PatchError where it does not fit the old one exactly."""
    new, at = [], 0
    for start, length, lines in parse_patch(text):
        if start < at or start + length > len(old):
            raise PatchError(f"a hunk for line {start + 1} is out of place")
        new += old[at:start]
        at = start
        for line in lines:
            mark, content = line[0], line[1:]
            if mark != ADD:
                if at >= len(old) or old[at] != content:
                    raise PatchError(f"line {at + 1} is not {content!r}")
                at += 1
            if mark != DROP:
                new.append(content)
        if at != start + length:
            raise PatchError(f"the hunk for line {start + 1} has not the length its header says")
    return new + old[at:]
