"""Why a replayed observation differs from the recorded one, as far as the two texts and the command tell."""

from __future__ import annotations

import re
from collections.abc import Callable

_NO_PROGRAM = re.compile(r"(?::|\b)(?: \d+:)? ?[\w./+-]{1,80}: (?:command )?not found|No module named", re.IGNORECASE)
_CONTAINER = re.compile(r"(?<![0-9a-f])(?=[0-9a-f]*[a-f])(?=[0-9a-f]*\d)[0-9a-f]{12}(?![0-9a-f])")
_MONTHS = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
_DATES = re.compile(
    r"\b(?:\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?)?(?: ?[+-]\d{4}|Z)?"
    rf"|(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? +)?(?:{_MONTHS}) +\d{{1,2}}"
    r"(?:,? +\d{4})?(?: +\d{2}:\d{2}(?::\d{2})?)?"
    r"|\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?|1[4-9]\d{8}(?:\.\d+)?)"
)


def _runs(*programs: str, also: str = "(?!)") -> re.Pattern[str]:
    """Finds one of these programs where a command begins, not where its name is an argument; or ``also``, anywhere."""
    begins = r"(?:^|[;&|(`{\n]|\b(?:do|then|else|sudo|xargs|exec|time|-exec|watch)\b)\s*(?:/\S*/)?"
    return re.compile(rf"{begins}(?:{'|'.join(programs)})(?![\w.-])|{also}", re.MULTILINE)


_ASKS_HOST = _runs("hostname", "hostnamectl", "uname", also=r"\$\{?HOSTNAME|/etc/host")
_ASKS_TIME = _runs(
    "date",
    "uptime",
    "cal",
    "time",
    also=r"\s-(?:mtime|mmin|ctime|cmin|atime|amin|newer)\b|strftime|EPOCH|datetime\.now",
)
_ASKS_PROCESSES = _runs(
    "ps", "top", "pgrep", "pidof", "pstree", "pkill", "jobs", "lsof", also=r"\$\$|\$!|/proc/(?:self|\d+)"
)
_ASKS_MACHINE = _runs(
    *("df", "free", "nproc", "lscpu", "uname", "mount", "vmstat", "ulimit", "lsblk", "w", "who", "id", "whoami", "env"),
    *("printenv", "ip", "ifconfig", "lsb_release"),
    also=r"/proc/(?:cpuinfo|meminfo|mounts|loadavg|version)|/etc/os-release",
)
_ASKS_VERSION = _runs(
    "dpkg", "apt", "apt-get", "man", "which", also=r"--version|\s-V\b|--help|\bpip3? (?:list|show|freeze)"
)
_ASKS_DISK = _runs("du", "stat", also=r"\bls\b[^|;&]*\s-\w*[sl]|\bfind\b.*\s-(?:ls|size|printf)")
_VERSION = re.compile(r"\bv?\d+(?:\.\d+)+[\w.+~-]*")
_LONG_VERSION = re.compile(r"\bv?\d+(?:\.\d+){2,}[\w.+~-]*|\bv\d+\.\d+|(?<=version )\d+(?:\.\d+)*")
"""Where nobody asked for a version, a number with one point is a number."""
_COMMIT = re.compile(r"\b[0-9a-f]{7,40}\b")
_NETWORK = re.compile(
    r"could not resolve|temporary failure in name resolution|network is unreachable|name or service not known"
    r"|failed to establish a new connection|connection timed out|no route to host",
    re.IGNORECASE,
)
_DENIED = re.compile(r"permission denied|operation not permitted|read-only file system", re.IGNORECASE)
_KILLED = re.compile(r"^\[killed: |timed? ?out", re.MULTILINE | re.IGNORECASE)
_COMPLAINT = re.compile(
    r"^(?:\S*/)?([\w.+-]+): (?=.*(?:syntax|unexpected|invalid|unrecogni|unknown|illegal|usage|missing|unmatched|pars|"
    r"fatal|division|expression|option|operand|endpoints|regex|unsupported))",
    re.IGNORECASE,
)
"""A program refuses how it was called; a file that is not there is another matter."""


def cause_of(command: str, replayed: str, recorded: str) -> str | None:
    """The kind of a divergence between two normalised observations of ``command``, or None where nothing tells.

    Returns:
        ``spacing``, ``order``, ``missing_program``, ``network``, ``timeout``, ``permission``, ``host_name``,
        ``commit_id``, ``date``, ``process_id``, ``program_version``, ``disk_usage``, ``machine``. A kind that the
        texts prove comes before one that the command makes likely.
    """
    if replayed.split() == recorded.split():
        return "spacing"
    if sorted(replayed.splitlines()) == sorted(recorded.splitlines()):
        return "order"
    for kind, pattern in (
        ("missing_program", _NO_PROGRAM),
        ("network", _NETWORK),
        ("timeout", _KILLED),
        ("permission", _DENIED),
    ):
        if bool(pattern.search(replayed)) != bool(pattern.search(recorded)):
            return kind
    return _after_replacing(command, replayed, recorded) or _unlike_programs(command, replayed, recorded)


def _after_replacing(command: str, replayed: str, recorded: str) -> str | None:
    """The first kind of text whose replacement makes both sides equal, in the same order or another."""
    numbers = re.compile(r"\d+(?:[.:]\d+)*")
    rules: list[tuple[str, re.Pattern[str], re.Pattern[str] | None]] = [
        ("host_name", _CONTAINER, None),
        ("date", _DATES, None),
        ("commit_id", _COMMIT, re.compile(r"\bgit\b")),
        ("process_id", numbers, _ASKS_PROCESSES),
        ("date", numbers, _ASKS_TIME),
        ("program_version", _LONG_VERSION, None),
        ("program_version", _VERSION, _ASKS_VERSION),
        ("disk_usage", re.compile(r"\d+(?:\.\d+)?[KMGT]?\b"), _ASKS_DISK),
        ("machine", numbers, _ASKS_MACHINE),
    ]
    for kind, pattern, asked in rules:
        if asked is not None and not asked.search(command):
            continue
        one, other = (_lines(pattern, text) for text in (replayed, recorded))
        if one == other or sorted(one) == sorted(other):
            return kind
    return None


def _lines(pattern: re.Pattern[str], text: str) -> list[str]:
    return [" ".join(pattern.sub("#", line).split()) for line in text.splitlines()]


def _unlike_programs(command: str, replayed: str, recorded: str) -> str | None:
    """What the command asks for by its nature, where the texts have no common form."""
    theirs = {found[1] for line in recorded.splitlines() if (found := _COMPLAINT.match(line))}
    ours = {found[1] for line in replayed.splitlines() if (found := _COMPLAINT.match(line))}
    if any(re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", command) for name in theirs | ours):
        return "program_version"
    checks: list[tuple[str, Callable[[str], object]]] = [
        ("host_name", _ASKS_HOST.search),
        ("program_version", _ASKS_VERSION.search),
        ("process_id", _ASKS_PROCESSES.search),
        ("date", _ASKS_TIME.search),
        ("machine", _ASKS_MACHINE.search),
    ]
    return next((kind for kind, asks in checks if asks(command)), None)
