"""A box as text, for logs."""


def dump(box, width=60):
    """One line per entry, oldest first, then one line of counts."""
    lines = []
    for key in box:
        line = f"{key!r}: {box.peek(key)!r}"
        lines.append(line if len(line) <= width else line[: width - 3] + "...")
    lines.append(repr(box.counts))
    return "\n".join(lines)
