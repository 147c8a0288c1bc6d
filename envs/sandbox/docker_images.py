"""Images as snapshots: committed from containers, counted, flattened before the chain of layers gets too long."""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pivotgym.containers.build import import_image, tar_stream
from pivotgym.envs.errors import BadInput
from pivotgym.envs.sandbox.docker_api import as_sandbox_error, is_missing, labels, retried, unstarted
from pivotgym.envs.sandbox.docker_files import make_folders

if TYPE_CHECKING:
    from docker import APIClient

REPOSITORY = "pivotgym-snapshot"
MAX_LAYERS = 100
"""Docker's overlay driver stacks at most 125 or so; an image of more than this is made one of a single layer."""


@dataclass
class Image:
    """An image in use.

    Attributes:
        id: of the image.
        layers: digests of its layers, the base's first.
        env: environment variables the image sets.
        tag: name under which it is kept; None for one that is not ours to remove.
        parent: the image it was made from, kept while this one is.
        size: bytes of all its layers.
        nbytes: size of its last layer.
        added: bytes of all layers since the image the first sandbox was started from.
        base: sandboxes are started from it, not loaded.
        origin: the base that all it is made from began with; None for a base.
        refs: snapshots, sandboxes and images that hold it.
    """

    id: str
    layers: tuple[str, ...]
    env: tuple[str, ...]
    tag: str | None = None
    parent: Image | None = None
    size: int = 0
    nbytes: int = 0
    added: int = 0
    base: bool = False
    origin: Image | None = field(default=None, compare=False, repr=False)
    refs: int = field(default=0, compare=False)


