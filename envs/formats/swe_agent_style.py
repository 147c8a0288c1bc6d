"""What a SWE-agent recording tells of its repository, and of the release whose file viewer it shows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from pivotgym.envs.formats.terminal_common import RAW
from pivotgym.envs.repo.tasks import Repository
from pivotgym.envs.repo.tools.state import EditorStyle
from pivotgym.envs.trajectory import JsonObject, Message

_INSTANCE = re.compile(r"([\w.-]+?)__([\w.-]+)-(\d+)")
_SHOWS = re.compile(r"shows you (\d+) lines")
_CURSOR = "<<<<< START CURSOR >>>>>"
_OLD_RULE = re.compile(r"^-{49}$", re.MULTILINE)
_OLD_UPDATED = "File updated. Please review the changes and make sure they are correct (correct"
_RELATIVE = re.compile(r"^\[File: (?!/)", re.MULTILINE)


def instance_of(name: str, config: JsonObject) -> JsonObject:
    """The instance's id and its repository as ``owner/name``, where the recording says; else empty."""
    problem, agent = config.get("problem_statement"), config.get("agent")
    named = [one.get(key) for one, key in ((problem, "id"), (agent, "name")) if isinstance(one, dict)]
    for one in (*named, name):
        found = _INSTANCE.search(one) if isinstance(one, str) else None
        if found:
            return {"instance_id": found[0], "repo": f"{found[1]}/{found[2]}"}
    return {}


def repository_of(config: JsonObject) -> Repository:
    """Where the agent's repository came from; in the image already, where it says so."""
    env = config.get("env")
    repo = env.get("repo") if isinstance(env, dict) else None
    if not isinstance(repo, dict):
        return Repository()
    commit = _text(repo.get("base_commit"))
    commit = "" if commit == "HEAD" else commit
    if repo.get("type") == "preexisting":
        return Repository(kind="image", commit=commit)
    source = _text(repo.get("github_url")) or _text(repo.get("path"))
    return Repository(kind="clone", source=source, commit=commit) if source else Repository(commit=commit)


def style_of(messages: Sequence[Message], steps: Sequence[JsonObject], config: JsonObject) -> JsonObject:
    """The file viewer, as an :class:`EditorStyle`; told by the configuration and the texts it left."""
    texts = [text for step in steps if isinstance(text := step.get("observation"), str)]
    texts = [text.replace("\r\n", "\n") for text in texts or [one.text for one in messages if one.role == "tool"]]
    tools = _at(config, "agent", "tools")
    bundles, variables = _at(tools, "bundles"), _at(tools, "env_variables")
    bundles = bundles if isinstance(bundles, list) else []
    paths = " ".join(str(one.get("path")) for one in bundles if isinstance(one, dict))
    style: dict[str, Any] = {"family": _family(texts, messages)}
    if style["family"] == "windowed":
        style["release"] = _windowed_release(texts, paths, _at(config, "agent", "templates", "next_step_template"))
    else:
        style["release"] = "0.6" if any("edit commmand" in text for text in texts) else "0.7"
    shown = _SHOWS.search(messages[0].text) if messages else None
    window = variables.get("WINDOW") if isinstance(variables, dict) else shown and shown[1]
    overlap = variables.get("OVERLAP") if isinstance(variables, dict) else None
    style |= {key: int(str(value)) for key, value in (("window", window), ("overlap", overlap)) if _is_number(value)}
    return EditorStyle.model_validate(style).model_dump(mode="json")


def _family(texts: Iterable[str], messages: Sequence[Message]) -> str:
    texts = list(texts)
    if any(_CURSOR in text for text in texts):
        return "cursors"
    if any(_OLD_UPDATED in text or _OLD_RULE.search(text) for text in texts):
        return "classic"
    if any(_RELATIVE.search(text) for text in texts):
        return "windowed"
    called = any(one.tool_calls and "tool_calls" in one.source.get(RAW, {}) for one in messages)
    return "windowed" if called else "classic"


def _windowed_release(texts: Sequence[str], bundles: str, template: Any) -> str:
    if isinstance(template, str) and re.search(r"(?<!\{)\{observation\}(?!\})", template):
        return "1.0.dev1"
    if any("correct\n(correct" in text and text.startswith("Text replaced") for text in texts):
        return "1.0.dev2"
    if "tools/windowed" in bundles:
        return "1.1"
    return "1.0"


def _at(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _is_number(value: Any) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool) and value > 0) or (
        isinstance(value, str) and re.fullmatch(r"[1-9][0-9]{0,5}", value) is not None
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
