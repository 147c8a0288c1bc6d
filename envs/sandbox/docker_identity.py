"""Who a user name or number is inside an image, as its own ``/etc/passwd`` says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pivotgym.envs.errors import BadInput
from pivotgym.envs.sandbox.base import SandboxFileError
from pivotgym.envs.sandbox.docker_files import read_file

if TYPE_CHECKING:
    from docker import APIClient


@dataclass(frozen=True)
class Identity:
    """A user inside.

    Attributes:
        name: or the number as text where it has none.
        uid: user number.
        gid: number of its first group.
        home: its home folder; ``/`` where it has none.
        spec: as Docker takes it: a name, of which it looks up the other groups too, or ``uid:gid``.
    """

    name: str
    uid: int
    gid: int
    home: str
    spec: str


ROOT = Identity("root", 0, 0, "/root", "0:0")


def identity(client: APIClient, container: str, user: str | int) -> Identity:
    """Looks a user up.

    Raises:
        BadInput: a name that is not in the image.
        SandboxError: the daemon fails.
    """
    if user in ("root", 0, "0"):
        return ROOT
    wanted = str(user)
    try:
        text = read_file(client, container, "/etc/passwd", 1 << 20).decode("utf-8", "replace")
    except SandboxFileError:
        text = ""
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) >= 6 and wanted in (fields[0], fields[2]) and fields[2].isdigit() and fields[3].isdigit():
            return Identity(fields[0], int(fields[2]), int(fields[3]), fields[5] or "/", fields[0])
    if not wanted.isdigit():
        raise BadInput(f"the image has no user {wanted!r}", field="user")
    return Identity(wanted, int(wanted), int(wanted), "/", f"{wanted}:{wanted}")
