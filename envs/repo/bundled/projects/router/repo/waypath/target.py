"""Request targets: what stands behind the host in a URL."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote


class Target(NamedTuple):
    """A request target in parts.

    Attributes:
        segments: the parts of the path between slashes, decoded, without empty ones.
        slash: True if the path ends with a slash; that of the root does not count.
        query: what stands behind the question mark, as it came.
    """

    segments: tuple[str, ...]
    slash: bool
    query: str


def read_target(text: str) -> Target:
    """Take a target apart.

    Raises:
        ValueError: it does not begin with a slash.
    """
    if not text.startswith("/"):
        raise ValueError(f"a target begins with a slash: {text!r}")
    path, _, query = unquote(text).partition("?")
    segments = tuple(part for part in path.split("/") if part)
    return Target(segments, bool(segments) and path.endswith("/"), query)
