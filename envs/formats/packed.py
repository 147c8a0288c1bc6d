"""Recordings that ship with the package: JSONL compressed with gzip, the same bytes whenever it is made."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path

from pivotgym.envs.trajectory import Trajectory


def pack_lines(lines: Iterable[str]) -> bytes:
    """Lines, each ended by a line feed, compressed without a time stamp."""
    return gzip.compress("".join(f"{line}\n" for line in lines).encode(), compresslevel=9, mtime=0)


def pack(trajectories: Iterable[Trajectory]) -> bytes:
    """Trajectories as lines; what has its default value is left out."""
    return pack_lines(one.model_dump_json(exclude_defaults=True) for one in trajectories)


def unpack(packed: bytes) -> list[Trajectory]:
    """The trajectories in such a file's content."""
    return [Trajectory.model_validate_json(line) for line in gzip.decompress(packed).decode().splitlines()]


def write_packed(path: Path, packed: bytes) -> None:
    """Writes it, as plain text where the name does not end with ``.gz``."""
    path.write_bytes(packed if path.suffix == ".gz" else gzip.decompress(packed))
