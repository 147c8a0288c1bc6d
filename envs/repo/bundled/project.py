"""Projects as they lie in ``projects/``: a repository with a bug, its fix, hidden tests, an issue, an expert.

A project is written once, with one set of names. A seed chooses other names for what ``project.toml`` lists under
``[renames]``, in code, tests, prose, expert and paths alike; see :func:`rename`.
"""

from __future__ import annotations

import ast
import random
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from pivotgym.envs.errors import BadInput
from pivotgym.envs.repo.prompts import MARKER
from pivotgym.envs.trajectory import JsonObject

PROJECTS = Path(__file__).parent / "projects"
"""Where the projects of the package are."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_WORD = re.compile(r"[A-Za-z0-9_]+(?:[ -][A-Za-z0-9_]+)*")
_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-/]*")


class Turn(BaseModel):
    """One turn of a project's expert.

    Attributes:
        say: why it does what it does next.
        tool: ``bash``, ``str_replace_editor`` or ``submit``.
        command: of ``bash``.
        arguments: of ``str_replace_editor``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    say: str = Field(min_length=1)
    tool: Literal["bash", "str_replace_editor", "submit"]
    command: str | None = None
    arguments: JsonObject | None = None

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if (self.command is not None) != (self.tool == "bash"):
            raise ValueError("bash, and only bash, takes a command")
        if (self.arguments is not None) != (self.tool == "str_replace_editor"):
            raise ValueError("str_replace_editor, and only str_replace_editor, takes arguments")
        return self

    @property
    def call(self) -> JsonObject:
        """The arguments of the tool call."""
        return {"command": self.command} if self.command is not None else dict(self.arguments or {})


