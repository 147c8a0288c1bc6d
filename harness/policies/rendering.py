"""What policies that sample token ids share: prompts in, completions out, by one piece of code for every engine.

A prompt is rendered and encoded by :class:`~pivotgym.harness.chat.ChatFormat` and reaches the engine as ids; what the
engine sampled stays as ids. So the ids a trainer sees do not depend on which engine sampled them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pivotgym.envs.actions import parse_action
from pivotgym.envs.errors import BadInput
from pivotgym.envs.trajectory import Message
from pivotgym.harness.chat import ChatFormat
from pivotgym.harness.policies.base import Completion, Conversation, PromptTooLong
from pivotgym.harness.policies.embedded import chat_template, embedded_model


def distinct_prompts(
    chat: ChatFormat, conversations: Sequence[Conversation], context: int
) -> dict[tuple[int, ...], list[int]]:
    """The prompts of a batch, each with the places of the conversations that have it.

    Args:
        chat: the model's template.
        conversations: the batch.
        context: tokens the model can see.

    Raises:
        PromptTooLong: a prompt leaves no room for an answer.
    """
    prompts: dict[tuple[int, ...], list[int]] = {}
    for index, conversation in enumerate(conversations):
        ids = chat.prompt_ids(conversation)
        if len(ids) >= context:
            raise PromptTooLong(index, len(ids), context)
        prompts.setdefault(tuple(ids), []).append(index)
    return prompts


def completion_of(
    chat: ChatFormat, prompt_ids: list[int], token_ids: list[int], logprobs: list[float], *, ended: bool
) -> Completion:
    """What was sampled, as an action.

    Args:
        chat: the model's template.
        prompt_ids: the prompt.
        token_ids: as sampled, the end-of-turn token included where there is one.
        logprobs: one a token.
        ended: whether the last token ended the turn; otherwise it was cut off.
    """
    # Ends the model's own configuration names beside the template's are no part of the text either.
    text = chat.text(token_ids[:-1] if ended else token_ids)
    thinking = chat.thinks(prompt_ids)
    if ended:
        message, malformed = parse_action(text, thinking=thinking)
    else:
        message = Message(role="assistant", content=text)
        malformed = f"cut off after {len(token_ids)} tokens"
        if "</think>" not in text and (thinking or "<think>" in text):
            malformed += ", within its reasoning"
    return Completion(
        message=message,
        text=text,
        prompt_ids=prompt_ids,
        token_ids=token_ids,
        logprobs=logprobs,
        stop_reason="stop" if ended else "length",
        malformed=malformed,
        all_reasoning=thinking and "</think>" not in text,
    )


def generation_ends(config: Any) -> frozenset[int]:
    """The ids that end a sample by a model's generation configuration; None of one has none."""
    ends = getattr(config, "eos_token_id", None)
    return frozenset(ends if isinstance(ends, list) else [] if ends is None else [ends])


def load_tokenizer(source: str) -> Any:
    """The tokenizer of ``embedded``, a model folder, or a Hugging Face name.

    The embedded model comes with the package's own chat template.

    Raises:
        BadInput: there is none.
        EmbeddedModelUnavailable: the embedded model could not be obtained.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(str(model_folder(source)))
    except (OSError, ValueError, KeyError) as problem:
        raise cannot_load(source, problem) from problem
    if source == "embedded":
        tokenizer.chat_template = chat_template()
    return tokenizer


def model_folder(source: str) -> Path | str:
    """Where the files of ``source`` are: a folder, or the name on the hub as it is."""
    return embedded_model() if source == "embedded" else source


def cannot_load(source: str, problem: Exception) -> BadInput:
    """The error for a model that does not load, with the first line of why."""
    reason = next(iter(str(problem).strip().splitlines()), type(problem).__name__)
    return BadInput(f"cannot load model {source!r}: {reason}")
