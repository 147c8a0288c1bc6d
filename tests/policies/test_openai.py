"""The endpoint policy against a real HTTP server in another process."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_models import make_model, make_tokenizer

from pivotgym.envs.errors import BadInput, EndpointError
from pivotgym.envs.trajectory import Message, ToolCall
from pivotgym.harness.policies import Conversation, Sampling, load_policy
from pivotgym.harness.policies.openai_policy import OpenAIPolicy
from pivotgym.harness.policies.transformers_policy import TransformersPolicy

TOOLS = [{"type": "function", "function": {"name": "get_ticket", "parameters": {"type": "object", "properties": {}}}}]


def start(*args: str) -> Iterator[str]:
    script = Path(__file__).with_name("endpoint.py")
    process = subprocess.Popen([sys.executable, str(script), *args], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    port = process.stdout.readline().strip()
    try:
        assert port, "the test endpoint did not start"
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    yield from start()


@pytest.fixture(scope="module")
def one_choice_server() -> Iterator[str]:
    yield from start("--one-choice")


def behave(server: str, *plan: str) -> None:
    body = json.dumps({"plan": plan}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{server}/behave", data=body)) as answer:
        assert answer.status == 200


def seen(server: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{server}/seen") as answer:
        rows: list[dict[str, Any]] = json.load(answer)
    return rows


def policy(server: str, **options: Any) -> OpenAIPolicy:
    settings: dict[str, Any] = {"attempts": 3, "max_backoff": 0.05, "timeout": 20.0, **options}
    return OpenAIPolicy("tiny", base_url=f"{server}/v1", **settings)


def ask(text: str, tools: Any = ()) -> Conversation:
    return Conversation([Message(role="user", content=text)], tools)


def test_the_same_samples_as_in_process(server: str) -> None:
    behave(server)
    remote = policy(server)
    sampling = Sampling(max_tokens=12, seed=3)
    (drawn,) = remote.sample([ask("hello", TOOLS)], 4, sampling)
    local = TransformersPolicy(make_model(), make_tokenizer())
    (expected,) = local.sample([ask("hello", TOOLS)], 4, sampling)
    assert [completion.text for completion in drawn] == [completion.text for completion in expected]
    assert [completion.stop_reason for completion in drawn] == [completion.stop_reason for completion in expected]
    for got, want in zip(drawn, expected, strict=True):
        assert got.logprobs == pytest.approx(want.logprobs, abs=1e-5)
    assert (remote.usage.calls, remote.usage.prompt_tokens) == (4, local.usage.prompt_tokens)
    assert remote.usage.calls == local.usage.calls, "one definition: completions, not requests"
    assert remote.usage.sampled_tokens == local.usage.sampled_tokens and remote.usage.seconds > 0
    (request,) = seen(server)
    assert request["tools"] == TOOLS and request["n"] == 4


def test_many_conversations_keep_their_order(server: str) -> None:
    behave(server)
    texts = [f"number {index}" for index in range(10)]
    remote = policy(server, concurrency=4)
    drawn = remote.sample([ask(text) for text in texts], 1, Sampling(temperature=0.0, max_tokens=6))
    local = TransformersPolicy(make_model(), make_tokenizer())
    expected = [local.sample([ask(text)], 1, Sampling(temperature=0.0, max_tokens=6))[0][0].text for text in texts]
    assert [group[0].text for group in drawn] == expected


def test_native_tool_calls(server: str) -> None:
    behave(server)
    ((called,), (broken,), (hermes,)) = policy(server).sample(
        [ask("please call", TOOLS), ask("please break", TOOLS), ask("please hermes", TOOLS)]
    )
    (call,) = called.message.tool_calls
    assert (call.name, call.arguments, call.id) == ("get_ticket", {"id": "T1"}, "abc")
    assert (called.malformed, called.message.content, called.message.reasoning_content) == (None, None, "hm")
    assert broken.malformed == "arguments of a must be a JSON object" and not broken.message.tool_calls
    assert '{"id": ' in broken.message.text and "so" in broken.message.text
    assert hermes.malformed is None and hermes.message.tool_calls[0].name == "b"


def test_calls_without_ids_get_them_and_results_pair_by_position(server: str) -> None:
    behave(server)
    calls = [ToolCall(name="a", arguments={}), ToolCall(name="b", arguments={})]
    history = [
        Message(role="user", content="x"),
        Message(role="assistant", tool_calls=calls, reasoning_content="SECRET"),
        Message(role="tool", content="1"),
        Message(role="tool", content="2"),
        Message(role="user", content="please call"),
    ]
    policy(server).sample([Conversation(history)])
    (request,) = seen(server)
    sent = [call["id"] for call in request["messages"][1]["tool_calls"]]
    assert len(set(sent)) == 2
    assert [row["tool_call_id"] for row in request["messages"] if row["role"] == "tool"] == sent
    assert "SECRET" not in json.dumps(request)


def test_an_endpoint_that_gives_one_choice_a_request(one_choice_server: str) -> None:
    behave(one_choice_server)
    remote = policy(one_choice_server)
    (drawn,) = remote.sample([ask("hello")], 5, Sampling(max_tokens=8, seed=1))
    assert len(drawn) == 5 and len({completion.text for completion in drawn}) > 1
    assert not any(completion.logprobs for completion in drawn)
    assert remote.usage.calls == 5


@pytest.mark.parametrize("trouble", ["500", "429", "garbage", "no-choices", "reset"])
def test_passing_trouble_is_retried(server: str, trouble: str) -> None:
    behave(server, trouble, trouble)
    (drawn,) = policy(server).sample([ask("hello")], 1, Sampling(max_tokens=4))
    assert len(drawn) == 1 and len(seen(server)) == 3


@pytest.mark.parametrize("trouble", ["500", "garbage", "no-choices", "reset"])
def test_lasting_trouble_is_an_endpoint_error(server: str, trouble: str) -> None:
    behave(server, *[trouble] * 3)
    with pytest.raises(EndpointError, match="after 3 attempts"):
        policy(server).sample([ask("hello")])
    assert len(seen(server)) == 3


def test_a_refused_request_is_not_repeated(server: str) -> None:
    behave(server, "400")
    with pytest.raises(EndpointError, match=r"after 1 attempts.*planned 400"):
        policy(server).sample([ask("hello")])
    assert len(seen(server)) == 1


def test_a_timeout(server: str) -> None:
    behave(server, "hang", "hang")
    started = time.monotonic()
    with pytest.raises(EndpointError, match="after 2 attempts"):
        policy(server, attempts=2, timeout=0.3).sample([ask("hello")])
    assert time.monotonic() - started < 15


def test_an_endpoint_that_is_down() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(EndpointError, match=f"127.0.0.1:{port}"):
        policy(f"http://127.0.0.1:{port}").sample([ask("hello")])


def test_specs(server: str) -> None:
    loaded = load_policy(f"openai:tiny@{server}/v1")
    assert isinstance(loaded, OpenAIPolicy) and (loaded.model, loaded.base_url) == ("tiny", f"{server}/v1")
    for spec in ("openai:tiny", "openai:@http://x", "openai:tiny@localhost", "scripted:expert", "embedded+", "+x"):
        with pytest.raises(BadInput):
            load_policy(spec)
