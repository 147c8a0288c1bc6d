"""From a terminal task to a sandbox that stands before its first turn."""

from __future__ import annotations

import contextlib
import io
import posixpath
import tarfile
import time
from collections.abc import Iterator, Mapping
from typing import NoReturn

from pivotgym.envs.errors import NotRestorable
from pivotgym.envs.sandbox import Backend, CommandResult, Sandbox, SandboxConfig, SandboxFileError, Snapshot
from pivotgym.envs.sandbox.base import HARD_LINKS
from pivotgym.envs.snapshots import SnapshotStore, State
from pivotgym.envs.terminal.tasks import Setup, TerminalTask

SETUP_SECONDS = 600.0
"""What a set-up script may take."""
_FOLDER = "/.setup"


def prepare(
    backend: Backend, spec: TerminalTask, image: str, *, store: SnapshotStore | None = None, key: str = ""
) -> Sandbox:
    """A sandbox with the task's set-up done; the agent's session is fresh but for ``setup.start``.

    Args:
        backend: where it runs.
        spec: the task.
        image: used where the task names none.
        store: where the state after the set-up script is kept, so that the next episode of the task begins from it.
        key: that state's name there.

    Raises:
        NotRestorable: ``setup_failed``: the set-up cannot be done in this image; the message has the output's end.
        SandboxError: the sandbox broke.
    """
    config = spec.sandbox(image)
    if spec.has_setup:
        with built(backend, spec, image, store=store, key=key) as snapshot:
            sandbox = backend.load(snapshot, fresh_shell=True, config=config)
    else:
        sandbox = backend.start(config)
    try:
        if spec.setup.start:
            result = sandbox.run(spec.setup.start, timeout=SETUP_SECONDS)
            if result.status != 0:
                _fail("setup.start", result)
    except BaseException:
        sandbox.stop()
        raise
    return sandbox


@contextlib.contextmanager
def built(
    backend: Backend, spec: TerminalTask, image: str, *, store: SnapshotStore | None = None, key: str = ""
) -> Iterator[Snapshot]:
    """The files every episode of the task begins with (all of the set-up but ``setup.start``), for the block.

    Arguments and errors as for :func:`prepare`.
    """
    lease = store.acquire(key) if store is not None else None
    if lease is not None:
        with lease:
            yield lease.state.payload
        return
    snapshot = _build(backend, spec.full_setup(), spec.sandbox(image))
    try:
        yield snapshot
    finally:
        # Handed over only now: a full store may drop it at once.
        if store is not None:
            store.put(key, State(snapshot, max(snapshot.nbytes, 4096), lambda: backend.close(snapshot)))
        else:
            backend.close(snapshot)


def _build(backend: Backend, setup: Setup, config: SandboxConfig) -> Snapshot:
    """The files after archives, files and script, all done as root in a sandbox that is then thrown away."""
    root = config.model_copy(update={"user": "root", "workdir": "/", "env": {}})
    with _stopped(backend.start(root)) as box:
        try:
            for data in setup.archive_bytes():
                _unpack(box, data, "setup.archives")
            if setup.files:
                _unpack(box, archive_of(setup.files), "setup.files")
            if setup.script:
                box.write_file(f"{_FOLDER}/script", setup.script.encode("utf-8", "surrogateescape"), mode=0o700)
                # In a process of its own: its `exit` and `set -e` end it and nothing else. Where the script stands is
                # none of the agent's business, and the folder is gone before the script runs.
                result = box.run(
                    f"( exec 9< {_FOLDER}/script; rm -rf {_FOLDER}; cd /; exec bash /dev/fd/9 < /dev/null )",
                    timeout=SETUP_SECONDS,
                )
                if result.status != 0:
                    _fail("setup.script", result)
        except SandboxFileError as error:
            raise NotRestorable("setup_failed", f"the set-up cannot be brought in: {error}") from error
        snapshot = box.snapshot()
        if snapshot is None and box.incomplete.startswith(HARD_LINKS):
            # Every episode begins from this one snapshot, so all see the same files.
            snapshot = box.snapshot(live=True)
        if snapshot is None:
            raise NotRestorable(
                "setup_failed",
                f"setup.script leaves something running ({box.incomplete}): start it in setup.start instead",
            )
        return snapshot


def _unpack(box: Sandbox, data: bytes, where: str) -> None:
    path = f"{_FOLDER}/archive"
    box.write_file(path, data)
    # Owners other than root may be unknown to the sandbox's user namespace; then they are root's.
    unpack = f"tar -xpf {path} -C /"
    result = box.run(f"{unpack} 2>/dev/null || {unpack} --no-same-owner", timeout=SETUP_SECONDS)
    if result.status != 0:
        _fail(where, result)
    box.run(f"rm -rf {_FOLDER}")


def archive_of(files: Mapping[str, str]) -> bytes:
    """Text files as an archive of root's: one round trip for all, and what archives left there is no hindrance."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for path, text in files.items():
            content = text.encode("utf-8", "surrogateescape")
            member = tarfile.TarInfo(posixpath.normpath(f"/{path}").lstrip("/"))
            member.size, member.mode, member.mtime = len(content), 0o644, int(time.time())
            member.uname = member.gname = "root"
            archive.addfile(member, io.BytesIO(content))
    return data.getvalue()


def _fail(where: str, result: CommandResult) -> NoReturn:
    how = f"status {result.status}" if result.ending == "exit" else result.ending
    said = result.output.strip()[-800:] or "(no output)"
    raise NotRestorable("setup_failed", f"{where} ended with {how}: {said}")


@contextlib.contextmanager
def _stopped(box: Sandbox) -> Iterator[Sandbox]:
    try:
        yield box
    finally:
        box.stop()
