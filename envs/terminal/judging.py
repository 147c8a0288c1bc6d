"""What judges of terminal episodes share: the backend behind a sandbox, snapshots that are freed, named bugs."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pivotgym.envs.errors import BadInput, PivotGymError, VerifierBug
from pivotgym.envs.sandbox import BACKENDS, Backend, Sandbox, SandboxError, SandboxUnavailable, Snapshot, get_backend
from pivotgym.envs.terminal.tasks import Final


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


@contextmanager
def bugs_named(final: Final) -> Iterator[None]:
    """Around a judgement: whatever it raises that is no error of this package is a bug of the check.

    Raises:
        VerifierBug: with the episode's last message as the action.
    """
    try:
        yield
    except PivotGymError:
        raise
    except Exception as error:
        said = [message for message in final.messages if message.role == "assistant"]
        action = str(said[-1].chat()) if said else final.answer or ""
        raise VerifierBug(type(error).__name__, action, traceback.format_exc()) from error


def printable(text: str) -> str:
    """Text that can be written as UTF-8: names of files need not be UTF-8, and such bytes come as lone surrogates."""
    return text.encode("utf-8", "backslashreplace").decode()


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
