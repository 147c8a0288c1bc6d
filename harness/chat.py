"""Conversations to token ids, so that nothing a tool or user wrote can become a special token (law 6)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pivotgym.envs.errors import BadInput
from pivotgym.envs.trajectory import Message
from pivotgym.harness.policies.base import Conversation

_LOOK_BACK = 16
"""The last so many tokens of a prompt hold whatever a generation prompt ends with, byte by byte if need be."""
_PRIVATE_USE = range(0xF0000, 0xFFFFE)


class UnstableTemplate(BadInput):
    """A chat template renders the beginning of a conversation differently once the conversation goes on."""


@dataclass(frozen=True)
class AssistantSpans:
    """A whole conversation as token ids.

    Attributes:
        token_ids: ``L`` token ids.
        is_output: ``L`` flags, true for what the assistant had to emit: its text, its calls, its end-of-turn token.
        spans: one half-open ``(start, end)`` into ``token_ids`` for each assistant message, in order.
    """

    token_ids: list[int]
    is_output: list[bool]
    spans: list[tuple[int, int]]


class ChatFormat:
    """A tokenizer's chat template, made safe.

    Where content holds the text of a special token (``<|im_end|>``), that occurrence is cut behind its first
    character and the pieces are encoded apart, so the model reads the same characters as ordinary tokens. This
    holds for every string of a conversation: content, call arguments, tool names, tool schemas.

    Protected are all tokens the tokenizer calls special and, outside of what the assistant itself wrote, the
    added tokens the chat template uses as markup (Qwen's ``<tool_response>`` is an added token, not a special one).

    Args:
        tokenizer: any Hugging Face tokenizer with a chat template.
        template_args: extra variables for the template (``enable_thinking`` and the like).

    Raises:
        BadInput: the tokenizer has no chat template.
    """

    def __init__(self, tokenizer: Any, template_args: dict[str, Any] | None = None) -> None:
        if not getattr(tokenizer, "chat_template", None):
            raise BadInput(f"tokenizer {getattr(tokenizer, 'name_or_path', '')!r} has no chat template")
        self.tokenizer = tokenizer
        self.template_args = dict(template_args or {})
        added: dict[int, Any] = tokenizer.added_tokens_decoder
        special = {token.content: index for index, token in added.items() if token.special and len(token.content) > 1}
        markup = {token.content for token in added.values() if token.content.strip() and len(token.content) > 1}
        template = str(tokenizer.chat_template)
        self._special = _alternatives(special)
        self._protected = _alternatives({*special, *(text for text in markup if text in template)})
        # A tokenizer without byte fallback gives the unknown token for ordinary text; that is no injection.
        self._special_ids = frozenset(special.values()) - {tokenizer.unk_token_id}
        self.end_ids = self._find_end_ids()

    def prompt_ids(self, conversation: Conversation) -> list[int]:
        """Token ids of the conversation up to and including the generation prompt."""
        sentinel = self._sentinel(conversation)
        return self._encode(self._render(conversation, sentinel, generation_prompt=True), sentinel)

    def action_ids(self, conversation: Conversation, action: Message) -> list[int]:
        """The ids a policy has to emit after ``prompt_ids(conversation)`` to take ``action``, end of turn included.

        Raises:
            UnstableTemplate: the template does not render the action as a continuation of the prompt.
        """
        whole = Conversation([*conversation.messages, action], conversation.tools)
        sentinel = self._sentinel(whole)
        prompt = self._render(conversation, sentinel, generation_prompt=True)
        text = self._render(whole, sentinel, generation_prompt=False)
        if not text.startswith(prompt):
            raise UnstableTemplate("the chat template does not continue its own generation prompt with the action")
        return self._until_end(self._encode(text[len(prompt) :], sentinel))

    def assistant_spans(self, conversation: Conversation) -> AssistantSpans:
        """The whole conversation as ids, with what the assistant emitted marked.

        For every assistant message the ids before it equal :meth:`prompt_ids` of the messages before it.

        Raises:
            UnstableTemplate: that does not hold, for example because the template drops the reasoning of earlier
                turns, or a token spans the border; or a turn's own reasoning is not in the whole. Train such turns
                one by one with :meth:`action_ids`.
        """
        sentinel = self._sentinel(conversation)
        ids = self._encode(self._render(conversation, sentinel, generation_prompt=False), sentinel)
        is_output = [False] * len(ids)
        spans: list[tuple[int, int]] = []
        for index, message in enumerate(conversation.messages):
            if message.role != "assistant":
                continue
            before = Conversation(conversation.messages[:index], conversation.tools)
            prompt = self._encode(self._render(before, sentinel, generation_prompt=True), sentinel)
            start = len(prompt)
            if ids[:start] != prompt:
                raise UnstableTemplate(
                    "the chat template renders the messages before this turn differently when the turn follows",
                    field=f"messages.{index}",
                )
            emitted = self._until_end(ids[start:])
            # Reasoning that later turns do not see was emitted all the same, and has to be trained.
            if message.reasoning_content and emitted != self.action_ids(before, message):
                raise UnstableTemplate(
                    "the chat template leaves out this turn's reasoning when other turns follow",
                    field=f"messages.{index}",
                )
            end = start + len(emitted)
            is_output[start:end] = [True] * (end - start)
            spans.append((start, end))
        return AssistantSpans(ids, is_output, spans)

    def thinks(self, prompt_ids: Sequence[int]) -> bool:
        """Whether a prompt ends within a reasoning block, as templates of models that always think make it."""
        text: str = self.tokenizer.decode(list(prompt_ids[-_LOOK_BACK:]), skip_special_tokens=False)
        return text.rstrip().endswith("<think>")

    def text(self, token_ids: Sequence[int]) -> str:
        """The text of sampled ids without the end-of-turn token; other special tokens stay visible."""
        ids = list(token_ids)
        if ids and ids[-1] in self.end_ids:
            ids.pop()
        decoded: str = self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return decoded

    def _find_end_ids(self) -> frozenset[int]:
        """The first special token behind an assistant message, as the template writes it, and the tokenizer's EOS."""
        probe = "pivot"
        messages = [Message(role="user", content="hello"), Message(role="assistant", content=probe)]
        text = self._render(Conversation(messages), "", generation_prompt=False)
        behind = self._encode(text[text.rindex(probe) + len(probe) :], "") if probe in text else []
        end = next((index for index in behind if index in self._special_ids), None)
        found = {index for index in (end, self.tokenizer.eos_token_id) if index is not None}
        if not found:
            raise BadInput("the tokenizer has no end-of-turn token")
        return frozenset(found)

    def _until_end(self, ids: list[int]) -> list[int]:
        for position, index in enumerate(ids):
            if index in self.end_ids:
                return ids[: position + 1]
        raise UnstableTemplate("the chat template writes no end-of-turn token behind an assistant message")

    def _render(self, conversation: Conversation, sentinel: str, *, generation_prompt: bool) -> str:
        messages = [self._chat(message) for message in conversation.messages]
        tools: list[Any] | None = list(conversation.tools) or None
        if sentinel:
            messages = [self._cut_message(message, sentinel) for message in messages]
            tools = tools and _map_strings(tools, lambda text: _cut(text, self._protected, sentinel))
        rendered: str = self.tokenizer.apply_chat_template(
            messages,
            tools=tools,
            add_generation_prompt=generation_prompt,
            tokenize=False,
            **self.template_args,
        )
        return rendered

    def _chat(self, message: Message) -> dict[str, Any]:
        """The dict templates expect: text content, call arguments as objects."""
        row = message.chat()
        row["content"] = message.text
        if row["role"] == "developer" and "developer" not in str(self.tokenizer.chat_template):
            row["role"] = "system"
        for call, dumped in zip(message.tool_calls, row.get("tool_calls", ()), strict=False):
            dumped["function"]["arguments"] = call.arguments
        return row

    def _cut_message(self, message: dict[str, Any], sentinel: str) -> dict[str, Any]:
        # The assistant's own markup (a malformed call kept as raw text) was sampled as those tokens.
        pattern = self._special if message["role"] == "assistant" else self._protected
        cut = _map_strings(message, lambda text: _cut(text, pattern, sentinel))
        return {**cut, "role": message["role"]}

    def _sentinel(self, conversation: Conversation) -> str:
        """A character that marks where to cut and occurs nowhere in the conversation; "" where nothing needs it."""
        strings: list[str] = []

        def note(text: str) -> str:
            strings.append(text)
            return text

        for part in (*(self._chat(message) for message in conversation.messages), *conversation.tools):
            _map_strings(part, note)
        if not any(self._protected.search(text) for text in strings):
            return ""
        present = {char for text in strings for char in text if ord(char) >= _PRIVATE_USE.start}
        return next(chr(code) for code in _PRIVATE_USE if chr(code) not in present)

    def _encode(self, text: str, sentinel: str) -> list[int]:
        ids: list[int] = []
        for piece in text.split(sentinel) if sentinel else [text]:
            encoded: list[int] = self.tokenizer.encode(piece, add_special_tokens=False)
            # A normaliser could turn look-alike characters into a special token; better no prompt than that one.
            if sum(index in self._special_ids for index in encoded) > len(self._special.findall(piece)):
                raise BadInput("the tokenizer makes a special token of text that does not spell one")
            ids += encoded
        return ids


def _alternatives(texts: Any) -> re.Pattern[str]:
    """Matches any of ``texts``, the longest first as tokenizers do; nothing when there are none."""
    return re.compile("|".join(re.escape(text) for text in sorted(texts, key=len, reverse=True)) or r"(?!)")


def _cut(text: str, pattern: re.Pattern[str], sentinel: str) -> str:
    """Put ``sentinel`` behind the first character of every match, until no match is left."""
    while pattern.search(text):
        text = pattern.sub(lambda match: match.group()[0] + sentinel + match.group()[1:], text)
    return text


def _map_strings(value: Any, change: Callable[[str], str]) -> Any:
    """``value`` with every string in it (keys too) passed through ``change``."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {_map_strings(key, change): _map_strings(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_map_strings(item, change) for item in value]
    return value
