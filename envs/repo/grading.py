"""The reward of a repository episode: the agent's change in a fresh fork, with the tests brought from outside."""

from __future__ import annotations

import io
import json
import posixpath
import shlex
import time
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

from pivotgym.envs.errors import BadInput, PivotGymError
from pivotgym.envs.repo import helpers
from pivotgym.envs.repo.changes import Change, apply_change, as_root, loaded, read_change
from pivotgym.envs.repo.log_parsers import get_log_parser
from pivotgym.envs.repo.patches import apply_patch, patch_paths
from pivotgym.envs.repo.planted import Planted, plant
from pivotgym.envs.repo.rules import Rules, is_test_path
from pivotgym.envs.repo.runner import Outcome, TestResult, run_tests
from pivotgym.envs.repo.runner.execution import TWINS
from pivotgym.envs.repo.tasks import RepoTask, Tests
from pivotgym.envs.sandbox import Backend, CommandResult, Sandbox, SandboxFileError, Snapshot
from pivotgym.envs.terminal.env import NoGoal
from pivotgym.envs.terminal.judging import frozen, printable
from pivotgym.envs.trajectory import JsonObject
from pivotgym.envs.verdict import Verdict

PREPARE_SECONDS = 600.0
"""What ``Tests.prepare`` may take."""
_LOG_BYTES = 32 << 20
"""How much of a test command's output is read."""
_EXPECTED = "failed as the test expects"
_OUTCOMES: dict[str, Outcome] = {"passed": "passed", "failed": "failed", "error": "error", "skipped": "skipped"}
_SHOWN_TESTS = 3000
_SHOWN_PATHS = 200
_SHOWN_DETAILS = 20
_PROBE = (
    "import importlib.util as u, json, sys\n"
    "def known(name):\n"
    "    try: return u.find_spec(name) is not None\n"
    "    except Exception: return False\n"
    "names = json.loads(sys.argv[1])\n"
    "print('\\0' + json.dumps([sys.path, [name for name in names if known(name)]]))\n"
)


@dataclass(frozen=True)
class Run:
    """What the tests said of a state.

    Attributes:
        results: by test.
        violations: what the change tried against the tests' run; any means that the results count for nothing.
        change: what of the state was tested.
        problem: why the tests were not run, or not to their end; empty where they were.
        notes: what protection the runner did not have in this sandbox.
        parts: seconds by step (``fork``, ``change``, ``prepare``, ``tests``; ``tests_…``: the runner's own parts).
        failure: why the tests could not be run at all; with a change it is the change's doing.
    """

    results: dict[str, TestResult] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    change: Change = field(default_factory=Change)
    problem: str = ""
    notes: list[str] = field(default_factory=list)
    parts: dict[str, float] = field(default_factory=dict)
    failure: PivotGymError | None = None

    def passed(self, name: str) -> bool:
        """Whether a test passed, and nothing was tried against it."""
        result = self.results.get(name)
        return not self.violations and not self.problem and result is not None and result.outcome == "passed"


def grade(backend: Backend, spec: RepoTask, pristine: Snapshot, final: Snapshot) -> Verdict:
    """Judges a final state: 1 where all tests that must pass do and nothing was tried against them, else 0.

    Args:
        backend: of both snapshots.
        spec: the task.
        pristine: its state before the first turn, with nothing of the agent's in it.
        final: after the episode.

    Raises:
        NoGoal: the task has no tests.
        BadInput: the task's tests are unusable: their patch does not apply, a file of them is no Python, their
            preparation fails by itself, pytest cannot run them without the change either.
        SandboxError: a sandbox broke; that says nothing of the change.
    """
    tests = _tests_of(spec)
    names = [*dict.fromkeys((*tests.fail_to_pass, *tests.pass_to_pass))]
    run = run_names(backend, spec, pristine, final, names)
    failing = [name for name in names if not run.passed(name)]
    return Verdict(
        reward=0.0 if failing else 1.0,
        rule="goal",
        reason=printable(_reason(tests, run, failing, len(names))),
        evidence=_evidence(tests, run, names),
    )


