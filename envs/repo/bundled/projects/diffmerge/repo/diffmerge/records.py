"""The text form of records. In memory they are a dictionary: id -> field -> value."""

Records = dict[str, dict[str, str]]


class FormatError(ValueError):
    """The text is not of the form that the README shows."""


def load(text: str) -> Records:
    """Return the records of ``text``."""
    records: Records = {}
    current: dict[str, str] | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("[") and line.endswith("]"):
            name = line[1:-1].strip()
            if not name or name in records:
                raise FormatError(f"line {number}: record {name!r}")
            current = records[name] = {}
            continue
        field, colon, value = line.partition(":")
        if current is None or not colon or not field.strip():
            raise FormatError(f"line {number}: {line!r}")
        if field.strip() in current:
            raise FormatError(f"line {number}: field {field.strip()!r} twice")
        current[field.strip()] = value.strip()
    return records


def dump(records: Records) -> str:
    """Return the text of ``records``; ``load`` reads it back."""
    blocks = []
    for name, fields in records.items():
        lines = [f"[{name}]", *(f"{field}: {value}".rstrip() for field, value in fields.items())]
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)