class ProjectSpec(BaseModel):
    """``project.toml``.

    Attributes:
        kind: of bug, in one or two words.
        interface: what the agent works with.
        fail_to_pass: node ids of the hidden tests that show the bug; all other hidden tests pass with and without it.
        renames: for a word all words that a seed may choose in its place; the first is the word itself.
        together: words by any name that take one draw.
        turn: the expert's turns, the last of which hands in.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str = Field(min_length=1)
    interface: Literal["tools", "bash"]
    fail_to_pass: list[str] = Field(min_length=1)
    renames: dict[str, list[str]]
    together: dict[str, list[str]] = Field(default_factory=dict)
    turn: list[Turn] = Field(min_length=1)

    @field_validator("renames")
    @classmethod
    def _renames(cls, value: dict[str, list[str]]) -> dict[str, list[str]]:
        seen: dict[str, str] = {}
        for word, choices in value.items():
            if len(choices) < 2 or choices[0] != word:
                raise ValueError(f"{word}: at least two words are needed, the first of them {word!r} itself")
            for choice in choices:
                if not _WORD.fullmatch(choice):
                    raise ValueError(f"{word}: {choice!r} is no word")
                if choice in seen:
                    raise ValueError(f"{word}: {choice!r} is a choice of {seen[choice]!r} already")
                seen[choice] = word
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        grouped: set[str] = set()
        for name, words in self.together.items():
            unknown = [word for word in words if word not in self.renames]
            if unknown:
                raise ValueError(f"together.{name}: {unknown[0]!r} is not renamed")
            if grouped & set(words):
                raise ValueError(f"together.{name}: {min(grouped & set(words))!r} is in two groups")
            if len({len(self.renames[word]) for word in words}) > 1:
                raise ValueError(f"together.{name}: the lists differ in length")
            grouped |= set(words)
        last = self.turn[-1]
        handed_in = last.tool == "submit" if self.interface == "tools" else MARKER in (last.command or "")
        if not handed_in:
            raise ValueError("turn: the last one does not hand in")
        if self.interface == "bash" and any(turn.tool != "bash" for turn in self.turn):
            raise ValueError("turn: there is only bash")
        return self


@dataclass(frozen=True)
class Project:
    """A project, or an instance of one.

    Attributes:
        name: of its folder.
        spec: its ``project.toml``.
        issue: what a user reports.
        repo: files of the repository with the bug, by path.
        fix: the files that the reference change alters or adds, whole.
        hidden: the hidden test files, whole.
        tests: node ids of all hidden tests, in the order of the files.
    """

    name: str
    spec: ProjectSpec
    issue: str
    repo: Mapping[str, str]
    fix: Mapping[str, str]
    hidden: Mapping[str, str]
    tests: tuple[str, ...]

    @property
    def pass_to_pass(self) -> list[str]:
        """Node ids of the hidden tests that do not show the bug."""
        return [test for test in self.tests if test not in self.spec.fail_to_pass]


@lru_cache
def load_projects(folder: Path = PROJECTS) -> dict[str, Project]:
    """Every project of a folder by its name, sorted.

    Raises:
        BadInput: a project that cannot be used; names file and field.
    """
    found = sorted(path.parent for path in folder.glob("*/project.toml"))
    return {path.name: load_project(path) for path in found}


def load_project(folder: Path) -> Project:
    """A project from its folder. Raises BadInput."""
    file = folder / "project.toml"
    if not _NAME.fullmatch(folder.name):
        raise BadInput("a project's name has lower-case letters, digits and _ only", file=folder)
    try:
        spec = ProjectSpec.model_validate(tomllib.loads(_text(file)))
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"no TOML: {error}", file=file) from error
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(first["msg"], file=file, field=".".join(map(str, first["loc"])) or None) from error
    repo, fix, hidden = (_files(folder / part) for part in ("repo", "fix", "hidden"))
    for path, text in fix.items():
        if repo.get(path) == text:
            raise BadInput("the same as in repo/", file=folder / "fix" / path)
    tests = tuple(test for path, text in hidden.items() for test in _tests(folder / "hidden" / path, path, text))
    for test in spec.fail_to_pass:
        if test not in tests:
            raise BadInput(f"no hidden test {test!r}", file=file, field="fail_to_pass")
    return Project(folder.name, spec, _text(folder / "issue.md").strip(), repo, fix, hidden, tests)


def choose(spec: ProjectSpec, rng: random.Random, number: int) -> dict[str, str]:
    """One choice of names.

    Args:
        spec: what there is to choose from.
        rng: in one and the same state for every ``number``.
        number: choices of different numbers have no word in common while the lists last.
    """
    group = {word: name for name, words in sorted(spec.together.items()) for word in words}
    orders: dict[str, list[int]] = {}
    chosen = {}
    for word, choices in sorted(spec.renames.items()):
        key = f"together {group[word]}" if word in group else word
        if key not in orders:
            orders[key] = rng.sample(range(len(choices)), len(choices))
        chosen[word] = choices[orders[key][number % len(choices)]]
    return chosen


def rename(project: Project, names: Mapping[str, str]) -> Project:
    """The project with other names: whole words are replaced, in texts, paths, node ids and the expert's turns.

    Raises:
        BadInput: two files would get one path.
    """
    change = replacer(names)

    def changed(files: Mapping[str, str]) -> dict[str, str]:
        paths = {change(path): change(text) for path, text in files.items()}
        if len(paths) < len(files):
            raise BadInput(f"project {project.name}: names {dict(names)} put two files in one place", field="renames")
        return dict(sorted(paths.items()))

    spec = project.spec
    turns = [
        turn.model_copy(
            update={
                "say": change(turn.say),
                "command": None if turn.command is None else change(turn.command),
                "arguments": None if turn.arguments is None else _deep(turn.arguments, change),
            }
        )
        for turn in spec.turn
    ]
    return replace(
        project,
        spec=spec.model_copy(update={"fail_to_pass": [change(test) for test in spec.fail_to_pass], "turn": turns}),
        issue=change(project.issue),
        repo=changed(project.repo),
        fix=changed(project.fix),
        hidden=changed(project.hidden),
        tests=tuple(change(test) for test in project.tests),
    )


def replacer(names: Mapping[str, str]) -> Callable[[str], str]:
    """A function that replaces whole words: ``ledger`` is none in ``ledgers``, ``_ledger`` or ``ledger_2``."""
    if not names:
        return lambda text: text
    words = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    pattern = re.compile(rf"(?<![A-Za-z0-9_])(?:{words})(?![A-Za-z0-9_])")
    return lambda text: pattern.sub(lambda found: names[found[0]], text)


def _deep(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_deep(item, change) for item in value]
    if isinstance(value, dict):
        return {key: _deep(item, change) for key, item in value.items()}
    return value


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode()
    except FileNotFoundError as error:
        raise BadInput("no such file", file=file) from error
    except UnicodeDecodeError as error:
        raise BadInput(f"no UTF-8 text: {error}", file=file) from error


def _files(folder: Path) -> dict[str, str]:
    """Texts by path, sorted, without what running the code leaves behind.

    Hidden files are left out: tools that build packages drop them, too, and a task must not depend on that. Every
    repository gets its ``.gitignore`` with its history.
    """
    found = {}
    for file in sorted(folder.rglob("*")):
        path = file.relative_to(folder).as_posix()
        if not file.is_file() or "__pycache__" in file.parts or file.suffix == ".pyc":
            continue
        if any(part.startswith(".") for part in path.split("/")):
            continue
        if not _PATH.fullmatch(path):
            raise BadInput(f"path {path!r} has characters that a project's paths do not have", file=file)
        found[path] = _text(file)
        if found[path] and not found[path].endswith("\n"):
            raise BadInput("the last line does not end", file=file)
    if not found:
        raise BadInput("no files", file=folder)
    return found


def _tests(file: Path, path: str, text: str) -> list[str]:
    """Node ids of the tests of a file, as pytest has them."""
    try:
        module = ast.parse(text)
    except SyntaxError as error:
        raise BadInput(f"no Python: {error.msg}", file=file, line=error.lineno) from error
    found = []
    for node in module.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
            found.append(f"{path}::{node.name}")
        elif isinstance(node, ast.ClassDef) and (node.name.startswith("Test") or _is_case(node)):
            methods = (item.name for item in node.body if isinstance(item, ast.FunctionDef))
            found += [f"{path}::{node.name}::{name}" for name in methods if name.startswith("test")]
    return found


def _is_case(node: ast.ClassDef) -> bool:
    return any(ast.unparse(base).rpartition(".")[2] == "TestCase" for base in node.bases)
