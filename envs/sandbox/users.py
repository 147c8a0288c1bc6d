"""Who the users inside a bubblewrap sandbox are outside: others whom nobody is, or oneself."""

from __future__ import annotations

import functools
import os
from pathlib import Path

FIRST_USER = 1_900_000_000
"""Where others can be used, user N inside is this number plus N outside: nobody, with nothing."""
USERS = 65536
"""How many users there are inside."""
_CAPABILITIES = (0, 1, 3, 6, 7)
"""CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_SETGID, CAP_SETUID: to give files away and map users."""


def first_user() -> int | None:
    """Number outside of user 0 inside; None where oneself is everybody inside.

    Root can use other users' numbers where its own namespace has them: root in a container without many users (rootless
    Podman, Docker's ``userns-remap``, ``unshare -r``) is as an ordinary user is.
    """
    return _first_user(os.geteuid())


@functools.cache
def _first_user(user: int) -> int | None:
    return FIRST_USER if user == 0 and _has_others() else None


def _has_others() -> bool:
    process = Path("/proc/self")
    try:
        mapped = all(_covers((process / name).read_text()) for name in ("uid_map", "gid_map"))
        groups = process / "setgroups"
        if not mapped or (groups.exists() and groups.read_text().strip() != "allow"):
            return False
        status = (process / "status").read_text()
    except OSError:
        return False
    effective = next((int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:")), 0)
    return all(effective >> number & 1 for number in _CAPABILITIES)


def _covers(mapping: str) -> bool:
    """Whether a map (lines of first inside, first outside, count; user_namespaces(7)) has all of the users."""
    rows = [[int(word) for word in line.split()] for line in mapping.splitlines()]
    return any(first <= FIRST_USER and first + count >= FIRST_USER + USERS for first, _, count in rows)
