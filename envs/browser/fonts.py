"""The fonts of this machine: text of another width breaks and ends elsewhere, and the tree tells what can be seen."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from functools import cache


@cache
def warn_of_fonts() -> None:
    """Warns once where pages without fonts of their own will not look as they did in the bundled recordings.

    Chromium shows ``sans-serif`` in Arial, or in Liberation Sans, which is as wide, and takes anything else where
    neither is installed. Where fontconfig cannot be asked nothing is said.
    """
    program = shutil.which("fc-match")
    if program is None:
        return
    command = [program, "-f", "%{family}", "Arial"]
    asked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if asked.returncode == 0 and not any(name in asked.stdout for name in ("Liberation Sans", "Arial")):
        warnings.warn(
            f"neither Arial nor Liberation Sans is installed (there is {asked.stdout}): recorded pages may be laid out "
            "otherwise and not restore faithfully; apt-get install fonts-liberation",
            stacklevel=2,
        )
