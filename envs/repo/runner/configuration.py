"""The arguments of pytest: a project's own configuration, without what would run its tests another way."""

from __future__ import annotations

import configparser
import shlex
import tomllib
from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

_CONFIGS = (
    ("pytest.toml", "pytest"),
    (".pytest.toml", "pytest"),
    ("pytest.ini", "pytest"),
    (".pytest.ini", "pytest"),
    ("pyproject.toml", "tool.pytest"),
    ("pyproject.toml", "tool.pytest.ini_options"),
    ("tox.ini", "pytest"),
    ("setup.cfg", "tool:pytest"),
)
"""Files and their sections, in pytest's order; those before pytest 9 pass over the first two and ``tool.pytest``."""
_OWN_WAY = frozenset((
    "--numprocesses", "--maxprocesses", "--max-worker-restart", "--dist", "--tx", "--px", "--rsyncdir", "--loadscope",
    "--looponfail", "--boxed", "--forked", "--testrunuid", "--exitfirst", "--maxfail", "--last-failed", "--lf",
    "--failed-first", "--ff", "--new-first", "--nf", "--last-failed-no-failures", "--lfnf", "--stepwise", "--sw",
    "--stepwise-skip", "--sw-skip", "--stepwise-reset", "--sw-reset", "--cache-show", "--cache-clear", "--pdb",
    "--pdbcls", "--trace", "--collect-only", "--co", "--setup-only", "--setup-plan", "--fixtures", "--funcargs",
    "--fixtures-per-test", "--markers", "--help", "--version", "--debug", "--pastebin", "--basetemp", "--log-file",
    "--rootdir", "--config-file", "--confcutdir", "--strict-config",
))  # fmt: skip
"""Options that would run tests elsewhere, stop early, choose among them, or write reports."""
_OWN_FAMILIES = ("--cov", "--no-cov", "--junit", "--html", "--self-contained-html", "--reruns", "--only-rerun",
                 "--rerun-except", "--max-runs", "--min-passes", "--force-flaky", "--no-flaky", "--report-log",
                 "--json-report", "--md-report")  # fmt: skip
"""The same, by how they begin."""
_VALUES = frozenset((
    "--numprocesses", "--maxprocesses", "--max-worker-restart", "--dist", "--tx", "--px", "--rsyncdir", "--testrunuid",
    "--maxfail", "--last-failed-no-failures", "--lfnf", "--pdbcls", "--pastebin", "--basetemp", "--log-file",
    "--rootdir", "--config-file", "--confcutdir", "--cov-report", "--cov-config", "--cov-fail-under", "--cov-context",
    "--junitxml", "--junit-xml", "--junitprefix", "--junit-prefix", "--html", "--reruns", "--reruns-delay",
    "--only-rerun", "--rerun-except", "--max-runs", "--min-passes", "--report-log", "--json-report-file", "--cov",
    "--md-report-output", "--debug",
))  # fmt: skip
"""Of those, the ones whose value may be a word of its own."""
_SHORT_OWN = frozenset("xsfdhVnc")
_SHORT_VALUES = frozenset("kmcrpoWn")
_REPEATING = ("rerunfailures", "flaky")
"""Plug-ins that run a failed test again: a twin's planted error would count as an accident."""


@dataclass(frozen=True)
class Configuration:
    """Which file configures pytest, and what of it the arguments repeat."""

    path: str
    addopts: str = ""
    markers: tuple[str, ...] = ()


def arguments(
    read: Callable[[str], str | None], root: str, changed: Collection[str], sources: Iterable[str]
) -> list[str]:
    """Arguments of pytest: the project's own configuration unless the agent changed it, the rest ours.

    Args:
        read: the text of a file below ``root``, None where there is none.
        root: the repository.
        changed: paths of the agent's files.
        sources: texts of the test files.
    """
    found = configuration(read, changed)
    chosen = "/dev/null" if found is None else f"{root}/{found.path}"
    made = ["--continue-on-collection-errors", "--tb=line", "--rootdir", root, "-c", chosen]
    # An empty cache outside of the repository; without its plug-in, options and settings of it would be unknown.
    made += ["-o", "cache_dir=$TMPDIR/cache", "-o", "strict_config=false"]
    for name in _REPEATING:
        made += ["-p", f"no:{name}"]
    if found is not None and (options := kept(found.addopts)) != found.addopts.split():
        made += ["-o", "addopts=" + " ".join(shlex.quote(word) for word in options)]
    if any("flaky" in text for text in sources):
        # The mark of a plug-in that is not there now.
        markers = (*(found.markers if found is not None else ()), "flaky(*args, **kwargs): may fail")
        made += ["-o", "markers=" + "\n".join(markers)]
    return [*made, "--maxfail=0"]


def configuration(read: Callable[[str], str | None], changed: Collection[str]) -> Configuration | None:
    """What configures pytest among the files that are not the agent's."""
    for name, section in _CONFIGS:
        text = None if name in changed else read(name)
        table = None if text is None else _table(name, section, text)
        if table is not None:
            return Configuration(name, _options(table.get("addopts", "")), _lines(table.get("markers", "")))
    return None


def _table(name: str, section: str, text: str) -> dict[str, Any] | None:
    """The section of a configuration file, None where it does not configure pytest."""
    try:
        if name.endswith(".toml"):
            table: Any = tomllib.loads(text)
            for key in section.split("."):
                table = table.get(key, {})
            table = {key: value for key, value in table.items() if section != "tool.pytest" or key != "ini_options"}
            return table or ({} if name.endswith("pytest.toml") else None)
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        parser.read_string(text)
    except (configparser.Error, tomllib.TOMLDecodeError, AttributeError):
        return None
    if section in parser:
        return dict(parser[section])
    # pytest takes an empty pytest.ini too.
    return {} if name.endswith("pytest.ini") else None


def _options(value: Any) -> str:
    return " ".join(shlex.quote(str(word)) for word in value) if isinstance(value, list) else str(value)


def _lines(value: Any) -> tuple[str, ...]:
    lines = [str(line) for line in value] if isinstance(value, list) else str(value).splitlines()
    return tuple(line.strip() for line in lines if line.strip())


def kept(options: str) -> list[str]:
    """The words of ``addopts`` that may stay."""
    try:
        words = deque(shlex.split(options, comments=True))
    except ValueError:
        return []
    found: list[str] = []
    while words:
        word = words.popleft()
        if word.startswith("--"):
            head, equals, _ = word.partition("=")
            if head not in _OWN_WAY and not head.startswith(_OWN_FAMILIES):
                found.append(word)
            elif head in _VALUES and not equals and words and not words[0].startswith("-"):
                words.popleft()
        elif word.startswith("-") and len(word) > 1:
            found += _cluster(word, words)
        else:
            found.append(word)
    return found


def _cluster(word: str, rest: deque[str]) -> list[str]:
    """What stays of short options that stand in one word (``-vxk name``)."""
    flags = ""
    for at, letter in enumerate(word[1:], 1):
        if letter not in _SHORT_VALUES:
            flags += "" if letter in _SHORT_OWN else letter
            continue
        value = [] if word[at + 1 :] or not rest else [rest.popleft()]
        if letter not in _SHORT_OWN:
            return [f"-{flags}{word[at:]}", *value]
        break
    return [f"-{flags}"] if flags else []
