"""Puts the runner into a sandbox, starts it, and reads its report."""

from __future__ import annotations

import ast
import hashlib
import hmac
import io
import json
import secrets
import shlex
import tarfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import PurePosixPath
from typing import Any

from pivotgym.envs.errors import BadInput
from pivotgym.envs.repo.helpers import inherited
from pivotgym.envs.repo.runner import belief, configuration
from pivotgym.envs.repo.runner.allowances import allowances
from pivotgym.envs.repo.runner.inside.planting import Planter
from pivotgym.envs.repo.runner.results import Report, TestResult
from pivotgym.envs.repo.runner.toolkit import INSTALL, toolkit_archive
from pivotgym.envs.repo.tasks import Tests
from pivotgym.envs.sandbox.base import Sandbox, SandboxError, SandboxFileError

TWINS = 3
"""Most twins of one run: each plants its errors from another assertion on."""
_NO_PYTEST = 41
_GIVEN_UP = {3: "pytest had an internal error", 4: "pytest cannot be used in this way"}
_INSIDE = resources.files(__package__).joinpath("inside")
_SOURCES = tuple(sorted(item.name for item in _INSIDE.iterdir() if item.name.endswith(".py")))


def run_tests(
    box: Sandbox,
    *,
    root: str,
    tests: Tests,
    names: Sequence[str],
    changed: Sequence[str],
    original: Mapping[str, str] | None = None,
    twins: int = TWINS,
) -> Report:
    """Runs ``names`` and their twins.

    Args:
        box: a fresh fork of the task's state with the agent's files in it; it is used up. Its user is root.
        root: the repository's folder there.
        tests: ``files`` are written here (test modules as empty files, their text stays in memory); ``patch`` is not
            read, the caller has put its result into ``files``. ``python`` and ``timeout`` count too.
        names: node ids of pytest from ``root``; the name of a file, a class or a parametrized test means all in it.
        changed: paths from ``root`` of every file that the agent added or changed.
        original: text of changed files before, by path. Code that looked at frames or at ``/proc`` before may go on
            doing so. Without it git is asked for what ``HEAD`` has.
        twins: how many, at least 1.

    Raises:
        BadInput: the sandbox's user is not root, or a file of tests cannot be read or planted there.
        SandboxError: the sandbox broke, or the runner did not start.
    """
    if box.config.user not in ("root", 0):
        raise BadInput(f"the test runner needs a sandbox whose user is root, not {box.config.user!r}", field="user")
    begun = time.monotonic()
    folder = f"/var/lib/pivotgym-{secrets.token_hex(8)}"
    files = {_normal(path): text for path, text in tests.files.items()}
    theirs = {_normal(path) for path in changed} - set(files)
    violations = _unhook(box, root, sorted(theirs))
    named = {name.split("::")[0] for name in names}
    # Test modules are empty files, so that pytest finds them; their text stays in memory. What is no Python is data.
    sources = {path: text for path, text in files.items() if path.endswith(".py") and (path in named or _parsed(text))}
    upload = {f"{root}/{path}": (b"" if path in sources else text.encode(), 0o644) for path, text in files.items()}
    wanted = list(dict.fromkeys(names))
    paths = list(dict.fromkeys(name.split("::")[0] for name in wanted))
    there = []
    for path in paths:
        text = files.get(path)
        if text is None:
            text = _read(box, f"{root}/{path}")
            if text is not None and path.endswith(".py") and path not in theirs:
                sources[path] = text
        if text is not None:
            there.append(path)
    if not there:
        results = {name: TestResult(name, "missing", "its file is not there") for name in wanted}
        return Report(results, violations, time.monotonic() - begun)
    # Tests that a class inherits from elsewhere need marks of their own.
    sources |= inherited(sources, lambda path: None if path in theirs else _read(box, f"{root}/{path}"))
    keys = [secrets.token_hex(16) for _ in range(1 + _useful(sources, max(twins, 1)))]
    seal = secrets.token_hex(32)
    job = {
        "seal": seal,
        "keys": keys,
        "timeout": tests.timeout,
        "work": {
            "sources": sources,
            "names": wanted,
            "changed": sorted(theirs),
            "allowed": allowances(box, root, sorted(theirs), original),
            "arguments": [
                *configuration.arguments(lambda name: _read(box, f"{root}/{name}"), root, theirs, sources.values()),
                *there,
            ],
        },
    }
    upload |= {f"{folder}/{name}": (_INSIDE.joinpath(name).read_bytes(), 0o600) for name in _SOURCES}
    upload[f"{folder}/job.json"] = (json.dumps(job).encode(), 0o600)
    archive = f"/var/lib/pivotgym-{secrets.token_hex(8)}.tar"
    box.write_file(archive, _packed(upload), mode=0o600)
    uploaded = time.monotonic()
    raw, output = _supervise(box, archive, folder, root, tests, len(keys), seal)
    if raw is None:
        # The sandbox's limits ended it, or the tests' processes did: what the code under test asked for.
        violations.append("the tests' supervisor did not come to its end")
        results = {name: TestResult(name, "missing", f"no report: {output}"[:500]) for name in wanted}
        failure = SandboxError(f"the tests' supervisor did not come to its end: {output}")
        return Report(results, violations, time.monotonic() - begun, tail=output, failure=failure)
    _usable(raw)
    runs = [belief.read(item) for item in raw["runs"]]
    genuine = next(run for run in runs if not run.twin)
    others = [run for run in runs if run.twin]
    violations += list(dict.fromkeys(line for run in runs for line in run.violations))
    results = {name: belief.judge(name, genuine, others, untrusted=name.split("::")[0] in theirs) for name in wanted}
    results = {name: _with_expected(result, genuine) for name, result in results.items()}
    if violations:
        results = {name: _withdrawn(result, violations[0]) for name, result in results.items()}
    seconds = time.monotonic() - begun
    parts = {key: float(value) for key, value in raw["parts"].items()}
    parts["cpu"] = sum(float(item["cpu"]) for item in raw["runs"])
    parts |= {"upload": uploaded - begun, "genuine": genuine.seconds, "twins": sum(run.seconds for run in others)}
    parts["rest"] = seconds - parts["upload"] - parts["import"] - parts["fork"] - parts["tests"]
    return Report(results, violations, seconds, parts, _notes(raw), genuine.tail, _unfit(genuine))


