"""Sandboxes by Docker: any image, through a daemon that this machine or another one runs.

A sandbox is a container without network, capabilities to leave it, or anything of the host; a bash session in it is
reached through one stream. A snapshot is an image committed from the container, a fork a container of that image.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import logging
import os
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from pivotgym.containers.build import IMAGE, build
from pivotgym.envs.errors import BadInput
from pivotgym.envs.sandbox.base import (
    Backend,
    Cleaned,
    FileChange,
    Sandbox,
    SandboxConfig,
    SandboxError,
    ShellState,
    Snapshot,
)
from pivotgym.envs.sandbox.docker_api import as_sandbox_error, connect, is_missing, retried
from pivotgym.envs.sandbox.docker_changes import Differ
from pivotgym.envs.sandbox.docker_clean import sweep
from pivotgym.envs.sandbox.docker_container import Abilities, Container, ExecStream, Shape
from pivotgym.envs.sandbox.docker_identity import ROOT, Identity, identity
from pivotgym.envs.sandbox.docker_images import Image, ImageStore
from pivotgym.envs.sandbox.docker_pool import WarmPool
from pivotgym.envs.sandbox.docker_sandbox import DockerSandbox, DockerState, environment
from pivotgym.envs.sandbox.session import ShellSession

if TYPE_CHECKING:
    from docker import APIClient

DEFAULT_IMAGE = IMAGE
"""Built by :func:`ensure_image`."""

log = logging.getLogger("pivotgym.sandbox")


def ensure_image(client: APIClient | None = None) -> str:
    """Builds :data:`DEFAULT_IMAGE` where the daemon does not have it; its name.

    Raises:
        SandboxUnavailable: no daemon.
        BuildError: it cannot be built.
    """
    client = client or connect()
    if _has_image(client):
        return DEFAULT_IMAGE
    # One at a time, of all processes of this user too.
    with (Path(tempfile.gettempdir()) / f"pivotgym-image-{os.getuid()}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _has_image(client):
            log.warning("Building the image %s, once: about a minute.", DEFAULT_IMAGE)
            with as_sandbox_error(f"building the image {DEFAULT_IMAGE}"):
                build(client)
    return DEFAULT_IMAGE


def _has_image(client: APIClient) -> bool:
    from docker.errors import APIError

    with as_sandbox_error(f"looking for the image {DEFAULT_IMAGE}"):
        try:
            retried(client.inspect_image, DEFAULT_IMAGE)
        except APIError as error:
            if not is_missing(error):
                raise
            return False
    return True


class DockerBackend(Backend):
    """Starts containers in the daemon that ``DOCKER_HOST`` or the default socket names.

    Args:
        warm: containers kept started ahead of the image that is started most; 0 for none.
    """

    name = "docker"

    def __init__(self, *, warm: int = 2) -> None:
        self._warm = warm
        self._connect()
        atexit.register(self.shut_down)

    def _connect(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._sandboxes: set[DockerSandbox] = set()
        self.client = connect()
        self.images = ImageStore(self.client)
        with as_sandbox_error("asking for the daemon's options"):
            options = " ".join(self.client.info().get("SecurityOptions") or ())
        # With either, a file's owner on the disk is not the one inside.
        self._differ = Differ(self.client, look_at_layers="userns" not in options and "rootless" not in options)
        self._can = Abilities(quota=self._has_quota(), seccomp="seccomp" in options)
        self._pool = WarmPool(lambda shape: Container(self.client, shape, self._can), self._warm)
        sweep(self.client)

    def _own(self) -> None:
        """In a forked process everything is begun anew: what the parent made is the parent's to remove, and neither
        its connections nor its locks can be used."""
        if os.getpid() != self._pid:
            self._connect()

    # Backend ------------------------------------------------------------------------------------------------------

    def start(self, config: SandboxConfig) -> Sandbox:
        """A fresh sandbox, its shell in the working directory."""
        self._own()
        if config.image == "host":
            raise BadInput("the Docker backend needs an image, it has no 'host'", field="image")
        if config.image == DEFAULT_IMAGE:
            ensure_image(self.client)
        return self._begin(config, self.images.base(config.image), None, ShellState("", config.workdir), {})

    def load(self, snapshot: Snapshot, *, fresh_shell: bool = False, config: SandboxConfig | None = None) -> Sandbox:
        """An independent sandbox in that state."""
        self._own()
        state = self._state(snapshot)
        if state.closed:
            raise BadInput("the snapshot was closed", field="snapshot")
        wanted = config or snapshot.config
        fresh = fresh_shell or config is not None
        shell = ShellState("", wanted.workdir) if fresh else snapshot.shell
        who = state.who if wanted.user == snapshot.config.user else None
        self.images.hold(state.image)
        return self._begin(wanted, state.image, who, shell, state.special)

    def changes(self, before: Snapshot, after: Snapshot) -> list[FileChange]:
        """Paths that differ."""
        self._own()
        one, two = self._state(before), self._state(after)
        if one.image is two.image and one.special == two.special:
            return []
        found = self._differ.compare(one.image.id, two.image.id) if one.image is not two.image else []
        return sorted([*found, *_special_changes(one, two)], key=lambda change: change.path)

    def close(self, snapshot: Snapshot) -> None:
        """Removes the image where nothing else stands on it."""
        state = self._state(snapshot)
        if os.getpid() != self._pid:
            return
        with self._lock:
            if state.closed:
                return
            state.closed = True
        self.images.release(state.image)

    def clean(self) -> Cleaned:
        """Removes containers and images of dead processes, the images they built for others to use too."""
        return sweep(self.client, caches=True)

    def shut_down(self) -> None:
        """Stops all sandboxes and removes their containers; snapshots cannot be loaded afterwards."""
        if os.getpid() != self._pid:
            return
        self._pool.close()
        with self._lock:
            sandboxes = list(self._sandboxes)
        with contextlib.suppress(SandboxError):
            for sandbox in sandboxes:
                sandbox.stop()
            self.images.close()

    # For sandboxes ------------------------------------------------------------------------------------------------

    def container(self, image: Image, config: SandboxConfig) -> Container:
        """A started container, from the pool if one is ready. Of an image that commands made it may not start."""
        shape = Shape(image.id, config.hostname, config.limits)
        ready = self._pool.take(shape) if image.base else None
        return ready or Container(self.client, shape, self._can, may_fail=not image.base)

    def prove(self, image: Image, config: SandboxConfig) -> None:
        """Starts a container and a shell of the base that an image began with, and removes them.

        Raises:
            BadInput: it has no bash.
            SandboxError: the daemon fails, or the base does.
        """
        base = image.origin or image
        container = Container(self.client, Shape(base.id, config.hostname, config.limits), self._can)
        try:
            bare = config.model_copy(update={"user": "root", "workdir": "/"})
            with contextlib.closing(ExecStream(container, ROOT.spec, environment(base, ROOT, bare))) as stream:
                ShellSession(stream, ShellState(), bare.env).prepare()
        finally:
            with contextlib.suppress(SandboxError):
                container.remove()

    def retire(self, sandbox: DockerSandbox | None, container: Container, image: Image) -> None:
        """Removes a container, and lets go of its image."""
        with self._lock:
            if sandbox is not None:
                self._sandboxes.discard(sandbox)
        try:
            container.remove()
        finally:
            self.images.release(image)

    # Inner parts --------------------------------------------------------------------------------------------------

    def _begin(
        self, config: SandboxConfig, image: Image, who: Identity | None, shell: ShellState, special: dict[str, bytes]
    ) -> DockerSandbox:
        container = None
        try:
            container = self.container(image, config)
            who = who or identity(self.client, container.id, config.user)
        except BaseException:
            with contextlib.suppress(SandboxError):
                if container is not None:
                    container.remove()
                self.images.release(image)
            raise
        sandbox = DockerSandbox(self, config, image, container, who, shell)
        try:
            sandbox.settle(special)
        except BaseException:
            with contextlib.suppress(SandboxError):
                sandbox.stop()
            raise
        with self._lock:
            self._sandboxes.add(sandbox)
        return sandbox

    @staticmethod
    def _state(snapshot: Snapshot) -> DockerState:
        if not isinstance(snapshot.payload, DockerState):
            raise BadInput("the snapshot was taken by another backend", field="snapshot")
        return snapshot.payload

    def _has_quota(self) -> bool:
        """Whether the daemon's storage driver can limit a container's size."""
        from docker.errors import DockerException

        with as_sandbox_error("asking for the storage driver"):
            info = self.client.info()
            status = dict(row for row in info.get("DriverStatus") or () if len(row) == 2)
            if info.get("Driver") in ("btrfs", "zfs"):
                return True
            if info.get("Driver") != "overlay2" or status.get("Backing Filesystem") != "xfs":
                return False
            images = self.client.images(quiet=True)
            if not images:
                return False
            try:  # xfs has to be mounted with project quotas, which only trying shows
                options = self.client.create_host_config(storage_opt={"size": "1G"})
                made = self.client.create_container(images[0], entrypoint=["bash"], host_config=options)["Id"]
                self.client.remove_container(made)
            except DockerException:
                return False
        return True


def _special_changes(one: DockerState, two: DockerState) -> list[FileChange]:
    import hashlib

    found = []
    for path in sorted({*one.special, *two.special}):
        data = two.special.get(path)
        if data is not None and data != one.special.get(path):
            digest = hashlib.sha256(data).hexdigest()
            found.append(FileChange(path, "file", "0644", "0:0", digest=digest, size=len(data), before="file"))
    return found
