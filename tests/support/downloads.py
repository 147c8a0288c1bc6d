"""Source distributions of other projects, from the package index."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import tenacity
from needs import missing


class _NotFetched(Exception):
    """What pip said."""


@tenacity.retry(
    retry=tenacity.retry_if_exception_type((_NotFetched, subprocess.TimeoutExpired)),
    stop=tenacity.stop_after_attempt(3),
    wait=tenacity.wait_exponential(multiplier=2.0),
    reraise=True,
)
def _fetch(requirement: str, folder: Path) -> None:
    # No dependency and no build: only the archive is wanted.
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:"]
    command += ["--no-build-isolation", "--disable-pip-version-check", "-d", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    if done.returncode != 0:
        raise _NotFetched(done.stderr.strip()[-300:])


def source_distribution(project: str, version: str, folder: Path) -> Path:
    """The archive, downloaded into ``folder`` unless it is there; the test skips where no index can be reached."""
    archive = folder / f"{project}-{version}.tar.gz"
    if not archive.exists():
        try:
            _fetch(f"{project}=={version}", folder)
        except (_NotFetched, subprocess.TimeoutExpired) as error:
            missing(f"{project} {version} cannot be downloaded: {error}")
    return archive
