"""How the tests of a SWE-bench row run: the command, the log's parser, the interpreter.

In this order: what the row says (``install_config``, ``test_cmd``, ``eval_script``, ``log_parser``), what the tests'
names say (node ids of pytest run in our own runner), what the ``swebench`` package's tables say for the row's
repository and version, and what is known here of the two projects in SWE-bench that have a runner of their own.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

from pivotgym.envs.errors import BadInput, MissingExtra

EXTRA = "swebench"
IMAGE_PYTHON = "/opt/miniconda3/envs/testbed/bin/python"
"""The interpreter of SWE-bench's, SWE-Gym's and SWE-smith's images."""
ACTIVATE = "[ ! -f /opt/miniconda3/bin/activate ] || . /opt/miniconda3/bin/activate testbed"
"""Bash source that takes an image's own environment, where it has one."""
_OWN_RUNNERS = {
    "django/django": ("./tests/runtests.py --verbosity 2 --settings=test_sqlite --parallel 1", "parse_log_django"),
    "sympy/sympy": (
        "PYTHONWARNINGS='ignore::UserWarning,ignore::SyntaxWarning' bin/test -C --verbose",
        "parse_log_sympy",
    ),
}
"""Command and parser of projects whose tests are named otherwise than pytest's, from their own documentation."""
_NO_TESTS = (".json", ".png", ".csv", ".txt", ".md", ".jpg", ".jpeg", ".pkl", ".yml", ".yaml", ".toml")
_DIFF = re.compile(r"^diff --git (?:\"?a/(?P<old>.*?)\"?) (?:\"?b/(?P<new>.*?)\"?)$", re.MULTILINE)
_START, _END = ">>>>> Start Test Output", ">>>>> End Test Output"
_PREAMBLE = ("source ", ". ", "conda ", "export ")


@dataclass(frozen=True)
class Commands:
    """How one row's tests run.

    Attributes:
        runner: ``pytest`` or ``command``, see :class:`pivotgym.envs.repo.tasks.Tests`.
        command: bash source; empty where nothing is known, and for ``pytest``.
        parser: what reads the command's log, by the name of the ``swebench`` package (``parse_log_django``).
        install: what installs the repository.
    """

    runner: str
    command: str = ""
    parser: str = ""
    install: str = ""


def commands_of(
    repo: str,
    version: str,
    row: Mapping[str, Any],
    names: Sequence[str],
    test_patch: str,
    *,
    activate: str = "",
    tables: bool = False,
) -> Commands:
    """What is known of how a row's tests run.

    Args:
        repo: ``owner/name``.
        version: of the row.
        row: its fields; those of ``install_config`` count as its own.
        names: of its tests.
        test_patch: its patch of tests; names the files to run.
        activate: bash source before each command.
        tables: install as the ``swebench`` package's tables say where the row does not. Most of that needs a network.

    Raises:
        BadInput: a field of another type.
        MissingExtra: ``tables``, and the package is not installed.
    """
    if tables:
        _tables()
    config = row.get("install_config") or {}
    said = {**config, **{key: value for key, value in row.items() if value not in (None, "", [])}}
    install = _script(said, "pre_install") + _script(said, "install")
    command = _script(said, "test_cmd") or _script(said, "test_command")
    parser = said.get("log_parser") or said.get("parser") or ""
    if not isinstance(parser, str):
        raise BadInput("no name of a parser", field="log_parser")
    spec = table(repo, version)
    if tables and not install:
        install = _script(spec, "pre_install") + _script(spec, "install")
    if all(map(is_node_id, names)) and (not command or "pytest" in " ".join(command)) and not _is_other(parser):
        return Commands("pytest", install="\n".join(install))
    before = [activate] if activate else []
    evaluation = said.get("eval_script")
    if not command and isinstance(evaluation, str) and _START in evaluation:
        return Commands("command", "\n".join(from_eval_script(evaluation)), parser, "\n".join(install))
    if not command and spec:
        before += _script(spec, "eval_commands")
        command = _script(spec, "test_cmd")
    own = _OWN_RUNNERS.get(repo, ("", ""))
    command = command or [line for line in own[:1] if line]
    if command:
        files = " ".join(map(shlex.quote, directives(repo, test_patch)))
        command = [*command[:-1], f"{command[-1]} {files}".rstrip()]
    text = "\n".join([*before, *command]) if command else ""
    return Commands("command", text, parser or parser_name(repo) or own[1], "\n".join(install))


