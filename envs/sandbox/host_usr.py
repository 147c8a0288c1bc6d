"""What sandboxes see of this machine's ``/usr``: the distribution's programs, neither the site's nor this package.

A made folder lies over ``/usr``. Folders in it with the attribute ``user.overlay.opaque`` hide what this machine has
there, empty files hide files. ``/usr/local`` is the site's (tools, ``/usr/local/etc``); of it only a Python installed
there is shown, for many images have no other.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from pivotgym.envs.sandbox.layers import OPAQUE

USR = Path("/usr")
_LOCAL = USR / "local"
_EMPTY = ("bin", "etc", "games", "include", "lib", "sbin", "share", "share/man", "src")
"""Folders of ``/usr/local`` that programs expect."""
_SITE = (_LOCAL, USR / "etc", USR / "src")
"""Where administrators and images put what is theirs."""
_NAME = "pivotgym"
_PACKAGE = Path(__file__).resolve().parents[2]
"""This package's folder, or the checkout that it is used from."""


def hidden_parts(search_path: Sequence[str] = (), prefix: str = "", package: Path = _PACKAGE) -> list[Path]:
    """What is not to be seen below ``/usr``: sandboxes must not hold the checks and solutions of their own tasks.

    Args:
        search_path: where Python's packages are; as this process has it if empty.
        prefix: of a virtual environment; this process's if empty.
        package: this package's folder.
    """
    found = {*_SITE}
    places = {_real(place) for place in (search_path or sys.path) if place}
    found |= {item for place in places if _is_below(place, USR) for item in _of_package(place)}
    environment = prefix or (sys.prefix if sys.prefix != sys.base_prefix else "")
    for path in (package, *([_real(environment)] if environment else [])):
        found |= {path} if _is_below(path, USR) else set()
    return sorted(path for path in found if not any(_is_below(path, other) for other in found))


def shown_python() -> Path | None:
    """Where below ``/usr/local`` this Python is installed; None where it is elsewhere."""
    prefix = _real(sys.base_prefix)
    return prefix if prefix == _LOCAL or _is_below(prefix, _LOCAL) else None


def make_usr(folder: Path, hidden: Sequence[Path], python: Path | None) -> list[Path]:
    """Makes the folder that lies over ``/usr``; the folders in it that were made, their owner still to be set.

    The folders that root adds files to are made as well: inside they are root's then. This machine's files below them
    stay nobody's: root inside removes and replaces them, but cannot change them.
    """
    folder.mkdir()
    made = [folder]
    for name in ("bin", "include", "lib", "sbin", "share"):
        _folder_as_here(folder, USR / name, made)
    for path in hidden:
        _hide(folder, path, made)
    local = folder / "local"
    versions = [path.relative_to(_LOCAL).as_posix() for path in sorted(_LOCAL.glob("lib/python3*/dist-packages"))]
    for name in (*_EMPTY, *versions):  # Debian's Python wants to install there
        _new_folder(local / name, made)
    (local / "man").symlink_to("share/man")
    if python is not None:
        _copy_python(python, folder / python.relative_to(USR), made)
    return made


def _copy_python(source: Path, target: Path, made: list[Path]) -> None:
    """Copies an interpreter and its standard library, without what else was installed into it."""
    for name in ("bin", "lib"):
        _new_folder(target / name, made)
    for item in [*source.glob("bin/python*"), *source.glob("lib/libpython*")]:
        if not item.is_dir():
            with contextlib.suppress(FileExistsError):
                shutil.copy2(item, target / item.relative_to(source), follow_symlinks=False)
    leave = shutil.ignore_patterns("site-packages", "dist-packages")
    for item in source.glob("lib/python[0-9]*"):
        if item.is_dir() and (item / "os.py").is_file():  # other versions' folders are the site's
            there = target / item.relative_to(source)
            # With their times: Python's caches of compiled files are only good for those.
            shutil.copytree(item, there, symlinks=True, ignore=leave, dirs_exist_ok=True)
            _new_folder(there / "site-packages", made)


def _hide(folder: Path, path: Path, made: list[Path]) -> None:
    _folder_as_here(folder, path.parent, made)
    there = folder / path.relative_to(USR)
    if path.is_dir() or path in _SITE:
        _new_folder(there, made)
        os.setxattr(there, OPAQUE, b"y")
    elif not there.exists():
        there.touch(mode=0o644)


def _folder_as_here(folder: Path, path: Path, made: list[Path]) -> None:
    """Makes a folder and those above it with the modes they have here."""
    for part in [path, *path.parents]:
        if _is_below(part, USR):
            there = folder / part.relative_to(USR)
            if there not in made:
                there.mkdir(parents=True, exist_ok=True)
                made.append(there)
                there.chmod(stat.S_IMODE(part.stat().st_mode) & 0o755 | 0o700 if part.is_dir() else 0o755)


def _new_folder(path: Path, made: list[Path]) -> None:
    missing = [part for part in (path, *path.parents) if not part.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for part in missing or [path]:
        part.chmod(0o755)
        made.append(part)


def _of_package(place: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return [item for item in place.iterdir() if _is_ours(item.name.lower())]
    return []


def _is_ours(name: str) -> bool:
    """``pivotgym``, ``pivotgym-1.0.dist-info``, ``pivotgym.egg-link``, ``__editable__.pivotgym-1.0.pth`` …"""
    installed = (f"{_NAME}-", f"{_NAME}.", f"__editable__.{_NAME}", f"__editable___{_NAME}")
    return name == _NAME or name.startswith(installed)


def _real(path: str) -> Path:
    return Path(os.path.realpath(path))


def _is_below(path: Path, other: Path) -> bool:
    return path != other and path.is_relative_to(other)