def _parsed(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError):
        return False
    except RecursionError:
        pass
    return True


def _usable(raw: Mapping[str, Any]) -> None:
    """Raises BadInput where the tests' files themselves are of no use."""
    for path, why in raw["unreadable"].items():
        raise BadInput(f"cannot be read by Python {raw['python']}: {why}", field=f"tests.files.{path}")
    for run in raw["runs"]:
        if run["failure"]:
            raise BadInput(f"the runner cannot prepare them: {run['failure']}", field="tests.files")


def _unfit(genuine: belief.Run) -> BadInput | None:
    """Of a run that pytest gave up."""
    if genuine.status not in _GIVEN_UP:
        return None
    said = f"{_GIVEN_UP[genuine.status]} (status {genuine.status}): {genuine.tail.strip()[-1500:]}"
    return BadInput(said, field="tests")


def _with_expected(result: TestResult, genuine: belief.Run) -> TestResult:
    cases = ((name, genuine.cases.get(name)) for name in belief.matches(result.name, genuine.collected))
    expected = tuple(name for name, case in cases if case and case.xfail and case.outcome() == "skipped")
    return replace(result, expected=expected) if expected else result


def _useful(sources: Mapping[str, str], most: int) -> int:
    """How many twins show something new: as many as a test has assertions, and two so that none knows which it is."""
    planter: Any = Planter
    longest = 0
    for path, text in sources.items():
        try:
            table = planter("", path, 0, 1).module(ast.parse(text))
        except (SyntaxError, ValueError, RecursionError):
            # The sandbox's interpreter may read what this one cannot.
            return most
        longest = max([longest, *(len(row["wrong"]) for row in table.values())])
    return min(most, max(longest, 2))


