"""Differences as text."""

from linediff.hunks import make_hunks


def unified(old, new, old_name="old", new_name="new", context=3):
    """The difference of two texts in the unified format, every line with its end; empty where they are equal."""
    hunks = make_hunks(old, new, context)
    if not hunks:
        return ""
    lines = [f"--- {old_name}", f"+++ {new_name}"]
    for hunk in hunks:
        lines.append(hunk.header())
        lines += [edit.mark + edit.line for edit in hunk.edits]
    return "\n".join(lines) + "\n"
