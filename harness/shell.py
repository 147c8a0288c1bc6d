"""``pivotgym shell``: stand inside a restored state and try actions by hand."""

from __future__ import annotations

import ast
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from pivotgym.envs.core import AgentEnv
from pivotgym.envs.errors import BadInput, PivotGymError
from pivotgym.envs.formats import load_trajectories
from pivotgym.envs.trajectory import JsonObject, Message, ToolCall, Trajectory, canonical_json
from pivotgym.harness.turns import make_env

HELP = """name(arg=value, …)  call a tool            plain text   {plain}
:demo   what the recording did here        :score   the task's own goal check now
:tools  the tools on offer                 :try A   effect of action A in a fork, nothing changes here
:show   the conversation so far            :quit"""


def find_trajectory(path: Path, wanted: str | None) -> Trajectory:
    """The trajectory ``wanted`` (an id, or a 0-based position) of a file; the first one by default."""
    for position, trajectory in enumerate(load_trajectories(path)):
        if wanted is None or wanted == trajectory.id or wanted == str(position):
            return trajectory
    raise BadInput(f"no trajectory {wanted!r}" if wanted else "no trajectory in the file", file=path)


def parse_call(text: str, command_tool: str | None = None) -> Message:
    """``name(arg=value)`` to an action with one tool call.

    Any other text is said to the user or, where ``command_tool`` names a tool that runs commands, is a command for it.
    """
    try:
        node = ast.parse(text, mode="eval").body
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
            arguments = {str(word.arg): ast.literal_eval(word.value) for word in node.keywords if word.arg}
            return Message(role="assistant", tool_calls=[ToolCall(name=node.func.id, arguments=arguments, id="call_0")])
    except (SyntaxError, ValueError):
        pass
    if command_tool is not None:
        call = ToolCall(name=command_tool, arguments={"command": text}, id="call_0")
        return Message(role="assistant", tool_calls=[call])
    return Message(role="assistant", content=text)


def command_tool(env: AgentEnv) -> str | None:
    """The tool that runs commands, in an environment whose only tool it is."""
    functions = [tool.get("function", tool) for tool in env.tools]
    if len(functions) == 1 and "command" in functions[0].get("parameters", {}).get("properties", {}):
        return str(functions[0]["name"])
    return None


def run_shell(
    path: Path,
    turn: int,
    trajectory_id: str | None = None,
    console: Console | None = None,
    env_options: JsonObject | None = None,
) -> None:
    """Restores turn ``turn`` and reads actions until ``:quit`` or the end of input."""
    console = console or Console()
    trajectory = find_trajectory(path, trajectory_id)
    if trajectory.task is None:
        raise BadInput(f"trajectory {trajectory.id} names no task, so there is nothing to restore", file=path)
    env = make_env(trajectory.task.env, env_options)
    try:
        _, info = env.reset(options={"trajectory": trajectory, "turn": turn})
        report = info["restore"]
        console.print(
            f"[bold]{escape(trajectory.id)}[/] before turn {turn}: {len(report.checks)} observations replayed or kept, "
            f"{len(report.diverged)} diverged, {report.seconds * 1000:.1f} ms"
        )
        _show(console, env.messages[-4:])
        for problem in report.errors:
            console.print(escape(problem), style="red")
        if report.note:
            console.print(escape(report.note), style="yellow")
        console.print(_help(env), style="dim", markup=False)
        while _one_line(console, env, trajectory, turn):
            pass
    finally:
        env.close()


def _help(env: AgentEnv) -> str:
    return HELP.format(plain="talk to the user" if command_tool(env) is None else "run a command")


def _one_line(console: Console, env: AgentEnv, trajectory: Trajectory, turn: int) -> bool:
    try:
        line = console.input("[bold cyan]> [/]").strip()
    except (EOFError, KeyboardInterrupt):
        return False
    try:
        return _obey(console, env, trajectory, turn, line)
    except PivotGymError as error:
        console.print(f"[red]{escape(str(error))}[/]")
        return True


def _obey(console: Console, env: AgentEnv, trajectory: Trajectory, turn: int, line: str) -> bool:
    if line == ":quit":
        return False
    if line == ":demo":
        _show(console, [trajectory.action(turn), *trajectory.answer(turn)])
    elif line == ":score":
        console.print(escape(env.score().model_dump_json(indent=1)))
    elif line == ":tools":
        for tool in env.tools:
            function = tool.get("function", tool)
            names = ", ".join(function.get("parameters", {}).get("properties", {}))
            summary = (function.get("description") or "").partition("\n")[0]
            console.print(escape(f"{function['name']}({names})  {summary}"))
    elif line == ":show":
        _show(console, env.messages)
    elif line.startswith(":try "):
        effect = env.effect(parse_call(line[5:].strip(), command_tool(env)))
        _show(console, effect.observation)
        console.print(escape(canonical_json(effect.changes)) if effect.changes else "changes nothing")
    elif line.startswith(":"):
        console.print(_help(env), markup=False)
    elif line:
        if env.episode.done:
            console.print("[yellow]The episode is over; :score shows how it ended, :quit leaves.[/]")
            return True
        before = len(env.messages)
        _, reward, terminated, truncated, info = env.step(parse_call(line, command_tool(env)))
        _show(console, env.messages[before + 1 :])
        if terminated or truncated:
            console.print(f"[yellow]The episode is over ({info['termination']}), reward {reward:g}.[/]")
    return True


def _show(console: Console, messages: list[Message]) -> None:
    colours = {"user": "green", "assistant": "magenta", "tool": "blue", "system": "dim", "developer": "dim"}
    for message in messages:
        calls = "".join(f" {call.name}({canonical_json(call.arguments)})" for call in message.tool_calls)
        console.print(f"[{colours[message.role]}]{message.role:>9}[/] {escape(message.text[:2000] + calls)}")
