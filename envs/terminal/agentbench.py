"""AgentBench's tasks of operating system interaction.

``AgentBenchTasks("dev.json")`` reads task files (a JSON list, or rows): what to prepare, what to start, the question,
and how an answer is checked. The answer is the text that ends the episode. A ``match`` compares it as text or by a
regular expression. A ``check`` is a list of scripts, run one after the other in the final state, each given the answer
and what the earlier ones printed; ``null`` stands for the reference script, which prints the right answer.

Scripts run with the system's own programs before those of ``/usr/local`` and without Python's byte code. A success is
not believed where the agent changed or added anything that could make the check's own programs say something else,
unless the reference itself adds the same: see :mod:`pivotgym.envs.terminal.agentbench_programs`. Where the reference
computes the answer from files, an agent that changes those files changes the answer, as in AgentBench.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.rows import Problems, expect, iter_rows, require
from pivotgym.envs.sandbox import Sandbox
from pivotgym.envs.terminal.agentbench_programs import PATH, added_by, can_deceive, commands_in
from pivotgym.envs.terminal.agentbench_scripts import NO_CACHE, Script, script_folders
from pivotgym.envs.terminal.judging import backend_of, bugs_named, frozen, printable
from pivotgym.envs.terminal.prepare import prepare
from pivotgym.envs.terminal.tasks import Final, Setup, TaskSet, TerminalTask, verdict
from pivotgym.envs.trajectory import JsonObject, Task
from pivotgym.envs.verdict import Verdict

_SYSTEM = """You work in a Linux terminal as root. Run commands with the `bash` tool, one shell keeps its directory \
and variables. Long output is cut. Commands must not wait for input.
When the work is done, or you know the answer, reply without a tool call. If there is a question, that reply is \
compared with the right answer: give the bare value, for example a single number, and nothing around it."""
_OBSERVATION = (
    "{% if output %}The output of the OS:\n\n{% if output | length <= 800 %}{{ output }}{% else %}{{ output[:780] }}"
    "\n[truncated because the output is too long]{% endif %}{% else %}The output of the OS is empty.{% endif %}"
)
_HOME = "/root"
_SECONDS = 60.0
# What its images have and a smaller base may lack: set-up scripts put users into these groups, and run `su`.
_GROUPS = {"daemon": 1, "bin": 2, "sys": 3, "adm": 4, "tty": 5, "disk": 6, "sudo": 27, "www-data": 33, "users": 100}
_RULES = r"auth sufficient pam_rootok.so\naccount sufficient pam_permit.so\nsession sufficient pam_permit.so\n"


class AgentBenchTasks(TaskSet):
    """AgentBench's OS tasks.

    Args:
        path: a task file, or a folder of such files; None judges tasks that come from elsewhere.
    """

    name: ClassVar[str] = "agentbench"

    def __init__(self, path: str | Path | None = None) -> None:
        self._path = path
        self._tasks: list[Task] | None = None

    def tasks(self) -> Sequence[Task]:
        """Every row of the file, in its order. Raises BadInput for a row that is none."""
        if self._tasks is None:
            self._tasks = [task for file in self._files() for task in read_tasks(file)]
        return self._tasks

    def goal(self, task: Task, final: Final) -> Verdict:
        """Matches the answer, or runs the checks.

        Raises:
            NoGoal: a script the check needs is not there.
            VerifierBug: the judge raised what it should not.
        """
        with bugs_named(final):
            return self._goal(task, final)

    def _goal(self, task: Task, final: Final) -> Verdict:
        spec = TerminalTask.of(task)
        answer = final.answer or ""
        match = spec.definition.get("match")
        if match is not None:
            return _matched(match, answer)
        example = spec.definition.get("example")
        scripts = [Script(**row) if row is not None else None for row in spec.definition["check"]]
        reference = Script(**example) if example is not None else None
        for script in (script or reference for script in scripts):
            _demand(task, script)
        return _checked(spec, [script or reference for script in scripts], reference, answer, final)

    def _files(self) -> list[Path]:
        if self._path is None:
            return []
        path = Path(self._path)
        return sorted([*path.glob("*.json"), *path.glob("*.jsonl")]) if path.is_dir() else [path]


def read_tasks(file: str | Path) -> list[Task]:
    """The tasks of one file. Raises BadInput, naming the row's field."""
    file = Path(file)
    return [
        agentbench_task(row.value, file=file, field=row.field).task(f"agentbench/{file.name.split('.')[0]}/{number}")
        for number, row in enumerate(iter_rows(file, Problems()))
    ]


