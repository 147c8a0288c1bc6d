"""Import of AgentLab's recorded BrowserGym episodes: an experiment's folder, or one JSON document of the same content.

The document is an object of ``steps`` (BrowserGym's ``StepInfo``: observation, action, reward), ``exp_args`` and
``summary``. A folder holds the same in pickles, which are read without running anything in them
(:mod:`pivotgym.envs.formats.pickles`).

The observations come out in the layout of ``pivotgym/Browser-v0``: address, title, tabs, focus, last error, and the
recorded accessibility tree to the letter. BrowserGym gives every element a number in document order and keeps it, and
so does the environment, so recorded ids name the same elements. MiniWoB++ episodes get their task, with the seed
BrowserGym gave the page; of other benchmarks the pages are elsewhere: such episodes are imported and cannot be
restored. Under ``source`` are the experiment's arguments and summary and, with each message, what the step says beside
the page's own content; DOM, HTML and tree objects are left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pivotgym.envs.browser import prompts
from pivotgym.envs.browser.actions import TOOLS, NotCalls, parse_calls
from pivotgym.envs.browser.miniwob import VIEWPORT, browsergym_seed, page_url
from pivotgym.envs.browser.tasks import BrowserTask
from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.pickles import read_pickle
from pivotgym.envs.formats.rows import OnError, PathLike, Problems, Row, expect, join, load_rows, require
from pivotgym.envs.trajectory import UNDELIVERED, JsonObject, Message, Outcome, Task, Trajectory

FORMAT = "agentlab"
_KEPT_OF_STEP = ("reward", "raw_reward", "terminated", "truncated", "task_info", "stats")
_KEPT_OF_AGENT = ("think", "markdown_page", "stats", "extra_info")
_PAGE = re.compile(r"^(?:file|https?)://.*/miniwob/([\w-]+)\.html(.*)$")
_STEP = re.compile(r"step_(\d+)\.pkl\.gz")


def is_agentlab(row: Any) -> bool:
    """Whether a row is a recorded episode."""
    return isinstance(row, dict) and isinstance(row.get("steps"), list) and "exp_args" in row


def is_experiment(path: Path) -> bool:
    """Whether a folder is that of an experiment."""
    return (path / "exp_args.pkl").is_file()


def read_agentlab(
    path: PathLike, on_error: OnError = "raise", errors: list[BadInput] | None = None
) -> Iterator[Trajectory]:
    """The episodes of a file, or the one of an experiment's folder.

    Args:
        path: a JSON document (or several, one a line), or a folder with ``exp_args.pkl`` and ``step_*.pkl.gz``.
        on_error: as for every format.
        errors: collects the problems when skipping.

    Raises:
        BadInput: what is wrong, with file, line or step, and field.
    """
    path = Path(path)
    if not path.is_dir():
        yield from load_rows(path, lambda row: _episode(row, path), on_error, errors)
        return
    problems = Problems(on_error, errors)
    try:
        trajectory = _episode(Row(_folder(path), 1, 1), path)
    except BadInput as problem:
        problems.report(problem)
        return
    yield trajectory


def _folder(path: Path) -> JsonObject:
    """An experiment's folder as one document."""
    found = {int(name[1]): one for one in path.iterdir() if (name := _STEP.fullmatch(one.name))}
    if not found:
        raise BadInput("no step_*.pkl.gz in it", file=path)
    if sorted(found) != list(range(len(found))):
        raise BadInput(f"steps are missing: there are {', '.join(map(str, sorted(found)))}", file=path)
    summary: Any = {}
    if (path / "summary_info.json").is_file():
        try:
            summary = json.loads((path / "summary_info.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BadInput(f"not valid JSON: {error}", file=path / "summary_info.json") from error
    steps = [read_pickle(found[number]) for number in sorted(found)]
    return {"steps": steps, "exp_args": read_pickle(path / "exp_args.pkl"), "summary": summary}


def _episode(row: Row, path: Path) -> Trajectory:
    line = row.line
    document = expect(row.value, dict, file=path, line=line, field=row.field)
    arguments = _part(document, "exp_args", dict, path, line, row.field)
    where = join(row.field, "exp_args")
    environment = _part(arguments, "env_args", dict, path, line, where)
    name = _part(environment, "task_name", str, path, line, join(where, "env_args"))
    seed = _part(environment, "task_seed", (int, type(None)), path, line, join(where, "env_args"))
    steps = _part(document, "steps", list, path, line, row.field)
    if not steps:
        raise BadInput("no steps", file=path, line=line, field=join(row.field, "steps"))
    messages: list[Message] = []
    for number, step in enumerate(steps):
        _Step(step, path, line, join(row.field, "steps", number)).add_to(messages, last=number == len(steps) - 1)
    summary = document.get("summary") or {}
    return Trajectory(
        id=str(document.get("episode") or arguments.get("exp_name") or f"{name}_{seed}"),
        task=_task(name, seed, environment),
        tools=TOOLS,
        messages=messages,
        outcome=_outcome(summary, steps),
        source={"format": FORMAT, "exp_args": arguments, "summary": summary},
    )


def _part(row: JsonObject, key: str, kind: Any, path: Path, line: int, field: str) -> Any:
    value = require(row, key, file=path, line=line, field=field)
    return expect(value, kind, file=path, line=line, field=join(field, key))


def _task(name: str, seed: int | None, environment: JsonObject) -> Task | None:
    if not name.startswith("miniwob.") or seed is None:
        return None
    page = name.removeprefix("miniwob.")
    size = environment.get("viewport") or {}
    spec = BrowserTask(
        set="miniwob",
        name=page,
        url=page_url(page),
        seed=browsergym_seed(seed),
        viewport=(int(size.get("width", VIEWPORT[0])), int(size.get("height", VIEWPORT[1]))),
        tree="browsergym",
    )
    return spec.task(f"{name}.{seed}")


def _outcome(summary: JsonObject, steps: list[JsonObject]) -> Outcome:
    last = steps[-1]
    reward = summary.get("cum_reward")
    if reward is None:
        reward = sum(float(step.get("reward") or 0.0) for step in steps)
    failed = bool(summary.get("err_msg"))
    ended = "done" if last.get("terminated") else "truncated" if last.get("truncated") else None
    # An episode that AgentLab itself gave up says nothing about the agent.
    return Outcome(
        reward=None if failed else float(reward),
        termination="error" if failed else ended,
        details={key: value for key, value in summary.items() if not key.startswith("stats.")},
    )


class _Step:
    """One ``StepInfo``: what was seen, and what was done then."""

    def __init__(self, step: Any, path: Path, line: int, field: str) -> None:
        self.path, self.line, self.field = path, line, field
        self.step: JsonObject = expect(step, dict, file=path, line=line, field=field)
        self.action = _part(self.step, "action", (str, type(None)), path, line, field)
        seen = self.step.get("obs")
        self.seen: JsonObject | None = expect(seen, (dict, type(None)), file=path, line=line, field=join(field, "obs"))

    def add_to(self, messages: list[Message], last: bool) -> None:
        """Appends the observation, as the answer to the action before or as the opening, and then the action."""
        source = {FORMAT: {key: self.step[key] for key in _KEPT_OF_STEP if key in self.step}}
        before = messages[-1] if messages else None
        if before is None:
            goal = self._seen("goal", str)
            messages.append(Message(role="system", content=prompts.TOOLS_SYSTEM))
            messages.append(Message(role="user", content=prompts.opening(goal, self.text()), source=source))
        elif self.seen is not None:
            messages.extend(self._answers(before, source))
        if self.action is not None:
            messages.append(self._acted(len(messages)))
        elif not last:
            raise BadInput("no action, and yet there are further steps", **self._where("action"))

    def _answers(self, before: Message, source: JsonObject) -> list[Message]:
        text = self.text()
        if not before.delivered:
            said = {UNDELIVERED: "says why it was not run"}
            return [Message(role="user", content=text, source={**source, **said})]
        calls = before.tool_calls
        if not calls:
            return [Message(role="user", content=text, source=source)]
        done = [Message(role="tool", content="Done.", tool_call_id=call.id, name=call.name) for call in calls[:-1]]
        shown = Message(role="tool", content=text, tool_call_id=calls[-1].id, name=calls[-1].name, source=source)
        return [*done, shown]

    def _acted(self, number: int) -> Message:
        info = self.step.get("agent_info")
        info = info if isinstance(info, dict) else {}
        source: JsonObject = {FORMAT: {key: info[key] for key in _KEPT_OF_AGENT if key in info}}
        think = info.get("think")
        reasoning = think if isinstance(think, str) and think else None
        try:
            calls = parse_calls(str(self.action))
        except NotCalls as problem:
            source[UNDELIVERED] = str(problem)
            return Message(role="assistant", content=self.action, reasoning_content=reasoning, source=source)
        for position, call in enumerate(calls):
            call.id = f"call_{number}_{position}"
        return Message(role="assistant", content="", tool_calls=calls, reasoning_content=reasoning, source=source)

    def text(self) -> str:
        """The observation as the environment would show it."""
        urls, titles = self._seen("open_pages_urls", list), self._seen("open_pages_titles", list)
        url, tree = self._seen("url", str), self._seen("axtree_txt", str)
        if len(urls) != len(titles) or not urls:
            raise BadInput("not as many titles as addresses", **self._where("obs.open_pages_titles"))
        active = urls.index(url) if url in urls else 0
        head = [f"URL: {_address(url)}", f"Title: {titles[active]}"]
        if len(urls) > 1:
            head.append("Tabs:")
            for index, (one, title) in enumerate(zip(urls, titles, strict=True)):
                head.append(f"  {index}: {title!r} {_address(str(one))}{' (active)' if index == active else ''}")
        focus = (self.seen or {}).get("focused_element_bid")
        if focus:
            head.append(f"Focused: [{focus}]")
        error = (self.seen or {}).get("last_action_error")
        if error:
            head.append(f"Error: {str(error).splitlines()[0]}")
        return "\n".join([*head, "", tree])

    def _seen(self, key: str, kind: type) -> Any:
        if self.seen is None:
            raise BadInput("missing", **self._where("obs"))
        return _part(self.seen, key, kind, self.path, self.line, join(self.field, "obs"))

    def _where(self, field: str) -> dict[str, Any]:
        return {"file": self.path, "line": self.line, "field": join(self.field, field)}


def _address(url: str) -> str:
    """A page of MiniWoB++ has the environment's address, wherever the recording's files lay."""
    found = _PAGE.match(url)
    return page_url(found.group(1)) + found.group(2) if found else url
