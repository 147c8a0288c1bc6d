"""Pictures of turns, for domains that have something to look at: a page before an action and after it.

They are taken when a report is made, by restoring the turn and executing the action in a fork, and kept in the run's
folder, so that making the report again needs neither a browser nor time.
"""

from __future__ import annotations

import base64
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any

from pivotgym.envs.core import AgentEnv
from pivotgym.envs.errors import PivotGymError
from pivotgym.envs.trajectory import JsonObject, Message, Trajectory, canonical_json, digest
from pivotgym.harness.report.files import RunFiles
from pivotgym.harness.turns import make_env

FOLDER = "pictures"
LARGEST = 2 << 20
"""Bytes; a larger picture does not go into the page."""


class Camera:
    """Takes pictures of the turns of one run. Used as a context manager; keeps an environment of each kind open.

    Args:
        found: the run; what could not be shown is noted in it.
        enabled: False only shows what was taken before.
    """

    def __init__(self, found: RunFiles, *, enabled: bool = True) -> None:
        self._found, self._enabled = found, enabled
        self._envs: dict[str, AgentEnv | None] = {}

    def __enter__(self) -> Camera:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for env in self._envs.values():
            if env is not None:
                env.close()
        self._envs.clear()

    def of(self, trajectory: Trajectory, turn: int, actions: dict[str, str | Message]) -> dict[str, str]:
        """The state before a turn under ``before``, and under each name of ``actions`` the state after that action.

        Args:
            trajectory: a recording.
            turn: of it.
            actions: messages, or texts as sampled.

        Returns:
            Pictures as ``data:`` addresses. Names without one are left out: the domain has none, the state cannot be
            restored, or the action cannot be carried out.
        """
        wanted: dict[str, str | Message | None] = {"before": None, **actions}
        files = {name: self._file(trajectory, turn, action) for name, action in wanted.items()}
        if self._enabled and any(not file.exists() for file in files.values()):
            try:
                self._take(trajectory, turn, wanted, files)
            except (PivotGymError, OSError) as error:
                said = str(error).splitlines()[0] if str(error) else type(error).__name__
                self._note(f"No picture of {trajectory.id}, turn {turn}: {said[:200]}")
        return {name: address for name, file in files.items() if (address := _address(file))}

    def _file(self, trajectory: Trajectory, turn: int, action: str | Message | None) -> Path:
        said = action.model_dump(mode="json") if isinstance(action, Message) else action
        messages = [message.model_dump(mode="json") for message in trajectory.prefix(turn)]
        task = trajectory.task.key if trajectory.task is not None else None
        return self._found.root / FOLDER / f"{digest(canonical_json([task, messages, turn, said]))[:24]}.png"

    def _take(
        self, trajectory: Trajectory, turn: int, actions: dict[str, str | Message | None], files: dict[str, Path]
    ) -> None:
        env = self._env(trajectory)
        if env is None:
            return
        env.reset(options={"trajectory": trajectory, "turn": turn})
        for name, action in actions.items():
            if files[name].exists():
                continue
            if action is None:
                _keep(files[name], env.picture())
                continue
            message, malformed = (action, None) if isinstance(action, Message) else env.parse_action(action)
            if malformed is not None:
                continue
            with closing(env.fork()) as child:
                child.respond(message, recorded=())
                _keep(files[name], child.picture())

    def _env(self, trajectory: Trajectory) -> AgentEnv | None:
        """The environment of a recording, or None where its domain has no pictures."""
        if trajectory.task is None:
            return None
        name = trajectory.task.env
        if name not in self._envs:
            env = make_env(name, self._options(name))
            if type(env).picture is AgentEnv.picture:
                env.close()
                self._envs[name] = None
            else:
                self._envs[name] = env
        return self._envs[name]

    def _options(self, name: str) -> JsonObject:
        """What the run gave ``gym.make``, from the settings of its stages."""
        for settings in self._found.settings.values():
            inner: Any = settings.get("settings")
            options = inner.get("env_options") if isinstance(inner, dict) else None
            if isinstance(options, dict) and options:
                return options
        return {}

    def _note(self, text: str) -> None:
        if text not in self._found.notes:
            self._found.notes.append(text)


def _keep(file: Path, picture: bytes | None) -> None:
    if picture is None:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".tmp")
    temporary.write_bytes(picture)
    temporary.replace(file)


def _address(file: Path) -> str:
    """The picture as an address that needs no file, or empty where there is none or it is too large for a page."""
    try:
        data = file.read_bytes()
    except OSError:
        return ""
    if len(data) > LARGEST or not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return ""
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"
