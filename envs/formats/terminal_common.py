"""Shared by the importers of terminal agents' recordings: the bash call, templates of observations, kept fields."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import meta

from pivotgym.envs.terminal.prompts import BASH_TOOL as BASH_TOOL
from pivotgym.envs.terminal.prompts import KEYSTROKES_TOOL as KEYSTROKES_TOOL
from pivotgym.envs.terminal.tasks import TerminalTask
from pivotgym.envs.trajectory import JsonObject, Message, Task, ToolCall

BASH, KEYSTROKES = "bash", "keystrokes"
_MAX_WAIT = 60.0
RAW = "raw"
"""Key of ``Message.source``: the recorded message, without ``content`` where the message holds the same."""

_JSON_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}


def bash_call(command: str, call_id: str | None, **source: Any) -> ToolCall:
    """The call ``bash(command=...)``."""
    return ToolCall(name=BASH, arguments={"command": command}, id=call_id, source=source)


def keystrokes_call(batch: Sequence[tuple[str, Any]], call_id: str | None) -> ToolCall:
    """One call that sends all keys of ``batch``, pairs of keys and seconds to wait: one screen answers them.

    The keys are tmux's: text as it is typed with a line feed for Enter, or the name of one key (``C-c``).
    """
    waits = [float(wait) for _, wait in batch if isinstance(wait, int | float) and not isinstance(wait, bool)]
    wait = min(sum(waits), _MAX_WAIT) if waits else 1.0
    return ToolCall(name=KEYSTROKES, arguments={"keys": [keys for keys, _ in batch], "wait": wait}, id=call_id)


def tools_of(messages: Iterable[Message]) -> list[JsonObject]:
    """Tool definitions for every tool the agent called, the terminal's first; argument types as they were used."""
    used: dict[str, dict[str, JsonObject]] = {}
    for message in messages:
        for call in message.tool_calls if message.role == "assistant" else ():
            properties = used.setdefault(call.name, {})
            for key, value in call.arguments.items() if isinstance(call.arguments, dict) else ():
                properties.setdefault(key, {"type": _JSON_TYPES[type(value)]} if type(value) in _JSON_TYPES else {})
    known = {BASH: BASH_TOOL, KEYSTROKES: KEYSTROKES_TOOL}
    own = [tool for name, tool in known.items() if name in used] or [BASH_TOOL]
    return own + [
        {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": properties}}}
        for name, properties in sorted(used.items())
        if name not in known
    ]


def keep(raw: JsonObject, content: Any) -> JsonObject:
    """``source`` of a message made from ``raw``: what :func:`raw_of` needs to give it back."""
    if "content" in raw and raw["content"] == content and type(raw["content"]) is type(content):
        return {RAW: {key: value for key, value in raw.items() if key != "content"}, "content": True}
    return {RAW: dict(raw)}


def raw_of(message: Message) -> JsonObject:
    """The recorded message; a text edited since is written as edited."""
    raw: JsonObject = dict(message.source[RAW])
    if message.source.get("content"):
        raw["content"] = message.content
    return raw


def opening_texts(messages: Sequence[Message]) -> tuple[str | None, str]:
    """System text (None without one) and the last user text before the first turn."""
    system, instruction = None, ""
    for message in messages:
        if message.role == "assistant" and message.delivered:
            break
        if message.role in ("system", "developer"):
            system = message.text if system is None else f"{system}\n\n{message.text}"
        elif message.role == "user":
            instruction = message.text
    return system, instruction


def recorded_task(name: str, messages: Sequence[Message], **fields: Any) -> Task:
    """A terminal task whose goal is not known; ``fields`` of :class:`TerminalTask`, those that are None left out."""
    system, instruction = opening_texts(messages)
    given = {key: value for key, value in fields.items() if value is not None}
    return TerminalTask(system=system, instruction=instruction, **given).task(name)


def file_stem(path: str | Path) -> str:
    """The name of a file up to its first dot."""
    return Path(path).name.split(".")[0]


def row_name(path: str | Path, number: int) -> str:
    """A trajectory's name where the recording has none: the file's stem, numbered from the second row on."""
    return file_stem(path) if number == 1 else f"{file_stem(path)}-{number}"


# ------------------------------------------------------------------------------------------ observation templates


def adapt_template(template: str, variables: JsonObject | None = None) -> str:
    """A template of mini-swe-agent's configuration as one that the terminal environment can fill.

    Args:
        template: Jinja source; reads ``output.output``, ``output.returncode``, ``output.exception_info``.
        variables: what else the agent offered its templates; those it uses are written into the result.
    """
    try:
        names = meta.find_undeclared_variables(jinja2.Environment().parse(template))
    except jinja2.TemplateSyntaxError:
        return template
    known = {key: value for key, value in (variables or {}).items() if isinstance(value, str | int | float | bool)}
    lines = [f"{{% set {name} = {_literal(known[name])} %}}" for name in sorted(names - {"output"}) if name in known]
    if _WHOLE_RESULT.search(template):  # shown as Python prints it
        lines.append('{% set output = {"output": output, "returncode": returncode} %}')
    return "".join(lines) + template


def _literal(value: str | int | float | bool) -> str:
    return json.dumps(value)  # JSON's strings, numbers and booleans are Jinja's


_WHOLE_RESULT = re.compile(r"\{\{-?\s*output\s*-?\}\}")
_TAGS = re.compile(r"(?s)(?:<exception>.*</exception>\n)?<returncode>(-?\d+)</returncode>\n(.*)")
_LONG = re.compile(r"(?s)(.*?)<output_head>\n.*</elided_chars>\n<output_tail>\n.*")
_EXCEPTION = "{% if exception_info %}<exception>{{ exception_info }}</exception>\n{% endif %}"
_HEAD_TAIL = (
    "<output_head>\n{{ text[:5000] }}\n</output_head>\n<elided_chars>\n{{ text | length - 10000 }} characters elided\n"
    "</elided_chars>\n<output_tail>\n{{ text[-5000:] }}\n</output_tail>"
)
_RUNNER_END = re.compile(r"CommandExecError: -?\d+</output>$")
#: How NeMo Gym's container runner hands an output on: the last newline gone, a failure named at its end.
_RUNNER = (
    "{% set text = output if returncode == 0 else output ~ 'CommandExecError: ' ~ returncode %}"
    "{% set text = text[:-1] if text[-1:] == '\\n' else text %}"
)
_JSON_TEMPLATE = (
    "{% if output | length < 10000 %}"
    '{\n  "returncode": {{ returncode }},\n  "output": {{ output | tojson }}'
    '{% if exception_info %}, "exception_info": {{ exception_info | tojson }}{% endif %}\n}'
    "{% else %}"
    '{\n  "returncode": {{ returncode }},\n  "output_head": {{ output[:5000] | tojson }},\n'
    '  "output_tail": {{ output[-5000:] | tojson }},\n  "elided_chars": {{ output | length - 10000 }},\n'
    '  "warning": "Output too long."'
    '{% if exception_info %}, "exception_info": {{ exception_info | tojson }}{% endif %}\n}'
    "{% endif %}"
)


def infer_template(observations: Sequence[str], runner: bool = False) -> str | None:
    """The template a recording was made with, where it does not say and all its observations have one known shape.

    Known are the tagged form (return code, then the output, or head and tail of a long one after a warning whose words
    are taken from the recording), the same as NeMo Gym's runner fills it, and the JSON form.

    Args:
        observations: texts the commands got back.
        runner: they come from NeMo Gym's runner, even where none shows it.
    """
    if not observations:
        return None
    matches = [_TAGS.fullmatch(text) for text in observations]
    if all(matches):
        bodies = [(match[1], match[2]) for match in matches if match]
        runner = runner or any(code != "0" and _RUNNER_END.search(body) for code, body in bodies)
        warning = next((found[1] for _, body in bodies if (found := _LONG.fullmatch(body))), "")
        short = "<output>\n{{ text }}</output>"
        text = _RUNNER if runner else "{% set text = output %}"
        long = "{% raw %}" + warning + "{% endraw %}" + _HEAD_TAIL if warning else _HEAD_TAIL
        body = f"{{% if text | length < 10000 %}}{short}{{% else %}}{long}{{% endif %}}"
        return f"{text}{_EXCEPTION}<returncode>{{{{ returncode }}}}</returncode>\n{body}"
    if all(text.startswith('{\n  "returncode": ') and _is_json_object(text) for text in observations):
        return _JSON_TEMPLATE
    return None


def looks_shown(content: Any) -> bool:
    """Whether a text has one of the forms in which an agent is shown a command's result."""
    text = "".join(str(one.get("text", "")) for one in content) if isinstance(content, list) else str(content)
    return bool(_TAGS.match(text)) or text.startswith(('{\n  "returncode"', "Observation: "))


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