def _withdrawn(result: TestResult, why: str) -> TestResult:
    return TestResult(result.name, "unbelieved", why[:500]) if result.outcome == "passed" else result


def _notes(raw: Mapping[str, Any]) -> list[str]:
    notes = []
    if not raw["user"]:
        notes.append("the tests ran as the sandbox's own user")
    if not raw["undumpable"]:
        notes.append("the processes' memory could not be closed to other processes")
    if not raw["audit"]:
        notes.append(f"no audit hooks in Python {raw['python']}")
    return notes


def _normal(path: str) -> str:
    return str(PurePosixPath(path))


def _read(box: Sandbox, path: str) -> str | None:
    try:
        return box.read_file(path, max_bytes=8 << 20).decode("utf-8", "replace")
    except SandboxFileError:
        return None


def _unhook(box: Sandbox, root: str, changed: Sequence[str]) -> list[str]:
    """Removes changed files that an interpreter runs by itself when it starts."""
    found = []
    for path in changed:
        parts = PurePosixPath(path).parts
        stems = {part.split(".")[0] for part in parts}
        if stems & {"sitecustomize", "usercustomize"} or path.endswith(".pth"):
            found.append(path)
    if found:
        box.run("rm -rf -- " + " ".join(shlex.quote(f"{root}/{path}") for path in found))
    return [f"a start-up file of the interpreter: {path}" for path in found]


def _packed(files: Mapping[str, tuple[bytes, int]]) -> bytes:
    """A tar archive of files by absolute path, with their permission bits."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, (data, mode) in files.items():
            info = tarfile.TarInfo(path.lstrip("/"))
            info.size, info.mode, info.mtime = len(data), mode, int(time.time())
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _supervise(
    box: Sandbox, archive: str, folder: str, root: str, tests: Tests, count: int, seal: str
) -> tuple[dict[str, Any] | None, str]:
    """Starts the supervisor; its report, or None and what it said where it was ended with the sandbox's limits."""
    unpack = f"mkdir -m 700 {folder} && tar -xf {archive} -C / --no-same-owner && rm {archive}"
    command = f"{tests.python} -I -S -B {folder}/supervisor.py {folder} {shlex.quote(root)} {count}"
    # Every run may take the tests' own time, the later ones four times what the earlier ones took.
    longest = tests.timeout * (1 + count) + 60
    result = box.run(f"{unpack} && {command}", timeout=longest)
    if result.status == _NO_PYTEST:
        _install_toolkit(box, folder, tests.python)
        result = box.run(command, timeout=longest)
    if result.ending != "exit":
        return None, f"{result.ending}; {result.output[-300:]}"
    try:
        sealed, _, text = box.read_file(f"{folder}/report.json").decode().partition("\n")
    except SandboxFileError:
        if result.status and result.status > 128:
            return None, f"status {result.status}; {result.output[-300:]}"
        if _read(box, f"{folder}/job.json") is None:
            # Removed after the forks: it had begun.
            return None, f"status {result.status}; {result.output[-300:]}"
        raise SandboxError(f"the test runner did not start: {result.output[-2000:]}") from None
    right = hmac.new(seal.encode(), text.encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(sealed, right):
        return None, "a report that is not the supervisor's"
    report: dict[str, Any] = json.loads(text)
    return report, result.output


def _install_toolkit(box: Sandbox, folder: str, python: str) -> None:
    archive = f"{folder}/pytest.tar"
    box.write_file(archive, toolkit_archive(), mode=0o600)
    result = box.run(
        f"PIVOTGYM_TOOLKIT={archive} PIVOTGYM_PYTHON={shlex.quote(python)} "
        f"bash -c {shlex.quote(INSTALL)} && rm {archive}"
    )
    if result.status != 0:
        raise SandboxError(f"pytest cannot be put into the sandbox: {result.output[-500:]}")
