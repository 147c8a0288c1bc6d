"""Simulated users; the LLM one against a real HTTP endpoint."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import gymnasium as gym
import pytest

from pivotgym.envs.errors import BadInput, EndpointError
from pivotgym.envs.tools.domain import register_domain
from pivotgym.envs.tools.servicedesk import ServiceDesk, bundled_trajectories
from pivotgym.envs.tools.users import LLMUser, RecordedUser, ScriptedUser, flipped
from pivotgym.envs.trajectory import Message, Task, ToolCall

TASK = Task(env="pivotgym/Tools-v0", id="t", data={"domain": "instructed"})


class Instructed(ServiceDesk):
    """The service desk with instructions for an LLM user."""

    name = "instructed"

    def user_instructions(self, task: Task) -> str:
        return "You are Ada and want a refund of order 77."

    def user_tools(self, task: Task) -> list[dict[str, Any]]:
        parameters = {"type": "object", "properties": {}}
        return [
            {"type": "function", "function": {"name": "look_at_phone", "description": "", "parameters": parameters}}
        ]


class Endpoint:
    """An OpenAI-compatible chat endpoint that answers from a list: a text, a message dict or a status code."""

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.asked: list[dict[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                answer = outer.answers.pop(0) if len(outer.answers) > 1 else outer.answers[0]
                if isinstance(answer, int):
                    self.send_response(answer)
                    self.end_headers()
                    return
                message = {"role": "assistant", "content": answer} if isinstance(answer, str) else answer
                choice = {"index": 0, "finish_reason": "stop", "message": message}
                row = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
                data = json.dumps(row).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    running = Endpoint()
    yield running
    running.server.shutdown()
    running.server.server_close()


def user_of(endpoint: Endpoint, **options: Any) -> LLMUser:
    return LLMUser(endpoint.url, "m", domain=Instructed(), wait=0.01, **options)


def said(*pairs: tuple[str, str]) -> list[Message]:
    return [Message(role=role, content=text) for role, text in pairs]  # type: ignore[arg-type]


def test_a_recorded_user_counts_and_leaves() -> None:
    trajectory = next(t for t in bundled_trajectories() if sum(m.role == "user" for m in t.messages) >= 2)
    users = [message for message in trajectory.messages if message.role == "user"]
    user = RecordedUser(trajectory)
    history: list[Message] = []
    for expected in users:
        reply = user.reply(TASK, history)
        assert reply == expected
        history += [reply, *said(("assistant", "something else than recorded"))]
    assert user.reply(TASK, history) is None
    stopping = trajectory.model_copy(
        update={"messages": said(("user", "a"), ("assistant", "b"), ("user", "###STOP###"))}
    )
    assert RecordedUser(stopping).reply(TASK, said(("user", "a"), ("assistant", "c"))) is None


def test_a_scripted_user_follows_its_rule() -> None:
    user = ScriptedUser(lambda task, messages: f"{task.id} {len(messages)}" if len(messages) < 2 else None)
    reply = user.reply(TASK, [])
    assert reply is not None and reply.role == "user" and reply.text == "t 0"
    assert user.reply(TASK, said(("user", "a"), ("assistant", "b"))) is None
    assert ScriptedUser(lambda *_: "bye ###STOP###").reply(TASK, []) is None
    message = Message(role="user", content="x")
    assert ScriptedUser(lambda *_: message).reply(TASK, []) is message


def test_the_llm_sees_its_scenario_and_flipped_roles(endpoint: Endpoint) -> None:
    endpoint.answers = ["  It is order 77. "]
    call = ToolCall(name="find_order", arguments={"secret": "hidden from the user"}, id="c")
    own = ToolCall(name="look_at_phone", id="same")
    history = [
        Message(role="system", content="agent's policy"),
        *said(("user", "I want my money back."), ("assistant", "Which order?")),
        Message(role="user", tool_calls=[own], requestor="user"),
        Message(role="tool", content="battery empty", tool_call_id="same", requestor="user"),
        Message(role="user", tool_calls=[own], requestor="user"),
        Message(role="tool", content="still empty", tool_call_id="same", requestor="user"),
        Message(role="assistant", tool_calls=[call]),
        Message(role="tool", content="hidden result", tool_call_id="c"),
    ]
    reply = user_of(endpoint, temperature=0.5).reply(TASK, history)
    assert reply == Message(role="user", content="It is order 77.")
    asked = endpoint.asked[0]
    assert [m["role"] for m in asked["messages"]] == [
        *("system", "assistant", "user", "assistant", "tool", "assistant", "tool"),
    ]
    assert "refund of order 77" in asked["messages"][0]["content"]
    assert "hidden" not in json.dumps(asked) and "agent's policy" not in json.dumps(asked)
    ids = [m["tool_call_id"] for m in asked["messages"] if m["role"] == "tool"]
    calls = [m["tool_calls"][0]["id"] for m in asked["messages"] if m.get("tool_calls")]
    assert ids == calls and len(set(ids)) == 2
    assert asked["tools"][0]["function"]["name"] == "look_at_phone" and asked["temperature"] == 0.5


def test_the_llm_calls_its_tools_and_stops(endpoint: Endpoint) -> None:
    function = {"name": "look_at_phone", "arguments": '{"part": "screen"}'}
    call = {"id": "c1", "type": "function", "function": function}
    endpoint.answers = [{"role": "assistant", "content": None, "tool_calls": [call]}, "Thanks. ###STOP###"]
    reply = user_of(endpoint).reply(TASK, said(("assistant", "Look at your phone.")))
    assert reply is not None and reply.tool_calls[0].arguments == {"part": "screen"}
    assert reply.requestor == "user" and not reply.visible_to_agent
    assert user_of(endpoint).reply(TASK, said(("assistant", "Anything else?"))) is None


def test_passing_failures_are_tried_again(endpoint: Endpoint) -> None:
    endpoint.answers = [500, 429, "", "here I am"]
    reply = user_of(endpoint).reply(TASK, [])
    assert reply is not None and reply.text == "here I am" and len(endpoint.asked) == 4
    assert endpoint.asked[0]["messages"][-1]["role"] == "user"  # there is something to answer to


@pytest.mark.parametrize(("answer", "requests"), [(500, 3), ("", 3), (401, 1), (404, 1)])
def test_lasting_failures_are_errors(endpoint: Endpoint, answer: int | str, requests: int) -> None:
    endpoint.answers = [answer]
    with pytest.raises(EndpointError, match="simulated user m at"):
        user_of(endpoint, attempts=3).reply(TASK, [])
    assert len(endpoint.asked) == requests


def test_an_endpoint_that_is_down_ends_the_step_without_reward() -> None:
    register_domain("instructed", Instructed)
    env = gym.make(
        "pivotgym/Tools-v0", domain="servicedesk", user="llm", user_endpoint="http://127.0.0.1:9/v1", user_model="m"
    )
    task = Instructed().tasks("heldout")[0]
    task = task.model_copy(update={"data": {**task.data, "domain": "instructed"}})
    env.reset(options={"task": task})
    with pytest.raises(EndpointError):
        env.step("Hello, who are you?")
    with pytest.raises(gym.error.ResetNeeded):
        env.step("Hello?")
    env.close()


def test_a_task_without_instructions_is_named(endpoint: Endpoint) -> None:
    class Mute:
        name = "mute"

    with pytest.raises(BadInput, match="'t' of 'mute'"):
        LLMUser(endpoint.url, "m", domain=Mute()).reply(TASK, [])  # type: ignore[arg-type]


def test_flipping_keeps_arguments_that_are_no_json() -> None:
    call = Message(role="user", tool_calls=[ToolCall(name="x", arguments="{oops")], requestor="user")
    assert flipped([call], "s")[1]["tool_calls"][0]["function"]["arguments"] == "{oops"
