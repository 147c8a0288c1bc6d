"""Which paths of a repository an agent's change may not bring, because they decide how its tests run.

Everything here is about names and kinds; what a file says is the test runner's business. What is left out stays as it
was before the agent came, so leaving out too much costs an agent at most an edit that no solution needs.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

_GIT = "version control's own data"
_COMPILED = "compiled code or build output"
_CONFIGURES = "configures the test run"
_STARTS = "runs when Python starts"
_INSTALLS = "metadata of an installed package"
_ENVIRONMENT = "an environment or a cache of tools"
TEST = "a test file: tests are brought from outside"
"""Why a path stays that is one of the tests'."""
_BROUGHT = "brought with the tests"
HELPER = "what tests use or compare with: it stays as it was"
"""Why a path stays that is no test, but has a part in what the tests say."""
HARMLESS = frozenset((TEST, _COMPILED))
"""Reasons for leaving out what working in a repository leaves behind, or more tests."""

_PARTS = (
    (re.compile(r"\.git|\.hg|\.svn"), _GIT),
    (re.compile(r"__pycache__|\.eggs|.*\.(pyc|pyo|egg)"), _COMPILED),
    (re.compile(r"conftest\.py|\.?pytest\.(ini|toml)|tox\.ini|setup\.cfg|pyproject\.toml|\.coveragerc"), _CONFIGURES),
    (re.compile(r"(site|user)customize(\.py)?|.*\.pth|pyvenv\.cfg"), _STARTS),
    (re.compile(r".*\.(egg-info|dist-info|egg-link)"), _INSTALLS),
    (
        re.compile(r"\.(venv|tox|nox|(mypy|pytest|ruff)_cache|hypothesis)|node_modules|(site|dist)-packages"),
        _ENVIRONMENT,
    ),
)
"""Names that no part of a path may have, whatever their case."""
_BUILT = re.compile(r".*\.(so|pyd|o|a|dll|dylib)(\.\d+)*")
"""What a build that the task names itself may make."""
TOOLS_OF_TESTS = re.compile(
    r"_?pytest(_\w+)?|py|pluggy|iniconfig|packaging|pygments|tomli|exceptiongroup|typing_extensions|colorama|unittest2"
    r"|xdist|_?hypothesis(_\w+)?|mock|nose"
)
"""Modules that run tests or help them, beside the standard library's."""
_TEST_FILE = re.compile(r"test_.*\.py|.*_tests?\.py|tests?\.py")
_TEST_FOLDERS = frozenset(("test", "tests", "testing", "testsuite", "testsuites", "unittests"))
"""Whatever their case."""
_HELPING = re.compile(
    r"_*(unit)?test(s|ing|suites?|utils?|ers?|helpers?|lib|cases?|base|support|tools?|common)?(_.*)?"
    r"|.*_test(s|ing|utils?)?"
)
"""Folders and modules that may help tests, where tests do use them."""
_DATA = re.compile(r"tests?[_-]?(data|files?|resources?|fixtures?|inputs?|outputs?|assets|vectors|images|expected)")
_DATA_BUT_CODE = re.compile(r"fixtures|goldens?|(__)?snapshots(__)?|cassettes")
"""Folders of what tests compare with; the latter may also be packages."""
_OFTEN_BUILT = frozenset(("build", "dist", "env", "venv"))
"""Folders at the top that are mostly not the sources."""
_IMPORTABLE = re.compile(r"([A-Za-z_]\w*)(?:\.(?:py|pyi|pyc|pyd|so|[\w-]+\.so|[\w-]+\.pyd))?")


