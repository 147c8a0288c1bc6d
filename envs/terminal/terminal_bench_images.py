"""Images of Terminal-Bench tasks, built by Docker once and found again by what they are made of.

A finished image is kept for later runs until ``pivotgym clean`` finds its owner dead. What a build makes on the way
(containers, images of single instructions) carries its owner's labels too, and goes with the first start after the
owner's death unless a kept image stands on it. A pulled image is its registry's and stays until somebody removes it.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pivotgym.envs.errors import BadInput, MissingExtra
from pivotgym.envs.sandbox import SandboxError, SandboxUnavailable
from pivotgym.envs.sandbox.docker_api import cache_labels, labels
from pivotgym.envs.terminal.dockerfile import parse_dockerfile
from pivotgym.envs.terminal.terminal_bench_folders import Folder

REPOSITORY = "pivotgym-task"


@dataclass(frozen=True)
class BuiltImage:
    """An image and what its configuration says."""

    name: str
    env: dict[str, str]
    workdir: str
    user: str


def build_image(folder: Folder) -> BuiltImage:
    """The task's image: the one it names where that is there, else built from its Dockerfile, once.

    Raises:
        SandboxUnavailable: no Docker daemon.
        SandboxError: the image cannot be built or had; the message has the build's last lines.
    """
    try:
        import docker
        from docker.errors import APIError, BuildError, DockerException, ImageNotFound
    except ImportError as error:
        raise MissingExtra("docker", "docker") from error
    try:
        client = docker.from_env()
    except DockerException as error:
        raise SandboxUnavailable(f"no Docker daemon: {error}") from error
    try:
        wanted = [folder.image] if folder.image else []
        if folder.dockerfile is not None:
            wanted.append(f"{REPOSITORY}:{_digest(folder)}")
        image = None
        for name in wanted:
            try:
                image = client.images.get(name)
                break
            except ImageNotFound:
                continue
        if image is None:
            name = wanted[-1]
            if folder.dockerfile is None:
                image = client.images.pull(name)
            else:
                with tempfile.TemporaryDirectory() as made:
                    labelled = Path(made) / "Dockerfile"
                    labelled.write_text(_labelled(folder.dockerfile), encoding="utf-8")
                    image, _ = client.images.build(
                        path=str(folder.context),
                        dockerfile=str(labelled),
                        tag=name,
                        buildargs=folder.build_args,
                        labels=cache_labels(),
                        rm=True,
                        forcerm=True,
                    )
    except BuildError as error:
        said = "".join(str(line.get("stream", "")) for line in error.build_log if isinstance(line, dict))
        raise SandboxError(f"{folder.dockerfile}: {error.msg}\n{said[-800:]}") from error
    except (APIError, DockerException) as error:
        raise SandboxError(f"the image of {folder.path.name}: {error}") from error
    finally:
        client.close()
    config = image.attrs.get("Config") or {}
    pairs = [one.partition("=") for one in config.get("Env") or []]
    return BuiltImage(
        name,
        {key: value for key, _, value in pairs},
        config.get("WorkingDir") or "/",
        (config.get("User") or "root").partition(":")[0],
    )


def _labelled(dockerfile: Path) -> str:
    """The Dockerfile with this process's labels on every stage: those given with a build are put on its end only."""
    text = dockerfile.read_text(encoding="utf-8")
    try:
        instructions = parse_dockerfile(dockerfile)
    except BadInput:
        return text  # the daemon says what is wrong with it, or understands more than is read here
    lines = [*text.splitlines(), ""]
    label = " ".join(["LABEL", *(f"{key}={json.dumps(value)}" for key, value in labels().items())])
    nexts = [one.line - 1 for one in instructions[1:]] + [len(lines) - 1]
    for one, at in reversed(list(zip(instructions, nexts, strict=True))):
        if one.name == "FROM":
            lines.insert(at, label)
    return "\n".join(lines)


def _digest(folder: Folder) -> str:
    """Of everything the build reads: file names, modes and contents, and the arguments."""
    running = hashlib.sha256(repr(sorted(folder.build_args.items())).encode())
    assert folder.dockerfile is not None
    for path in [folder.dockerfile, *sorted(folder.context.rglob("*"))]:
        if path.is_file():
            name = path.relative_to(folder.context).as_posix() if path.is_relative_to(folder.context) else path.name
            running.update(f"\n{name} {path.stat().st_mode & 0o777:o} {_content(path)}".encode())
    return running.hexdigest()[:24]


def _content(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
