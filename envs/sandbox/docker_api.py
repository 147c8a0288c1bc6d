"""The connection to the Docker daemon: typed errors, retries, and labels that say whose a thing is."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import tenacity

from pivotgym.envs.errors import MissingExtra
from pivotgym.envs.sandbox.base import SandboxError, SandboxFileError, SandboxUnavailable

if TYPE_CHECKING:
    import requests
    from docker import APIClient

P = ParamSpec("P")
R = TypeVar("R")

LABEL = "pivotgym"
OWNER = "pivotgym.owner"
HOST = "pivotgym.host"
CACHE = "pivotgym.cache"
_TIMEOUT = 120
"""Seconds the daemon may take for one answer; a commit of gigabytes takes tens of them."""


def connect() -> APIClient:
    """A client of the daemon that ``DOCKER_HOST`` or the default socket names.

    Raises:
        SandboxUnavailable: no daemon answers there.
        MissingExtra: the ``docker`` package is not installed.
    """
    try:
        import docker
        from docker.errors import DockerException
    except ImportError:
        raise MissingExtra("docker", "docker") from None
    where = os.environ.get("DOCKER_HOST", "the default socket")
    try:
        client = docker.from_env(timeout=_TIMEOUT).api
        system = client.info().get("OSType", "linux")
    except (DockerException, OSError) as error:
        raise SandboxUnavailable(
            f"no Docker daemon answers at {where} ({_short(error)}): start dockerd, or set DOCKER_HOST, "
            "or use the bubblewrap backend"
        ) from None
    if system != "linux":
        raise SandboxUnavailable(f"the Docker daemon at {where} runs {system} containers, Linux ones are needed")
    return client


def _short(error: BaseException) -> str:
    """The innermost cause, on one line."""
    while (inner := error.__context__ or error.__cause__) is not None:
        error = inner
    return " ".join(str(error).split())[:200]


def status_of(error: BaseException) -> int | None:
    """The HTTP status of an API error; None where it is none."""
    response = getattr(error, "response", None)
    return getattr(response, "status_code", None)


def is_missing(error: BaseException) -> bool:
    """Whether the daemon said that there is no such thing.

    Of an image that another process removed while it looked it says so with the status of a failure.
    """
    gone = "unrecognized image id" in str(getattr(error, "explanation", "") or "").lower()
    return status_of(error) == 404 or (status_of(error) == 500 and gone)


@contextlib.contextmanager
def as_sandbox_error(doing: str) -> Iterator[None]:
    """Turns what the ``docker`` and ``requests`` packages raise into a SandboxError that says what was being done."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    try:
        yield
    except (DockerException, RequestException, OSError) as error:
        explanation = getattr(error, "explanation", None) or str(error)
        if isinstance(explanation, bytes):
            explanation = explanation.decode("utf-8", "replace")
        raise SandboxError(f"Docker, {doing}: {' '.join(str(explanation).split())[:500]}") from error


_PASSING = ("resource busy", "resource temporarily unavailable", "try again", "removal in progress", "layer not known")


def _is_transient(error: BaseException) -> bool:
    """Whether the same request may well succeed a moment later."""
    from requests.exceptions import ConnectionError as Disconnected

    if isinstance(error, Disconnected):
        return True
    text = str(getattr(error, "explanation", "") or "").lower()
    return status_of(error) in (429, 503) or (
        status_of(error) in (409, 500) and any(words in text for words in _PASSING)
    )


