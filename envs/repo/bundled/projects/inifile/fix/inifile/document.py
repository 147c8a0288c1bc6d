"""The contents of a file."""

from .errors import IniError
from .lexical import bare_value, split_value
from .references import resolve

COMMON = "common"
TRUTHS = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}


class Document:
    """Sections of keys and values, in the order of the file.

    Values are kept as they were written, so that `dump` can give them back.
    """

    def __init__(self):
        self._lines = []  # what dump gives back: text, or (section, key) for a value
        self._written = {}  # (section, key) -> right-hand side as written

    def add_line(self, text):
        """Append a line that holds no value (heading, comment, blank line)."""
        self._lines.append(text)

    def add_value(self, section, key, written):
        """Append a value; `written` is everything to the right of the equals sign.

        Raises:
            IniError: the section has this key already.
        """
        name = (section, key.lower())
        if name in self._written:
            raise IniError(f"[{section}] has {key} twice")
        self._written[name] = written.strip()
        self._lines.append(name)

    def sections(self):
        """Names of the sections that hold values, in the order of the file."""
        return list(dict.fromkeys(section for section, _ in self._written))

    def keys(self, section):
        """Keys that stand in the section itself, in the order of the file."""
        return [key for owner, key in self._written if owner == section]

    def written(self, section, key):
        """The right-hand side as it stands in the file, taken from [common] if the section does not have it.

        Raises:
            IniError: neither has it.
        """
        for owner in (section, COMMON):
            if (owner, key.lower()) in self._written:
                return self._written[owner, key.lower()]
        raise IniError(f"[{section}] has no {key}")

    def get(self, section, key):
        """The value as text, references replaced.

        Raises:
            IniError: there is no such value, or one of its references cannot be replaced.
        """
# Comments and quotes belong to a line: off they come before its text is put into another's.
        return resolve(section, key.lower(), lambda owner, name: bare_value(self.written(owner, name)))

    def get_int(self, section, key):
        """The value as a whole number.

        Raises:
            IniError: it is none.
        """
        text = self.get(section, key)
        try:
            return int(text)
        except ValueError:
            raise IniError(f"[{section}] {key} is no whole number: {text}") from None

    def get_bool(self, section, key):
        """The value as a truth value: yes/no, true/false, on/off, 1/0 in any case.

        Raises:
            IniError: it is none of these.
        """
        text = self.get(section, key)
        if text.lower() not in TRUTHS:
            raise IniError(f"[{section}] {key} is neither yes nor no: {text}")
        return TRUTHS[text.lower()]

    def get_list(self, section, key):
        """The value cut at its commas, without blanks around the items; an empty value is an empty list."""
        text = self.get(section, key)
        return [item.strip() for item in text.split(",")] if text else []

    def set(self, section, key, text):
        """Change a value that the section has; its comment stays. `text` is written down as it is.

        Raises:
            IniError: the section itself does not have the key.
        """
        name = (section, key.lower())
        if name not in self._written:
            raise IniError(f"[{section}] has no {key}")
        _, comment = split_value(self._written[name])
        self._written[name] = f"{text} {comment}".strip()

    def dump(self):
        """The whole file as text."""
        out = []
        for line in self._lines:
            out.append(line if isinstance(line, str) else f"{line[1]} = {self._written[line]}")
        return "".join(f"{line}\n" for line in out)
