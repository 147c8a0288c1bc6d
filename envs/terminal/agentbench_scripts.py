"""AgentBench's script objects, and the checks its task files refer to without bringing them.

A script is bash source as a string, or an object with ``language`` (bash, python, c, c++; bash if absent) and ``code``
or ``file``. Files are looked for beside the task file and in AgentBench's own layout (``data/7/a.json`` and
``scripts/7/check/a.sh``). Five comparing checks are known by their name: where their file is not there, the comparison
is made outside the sandbox.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from pivotgym.envs.errors import BadInput

_UNITS = {"B": 0, "BYTE": 0, "K": 1, "KB": 1, "M": 2, "MB": 2, "G": 3, "GB": 3, "T": 4, "TB": 4, "P": 5, "PB": 5}
NO_CACHE = "/proc/none"
"""Where Python is told to look for byte code: a folder that nobody can make."""
_LANGUAGES = ("bash", "python", "c", "c++")


@dataclass(frozen=True)
class Script:
    """A script.

    Attributes:
        language: ``bash``, ``python``, ``c`` or ``c++``.
        code: source; None where its file is not there.
        file: its name in the task file.
    """

    language: str
    code: str | None = None
    file: str | None = None

    @classmethod
    def of(cls, row: Any, folders: list[Path], *, file: Path, field: str) -> Script:
        """Reads a script object. Raises BadInput."""
        if isinstance(row, str):
            return cls("bash", row)
        if not isinstance(row, dict):
            raise BadInput("neither a text nor an object", file=file, field=field)
        language = row.get("language", "bash")
        if language not in _LANGUAGES:
            raise BadInput(
                f"no language {language!r}; known: {', '.join(_LANGUAGES)}", file=file, field=f"{field}.language"
            )
        if isinstance(row.get("code"), str) and "file" not in row:
            return cls(language, row["code"])
        name = row.get("file")
        if not isinstance(name, str):
            raise BadInput("has neither 'file' nor 'code'", file=file, field=field)
        where = f"{field}.file"
        if PurePath(name).is_absolute() or ".." in PurePath(name).parts:
            raise BadInput(f"{name!r} leads out of the folder of scripts", file=file, field=where)
        for folder in folders:
            path = folder / name
            try:
                if not path.is_file():
                    continue
                if not path.resolve().is_relative_to(folder.resolve()):
                    raise BadInput(f"{name!r} is a link that leads out of the scripts", file=file, field=where)
                return cls(language, path.read_text(encoding="utf-8"), name)
            except (OSError, ValueError) as error:
                raise BadInput(f"{name!r} cannot be read: {error}", file=file, field=where) from error
        return cls(language, None, name)

    def command(self, *arguments: str) -> str:
        """Bash source that runs it in a process of its own, its arguments being ``$1`` and so on."""
        code, words = self.code or "", list(arguments)
        if self.language == "bash":
            return shlex.join(["bash", "-c", code, "--", *words])
        if self.language == "python":
            # Isolated: nothing from the current folder or the user's packages is imported.
            # No byte code either: what lies in __pycache__ need not be what its source says.
            return shlex.join(["python3", "-IB", "-X", f"pycache_prefix={NO_CACHE}", "-c", code, *words])
        compiler, ending = ("g++", "cpp") if self.language == "c++" else ("gcc", "c")
        return (
            f"d=$(mktemp -d) && printf %s {shlex.quote(code)} >$d/main.{ending} && "
            f"{compiler} -o $d/run $d/main.{ending} && $d/run {shlex.join(words)}"
        )

    @property
    def comparison(self) -> Callable[[str, str], bool] | None:
        """The known comparison a missing file stands for."""
        return COMPARISONS.get(Path(self.file).name) if self.code is None and self.file else None

    def json(self) -> dict[str, Any]:
        """As JSON, for a task's definition."""
        return {key: value for key, value in vars(self).items() if value is not None}


def script_folders(file: Path) -> list[Path]:
    """Where the scripts of a task file may be."""
    here = file.resolve().parent
    names = (file.name.split(".")[0], here.name)
    roots = (here, here.parent, here.parent.parent)
    return [here, here / "scripts", *(root / "scripts" / name for root in roots for name in names)]


def _text(value: str) -> str:
    return value.replace("\r\n", "\n").replace("\r", "\n").strip()


def _bytes(value: str) -> int:
    found = re.fullmatch(r"\s*([+-]?\d+)\s*([A-Za-z]*)\s*", value)
    if found is None:
        raise ValueError(f"no size: {value!r}")
    return int(found[1]) << 10 * _UNITS[found[2].upper() or "B"]


def _number(compare: Callable[[str, str], bool]) -> Callable[[str, str], bool]:
    def checked(answer: str, expected: str) -> bool:
        try:
            return compare(answer, expected)
        except (ValueError, KeyError):
            return False

    return checked


COMPARISONS: dict[str, Callable[[str, str], bool]] = {
    "integer-match.py": _number(lambda answer, expected: int(answer) == int(expected)),
    "size-match.py": _number(lambda answer, expected: _bytes(answer) == _bytes(expected)),
    "string-match.py": lambda answer, expected: _text(answer) == _text(expected),
    "containing.py": lambda answer, expected: _text(expected) in _text(answer),
    "in.py": lambda answer, expected: _text(answer) in _text(expected),
}
"""By the name of the check's file: of the answer and what the reference printed."""
