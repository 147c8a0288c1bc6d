"""Errors planted in test files for tests that a task's own command runs: a second run has to tell them.

The command's log is all there is to judge by, and code under test can print what it likes into it. So the command runs
twice. In the one run every test of the files that come from outside fails at its start, in the other none does; the
files look the same but for numbers. A test that a log calls passed both times did not run, or somebody else wrote the
log. The runner for pytest does much more, see :mod:`pivotgym.envs.repo.runner`.
"""

from __future__ import annotations

import ast
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

_PRIME = (1 << 61) - 1


@dataclass(frozen=True)
class Planted:
    """Test files with planted errors.

    Attributes:
        files: their texts by path.
        tests: what stands in them: path and function, and path and first line of its documentation, by which some
            runners name tests.
    """

    files: dict[str, str] = field(default_factory=dict)
    tests: set[tuple[str, str]] = field(default_factory=set)

    def holds(self, name: str) -> bool:
        """Whether a test's name (of pytest, of unittest, or a bare one) means one that has an error planted."""
        path, _, inside = name.rpartition("::")
        if path:
            return (path.partition("::")[0], inside.partition("[")[0]) in self.tests
        match = re.fullmatch(r"(\w+) \(([\w.]+)\)", name)
        if match is None:
            return any(name == known for _, known in self.tests)
        parts = match[2].split(".")  # module, class and, since Python 3.11, function
        module = next(
            (f"{'/'.join(parts[:end])}.py" for end in range(len(parts), 0, -1) if self._file(parts[:end])), ""
        )
        return bool(module) and any(path.endswith(module) and known == match[1] for path, known in self.tests)

    def _file(self, parts: list[str]) -> bool:
        wanted = f"/{'/'.join(parts)}.py"
        return any(f"/{path}".endswith(wanted) for path in self.files)


def plant(files: Mapping[str, str], *, wrong: bool) -> Planted:
    """Plants an error at the start of every test function.

    Args:
        files: texts of Python files by path; what cannot be parsed stays as it is.
        wrong: whether the errors are raised.
    """
    texts: dict[str, str] = {}
    tests: set[tuple[str, str]] = set()
    for path, text in files.items():
        texts[path], found = _planted(text, wrong)
        tests |= {(path, name) for name in found}
    return Planted(texts, tests)


def _planted(text: str, wrong: bool) -> tuple[str, set[str]]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return text, set()
    lines, names, places = re.split(r"(?<=\n)", text), set[str](), list[tuple[int, str]]()
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or not node.name.startswith("test"):
            continue
        said = ast.get_docstring(node)
        body = node.body[1:] if said is not None else node.body
        if not body:
            continue
        at = min([body[0].lineno, *(item.lineno for item in getattr(body[0], "decorator_list", ()))])
        space = lines[at - 1][: body[0].col_offset]
        if at <= node.lineno or space.strip():
            continue  # it begins on another statement's line
        places.append((at, space))
        names |= {node.name, *(said or "").strip().splitlines()[:1]}
    for at, space in sorted(places, reverse=True):
        base, power = (secrets.randbelow(_PRIME - 3) + 2 for _ in range(2))
        right = pow(base, power, _PRIME)
        value = right if wrong else (right + 1 + secrets.randbelow(_PRIME - 2)) % _PRIME
        lines.insert(at - 1, f"{space}if pow({base}, {power}, {_PRIME}) == {value}: raise AssertionError\n")
    return "".join(lines), names
