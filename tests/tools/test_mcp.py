"""MCP servers as tool sources, against a real server over stdio and streamable HTTP."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from needs import require

from pivotgym.envs.check import check_env_laws
from pivotgym.envs.core import AgentEnv
from pivotgym.envs.errors import BadInput, ToolServerError
from pivotgym.envs.snapshots import SnapshotStore
from pivotgym.envs.tools.domain import get_domain, register_domain
from pivotgym.envs.tools.mcp import McpDomain
from pivotgym.envs.tools.mcp_client import read_servers
from pivotgym.envs.trajectory import Message, Task, ToolCall, Trajectory
from pivotgym.verifiers import make as make_verifier

require("mcp", "mcp")
SERVER = Path(__file__).resolve().parents[1] / "support" / "notes_server.py"
STDIO = {"mcpServers": {"notes": {"command": sys.executable, "args": [str(SERVER)]}}}
GOAL = [
    {"tool": "list_notes", "contains": "shopping"},
    {"tool": "read_note", "arguments": {"number": 2}, "equals": "milk and bread"},
]


def task_of(domain: str, **data: Any) -> Task:
    return Task(env="pivotgym/Tools-v0", id="shopping", data={"domain": domain, "request": "Note milk.", **data})


def call(name: str, **arguments: Any) -> Message:
    return Message(role="assistant", tool_calls=[ToolCall(name=name, arguments=arguments, id=f"id-{name}")])


ACTIONS = [
    call("list_notes"),
    call("add_note", title="shopping", text="milk"),
    call("append", number=2, text="and bread"),
    call("delete_note", number=1),
    call("list_notes"),
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve(*options: str) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, str(SERVER), "http", str(port), *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, "the notes server did not start"
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def http_server() -> Iterator[str]:
    yield from serve()


@pytest.fixture(scope="module", params=["stdio", "http"])
def domain(request: pytest.FixtureRequest) -> str:
    name = f"notes-{request.param}"
    if request.param == "stdio":
        config: dict[str, Any] = STDIO
    else:
        config = {"mcpServers": {"notes": {"url": request.getfixturevalue("http_server")}}}
    register_domain(name, lambda: McpDomain(config, [task_of(name, goal=GOAL)], policy="You keep notes."))
    return name


def make(domain: str) -> AgentEnv:
    env = gym.make("pivotgym/Tools-v0", domain=domain, snapshots=SnapshotStore()).unwrapped
    assert isinstance(env, AgentEnv)
    return env


def recorded(domain: str) -> Trajectory:
    env = make(domain)
    env.reset(seed=0)
    for action in ACTIONS:
        env.step(action)
    trajectory = Trajectory(id="shopping", task=env.task, messages=list(env.messages))
    env.close()
    return trajectory


def test_listing_calling_errors_and_the_goal(domain: str) -> None:
    env = make(domain)
    env.reset(seed=0)
    assert [message.text for message in env.messages] == ["You keep notes.", "Note milk."]
    tools = {tool["function"]["name"]: tool["function"] for tool in env.tools}
    assert {"add_note", "append", "read_note", "delete_note", "list_notes"} == set(tools)
    assert set(tools["add_note"]["parameters"]["required"]) == {"title", "text"}
    assert "Adds a note" in tools["add_note"]["description"]

    def answer(action: Message) -> str:
        return str(json.loads(env.step(action)[0])[0]["content"])

    assert answer(call("list_notes")) == "1 welcome"
    assert answer(call("add_note", title="shopping", text="milk")) == "note 2 added"
    assert "there is no note 9" in answer(call("read_note", number=9))
    assert answer(call("read_note", number=9)).startswith("Error: ")
    missing = answer(call("add_note", title="x"))
    assert missing.startswith("Error: invalid arguments for add_note") and "text" in missing
    wrong = answer(call("read_note", number="2"))
    assert "number" in wrong and "integer" in wrong
    assert answer(call("fly")) == "Error: unknown tool 'fly'"
    raw = Message(role="assistant", tool_calls=[ToolCall(name="read_note", arguments="{no json")])
    assert "no JSON object" in answer(raw)
    assert answer(call("list_notes")) == "1 welcome; 2 shopping", "failed calls changed something"
    assert env.score().reward == 0.0 and len(env.score().evidence["failed"]) == 1
    assert answer(call("append", number=2, text="and bread")) == "milk and bread"
    _, reward, terminated, _, info = env.step("I have noted it.")
    assert terminated and reward == 1.0 and info["verdict"]["rule"] == "goal"
    env.close()


def test_every_turn_of_a_recording_is_restored_by_replay(domain: str) -> None:
    trajectory = recorded(domain)
    env = make(domain)
    # Over stdio every restore starts a Python process: three turns tell as much there.
    for turn in (0, 2, 4) if domain == "notes-stdio" else range(len(ACTIONS)):
        _, info = env.reset(options={"trajectory": trajectory, "turn": turn, "strict": True})
        assert info["restore"].fidelity == 1.0 and info["restore"].replayed == turn
        response = env.advance(trajectory.action(turn), trajectory.answer(turn))
        assert [m.text for m in response.messages] == [m.text for m in trajectory.answer(turn)]
    env.close()


def test_forks_are_independent_by_replay(domain: str) -> None:
    trajectory = recorded(domain)
    env = make(domain)
    env.reset(options={"trajectory": trajectory, "turn": 3})
    fork, sibling = env.fork(), env.fork()
    fork.step(call("delete_note", number=2))
    listed = [json.loads(e.step(call("list_notes"))[0])[0]["content"] for e in (fork, sibling, env)]
    assert listed == ["1 welcome", "1 welcome; 2 shopping", "1 welcome; 2 shopping"]
    effect = env.effect(call("delete_note", number=2))
    assert effect.observation[0].text == "note 2 deleted" and not effect.known and effect.changes == []
    for one in (fork, sibling, env):
        one.close()


def test_a_change_nobody_can_see_earns_nothing(domain: str) -> None:
    # Two notes added with other texts answer alike; the server's state cannot be compared, so only equal calls count.
    trajectory = recorded(domain)
    turn = next(t for t in range(len(ACTIONS)) if any(c.name == "add_note" for c in trajectory.action(t).tool_calls))
    env = make(domain)
    env.reset(options={"trajectory": trajectory, "turn": turn})
    arguments = trajectory.action(turn).tool_calls[0].arguments
    assert isinstance(arguments, dict)
    other = call("add_note", **{**arguments, "text": "something else"})
    assert env.effect(other).observation[0].text == env.effect(trajectory.action(turn)).observation[0].text
    verifier = make_verifier("effects")
    assert verifier.verify(env, other).reward == 0.0
    assert verifier.verify(env, call("add_note", **arguments)).reward == 1.0
    env.close()


def test_the_laws(domain: str) -> None:
    if domain == "notes-stdio":
        laws, turns = ["fidelity", "honest reward"], 1  # a process a fork: the other laws run over HTTP
    else:
        laws, turns = ["fidelity", "isolation", "equivalence", "blindness", "honest reward", "nothing left"], 3
    report = check_env_laws(
        "pivotgym/Tools-v0",
        [recorded(domain)],
        env_kwargs={"domain": domain},
        max_turns_checked=turns,
        horizon=3,
        resets=8,
        laws=laws,
    )
    assert report.passed, [(result.law, result.detail) for result in report.results if not result.passed]


def test_a_server_with_one_state_for_all_is_found_out() -> None:
    for url in serve("shared"):
        register_domain("notes-shared", lambda: McpDomain({"notes": {"url": url}}, [task_of("notes-shared")]))  # noqa: B023
        report = check_env_laws(
            "pivotgym/Tools-v0",
            [recorded("notes-shared")],
            env_kwargs={"domain": "notes-shared"},
            max_turns_checked=2,
            laws=["isolation"],
        )
        assert report.broken == ["isolation"]


def test_a_crash_is_an_error_and_never_a_tool_text() -> None:
    server = {"notes": {"command": sys.executable, "args": [str(SERVER), "crash"]}}
    register_domain("notes-crash", lambda: McpDomain(server, [task_of("notes-crash")]))
    env = make("notes-crash")
    env.reset(seed=0)
    with pytest.raises(ToolServerError, match="fell over"):
        env.step(call("crash"))
    with pytest.raises(gym.error.ResetNeeded):
        env.step(call("list_notes"))
    env.reset(seed=0)
    assert json.loads(env.step(call("list_notes"))[0])[0]["content"] == "1 welcome"
    env.close()


def test_an_http_server_that_dies_is_an_error() -> None:
    server = serve()
    url = next(server)
    domain = McpDomain({"notes": {"url": url, "headers": {"X-Test": "1"}, "timeout": 5}})
    session = domain.open(task_of("x"))
    assert domain.call(session, ToolCall(name="list_notes")) == "1 welcome"
    server.close()  # type: ignore[attr-defined]
    with pytest.raises(ToolServerError, match="notes"):
        domain.call(session, ToolCall(name="list_notes"))
    session.close()
    with pytest.raises(ToolServerError, match="notes"):
        domain.open(task_of("x"))


@pytest.mark.parametrize(
    ("server", "told"),
    [
        ({"command": "/nonexistent/server"}, "No such file"),
        ({"command": sys.executable, "args": ["-c", "import sys; sys.exit('no licence')"]}, "no licence"),
        ({"command": "sleep", "args": ["30"], "timeout": 0.5}, "Timeout"),
        ({"command": sys.executable, "args": ["-c", "print('hello')"], "timeout": 2}, "n"),
        ({"url": "http://127.0.0.1:9/mcp", "timeout": 2}, "onnect"),
    ],
)
def test_a_server_that_does_not_come_up_is_an_error(server: dict[str, Any], told: str) -> None:
    with pytest.raises(ToolServerError, match=told):
        McpDomain({"n": server}).open(task_of("x"))


def children() -> set[str]:
    found: set[str] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # a thread, or a child, that has just ended
            for child in (task / "children").read_text().split():
                if b"notes_server" in Path(f"/proc/{child}/cmdline").read_bytes():
                    found.add(child)
    return found


def test_closing_ends_the_server_and_the_thread() -> None:
    domain = McpDomain(STDIO)
    before = children()
    sessions = [domain.open(task_of("x")) for _ in range(2)]
    started = children() - before
    assert len(started) == 2
    for session in sessions:
        session.close()
        session.close()
    assert not children() & started
    assert not [thread for thread in threading.enumerate() if thread.name == "pivotgym-mcp"]
    with pytest.raises(ToolServerError, match="closed"):
        domain.call(sessions[0], ToolCall(name="list_notes"))


def test_a_process_that_forgets_to_close_leaves_no_server() -> None:
    script = (
        "import sys; from pivotgym.envs.tools.mcp import McpDomain; from pivotgym.envs.trajectory import Task\n"
        f"d = McpDomain({STDIO!r}); s = d.open(Task(env='e', id='t'))\n"
        "import pathlib; print(' '.join(c for t in pathlib.Path('/proc/self/task').iterdir()"
        " for c in (t / 'children').read_text().split()))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    started = found.stdout.split()
    assert started
    for _ in range(50):
        if not any(Path(f"/proc/{child}").exists() for child in started):
            return
        time.sleep(0.1)
    pytest.fail(f"still running: {started}")


def test_tools_of_the_same_name_are_told_apart() -> None:
    one = STDIO["mcpServers"]["notes"]
    domain = McpDomain({"mine": one, "yours": one})
    session = domain.open(task_of("x"))
    names = {tool["function"]["name"] for tool in session.tools}
    assert {"mine__list_notes", "yours__list_notes"} <= names
    domain.call(session, ToolCall(name="mine__delete_note", arguments={"number": 1}))
    assert domain.call(session, ToolCall(name="mine__list_notes")) == ""
    assert domain.call(session, ToolCall(name="yours__list_notes")) == "1 welcome"
    session.close()


def test_configuration_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mcp.json"
    file.write_text(json.dumps({"mcpServers": {**STDIO["mcpServers"], "off": {"command": "x", "disabled": True}}}))
    assert list(read_servers(file)) == ["notes"]
    monkeypatch.setenv("PIVOTGYM_MCP_CONFIG", str(file))
    assert list(McpDomain().servers) == ["notes"]
    assert isinstance(get_domain("mcp"), McpDomain)
    for text, told in [
        ("{", "no JSON"),
        ("[]", "mcpServers"),
        ('{"mcpServers": {"a": {"command": "x", "url": "http://y"}}}', r"mcpServers\.a.*either command or url"),
        ('{"mcpServers": {"a": {"command": ["x"]}}}', r"mcpServers\.a\.command"),
    ]:
        file.write_text(text)
        with pytest.raises(BadInput, match=told) as caught:
            read_servers(file)
        assert caught.value.file == file
    with pytest.raises(BadInput, match="No such file"):
        read_servers(tmp_path / "none.json")


def test_a_task_cannot_start_commands_unless_trusted(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    own = {"evil": {"command": "touch", "args": [os.fspath(mark)], "timeout": 2}}
    task = task_of("x", mcpServers=own)
    with pytest.raises(BadInput, match="trust_tasks"):
        McpDomain().open(task)
    assert not mark.exists()
    with pytest.raises(ToolServerError):  # it is run now, and is no MCP server
        McpDomain(trust_tasks=True).open(task)
    assert mark.exists()
    with pytest.raises(BadInput, match="unknown MCP servers"):
        McpDomain(STDIO).open(task_of("x", servers=["other"]))
    with pytest.raises(BadInput, match="no MCP server"):
        McpDomain({"a": {"command": "x", "disabled": True}}).open(task_of("x"))
