"""Chromium inside a container: no network, no privileges, and only the pages that this process serves.

Playwright starts it like any other Chromium, through a script that hands the DevTools pipe on to ``docker run -i``: no
port is opened, and Chromium ends with the pipe. What serves the pages listens inside the container's network, which has
nothing but its own loopback; opening a socket there takes root on the machine that Docker runs on.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import socket
import subprocess
import tempfile
import threading
import uuid
from pathlib import Path

from pivotgym.containers.build import BROWSER_IMAGE
from pivotgym.envs.browser.engine import BrowserError
from pivotgym.envs.sandbox.docker_api import labels

MEMORY = "4g"
"""What all pages of a container may take together."""
PROCESSES = 4096
_CHROMIUM = "/usr/lib/chromium/chromium"
_SHELL = "/usr/lib/chromium/chromium-headless-shell"
_SCRIPT = """#!/bin/sh
exec docker run --rm --init -i --name {name} {labels} --network none --user agent \\
  --cap-drop ALL --security-opt no-new-privileges --pids-limit {processes} --memory {memory} --shm-size 1g \\
  {image} sh -c 'program={shell}; [ -x $program ] || program={chromium}
    exec $program "$@" 3<&0 4>&1 0</dev/null 1>/dev/null' sh "$@" 0<&3 1>&4
"""
_NEW_NETWORK = 0x40000000  # CLONE_NEWNET


class ContainerError(BrowserError):
    """Chromium cannot be run in a container here; the message says why."""


class Container:
    """One container for one Chromium.

    Args:
        image: its image, with Debian's Chromium and a user ``agent``.
    """

    def __init__(self, image: str) -> None:
        self._name = f"pivotgym-browser-{uuid.uuid4().hex[:12]}"
        _docker("image", "inspect", image, missing=f"the image {image} is missing: {_hint(image)}")
        self._folder = Path(tempfile.mkdtemp(prefix="pivotgym-browser-"))
        self.program = self._folder / "chromium"
        marks = " ".join(f"--label {shlex.quote(f'{key}={value}')}" for key, value in labels().items())
        self.program.write_text(
            _SCRIPT.format(
                name=self._name,
                labels=marks,
                processes=PROCESSES,
                memory=MEMORY,
                image=image,
                chromium=_CHROMIUM,
                shell=_SHELL,
            )
        )
        self.program.chmod(0o755)
        self._process = 0

    def started(self) -> None:
        """Notes which network it has. Raises ContainerError where it does not run."""
        self._process = int(_docker("inspect", "--format", "{{.State.Pid}}", self._name, missing="it has ended"))

    def listen(self) -> socket.socket:
        """A socket that listens on the container's own loopback. Raises ContainerError."""
        made: list[socket.socket] = []
        failed: list[OSError] = []

        def inside() -> None:
            try:
                network = os.open(f"/proc/{self._process}/ns/net", os.O_RDONLY)
                try:
                    if ctypes.CDLL(None, use_errno=True).setns(network, _NEW_NETWORK):
                        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
                finally:
                    os.close(network)
                made.append(socket.create_server(("127.0.0.1", 0)))
            except OSError as error:
                failed.append(error)

        # A thread of its own: it stays in that network, and ends.
        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        if failed:
            raise ContainerError(f"the container's network cannot be entered ({failed[0]}): that takes root")
        return made[0]

    def close(self) -> None:
        """Ends it."""
        shutil.rmtree(self._folder, ignore_errors=True)
        subprocess.run(["docker", "rm", "--force", self._name], capture_output=True, timeout=60)


def _hint(image: str) -> str:
    return "python -m pivotgym.containers.build --image browser" if image == BROWSER_IMAGE else f"docker pull {image}"


def _docker(*command: str, missing: str) -> str:
    try:
        done = subprocess.run(["docker", *command], capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        raise ContainerError("the command docker is not installed") from None
    except subprocess.TimeoutExpired:
        raise ContainerError("Docker does not answer") from None
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise ContainerError(missing if "No such" in done.stderr else f"docker: {said[-1] if said else 'failed'}")
    return done.stdout.strip()
