"""What may differ between two runs of the same command in a repository, beside what differs at any terminal.

Test runners say how long they took and where they run; git names commits by the moment they were made. Names of blobs
and trees (``index 1a2b3c4..5d6e7f8``, ``git hash-object``) and check sums are made of content alone: they stay.
"""

from __future__ import annotations

import re
from datetime import datetime

from pivotgym.envs.terminal.normalise import normalise as normalise_terminal

_ID = r"\b[0-9a-f]{7,40}\b"
_MIXED = r"(?=[0-9a-f]*[0-9])(?=[0-9a-f]*[a-f])(?:[0-9a-f]{40}|[0-9a-f]{7,12})"
"""An id at the beginning of a line: a number or a word alone could be anything."""

_BEFORE: list[tuple[re.Pattern[str], str]] = [
    # pytest's header, which names the installation and nothing of the repository
    (re.compile(r"^platform \S+ -- Python .*\bpytest-.*$", re.MULTILINE), "platform PLATFORM"),
    (re.compile(r"^plugins: (?:[\w.-]+-\d[\w.]*(?:, )?)+\n", re.MULTILINE), ""),
    (re.compile(r"^(Using --(?:randomly|random-order)-seed)=\d+$", re.MULTILINE), r"\1=SEED"),
    # "==== 3 passed in 61.20s (0:01:01) ====": as many signs as the numbers leave room for
    (re.compile(r"(?<=\d)s \(\d+:\d{2}:\d{2}\)"), "s"),
    (re.compile(r"^=+ (.*\bin \d+\.\d+s(?:econds)?) =+$", re.MULTILINE), r"= \1 ="),
    # pytest --durations, unittest --durations
    (re.compile(r"^ *\d+\.\d+s (?= *(?:call|setup|teardown|test_\w+)\b)", re.MULTILINE), "DURATION "),
    # temporary folders of pytest and pip
    (re.compile(r"/pytest-of-[\w.-]+/pytest-\d+\b"), "/pytest-of-USER/pytest-N"),
    (re.compile(r"(/tmp/pip-[a-z]+(?:-[a-z]+){0,4})-[a-z0-9_]{8}(?![\w-])"), r"\1-TEMPORARY"),
    # addresses as Linux gives them to programs, wherever they stand
    (re.compile(r"\b0x(?:7[ef]|5[56])[0-9a-f]{10}\b"), "ADDRESS"),
]
_GIT: list[tuple[re.Pattern[str], str]] = [
    (re.compile(rf"^((?:commit|parent|Merge:) ){_ID}(?: {_ID})*", re.MULTILINE), r"\1COMMIT"),
    (re.compile(rf"\b((?:commit|HEAD is now at|HEAD position was|HEAD detached (?:at|from)) ){_ID}"), r"\1COMMIT"),
    (re.compile(r"^((?:author|committer|tagger) [^\n]*> )\d{9,10} [+-]\d{4}$", re.MULTILINE), r"\1TIME"),
    (re.compile(rf"^(Updating ){_ID}\.\.{_ID}$", re.MULTILINE), r"\1COMMIT..COMMIT"),
    (re.compile(rf"^( *[+ ]? *){_ID}(\.\.\.?){_ID}(?= +\S+ +-> )", re.MULTILINE), r"\1COMMIT\2COMMIT"),
    (re.compile(rf"^(Dropped \S+ \(){_ID}\)", re.MULTILINE), r"\1COMMIT)"),
    (re.compile(rf"\b((?:WIP on|On|index on|untracked files on) [^\s:]+: ){_ID}(?= )"), r"\1COMMIT"),
    (re.compile(rf"^(From ){_ID}(?= \w{{3}} \w{{3}} )", re.MULTILINE), r"\1COMMIT"),
    (re.compile(rf"^([* ] [\w./-]+ +){_MIXED}(?= \S)", re.MULTILINE), r"\1COMMIT"),  # git branch -v
    (re.compile(rf"^\^?{_MIXED}(?= \([^()\n]* \d{{4}}-\d\d-\d\d )", re.MULTILINE), "COMMIT"),  # git blame
    # git log --oneline, reflog, show-ref: one space follows; after a check sum there are two
    (re.compile(rf"^([*|/\\ ]{{0,12}}){_MIXED}(?= [^ \n])", re.MULTILINE), r"\1COMMIT"),
]


def normalise(text: str, *, hostname: str | None = None, now: datetime | None = None) -> str:
    """Replaces what may differ between two runs by placeholders. Normalising twice changes nothing more.

    Args:
        text: an observation.
        hostname: of the sandbox.
        now: what recent times are measured from; the present by default.
    """
    for pattern, replacement in [*_BEFORE, *_GIT]:
        text = pattern.sub(replacement, text)
    return normalise_terminal(text, hostname=hostname, now=now)
