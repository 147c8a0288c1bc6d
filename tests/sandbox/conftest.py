"""Sandboxes for the tests: every test of the protocol runs on every backend this machine has."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from needs import missing

from pivotgym.envs.errors import MissingExtra
from pivotgym.envs.sandbox import Backend, Sandbox, SandboxConfig, SandboxUnavailable, Snapshot, get_backend


@pytest.fixture(params=["bubblewrap", "docker"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each backend in turn."""
    try:
        return get_backend(request.param)
    except (SandboxUnavailable, MissingExtra) as error:
        missing(str(error))


@pytest.fixture
def docker() -> Backend:
    """The backend of this machine's Docker daemon."""
    try:
        return get_backend("docker")
    except (SandboxUnavailable, MissingExtra) as error:
        missing(str(error))


@pytest.fixture
def config(backend: Backend) -> SandboxConfig:
    """What sandboxes are started from by default."""
    if backend.name == "docker":
        from pivotgym.envs.sandbox.docker import DEFAULT_IMAGE

        return SandboxConfig(image=DEFAULT_IMAGE, workdir="/root/work")
    return SandboxConfig(workdir="/root/work")


@pytest.fixture
def start(backend: Backend, config: SandboxConfig) -> Iterator[Callable[..., Sandbox]]:
    """Starts sandboxes (keyword arguments change the configuration) and stops them afterwards."""
    started: list[Sandbox] = []

    def start(**changes: object) -> Sandbox:
        sandbox = backend.start(config.model_copy(update=changes))
        started.append(sandbox)
        return sandbox

    yield start
    for sandbox in started:
        sandbox.stop()


@pytest.fixture
def box(start: Callable[..., Sandbox]) -> Sandbox:
    """A fresh sandbox."""
    return start()


@pytest.fixture
def fork(backend: Backend) -> Iterator[Callable[[Snapshot], Sandbox]]:
    """Loads snapshots, and stops what was loaded afterwards."""
    loaded: list[Sandbox] = []

    def load(snapshot: Snapshot, **options: object) -> Sandbox:
        sandbox = backend.load(snapshot, **options)  # type: ignore[arg-type]
        loaded.append(sandbox)
        return sandbox

    yield load
    for sandbox in loaded:
        sandbox.stop()
