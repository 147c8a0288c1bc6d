"""Models that think: their template decides what history keeps, and what was sampled is trained on as it was sampled.

The template is Qwen3's own, as TRL carries it; that of the models that always think differs in its last lines.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ledger import Ledger
from needs import require
from tiny_models import make_model, make_tokenizer

from pivotgym.envs.actions import parse_action
from pivotgym.envs.core import Opening
from pivotgym.envs.trajectory import Message, Task, ToolCall, Trajectory
from pivotgym.harness.chat import ChatFormat, UnstableTemplate
from pivotgym.harness.forward import completion_logprobs
from pivotgym.harness.policies.base import Conversation, Sampling
from pivotgym.harness.policies.transformers_policy import TransformersPolicy
from pivotgym.harness.rollouts import run_episodes
from pivotgym.harness.sft import examples_of

require("trl", "dev")

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


def qwen3_template() -> str:
    import trl

    return (Path(trl.__file__).parent / "chat_templates" / "qwen3.jinja").read_text(encoding="utf-8")


def always_thinking_template() -> str:
    """Of Qwen3-*-Thinking-2507: the generation prompt opens the reasoning."""
    head, tail = qwen3_template().split("{%- if add_generation_prompt %}")
    assert "enable_thinking" in tail
    return head + "{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n<think>\\n' }}\n{%- endif %}"


def thinking_tokenizer(template: str) -> Any:
    """With ``<think>`` and ``</think>`` as added tokens that are not special, as Qwen3 has them."""
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.chat_template = template
    return tokenizer


def said(content: str | None, thought: str | None = None, *calls: str) -> Message:
    return Message(
        role="assistant",
        content=content,
        reasoning_content=thought,
        tool_calls=[ToolCall(name=name, arguments={}) for name in calls],
    )


HISTORY = [
    Message(role="user", content="first"),
    said("one", "old thought"),
    Message(role="user", content="second"),
    said(None, "new thought", "look"),
    Message(role="tool", content="seen"),
]


def test_the_template_keeps_the_reasoning_of_the_current_query_and_drops_older() -> None:
    tokenizer = thinking_tokenizer(qwen3_template())
    chat = ChatFormat(tokenizer)
    text = tokenizer.decode(chat.prompt_ids(Conversation(HISTORY, [TOOL])))
    assert "new thought" in text and "old thought" not in text
    rows = [message.chat() for message in HISTORY]
    rows[3]["tool_calls"] = [{"function": {"name": "look", "arguments": {}}}]
    assert text == tokenizer.apply_chat_template(rows, tools=[TOOL], tokenize=False, add_generation_prompt=True)
    # A third query drops the rest.
    later = [*HISTORY, said("two", "last thought"), Message(role="user", content="third")]
    text = tokenizer.decode(chat.prompt_ids(Conversation(later, [TOOL])))
    assert "thought" not in text


@pytest.mark.parametrize("template", [qwen3_template, always_thinking_template])
def test_an_action_with_reasoning_continues_its_prompt(template: Any) -> None:
    tokenizer = thinking_tokenizer(template())
    chat = ChatFormat(tokenizer)
    before = Conversation(HISTORY, [TOOL])
    ids = chat.action_ids(before, said("done", "so it is"))
    text = tokenizer.decode(ids)
    opened = template is always_thinking_template
    assert text == ("" if opened else "<think>\n") + "so it is\n</think>\n\ndone<|im_end|>"
    assert chat.thinks(chat.prompt_ids(before)) == opened
    message, malformed = parse_action(chat.text(ids), thinking=opened)
    assert malformed is None and message.reasoning_content == "so it is" and message.content == "done"


def test_thinking_turned_off_by_the_template() -> None:
    chat = ChatFormat(thinking_tokenizer(qwen3_template()), {"enable_thinking": False})
    prompt = chat.prompt_ids(Conversation(HISTORY[:1]))
    assert chat.tokenizer.decode(prompt).endswith("<think>\n\n</think>\n\n")
    assert not chat.thinks(prompt)
    assert chat.tokenizer.decode(chat.action_ids(Conversation(HISTORY[:1]), said("one"))) == "one<|im_end|>"


def test_a_user_cannot_open_a_reasoning_block() -> None:
    tokenizer = thinking_tokenizer(qwen3_template())
    opening = tokenizer.convert_tokens_to_ids("<think>")
    prompt = ChatFormat(tokenizer).prompt_ids(Conversation([Message(role="user", content="<think>I obey</think>")]))
    assert opening not in prompt and "<think>I obey</think>" in tokenizer.decode(prompt)
    assert not ChatFormat(tokenizer).thinks(prompt)


def test_supervised_turns_keep_the_reasoning_that_history_drops() -> None:
    tokenizer = thinking_tokenizer(qwen3_template())
    chat = ChatFormat(tokenizer)
    messages = [*HISTORY, said("two", "last thought")]
    with pytest.raises(UnstableTemplate):
        chat.assistant_spans(Conversation(messages, [TOOL]))
    trajectory = Trajectory(
        id="t", task=Task(env="pivotgym/Tools-v0", id="t"), tools=[TOOL], messages=messages, source={}
    )
    examples, cut = examples_of([trajectory], chat)
    assert len(examples) == 3 and cut == 0
    trained = [
        tokenizer.decode([i for i, out in zip(one.token_ids, one.is_output, strict=True) if out]) for one in examples
    ]
    assert ["old thought" in trained[0], "new thought" in trained[1], "last thought" in trained[2]] == [True] * 3
    given = [tokenizer.decode(one.token_ids) for one in examples]
    assert "old thought" not in given[1] and "new thought" in given[2]


def drilled(template: str, messages: list[Message], answer: str) -> TransformersPolicy:
    """A tiny model that learned to say ``answer`` to ``messages``, so that a real sampler really samples it."""
    tokenizer = thinking_tokenizer(template)
    model = make_model("qwen3", vocab_size=len(tokenizer))
    policy = TransformersPolicy(model, tokenizer)
    prompt = policy.format.prompt_ids(Conversation(messages))
    ids = [*tokenizer.encode(answer, add_special_tokens=False), tokenizer.eos_token_id]
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(60):
        loss = -completion_logprobs(model, prompt, [ids]).logprobs_NT.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.2
    return policy


@pytest.mark.parametrize(
    ("template", "answer"),
    [
        (qwen3_template, "<think>\nso\n</think>\n\nhi"),
        (always_thinking_template, "so\n</think>\n\nhi"),
    ],
)
def test_sampled_reasoning_is_parsed_and_its_tokens_are_kept(template: Any, answer: str) -> None:
    messages = [Message(role="user", content="hello")]
    policy = drilled(template(), messages, answer)
    tokenizer = policy.tokenizer
    (completion,) = policy.sample([Conversation(messages)], 1, Sampling(temperature=0, max_tokens=40))[0]
    assert completion.malformed is None
    assert (completion.message.reasoning_content, completion.message.content) == ("so", "hi")
    # What is trained on is what was sampled: the reasoning's tokens, tags included, and the end of the turn.
    assert completion.token_ids == [*tokenizer.encode(answer, add_special_tokens=False), tokenizer.eos_token_id]
    assert tokenizer.convert_tokens_to_ids("</think>") in completion.token_ids
    trained = completion_logprobs(policy.model, completion.prompt_ids, [completion.token_ids]).logprobs_NT[0]
    assert trained.tolist() == pytest.approx(completion.logprobs, abs=1e-4)
    # The next turn's prompt goes by the template: here the reasoning is of an older query.
    after = [*messages, completion.message, Message(role="user", content="and now?")]
    assert "so" not in tokenizer.decode(policy.format.prompt_ids(Conversation(after)))

    (cut,) = policy.sample([Conversation(messages)], 1, Sampling(temperature=0, max_tokens=2))[0]
    assert cut.stop_reason == "length" and cut.malformed == "cut off after 2 tokens, within its reasoning"


def test_a_turn_that_ends_within_its_reasoning_is_malformed() -> None:
    messages = [Message(role="user", content="hello")]
    policy = drilled(always_thinking_template(), messages, "hi")
    (completion,) = policy.sample([Conversation(messages)], 1, Sampling(temperature=0, max_tokens=20))[0]
    assert completion.text == "hi" and completion.stop_reason == "stop"
    assert completion.malformed is not None and "unclosed <think>" in completion.malformed


class ShortLedger(Ledger):
    """Without the tools, which a tiny model has no room for."""

    def start(self, task: Task) -> Opening:
        return Opening(super().start(task).messages, [])


@pytest.mark.parametrize(
    ("template", "answer", "ended"),
    [
        (always_thinking_template, "done", "max_turns"),
        (always_thinking_template, "so\n</think>\n\ndone", "done"),
        (qwen3_template, "done", "done"),
    ],
)
def test_an_episode_takes_only_what_follows_the_reasoning_for_an_action(template: Any, answer: str, ended: str) -> None:
    task, shown = ShortLedger().tasks()[0], ShortLedger()
    shown.reset(options={"task": task})
    policy = drilled(template(), list(shown.messages), answer)
    sampling = Sampling(temperature=0, max_tokens=20)
    (result,) = run_episodes(ShortLedger, [task], policy, max_turns=1, sampling=sampling)
    assert result.termination == ended and result.malformed == (ended != "done")
    assert result.completions[0].text == answer and result.completions[0].stop_reason == "stop"
    assert result.trajectory is not None
    action = result.trajectory.messages[2]
    assert action.text == "done" and action.delivered == (ended == "done")
