"""Why observations of InterCode's recorded sessions differ here, proven on the two texts."""

from __future__ import annotations

import re
from collections import Counter

from pivotgym.envs.terminal.intercode_shell import TIMED_OUT

# Bash 5.2 says less where source ends within a quotation, and counts its lines differently.
_SECOND_COMPLAINT = re.compile(r"^.*: -c: line \d+: syntax error: unexpected end of file\n?", re.MULTILINE)
_SOURCE_LINE = re.compile(r": -c: line \d+:")
_UNFINISHED = re.compile(r": -c: line \d+: (?:unexpected EOF while looking|syntax error)")
_NOT_A_NUMBER = re.compile(r"-?\bnan\b")
_AWK = re.compile(r"\b[mgn]?awk\b")
# What gawk and mawk complain of is said in other words by each.
_AWK_COMPLAINT = re.compile(r"^[mgn]?awk: .*\n?", re.MULTILINE)
# The end of mawk at an expression that others take.
_MAWK_PANIC = re.compile(r"^REcompile\(\) - panic: .*\n?", re.MULTILINE)
_SAME_FILE = re.compile(r"cp: '([^']+)' and '\1' are the same file")
_PIPE = re.compile(r"^.*: (?:Cannot write: )?Broken pipe\n", re.MULTILINE)
_PRINTS_TIMES = re.compile(r"%[actACTBW]|\bstat\b|\bls\s+-\w*l")
_TIME = re.compile(r"\b(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\b *|[\d.:-]+ *")
# Whether `tree` counts the folder it was given changed with its version.
_TREE = re.compile(r"^\d+ director(?:y|ies), (?=\d+ files?$)", re.MULTILINE)
_FILE_TIMES = re.compile(r"\s-(?:[acm](?:time|min)|newer\w*)\b")
_NO_PROCESS = re.compile(r"^error: process ID out of range$", re.MULTILINE)

_SYSTEM = (
    r"(?:bin|boot|dev|etc|home|lib(?:32|64|x32)?|lost\+found|media|mnt|opt|proc|root|run|s?bin|srv|sys|tmp|usr|var"
    r"|setup_nl2b_fs_\d+\.sh|\.git|\.gitignore|\.dockerenv|\.placeholder)"
)
# At the beginning of a line, or after the names of those who complain.
_SYSTEM_PATH = re.compile(rf"^(?:[\w./-]+: )*['\"`]?(?:\./|/)?{_SYSTEM}(?=[/\s:'\"]|$)")
_ARCHIVER_NOTE = re.compile(r"^tar: (?:Removing leading|Exiting with failure|Error is not)")
# What walks everything: a search from `/`, from the working directory (`/` without a `cd`), or from an unset variable.
_WALKS_ALL = re.compile(
    r"(?:^|[|;&]\s*)(?:sudo\s+)?(?:find\s+(?:/|\.|\./|\"?\$\{?\w+\}?\"?)?(?=\s+-|\s*(?:$|[|;&]))"
    r"|(?:grep|zgrep)\s[^|;&]*-\w*[rR]\w*[^|;&]*\s(?:/|\.|\./)(?=\s|$)|du\s(?:-\S+\s+)*(?:/|\.)(?=\s|$))"
)


def cause_of_session(command: str, replayed: str, recorded: str) -> str | None:
    """The kind of a divergence, or None where only what holds for every recording can tell.

    Returns:
        ``bash_version`` (another wording of the same complaint), ``awk_nan`` (``nan`` or ``-nan``: another awk or
        processor), ``order`` (the same words), ``race`` (two programs of a pipe, whichever ended first),
        ``program_version`` (another version of the same program, or another awk, says the same in other words),
        ``host_files`` (what differs are files of the machine, not of the task), ``date`` (files were chosen by their
        times, or their times shown), ``process_id``.
    """
    if _complaints(replayed) == _complaints(recorded) and _UNFINISHED.search(recorded):
        return "bash_version"
    if _AWK.search(command) and _NOT_A_NUMBER.sub("nan", replayed) == _NOT_A_NUMBER.sub("nan", recorded):
        return "awk_nan"
    if replayed.split() != recorded.split() and _in_another_order(replayed, recorded):
        return "order"
    # Word by word: two programs that complain at once write into each other's lines.
    if sorted(_PIPE.sub("", replayed).split()) == sorted(_PIPE.sub("", recorded).split()):
        return "race"
    if _TREE.sub("", replayed) == _TREE.sub("", recorded) or _awks_complain(command, replayed, recorded):
        return "program_version"
    if _differ_by_machine(command, replayed, recorded):
        return "host_files"
    if _FILE_TIMES.search(command) or (
        _PRINTS_TIMES.search(command) and _TIME.sub("", replayed) == _TIME.sub("", recorded)
    ):
        return "date"
    if bool(_NO_PROCESS.search(replayed)) != bool(_NO_PROCESS.search(recorded)):
        return "process_id"
    return None


def _complaints(text: str) -> str:
    return _SOURCE_LINE.sub(": -c:", _SECOND_COMPLAINT.sub("", text))


def _awks_complain(command: str, replayed: str, recorded: str) -> bool:
    """Whether both times an awk complained, or only mawk broke, and nothing but the wording differs."""
    if not _AWK.search(command):
        return False
    if replayed != recorded and _MAWK_PANIC.sub("", replayed) == _MAWK_PANIC.sub("", recorded):
        return True
    complained = all(_AWK_COMPLAINT.search(text) for text in (replayed, recorded))
    return complained and _AWK_COMPLAINT.sub("", replayed) == _AWK_COMPLAINT.sub("", recorded)


def _in_another_order(replayed: str, recorded: str) -> bool:
    if sorted(replayed.split()) == sorted(recorded.split()):
        return True
    # A search that meets the copies it makes: which ones depends on the order of the directory.
    ours, theirs = replayed.splitlines(), recorded.splitlines()
    return bool(ours and theirs) and all(_SAME_FILE.fullmatch(line) for line in ours + theirs)


def _differ_by_machine(command: str, replayed: str, recorded: str) -> bool:
    walks = bool(_WALKS_ALL.search(command))
    if walks and (TIMED_OUT in (replayed, recorded)):
        return True
    ours, theirs = Counter(replayed.splitlines()), Counter(recorded.splitlines())
    different = [line for line in [*(ours - theirs), *(theirs - ours)] if line]
    named = [line for line in different if _SYSTEM_PATH.search(line)]
    if named and all(line in named or _ARCHIVER_NOTE.match(line) for line in different):
        return True
    return walks and all(line in named or re.fullmatch(r"[\d\s]+(?:total)?", line) for line in different)
