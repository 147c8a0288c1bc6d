"""Edits put together with lines of context."""

import re
from dataclasses import dataclass, field

from linediff.lcs import ADD, DROP, KEEP, Edit, edits

HEADER = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")


@dataclass
class Hunk:
    """A part of a difference.

    old_start, new_start: index (from 0) of its first line in the old and the new text.
    edits: what happens there.
    """

    old_start: int
    new_start: int
    edits: list[Edit] = field(default_factory=list)

    @property
    def old_length(self):
        """Lines of the old text that it covers."""
        return sum(edit.mark != ADD for edit in self.edits)

    @property
    def new_length(self):
        """Lines of the new text that it covers."""
        return sum(edit.mark != DROP for edit in self.edits)

    def header(self):
        """The line that begins it, as the README has it."""
        old = span(self.old_start, self.old_length)
        new = span(self.new_start, self.new_length)
        return f"@@ -{old} +{new} @@"


def span(start, length):
    """A range as a header has it; start is an index from 0."""
    # An empty range has no first line: it is named by the line before it.
    first = start if length == 0 else start + 1
    return str(first) if length == 1 else f"{first},{length}"


def make_hunks(old, new, context=3):
    """The hunks of a difference, each with up to so many lines of context before, between and after its changes."""
    if context < 0:
        raise ValueError("context must not be negative")
    every = edits(old, new)
    changed = [number for number, edit in enumerate(every) if edit.mark != KEEP]
    hunks = []
    end = 0
    for number in changed:
        low = max(number - context, 0)
        if hunks and low <= end:
            low = end
        else:
            hunks.append(Hunk(every[low].old, every[low].new))
        high = min(number + context + 1, len(every))
        hunks[-1].edits += every[low:high]
        end = high
    return hunks
