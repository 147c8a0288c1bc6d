"""Sandboxes: bubblewrap by default, Docker where an image needs it.

backend = get_backend("bubblewrap")
sandbox = backend.start(SandboxConfig())
sandbox.run("cd /tmp && touch a")
fork = backend.load(sandbox.snapshot())
"""

from __future__ import annotations

from pivotgym.envs.errors import BadInput
from pivotgym.envs.sandbox.base import (
    Backend,
    Cleaned,
    CommandResult,
    Entry,
    FileChange,
    Limits,
    Sandbox,
    SandboxConfig,
    SandboxError,
    SandboxFileError,
    SandboxUnavailable,
    ShellState,
    Snapshot,
    Usage,
)

__all__ = [
    "Backend",
    "Cleaned",
    "CommandResult",
    "Entry",
    "FileChange",
    "Limits",
    "Sandbox",
    "SandboxConfig",
    "SandboxError",
    "SandboxFileError",
    "SandboxUnavailable",
    "ShellState",
    "Snapshot",
    "Usage",
    "get_backend",
]

_BACKENDS: dict[str, Backend] = {}
BACKENDS = ("bubblewrap", "docker")


def get_backend(name: str) -> Backend:
    """The process's backend of that name (``bubblewrap`` or ``docker``).

    Raises:
        SandboxUnavailable: this machine cannot run it.
        BadInput: no such backend.
    """
    if name not in BACKENDS:
        raise BadInput(f"no sandbox backend {name!r}; known: {', '.join(BACKENDS)}", field="backend")
    if name not in _BACKENDS:
        if name == "bubblewrap":
            from pivotgym.envs.sandbox.bubblewrap import BubblewrapBackend

            _BACKENDS[name] = BubblewrapBackend()
        else:
            from pivotgym.envs.sandbox.docker import DockerBackend

            _BACKENDS[name] = DockerBackend()
    return _BACKENDS[name]
