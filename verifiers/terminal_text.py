"""What a terminal's output tells: its lines as facts, and whether another output tells them too.

A fact is a word or number in its line. Punctuation, column widths and what may differ between two runs (times, process
ids, temporary names) are none. A path tells its parts, a number tells every rounding of itself, a full hash its
abbreviation.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from functools import lru_cache

from pivotgym.envs.terminal.normalise import normalise
from pivotgym.verifiers.terminal_commands import compares, joins, orders, selects_by_rank, simple_commands, speaks

EXTRA_LINES_FACTOR, EXTRA_LINES = 3, 20
"""An output may have this many times the demonstrated lines, plus so many; or else …"""
EXTRA_FACTS_FACTOR, EXTRA_FACTS = 4, 100
"""… this many times its facts, plus so many. Above both it is a dump in which anything may stand."""
WINDOW = 12
"""Lines over which the facts of one demonstrated line may be spread (``git log`` for ``git log --oneline``)."""
MAX_OTHER_NUMBERS = 2
"""Where a line tells nothing but numbers, so many others may stand beside them: ``wc f`` for ``wc -l f``."""
MAX_TOLD_LINES = 2000
"""Of a longer demonstrated output, the first so many lines are compared one by one, the rest as whole lines."""

_CUT_LENGTH = 8
"""A demonstrated line of so many characters is told by a line it is part of, even where a word is cut off."""

_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_NOTE = re.compile(r"^\[(?:exit status (?P<status>-?\d+)|killed: .*|the shell (?:exited|was killed).*)\]$")
_RETURN_CODE = re.compile(r"<returncode>(-?\d+)</returncode>")
_SEPARATORS = re.compile(r"[\s,;:|\"'`()\[\]{}<>=/\\]+")
_COLUMNS = re.compile(r"\.tables\b|\bls\s+-\w*[Cxm]\w*\b")
"""Commands that print a list in columns: what stands in one line there does not belong together."""
_PLACEHOLDERS = frozenset(
    {"TIME", "DURATION", "PID", "COMMIT", "HOST", "ADDRESS", "TEMPORARY", "INODE", "DEVICE", "N", "total"}
)  # the last: beside the last row of wc
_STATUS_CODES = {
    "modified": "M", "new file": "A", "deleted": "D", "renamed": "R", "typechange": "T", "copied": "C"
}  # fmt: skip


@dataclass(frozen=True)
class Shown:
    """An observation as the comparison reads it.

    Attributes:
        lines: without escapes, carriage returns, blank ends and the note about the status; empty lines left out.
        status: the last command's exit status; 0 where nothing says otherwise, None where it did not end by itself.
    """

    lines: tuple[str, ...]
    status: int | None = 0

    @property
    def facts(self) -> int:
        """How many facts all lines hold."""
        return sum(len(facts(line)) for line in self.lines)


@dataclass(frozen=True)
class Asked:
    """What was asked, beside what was shown.

    Attributes:
        demonstrated: bash source of the demonstration.
        sampled: bash source of the action that is judged.
        cwd: the directory both ran in; paths below it may be told relative to it.
        volatile: facts that differ between two runs of one command (ids of new commits): not demanded.
    """

    demonstrated: str
    sampled: str
    cwd: str = "/"
    volatile: frozenset[str] = field(default_factory=frozenset)


def read(texts: Sequence[str]) -> Shown:
    """Reads an action's results, one text a call."""
    lines: list[str] = []
    status: int | None = 0
    for text in texts:
        status = 0
        code = _RETURN_CODE.search(text)
        if code:
            status = int(code.group(1))
            text = _RETURN_CODE.sub("", re.sub(r"</?output>", "\n", text))
        # The id of a commit is stable where the commit is older than both runs; new ones are `Asked.volatile`.
        text = re.sub(r"^commit ([0-9a-f]{40})\b", r"commit-\1", _ESCAPES.sub("", text), flags=re.MULTILINE)
        found = normalise(text.replace("\r\n", "\n")).split("\n")
        for line in found:
            note = _NOTE.match(line)
            if note:
                status = int(note["status"]) if note["status"] else None
            elif line.strip() and line != "(no output)" and not _is_noise(line):
                lines.append(re.sub(r"^commit-(?=[0-9a-f]{40})", "", line.split("\r")[-1].rstrip()))
    return Shown(tuple(lines), status)


