"""InterCode's bash tasks (nl2bash): a question about a small file system, judged against a reference command.

``InterCodeTasks("nl2bash_fs_1.json")`` reads queries and reference commands; the file system is ``fs_1.tar.gz`` beside
that file. An action runs as it ran there, see :mod:`pivotgym.envs.terminal.intercode_shell`.

The paper's reward compares the agent's end state with that of the reference command, run in a sandbox of its own:
``0.01 + 0.33 (1 - erf(n)) + 0.33 c + 0.33 s``, each part rounded to two digits. ``n`` counts the changes (path and
status, as ``git status --short`` gives them) that only one side has, ``c`` is the share of equal content among new
paths that both have, ``s`` the cosine similarity of the TF-IDF vectors of the last command's output and the
reference's. Four things differ from the original: names with blanks are read as they are, contents of folders are
compared (there a program for it was missing), nothing the agent left behind is executed, and what the reference itself
does not repeat a second later (the time, an archive's times) is not asked of the agent: such content counts as equal,
and ``s`` is measured in units of the reference's likeness to its own repetition.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar, Literal, Self

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.rows import expect, load_document, require
from pivotgym.envs.sandbox import FileChange, Snapshot
from pivotgym.envs.terminal.intercode_causes import cause_of_session
from pivotgym.envs.terminal.intercode_reward import Node, Score, Status, archive_nodes, compare_states, status_of
from pivotgym.envs.terminal.intercode_shell import IGNORED
from pivotgym.envs.terminal.intercode_task import archive_beside, file_system_number, intercode_task
from pivotgym.envs.terminal.judging import backend_of, frozen
from pivotgym.envs.terminal.prepare import prepare
from pivotgym.envs.terminal.tasks import Final, TaskSet, TerminalTask
from pivotgym.envs.trajectory import Message, Task
from pivotgym.envs.verdict import Verdict


class InterCodeTasks(TaskSet):
    """InterCode's nl2bash tasks.

    Args:
        path: ``nl2bash_fs_N.json``, or a folder of such files; None judges tasks that come with trajectories.
        reward: what :meth:`goal` gives: ``strict`` is 1 where the paper's reward is 1 and changed files have the
            reference's content too, else 0; ``paper`` is the paper's reward. Both are in the evidence.
    """

    name: ClassVar[str] = "intercode"

    def __init__(self, path: str | Path | None = None, *, reward: Literal["strict", "paper"] = "strict") -> None:
        if reward not in ("strict", "paper"):
            raise BadInput(f"reward is 'strict' or 'paper', not {reward!r}", field="reward")
        self._path, self._reward = path, reward
        self._tasks: list[Task] | None = None
        self._repeated: dict[str, Score] = {}

    def tasks(self) -> Sequence[Task]:
        """The file's tasks in its order; none without a file."""
        if self._tasks is None:
            self._tasks = [task for file in self._files() for task in self._read(file)]
        return self._tasks

    def goal(self, task: Task, final: Final) -> Verdict:
        """Compares the end state and the last output with those of the reference command.

        Raises:
            NoGoal: the task has no reference command.
        """
        from pivotgym.envs.terminal.env import NoGoal

        spec = TerminalTask.of(task)
        gold = spec.definition.get("gold")
        if not isinstance(gold, str | list):
            raise NoGoal(f"task {task.id} has no reference command to judge by")
        command = gold if isinstance(gold, str) else ";".join(map(str, gold))
        tracked = {
            path: node
            for data in spec.setup.archive_bytes()
            for path, node in archive_nodes(data).items()
            if node.kind != "directory" and not IGNORED.intersection(path.split("/"))
        }
        with _Judged(spec, command, final) as judged:
            agent, reference = judged.agent(tracked), judged.reference(tracked)
            score = compare_states(agent, reference, last_output(spec, final), judged.output)
            acted = any(message.role == "tool" for message in final.messages)
            if acted and not score.reached and not score.missing and not score.extra:
                if task.key not in self._repeated:
                    self._repeated[task.key] = judged.repeated(tracked)
                score = score.beside(self._repeated[task.key])
        paper = spec.definition.get("reward") == "paper"
        reward = min(score.reward, 1.0) if paper else float(score.reached)
        return Verdict(reward=reward, rule="goal", reason=score.reason, evidence=score.evidence())

    def explain(self, task: Task, action: Message, replayed: str, recorded: str) -> str | None:
        """See :func:`pivotgym.envs.terminal.intercode_causes.cause_of_session`."""
        commands = [call.arguments.get("command") for call in action.tool_calls if isinstance(call.arguments, dict)]
        return cause_of_session("\n".join(map(str, commands)), replayed, recorded)

    def _files(self) -> list[Path]:
        if self._path is None:
            return []
        path = Path(self._path)
        return sorted(path.glob("nl2bash*.json")) if path.is_dir() else [path]

    def _read(self, file: Path) -> list[Task]:
        number = file_system_number(file.name)
        if number is None:
            raise BadInput("its name does not say which file system it is about (…fs_N.json)", file=file)
        archive = archive_beside(file, number)
        tasks = []
        for index, row in enumerate(expect(load_document(file), list, file=file)):
            query, gold = (
                require(expect(row, dict, file=file, field=str(index)), key, file=file, field=str(index))
                for key in ("query", "gold")
            )
            expect(query, str, file=file, field=f"{index}.query")
            expect(gold, (str, list), file=file, field=f"{index}.gold")
            rest = {key: value for key, value in row.items() if key not in ("query", "gold")}
            spec = intercode_task(query, number, archive, gold=gold, reward=self._reward, **rest)
            tasks.append(spec.task(f"intercode/fs_{number}/{index}"))
        return tasks


def last_output(spec: TerminalTask, final: Final) -> str:
    """What the last command showed; as in InterCode the question itself where none was run."""
    for message in reversed(final.messages):
        if message.role == "tool":
            return message.text
    return spec.instruction


class _Judged:
    """The agent's end state and that of the reference command, side by side in one backend."""

    def __init__(self, spec: TerminalTask, gold: str, final: Final) -> None:
        self._spec, self._gold, self._final = spec, gold, final
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            box = stack.enter_context(self._final.fork())
            self._backend, self._image = backend_of(box), box.config.image
            self._agent = stack.enter_context(frozen(self._backend, box))
            self.output, self._changes, self._start = self._run(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def agent(self, tracked: Mapping[str, Node]) -> Status:
        """What the agent changed."""
        return status_of(self._backend.changes(self._start, self._agent), tracked)

    def reference(self, tracked: Mapping[str, Node]) -> Status:
        """What the reference changed."""
        return status_of(self._changes, tracked)

    def repeated(self, tracked: Mapping[str, Node]) -> Score:
        """The reference against itself a second later: what depends on the moment differs."""
        time.sleep(1.1)
        with ExitStack() as stack:
            output, changes, _ = self._run(stack)
            return compare_states(status_of(changes, tracked), self.reference(tracked), output, self.output)

    def _run(self, stack: ExitStack) -> tuple[str, list[FileChange], Snapshot]:
        fresh = prepare(self._backend, self._spec, self._image)
        stack.callback(fresh.stop)
        start = stack.enter_context(frozen(self._backend, fresh))
        result = fresh.run(self._gold, timeout=self._spec.timeout, shell=self._spec.shell)
        end = stack.enter_context(frozen(self._backend, fresh))
        return result.output, self._backend.changes(start, end), start
