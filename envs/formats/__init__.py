"""Trajectory files: importers, exporters, and the recognition of a format by its content.

for trajectory in load_trajectories("results.json"):
    ...
save_trajectories("trajectories.jsonl", trajectories)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.agentbench import is_run, read_agentbench
from pivotgym.envs.formats.agentlab import is_agentlab, is_experiment, read_agentlab
from pivotgym.envs.formats.atif import is_atif, read_atif, write_atif
from pivotgym.envs.formats.har import is_har, is_har_zip, read_har
from pivotgym.envs.formats.intercode import is_sessions, read_intercode
from pivotgym.envs.formats.jsonl import read_jsonl, write_jsonl
from pivotgym.envs.formats.mini_swe_agent import is_mini_swe_agent, read_mini_swe_agent
from pivotgym.envs.formats.nemo_gym import is_nemo_gym, read_nemo_gym
from pivotgym.envs.formats.openai_chat import read_openai, write_openai
from pivotgym.envs.formats.openhands import is_openhands, read_openhands
from pivotgym.envs.formats.playwright_codegen import is_script, read_playwright
from pivotgym.envs.formats.rows import OnError, PathLike, Problems, iter_rows
from pivotgym.envs.formats.sharegpt import read_sharegpt, write_sharegpt
from pivotgym.envs.formats.swe_agent import is_swe_agent, read_swe_agent
from pivotgym.envs.formats.tau2 import read_tau2
from pivotgym.envs.formats.terminal_bench import is_no_row, is_run_folder, read_terminal_bench
from pivotgym.envs.trajectory import Trajectory

__all__ = ["FORMATS", "Format", "detect", "load_trajectories", "save_trajectories"]

Reader = Callable[[PathLike, OnError, list[BadInput] | None], Iterator[Trajectory]]
Writer = Callable[[PathLike, Iterable[Trajectory]], int]
#: Rows looked at to recognise a file: its first rows may be the bad ones.
_SNIFFED_ROWS = 20


@dataclass(frozen=True)
class Format:
    """A trajectory format.

    Attributes:
        name: as given to ``--to`` and ``--from``.
        looks_for: what tells it from the others, for messages.
        sniff: whether a row (or the document) is of this format, by its keys only: a row of the format with wrong
            values must reach the reader, which says what is wrong.
        read: the importer.
        write: the exporter, or None.
        general: its rows look like those of more special formats too, which are tried first.
        folder: whether a folder is of this format; None where only files are.
        whole: whether a file that has no rows of JSON (a script, a zip) is of this format.
    """

    name: str
    looks_for: str
    sniff: Callable[[Any], bool]
    read: Reader
    write: Writer | None = None
    general: bool = False
    folder: Callable[[Path], bool] | None = None
    whole: Callable[[Path], bool] | None = None


def _is_native(row: Any) -> bool:
    return (
        isinstance(row, dict) and "messages" in row and "id" in row and bool({"version", "task", "outcome"} & set(row))
    )


#: By name, in the order in which they are tried, but for the general ones: those come last.
FORMATS: dict[str, Format] = {
    one.name: one
    for one in (
        Format(
            "tau2",
            "a τ²-bench result file (an object with 'info' and 'simulations')",
            lambda row: isinstance(row, dict) and "simulations" in row and "info" in row,
            read_tau2,
        ),
        Format(
            "pivotgym",
            "PivotGym rows ('id', 'messages' and one of 'task', 'outcome', 'version')",
            _is_native,
            read_jsonl,
            write_jsonl,
        ),
        Format(
            "sharegpt",
            "ShareGPT rows ('conversations')",
            lambda row: isinstance(row, dict) and ("conversations" in row or "conversation" in row),
            read_sharegpt,
            write_sharegpt,
        ),
        Format(
            "openai",
            "OpenAI chat rows ('messages')",
            lambda row: isinstance(row, dict) and "messages" in row,
            read_openai,
            write_openai,
            general=True,
        ),
        Format(
            "mini-swe-agent",
            "mini-swe-agent trajectories ('trajectory_format', or a list of messages)",
            is_mini_swe_agent,
            read_mini_swe_agent,
        ),
        Format(
            "nemo-gym",
            "NeMo Gym rollouts ('responses_create_params' and 'response')",
            is_nemo_gym,
            read_nemo_gym,
        ),
        Format(
            "swe-agent",
            "SWE-agent .traj files ('trajectory', 'history', 'info')",
            is_swe_agent,
            read_swe_agent,
        ),
        Format(
            "openhands",
            "OpenHands runs ('history' of events, a list of events, or 'messages' with its tools)",
            is_openhands,
            read_openhands,
        ),
        Format(
            "agentlab",
            "AgentLab episodes ('steps' and 'exp_args', or a folder with exp_args.pkl)",
            is_agentlab,
            read_agentlab,
            folder=is_experiment,
        ),
        Format("har", "HAR archives ('log' with 'entries', or a zip of one)", is_har, read_har, whole=is_har_zip),
        Format(
            "playwright",
            "Playwright scripts (Python or JavaScript that imports it)",
            is_no_row,
            read_playwright,
            whole=is_script,
        ),
        Format("atif", "ATIF documents ('schema_version' ATIF-v1.x, 'steps')", is_atif, read_atif, write_atif),
        Format(
            "terminal-bench",
            "Terminal-Bench and Harbor run folders ('agent-logs/episode-N', 'agent/trajectory.json')",
            is_no_row,
            read_terminal_bench,
            folder=is_run_folder,
        ),
        Format("intercode", "InterCode bash sessions ('turn_history')", is_sessions, read_intercode),
        Format("agentbench", "AgentBench run logs ('index', 'output' with 'history')", is_run, read_agentbench),
    )
}


def detect(path: PathLike) -> str:
    """The name of the format a file is in, recognised by content (not by file name).

    Raises:
        BadInput: the file cannot be read, is empty or binary, or none of its first rows is of a known format.
    """
    if Path(path).is_dir():
        return _detect_folder(Path(path))
    for one in FORMATS.values():
        if one.whole is not None and one.whole(Path(path)):
            return one.name
    errors: list[BadInput] = []
    # A log file or the like is not read to its end, and only the file's beginning decides.
    rows = islice(iter_rows(path, Problems("skip", errors, limit=_SNIFFED_ROWS)), _SNIFFED_ROWS)
    first: BadInput | None = None
    try:
        for row in rows:
            for one in sorted(FORMATS.values(), key=lambda one: one.general):
                if one.sniff(row.value):
                    return one.name
            first = first or BadInput("no row of a known trajectory format", file=path, line=row.line)
    except BadInput as problem:
        first = first or problem
    first = errors[0] if errors and (first is None or (errors[0].line or 0) <= (first.line or 0)) else first
    wanted = "; ".join(one.looks_for for one in FORMATS.values())
    problem_text = first.problem if first else "no rows"
    raise BadInput(f"{problem_text}; looked for {wanted}", file=path, line=first.line if first else None)


def _detect_folder(path: Path) -> str:
    for one in FORMATS.values():
        if one.folder is not None and one.folder(path):
            return one.name
    wanted = "; ".join(one.looks_for for one in FORMATS.values() if one.folder is not None)
    raise BadInput(f"a folder of no known trajectory format; looked for {wanted}", file=path)


def load_trajectories(
    path: PathLike, format: str = "auto", on_error: OnError = "raise", errors: list[BadInput] | None = None
) -> Iterator[Trajectory]:
    """Read the trajectories of a file in any known format.

    Args:
        path: plain or gzip; a folder where the format is one of folders.
        format: a name in :data:`FORMATS`, or ``auto``.
        on_error: ``raise`` stops at the first bad row, ``skip`` reports it and goes on.
        errors: with ``skip``, collects a BadInput (file, line, field) per bad row; logged where it is None.

    Raises:
        BadInput: at once for an unknown format, later for a bad row.
    """
    return _format(detect(path) if format == "auto" else format).read(path, on_error, errors)


def save_trajectories(path: PathLike, trajectories: Iterable[Trajectory], format: str = "pivotgym") -> int:
    """Write trajectories, atomically and streaming; gzip where the name ends in ``.gz``.

    Only ``pivotgym`` keeps everything; the others hold what their format has room for.

    Returns:
        How many were written.

    Raises:
        BadInput: an unknown format, or one that is only read.
    """
    write = _format(format).write
    if write is None:
        names = ", ".join(name for name, one in FORMATS.items() if one.write)
        raise BadInput(f"format {format!r} is read, not written; written are {names}")
    return write(path, trajectories)


def _format(name: str) -> Format:
    if name not in FORMATS:
        raise BadInput(f"unknown format {name!r}; known are {', '.join(FORMATS)}")
    return FORMATS[name]