def _is_noise(line: str) -> bool:
    """``total 8`` of ``ls -l``; its rows for the directory itself and the one above; ``.`` and ``..`` alone."""
    return bool(re.fullmatch(r"total N|[d-][-rwxsStT]{9} N \S+ \S+ N TIME \.\.?|\.\.?/?", line))


@lru_cache(maxsize=1 << 16)
def facts(line: str) -> tuple[str, ...]:
    """The facts of a line, in order, with repetitions."""
    # git's words for a change, as its short form writes them
    status = re.match(r"\s*(modified|new file|deleted|renamed|typechange|copied):\s+(\S.*)", line)
    if status:
        line = f"{_STATUS_CODES[status[1]]} {status[2]}"
    found = []
    for word in _SEPARATORS.split(line):
        word = word.rstrip(".!?*@").lstrip("*!?")
        if re.match(r"[-+](?!\d)", word):
            word = word.lstrip("-+")
        if not re.search(r"\w", word) or word in _PLACEHOLDERS:
            continue
        # A commit's id may begin with decimal digits only, and be shown by these; no number is padded with one zero.
        spelled = re.match(r"0[1-9]", word) and is_hash(word)
        found.append(str(int(word)) if re.fullmatch(r"\d{1,18}", word) and not spelled else word)
    return tuple(found)


def excess(demonstrated: Shown, sampled: Shown) -> str | None:
    """Says if an output is a dump: much longer than the demonstrated one, both in lines and in facts."""
    lines = EXTRA_LINES_FACTOR * len(demonstrated.lines) + EXTRA_LINES
    limit = EXTRA_FACTS_FACTOR * demonstrated.facts + EXTRA_FACTS
    if len(sampled.lines) > lines and sampled.facts > limit:
        return f"{len(sampled.lines)} lines where the demonstration shows {len(demonstrated.lines)}"
    # One endless line, or lines of punctuation.
    wanted, given = sum(map(len, demonstrated.lines)), sum(map(len, sampled.lines))
    if given > 20 * wanted + 20_000:
        return f"{given} characters where the demonstration shows {wanted}"
    return None


def untold(demonstrated: Shown, sampled: Shown, asked: Asked, *, once: bool = False) -> list[str]:
    """The demonstrated lines that the sampled output does not tell; empty if it tells all.

    - A line is told by a line that holds all its facts, or by ``WINDOW`` lines that hold them in order if one of
      them is a hash, a mode or a long number. Words of the demonstrated command need not be told where they stand in
      the sampled command too: that was asked. Nor need files that the sampled command names.
    - A line that stands there twice must be told twice.
    - Lines must come in the demonstrated order where it means something (see
      :func:`pivotgym.verifiers.terminal_commands.orders`).
    - What ``head`` and ``tail`` took from an order must be the first or the last that is shown.

    With ``once`` a line that stands there twice need not be told twice, and order does not count.
    """
    judge = _Judge(demonstrated, sampled, asked)
    gaps: list[str] = []
    last, ordered, firsts = -1, True, list[int]()
    for line, count in judge.wanted.items():
        places = judge.places(line)
        if len(places) < (1 if once else count):
            gaps.append(line)
            continue
        later = next((place for place in places if place >= last), None)
        ordered = ordered and later is not None
        last = last if later is None else later
        firsts.append(places[0])
    if gaps or once:
        return gaps
    if _is_one_of_many(judge):
        return [f"which of the numbers is {next(iter(judge.wanted))}"]
    rank = selects_by_rank(asked.demonstrated)
    if rank is not None and not _at_the_end(judge, *rank):
        return [f"which lines are the {'first' if rank[1] else 'last'} {rank[0]}"]
    turned = _orders_shown(judge) and firsts == sorted(firsts, reverse=True)
    return [] if ordered or turned or not orders(asked.demonstrated) else ["the order of the lines"]


def made_up(demonstrated: Shown, asked: Asked) -> bool:
    """Whether the sampled command itself says what it should have found out.

    True where every fact the demonstration found (those not in its own command) stands literally in the sampled
    command, which prints words of its own or where they are numbers only.
    """
    asked_facts, said = Counter(_words(asked.demonstrated)), Counter(_words(asked.sampled))
    news = {fact for line in demonstrated.lines for fact in facts(line)} - set(asked_facts) - asked.volatile
    if not news or not news <= set(said):
        return False
    return speaks(asked.sampled) or all(_is_number(fact) for fact in news)


