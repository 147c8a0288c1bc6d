"""marshmallow as it was at the commit the recordings of SWE-agent begin at, made from a release."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
from pathlib import Path

from downloads import source_distribution

from pivotgym.envs.repo.tasks import RepoTask
from pivotgym.envs.terminal.tasks import Setup
from pivotgym.envs.trajectory import Trajectory

RELEASE = "3.14.0"
"""The first release after that commit: its ``fields.py`` differs from that commit's in the fix alone."""
FIELDS = "src/marshmallow/fields.py"
FIXED = (
    "        delta = utils.timedelta_to_microseconds(value)\n"
    "        unit = utils.timedelta_to_microseconds(base_unit)\n"
    "        return delta // unit\n"
)
BEFORE = "        return int(value.total_seconds() / base_unit.total_seconds())\n"
BLOB = "ad388c7"
"""What git calls the recorded ``fields.py``: every recording's patch names it."""


def source_files(folder: Path) -> dict[str, bytes]:
    """The release's files by path, ``fields.py`` as before the fix; the test skips where no index can be reached."""
    files = {}
    with tarfile.open(source_distribution("marshmallow", RELEASE, folder)) as archive:
        for member in archive:
            name = member.name.partition("/")[2]
            content = archive.extractfile(member) if member.isreg() else None
            if content is not None and name != "PKG-INFO" and ".egg-info/" not in name:
                files[name] = content.read()
    text = files[FIELDS].decode()
    assert text.count(FIXED) == 1
    files[FIELDS] = text.replace(FIXED, BEFORE).encode()
    blob = b"blob %d\0" % len(files[FIELDS]) + files[FIELDS]
    assert hashlib.sha1(blob, usedforsecurity=False).hexdigest().startswith(BLOB)
    return files


def on_marshmallow(trajectory: Trajectory, files: dict[str, bytes]) -> Trajectory:
    """The recording with its repository: the sandbox's own Python finds the package in it, as the recorded one did."""
    assert trajectory.task is not None
    spec = RepoTask.of(trajectory.task)
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{spec.workdir.lstrip('/')}/{name}")
            member.size, member.mode = len(content), 0o644
            archive.addfile(member, io.BytesIO(content))
    script = (
        f"cd {spec.workdir} && git init -q && git add -A && "
        "git -c user.name=nobody -c user.email=nobody@localhost commit -q -m base && "
        "if ! command -v python; then ln -s /usr/bin/python3 /usr/local/bin/python; fi"
    )
    spec = spec.model_copy(
        update={
            "image": None,
            "repository": RepoTask().repository,
            "setup": Setup(archives=[base64.b64encode(data.getvalue()).decode()], script=script),
            "env": {**spec.env, "PYTHONPATH": f"{spec.workdir}/src", "PYTHONDONTWRITEBYTECODE": "1"},
        }
    )
    return trajectory.model_copy(update={"task": spec.task(trajectory.id)})
