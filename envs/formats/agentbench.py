"""Import of AgentBench's logs of OS interaction (``runs.jsonl``: one run a line, with its history).

The agent's texts (``Think: … Act: bash`` and a fenced block, ``Act: finish``, ``Act: answer(…)``) become calls and
final messages; the text itself stays the message's content, and what the system answered is kept word for word. A log
does not hold its tasks: they are found by their question in AgentBench's task files (``*.json``) beside the log. A run
whose task is not there is imported, and restoring it says what is missing. Nothing is lost: :func:`export_run` gives a
line back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.rows import OnError, PathLike, Row, expect, load_rows, require
from pivotgym.envs.formats.terminal_common import BASH, BASH_TOOL, bash_call
from pivotgym.envs.trajectory import UNDELIVERED, JsonObject, Message, Outcome, Task, Trajectory

_QUESTION = re.compile(r"(?s).*(?:My|my) problem is:\n\n(.*)")
_ACT = re.compile(r"Act:\s*(.+)")
_BLOCK = re.compile(r"(?s)```bash\n(.*?)\n```")
_AGENT = "agent"
_ROLES = ("user", _AGENT)


def is_run(row: Any) -> bool:
    """Whether a JSON value looks like a line of such a log."""
    return (
        isinstance(row, dict) and "index" in row and isinstance(row.get("output"), dict) and "history" in row["output"]
    )


def read_agentbench(
    path: PathLike, on_error: OnError = "raise", errors: list[BadInput] | None = None
) -> Iterator[Trajectory]:
    """One trajectory a run. Raises BadInput, naming line and field."""
    known: dict[str, Task] | None = None

    def convert(row: Row) -> Trajectory:
        nonlocal known
        if known is None:
            known = _tasks_beside(Path(path))
        return _run(row, Path(path), known)

    return load_rows(path, convert, on_error, errors)


def export_run(trajectory: Trajectory) -> JsonObject:
    """The recorded line."""
    source = trajectory.source
    said = [
        {**message.source["item"], "content": message.source.get("text", message.content)}
        for message in trajectory.messages
        if "item" in message.source
    ]
    return {**source["run"], "output": {**source["output"], "history": [*source["prompt"], *said]}}


def _run(row: Row, path: Path, known: dict[str, Task]) -> Trajectory:
    value = expect(row.value, dict, file=path, line=row.line, field=row.field)
    index = require(value, "index", file=path, line=row.line, field=row.field)
    output = expect(
        require(value, "output", file=path, line=row.line, field=row.field),
        dict,
        file=path,
        line=row.line,
        field="output",
    )
    history = expect(output.get("history") or [], list, file=path, line=row.line, field="output.history")
    for position, item in enumerate(history):
        field = f"output.history.{position}"
        expect(item, dict, file=path, line=row.line, field=field)
        expect(
            require(item, "content", file=path, line=row.line, field=field), str, file=path, line=row.line, field=field
        )
        if require(item, "role", file=path, line=row.line, field=field) not in _ROLES:
            raise BadInput(f"no role {item['role']!r}", file=path, line=row.line, field=f"{field}.role")
    # An example conversation may come first; the last question is the run's own.
    asked = [n for n, item in enumerate(history) if item["role"] == "user" and _QUESTION.match(item["content"])]
    first = asked[-1] if asked else 0
    messages: list[Message] = []
    for item in history[first:]:
        messages.append(_message(item, len(messages), messages[-1] if messages else None))
    found = _QUESTION.match(history[first]["content"]) if asked else None
    question = found[1] if found else (history[0]["content"] if history else "")
    result = output.get("result")
    reached = result.get("result") if isinstance(result, dict) else None
    return Trajectory(
        id=f"{path.name.split('.')[0]}/{index}",
        task=known.get(question.strip()) or _unknown(question),
        tools=[BASH_TOOL],
        messages=messages,
        outcome=Outcome(
            reward=float(reached) if isinstance(reached, bool | int | float) else None,
            termination=output["status"] if isinstance(output.get("status"), str) else None,
            details=result if isinstance(result, dict) else {},
        ),
        source={
            "format": "agentbench",
            "run": {key: kept for key, kept in value.items() if key != "output"},
            "output": {key: kept for key, kept in output.items() if key != "history"},
            "prompt": history[:first],
        },
    )


def _message(item: JsonObject, position: int, before: Message | None) -> Message:
    text = item["content"]
    source: JsonObject = {"item": {key: value for key, value in item.items() if key != "content"}}
    if item["role"] == "user":
        if before is not None and before.tool_calls:
            return Message(role="tool", content=text, tool_call_id=before.tool_calls[0].id, name=BASH, source=source)
        mark = {UNDELIVERED: "no action"} if before is not None and not before.delivered else {}
        return Message(role="user", content=text, source={**source, **mark})
    # The last act that is one counts.
    for act in reversed(_ACT.findall(text)):
        kind = act.lower()
        if kind.startswith("bash"):
            command = "\n\n".join(_BLOCK.findall(text))
            return Message(
                role="assistant", content=text, tool_calls=[bash_call(command, f"call_{position}")], source=source
            )
        if kind.startswith("finish"):
            return Message(role="assistant", content=text, source=source)
        if kind.startswith("answer") and "(" in act and ")" in act:
            # What ends an episode here is the answer itself.
            answer = act[act.index("(") + 1 : act.rindex(")")]
            return Message(role="assistant", content=answer, source={**source, "text": text})
    return Message(role="assistant", content=text, source={**source, UNDELIVERED: "no action"})


def _tasks_beside(path: Path) -> dict[str, Task]:
    """Tasks by their question, from every task file in the log's folder."""
    from pivotgym.envs.terminal.agentbench import read_tasks

    tasks: dict[str, Task] = {}
    for file in sorted(path.parent.glob("*.json")):
        try:
            for task in read_tasks(file):
                tasks.setdefault(str(task.data["instruction"]).strip(), task)
        except BadInput:  # another JSON file
            continue
    return tasks


def _unknown(question: str) -> Task:
    from pivotgym.envs.terminal.agentbench import unprepared_task

    return unprepared_task(question).task("agentbench/unknown")