def is_numeric(shown: Shown, asked: Asked) -> bool:
    """Whether some line tells nothing but numbers: they can stand in an output by accident."""
    known = set(_words(asked.demonstrated))
    for line in shown.lines:
        news = [fact for fact in facts(line) if fact not in known]
        # The first digits of a commit's id may all be decimal ones, and so many stand nowhere by accident.
        if news and all(_is_number(fact) and not is_hash(fact) for fact in news):
            return True
    return False


class _Judge:
    """Finds where the sampled output tells a demonstrated line."""

    def __init__(self, demonstrated: Shown, sampled: Shown, asked: Asked) -> None:
        self.asked = asked
        self.signs, self.joined = compares(asked.demonstrated), joins(asked.demonstrated)
        known = set(_words(asked.demonstrated)) & set(_words(asked.sampled))
        # A file named in the command is named by the question, where its content is the answer.
        self.excused = known | asked.volatile | (set() if speaks(asked.sampled) else _named_files(asked.sampled))
        self.sampled = [self._facts(line) for line in sampled.lines]
        self.counters = [Counter(found) for found in self.sampled]
        self.whole: dict[str, list[int]] = {}
        for place, line in enumerate(sampled.lines):
            self.whole.setdefault(_squeezed(line), []).append(place)
        self.where: dict[str, set[int]] = {}
        for place, found in enumerate(self.sampled):
            for fact in found:
                self.where.setdefault(fact, set()).add(place)
        lines: Sequence[str] = demonstrated.lines
        if _COLUMNS.search(asked.demonstrated):
            lines = [name for line in lines for name in line.split()]
        self.wanted = Counter(_squeezed(line) for line in lines)
        self.long = len(self.wanted) > MAX_TOLD_LINES

    def places(self, line: str) -> list[int]:
        """Indexes of the sampled lines (or first lines of windows) that tell ``line``, one for every time it does."""
        if line in self.whole:
            exact = self.whole[line]
            if len(exact) >= self.wanted[line]:
                return exact
        if self.long:
            return self.whole.get(line, [])
        found = self._facts(line)
        needed = [fact for fact in found if fact not in self.excused]
        if not needed and not line.endswith((":", "<==")):  # a heading says what was asked
            needed = [fact for fact in found if fact not in self.asked.volatile]
        if not needed:
            return [0] * self.wanted[line]  # only punctuation or what differs from run to run
        candidates = [self._candidates(fact) for fact in needed]
        places: list[int] = []
        for place in sorted(set.intersection(*candidates)):
            if not self.joined or _in_order(needed, self.sampled[place]):
                places += [place] * self._times(needed, place)
        if len(places) < self.wanted[line] and len(line) >= _CUT_LENGTH:
            places += [at for text, found in self.whole.items() if line in text for at in found if at not in places]
            places.sort()
        if len(places) < self.wanted[line] and all(candidates) and any(map(_is_specific, needed)):
            places = sorted({*places, *self._windows(needed, sorted(candidates[0]))})
        return places

    def _facts(self, line: str) -> tuple[str, ...]:
        line = _relative(line, self.asked.cwd)
        sign = re.match(r"\s*([<>+-])(?=\s|\S)", line) if self.signs else None
        signed = ("removed" if sign[1] in "<-" else "added",) if sign else ()
        return signed + facts(line)

    def _candidates(self, fact: str) -> set[int]:
        places = set(self.where.get(fact, ()))
        if _is_number(fact) or is_hash(fact):
            for other, there in self.where.items():
                if other != fact and _tells(other, fact):
                    places |= there
        return places

    def _times(self, needed: list[str], place: int) -> int:
        held = self.counters[place]
        if all(_is_number(fact) for fact in needed):
            others = [f for f in self.sampled[place] if _is_number(f) and f not in self.excused]
            if len(others) - len(needed) > MAX_OTHER_NUMBERS and self.wanted.total() == 1:
                return 0
        times = []
        for fact, count in Counter(needed).items():
            there = held[fact] or sum(number for other, number in held.items() if _tells(other, fact))
            times.append(there // count)
        return min(times)

    def _windows(self, needed: list[str], starts: list[int]) -> list[int]:
        found = []
        for start in starts:
            rest = list(needed)
            for place in range(start, min(start + WINDOW, len(self.sampled))):
                for fact in self.sampled[place]:
                    if rest and (fact == rest[0] or _tells(fact, rest[0])):
                        rest.pop(0)
            if not rest:
                found.append(start)
        return found


def _at_the_end(judge: _Judge, number: int, first: bool) -> bool:
    """Whether the demonstrated lines are told by the first or last lines, from either end: who reads can turn round."""
    total = len(judge.sampled)
    size = max(number, len(judge.wanted))
    places = [judge.places(line) for line in judge.wanted]
    ends = (range(min(size, total)), range(max(0, total - size), total))
    sortable = [any(all(set(found) & set(end) for found in places) for end in ends)]
    return total <= size or (bool(sortable[0]) and _orders_shown(judge))


def _is_one_of_many(judge: _Judge) -> bool:
    """Whether a single number was asked for and bare numbers are listed: nothing says which of them it is."""
    bare = [found for found in judge.sampled if len(found) == 1 and _is_number(found[0])]
    wanted = [facts(line) for line in judge.wanted]
    single = len(wanted) == 1 and len(wanted[0]) == 1 and _is_number(wanted[0][0])
    if not single or len(set(bare)) < 2 or len(judge.sampled) > len(bare):
        return False
    return not (_orders_shown(judge) and wanted[0][0] in (bare[0][0], bare[-1][0]))


def _orders_shown(judge: _Judge) -> bool:
    """Whether the sampled command orders what it shows, as a choice by rank needs."""
    return bool(re.search(r"\bsort|order by|\bls\s+-\w*[tS]|\bmax\b|\bmin\b", judge.asked.sampled, re.I))


def _in_order(needed: Sequence[str], found: Sequence[str]) -> bool:
    rest = iter(found)
    return all(any(_tells(fact, wanted) for fact in rest) for wanted in needed)


def _squeezed(line: str) -> str:
    return " ".join(line.split())


@lru_cache(maxsize=4096)
def _words(source: str) -> tuple[str, ...]:
    return facts(re.sub(r"\\n|\\t", " ", source.replace("\n", " ")))


@lru_cache(maxsize=4096)
def _named_files(source: str) -> frozenset[str]:
    words = [word for command in simple_commands(source) for word in command[1:]]
    named = [word for word in words if re.fullmatch(r"<?[\w./~+-]*[A-Za-z_][\w./~+-]*", word) and word[:1] != "-"]
    return frozenset(fact for word in named if "." in word or "/" in word for fact in facts(word))


def _relative(line: str, cwd: str) -> str:
    if cwd == "/":
        return line
    return re.sub(rf"(?<![\w./-]){re.escape(cwd)}/(?=\S)", "", line)


def _is_number(fact: str) -> bool:
    return re.fullmatch(r"-?\d+(?:\.\d+)?", fact) is not None


def _is_specific(fact: str) -> bool:
    """Whether a fact hardly stands somewhere by accident: a hash, a mode, a number of three digits and more."""
    return is_hash(fact) or re.fullmatch(r"[dlcbps]?[-rwxsStT]{8,9}|-?\d{3,}(?:\.\d+)?", fact) is not None


def is_hash(fact: str) -> bool:
    """Whether a fact may be the id of a git object, or an abbreviation of one."""
    return 7 <= len(fact) <= 64 and re.fullmatch(r"[0-9a-f]+", fact) is not None and re.search(r"\d", fact) is not None


@lru_cache(maxsize=1 << 16)
def _tells(fact: str, wanted: str) -> bool:
    """Whether a fact says another: more decimals of a number, more digits of a hash."""
    if fact == wanted:
        return True
    if is_hash(wanted) and is_hash(fact) and fact.startswith(wanted):
        return True
    if not (_is_number(fact) and _is_number(wanted)):
        return False
    decimals = len(wanted.partition(".")[2])
    if len(fact.partition(".")[2]) < decimals and Decimal(fact) != Decimal(wanted):
        return False
    if not decimals and Decimal(fact) != Decimal(wanted):
        return False  # 3 is no rounding of 3.4: a count is a count
    try:
        return Decimal(fact).quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP) == Decimal(wanted)
    except InvalidOperation:
        return False