def agentbench_task(row: Any, *, file: Path, field: str = "") -> TerminalTask:
    """One row as a terminal task; scripts whose files are not there are left to fail where they are needed.

    Args:
        row: the row.
        file: for messages, and for the scripts' files.
        field: of the row, for messages.
    """

    def at(name: str) -> str:
        return f"{field}.{name}" if field else name

    def script(value: Any, name: str) -> Script:
        return Script.of(value, folders, file=file, field=at(name))

    expect(row, dict, file=file, field=field)
    folders = script_folders(file)
    instruction = expect(require(row, "description", file=file, field=field), str, file=file, field=at("description"))
    # Two rows have something else there; AgentBench then prepares nothing.
    create = row.get("create") if isinstance(row.get("create"), dict) else {}
    init = create.get("init") or []
    inits = [script(one, "create.init") for one in (init if isinstance(init, list) else [init])]
    start = script(row["start"], "start") if row.get("start") else Script("bash", "")
    evaluation = expect(require(row, "evaluation", file=file, field=field), dict, file=file, field=at("evaluation"))
    definition: JsonObject = {key: value for key, value in row.items() if key not in _READ}
    definition.update({key: create[key] for key in ("local",) if key in create})
    if "match" in evaluation:
        match = expect(evaluation["match"], (str, dict), file=file, field=at("evaluation.match"))
        definition["match"] = {"answer": match, "strip": True} if isinstance(match, str) else match
        try:
            re.compile(str(definition["match"].get("regex", "")))
        except (re.error, RecursionError, OverflowError) as error:
            raise BadInput(f"no regular expression: {error}", file=file, field=at("evaluation.match.regex")) from error
    elif "check" in evaluation:
        checks = evaluation["check"] if isinstance(evaluation["check"], list) else [evaluation["check"]]
        definition["check"] = [one if one is None else script(one, "evaluation.check").json() for one in checks]
        if evaluation.get("example") is not None:
            definition["example"] = script(evaluation["example"], "evaluation.example").json()
        elif None in checks:
            raise BadInput(
                "a check is the reference script, and there is none", file=file, field=at("evaluation.example")
            )
    else:
        raise BadInput("has neither 'match' nor 'check'", file=file, field=at("evaluation"))
    return TerminalTask(
        set="agentbench",
        instruction=instruction,
        system=_SYSTEM,
        workdir=_HOME,
        setup=Setup(script=_setup(inits), start=_start(start)),
        timeout=_SECONDS,
        observation="template",
        observation_template=_OBSERVATION,
        definition=definition,
    )


def unprepared_task(question: str) -> TerminalTask:
    """A task of which only the question is known: it cannot be built, and says so."""
    missing = (
        "the task of this run is missing: put AgentBench's task file (*.json) that asks its question beside the log"
    )
    return TerminalTask(
        instruction=question,
        workdir=_HOME,
        setup=Setup(script=f"echo {shlex.quote(missing)}; exit 1"),
        observation="template",
        observation_template=_OBSERVATION,
    )


_READ = ("description", "create", "start", "evaluation")


def _setup(scripts: Sequence[Script]) -> str:
    if not scripts:
        return ""
    lines = [f"getent group {name} >/dev/null || groupadd -g {number} {name}" for name, number in _GROUPS.items()]
    for name in ("su", "su-l"):
        lines.append(f"[ -e /etc/pam.d/{name} ] || {{ mkdir -p /etc/pam.d; printf '{_RULES}' >/etc/pam.d/{name}; }}")
    lines.append(f"cd {_HOME} || exit 1")
    for script in scripts:
        if script.code is None:
            lines.append(f"echo {shlex.quote(_absent(script))}; exit 1")
        else:
            lines.append(f"{script.command()} || exit")
    return "\n".join(lines)


def _start(script: Script) -> str:
    return script.code if script.code is not None else f"echo {shlex.quote(_absent(script))}; false"


def _absent(script: Script) -> str:
    return f"the script {script.file} is not there: put it beside the task file, or into scripts/ as AgentBench does"


def _demand(task: Task, script: Script | None) -> None:
    from pivotgym.envs.terminal.env import NoGoal

    if script is None:
        raise NoGoal(f"task {task.id} has no reference script")
    if script.code is None and script.comparison is None:
        raise NoGoal(f"task {task.id}: {_absent(script)}")


def _matched(match: JsonObject, answer: str) -> Verdict:
    if match.get("strip"):
        answer = answer.strip()
    if "answer" in match:
        reached = answer == match["answer"]
    elif "regex" in match:
        reached = re.search(str(match["regex"]), answer) is not None
    else:
        reached = False
    return verdict(reached, "the answer matches" if reached else "the answer does not match", answer=answer)


def _checked(
    spec: TerminalTask, scripts: Sequence[Script | None], reference: Script | None, answer: str, final: Final
) -> Verdict:
    """Runs the checks in a fork of the final state."""
    said = [answer]
    with ExitStack() as stack:
        box = stack.enter_context(final.fork())
        backend = backend_of(box)
        end = stack.enter_context(frozen(backend, box))
        for number, script in enumerate(scripts, start=1):
            assert script is not None
            if script.comparison is not None:
                if not script.comparison(said[0], said[-1]):
                    return verdict(
                        False, f"the answer is not the expected one ({script.file})", answer=answer, said=said[1:]
                    )
                said.append("")
                continue
            status, output = _run(box, script, said)
            if status != 0:
                return verdict(False, f"check {number} failed", answer=answer, said=said[1:], output=output)
            said.append(output)
        fresh = prepare(backend, spec, box.config.image)
        stack.callback(fresh.stop)
        start = stack.enter_context(frozen(backend, fresh))
        changes = [change for change in backend.changes(start, end) if can_deceive(change)]
        if changes and reference is not None and reference.code is not None:
            commands = commands_in(fresh)
            _run(fresh, reference, [])
            added = added_by(backend.changes(start, stack.enter_context(frozen(backend, fresh))), commands)
            changes = [change for change in changes if not added(change)]
    if changes:
        paths = [printable(change.path) for change in changes[:20]]
        reason = "programs or libraries that the check may rely on were changed or added"
        return verdict(False, reason, answer=answer, replaced=paths)
    return verdict(True, "every check passed", answer=answer, said=said[1:])


def _run(box: Sandbox, script: Script, said: Sequence[str]) -> tuple[int | None, str]:
    python = f"export PYTHONPYCACHEPREFIX={NO_CACHE} PYTHONDONTWRITEBYTECODE=1"
    result = box.run(f"cd {_HOME}; PATH={PATH}; {python}; {script.command(*said)} 2>/dev/null", timeout=_SECONDS)
    return result.status, result.output
