"""Searches as SWE-agent's commands give them: the sandbox's ``find`` and ``grep`` look, the host words the answer."""

from __future__ import annotations

import shlex

from pivotgym.envs.repo.tools.session import Session
from pivotgym.envs.repo.tools.state import Refused, ToolResult

_MANY = 100
_END = "\x1e"
"""Ends a file's name in what is printed here: no path holds it by accident, unlike a colon."""


def find_file(session: Session, name: str, folder: str | None) -> ToolResult:
    """``find_file``: files by name or pattern, sorted: in what order a file system lists them is its own affair."""
    where = _folder(session, folder)
    out = _run(session, f"find {_argument(where)} -type f -name {shlex.quote(name)}")
    found = sorted(line for line in out.split("\n") if line)
    if not found:
        return _answer(session, f'No matches found for "{name}" in {where}\n')
    listing = "".join(f"{path}\n" for path in found)
    return _answer(session, f'Found {len(found)} matches for "{name}" in {where}:\n{listing}')


def search_dir(session: Session, term: str, folder: str | None) -> ToolResult:
    """``search_dir``: how many lines of which files match a basic regular expression; hidden files are left out."""
    where = _folder(session, folder)
    grep = f"grep -cIH --null -- {shlex.quote(term)}"
    # The separator becomes one that a shell's output can hold; files without a match are not listed.
    split = "tr '\\0' '\\036' | grep -v \"$(printf '\\036')0$\""
    out = _run(session, f"find {_argument(where)} -type f ! -path '*/.*' -exec {grep} {{}} + | {split}")
    rows = [line.rpartition(_END) for line in out.split("\n") if _END in line]
    counts = {path: int(count) for path, _, count in rows if count.isdigit()}
    if not counts:
        return _answer(session, f'No matches found for "{term}" in {where}\n')
    if len(counts) > _MANY:
        text = f'More than {len(counts)} files matched for "{term}" in {where}. Please narrow your search.\n'
        return _answer(session, text)
    listing = "".join(f"{path} ({count} matches)\n" for path, count in sorted(counts.items()))
    found = f'Found {sum(counts.values())} matches for "{term}" in {where}:\n'
    return _answer(session, f'{found}{listing}End of matches for "{term}" in {where}\n')


def search_file(session: Session, term: str, path: str | None) -> ToolResult:
    """``search_file``: the matching lines of one file, the open one by default."""
    usage = "Usage: search_file <search_term> [<file>]\n"
    if not term:
        raise Refused(usage, "bad_arguments")
    if path:
        real = session.absolute(path)
        entry = session.look(real)
        if entry is None or entry.kind != "file":
            text = f"{usage}Error: File name {path} not found. Please provide a valid file name.\n"
            raise Refused(text, "no_file")
        real = session.real(real)
    elif session.state.open_file:
        real = session.state.open_file
    else:
        raise Refused("No file open. Use the open command first.\n", "no_file_open")
    out = _run(session, f"grep -n -- {shlex.quote(term)} {_argument(real)}")
    found = [line for line in out.split("\n") if line.partition(":")[0].isdigit()]
    if not found:
        return _answer(session, f'No matches found for "{term}" in {real}\n')
    rows = "".join(f"Line {line}\n" for line in found)
    text = f'Found {len(found)} matches for "{term}" in {real}:\n{rows}End of matches for "{term}" in {real}\n'
    return _answer(session, text)


def _folder(session: Session, folder: str | None) -> str:
    path = session.absolute(folder or ".")
    entry = session.look(path)
    if entry is None or entry.kind != "directory":
        raise Refused(f"Directory {folder} not found\n", "no_directory")
    return session.real(path)


def _argument(path: str) -> str:
    return shlex.quote(path)  # absolute, so that none reads as an option


def _run(session: Session, script: str) -> str:
    """What a pipeline prints, run apart from what the agent defined in its shell."""
    result = session.run(f"/bin/sh -c {shlex.quote(f'{{ {script} ; }} 2>/dev/null')}")
    if result.omitted_bytes or result.ending != "exit":
        how = "it prints too much" if result.omitted_bytes else f"it ended with {result.ending}"
        raise Refused(f"The search was given up: {how}. Please narrow your search.\n", "too_much")
    return result.output


def _answer(session: Session, text: str) -> ToolResult:
    return ToolResult(text, session.state.model_copy(update={"scrolls": 0}))
