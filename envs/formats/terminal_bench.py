"""Terminal-Bench's run folders: the agent logs of 1.x (Terminus) and Harbor's trials (2.x), whose trajectory is ATIF.

A trial of 1.x holds ``agent-logs/episode-N/`` with what the agent was shown (``prompt.txt``) and what it answered
(``response.txt`` or ``.json``): keys for a terminal, with waiting times, in JSON or XML. Each answer becomes a call of
``keystrokes``, and the next prompt is what the screen showed then. A trial of an agent that left no episodes has
``commands.txt`` alone, the keys without the screens.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.atif import read_document
from pivotgym.envs.formats.rows import OnError, PathLike, Problems, Row, UniqueIds, load_document
from pivotgym.envs.formats.terminal_common import KEYSTROKES_TOOL, keystrokes_call, recorded_task
from pivotgym.envs.trajectory import UNDELIVERED, JsonObject, Message, Outcome, Trajectory

FORMAT = "terminal-bench"
_EPISODE = re.compile(r"episode-(\d+)")
_PROMPT = re.compile(r"^[\w.-]+@[\w.-]+:(?P<folder>[~/][^\n#$]*)[#$] *$", re.MULTILINE)
_XML_COMMAND = re.compile(r"(?s)<keystrokes(?P<attributes>[^>]*)>(?P<keys>.*?)</keystrokes>")
_XML_DURATION = re.compile(r"duration\s*=\s*[\"']([\d.]+)[\"']")
_XML_COMPLETE = re.compile(r"(?is)<task_complete>\s*true\s*</task_complete>")
_TESTS = "/tests/run-tests.sh"
"""The harness types this itself, after the agent is done."""
_REPEATED = frozenset(("messages", "input", "complete_input_dict", "additional_args"))
"""Fields of ``debug.json`` that repeat the whole conversation in every episode; they are left out."""
_DEPTH = 4
"""How far below a run's folder its trials lie at most (run, task, trial)."""
_TEXT_BYTES = 1 << 20
"""Of a log file that is kept under ``source``."""


def is_run_folder(path: Path) -> bool:
    """Whether a folder is a trial of Terminal-Bench or Harbor, or has some in it."""
    return next(_trials(path), None) is not None


def is_no_row(row: Any) -> bool:
    """This format is one of folders: no row of a file is of it."""
    return False


def read_terminal_bench(
    path: PathLike, on_error: OnError = "raise", errors: list[BadInput] | None = None
) -> Iterator[Trajectory]:
    """One trajectory per trial of a run folder, in the order of their paths; ids are the trials' paths in it.

    Raises:
        BadInput: no trial there, or a file of one is not usable.
    """
    root = Path(path)
    if not root.is_dir():
        raise BadInput("no folder: Terminal-Bench's runs are folders", file=path)
    problems, ids, found = Problems(on_error, errors), UniqueIds(path), False
    for trial in _trials(root):
        found = True
        try:
            trajectory = _read_harbor(trial, root) if _is_harbor(trial) else _read_trial(trial, root)
            ids.check(trajectory.id, None)
        except BadInput as problem:
            problems.report(problem)
            continue
        yield trajectory
    if not found:
        raise BadInput("no trial here: looked for agent-logs/, episode-0/ and agent/trajectory.json", file=path)


def _trials(root: Path, depth: int = _DEPTH) -> Iterator[Path]:
    """Trial folders at or below ``root``, sorted."""
    if _is_trial(root):
        yield root
        return
    try:
        folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.is_symlink()) if depth else []
    except OSError as error:
        raise BadInput(f"cannot be read: {error.strerror or error}", file=root) from error
    for folder in folders:
        yield from _trials(folder, depth - 1)


def _is_trial(folder: Path) -> bool:
    if _is_harbor(folder) or _episodes(folder) or (folder / "commands.txt").is_file():
        return True
    return (folder / "agent-logs").is_dir() and bool(_episodes(folder / "agent-logs"))


def _is_harbor(folder: Path) -> bool:
    return (folder / "agent" / "trajectory.json").is_file()


def _episodes(folder: Path) -> list[tuple[int, Path]]:
    found = [(match, path) for path in folder.glob("episode-*") if (match := _EPISODE.fullmatch(path.name))]
    return sorted((int(match[1]), path) for match, path in found)


