"""Kills inside pieces of work: where a run is when it is killed is drawn, observed while it stands still, and told.

Time is never taken for granted: how long a piece takes is known from an undisturbed run, but a process is killed only
once it was stopped and seen to be still where it was meant to be; otherwise it goes on, and the next chance is taken.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TIMINGS = "timings.jsonl"
WRITING = "writing a checkpoint"
_NAP = 0.002
_SOON = 6
_PATIENCE = 240
"""Seconds without a finished piece after which a run is taken to hang."""


@dataclass(frozen=True)
class Piece:
    """A piece of work, as its line in a file of costs names it."""

    folder: str
    stage: str
    part: str
    seconds: float = 0.0

    @property
    def key(self) -> tuple[str, str, str]:
        """Its name in any run of these settings."""
        return self.folder, self.stage, self.part

    @property
    def kind(self) -> str:
        """The kind of phase it belongs to; whole episodes and single turns train under one name."""
        stage = self.stage.partition(":")[0]  # the parts of the held-out suite are one
        return "train on episodes" if stage == "train" and "grpo" in Path(self.folder).parts else stage


@dataclass(frozen=True)
class Aim:
    """Where to kill: within the first piece of ``kind`` from ``index`` on, after ``depth`` of its expected time.

    Where no piece of that kind comes soon, because this one or earlier ones were missed, any other does.
    """

    index: int
    kind: str
    depth: float = 0.0


@dataclass(frozen=True)
class Hit:
    """Where a process was when it was killed: what it was at, behind which piece, and for how long by then."""

    kind: str
    index: int
    seconds: float
    expected: float

    def __str__(self) -> str:
        return f"{self.kind} ({self.seconds:.3f} s after piece {self.index}; {self.expected:.3f} s expected)"


def pieces(out: Path) -> list[Piece]:
    """The pieces of a finished run that nobody disturbed, in the order in which they were done; a file is one stage."""
    files = sorted((file.stat().st_mtime_ns, file) for file in out.rglob(TIMINGS))
    return [_piece(line, file.parent, out) for _, file in files for line in file.read_bytes().splitlines()]


def _piece(line: bytes, folder: Path, out: Path) -> Piece:
    row = json.loads(line)
    return Piece(str(folder.relative_to(out)), row["stage"], str(row["part"]), row["seconds"])


def draw_aims(course: Sequence[Piece], kills: int, rng: random.Random) -> list[Aim]:
    """So many aims, in order: each kind of phase, writing included, then moments spread evenly over the run's time.

    With fewer kills than kinds there is one while writing, and the kinds of the others are drawn.
    """
    inside = [index for index in range(1, len(course)) if _inside(course, index)]
    kinds = sorted({course[index].kind for index in inside})
    # Whoever misses a checkpoint takes a later one, so it is not the last ones that are aimed at.
    aims = [Aim(rng.choice(inside[: len(inside) // 2]), WRITING)]
    kinds = rng.sample(kinds, min(kills - 1, len(kinds)))
    rest = kills - 1 - len(kinds)
    for number in range(kills - 1):
        # No piece twice: the second time it may be the first of its process, and its beginning is not seen.
        free = [index for index in inside if all(index != aim.index for aim in aims[1:])]
        if number < len(kinds):
            places, share = [index for index in free if course[index].kind == kinds[number]], rng.random()
        else:
            places, share = free, (number - len(kinds) + rng.random()) / rest
        aims.append(_aim(course, places, share, rng))
    return sorted(aims, key=lambda aim: aim.index)


def _inside(course: Sequence[Piece], index: int) -> bool:
    """Whether what follows the end of the piece before is this piece, and not the making ready of another phase."""
    return index > 0 and course[index].kind == course[index - 1].kind


def _aim(course: Sequence[Piece], places: Sequence[int], share: float, rng: random.Random) -> Aim:
    """At the piece that is being done when this share of the time of these pieces is over."""
    # Not the very end: whoever misses a piece takes one behind it.
    left = 0.9 * share * sum(course[place].seconds for place in places)
    found = places[-1]
    for place in places:
        left -= course[place].seconds
        if left < 0:
            found = place
            break
    return Aim(found, course[found].kind, rng.uniform(0.1, 0.8))


class Watch:
    """Follows a run by its files of costs.

    Args:
        out: the run's folder; what is in it now was there before.
        course: the pieces of an undisturbed run.
    """

    def __init__(self, out: Path, course: Sequence[Piece]) -> None:
        self._out, self.course = out, course
        self._index = {piece.key: index for index, piece in enumerate(course)}
        self._known = self._lines()
        self._began = time.time_ns()
        self._took = self._expected = 0.0

    def ended(self) -> int | None:
        """The piece that ended last since the last call; None where none did."""
        found, last = self._lines(), None
        for file, lines in found.items():
            for line in lines[len(self._known.get(file, ())) :]:
                piece = _piece(line, file.parent, self._out)
                index = self._index[piece.key]
                last = index if last is None else max(last, index)
                self._took += piece.seconds
                self._expected += self.course[index].seconds
        self._known = found
        return last

    @property
    def pace(self) -> float:
        """How long pieces take here, of the time expected; at most 1, as a slow beginning says little."""
        return min(self._took / self._expected, 1.0) if self._expected else 1.0

    def writing(self, index: int) -> bool:
        """Whether a checkpoint of the run to which this piece belongs is being written by this process."""
        folder = self._out / self.course[index].folder
        for file in (*folder.glob(".*.tmp"), *(folder / "checkpoints").glob(".*.tmp")):
            # What an earlier process left behind has not changed since; what is whole by now is no longer there.
            with suppress(FileNotFoundError):
                if file.is_dir() and file.stat().st_ctime_ns > self._began:
                    return True
        return False

    def _lines(self) -> dict[Path, list[bytes]]:
        # Folders may come and go meanwhile, which os.walk does not mind. A last line may be half written.
        files = [Path(folder) / TIMINGS for folder, _, names in os.walk(self._out) if TIMINGS in names]
        return {file: file.read_bytes().split(b"\n")[:-1] for file in files}


def kill_at(process: subprocess.Popen[str], watch: Watch, aim: Aim) -> Hit | None:
    """Kills the process at its aim; None where it ended before."""
    course, depth = watch.course, aim.depth
    behind, since, limit = -1, 0.0, time.monotonic() + _PATIENCE
    while process.poll() is None:
        assert time.monotonic() < limit, "the run does not go on"
        ended = watch.ended()
        if ended is not None:
            if behind >= 0 and _wanted(course, behind + 1, aim):
                depth *= 0.7  # that piece was over before it was stopped
            behind, since, limit = ended, time.monotonic(), time.monotonic() + _PATIENCE
        if behind < 0 or not _wanted(course, behind + 1, aim):
            time.sleep(_NAP)
        elif aim.kind == WRITING and not watch.writing(behind):
            time.sleep(0)  # checkpoints of tiny models are written within milliseconds
        elif aim.kind != WRITING and time.monotonic() - since < depth * watch.pace * course[behind + 1].seconds:
            time.sleep(_NAP)
        elif not _stopped(process):
            return None
        else:
            passed, writing = time.monotonic() - since, watch.writing(behind)
            later = watch.ended()
            if later is None and writing == (aim.kind == WRITING):
                process.kill()
                following = course[behind + 1]
                return Hit(WRITING if writing else following.kind, behind, passed, following.seconds)
            if later is not None:
                behind, since = later, time.monotonic()
            os.kill(process.pid, signal.SIGCONT)
    return None


def _wanted(course: Sequence[Piece], following: int, aim: Aim) -> bool:
    if following < aim.index or following >= len(course):
        return False
    if aim.kind == WRITING:
        return True
    soon = any(piece.kind == aim.kind for piece in course[following : following + _SOON])
    return _inside(course, following) and (course[following].kind == aim.kind or not soon)


def _stopped(process: subprocess.Popen[str]) -> bool:
    """Holds the process where it is; False where it has ended."""
    os.kill(process.pid, signal.SIGSTOP)
    found = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    return found is not None and found.si_code == os.CLD_STOPPED
