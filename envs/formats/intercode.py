"""Import of InterCode's recorded bash sessions (one JSON object: session number to session).

Nothing is lost: :func:`export_session` gives a session back. Beside the file are looked for, by the number ``N`` in the
session's ``dataset`` or the file's name: ``fs_N.tar.gz``, the file system the session ran on (without it a session is
imported and cannot be restored), and ``nl2bash_fs_N.json``, whose reference command makes the task's goal.

What the file shows of the container they all ran in goes into every task: its name, where a command printed it, and the
programs it did not have. The rest of a session is in ``source``: ``session`` (all but the turns), ``history``, and
``beyond`` (entries that belong to no turn); a result's ``source`` has its reward and whether the action was valid.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.rows import OnError, PathLike, Problems, UniqueIds, expect, load_document, require
from pivotgym.envs.formats.terminal_common import BASH, BASH_TOOL, bash_call
from pivotgym.envs.terminal.intercode_task import archive_beside, file_system_number, intercode_task
from pivotgym.envs.trajectory import UNDELIVERED, JsonObject, Message, Outcome, Task, Trajectory

ENVIRONMENT = "ic_bash"
_LISTS = ("actions", "observations", "rewards", "valid_action")
_TURNS = "turn_history"
_SKIP = "skip"
_TURN = "turn"
# What the agent was told when its message held no command; nothing was run then.
_NO_COMMAND = re.compile(r"No \w+ code was found in your last response\.")
_NOT_FOUND = re.compile(r"^\S+: line \d+: ([\w.+-]+): command not found$", re.MULTILINE)
_NAME = re.compile(r"[\w.+-]+")
_CONTAINER = re.compile(r"^[0-9a-f]{12}$", re.MULTILINE)


def is_sessions(document: Any) -> bool:
    """Whether a JSON value looks like such a file."""
    return isinstance(document, dict) and any(isinstance(row, dict) and _TURNS in row for row in document.values())


def read_intercode(
    path: PathLike, on_error: OnError = "raise", errors: list[BadInput] | None = None
) -> Iterator[Trajectory]:
    """One trajectory a session, in the file's order.

    Raises:
        BadInput: naming the field, as ``12.turn_history.actions.3``.
    """
    document = expect(load_document(path), dict, file=path)
    file = _File(Path(path), document)
    problems, ids = Problems(on_error, errors), UniqueIds(path)
    for key, session in document.items():
        try:
            trajectory = file.trajectory(key, expect(session, dict, file=path, field=key))
            ids.check(trajectory.id, None)
        except BadInput as problem:
            problems.report(problem)
            continue
        yield trajectory


def export_session(trajectory: Trajectory) -> JsonObject:
    """The recorded session."""
    lists: dict[str, list[Any]] = {key: [] for key in _LISTS}
    for message in trajectory.messages:
        if message.role == "assistant":
            lists["actions"].append(_command(message))
        elif _TURN in message.source:
            lists["observations"].append(message.content)
            for key, value in message.source[_TURN].items():
                lists[key].append(value)
    source = trajectory.source
    for key in _LISTS:
        lists[key] += source["beyond"].get(key, [])
    history = {**source["history"], **{key: lists[key] for key in source["lists"]}}
    return {**source["session"], _TURNS: history}


def _command(message: Message) -> Any:
    arguments = message.tool_calls[0].arguments if message.tool_calls else {}
    return arguments["command"] if isinstance(arguments, dict) and arguments else message.content


class _File:
    """What all sessions of one file share."""

    def __init__(self, path: Path, document: JsonObject) -> None:
        self.path = path
        self.hostname = "sandbox"
        lacked, had = set[str](), set[str]()
        for action, text, valid in _observed(document):
            absent = set(_NOT_FOUND.findall(text))
            lacked |= absent
            if valid:
                had |= set(_NAME.findall(action)) - absent
            if "hostname" in action and (found := _CONTAINER.search(text)):
                self.hostname = found[0]
        self.missing = sorted(lacked - had)
        self._archives: dict[str, bytes | None] = {}
        self._references: dict[str, list[Any]] = {}

    def trajectory(self, key: str, session: JsonObject) -> Trajectory:
        """One session. Raises BadInput."""
        history = expect(require(session, _TURNS, file=self.path, field=key), dict, file=self.path)
        where = f"{key}.{_TURNS}"
        environment = session.get("environment", ENVIRONMENT)
        if environment != ENVIRONMENT:
            raise BadInput(
                f"sessions of {environment!r} are not read, only of {ENVIRONMENT!r}",
                file=self.path,
                field=f"{key}.environment",
            )
        query = expect(require(session, "query", file=self.path, field=key), str, file=self.path, field=f"{key}.query")
        lists = {
            name: expect(
                require(history, name, file=self.path, field=where), list, file=self.path, field=f"{where}.{name}"
            )
            for name in _LISTS
            if name in history or name in ("actions", "observations")
        }
        count = len(lists["observations"])
        for name in lists:
            if len(lists[name]) < count:
                raise BadInput(f"{len(lists[name])} for {count} observations", file=self.path, field=f"{where}.{name}")
        messages = [Message(role="user", content=query)]
        for turn in range(count):
            messages += self._turn({name: values[turn] for name, values in lists.items()}, turn, where)
        summary = session.get("summary")
        rewards = [value for value in lists.get("rewards", []) if isinstance(value, int | float)]
        return Trajectory(
            id=f"{self.path.name.split('.')[0]}/{key}",
            task=self._task(key, session, query),
            tools=[BASH_TOOL],
            messages=messages,
            outcome=Outcome(
                reward=max(rewards) if rewards else None,
                termination="solved" if rewards and rewards[-1] == 1 else "max_turns",
                details={"summary": summary} if isinstance(summary, dict) else {},
            ),
            source={
                "format": "intercode",
                "session": {name: value for name, value in session.items() if name != _TURNS},
                "history": {name: value for name, value in history.items() if name not in _LISTS},
                "lists": list(lists),
                "beyond": {name: values[count:] for name, values in lists.items() if values[count:]},
            },
        )

    def _turn(self, row: JsonObject, turn: int, where: str) -> list[Message]:
        action, observation = (
            expect(row[name], str, file=self.path, field=f"{where}.{name}.{turn}")
            for name in ("actions", "observations")
        )
        source: JsonObject = {_TURN: {name: row[name] for name in ("rewards", "valid_action") if name in row}}
        if _NO_COMMAND.match(observation) or action == _SKIP:
            mark = {UNDELIVERED: "no command" if action != _SKIP else "skipped"}
            return [
                Message(role="assistant", content=action, source=mark),
                Message(role="user", content=observation, source={**source, **mark}),
            ]
        call = bash_call(action, f"call_{turn}")
        return [
            Message(role="assistant", tool_calls=[call]),
            Message(role="tool", content=observation, tool_call_id=call.id, name=BASH, source=source),
        ]

    def _task(self, key: str, session: JsonObject, query: str) -> Task:
        number = file_system_number(str(session.get("dataset", ""))) or file_system_number(self.path.name)
        if number is None:
            raise BadInput(
                "neither it nor the file's name says which file system this is about (…fs_N.json)",
                file=self.path,
                field=f"{key}.dataset",
            )
        if number not in self._archives:
            self._archives[number] = archive_beside(self.path, number)
        index = session.get("task_id", key)
        spec = intercode_task(
            query,
            number,
            self._archives[number],
            gold=self._gold(number, index, query),
            hostname=self.hostname,
            missing=self.missing,
        )
        return spec.task(f"intercode/fs_{number}/{index}")

    def _gold(self, number: str, index: Any, query: str) -> Any:
        if number not in self._references:
            file = self.path.parent / f"nl2bash_fs_{number}.json"
            rows = load_document(file) if file.is_file() else []
            self._references[number] = rows if isinstance(rows, list) else []
        for row in self._references[number]:
            if isinstance(row, dict) and row.get("query") == query:
                return row.get("gold")
        return None


def _observed(document: JsonObject) -> Iterator[tuple[str, str, bool]]:
    """Action, observation and whether it was valid, of every well-formed turn in the file."""
    for session in document.values():
        history = session.get(_TURNS) if isinstance(session, dict) else None
        lists = (
            [history.get(name) for name in ("actions", "observations", "valid_action")]
            if isinstance(history, dict)
            else []
        )
        if len(lists) == 3 and all(isinstance(values, list) for values in lists):
            for action, text, valid in zip(*lists, strict=False):
                if isinstance(action, str) and isinstance(text, str):
                    yield action, text, valid is True
