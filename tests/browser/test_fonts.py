"""Fonts that are missing are told, by the machine's own fontconfig with other folders."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from pathlib import Path

import needs
import pytest

from pivotgym.envs.browser.fonts import warn_of_fonts


def test_missing_fonts_are_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("fc-match") is None:
        needs.missing("fc-match is not installed (fontconfig)")
    known = subprocess.run(["fc-list", ":", "file"], capture_output=True, text=True, check=True).stdout
    folders = {Path(line.rstrip(": ")).parent for line in known.splitlines()}
    only = next(folder for folder in folders if "dejavu" in folder.name)
    settings = tmp_path / "fonts.conf"
    settings.write_text(f"<fontconfig><dir>{only}</dir><cachedir>{tmp_path}/cache</cachedir></fontconfig>")
    warn_of_fonts.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_fonts()  # here they are
    warn_of_fonts.cache_clear()
    monkeypatch.setenv("FONTCONFIG_FILE", str(settings))
    with pytest.warns(UserWarning, match="DejaVu.*apt-get install fonts-liberation"):
        warn_of_fonts()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_fonts()  # once
    warn_of_fonts.cache_clear()