def retried(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Calls a function of the client, up to three times where the error is a passing one. Only for what may be
    repeated without harm."""
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_is_transient),
        stop=tenacity.stop_after_attempt(3),
        wait=tenacity.wait_exponential(multiplier=0.1, max=1.0),
        reraise=True,
    )
    return retrying(function, *args, **kwargs)


def archive_url(client: APIClient, container: str) -> str:
    """Where a container's files are."""
    return f"{client.base_url}/v{client.api_version}/containers/{container}/archive"


def path_stat(client: APIClient, container: str, path: str) -> dict[str, Any] | None:
    """What the daemon says of a path (``name size mode mtime linkTarget``); None where there is nothing.

    A link itself is described, links above it are followed inside the container. ``mode`` has Go's bits, see
    :mod:`.docker_files`.

    Raises:
        SandboxFileError: no walk along the path, or along the link that it is, comes to an end.
    """
    url = archive_url(client, container)
    response = client.head(url, params={"path": path}, timeout=_TIMEOUT)
    if response.status_code == 404:
        return None
    if response.status_code >= 400:  # the reason comes with the body, which this kind of request has not
        with contextlib.closing(client.get(url, params={"path": path}, stream=True, timeout=_TIMEOUT)) as again:
            _check_path(again, path)
    response.raise_for_status()
    described = json.loads(base64.b64decode(response.headers["X-Docker-Container-Path-Stat"]))
    assert isinstance(described, dict)
    return described


# How the daemon, in Go, ends its message where the path it was given is at fault: with the kernel's words for ENOTDIR,
# ELOOP and ENAMETOOLONG. Only its own words on links come before the path, and a path could hold those too: so they
# count at the beginning only.
_FAULTS = (
    (re.compile(r": not a directory$"), "leads through something that is no directory"),
    (re.compile(r"^(\w+: )?too many links|: too many (links|levels of symbolic links)$"), "links that lead nowhere"),
    (re.compile(r": file name too long$"), "the name, or where a link leads, is too long"),
)


def path_fault(message: str) -> str | None:
    """What is wrong with a path that the daemon fails on; None where the message says nothing of the kind."""
    text = message.strip()
    return next((said for pattern, said in _FAULTS if pattern.search(text)), None)


def _check_path(response: requests.Response, path: str) -> None:
    """Raises SandboxFileError where the daemon failed because of the path: what runs inside can bring that about."""
    if response.status_code < 400:
        return
    try:
        message = str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return
    if fault := path_fault(message):
        raise SandboxFileError(f"{path[:200]}: {fault}")


@contextlib.contextmanager
def archive_of(client: APIClient, container: str, path: str) -> Iterator[requests.Response | None]:
    """The tar archive of a path as an open response, closed on leaving however much of it was read; None: no path.

    Raises:
        SandboxFileError: no walk along the path, or along the link that it is, comes to an end.
    """
    # Compressing takes the daemon ten times as long as packing.
    plain = {"Accept-Encoding": "identity"}
    url = archive_url(client, container)
    response = client.get(url, params={"path": path}, headers=plain, stream=True, timeout=_TIMEOUT)
    with contextlib.closing(response):
        if response.status_code == 404:
            yield None
        else:
            _check_path(response, path)
            response.raise_for_status()
            yield response


@functools.cache
def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


@functools.cache
def host_id() -> str:
    """Tells machines, and namespaces of process numbers on one machine, apart: says which owners can be looked up."""
    try:
        machine = Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except OSError:
        machine = ""
    namespace = Path("/proc/self/ns/pid").readlink()
    return hashlib.sha256(f"{machine or os.uname().nodename} {namespace}".encode()).hexdigest()[:16]


def _started(pid: int) -> str | None:
    """When a process started, in ticks since boot; None where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def labels() -> dict[str, str]:
    """For everything this process makes: ``pivotgym.owner`` is ``<boot id>:<pid>:<start time>``.

    ``pivotgym.cache`` is ``1`` for an image that outlives its owner (:func:`cache_labels`). It says ``0`` elsewhere:
    what is made from such an image would take over the image's label.
    """
    pid = os.getpid()
    return {LABEL: "1", OWNER: f"{_boot()}:{pid}:{_started(pid)}", HOST: host_id(), CACHE: "0"}


def cache_labels() -> dict[str, str]:
    """For an image that is found again by its name and took long to build: only ``pivotgym clean`` removes it, and
    only where its owner is dead."""
    return {**labels(), CACHE: "1"}


def is_orphan(found: dict[str, str]) -> bool | None:
    """Whether the process that made a thing is dead; None where that cannot be known from here."""
    boot, _, rest = found.get(OWNER, "").partition(":")
    pid, _, started = rest.partition(":")
    if found.get(HOST) != host_id() or not pid.isdigit():
        return None
    return boot != _boot() or _started(int(pid)) != started


@contextlib.contextmanager
def unstarted(client: APIClient, image: str) -> Iterator[str]:
    """A container of an image that never runs: a way to its files."""
    made = retried(client.create_container, image, entrypoint=["bash"], network_disabled=True, labels=labels())["Id"]
    try:
        yield made
    finally:
        client.remove_container(made, v=True, force=True)
