"""The history that a bundled repository gets: files come module by module, over weeks, from a few people.

Written as a stream for ``git fast-import``: object ids depend on nothing but the stream, so one seed gives one history
whatever git and zlib make it. Only what the repository holds at the end is in it, or held without its last parts.
"""

from __future__ import annotations

import ast
import posixpath
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

BRANCH = "main"
IGNORED = "__pycache__/\n*.pyc\n.pytest_cache/\n"
"""``.gitignore`` of every repository."""

_PEOPLE = (
    "Alba Ferrer",
    "Bruno Kessler",
    "Chiara Longo",
    "Dario Petrov",
    "Elena Marsh",
    "Fabio Quint",
    "Greta Holm",
    "Henri Dupuis",
    "Ines Tavares",
    "Jonas Weber",
    "Karla Nowak",
    "Leon Ashby",
)
_STYLES: dict[str, tuple[str, str, str, str, str, str]] = {
    # start, module, part of a module, tests, prose, the rest
    "plain": ("Start the project", "Add {what}", "Add {what}", "Add tests for {what}", "Write {what}", "Add {what}"),
    "typed": (
        "chore: project skeleton",
        "feat: {what}",
        "feat: {what}",
        "test: {what}",
        "docs: {what}",
        "chore: {what}",
    ),
    "past": (
        "Initial commit",
        "Added {what}",
        "Implemented {what}",
        "Tested {what}",
        "Documented {what}",
        "Added {what}",
    ),
    "short": ("first commit", "{what}", "{what}: first version", "tests: {what}", "docs: {what}", "misc: {what}"),
}
_START, _MODULE, _PART, _TESTS, _PROSE, _REST = range(6)
_PROSE_SUFFIXES = (".md", ".rst", ".txt")


@dataclass
class Step:
    """Files that come, or change, together.

    Attributes:
        what: for the message.
        form: which message of a style.
        files: whole texts by path.
    """

    what: str
    form: int
    files: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class History:
    """A history.

    Attributes:
        stream: what ``git fast-import`` reads.
        commits: how many.
        author: name and address of the last one, whose machine the agent sits at.
        when: of the last commit.
    """

    stream: str
    commits: int
    author: tuple[str, str]
    when: datetime


def make_history(files: Mapping[str, str], rng: random.Random) -> History:
    """Four to eight commits that end with ``files``; everything else about them is drawn."""
    steps = _merged(_steps(files, rng), rng.randrange(4, 9))
    people = rng.sample(_PEOPLE, rng.randrange(1, 4))
    domain = rng.choice(("example.org", "example.com", "example.net"))
    style = _STYLES[rng.choice(sorted(_STYLES))]
    zone = rng.choice(("+0000", "+0100", "+0200", "-0500"))
    when = datetime(2023, 1, 2, 8, tzinfo=UTC) + timedelta(minutes=rng.randrange(400 * 24 * 60))
    parts: list[str] = []
    author = (people[0], _address(people[0], domain))
    for number, step in enumerate(steps):
        if number:
            author = (name := rng.choice(people), _address(name, domain))
            when += timedelta(minutes=rng.randrange(20, 9 * 24 * 60), seconds=rng.randrange(60))
        stamp = f"{author[0]} <{author[1]}> {int(when.timestamp())} {zone}"
        parts.append(f"commit refs/heads/{BRANCH}\nauthor {stamp}\ncommitter {stamp}\n")
        parts.append(_data(style[step.form].format(what=step.what) + "\n"))
        for path, text in sorted(step.files.items()):
            parts.append(f"M 100644 inline {path}\n{_data(text)}")
        parts.append("\n")
    return History("".join(parts), len(steps), author, when)


