"""parse_action: what is an action, and why text is none."""

from __future__ import annotations

import json

import pytest

from pivotgym.envs.actions import parse_action

CALL = '<tool_call>\n{"name": "get", "arguments": {"id": "A1", "n": 2}}\n</tool_call>'


def test_one_call() -> None:
    message, reason = parse_action(CALL)
    assert reason is None
    assert message.role == "assistant" and message.content is None
    assert [(call.name, call.arguments, call.id) for call in message.tool_calls] == [
        ("get", {"id": "A1", "n": 2}, None)
    ]


def test_reasoning_text_and_several_calls_in_order() -> None:
    text = (
        f'<think>\nfirst\n</think>\n\nLet me see.\n{CALL}\n<tool_call>{{"name": "put", "arguments": {{}}}}</tool_call>'
    )
    message, reason = parse_action(text)
    assert reason is None
    assert (message.reasoning_content, message.content) == ("first", "Let me see.")
    assert [call.name for call in message.tool_calls] == ["get", "put"]


def test_reasoning_whose_opening_tag_was_in_the_prompt() -> None:
    message, reason = parse_action("hm, so\n</think>\n\nYes.")
    assert (reason, message.reasoning_content, message.content) == (None, "hm, so", "Yes.")


def test_plain_text_keeps_angle_brackets() -> None:
    message, reason = parse_action(" a < b and <b>c</b> \n")
    assert (reason, message.content, message.tool_calls) == (None, "a < b and <b>c</b>", [])


@pytest.mark.parametrize("inside", ["</tool_call>", "<think>", "<tool_call>", "</think>", 'a "quote" \\ and \n'])
def test_a_json_string_may_hold_any_markup(inside: str) -> None:
    body = json.dumps({"name": "say", "arguments": {"text": inside}})
    message, reason = parse_action(f"<tool_call>{body}</tool_call>{CALL}")
    assert reason is None
    assert message.tool_calls[0].arguments == {"text": inside}
    assert message.tool_calls[1].name == "get"


def test_arguments_may_be_left_out() -> None:
    message, reason = parse_action('<tool_call>{"name": "list"}</tool_call>')
    assert reason is None and message.tool_calls[0].arguments == {}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty output"),
        (" \n\t", "empty output"),
        ("<think>so</think>\n ", "empty output: nothing after the reasoning"),
        ("<think>so", "unclosed <think>"),
        ("ok <think>so", "unclosed <think>"),
        ("a</think>b</think>c", "</think> without <think>"),
        ('<tool_call>{"name": "a", "arguments": {}}', "unclosed <tool_call>"),
        ('<tool_call>{"name": "a", "argu', "unclosed <tool_call>"),
        ("<tool_call>", "unclosed <tool_call>"),
        (f'<tool_call>{{"name": "a", "arguments": {{}}}}{CALL}', "bad JSON in <tool_call>: text after the JSON object"),
        ('{"name": "a"}</tool_call>', "</tool_call> without <tool_call>"),
        ("<tool_call>\n</tool_call>", "empty <tool_call>"),
        ("<tool_call>{'name': 'a'}</tool_call>", "bad JSON in <tool_call>"),
        ('<tool_call>{"name": "a", "arguments": {}} x</tool_call>', "text after the JSON object"),
        ('<tool_call>{"name": "a", "arguments": {"x": NaN}}</tool_call>', "NaN is not JSON"),
        ('<tool_call>[{"name": "a"}]</tool_call>', "a tool call must be a JSON object, not an array"),
        ('<tool_call>"a"</tool_call>', "a tool call must be a JSON object, not a string"),
        ("<tool_call>null</tool_call>", "a tool call must be a JSON object, not null"),
        ('<tool_call>{"arguments": {}}</tool_call>', "a tool call without a name"),
        ('<tool_call>{"name": "", "arguments": {}}</tool_call>', "a tool call without a name"),
        ('<tool_call>{"name": 3, "arguments": {}}</tool_call>', "a tool call's name must be a string"),
        (
            '<tool_call>{"name": "a", "arguments": [1]}</tool_call>',
            "arguments of a must be a JSON object, not an array",
        ),
        (
            '<tool_call>{"name": "a", "arguments": "{}"}</tool_call>',
            "arguments of a must be a JSON object, not a string",
        ),
        ('<tool_call>{"name": "a", "arguments": null}</tool_call>', "arguments of a must be a JSON object, not null"),
        ('<tool_call>{"name": "a", "arguments": {"x": "\\ud800"}}</tool_call>', "lone surrogate"),
        ("<tool_call>" + "[" * 100_000 + "</tool_call>", "bad JSON in <tool_call>"),
    ],
)
def test_malformed_text_is_kept_raw_with_a_reason(text: str, reason: str) -> None:
    message, found = parse_action(text)
    assert found is not None and reason in found
    assert "\n" not in found
    assert message.content == text and not message.tool_calls and message.reasoning_content is None


def test_five_megabytes_parse_in_a_moment() -> None:
    body = json.dumps({"name": "say", "arguments": {"text": "x<think>" * 600_000}})
    message, reason = parse_action(f"<tool_call>{body}</tool_call>")
    assert reason is None and len(message.tool_calls[0].arguments["text"]) == 4_800_000  # type: ignore[index]