@dataclass(frozen=True)
class Rules:
    """What stays as it was, for one task.

    Attributes:
        brought: paths that the tests bring (files, both sides of a patch, what the tests' names name).
        folders: folders of tests, with all that is in them.
        artefacts: compiled extensions may come, because the task's own build made them.
        reference: what the task's own solution changes; that is no test, whatever it is called.
        helpers: modules of the repository that the tests use and that look like tests' own.
        sources: paths that look like tests or like build output, and are not.
    """

    brought: frozenset[str]
    folders: frozenset[str]
    artefacts: bool = False
    reference: frozenset[str] = frozenset()
    helpers: frozenset[str] = frozenset()
    sources: frozenset[str] = frozenset()

    @classmethod
    def of(cls, tests: Iterable[str], *, artefacts: bool = False, reference: Iterable[str] = ()) -> Rules:
        """From the paths of the tests, relative to the repository."""
        brought = frozenset(str(PurePosixPath(path)) for path in tests)
        folders = set()
        for path in brought:
            parts = path.split("/")
            depth = next((at for at, part in enumerate(parts[:-1]) if part.lower() in _TEST_FOLDERS), None)
            if depth is not None:
                folders.add("/".join(parts[: depth + 1]))
        return cls(brought, frozenset(folders), artefacts, frozenset(reference))

    def refusal(self, path: str, *, existed: bool = False) -> tuple[str, str] | None:
        """What of a path (relative, ``/`` between its parts) may not change, and why; None where it may.

        The first is the path, or the folder above it that nothing may come below. ``existed``: something stood there
        before.
        """
        parts = path.split("/")
        for depth, part in enumerate(parts):
            for pattern, reason in _PARTS:
                if pattern.fullmatch(part.lower()):
                    return "/".join(parts[: depth + 1]), reason
        why = self._reason(path, parts, existed)
        return None if why is None else (path, why)

    def asks(self, path: str, *, existed: bool) -> bool:
        """Whether it takes a look at the repository to say if a path may change."""
        *folders, name = path.split("/")
        if not name.endswith(".py") or path in self.reference or self._of_tests(path):
            return False
        if folders and folders[0] in _OFTEN_BUILT:
            return True
        return existed and may_help(path)

    def _of_tests(self, path: str) -> bool:
        return path in self.brought or any(path == folder or path.startswith(f"{folder}/") for folder in self.folders)

    def _reason(self, path: str, parts: list[str], existed: bool) -> str | None:
        name = parts[-1].lower()
        if _BUILT.fullmatch(name) and not self.artefacts:
            return _COMPILED
        if path in self.brought:
            return _BROUGHT
        if path in self.reference:
            return None
        if self._of_tests(path):
            return TEST
        if any(other.startswith(f"{path}/") for other in (*self.brought, *self.folders)):
            return TEST  # a file or link where a folder of tests stands
        if path in self.helpers or (existed and _holds_data(parts)):
            return HELPER
        if path in self.sources:
            return None
        if _TEST_FILE.fullmatch(name):
            return TEST
        if parts[0] in _OFTEN_BUILT and parts[0].endswith("env") and len(parts) > 1:
            return _ENVIRONMENT
        if parts[0] in _OFTEN_BUILT and not parts[0].endswith("env") and not self.artefacts:
            return _COMPILED
        return None

    def import_roots(self) -> set[str]:
        """Folders, relative, ``""`` for the repository, that stand on the module path while its tests run."""
        above = {path.rpartition("/")[0] for path in self.brought}
        return {"", "src", "lib", *above}


def modules_of(path: str, roots: Iterable[str], *, link: bool = False) -> set[tuple[str, str]]:
    """The top-level modules that exist once ``path`` does, each as (import root, name).

    Args:
        path: of a file, relative to the repository.
        roots: folders on the module path.
        link: it is a link, which may stand for a folder.
    """
    found = set()
    for root in roots:
        if root and not path.startswith(f"{root}/"):
            continue
        first, _, rest = path[len(root) + 1 if root else 0 :].partition("/")
        match = _IMPORTABLE.fullmatch(first)
        if match is None:
            continue
        is_file = "." in first and not rest
        is_package = "." not in first and (re.fullmatch(r"__init__\.[\w.-]+", rest) is not None or (link and not rest))
        if is_file or is_package:
            found.add((root, match[1]))
    return found


def is_test_path(path: str) -> bool:
    """Whether a path looks like one of a test; doctests also have names, in files that are no tests."""
    *folders, name = path.split("/")
    return _TEST_FILE.fullmatch(name) is not None or any(folder.lower() in _TEST_FOLDERS for folder in folders)


def _holds_data(parts: list[str]) -> bool:
    code = parts[-1].endswith(".py")
    return any(_DATA.fullmatch(part) or (not code and _DATA_BUT_CODE.fullmatch(part)) for part in map(str.lower, parts))


def may_help(path: str) -> bool:
    """Whether a module's path says that it may be there for tests."""
    parts = path.lower().removesuffix(".py").split("/")
    return any(_HELPING.fullmatch(part) for part in parts)


def is_known_module(name: str) -> bool:
    """Whether a module of that name belongs to Python or to what runs tests."""
    return name in sys.stdlib_module_names or TOOLS_OF_TESTS.fullmatch(name) is not None


def leads_outside(path: str, target: str) -> bool:
    """Whether a link at ``path`` (relative to the repository) may lead out of it, or to version control's data."""
    if target.startswith("/") or "\0" in target:
        return True
    parts = [part for part in target.split("/") if part not in ("", ".")]
    down = [part for part in parts if part != ".."]
    ups = len(parts) - len(down)
    if parts[:ups] != [".."] * ups:  # up again after going down: another link may make more of it
        return True
    return ups > path.count("/") or ".git" in down