def _name(trial: Path, root: Path) -> str:
    inside = trial.relative_to(root).as_posix()
    return trial.resolve().name if inside == "." else inside


def _text_of(path: Path) -> str | None:
    try:
        return path.read_bytes()[:_TEXT_BYTES].decode("utf-8", "replace")
    except OSError:
        return None


def _object_of(path: Path) -> JsonObject:
    if not path.is_file() or path.stat().st_size == 0:
        return {}
    value = load_document(path)
    if not isinstance(value, dict):
        raise BadInput("expected an object", file=path)
    return value


# --------------------------------------------------------------------------------------------------------- Harbor


def _read_harbor(trial: Path, root: Path) -> Trajectory:
    """A trial of Harbor: its ATIF trajectory, with the trial's name, configuration and reward."""
    path = trial / "agent" / "trajectory.json"
    trajectory = read_document(Row(load_document(path), 1, 1), path)
    result, config = _object_of(trial / "result.json"), _object_of(trial / "config.json")
    rewards = _harbor_rewards(trial, result)
    failed = result.get("exception_info")
    termination = failed.get("exception_type") if isinstance(failed, dict) else None
    return trajectory.model_copy(
        update={
            "id": _name(trial, root),
            "outcome": Outcome(
                reward=_main_reward(rewards),
                termination=termination if isinstance(termination, str) else trajectory.outcome.termination,
                details={"rewards": rewards} if rewards else {},
            ),
            "source": {**trajectory.source, "trial": {"result": result, "config": config}},
        }
    )


def _harbor_rewards(trial: Path, result: JsonObject) -> JsonObject:
    verifier = result.get("verifier_result")
    rewards = verifier.get("rewards") if isinstance(verifier, dict) else None
    if isinstance(rewards, dict):
        return rewards
    written = trial / "verifier" / "reward.json"
    if written.is_file():
        return _object_of(written)
    text = _text_of(trial / "verifier" / "reward.txt")
    try:
        return {"reward": float(text)} if text is not None else {}
    except ValueError as error:
        raise BadInput(f"no number: {text!r}", file=trial / "verifier" / "reward.txt") from error


def _main_reward(rewards: JsonObject) -> float | None:
    value = rewards.get("reward", next(iter(rewards.values())) if len(rewards) == 1 else None)
    return float(value) if isinstance(value, int | float) else None


# ------------------------------------------------------------------------------------------------------------ 1.x


def _read_trial(trial: Path, root: Path) -> Trajectory:
    logs = trial / "agent-logs" if (trial / "agent-logs").is_dir() else trial
    result = _object_of(trial / "results.json")
    episodes = _episodes(logs)
    messages = _conversation(episodes) if episodes else _typed(trial, result)
    if not any(message.role == "assistant" for message in messages):
        raise BadInput("no answer of an agent in this trial", file=trial)
    name = _name(trial, root)
    shown = next((message.text for message in messages if message.role == "user"), "")
    before = _text_of(trial / "panes" / "pre-agent.txt") or ""
    task_id = result.get("task_id")
    resolved, failure = result.get("is_resolved"), result.get("failure_mode")
    kept = [*sorted((trial / "panes").glob("*.txt")), trial / "commands.txt"]
    return Trajectory(
        id=name,
        task=recorded_task(
            name,
            messages,
            workdir=_folder(shown) or _folder(before),
            observation="raw",
            definition={"task_id": task_id} if isinstance(task_id, str) else None,
        ),
        tools=[KEYSTROKES_TOOL],
        messages=messages,
        outcome=Outcome(
            reward=float(resolved) if isinstance(resolved, bool) else None,
            termination=failure if isinstance(failure, str) and failure != "unset" else None,
            details={"parser_results": result["parser_results"]} if result.get("parser_results") else {},
        ),
        source={
            "format": FORMAT,
            "results": result,
            "logs": {path.relative_to(trial).as_posix(): _text_of(path) for path in kept if path.is_file()},
        },
    )