def is_node_id(name: str) -> bool:
    """Whether a test's name is a node id of pytest."""
    return "::" in name and name.split("::", 1)[0].endswith(".py") and "\n" not in name


def _is_other(parser: str) -> bool:
    return parser in ("parse_log_django", "parse_log_sympy", "parse_log_seaborn_unittest")


def _script(said: Mapping[str, Any], key: str) -> list[str]:
    """A field that is one command or several, as lines."""
    value = said.get(key)
    if value is None or value == "":
        return []
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return list(value)
    raise BadInput("neither a command nor a list of commands", field=key)


def from_eval_script(text: str) -> list[str]:
    """The commands that run tests in a SWE-bench evaluation script: without applying patches and checking out files."""
    head, _, rest = text.partition(_START)
    inside, _, _ = rest.partition(_END)
    lines = [line for line in head.splitlines() if line.startswith(_PREAMBLE)]
    body = inside.splitlines()[1:]  # the marker's own line ends before
    return lines + [line for line in body if line.strip() and not line.lstrip().startswith((": '", ':"', ': "'))]


def paths_of(patch: str) -> list[str]:
    """Paths a unified diff changes or makes, in its order."""
    return list(dict.fromkeys(match["new"] for match in _DIFF.finditer(patch)))


def directives(repo: str, test_patch: str) -> list[str]:
    """What a project's runner is told to run: the test files that the patch changes, or Django's labels of them."""
    found = [path for path in paths_of(test_patch) if not path.endswith(_NO_TESTS)]
    if repo != "django/django":
        return found
    modules = (path.removesuffix(".py").removeprefix("tests/").replace("/", ".") for path in found)
    return list(dict.fromkeys(modules))


def test_files(names: Iterable[str], test_patch: str) -> list[str]:
    """Files that hold tests, from the patch and from names that are node ids."""
    named = (name.split("::", 1)[0] for name in names if is_node_id(name))
    return list(dict.fromkeys([*paths_of(test_patch), *named]))


# The swebench package --------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _tables() -> tuple[dict[str, Any], dict[str, Callable[..., dict[str, str]]], dict[str, str]]:
    """Specifications by repository and version, parsers by name, parsers' names by repository.

    Up to version 4 the package has all three. Since version 5 its rows name image, script and parser themselves, and
    it has the parsers only.
    """
    try:
        log_parsers = import_module("swebench.harness.log_parsers")
    except ImportError:
        raise MissingExtra("swebench", EXTRA) from None
    parsers = dict(getattr(log_parsers, "PARSER_REGISTRY", {}))
    by_repo = {repo: parse.__name__ for repo, parse in getattr(log_parsers, "MAP_REPO_TO_PARSER", {}).items()}
    parsers |= {parse.__name__: parse for parse in getattr(log_parsers, "MAP_REPO_TO_PARSER", {}).values()}
    specs = getattr(import_module("swebench.harness.constants"), "MAP_REPO_VERSION_TO_SPECS", {})
    return specs, parsers, by_repo


def table(repo: str, version: str) -> dict[str, Any]:
    """What the ``swebench`` package says of a repository's version; empty where it does not, or is not installed."""
    try:
        specs, _, _ = _tables()
    except MissingExtra:
        return {}
    versions = specs.get(repo) or specs.get(repo.lower()) or {}
    return dict(versions.get(version) or {})


def parser_name(repo: str) -> str:
    """The parser of a repository's logs by the ``swebench`` package; empty where it does not know."""
    try:
        _, _, names = _tables()
    except MissingExtra:
        return ""
    return names.get(repo, "")


def swebench_parser(name: str) -> Callable[[str], dict[str, str]]:
    """A parser of the ``swebench`` package: from a log to the status (``PASSED``, ``FAILED`` …) of each test.

    Raises:
        MissingExtra: the package is not installed.
        BadInput: it has no such parser.
    """
    _, parsers, _ = _tables()
    if name not in parsers:
        raise BadInput(f"no log parser {name!r}", field="tests.parser")
    parse = parsers[name]

    def read(log: str) -> dict[str, str]:
        return dict(parse(log, None))

    return read
