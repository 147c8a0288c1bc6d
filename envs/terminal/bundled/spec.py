"""What a bundled task is made of, before it becomes a :class:`TerminalTask`."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pivotgym.envs.terminal.bundled.look import Look

WORKDIR = "/root/work"
"""Where the agent starts and everything of a task lies."""

GENERATOR = 1
"""Version of the tasks; a task of another version is refused instead of being judged by other rules."""

Expected = str | bytes | None | Callable[[bytes], object]
"""How a file should be in the end: this content, absent, or whatever the function does not refuse with Wrong."""


@dataclass(frozen=True)
class Built:
    """One task instance: a builder's result for one seed.

    Attributes:
        instruction: what the user asks.
        turns: the expert's ``(thought, command)`` pairs.
        final: the expert's last message.
        files: text files of the set-up, relative to :data:`WORKDIR`.
        script: bash source that runs after the files are there, in :data:`WORKDIR`.
        env: environment variables of the agent's shell, beside those every task has.
        after: files that are to be otherwise than ``files`` in the end; every file that is only in ``files`` has to
            be as it was. Further files of the agent do not matter, unless they are in a ``closed`` directory.
        closed: directories that hold exactly the files of ``files`` and ``after`` that are in them.
        answer: what the last line of the final message has to give after ``ANSWER:``.
        check: looks at the rest; raises :class:`~pivotgym.envs.terminal.bundled.look.Wrong`.
        ignore: files of the set-up that its script takes away or that may be as they like.
    """

    instruction: str
    turns: Sequence[tuple[str, str]]
    final: str
    files: Mapping[str, str] = field(default_factory=dict)
    script: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    after: Mapping[str, Expected] = field(default_factory=dict)
    closed: Sequence[str] = ()
    answer: str | None = None
    check: Callable[[Look], None] | None = None
    ignore: frozenset[str] = frozenset()


Builder = Callable[[random.Random], Built]
"""Makes an instance of a task; everything that differs between instances is drawn from the argument."""
