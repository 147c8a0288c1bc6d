"""The agent's tools: an editor, SWE-agent's file viewers and searches, OpenHands' names, handing in.

The host executes them on the sandbox's files. A call takes what the tools remember and gives it back changed, so that
a state of the environment is its sandbox and an :class:`EditorState`::

    state = EditorState.of(spec)
    result = Toolbox(spec.interface).call(box, state, "open", {"path": "setup.py"}, workdir=spec.workdir, run=box.run)
    shown = show_tool(result.text, spec, result.state, box.shell.cwd)
"""

from __future__ import annotations

from pivotgym.envs.repo.tools.causes import cause_in_repository
from pivotgym.envs.repo.tools.shown import show_command, show_tool
from pivotgym.envs.repo.tools.state import EditorState, EditorStyle, ToolResult
from pivotgym.envs.repo.tools.toolbox import Toolbox

__all__ = ["EditorState", "EditorStyle", "ToolResult", "Toolbox", "cause_in_repository", "show_command", "show_tool"]
