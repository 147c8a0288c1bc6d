"""What judges of terminal episodes share: the backend behind a sandbox, and snapshots that are freed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pivotgym.envs.errors import BadInput
from pivotgym.envs.sandbox import BACKENDS, Backend, Sandbox, SandboxError, SandboxUnavailable, Snapshot, get_backend


@contextmanager
def frozen(backend: Backend, box: Sandbox) -> Iterator[Snapshot]:
    """The files of a sandbox now, freed on leaving; what still runs in it is killed. Raises SandboxError."""
    snapshot = box.snapshot(live=True)
    if snapshot is None:
        raise SandboxError(f"the state cannot be read: {box.incomplete}")
    try:
        yield snapshot
    finally:
        backend.close(snapshot)


def backend_of(box: Sandbox) -> Backend:
    """The backend that runs a sandbox. Raises SandboxError."""
    snapshot = box.snapshot(live=True)
    if snapshot is None:
        raise SandboxError(f"the state cannot be read: {box.incomplete}")
    for name in BACKENDS:
        # A backend refuses another one's snapshots; a snapshot compared with itself takes no work.
        with suppress(BadInput, SandboxUnavailable):
            backend = get_backend(name)
            backend.changes(snapshot, snapshot)
            backend.close(snapshot)
            return backend
    raise SandboxError(f"no backend knows {type(box).__name__}")
