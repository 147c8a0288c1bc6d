"""Terminal-Bench tasks, 1.x and 2.x (Harbor): loaded from their folders, judged by their own tests.

The tests run where the agent worked, as the benchmark has it: in a fork of the final state that the agent never
sees, with a fresh shell and the tests' own files. An agent that replaces the programs its tests call can still deceive
them; that is a property of these tasks.
"""

from __future__ import annotations

import json
import logging
import math
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import ValidationError

from pivotgym.envs.errors import BadInput, NotRestorable
from pivotgym.envs.formats.rows import validate
from pivotgym.envs.sandbox import Backend, Limits, Sandbox, SandboxError, SandboxFileError
from pivotgym.envs.terminal.dockerfile import interpret
from pivotgym.envs.terminal.judging import backend_of, bugs_named, frozen
from pivotgym.envs.terminal.prepare import prepare
from pivotgym.envs.terminal.tasks import Final, Setup, TaskSet, TerminalTask, verdict
from pivotgym.envs.terminal.terminal_bench_folders import Folder, Plan, is_task_folder, read_folder, unpack
from pivotgym.envs.trajectory import Message, Task, ToolCall
from pivotgym.envs.verdict import Verdict

logger = logging.getLogger(__name__)
_COMMAND_SECONDS = 180.0
"""What one command of the agent may take, if the whole task may take longer."""
_OUTPUT = "/.test-output"
_OUTPUT_BYTES = 4 << 20
_REWARDS = "/logs/verifier"
_NO_NETWORK = re.compile(
    r"could not resolve|temporary failure in name resolution|temporary failure resolving|network is unreachable"
    r"|name or service not known|failed to establish a new connection|dns error",
    re.IGNORECASE,
)
_SILENT = {1: "the tests printed no results", 2: "the tests wrote no reward"}
_SUMMARY = re.compile(r"=+\s*short test summary info\s*=+", re.IGNORECASE)
_RESULT = re.compile(r"^(PASSED|FAILED|SKIPPED|XFAIL|XPASS|ERROR):?\s+(\S.*)$")
_COUNTS_AS_PASSED = frozenset(("PASSED", "SKIPPED", "XFAIL"))