def _folder(screen: str) -> str | None:
    """The directory that the last shell prompt on a screen names."""
    found = [match["folder"].strip() for match in _PROMPT.finditer(screen)]
    return (found[-1].replace("~", "/root", 1) if found[-1].startswith("~") else found[-1]) if found else None


def _conversation(episodes: list[tuple[int, Path]]) -> list[Message]:
    messages: list[Message] = []
    for number, folder in episodes:
        prompt = _text_of(folder / "prompt.txt")
        if prompt is not None:
            messages.append(_shown(messages, prompt))
        path = next((one for name in ("response.txt", "response.json") if (one := folder / name).is_file()), None)
        response = _text_of(path) if path is not None else None
        if response is None:
            continue
        batch, complete = parse_response(response)
        source: JsonObject = {"episode": number}
        debug = _debug(folder / "debug.json")
        if debug is not None:
            source["debug"] = debug
        calls = []
        if batch is None:
            source[UNDELIVERED] = "no keys could be read from it"
        elif batch or not complete:
            calls = [keystrokes_call([(keys, wait) for keys, wait, _ in batch], f"call_{number}")]
            source["commands"] = [rest for *_, rest in batch]
        messages.append(Message(role="assistant", content=response, tool_calls=calls, source=source))
    return messages


def _shown(messages: list[Message], prompt: str) -> Message:
    """A prompt: what the screen showed after the keys before it, or the opening, or a complaint."""
    last = messages[-1] if messages else None
    if last is None or last.role != "assistant":
        return Message(role="user", content=prompt)
    if not last.delivered:
        return Message(role="user", content=prompt, source={UNDELIVERED: "says what was malformed"})
    if not last.tool_calls:
        return Message(role="user", content=prompt)
    return Message(role="tool", content=prompt, tool_call_id=last.tool_calls[0].id)


def _debug(path: Path) -> JsonObject | None:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return {key: one for key, one in value.items() if key not in _REPEATED} if isinstance(value, dict) else None


def parse_response(text: str) -> tuple[list[tuple[str, Any, JsonObject]] | None, bool]:
    """Keys, seconds to wait and the recorded command, one after the other, and whether the agent says it is done.

    None in place of the list where the text has neither JSON nor XML of an answer.
    """
    data = _first_object(text)
    if data is not None:
        batch = []
        for one in data["commands"] if isinstance(data.get("commands"), list) else ():
            if isinstance(one, dict) and isinstance(one.get("keystrokes"), str):
                batch.append((one["keystrokes"], one.get("duration", one.get("timeout_sec", 1.0)), one))
        done = data.get("task_complete", data.get("is_task_complete", False))
        return batch, done is True or str(done).lower() in ("true", "1", "yes")
    if "<commands>" in text or "<keystrokes" in text or "<task_complete>" in text:
        found = []
        for match in _XML_COMMAND.finditer(text):
            duration = _XML_DURATION.search(match["attributes"])
            wait = float(duration[1]) if duration else 1.0
            found.append((match["keys"], wait, {"keystrokes": match["keys"], "duration": wait}))
        return found, bool(_XML_COMPLETE.search(text))
    return None, False


def _first_object(text: str) -> JsonObject | None:
    """The first JSON object in a text that is an answer of Terminus."""
    decoder, start = json.JSONDecoder(strict=False), text.find("{")
    while start >= 0:
        try:
            value, _ = decoder.raw_decode(text, start)
        except ValueError:
            value = None
        if isinstance(value, dict) and "commands" in value:
            return value
        start = text.find("{", start + 1)
    return None


def _typed(trial: Path, result: JsonObject) -> list[Message]:
    """The keys that were typed, where nothing tells what they showed."""
    path = trial / "commands.txt"
    messages = [Message(role="user", content=str(result.get("instruction", "")))]
    lines = (_text_of(path) or "").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            keys = ast.literal_eval(line)
        except (ValueError, SyntaxError) as error:
            raise BadInput(f"no keys: {line[:80]!r}", file=path, line=number) from error
        keys = [keys] if isinstance(keys, str) else [str(one) for one in keys]
        if any(_TESTS in one for one in keys):
            break
        calls = [keystrokes_call([(one, None) for one in keys], f"call_{number}")]
        messages.append(Message(role="assistant", content="", tool_calls=calls, source={"line": number}))
    return messages