def run_names(
    backend: Backend, spec: RepoTask, pristine: Snapshot, state: Snapshot, names: Sequence[str] | None = None
) -> Run:
    """Which tests pass on what ``state`` makes of the repository.

    Args:
        backend: of both snapshots.
        spec: the task; its tests are brought in.
        pristine: the task's state before the first turn.
        state: any later one; ``pristine`` itself for the repository as it was.
        names: of the tests; None for all that decide the task.

    Raises:
        NoGoal, BadInput, SandboxError: see :func:`grade`.
    """
    tests = _tests_of(spec)
    wanted = [*dict.fromkeys((*tests.fail_to_pass, *tests.pass_to_pass) if names is None else names)]
    grader = _Grader(backend, spec, tests, pristine)
    run = grader.run(state, wanted)
    if run.failure is not None and not all(run.passed(name) for name in wanted):
        # Whose doing it is shows without the change.
        without = grader.run(pristine, wanted) if run.change.items else run
        if without.failure is not None:
            raise without.failure
    expected = {name: run.results[name].expected for name in wanted if name in run.results and _expected(run, name)}
    if expected:
        # A failure that the test itself expects counts as passing, as in SWE-bench; but the code under test may say
        # so in the test's place, so it must have been expected before the change too.
        before = grader.run(pristine, [*expected])
        for name, those in expected.items():
            fair = set(those) <= set(before.results[name].expected) if name in before.results else False
            fair = fair and (name in tests.pass_to_pass or name not in those)
            run.results[name] = TestResult(name, "passed" if fair else "skipped", _EXPECTED, those)
    return run


def _expected(run: Run, name: str) -> bool:
    result = run.results[name]
    return bool(result.expected) and (result.outcome == "passed" or result.detail == _EXPECTED)


def _tests_of(spec: RepoTask) -> Tests:
    if spec.tests is None:
        raise NoGoal("the task does not say which tests decide it")
    if not spec.tests.fail_to_pass and not spec.tests.pass_to_pass:
        raise NoGoal("the task names no test that must pass")
    return spec.tests


@dataclass(frozen=True)
class _Fork:
    """Where the tests run: ``files`` are the Python files among them, ``original`` the changed files' text before."""

    box: Sandbox
    files: dict[str, str]
    original: dict[str, str]
    problem: str


