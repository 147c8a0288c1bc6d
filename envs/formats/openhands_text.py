"""Texts of OpenHands: function calls written as text, and what an agent was shown of a command's result."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from pivotgym.envs.repo.tools.shown import EXACT
from pivotgym.envs.trajectory import JsonObject

_CALL = re.compile(r"<function=([^>\s]+)>\n?(.*?)(?:</function>|\Z)", re.DOTALL)
_PARAMETER = re.compile(r"<parameter=([^>\s]+)>(.*?)</parameter>", re.DOTALL)
RESULT = re.compile(r"EXECUTION RESULT of \[([^\]\n]+)\]:\n")
"""How a result begins where calls are text."""
_NUMBERS, _LISTS = ("insert_line", "timeout"), ("view_range",)
_LINES = (
    (
        re.compile(r"\n\[The command completed with exit code -?\d+\.\]"),
        "[The command completed with exit code {code}.]",
    ),
    (re.compile(r"\n\[Current working directory: [^\n]*\]"), "[Current working directory: {{{{ cwd }}}}]"),
    (re.compile(r"\n(\[Python interpreter: [^\n]*\])"), "{python}"),
    (re.compile(r"\n\[Command finished with exit code -?\d+\]"), "[Command finished with exit code {code}]"),
)


def text_call(text: str) -> tuple[str, JsonObject] | None:
    """The first function call written in a text, as name and arguments; None without one."""
    found = _CALL.search(text)
    if found is None:
        return None
    arguments = {name: _value(name, value) for name, value in _PARAMETER.findall(found[2])}
    return found[1], arguments


def _value(name: str, text: str) -> Any:
    stripped = text.removeprefix("\n").removesuffix("\n")
    if name in _NUMBERS or name in _LISTS:
        try:
            value = json.loads(stripped)
        except ValueError:
            return stripped
        return value if isinstance(value, int | float | list) else stripped
    return stripped


def command_text(content: str, extras: JsonObject) -> str:
    """A command's result as the agent read it: what it printed, then where and how it ended.

    Args:
        content: what it printed.
        extras: of the recorded observation; older ones have only the exit code.
    """
    found = extras.get("metadata")
    metadata: JsonObject = found if isinstance(found, dict) else {}
    if not metadata and isinstance(extras.get("exit_code"), int):
        return f"{content}\n[Command finished with exit code {extras['exit_code']}]"
    text = f"{metadata.get('prefix') or ''}{content}{metadata.get('suffix') or ''}"
    if metadata.get("working_dir"):
        text += f"\n[Current working directory: {metadata['working_dir']}]"
    if metadata.get("py_interpreter_path"):
        text += f"\n[Python interpreter: {metadata['py_interpreter_path']}]"
    if isinstance(metadata.get("exit_code"), int) and metadata["exit_code"] != -1:
        text += f"\n[Command finished with exit code {metadata['exit_code']}]"
    return text


def template_of(shown: Sequence[str]) -> str | None:
    """The template that gives texts such as these, which commands' results were shown as; None without any."""
    if not shown:
        return None
    lines = []
    for pattern, line in _LINES:
        found = [match for text in shown for match in pattern.finditer(text)]
        if found and len(found) * 2 > len(shown):
            python = found[0][1] if pattern.groups else ""
            lines.append(line.format(code="{{ returncode }}", python=python))
    end = "".join("\n" + line.replace("{{{{", "{{").replace("}}}}", "}}") for line in lines)
    return f"{{% if {EXACT} | default(false) %}}{{{{ output }}}}{{% else %}}{{{{ output.rstrip() }}}}{end}{{% endif %}}"
