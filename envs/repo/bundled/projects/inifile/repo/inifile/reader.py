"""From text to a `Document`."""

from pathlib import Path

from .document import Document
from .errors import IniError
from .lexical import is_blank


def parse(text, name="<text>"):
    """Read the text of a file; `name` is used in messages.

    Raises:
        IniError: a line is neither heading, value, comment nor blank, or stands before the first heading.
    """
    document = Document()
    section = None
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if is_blank(line):
            document.add_line(line)
        elif stripped.startswith("[") and stripped.endswith("]"):
            section = stripped[1:-1].strip()
            document.add_line(line)
        elif "=" not in line:
            raise IniError(f"{name}:{number}: neither a heading nor a value: {stripped}")
        elif section is None:
            raise IniError(f"{name}:{number}: a value before the first heading")
        else:
            key, _, right = line.partition("=")
            document.add_value(section, key.strip(), right)
    return document


def load(path):
    """Read a file encoded in UTF-8."""
    return parse(Path(path).read_text(encoding="utf-8"), name=str(path))