class ImageStore:
    """The images this process uses. Safe for use from several threads."""

    def __init__(self, client: APIClient) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._bases: dict[str, Image] = {}
        self._imported: dict[tuple[str, int, int], str] = {}
        self._made: list[str] = []  # names of what is to be removed, a parent before what was made from it

    def base(self, name: str) -> Image:
        """The image of that name, or made from a folder or a tar archive with a root file system, held once more.

        Raises:
            BadInput: no such image.
            SandboxError: the daemon fails.
        """
        path = Path(name)
        if "/" in name and path.exists():
            name = self._from_path(path)
        found = self._inspect(name)
        with self._lock:
            image = self._bases.get(found["Id"])
        if image is None:
            image = _described(found)
            if (found.get("Config") or {}).get("Volumes"):
                image = self._without_volumes(image, found["Config"]["Volumes"])
            image.base = True
            with self._lock:
                image = self._bases.setdefault(found["Id"], image)
        return self._held(image)

    def commit(self, container: str, image: Image, last: Image, *, pause: bool = False) -> Image:
        """The container's files as an image, held once.

        Args:
            container: made from ``image``.
            image: that one.
            last: what it was committed as before; given again if nothing was written since then.
            pause: something may run in it that writes meanwhile.
        """
        tag = secrets.token_hex(8)
        with as_sandbox_error("committing a container"):
            made = retried(
                self._client.commit,
                container,
                repository=REPOSITORY,
                tag=tag,
                pause=pause,
                conf={"Labels": labels()},
            )["Id"]
        found = self._inspect(made)
        layers = tuple(found["RootFS"].get("Layers") or ())
        for known in (last, image):
            if layers == known.layers:
                self._remove(f"{REPOSITORY}:{tag}")
                return self._held(known)
        nbytes = max(int(found["Size"]) - image.size, 0)
        child = _described(found)
        child.tag, child.parent = f"{REPOSITORY}:{tag}", self._held(image)
        self._note(child.tag)
        child.nbytes, child.added = nbytes, image.added + nbytes
        child.origin = image.origin or image
        self._held(child)
        if len(layers) <= MAX_LAYERS:
            return child
        try:
            flat = self._flat(child, added=child.added)
            flat.origin = child.origin
            return self._held(flat)
        finally:
            self.release(child)

    def release(self, image: Image) -> None:
        """Lets go of one hold; what nobody holds is removed, and then what it was made from."""
        while True:
            with self._lock:
                image.refs -= 1
                if image.refs > 0 or image.tag not in self._made:
                    return
                self._made.remove(image.tag)
            self._remove(image.tag)
            if image.parent is None:
                return
            image = image.parent

    def close(self) -> None:
        """Removes everything this store made."""
        with self._lock:
            names, self._made = self._made[::-1], []
            self._imported.clear()
            self._bases.clear()
        for name in names:
            self._remove(name)

    def hold(self, image: Image) -> None:
        """One hold more."""
        self._held(image)

    # Inner parts --------------------------------------------------------------------------------------------------

    def _held(self, image: Image) -> Image:
        with self._lock:
            image.refs += 1
        return image

    def _note(self, name: str) -> None:
        with self._lock:
            self._made.append(name)

    def _inspect(self, name: str) -> dict[str, Any]:
        from docker.errors import APIError

        with as_sandbox_error(f"looking for the image {name}"):
            try:
                found: dict[str, Any] = retried(self._client.inspect_image, name)
            except APIError as error:
                if not is_missing(error) and "invalid reference" not in str(error.explanation):
                    raise
                raise BadInput(
                    f"no image {name!r} in the Docker daemon: docker pull or docker build it", field="image"
                ) from None
        return found

    def _remove(self, name: str) -> None:
        from docker.errors import APIError

        with as_sandbox_error("removing an image"):
            try:
                retried(self._client.remove_image, name, force=True)
            except APIError as error:
                # Somebody else made something from it (409): it goes with that.
                if not is_missing(error) and getattr(error.response, "status_code", None) != 409:
                    raise

    def _flat(self, image: Image, *, added: int) -> Image:
        """An image of one layer with the same files and environment."""
        name = f"{REPOSITORY}:{secrets.token_hex(8)}"
        self._note(name)
        with as_sandbox_error("flattening an image"), unstarted(self._client, image.id) as container:
            pieces = self._client.export(container, chunk_size=1 << 20)
            import_image(self._client, pieces, name, env=image.env, labels=labels())
        flat = _described(self._inspect(name))
        flat.tag, flat.nbytes, flat.added = name, image.nbytes, added
        return flat

    def _without_volumes(self, image: Image, volumes: Iterable[str]) -> Image:
        """The same files in an image that declares no volumes: what is written to those is in no commit."""
        flat = self._held(self._flat(image, added=0))
        with as_sandbox_error("making an image without volumes"), unstarted(self._client, flat.id) as container:
            for path in volumes:
                make_folders(self._client, container, path, (0, 0))
            made = self.commit(container, flat, flat)
        made.added, made.origin = 0, None
        return made

    def _from_path(self, path: Path) -> str:
        status = path.stat()
        key = (str(path.resolve()), status.st_mtime_ns, status.st_size)
        with self._lock:
            if key in self._imported:
                return self._imported[key]
        name = f"{REPOSITORY}:{hashlib.sha256(repr(key).encode()).hexdigest()[:12]}-{secrets.token_hex(4)}"
        self._note(name)
        with as_sandbox_error(f"importing {path}"):
            if path.is_dir():
                if not (path / "bin").exists():
                    raise BadInput("no root file system in this folder: it has no bin", file=path, field="image")
                import_image(self._client, tar_stream(path), name, labels=labels())
            else:
                with path.open("rb") as file:
                    import_image(self._client, iter(lambda: file.read(1 << 20), b""), name, labels=labels())
        with self._lock:
            self._imported[key] = name
        return name


def _described(found: dict[str, Any]) -> Image:
    config = found.get("Config") or {}
    env = [entry for entry in config.get("Env") or () if re.match(r"\w+=", entry)]
    layers = tuple(found["RootFS"].get("Layers") or ())
    return Image(found["Id"], layers, tuple(env), size=int(found.get("Size") or 0))