class TerminalBenchTasks(TaskSet):
    """The tasks of one folder, or of all folders in it (``terminal-bench``).

    Args:
        path: a task folder, or a folder of them; None gives no tasks, but judges any, as a task carries its tests.
        images: ``interpret`` does a Dockerfile's work in a sandbox that stands on the environment's own image, without
            network; ``build`` has Docker build it, for the environment's Docker backend.
    """

    name: ClassVar[str] = "terminal-bench"

    def __init__(self, path: str | Path | None = None, images: Literal["interpret", "build"] = "interpret") -> None:
        self.path = None if path is None else Path(path)
        self.images = images
        self._tasks: list[Task] | None = None
        self._needs: dict[str, str] = {}

    def tasks(self) -> Sequence[Task]:
        """All tasks, sorted by the names of their folders. Of a folder of many, those that cannot be used are logged.

        Raises:
            BadInput: the folder has no task, or is one that cannot be used.
            SandboxError: Docker does not build an image.
        """
        if self._tasks is None:
            self._tasks = list(self._load()) if self.path is not None else []
        return self._tasks

    def _load(self) -> Iterator[Task]:
        assert self.path is not None
        if is_task_folder(self.path):
            yield self._task(read_folder(self.path))
            return
        if not self.path.is_dir():
            raise BadInput("no folder", file=self.path)
        folders = sorted(path for path in self.path.iterdir() if path.is_dir() and is_task_folder(path))
        if not folders:
            raise BadInput("no task here: looked for task.yaml and task.toml", file=self.path)
        for path in folders:
            try:
                yield self._task(read_folder(path))
            except BadInput as problem:
                logger.warning("skipped %s", problem)

    def _task(self, folder: Folder) -> Task:
        image, base, setup, env = folder.image, "", Setup(), dict(folder.env)
        workdir, user = folder.workdir, folder.user
        if self.images == "build":
            from pivotgym.envs.terminal.terminal_bench_images import build_image

            built = build_image(folder)
            image, env = built.name, {**built.env, **env}
            workdir, user = workdir or built.workdir, built.user if user is None else user
        elif folder.dockerfile is not None:
            recipe = interpret(folder.dockerfile, folder.context, folder.build_args, folder.hidden)
            image, base, setup, env = None, recipe.base, recipe.setup, {**recipe.env, **env}
            workdir, user = workdir or recipe.workdir, recipe.user if user is None else user
        plan = folder.plan.model_copy(update={"base": base or folder.image or ""})
        limits = {"memory_bytes": folder.memory_bytes, "disk_bytes": folder.disk_bytes}
        return TerminalTask(
            set=self.name,
            instruction=folder.instruction,
            image=image,
            user="root" if user is None else int(user) if str(user).isdecimal() else user,
            workdir=workdir or "/",
            env=env,
            limits=validate(
                Limits,
                {key: value for key, value in limits.items() if value is not None},
                file=folder.path / "task.toml",
                line=None,
                field="environment",
            ),
            setup=setup,
            timeout=min(plan.agent_seconds or _COMMAND_SECONDS, _COMMAND_SECONDS),
            definition=plan.model_dump(mode="json", exclude_defaults=True),
        ).task(folder.path.resolve().name)

    # Solving --------------------------------------------------------------------------------------------------

    def solution(self, task: Task) -> list[Message]:
        """The reference solution as actions: calls of ``bash``, or of ``keystrokes`` where it is keys for a terminal.

        Raises:
            NotRestorable: the task has none.
        """
        plan = _plan(task)
        if plan.keys:
            return [_keys_action(row, number) for number, row in enumerate(plan.keys)]
        if not plan.solution:
            raise NotRestorable("no_solution", f"task {task.id} has no reference solution")
        folder, script = ("/oracle", "solution.sh") if plan.generation == 1 else ("/solution", "solve.sh")
        if TerminalTask.of(task).user not in ("root", 0):
            folder = f"/tmp{folder}"  # where anybody may write
        archive = f"base64 -d <<'END' | tar -xzf - -C {folder}\n{_wrapped(plan.solution)}\nEND"
        env = " ".join(f"{key}={shlex.quote(value)}" for key, value in plan.solution_env.items())
        commands = [f"mkdir -p {folder} && {archive}", f"{env} bash {folder}/{script}".strip()]
        return [_bash_action(command, number) for number, command in enumerate(commands)]

    # Judging --------------------------------------------------------------------------------------------------

    def goal(self, task: Task, final: Final) -> Verdict:
        """Runs the task's tests on the final state.

        Raises:
            SandboxError: the tests cannot run (they need the network, and a sandbox has none).
            VerifierBug: the judge raised what it should not.
        """
        plan, spec = _plan(task), TerminalTask.of(task)
        with bugs_named(final), final.fork() as fork, _as_root(fork, spec) as box:
            judged, silent = _tested(box, plan, spec)
            if silent and (problem := self._needs_network(task, backend_of(box), box.config.image)):
                raise SandboxError(f"the tests need the network, and a sandbox has none: {problem}")
            return judged

    def _needs_network(self, task: Task, backend: Backend, image: str) -> str:
        """What the tests say about a missing network before the agent has done anything; else empty.

        What they print in the final state is no evidence: the agent may have written it.
        """
        if task.key not in self._needs:
            plan, spec = _plan(task), TerminalTask.of(task)
            with ExitStack() as stack:
                fresh = prepare(backend, spec, image)
                stack.callback(fresh.stop)
                judged, silent = _tested(stack.enter_context(_as_root(fresh, spec)), plan, spec)
            output = str(judged.evidence.get("output", ""))
            self._needs[task.key] = output[-500:].strip() if silent and _NO_NETWORK.search(output) else ""
        return self._needs[task.key]


def _tested(box: Sandbox, plan: Plan, spec: TerminalTask) -> tuple[Verdict, bool]:
    """What the tests say in this state, and whether they ended without saying it."""
    problem = _upload(box, plan)
    if problem:
        return verdict(False, f"what was left behind does not let the tests be put in place: {problem}"), False
    script = "/tests/run-tests.sh" if plan.generation == 1 else "/tests/test.sh"
    env = " ".join(f"{key}={shlex.quote(value)}" for key, value in plan.test_env.items())
    run = f"cd {shlex.quote(spec.workdir)} && {env} {'bash ' if plan.generation == 1 else ''}{script}"
    # Into a file: a server that the tests start and leave running would keep a pipe open.
    result = box.run(f"( {run} ) < /dev/null > {_OUTPUT} 2>&1", timeout=plan.test_seconds)
    if result.ending == "timeout":
        return verdict(False, f"the tests took more than {plan.test_seconds:g} s"), False
    if result.ending != "exit":
        return verdict(False, f"the tests were ended: {result.ending}"), False
    box.run(f"tail -c {_OUTPUT_BYTES} {_OUTPUT} > {_OUTPUT}.end")
    output = _read(box, f"{_OUTPUT}.end", _OUTPUT_BYTES) or ""
    judged = _first_verdict(output) if plan.generation == 1 else _second_verdict(box, output)
    if judged is None:
        return verdict(False, _SILENT[plan.generation], output=output[-2000:]), True
    return judged, False


