"""Import of Playwright scripts as ``playwright codegen`` writes them, in Python or JavaScript.

A script says what was done and not what was seen. It becomes a skeleton: a trajectory whose actions carry the script's
locators (under ``source["playwright"]``) instead of element ids, with no observations and no task.
:func:`pivotgym.envs.browser.skeleton.record` runs it in an environment, where Playwright resolves the locators, and
gives the trajectory that can be restored. Expectations, waits and listeners do nothing and are kept as notes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotgym.envs.browser.actions import TOOLS
from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.playwright_js import read_javascript
from pivotgym.envs.formats.playwright_python import Script, Wrong, read_python
from pivotgym.envs.formats.playwright_steps import Step
from pivotgym.envs.formats.rows import OnError, PathLike, Problems, read_text
from pivotgym.envs.trajectory import Message, ToolCall, Trajectory

FORMAT = "playwright"
MAX_BYTES = 4 << 20
_PYTHON = re.compile(r"^\s*(?:from|import) (?:playwright|pytest_playwright)\b", re.MULTILINE)
_JAVASCRIPT = re.compile(
    r"""^\s*(?:import\b[^\n]*\bfrom|const\b[^\n]*=\s*require\()\s*['"](?:@playwright/test|playwright(?:-core)?)['"]""",
    re.MULTILINE,
)


def is_script(path: Path) -> bool:
    """Whether a file is a Playwright script: one that imports it."""
    try:
        with path.open("rb") as file:
            head = file.read(1 << 16).decode("utf-8", "replace")
    except OSError:
        return False
    return bool(_PYTHON.search(head) or _JAVASCRIPT.search(head))


def read_playwright(
    path: PathLike, on_error: OnError = "raise", errors: list[BadInput] | None = None
) -> Iterator[Trajectory]:
    """The skeletons of a script: one for each function or test in it that does something.

    Raises:
        BadInput: a statement that recorders do not write, with file and line; nothing is done in the script.
    """
    problems = Problems(on_error, errors)
    try:
        source = read_text(path)
        if len(source) > MAX_BYTES:
            raise BadInput(f"more than {MAX_BYTES} characters", file=path)
        try:
            scripts = read_javascript(source) if _JAVASCRIPT.search(source) else read_python(source)
        except Wrong as wrong:
            raise BadInput(wrong.problem, file=path, line=wrong.line) from wrong
        if not scripts:
            raise BadInput("the script does nothing", file=path)
    except BadInput as problem:
        problems.report(problem)
        return
    stem = Path(path).name.partition(".")[0]
    for script in scripts:
        name = stem if len(scripts) == 1 or not script.name else f"{stem}.{script.name}"
        yield _skeleton(name, script)


def _skeleton(name: str, script: Script) -> Trajectory:
    messages: list[Message] = []
    for number, step in enumerate(script.steps):
        call = ToolCall(name=step.kind, arguments=_arguments(step), id=f"call_{number}")
        source = {FORMAT: step.model_dump(mode="json", exclude_defaults=True)}
        messages.append(Message(role="assistant", content="", tool_calls=[call], source=source))
    first = next((step for step in script.steps if step.kind == "goto"), None)
    found = {"format": FORMAT, "skeleton": True, "url": first.arguments["url"] if first else None}
    if script.viewport is not None:
        found["viewport"] = list(script.viewport)
    if script.notes:
        found["notes"] = script.notes
    return Trajectory(id=name, tools=TOOLS, messages=messages, source=found)


def _arguments(step: Step) -> dict[str, object]:
    """For people to read: the locator stands where an element's id will."""
    arguments: dict[str, object] = {}
    if step.locator is not None:
        arguments["from_bid" if step.target is not None else "bid"] = spell(step.locator)
    if step.target is not None:
        arguments["to_bid"] = spell(step.target)
    return {**arguments, **step.arguments}


def spell(locator: Sequence[Any]) -> str:
    """A locator in Python's spelling."""
    spelled = ""
    for name, values, options in locator:
        spelled += f".{name}" if spelled else f"{name}"
        if values is not None:
            given = [_spell(value) for value in values] + [f"{key}={_spell(value)}" for key, value in options.items()]
            spelled += f"({', '.join(given)})"
    return spelled


def _spell(value: object) -> str:
    if isinstance(value, dict) and "regex" in value:
        return f"/{value['regex']}/{value['flags']}"
    if isinstance(value, dict):
        return spell(value["locator"])
    return repr(value)
