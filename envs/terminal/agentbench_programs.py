"""Which changes of an agent can make the programs of an AgentBench check say something else.

A check's scripts call programs of the final state. So everything a program is found in or loads is to be as it was: the
folders of programs and libraries with all that is new there (a program in a folder that comes earlier in the path, a
package that hides one of the standard library), what the linker and Python read at their start, and where links of
programs lead. Some tasks ask for a new command; what their reference adds, the agent may add.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from pivotgym.envs.sandbox import FileChange, Sandbox, SandboxFileError

PROGRAM_FOLDERS = ("/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin")
"""Where a check finds its programs, in this order."""
PATH = ":".join(PROGRAM_FOLDERS)
# A plain file directly in /usr is data; no program is looked for there.
_PLACES = re.compile(
    r"/(?:s?bin|lib\w*|opt|usr)$|/(?:s?bin|lib\w*|opt)/|/usr/(?:s?bin|lib\w*|local|share|include)$|/usr/[^/]+/"
    r"|/etc/(?:ld\.so|alternatives|python|perl)"
)
_AT_START = re.compile(r"(?:^|/)(?:site|user)customize(?:\.|/|$)|\.pth$|(?:^|/)pyvenv\.cfg$")
_BYTE_CODE = re.compile(r"/__pycache__(?:/[^/]+\.pyc)?$")


def can_deceive(change: FileChange) -> bool:
    """Whether a change may touch what a check's programs are, load or read at their start.

    Byte code that Python wrote beside its modules does not count: a check's Python looks for none there.
    """
    if _AT_START.search(change.path):
        return True
    if _BYTE_CODE.search(change.path) and change.kind in ("file", "directory", "absent"):
        return False
    return _PLACES.match(change.path) is not None


def commands_in(box: Sandbox) -> set[str]:
    """The names of all programs a check finds."""
    found = set[str]()
    for folder in PROGRAM_FOLDERS:
        try:
            found.update(path for path in box.tree(folder) if path and "/" not in path)
        except SandboxFileError:
            continue
    return found


def added_by(reference: Iterable[FileChange], commands: set[str]) -> Callable[[FileChange], bool]:
    """Says of a change whether it adds what the reference adds: that path, or that command in another of the folders.

    Args:
        reference: what the reference changes in the initial state.
        commands: the programs that state has; no new one may have such a name.
    """
    paths = {change.path for change in reference if change.before == "absent"}
    names = {path.rpartition("/")[2] for path in paths if path.rpartition("/")[0] in PROGRAM_FOLDERS}

    def added(change: FileChange) -> bool:
        folder, _, name = change.path.rpartition("/")
        if change.before != "absent":
            return False
        if folder in PROGRAM_FOLDERS:
            return name in names and name not in commands
        return change.path in paths

    return added
