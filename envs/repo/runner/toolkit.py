"""pytest for images that have none, taken from the running environment: pure Python, one archive."""

from __future__ import annotations

import functools
import importlib.metadata
import io
import re
import tarfile

from pivotgym.envs.errors import MissingExtra

TOOLKIT = "/opt/pivotgym/pytest"
"""Where the archive is unpacked in the sandbox."""

INSTALL = (
    f'{{ mkdir -p {TOOLKIT} && tar -xf "$PIVOTGYM_TOOLKIT" -C {TOOLKIT} && '
    f'"${{PIVOTGYM_PYTHON:-python3}}" -m compileall -q {TOOLKIT} > /dev/null; '
    '"${PIVOTGYM_PYTHON:-python3}" -c "'
    "import importlib.util, pathlib, site\n"
    "if importlib.util.find_spec('pytest') is None:\n"
    "    folder = pathlib.Path(site.getsitepackages()[0])\n"
    "    folder.mkdir(parents=True, exist_ok=True)\n"
    f"    (folder / 'pivotgym-pytest.pth').write_text('{TOOLKIT}\\\\n')\n"
    '"; }'
)
"""Bash source that unpacks the archive named by ``PIVOTGYM_TOOLKIT`` and makes ``python3 -m pytest`` work, where the
interpreter (``PIVOTGYM_PYTHON``, else ``python3``) has no pytest of its own."""

_ROOTS = ("pytest",)
_NEVER = frozenset(("colorama",))


@functools.cache
def toolkit_archive() -> bytes:
    """A tar archive with pytest and what it needs, as this environment has them; the same bytes every time.

    Raises:
        MissingExtra: pytest is not installed here.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in _needed():
            for file in sorted(importlib.metadata.files(name) or [], key=str):
                path = str(file)
                if path.startswith("..") or "__pycache__" in path or path.endswith((".pyc", ".so")):
                    continue
                if path.endswith(("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")):
                    continue
                data = file.read_binary()
                info = tarfile.TarInfo(path)
                info.size, info.mode, info.mtime = len(data), 0o644, 1_600_000_000
                archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _needed() -> list[str]:
    """The distributions, in a fixed order."""
    found: dict[str, None] = {}
    waiting = list(_ROOTS)
    while waiting:
        name = waiting.pop()
        if name in found or name in _NEVER:
            continue
        try:
            requires = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            if name in _ROOTS:
                raise MissingExtra(name, "dev") from None
            # Needed on other systems or older interpreters only.
            continue
        found[name] = None
        for line in requires:
            if "extra ==" in line:
                continue
            match = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", line)
            if match:
                waiting.append(match.group().lower())
    return sorted(found)