class _Grader:
    """Runs tests on states of one task."""

    def __init__(self, backend: Backend, spec: RepoTask, tests: Tests, pristine: Snapshot) -> None:
        self.backend, self.spec, self.tests, self.pristine = backend, spec, tests, pristine
        self.root = spec.workdir.rstrip("/")
        self.parts: dict[str, float] = {}
        names = (*tests.fail_to_pass, *tests.pass_to_pass)
        named = {path for path, separator, _ in (name.partition("::") for name in names) if separator}
        brought = {*tests.files, *patch_paths(tests.patch, field="tests.patch"), *filter(is_test_path, named)}
        reference: list[str] = []
        with suppress(BadInput):  # for people; whether it is of use shows elsewhere
            reference = patch_paths(spec.reference)
        self.rules = Rules.of(brought, reference=reference)

    def run(self, state: Snapshot, names: Sequence[str]) -> Run:
        """The tests' results on what ``state`` makes of the repository."""
        self.parts = {}
        with self._timed("change"):
            change = self._change(state, self.rules)
        problem = change.problem
        if not problem and self.tests.prepare and change.items:
            with self._timed("prepare"):
                change, problem = self._built(change)
        if problem:
            return Run(change=change, problem=problem, parts=self.parts)
        run = self._command(change, names) if self.tests.runner == "command" else self._pytest(change, names)
        return replace(run, change=change, parts=self.parts)

    def _change(self, state: Snapshot, rules: Rules) -> Change:
        return read_change(
            self.backend, self.pristine, state, self.root, rules, probe=self._probe, refine=self._refined
        )

    def _refined(self, rules: Rules, box: Sandbox, paths: Mapping[str, bool]) -> Rules:
        """With what the repository as it was says of paths that look like tests' own."""
        texts = {posixpath.normpath(path): text for path, text in self.tests.files.items()}
        return helpers.refined(rules, box, self.root, paths, [texts, helpers.patched_texts(self.tests.patch)])

    @contextmanager
    def _fork(self, change: Change) -> Iterator[_Fork]:
        """A fork of the state before, prepared, with tests and change in it."""
        config = as_root(self.pristine)
        if self.tests.runner == "command":
            most = max(_LOG_BYTES, config.limits.output_bytes)
            config = config.model_copy(update={"limits": config.limits.model_copy(update={"output_bytes": most})})
        with loaded(self.backend, self.pristine, config) as box:
            # What is not the agent's comes first: from here on its files are there, but none of its code ran.
            with self._timed("fork"):
                box.run("true")
            with self._timed("prepare"):
                self._prepare(box)
            with self._timed("change"):
                files = self._bring(box)
                original = self._original(box, change)
                problem = apply_change(box, change, self.root)
            yield _Fork(box, files, original, problem)

    def _built(self, change: Change) -> tuple[Change, str]:
        """The change with what the task's preparation makes of it in the repository.

        The preparation may run the agent's code (``setup.py``) as root; so what it does outside of the repository is
        forgotten, and what it leaves inside goes through the same rules. Outside counts what it does without the
        agent's change.
        """
        with loaded(self.backend, self.pristine, as_root(self.pristine)) as box:
            problem = apply_change(box, change, self.root)
            if problem:
                return change, problem
            result = self._run_prepare(box)
            if result:
                return change, f"the repository cannot be prepared with the change: {result}"
            rules = replace(self.rules, artefacts=True)
            with frozen(self.backend, box) as state:
                built = self._change(state, rules)
        return replace(built, left_out=change.left_out), built.problem

    def _prepare(self, box: Sandbox) -> None:
        """Prepares the repository as it was."""
        if self.tests.prepare:
            problem = self._run_prepare(box)
            if problem:
                raise BadInput(f"fails without any change: {problem}", field="tests.prepare")

    def _run_prepare(self, box: Sandbox) -> str:
        script = f"cd {shlex.quote(self.root)} && (\n{self.tests.prepare}\n) < /dev/null"
        result = box.run(script, timeout=PREPARE_SECONDS)
        if result.ending == "exit" and result.status == 0:
            return ""
        return f"{_how(result)}: {result.output.strip()[-500:]}"

    def _bring(self, box: Sandbox) -> dict[str, str]:
        """Puts the tests in place; the text of those that are Python, which the runner hides again."""
        apply_patch(box, self.tests.patch, self.root, field="tests.patch")
        texts = {}
        for path in patch_paths(self.tests.patch):
            with suppress(SandboxFileError):  # removed by the patch
                if path.endswith(".py"):
                    texts[path] = _text(box.read_file(f"{self.root}/{path}"))
        for path, text in self.tests.files.items():
            inside = posixpath.normpath(path)
            if inside.startswith(("/", "../")) or inside in (".", ".."):
                raise BadInput(f"a path outside of the repository: {path!r}", field="tests.files")
            try:
                box.write_file(f"{self.root}/{inside}", text.encode("utf-8", "surrogateescape"))
            except SandboxFileError as error:
                raise BadInput(f"cannot be brought in: {error}", field=f"tests.files.{path}") from error
            if inside.endswith(".py"):
                texts[inside] = text
        return texts

    def _original(self, box: Sandbox, change: Change) -> dict[str, str]:
        """The text of changed files before the change."""
        found = {}
        for path, item in change.items.items():
            if item.was == "file" and path.endswith(".py"):
                with suppress(SandboxFileError):
                    found[path] = box.read_file(f"{self.root}/{path}").decode("utf-8", "replace")
        return found

    def _pytest(self, change: Change, names: Sequence[str]) -> Run:
        with self._fork(change) as fork:
            if fork.problem:
                return Run(problem=fork.problem)
            with self._timed("tests"):
                report = run_tests(
                    fork.box,
                    root=self.root,
                    tests=self.tests.model_copy(update={"files": fork.files, "patch": ""}),
                    names=names,
                    changed=[path for path, item in change.items.items() if item.kind != "absent"],
                    original=fork.original,
                    # Where nothing is the agent's, nothing can be faked; a pass without any twin is none.
                    twins=TWINS if change.items else 1,
                )
        self.parts |= {f"tests_{part}": seconds for part, seconds in report.parts.items()}
        return Run(report.results, report.violations, notes=report.notes, failure=report.failure)

    def _command(self, change: Change, names: Sequence[str]) -> Run:
        """Runs the task's own command, and once more with errors planted where it said that tests passed."""
        run, _ = self._log(change, names, wrong=False)
        if not any(result.outcome == "passed" for result in run.results.values()):
            return run
        twin, planted = self._log(change, names, wrong=True)
        for name in names:
            both = [each.results.get(name) == TestResult(name, "passed") for each in (run, twin)]
            if all(both) and planted.holds(name):
                run.results[name] = TestResult(name, "unbelieved", "passed with a planted error too")
        return run

    def _log(self, change: Change, names: Sequence[str], *, wrong: bool) -> tuple[Run, Planted]:
        with self._fork(change) as fork:
            planted = plant(fork.files, wrong=wrong)
            for path, text in planted.files.items():
                fork.box.write_file(f"{self.root}/{path}", _encoded(text))
            if fork.problem:
                return Run(problem=fork.problem), planted
            with self._timed("tests"):
                command = f"cd {shlex.quote(self.root)} && (\n{self.tests.command}\n) < /dev/null"
                result = fork.box.run(command, timeout=self.tests.timeout)
        if result.ending != "exit":
            return Run(problem=f"the tests' command {_how(result)}"), planted
        try:
            said = get_log_parser(self.tests.parser or "pytest")(result.output)
        except PivotGymError:
            raise
        except Exception as error:  # a log holds whatever the code under test printed
            return Run(problem=f"the tests' log cannot be read: {type(error).__name__}: {error}"), planted
        return Run({name: _result(name, said.get(name)) for name in names}), planted

    def _probe(self, names: Sequence[str]) -> tuple[set[str], set[str]]:
        """Asks the tests' interpreter in a fork that has nothing of the agent's."""
        with loaded(self.backend, self.pristine, as_root(self.pristine)) as box:
            ask = f"cd / && {self.tests.python} -I -c {shlex.quote(_PROBE)} {shlex.quote(json.dumps([*names]))}"
            said = box.run(f"{ask} 2>/dev/null < /dev/null", timeout=60.0).output.rpartition("\0")[2]
        try:
            paths, known = json.loads(said)
        except ValueError:  # no Python that answers: what this package knows by itself remains
            return set(), set()
        inside = {posixpath.normpath(path) for path in paths if isinstance(path, str)}
        roots = {path[len(self.root) + 1 :] for path in inside if f"{path}/".startswith(f"{self.root}/")}
        return roots, set(known)

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.parts[part] = self.parts.get(part, 0.0) + time.monotonic() - started


