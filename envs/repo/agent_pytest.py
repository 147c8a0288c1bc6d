"""pytest for the agent: a task whose project is tested with it must not depend on the image having it."""

from __future__ import annotations

import base64
import functools
import io
import shlex
import tarfile

from pivotgym.envs.repo.runner.toolkit import INSTALL, toolkit_archive
from pivotgym.envs.terminal.tasks import Setup

_ARCHIVE = "/.pytest.tar"


def with_pytest(setup: Setup, python: str = "python3") -> Setup:
    """The set-up, before which pytest is brought where ``python`` has none.

    Raises:
        MissingExtra: pytest is not installed here.
    """
    install = f"PIVOTGYM_TOOLKIT={_ARCHIVE} PIVOTGYM_PYTHON={shlex.quote(python)} bash -c {shlex.quote(INSTALL)}"
    script = f"{install} || exit 1\nrm {_ARCHIVE}\n{setup.script}"
    return setup.model_copy(update={"archives": [*setup.archives, _packed()], "script": script})


@functools.cache
def _packed() -> str:
    """The toolkit's archive as a file in an archive."""
    data, buffer = toolkit_archive(), io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo(_ARCHIVE.lstrip("/"))
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return base64.b64encode(buffer.getvalue()).decode("ascii")
