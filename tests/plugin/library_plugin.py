"""Builds and installs a small package of its own with a tool domain: what an author of a new domain would write."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ENV_ID = "library/Library-v0"

PYPROJECT = """\
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "pivotgym-library"
version = "0.1.0"
dependencies = ["pivotgym"]

[project.entry-points."gymnasium.envs"]
library = "pivotgym_library:register_envs"

[project.entry-points."pivotgym.tool_domains"]
library = "pivotgym_library:Library"

[tool.setuptools]
py-modules = ["pivotgym_library"]
"""

MODULE = '''\
"""A library: look up books, lend them, take them back."""

from __future__ import annotations

from collections.abc import Sequence

import gymnasium as gym
from pivotgym.envs.tools.functions import FunctionDomain, ToolError
from pivotgym.envs.trajectory import Message, Task, ToolCall
from pydantic import BaseModel

TITLES = ["Dune", "Emma", "Ulysses", "Solaris", "Momo", "Beloved"]


class Books(BaseModel):
    """Title of each book by number, and who has it."""

    titles: dict[str, str]
    lent: dict[str, str] = {}


def find_book(books: Books, title: str) -> str:
    """Says the number of a book.

    Args:
        title: the book's title.
    """
    for number, name in books.titles.items():
        if name == title:
            return number
    raise ToolError(f"no book {title}")


def lend_book(books: Books, book: str, reader: str) -> str:
    """Lends a book.

    Args:
        book: the book's number.
        reader: who takes it.
    """
    if book not in books.titles:
        raise ToolError(f"no book number {book}")
    if book in books.lent:
        raise ToolError(f"{book} is lent")
    books.lent[book] = reader
    return f"{book} lent to {reader}"


class Library(FunctionDomain):
    """Readers ask for a book by its title."""

    name = "library"
    policy = "You lend books. Find the book, lend it, say its number."
    functions = (find_book, lend_book)

    def tasks(self) -> Sequence[Task]:
        """One task a title."""
        return [Task(env="library/Library-v0", id=t, data={"domain": "library", "title": t}) for t in TITLES]

    def initial(self, task: Task) -> Books:
        """No book is lent."""
        return Books(titles={f"B{n + 11}": title for n, title in enumerate(TITLES)})

    def first_message(self, task: Task) -> str:
        """The wish."""
        return f"I am Ada. May I have {task.data['title']}?"

    def number(self, task: Task) -> str:
        """The number of the task's book."""
        return f"B{TITLES.index(task.data['title']) + 11}"

    def reference(self, task: Task) -> Sequence[ToolCall]:
        """The one call that changes something."""
        return [ToolCall(name="lend_book", arguments={"book": self.number(task), "reader": "Ada"})]

    def facts(self, task: Task) -> Sequence[str]:
        """What Ada has to be told."""
        return [self.number(task)]

    def expert(self, task: Task) -> list[Message]:
        """A demonstration."""
        find = ToolCall(name="find_book", arguments={"title": task.data["title"]}, id="c0")
        lend = self.reference(task)[0].model_copy(update={"id": "c1"})
        calls = [Message(role="assistant", tool_calls=[call]) for call in (find, lend)]
        return [*calls, Message(role="assistant", content=f"It is {self.number(task)}.")]


def register_envs() -> None:
    """Called through the entry point."""
    gym.register("Library-v0", entry_point="pivotgym.envs.tools.env:ToolsEnv", kwargs={"domain": "library"})
'''

RECORD = f'''\
import sys
import pivotgym.envs, gymnasium as gym
from pivotgym.envs.formats import save_trajectories
from pivotgym.envs.tools.domain import get_domain
from pivotgym.envs.trajectory import Trajectory
domain, env, rows = get_domain("library"), gym.make("{ENV_ID}").unwrapped, []
for task in domain.tasks():
    env.reset(options={{"task": task}})
    for action in domain.expert(task):
        _, reward, *_ = env.step(action)
    assert reward == 1.0, task.id
    rows.append(Trajectory(id=task.id, task=task, tools=env.tools, messages=list(env.messages)))
save_trajectories(sys.argv[1], rows)
'''


def install_plugin(folder: Path) -> dict[str, str]:
    """Builds the package in ``folder``, installs it beside it, and returns the environment variables to run with.

    Nothing is put into the running Python: a program started with these variables finds the package as an installed
    one (module and entry points).
    """
    source, target = folder / "source", folder / "site"
    source.mkdir()
    (source / "pyproject.toml").write_text(PYPROJECT)
    (source / "pivotgym_library.py").write_text(MODULE)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True, timeout=300)
    return {**os.environ, "PYTHONPATH": str(target)}


def record_plugin(folder: Path, variables: dict[str, str]) -> Path:
    """The expert's six trajectories in the installed plug-in, as a JSONL file."""
    file = folder / "library.jsonl"
    subprocess.run([sys.executable, "-c", RECORD, str(file)], check=True, timeout=300, env=variables)
    return file
