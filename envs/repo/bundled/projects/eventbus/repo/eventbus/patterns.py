"""Topics and patterns of topics."""

import re

_WORD = re.compile(r"[a-z0-9_-]+")


class PatternError(ValueError):
    """A text is no topic or no pattern."""


def check_topic(topic):
    """Return a topic, or raise PatternError."""
    if not all(_WORD.fullmatch(word) for word in topic.split(".")):
        raise PatternError(f"not a topic: {topic!r}")
    return topic


def check_pattern(pattern):
    """Return a pattern, or raise PatternError."""
    *early, last = pattern.split(".")
    good = all(word == "*" or _WORD.fullmatch(word) for word in early)
    if not good or not (last in ("*", "**") or _WORD.fullmatch(last)):
        raise PatternError(f"not a pattern: {pattern!r}")
    return pattern


def matches(pattern, topic):
    """Whether a topic falls under a pattern."""
    parts, words = pattern.split("."), topic.split(".")
    if parts[-1] == "**":
        if len(words) < len(parts):
            return False
        parts.pop()
        words = words[: len(parts)]
    return len(parts) == len(words) and all(part in ("*", word) for part, word in zip(parts, words))
