"""Shared by the importers of recordings about repositories: the task, with the row it came from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pivotgym.envs.formats.terminal_common import opening_texts
from pivotgym.envs.repo.tasks import Repository, RepoTask
from pivotgym.envs.trajectory import JsonObject, Message, Task

IMAGE = "swebench/sweb.eval.x86_64.{}:latest"
_INSTANCE = re.compile(r"[\w.-]+?__[\w.-]+-(?:\d+|[0-9a-f]{7,40})")


def instance_row(*places: Any) -> JsonObject:
    """The first of these objects that is a SWE-bench row, or names one; empty without any.

    A row names its instance (``instance_id`` with owner, name and number) or has a repository and a commit.
    """
    for place in places:
        if not isinstance(place, dict):
            continue
        name = place.get("instance_id")
        named = isinstance(name, str) and _INSTANCE.fullmatch(name)
        if named or (isinstance(place.get("repo"), str) and isinstance(place.get("base_commit"), str)):
            return place
    return {}


def recorded_repo_task(name: str, messages: Sequence[Message], row: JsonObject, fields: Mapping[str, Any]) -> Task:
    """A task of ``pivotgym/Repo-v0`` whose tests only ``row`` may tell.

    Args:
        name: of the task.
        messages: of the recording; its system and user text become the task's.
        row: what the recording says of the instance; kept whole as ``definition["row"]``.
        fields: of :class:`RepoTask`; those that are None are left out.
    """
    system, instruction = opening_texts(messages)
    given = {key: value for key, value in fields.items() if value is not None}
    instance, commit = row.get("instance_id"), row.get("base_commit")
    if "image" not in given and isinstance(instance, str) and "__" in instance:
        image = next((row[key] for key in ("image_name", "docker_image") if isinstance(row.get(key), str)), None)
        given["image"] = image or IMAGE.format(instance.replace("__", "_1776_").lower())
    if "repository" not in given and "image" in given:
        given["repository"] = Repository(kind="image", commit=commit if isinstance(commit, str) else "")
    return RepoTask(system=system, instruction=instruction, definition={"row": row}, **given).task(name)