def _text(data: bytes) -> str:
    """A Python file's text, in the encoding that it names."""
    try:
        return data.decode(_encoding(data))
    except (LookupError, UnicodeDecodeError):
        return data.decode("utf-8", "surrogateescape")


def _encoded(text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    try:
        return text.encode(_encoding(data))
    except (LookupError, UnicodeEncodeError):
        return data


def _encoding(data: bytes) -> str:
    try:
        return tokenize.detect_encoding(io.BytesIO(data).readline)[0]
    except SyntaxError:
        return "utf-8"


def _result(name: str, said: str | None) -> TestResult:
    if said is None:
        return TestResult(name, "missing", "the log does not name it")
    if said == "xfailed":
        return TestResult(name, "skipped", _EXPECTED, (name,))
    known = _OUTCOMES.get(said)
    return TestResult(name, "failed", said) if known is None else TestResult(name, known)


def _how(result: CommandResult) -> str:
    endings = {"timeout": "did not end in time", "memory": "took too much memory", "disk": "took too much of the disk"}
    if result.ending == "exit":
        return f"ended with status {result.status}"
    return endings.get(result.ending, f"was ended ({result.ending})")


def _reason(tests: Tests, run: Run, failing: Sequence[str], total: int) -> str:
    unchanged = " (the repository was not changed)" if not run.change.items and not run.problem else ""
    if run.problem:
        return run.problem
    if run.violations:
        return f"the change tried to decide the tests itself: {run.violations[0]}"
    if not failing:
        return f"all {total} tests that must pass do{unchanged}"
    first = failing[0]
    result = run.results.get(first)
    outcome = "missing" if result is None else str(result.outcome)
    if result is not None and outcome == "unbelieved":
        outcome += f": {result.detail[:200]}"
    broken = sum(name in tests.pass_to_pass for name in failing)
    also = f", {broken} of them passed before" if broken else ""
    return f"{len(failing)} of {total} tests that must pass do not{also}: {first} ({outcome}){unchanged}"


def _evidence(tests: Tests, run: Run, names: Sequence[str]) -> JsonObject:
    def outcomes(group: Sequence[str]) -> JsonObject:
        shown = [name for name in names if name in set(group)][:_SHOWN_TESTS]
        return {printable(name): run.results[name].outcome if name in run.results else "not run" for name in shown}

    details = {
        printable(name): printable(run.results[name].detail[:1000])
        for name in [name for name in names if name in run.results and run.results[name].outcome != "passed"]
        if run.results[name].detail
    }
    left_out = run.change.left_out
    evidence: JsonObject = {
        "fail_to_pass": outcomes(tests.fail_to_pass),
        "pass_to_pass": outcomes(tests.pass_to_pass),
        "details": dict([*details.items()][:_SHOWN_DETAILS]),
        "violations": [printable(violation[:1000]) for violation in run.violations[:_SHOWN_DETAILS]],
        "changed": [printable(path) for path in [*run.change.items][:_SHOWN_PATHS]],
        "left_out": {printable(path): printable(left_out[path]) for path in [*left_out][:_SHOWN_PATHS]},
    }
    if run.notes:
        evidence["notes"] = list(run.notes)
    if len(left_out) > _SHOWN_PATHS:
        evidence["left_out_count"] = len(left_out)
    if run.problem:
        evidence["problem"] = printable(run.problem)
    return evidence