def _steps(files: Mapping[str, str], rng: random.Random) -> list[Step]:
    """As finely as it makes sense, in an order in which a person could have worked."""
    modules = [path for path in files if path.endswith(".py") and not _is_test(path)]
    tests = [path for path in files if _is_test(path)]
    prose = [path for path in files if path not in tests and path.endswith(_PROSE_SUFFIXES)]
    rest = [path for path in files if path not in modules and path not in tests and path not in prose]
    start = Step("", _START, {".gitignore": IGNORED})
    for path in rest:
        if "/" not in path:
            start.files[path] = files[path]
    readme = next((path for path in prose if path.lower().startswith("readme")), None)
    if readme is not None:
        start.files[readme] = _opening(files[readme])
    steps = [start]
    late: list[Step] = []
    for path in _in_order(modules, files):
        cut = _cut(files[path]) if rng.random() < 0.5 else None
        if cut is None:
            steps.append(Step(_module_name(path), _MODULE, {path: files[path]}))
        else:
            text, name = cut
            steps.append(Step(_module_name(path), _MODULE, {path: text}))
            late.append(Step(name, _PART, {path: files[path]}))
    folders = sorted({posixpath.dirname(path) for path in rest if "/" in path})
    steps += [
        Step(folder, _REST, {path: files[path] for path in rest if posixpath.dirname(path) == folder})
        for folder in folders
    ]
    rng.shuffle(late)
    helpers = {path: files[path] for path in tests if not posixpath.basename(path).startswith("test")}
    late += [Step(_tested(path), _TESTS, {path: files[path]}) for path in tests if path not in helpers]
    if late:
        late[-1].files.update(helpers)
    for path in prose:
        if start.files.get(path) != files[path]:
            late.append(Step(posixpath.basename(path), _PROSE, {path: files[path]}))
    return steps + late


def _merged(steps: Sequence[Step], count: int) -> list[Step]:
    """At most ``count`` steps: neighbours are put together, those that fit best first, the first stays alone."""
    steps = list(steps)
    while len(steps) > count:
        pairs = range(1, len(steps) - 1)
        at = min(pairs, key=lambda i: (_size(steps[i]) + _size(steps[i + 1]), i))
        one, two = steps[at], steps[at + 1]
        # The message speaks of the first, or of both where they are of one sort.
        names = [*one.what.split(", "), *two.what.split(", ")]
        what = ", ".join(dict.fromkeys(names)) if one.form == two.form and len(names) <= 3 else one.what
        steps[at : at + 2] = [Step(what, one.form, {**one.files, **two.files})]
    return steps


def _size(step: Step) -> int:
    return sum(map(len, step.files.values()))


def _in_order(modules: Sequence[str], files: Mapping[str, str]) -> list[str]:
    """Modules after those that they import."""
    names = {path.removesuffix(".py").replace("/", "."): path for path in modules}
    names |= {name.removesuffix(".__init__"): path for name, path in names.items() if name.endswith(".__init__")}
    found: dict[str, None] = {}
    open_: set[str] = set()

    def visit(path: str) -> None:
        if path in found or path in open_:
            return
        open_.add(path)
        package = posixpath.dirname(path).replace("/", ".")
        for name in _imports(files[path], package):
            # `from a import b`: b is a module, or something in a.
            target = names.get(name) or names.get(name.rpartition(".")[0])
            if target is not None:
                visit(target)
        open_.discard(path)
        found[path] = None

    for path in sorted(modules):
        visit(path)
    return list(found)


def _imports(text: str, package: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([base] if base else [])])
            found += [f"{base}.{alias.name}" for alias in node.names]
    return found


def _cut(text: str) -> tuple[str, str] | None:
    """A module as it was before its last function or class was written, and that one's name."""
    module = ast.parse(text)
    defined = [node for node in module.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    if len(defined) < 3 or module.body[-1] is not defined[-1]:
        return None
    last = defined[-1]
    first_line = min([last.lineno, *(decorator.lineno for decorator in last.decorator_list)])
    kept = "".join(text.splitlines(keepends=True)[: first_line - 1]).rstrip() + "\n"
    # A comment right above belongs to what is cut.
    lines = kept.splitlines()
    while lines and (not lines[-1].strip() or lines[-1].startswith("#")):
        lines.pop()
    return "\n".join(lines) + "\n", last.name.strip("_")


def _opening(text: str) -> str:
    """Title and first paragraph of a README."""
    return "\n\n".join(text.split("\n\n")[:2]).rstrip() + "\n"


def _is_test(path: str) -> bool:
    return path.startswith("tests/") or posixpath.basename(path).startswith("test_")


def _module_name(path: str) -> str:
    name = posixpath.basename(path).removesuffix(".py")
    return f"{posixpath.basename(posixpath.dirname(path))} package" if name == "__init__" else name.strip("_")


def _tested(path: str) -> str:
    return posixpath.basename(path).removesuffix(".py").removeprefix("test_")


def _address(name: str, domain: str) -> str:
    return f"{name.split()[0].lower()}@{domain}"


def _data(text: str) -> str:
    return f"data {len(text.encode())}\n{text}\n"
