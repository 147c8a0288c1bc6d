"""Which modules of a repository its tests use, read from their text: those that help tests stay as they were."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from pivotgym.envs.repo.rules import Rules, may_help
from pivotgym.envs.sandbox import Sandbox, SandboxFileError

_MOST = 400
"""Modules that are looked at."""
_FROM = re.compile(r"^[ \t]*from[ \t]+(\.*)([\w.]*)[ \t]+import[ \t]*(\([^)]*\)|[^\n#]*)", re.MULTILINE)
_IMPORT = re.compile(r"^[ \t]*import[ \t]+([^\n#;]+)", re.MULTILINE)
_CHAIN = re.compile(r"\b[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
_CHAIN_OR_NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
_BASES = re.compile(r"^[ \t]*class[ \t]+\w+[ \t]*\(([^)]*)\)", re.MULTILINE)
_AS = re.compile(r"([\w.]+)(?:\s+as\s+(\w+))?")
_HOLDS_TESTS = re.compile(r"^[ \t]*(async[ \t]+)?def[ \t]+test", re.MULTILINE)


def refined(
    rules: Rules, box: Sandbox, root: str, paths: Mapping[str, bool], texts: Sequence[Mapping[str, str]]
) -> Rules:
    """The rules with what the repository says of paths that look like tests' own or like build output.

    Args:
        rules: of the task.
        box: where the repository is as it was.
        root: its folder there.
        paths: what is asked about, and whether it was there.
        texts: of the test files that come from outside, by path; several for one path are all read.
    """
    reached = _reached(rules, box, root, texts)
    sources = {path for path, existed in paths.items() if path not in reached and _is_source(box, root, path, existed)}
    return replace(rules, helpers=reached, sources=frozenset(sources))


def patched_texts(diff: str) -> dict[str, str]:
    """What a diff brings or leaves of each file, without the rest: enough to see imports in it."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in diff.splitlines():
        if line.startswith("+++ "):
            name = line[4:].split("\t")[0].strip().strip('"')
            lines = found.setdefault(posixpath.normpath(name.removeprefix("b/")), [])
        elif line[:1] in ("+", " "):
            lines.append(line[1:])
    return {path: "\n".join(lines) for path, lines in found.items()}


def modules_named(text: str, path: str) -> set[str]:
    """Modules that a file's text names: imports, and dotted names of what it imported, as paths without suffix.

    Args:
        text: of a Python file, or a part of it.
        path: where it is, for relative imports. Those come out below its folder, others as if the root were there.
    """
    found, known = _imports(text, path)
    for chain in _CHAIN.findall(text):
        first, _, rest = chain.partition(".")
        found.add(f"{known.get(first, first)}/{rest.replace('.', '/')}")
    return found


def inherited(texts: Mapping[str, str], read: Callable[[str], str | None]) -> dict[str, str]:
    """Modules that hold tests which classes of test files inherit, with their texts.

    Args:
        texts: of the test files, by path.
        read: the text of a file of the repository, None where there is none.
    """
    found, waiting, tried = dict[str, str](), [*texts.items()], {*texts}
    while waiting and len(tried) < _MOST:
        path, text = waiting.pop()
        known, named = _imports(text, path)[1], set[str]()
        for chain in _CHAIN_OR_NAME.findall(" ".join(_BASES.findall(text))):
            first, _, rest = chain.partition(".")
            if first in known:
                named.add(posixpath.dirname(f"{known[first]}/{rest.replace('.', '/')}".rstrip("/")))
                named.add(known[first])
        above = {"/".join(path.split("/")[:depth]) for depth in range(path.count("/") + 1)}
        for place in _places(named - {"", "unittest", "unittest/TestCase"}, sorted(above | {"", "src", "lib"})):
            inner = None if place in tried else read(place)
            tried.add(place)
            if inner is not None:
                waiting.append((place, inner))
                if _HOLDS_TESTS.search(inner):
                    found[place] = inner
    return found


def _imports(text: str, path: str) -> tuple[set[str], dict[str, str]]:
    """The modules that a text imports, and what its names stand for."""
    found, known = set[str](), dict[str, str]()
    for match in _FROM.finditer(text):
        dots, module, names = match.groups()
        start = module.replace(".", "/")
        if dots:
            above = posixpath.dirname(path)
            for _ in dots[1:]:
                above = posixpath.dirname(above)
            # A leading slash tells it from what is looked for on the module path.
            start = f"/{above}/{start}" if start else f"/{above}"
        for name, alias in _AS.findall(names):
            known[alias or name] = f"{start}/{name}"
            found.add(f"{start}/{name}")
        found.add(start)
    for match in _IMPORT.finditer(text):
        for name, alias in _AS.findall(match[1]):
            found.add(name.replace(".", "/"))
            known[alias or name.split(".")[0]] = (name if alias else name.split(".")[0]).replace(".", "/")
    return found, known


def _reached(rules: Rules, box: Sandbox, root: str, texts: Sequence[Mapping[str, str]]) -> frozenset[str]:
    """Modules that look like helpers and that the tests, or helpers of theirs, name."""
    waiting = [(path, text) for group in texts for path, text in group.items() if path.endswith(".py")]
    given = {path for path, _ in waiting}
    above = {"/".join(path.split("/")[:depth]) for path in rules.brought for depth in range(path.count("/") + 1)}
    kept = [path for path in rules.brought if path.endswith(".py")]
    for path in sorted({*kept, *(posixpath.join(folder, "conftest.py") for folder in above)}):
        text = _text(box, root, path)
        if text is not None:
            waiting.append((path, text))
    bases = sorted(above | {"", "src", "lib"})
    there = {name for name, entry in box.tree(root, max_entries=1_000_000).items() if entry.kind == "file"}
    tried, reached = set[str](), set[str]()
    while waiting and len(tried) < _MOST:
        path, text = waiting.pop()
        for place in _places(modules_named(text, path), bases):
            if place in tried or place not in there or not may_help(place):
                continue
            tried.add(place)
            inner = _text(box, root, place)
            if inner is not None and place not in rules.reference:
                reached.add(place)
                waiting.append((place, inner))
    return frozenset(reached - given - rules.brought)


def _places(modules: Iterable[str], bases: Sequence[str]) -> Iterator[str]:
    """Files that may hold the modules or the packages above them."""
    stems = set()
    for module in modules:
        parts = module.strip("/").split("/")
        at = [""] if module.startswith("/") else bases
        stems |= {posixpath.join(base, *parts[:end]) for base in at for end in range(1, len(parts) + 1)}
    for stem in sorted(stems):
        yield f"{stem}.py"
        yield f"{stem}/__init__.py"


def _is_source(box: Sandbox, root: str, path: str, existed: bool) -> bool:
    """Whether a path is neither a test nor build output, whatever its name."""
    top, _, inner = path.partition("/")
    if inner and top in ("env", "venv", "build", "dist"):
        if any(_text(box, root, f"{top}/{name}") is not None for name in ("pyvenv.cfg", "conda-meta/history")):
            return False
        return existed or _text(box, root, f"{top}/__init__.py") is not None
    text = _text(box, root, path) if existed else None
    return text is not None and _HOLDS_TESTS.search(text) is None


def _text(box: Sandbox, root: str, path: str) -> str | None:
    try:
        return box.read_file(f"{root}/{path}", max_bytes=4 << 20).decode("utf-8", "replace")
    except SandboxFileError:
        return None
