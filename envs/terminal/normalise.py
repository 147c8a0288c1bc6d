"""What may differ between two runs of the same command, and is no difference: times, process ids, temporary names.

Only what tools print in a form of their own is replaced (a row of ``ls -l``, a line of ``date``, a job number). Plain
numbers, names, dates inside a file and lone hashes decide what a command showed; they stay. Times of day inside
free text are replaced only when they are of these days, so that a program's own log lines of now are no
difference, and the log file that a task is about stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

_DAY = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_CLOCK = r"\d{1,2}:\d{2}(?::\d{2})?"
_ISO = re.compile(
    r"\b(\d{4}-\d{2}-\d{2})[T ](\d{2}:\d{2}(?::\d{2})?)(?:[.,]\d{1,9})?(?: ?(?:Z|UTC|[+-]\d{2}:?\d{2}))?(?!\d)"
)
_RECENT = timedelta(days=2)

_ISO_CLOCK = r"\d{4}-\d{2}-\d{2} \d{2}:\d{2}(?::\d{2}\.\d+ [+-]\d{4})?"
_LS_DATE = rf"(?:{_MONTH}\s+\d{{1,2}}\s+(?:\d{{2}}:\d{{2}}|\d{{4}})|{_ISO_CLOCK})"
_LS_ROW = re.compile(
    r"^(?P<before>[ \t]*(?:\d+[ \t]+){0,2})(?P<kind>[-bcdlps])(?P<mode>[-rwxsStT]{9})[.+@]?[ \t]+"
    r"(?P<links>\d+)[ \t]+(?P<owner>\S+)[ \t]+(?P<group>\S+)[ \t]+"
    rf"(?P<size>\d+(?:,[ \t]*\d+)?|[\d.]+[KMGT])[ \t]+{_LS_DATE}[ \t]+(?P<name>.*)$",
    re.MULTILINE,
)
_LS_TOTAL = re.compile(r"^total [\d.]+[KMGT]?\n(?=[-bcdlps][-rwxsStT]{9}[.+@]?[ \t])", re.MULTILINE)
_PS_HEADER = re.compile(r"^.{0,40}\bPID\b.{0,200}?\b(?:CMD|COMMAND)\b.{0,40}$", re.MULTILINE)
_PS_ROW = re.compile(r"^(?=(?:[ \t]*[a-z_][\w+-]*)?[ \t]*\d+[ \t])")

# "Sun Nov 22 15:16:02 UTC 2026", "Sun Nov 22 15:16:02 2026 +0000", "Sun, 22 Nov 2026 15:16:02 +0000"
_DATE_LINE = (
    rf"\b{_DAY},? +(?:{_MONTH} +\d{{1,2}}|\d{{1,2}} {_MONTH},?)(?: \d{{4}})? +{_CLOCK}(?: [AP]M)?"
    r"(?: [A-Z]{3,5}| [+-]\d{4})?(?: \d{4})?(?: [+-]\d{4})?"
)
_SHELL_LINE = (
    r"(?<![\w/])((?:/\S{0,80}/)?(?:bash|sh|dash)): (?:line )?\d+:"
    r"(?: +\d+ (?=Killed|Terminated|Segmentation|Aborted|Hangup|Interrupt))?"
)

_RULES: list[tuple[re.Pattern[str], str]] = [
    (re.compile(_DATE_LINE), "TIME"),
    # stat, find -printf %t, date --rfc-3339=ns: a fraction of nine digits is a clock's
    (re.compile(r"\b\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}\.\d{9,10}(?: [+-]\d{4})?"), "TIME"),
    # time
    (re.compile(r"^(real|user|sys)([ \t]+)(?:\d+m)?\d+[.,]\d+s?$", re.MULTILINE), r"\1\2DURATION"),
    # test runners and build tools
    (re.compile(r"\b(in|took|elapsed:?|time:?) \d+\.\d+ ?(?:ms|s|secs?|seconds)\b", re.IGNORECASE), r"\1 DURATION"),
    # jobs: "[1] 4711"; a process the shell reports on: "bash: line 3:  4711 Killed"
    (re.compile(r"^\[(\d+)\]([+-]?) +\d+$", re.MULTILINE), r"[\1]\2 PID"),
    (re.compile(r"^\[(\d+)\]([+-]?) +\d+ (?=[A-Z])", re.MULTILINE), r"[\1]\2 PID "),
    (re.compile(_SHELL_LINE), r"\1: line N:"),
    (re.compile(r"\b(pid|process id)([ =:]+)\d+\b", re.IGNORECASE), r"\1\2PID"),
    # set, declare: the shell's and its parent's
    (re.compile(r'^((?:declare -\w+ )?(?:BASH|P)PID="?)\d+("?)$', re.MULTILINE), r"\1PID\2"),
    # memory addresses that Python prints
    (re.compile(r"\bat 0x[0-9a-f]{6,16}\b"), "at ADDRESS"),
    # mktemp, and Python's tempfile
    (re.compile(r"/tmp/tmp\.[A-Za-z0-9]{6,12}\b"), "/tmp/TEMPORARY"),
    (re.compile(r"/tmp/tmp(?=[a-z0-9_]*[\d_])[a-z0-9_]{8}\b"), "/tmp/TEMPORARY"),
    # a container's host name in a prompt or address
    (re.compile(r"@[0-9a-f]{12}\b"), "@HOST"),
    # git: a commit's id depends on the moment it was made
    (re.compile(r"^(\[[^\]\n]*?) [0-9a-f]{7,40}\] ", re.MULTILINE), r"\1 COMMIT] "),
    (re.compile(r"^commit [0-9a-f]{40}\b", re.MULTILINE), "commit COMMIT"),
    # stat: what depends on the file system alone
    (re.compile(r"\bDevice: \S+[ \t]+Inode: \d+"), "Device: DEVICE Inode: INODE"),
    (re.compile(r"\bBlocks: \d+([ \t]+IO Block: )\d+"), r"Blocks: N\1N"),
]


def normalise(text: str, *, hostname: str | None = None, now: datetime | None = None) -> str:
    """Replaces what may differ between two runs by placeholders. Normalising twice changes nothing more.

    Args:
        text: an observation.
        hostname: of the sandbox; replaced in prompts and addresses (``root@NAME``).
        now: what "these days" is measured from; the present by default.
    """
    text = _LS_TOTAL.sub("total N\n", text)
    text = _LS_ROW.sub(_ls_row, text)
    text = _processes(text)
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    if hostname:
        text = re.sub(rf"@{re.escape(hostname)}\b", "@HOST", text)
    return _ISO.sub(_if_recent(now or datetime.now(UTC)), text)


def _ls_row(row: re.Match[str]) -> str:
    # What a directory's size and links are is up to the file system; columns are as wide as their widest entry.
    before = "INODE " * len(row["before"].split())
    links, size = ("N", "N") if row["kind"] == "d" else (row["links"], re.sub(r"\s", "", row["size"]))
    return f"{before}{row['kind']}{row['mode']} {links} {row['owner']} {row['group']} {size} TIME {row['name']}"


def _processes(text: str) -> str:
    """Replaces numbers and times in the rows below a header of ``ps`` or ``top``; the command's own words stay."""
    header = _PS_HEADER.search(text)
    if header is None:
        return text
    columns = header.group().split()
    lines = text[header.end() :].split("\n")
    return text[: header.end()] + "\n".join(_process(line, len(columns) - 1) for line in lines)


def _process(line: str, columns: int) -> str:
    if not _PS_ROW.match(line):
        return line
    parts = line.split(None, columns)
    figures = [re.sub(r"\d+(?:[:.]\d+)*", "N", part) for part in parts[:columns]]
    return " ".join([*figures, *parts[columns:]])


def _if_recent(now: datetime) -> Callable[[re.Match[str]], str]:
    def replace(found: re.Match[str]) -> str:
        clock = found[2] if found[2].count(":") == 2 else f"{found[2]}:00"
        try:
            moment = datetime.fromisoformat(f"{found[1]}T{clock}").replace(tzinfo=UTC)
        except ValueError:
            return found.group()
        return "TIME" if abs(now - moment) < _RECENT else found.group()

    return replace
