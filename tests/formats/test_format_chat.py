"""OpenAI chat and ShareGPT rows: given back equal, understood, exported from other formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats import load_trajectories, save_trajectories
from pivotgym.envs.formats.jsonl import read_jsonl, write_jsonl
from pivotgym.envs.formats.openai_chat import export_row as openai_row
from pivotgym.envs.formats.openai_chat import read_openai
from pivotgym.envs.formats.sharegpt import export_row as sharegpt_row
from pivotgym.envs.formats.sharegpt import read_sharegpt
from pivotgym.envs.formats.tau2 import read_tau2
from pivotgym.envs.trajectory import Message, ToolCall, Trajectory

TOOL = {"type": "function", "function": {"name": "find", "parameters": {"type": "object", "properties": {}}}}


def through_disk(rows: list[Any], reader: Any, tmp_path: Path) -> list[Trajectory]:
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    write_jsonl(tmp_path / "t.jsonl", reader(source))
    return list(read_jsonl(tmp_path / "t.jsonl"))


def called(**call: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def find(arguments: Any) -> dict[str, Any]:
    return {"id": "c", "type": "function", "function": {"name": "find", "arguments": arguments}}


OPENAI: dict[str, dict[str, Any]] = {
    "text only": {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]},
    "system and developer": {"messages": [{"role": r, "content": r} for r in ("system", "developer", "user")]},
    "tools": {
        "messages": [called(**find('{"a":1}')), {"role": "tool", "tool_call_id": "c", "content": "1"}],
        "tools": [TOOL],
        "parallel_tool_calls": False,
    },
    "canonical arguments": {"messages": [called(**find('{"a": 1}'))]},
    "arguments as object": {"messages": [called(**find({"a": 1}))]},
    "arguments that are no object": {"messages": [called(**find("[1]"))]},
    "arguments no JSON": {"messages": [called(**find("{a"))]},
    "no arguments": {"messages": [called(id="c", type="function", function={"name": "find"})]},
    "empty arguments": {"messages": [called(**find(""))]},
    "flat call": {"messages": [called(name="find", arguments={"a": 1})]},
    "custom call": {"messages": [called(id="c", type="custom", custom={"name": "sql", "input": "select 1"})]},
    "call with index": {"messages": [called(**find("{}"), index=0)]},
    "two calls": {"messages": [{"role": "assistant", "content": "x", "tool_calls": [find("{}"), find("{}")]}]},
    "legacy": {
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": None, "function_call": {"name": "find", "arguments": '{"a":1}'}},
            {"role": "function", "name": "find", "content": "1"},
        ],
        "functions": [TOOL["function"]],
    },
    "legacy without content": {
        "messages": [{"role": "assistant", "function_call": {"name": "find", "arguments": "{}", "more": 1}}]
    },
    "everything null": {
        "messages": [
            {"role": "assistant", "content": "a"} | dict.fromkeys(("tool_calls", "function_call", "name", "refusal"))
        ],
        "tools": None,
    },
    "empty lists": {"messages": [{"role": "assistant", "content": "", "tool_calls": []}], "tools": []},
    "absent content": {"messages": [{"role": "assistant", "tool_calls": [find("{}")]}]},
    "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": t} for t in "ab"]}]},
    "weights and names": {"messages": [{"role": "assistant", "content": "a", "weight": 0, "name": "bo"}]},
    "reasoning": {"messages": [{"role": "assistant", "content": "a", "reasoning_content": "b"}]},
    "other reasoning": {"messages": [{"role": "assistant", "content": "a", "reasoning": "b"}]},
    "both reasonings": {"messages": [{"role": "assistant", "reasoning": "b", "reasoning_content": "c"}]},
    "row fields": {"id": 7, "messages": [{"role": "user", "content": "a"}], "meta": {"split": "train"}, "reward": 1},
    "tools as text": {"messages": [{"role": "user", "content": "a"}], "tools": json.dumps([TOOL])},
    "bare tools": {"messages": [{"role": "user", "content": "a"}], "tools": [TOOL["function"]]},
    "tools that are none": {"messages": [{"role": "user", "content": "a"}], "tools": "see the system prompt"},
    "names of our notes": {"messages": [{"role": "user", "content": "a", "legacy": 1, "absent": [], "verbatim": {}}]},
}  # fmt: skip


@pytest.mark.parametrize("case", OPENAI, ids=OPENAI.keys())
def test_openai_rows_are_given_back(case: str, tmp_path: Path) -> None:
    (stored,) = through_disk([OPENAI[case]], read_openai, tmp_path)
    assert openai_row(stored) == OPENAI[case]


def test_openai_rows_are_understood(tmp_path: Path) -> None:
    def read(case: str) -> Trajectory:
        return through_disk([OPENAI[case]], read_openai, tmp_path)[0]

    def call(case: str) -> ToolCall:
        return read(case).messages[0].tool_calls[0]

    for case in ("tools", "canonical arguments", "arguments as object", "flat call"):
        assert (call(case).name, call(case).arguments) == ("find", {"a": 1})
    assert call("arguments no JSON").arguments == "{a"
    assert call("no arguments").arguments == call("empty arguments").arguments == {}
    assert (call("custom call").name, call("custom call").arguments) == ("sql", "select 1")
    legacy = read("legacy")
    assert [message.role for message in legacy.messages] == ["user", "assistant", "tool"]
    assert legacy.messages[1].tool_calls[0].arguments == {"a": 1}
    for case in ("tools", "legacy", "tools as text", "bare tools"):
        assert read(case).tools == [TOOL]
    assert read("tools that are none").tools == []
    assert read("other reasoning").messages[0].reasoning_content == "b"
    assert (read("row fields").id, read("tools").id) == ("7", "rows-1")


def test_an_edited_call_is_exported_as_edited(tmp_path: Path) -> None:
    for case in ("tools", "arguments as object", "flat call", "no arguments"):
        (stored,) = through_disk([OPENAI[case]], read_openai, tmp_path)
        stored.messages[0].tool_calls[0].arguments = {"a": 2}
        (exported,) = openai_row(stored)["messages"][0]["tool_calls"]
        assert exported["function"] == {"name": "find", "arguments": '{"a": 2}'}


def hermes(*calls: dict[str, Any]) -> str:
    return "\n".join(f"<tool_call>\n{json.dumps(call)}\n</tool_call>" for call in calls)


CALL = {"name": "find", "arguments": {"a": 1}}


def turns(*pairs: tuple[str, str]) -> dict[str, Any]:
    return {"conversations": [{"from": speaker, "value": value} for speaker, value in pairs]}


SHAREGPT: dict[str, dict[str, Any]] = {
    "plain": turns(("system", "s"), ("human", "hi"), ("gpt", " hello \n")),
    "other names": turns(("user", "hi"), ("assistant", "hello"), ("human", "a"), ("chatgpt", "b"), ("model", "c")),
    "call turns": turns(("human", "q"), ("function_call", json.dumps(CALL)), ("observation", "1"), ("gpt", "one")),
    "parallel list": turns(("function_call", json.dumps([CALL, CALL])), ("observation", "1"), ("observation", "2")),
    "parallel turns": turns(
        ("function_call", json.dumps(CALL)), ("tool_call", json.dumps({**CALL, "id": "c", "more": 1})), ("tool", "1")
    ),
    "calls apart": turns(
        ("function_call", json.dumps(CALL)), ("observation", "1"), ("function_call", json.dumps(CALL))
    ),
    "parameters": turns(("function_call", '{"name":"find","parameters":{"a":1}}')),
    "hermes": turns(
        ("gpt", f"Let me look.\n{hermes(CALL)}"), ("tool", "<tool_response>\n1\n</tool_response>"), ("gpt", "one")
    ),
    "hermes spaced": turns(("gpt", f"  <think>hm</think>\n\n{hermes(CALL, CALL)}\n")),
    "hermes broken": turns(("gpt", "<tool_call>\n{oops}\n</tool_call>")),
    "named response": turns(
        ("tool", '<tool_response>\n{"tool_call_id": "c", "name": "find", "content": {"n": 1}}\n</tool_response>')
    ),
    "two responses": turns(
        ("gpt", hermes(CALL, CALL)),
        ("tool", "<tool_response>\n1\n</tool_response>\n<tool_response>\n2\n</tool_response>"),
    ),
    "response among text": turns(("tool", "see <tool_response>1</tool_response>")),
    "row fields": {**turns(("human", "hi")), "id": "x", "tools": json.dumps([TOOL["function"]]), "score": 3},
    "system column": {**turns(("human", "hi")), "system": "be kind"},
    "empty system column": {**turns(("human", "hi")), "system": ""},
    "turn fields": {"conversations": [{"from": "gpt", "value": "a", "weight": 1, "loss": None}]},
    "role and content": {"conversations": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
    "conversation": {"conversation": [{"from": "human", "value": "a"}]},
}


@pytest.mark.parametrize("case", SHAREGPT, ids=SHAREGPT.keys())
def test_sharegpt_rows_are_given_back(case: str, tmp_path: Path) -> None:
    (stored,) = through_disk([SHAREGPT[case]], read_sharegpt, tmp_path)
    assert sharegpt_row(stored) == SHAREGPT[case]


def test_sharegpt_rows_are_understood(tmp_path: Path) -> None:
    def read(case: str) -> list[Message]:
        return through_disk([SHAREGPT[case]], read_sharegpt, tmp_path)[0].messages

    def shape(case: str) -> list[tuple[str, int]]:
        return [(message.role, len(message.tool_calls)) for message in read(case)]

    assert shape("other names") == [("user", 0), ("assistant", 0), ("user", 0), ("assistant", 0), ("assistant", 0)]
    assert shape("call turns") == [("user", 0), ("assistant", 1), ("tool", 0), ("assistant", 0)]
    assert shape("parallel list") == [("assistant", 2), ("tool", 0), ("tool", 0)]
    assert shape("parallel turns") == [("assistant", 2), ("tool", 0)]
    assert shape("calls apart") == [("assistant", 1), ("tool", 0), ("assistant", 1)]
    assert shape("hermes") == [("assistant", 1), ("tool", 0), ("assistant", 0)]
    assert shape("two responses") == [("assistant", 2), ("tool", 0), ("tool", 0)]
    for case in ("parallel list", "parameters", "hermes", "hermes spaced"):
        for call in read(case)[0].tool_calls:
            assert (call.name, call.arguments) == ("find", {"a": 1})
    assert read("hermes")[0].content == "Let me look." and read("hermes")[1].content == "1"
    assert read("hermes spaced")[0].reasoning_content == "hm"
    broken = read("hermes broken")[0]
    assert broken.tool_calls == [] and broken.text == SHAREGPT["hermes broken"]["conversations"][0]["value"]
    assert "bad JSON" in broken.source["malformed"]
    named = read("named response")[0]
    assert (named.tool_call_id, named.name, named.content) == ("c", "find", '{"n": 1}')
    assert read("plain")[2].content == " hello \n"
    assert [message.role for message in read("system column")] == ["system", "user"]
    (fields,) = through_disk([SHAREGPT["row fields"]], read_sharegpt, tmp_path)
    assert (fields.id, fields.tools) == ("x", [TOOL])


def test_an_edited_turn_is_exported_as_edited(tmp_path: Path) -> None:
    (stored,) = through_disk([SHAREGPT["hermes spaced"]], read_sharegpt, tmp_path)
    stored.messages[0].tool_calls = [ToolCall(name="find", arguments={"a": 2})]
    (turn,) = sharegpt_row(stored)["conversations"]
    assert turn["value"] == "<think>\nhm\n</think>\n" + hermes({"name": "find", "arguments": {"a": 2}})
    (stored,) = through_disk([SHAREGPT["system column"]], read_sharegpt, tmp_path)
    stored.messages[0].content = "be brief"
    assert sharegpt_row(stored)["system"] == "be brief"


# ------------------------------------------------------------------------------------- from one format to another


@pytest.mark.parametrize("name", ["gpt-4.1_telecom", "claude-sonnet-4-5_airline"])
@pytest.mark.parametrize("target", ["openai", "sharegpt"])
@pytest.mark.parametrize("suffix", [".json", ".jsonl.gz"])
def test_recorded_runs_can_be_exported(name: str, target: str, suffix: str, shared_data: Path, tmp_path: Path) -> None:
    recorded = list(read_tau2(shared_data / "tau2" / f"{name}.json"))
    path = tmp_path / f"out{suffix}"
    assert save_trajectories(path, recorded, target) == len(recorded)
    back = list(load_trajectories(path))
    assert [one.id for one in back] == [one.id for one in recorded]
    for before, after in zip(recorded, back, strict=True):
        seen = [message for message in before.messages if message.visible_to_agent]
        assert [message.role for message in after.messages] == [message.role for message in seen]
        for expected, message in zip(seen, after.messages, strict=True):
            assert message.text.strip() == expected.text.strip()
            pairs = [(call.name, call.arguments) for call in message.tool_calls]
            assert pairs == [(call.name, call.arguments) for call in expected.tool_calls]
            if target == "openai":
                assert [c.id for c in message.tool_calls] == [c.id for c in expected.tool_calls]
                assert message.tool_call_id == expected.tool_call_id


def test_calls_without_ids_get_one_for_openai(tmp_path: Path) -> None:
    (stored,) = through_disk([SHAREGPT["two responses"]], read_sharegpt, tmp_path)
    rows = openai_row(stored)["messages"]
    assert [call["id"] for call in rows[0]["tool_calls"]] == ["call_0", "call_1"]
    assert [row["tool_call_id"] for row in rows[1:]] == ["call_0", "call_1"]


# --------------------------------------------------------------------------------------------------- bad input

USER = {"role": "user", "content": "a"}
BAD_OPENAI: list[tuple[Any, str | None]] = [
    ([USER], None),
    ({"prompt": "a"}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": "hi"}, "messages"),
    ({"messages": ["hi"]}, "messages.0"),
    ({"messages": [USER, {"content": "a"}]}, "messages.1.role"),
    ({"messages": [{"role": "judge", "content": "a"}]}, "messages.0.role"),
    ({"messages": [{"role": "user", "content": 1}]}, "messages.0.content"),
    ({"messages": [{"role": "assistant", "tool_calls": 1}]}, "messages.0.tool_calls"),
    ({"messages": [{"role": "assistant", "tool_calls": [1]}]}, "messages.0.tool_calls.0"),
    ({"messages": [called(function=1)]}, "messages.0.tool_calls.0.function"),
    ({"messages": [called(function={})]}, "messages.0.tool_calls.0.function.name"),
    ({"messages": [called(function={"name": 1})]}, "messages.0.tool_calls.0.function.name"),
    ({"messages": [called(**find(5))]}, "messages.0.tool_calls.0.function.arguments"),
    ({"messages": [{"role": "assistant", "function_call": "f"}]}, "messages.0.function_call"),
]  # fmt: skip
BAD_SHAREGPT: list[tuple[Any, str | None]] = [
    ([USER], None),
    ({"conversations": []}, "conversations"),
    ({"conversations": {}}, "conversations"),
    ({"conversations": ["hi"]}, "conversations.0"),
    ({"conversations": [{"value": "a"}]}, "conversations.0.from"),
    ({"conversations": [{"from": 1, "value": "a"}]}, "conversations.0.from"),
    (turns(("human", "a"), ("judge", "a")), "conversations.1.from"),
    ({"conversations": [{"from": "human"}]}, "conversations.0.value"),
    ({"conversations": [{"from": "human", "value": 5}]}, "conversations.0.value"),
    (turns(("function_call", "{oops")), "conversations.0.value"),
    (turns(("function_call", '{"arguments": {}}')), "conversations.0.value"),
    (turns(("function_call", '{"name": "f", "arguments": 5}')), "conversations.0.value.arguments"),
]


@pytest.mark.parametrize(
    ("reader", "good", "bad", "field"),
    [("openai", OPENAI["text only"], *case) for case in BAD_OPENAI]
    + [("sharegpt", SHAREGPT["plain"], *case) for case in BAD_SHAREGPT],
)
@pytest.mark.parametrize("shape", ["jsonl", "array"])
def test_bad_rows_are_located_and_skipped(
    reader: str, good: Any, bad: Any, field: str | None, shape: str, tmp_path: Path
) -> None:
    path = tmp_path / "rows.data"
    lines = [json.dumps(row) for row in (good, bad, good)]
    path.write_text("\n".join(lines) if shape == "jsonl" else "[\n" + ",\n".join(lines) + "\n]", encoding="utf-8")
    with pytest.raises(BadInput) as caught:
        list(load_trajectories(path, reader))
    if shape == "array":  # elements start on the line after the bracket, and are named by their index
        field = f"1.{field}" if field else "1"
    located = f"{path}:{2 if shape == 'jsonl' else 3}: " + (f"field {field}: " if field else "")
    assert str(caught.value).startswith(located)
    errors: list[BadInput] = []
    assert [one.id for one in load_trajectories(path, reader, "skip", errors)] == ["rows-1", "rows-3"]
    assert [str(error) for error in errors] == [str(caught.value)]