def _plan(task: Task) -> Plan:
    try:
        return Plan.model_validate(TerminalTask.of(task).definition)
    except ValidationError as error:
        raise NotRestorable(
            "bad_task", f"task {task.id} is none of Terminal-Bench: {error.errors()[0]['msg']}"
        ) from error


@contextmanager
def _as_root(box: Sandbox, spec: TerminalTask) -> Iterator[Sandbox]:
    """A sandbox in the same state whose user is root; the same one where that is so."""
    if spec.user in ("root", 0):
        yield box
        return
    backend = backend_of(box)
    with frozen(backend, box) as snapshot:
        config = box.config.model_copy(update={"user": "root"})
        root = backend.load(snapshot, fresh_shell=True, config=config)
        try:
            yield root
        finally:
            root.stop()


def _upload(box: Sandbox, plan: Plan) -> str:
    """Puts the tests in place, or says why that cannot be (a full disk, no `rm`): then it is the agent's doing."""
    # What the agent left in their place (files, or links to elsewhere) must not get in the way.
    cleared = box.run(f"rm -rf /tests {_REWARDS} {_OUTPUT}* && mkdir -p /tests {_REWARDS}")
    if cleared.status != 0:
        return cleared.output[-500:].strip() or f"status {cleared.status}"
    try:
        for name, data, mode in unpack(plan.tests):
            box.write_file(f"/tests/{name}", data, mode=0o755 if name in ("test.sh", "run-tests.sh") else mode)
    except SandboxFileError as error:
        return str(error)
    return ""


def _read(box: Sandbox, path: str, limit: int) -> str | None:
    try:
        return box.read_file(path, max_bytes=limit).decode("utf-8", "replace")
    except SandboxFileError:
        return None


def parse_summary(output: str) -> dict[str, bool] | None:
    """Which tests passed, by pytest's short summary; None where there is no summary."""
    parts = _SUMMARY.split(output, maxsplit=1)
    if len(parts) < 2:
        return None
    results: dict[str, bool] = {}
    for line in parts[1].splitlines():
        match = _RESULT.match(line)
        if match:
            # After the name of a test that failed comes why.
            name = match[2].split(" - ", 1)[0] if match[1] in ("FAILED", "ERROR") else match[2]
            results[name.split("::", 1)[-1].strip()] = match[1] in _COUNTS_AS_PASSED
    return results


def _first_verdict(output: str) -> Verdict | None:
    results = parse_summary(output)
    if not results:
        return None
    failed = [name for name, passed in results.items() if not passed]
    reason = f"{len(failed)} of {len(results)} tests failed" if failed else f"all {len(results)} tests passed"
    return verdict(not failed, reason, tests=results, output=output[-2000:] if failed else "")


def _second_verdict(box: Sandbox, output: str) -> Verdict | None:
    text, written = _read(box, f"{_REWARDS}/reward.json", 1 << 20), "reward.json"
    if text is None:
        text, written = _read(box, f"{_REWARDS}/reward.txt", 1 << 20), "reward.txt"
    if text is None:
        return None
    try:
        value = json.loads(text) if written == "reward.json" else float(text)
        rewards = {
            str(key): float(one) for key, one in (value if isinstance(value, dict) else {"reward": value}).items()
        }
    except (ValueError, TypeError, OverflowError, RecursionError):
        return verdict(False, f"{written} holds no number", output=text[:500])
    if not rewards or not all(math.isfinite(one) for one in rewards.values()):
        return verdict(False, f"{written} holds no finite number", output=text[:500])
    reward = rewards.get("reward", sum(rewards.values()) / len(rewards))
    return Verdict(
        reward=min(max(reward, 0.0), 1.0),
        rule="goal",
        reason=f"the tests gave {reward:g}",
        evidence={"rewards": rewards, "output": output[-2000:] if reward < 1 else ""},
    )


# --------------------------------------------------------------------------------------------------------- actions


def _bash_action(command: str, number: int) -> Message:
    call = ToolCall(name="bash", arguments={"command": command}, id=f"call_{number}")
    return Message(role="assistant", content="", tool_calls=[call])


def _keys_action(row: dict[str, object], number: int) -> Message:
    keys = [str(row["command"]), *(["Enter"] if row.get("append_enter", False) else [])]
    wait = row.get("max_timeout_sec" if row.get("block") else "min_timeout_sec", 1.0)
    wait = min(float(wait), 60.0) if isinstance(wait, int | float) else 1.0
    call = ToolCall(name="keystrokes", arguments={"keys": keys, "wait": wait}, id=f"call_{number}")
    return Message(role="assistant", content="", tool_calls=[call])


def _wrapped(text: str) -> str:
    return "\n".join(text[start : start + 76] for start in range(0, len(text), 76))
