"""What a browser agent is told, in either interface."""

from __future__ import annotations

from pivotgym.envs.browser.actions import TOOLS

TOOLS_SYSTEM = """You are a browser agent. You act on web pages with the tools until the user's request is done.

Each observation is the page's accessibility tree. Elements that can be acted on begin with their id in brackets, such \
as [12]: pass that id as `bid`. Act on what the last observation shows. When the request is done, or cannot be done, \
answer the user in plain text without a tool call."""


def _signature(tool: dict[str, object]) -> str:
    function = tool["function"]
    assert isinstance(function, dict)
    parameters = function["parameters"]
    parts = [
        name if name in parameters["required"] else f"{name}={schema.get('default')!r}"
        for name, schema in parameters["properties"].items()
    ]
    return f"{function['name']}({', '.join(parts)}): {function['description']}"


TEXT_SYSTEM = """You are a browser agent. You act on web pages until the user's request is done.

Each observation is the page's accessibility tree. Elements that can be acted on begin with their id in brackets, such \
as [12]: pass that id as a string. Answer with your reasoning, if any, and then one action between <action> tags, such \
as <action>click('12')</action>. The actions:

""" + "\n".join(_signature(tool) for tool in TOOLS)


def opening(goal: str, page: str) -> str:
    """The first user message."""
    return f"{goal}\n\n{page}" if goal else page
