"""Calling the agent's tools in a sandbox."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from needs import missing

from pivotgym.envs.errors import MissingExtra
from pivotgym.envs.repo.tasks import Interface
from pivotgym.envs.repo.tools import EditorState, EditorStyle, Toolbox, ToolResult
from pivotgym.envs.sandbox import CommandResult, Sandbox, SandboxConfig, SandboxUnavailable, get_backend

WORKDIR = "/root/work"


def started(backend: str = "bubblewrap") -> Sandbox:
    """A sandbox that stands in :data:`WORKDIR`; the test skips where the machine has none."""
    try:
        found = get_backend(backend)
        if backend == "docker":
            from pivotgym.envs.sandbox.docker import DEFAULT_IMAGE

            return found.start(SandboxConfig(image=DEFAULT_IMAGE, workdir=WORKDIR))
        return found.start(SandboxConfig(workdir=WORKDIR))
    except (SandboxUnavailable, MissingExtra) as error:
        missing(str(error))
        raise


@dataclass
class Desk:
    """One agent's tools on one sandbox: the state goes from call to call."""

    box: Sandbox
    interface: Interface = "tools"
    state: EditorState = field(default_factory=EditorState)

    @classmethod
    def of(cls, box: Sandbox, interface: Interface = "tools", **style: Any) -> Desk:
        """With another file viewer."""
        return cls(box, interface, EditorState(style=EditorStyle(**style)))

    def __call__(self, name: str, **arguments: Any) -> ToolResult:
        before = self.state
        result = Toolbox(self.interface).call(self.box, before, name, arguments, workdir=WORKDIR, run=self._run)
        if result.refused is not None:
            assert result.state == before
        assert EditorState.model_validate_json(result.state.model_dump_json()) == result.state
        result.text.encode()  # what an agent reads is text
        self.state = result.state
        return result

    def edit(self, command: str, path: str, **arguments: Any) -> ToolResult:
        """``str_replace_editor``."""
        return self("str_replace_editor", command=command, path=path, **arguments)

    def put(self, path: str, data: str | bytes, mode: int = 0o644) -> None:
        """Writes a file below :data:`WORKDIR`."""
        self.box.write_file(f"{WORKDIR}/{path}", data.encode() if isinstance(data, str) else data, mode=mode)

    def get(self, path: str) -> bytes:
        """Reads one."""
        return self.box.read_file(f"{WORKDIR}/{path}")

    def _run(self, command: str) -> CommandResult:
        return self.box.run(command, timeout=60)
