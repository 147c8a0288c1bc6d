"""Builds the base image and the browser's, and exports the base image for backends without Docker.

``python -m pivotgym.containers.build [--image browser]``: from a registry's Debian where one can be reached, else from
``debootstrap``. ``--export FOLDER`` or ``--export FILE.tar`` writes the base image's root file system instead, which
the bubblewrap backend takes as an image; that needs no Docker.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pivotgym.envs.errors import InfrastructureError, MissingExtra

if TYPE_CHECKING:
    from docker import APIClient

Source = Literal["auto", "registry", "debootstrap"]

IMAGE = "pivotgym-base"
BROWSER_IMAGE = "pivotgym-browser"
SUITE = "bookworm"
HERE = Path(__file__).parent
_ENV = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

log = logging.getLogger("pivotgym.containers")


@dataclass(frozen=True)
class Recipe:
    """What an image is made from: files of this folder.

    Attributes:
        label: the image's label ``pivotgym.image``.
        packages: its Debian packages, one a line.
        finish: the script that is run in it last.
        dockerfile: the way from a registry's Debian.
        by_apt: ``debootstrap`` makes a bare system, whose own apt installs the packages.
    """

    label: str
    packages: str
    finish: str
    dockerfile: str
    by_apt: bool = False


BASE = Recipe("base", "packages.txt", "finish.sh", "base.Dockerfile")
BROWSER = Recipe("browser", "browser-packages.txt", "browser-finish.sh", "browser.Dockerfile", by_apt=True)
RECIPES = {IMAGE: BASE, BROWSER_IMAGE: BROWSER}


class BuildError(InfrastructureError):
    """The image cannot be built on this machine; the message says what is missing."""


def packages(recipe: Recipe = BASE) -> list[str]:
    """The Debian packages of an image."""
    lines = (HERE / recipe.packages).read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def mirror(etc: Path = Path("/etc")) -> str | None:
    """The Debian mirror this machine's apt is configured with; None where it has none (another distribution)."""
    try:
        release = (etc / "os-release").read_text(encoding="utf-8")
    except OSError:
        return None
    if not re.search(r"^ID=\"?debian\"?$", release, re.MULTILINE):
        return None
    folder = etc / "apt" / "sources.list.d"
    for file in [etc / "apt" / "sources.list", *sorted(folder.glob("*.list")), *sorted(folder.glob("*.sources"))]:
        if not file.is_file():
            continue
        text = file.read_text(encoding="utf-8", errors="replace")
        # One line a source, or fields in stanzas. A mirror of Debian itself ends in /debian.
        lines = re.findall(r"^deb\s+(?:\[[^]]*\]\s+)?(\S+)", text, re.MULTILINE)
        fields = [word for value in re.findall(r"^URIs:(.*)$", text, re.MULTILINE) for word in value.split()]
        for address in [*lines, *fields]:
            if re.fullmatch(r"(https?|file)://\S*/debian/?", address):
                return str(address)
    return None


def bootstrap(folder: Path, recipe: Recipe = BASE) -> None:
    """Makes the root file system in ``folder`` with ``debootstrap``; root only.

    Raises:
        BuildError: no ``debootstrap``, no root, or it fails.
    """
    program = shutil.which("debootstrap", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        raise BuildError("debootstrap is not installed: apt-get install debootstrap")
    if os.geteuid() != 0:
        raise BuildError("debootstrap needs root")
    # What debootstrap cannot put in order (packages that need each other) is left to the new system's own apt.
    include = [] if recipe.by_apt else [f"--include={','.join(packages(recipe))}"]
    address = mirror()
    _command([program, "--variant=minbase", *include, SUITE, str(folder), *([address] if address else [])])
    if recipe.by_apt:
        shutil.copy("/etc/resolv.conf", folder / "etc" / "resolv.conf")
        apt = ["chroot", str(folder), "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"]
        _command([*apt, "update"])
        _command([*apt, "install", "-y", "--no-install-recommends", *packages(recipe)])
    shutil.copy(HERE / recipe.finish, folder / "finish.sh")
    _command(["chroot", str(folder), "sh", "/finish.sh"])
    (folder / "finish.sh").unlink()


def _command(command: Sequence[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    if done.returncode:
        last = "\n".join(done.stdout.strip().splitlines()[-5:])
        raise BuildError(f"{Path(command[0]).name} failed with status {done.returncode}: {last}")


@contextlib.contextmanager
def _root_folder(recipe: Recipe = BASE) -> Iterator[Path]:
    """A folder with the bootstrapped root file system, removed on leaving."""
    with tempfile.TemporaryDirectory(prefix="pivotgym-image-") as name:
        root = Path(name) / "root"
        root.mkdir(mode=0o755)
        bootstrap(root, recipe)
        yield root


def tar_stream(folder: Path) -> Iterator[bytes]:
    """``folder`` as a tar archive with numeric owners, in pieces. Raises BuildError."""
    command = ["tar", "-C", str(folder), "--numeric-owner", "--one-file-system", "-c", "."]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        while piece := process.stdout.read(1 << 20):
            yield piece
        said = process.stderr.read().decode("utf-8", "replace").strip()
    if process.returncode:
        raise BuildError(f"tar failed: {said[-500:]}")


def build(client: APIClient, source: Source = "auto", name: str = IMAGE, recipe: Recipe = BASE) -> None:
    """Builds the image into a Docker daemon.

    Args:
        client: of the daemon.
        source: what it is made from; ``auto`` tries a registry first.
        name: of the image.
        recipe: which image.

    Raises:
        BuildError: it cannot be built; where both ways failed the message has both reasons.
    """
    reasons = []
    began = time.monotonic()
    if source in ("auto", "registry"):
        try:
            _build_from_registry(client, name, recipe)
            log.info("Built the image %s from a registry in %.0f s.", name, time.monotonic() - began)
            return
        except BuildError as error:
            reasons.append(f"from a registry: {error}")
    if source in ("auto", "debootstrap"):
        try:
            with _root_folder(recipe) as root:
                import_image(client, tar_stream(root), name, labels={"pivotgym.image": recipe.label})
            log.info("Built the image %s with debootstrap in %.0f s.", name, time.monotonic() - began)
            return
        except BuildError as error:
            reasons.append(f"with debootstrap: {error}")
    raise BuildError(f"the image {name} cannot be built; {'; '.join(reasons)}")


def _build_from_registry(client: APIClient, name: str, recipe: Recipe) -> None:
    from docker.errors import DockerException

    last = ""
    labels = {"pivotgym.image": recipe.label}
    try:
        for line in client.build(
            path=str(HERE), dockerfile=recipe.dockerfile, tag=name, rm=True, forcerm=True, labels=labels, decode=True
        ):
            if "error" in line:
                raise BuildError(str(line["error"]).strip())
            last = str(line.get("stream") or last)
    except DockerException as error:
        raise BuildError(f"{error} (after: {last.strip()})") from None


def import_image(
    client: APIClient,
    data: Iterator[bytes],
    name: str,
    *,
    env: Sequence[str] = (_ENV,),
    labels: dict[str, str] | None = None,
) -> None:
    """Makes an image of one layer from a tar archive of a root file system.

    Args:
        client: of the daemon.
        data: the archive in pieces.
        name: ``repository`` or ``repository:tag``.
        env: environment variables of the image, ``NAME=value``.
        labels: of the image.
    """
    repository, _, tag = name.partition(":")
    changes = [f"ENV {key}={_quoted(value)}" for key, _, value in (entry.partition("=") for entry in env)]
    changes += [f"LABEL {key}={_quoted(value)}" for key, value in (labels or {}).items()]
    client.import_image_from_data(data, repository=repository, tag=tag or "latest", changes=changes)


def _quoted(value: str) -> str:
    escaped = re.sub(r'([\\"$])', r"\\\1", value)
    return f'"{escaped}"'


def export(target: Path, client: APIClient | None = None) -> None:
    """Writes the root file system to a new folder, or to a tar archive where ``target`` ends in ``.tar``.

    Args:
        target: must not exist.
        client: takes the image from this daemon instead of making it with ``debootstrap``.

    Raises:
        BuildError: it cannot be made, or ``target`` exists.
    """
    if target.exists():
        raise BuildError(f"{target} exists already")
    target.parent.mkdir(parents=True, exist_ok=True)
    archive = target.suffix == ".tar"
    if client is None and not archive:
        target.mkdir(mode=0o755)
        bootstrap(target)
        return
    with contextlib.ExitStack() as stack:
        if client is None:
            pieces = tar_stream(stack.enter_context(_root_folder()))
        else:
            container = client.create_container(IMAGE, ["true"], network_disabled=True)["Id"]
            stack.callback(client.remove_container, container, force=True)
            pieces = client.export(container, chunk_size=1 << 20)
        file = target if archive else Path(stack.enter_context(tempfile.TemporaryDirectory())) / "image.tar"
        with file.open("wb") as out:
            for piece in pieces:
                out.write(piece)
        if not archive:
            target.mkdir(mode=0o755)
            # Device nodes cannot be made by everybody and are not used: a sandbox brings its own /dev.
            owner = ["--numeric-owner", "--same-owner"] if os.geteuid() == 0 else ["--no-same-owner"]
            _command(["tar", "-C", str(target), "-xpf", str(file), *owner, "--exclude=dev/*", "--exclude=./dev/*"])


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; exit status 1 with one line where it cannot be done."""
    parser = argparse.ArgumentParser(prog="pivotgym.containers.build", description="Builds the base image, or another.")
    parser.add_argument("--image", choices=("base", "browser"), default="base", help="which one")
    parser.add_argument("--from", dest="source", choices=("auto", "registry", "debootstrap"), default="auto")
    parser.add_argument("--name", help=f"of the image in the Docker daemon; {IMAGE} or {BROWSER_IMAGE} by default")
    parser.add_argument("--export", type=Path, help="write a folder or FILE.tar with debootstrap instead; no Docker")
    parser.add_argument("--from-docker", action="store_true", help="--export takes the image from the Docker daemon")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        if options.export and not options.from_docker:
            export(options.export)
        elif options.export:
            export(options.export, _client())
        else:
            default = IMAGE if options.image == "base" else BROWSER_IMAGE
            build(_client(), options.source, options.name or default, RECIPES[default])
    except (BuildError, MissingExtra) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _client() -> APIClient:
    try:
        import docker
        from docker.errors import DockerException
    except ImportError:
        raise MissingExtra("docker", "docker") from None
    try:
        return docker.from_env(timeout=600).api
    except DockerException as error:
        raise BuildError(f"no Docker daemon can be reached: {error}") from None


if __name__ == "__main__":
    raise SystemExit(main())
