"""Any OpenAI-compatible chat endpoint as a policy."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from pivotgym.envs.actions import parse_action
from pivotgym.envs.errors import EndpointError
from pivotgym.envs.trajectory import Message, ToolCall, canonical_json
from pivotgym.harness.policies.base import Completion, Conversation, Sampling, StopReason, Usage

_TRANSIENT = frozenset({408, 409, 425, 429})


class Unusable(Exception):
    """The endpoint answered with something that is no chat completion."""


class OpenAIPolicy:
    """Samples from an endpoint; tools travel natively and calls come back parsed.

    An endpoint that does not parse calls itself (they stay in the text in Hermes form) is understood too.

    Args:
        model: the endpoint's model name.
        base_url: for example ``http://localhost:8000/v1``.
        api_key: None takes ``OPENAI_API_KEY``, or a placeholder where that is not set.
        name: shown in reports.
        concurrency: requests under way at once.
        attempts: how often a request is tried before :class:`~pivotgym.envs.errors.EndpointError`.
        timeout: seconds a request may take.
        max_backoff: most seconds between two tries.
        extra_body: additional fields of every request.
        token_ids: also ask for token ids (``return_token_ids``), which vLLM servers give.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str,
        api_key: str | None = None,
        name: str | None = None,
        concurrency: int = 8,
        attempts: int = 5,
        timeout: float = 120.0,
        max_backoff: float = 30.0,
        extra_body: dict[str, Any] | None = None,
        token_ids: bool = False,
    ) -> None:
        self.model, self.base_url = model, base_url
        self.name = name or f"openai:{model}@{base_url}"
        self.usage = Usage()
        self.concurrency, self.attempts, self.max_backoff = concurrency, attempts, max_backoff
        self.extra_body = {**({"return_token_ids": True} if token_ids else {}), **(extra_body or {})} or None
        # Retries are ours: the client's own would multiply with them and hide how long an endpoint is down.
        self._client = openai.OpenAI(
            base_url=base_url,
            api_key=api_key or os.environ.get("OPENAI_API_KEY") or "none",
            timeout=timeout,
            max_retries=0,
        )
        # Optional request fields this endpoint has refused.
        self._refused: set[str] = set()

    @property
    def fingerprint(self) -> str:
        """The name: what is behind an endpoint cannot be seen."""
        return self.name

    def sample(
        self, conversations: Sequence[Conversation], n: int = 1, sampling: Sampling | None = None
    ) -> list[list[Completion]]:
        """``n`` completions for each conversation, in order.

        Token ids are given where they were asked for and the endpoint has them; log-probabilities where the endpoint
        offers them (its sampled tokens', as it defines them).

        Raises:
            EndpointError: a conversation got no usable answer in all attempts.
        """
        sampling = sampling or Sampling()
        started = time.perf_counter()
        if not conversations:
            return []
        with ThreadPoolExecutor(min(self.concurrency, len(conversations))) as pool:
            futures = [
                pool.submit(self._complete, conversation, n, sampling, index)
                for index, conversation in enumerate(conversations)
            ]
            try:
                results = [future.result() for future in futures]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        completions = []
        for drawn, prompt_tokens, sampled_tokens in results:
            completions.append(drawn)
            self.usage.calls += len(drawn)
            self.usage.prompt_tokens += prompt_tokens
            self.usage.sampled_tokens += sampled_tokens
        self.usage.seconds += time.perf_counter() - started
        return completions

    def _complete(
        self, conversation: Conversation, n: int, sampling: Sampling, index: int
    ) -> tuple[list[Completion], int, int]:
        """Completions of one conversation, with prompt tokens and sampled tokens spent."""
        drawn: list[Completion] = []
        prompt_tokens = sampled_tokens = 0
        while len(drawn) < n:
            # An endpoint that ignores or refuses ``n`` gives one choice a request; each then needs its own seed.
            seed = None if sampling.seed is None else sampling.seed + 7919 * index + len(drawn)
            choices, usage = self._request(conversation, n - len(drawn), sampling, seed)
            drawn += choices[: n - len(drawn)]
            prompt_tokens += usage[0]
            sampled_tokens += usage[1]
        return drawn, prompt_tokens, sampled_tokens

    def _request(
        self, conversation: Conversation, n: int, sampling: Sampling, seed: int | None
    ) -> tuple[list[Completion], tuple[int, int]]:
        retrying = Retrying(
            stop=stop_after_attempt(self.attempts),
            wait=wait_random_exponential(multiplier=0.5, max=self.max_backoff),
            retry=retry_if_exception(_is_transient),
            reraise=True,
        )
        try:
            for attempt in retrying:
                with attempt:
                    return self._once(conversation, n, sampling, seed)
        except (openai.OpenAIError, Unusable) as problem:
            line = " ".join(str(problem).split())[:300]
            tries = retrying.statistics.get("attempt_number", 1)
            raise EndpointError(f"{self.base_url} ({self.model}) after {tries} attempts: {line}") from problem
        raise AssertionError("unreachable: tenacity returns or raises")

    def _once(
        self, conversation: Conversation, n: int, sampling: Sampling, seed: int | None
    ) -> tuple[list[Completion], tuple[int, int]]:
        messages: Any = _wire(conversation.messages)
        optional: dict[str, Any] = {"n": n, "logprobs": True, "seed": seed}
        while True:
            fields = {key: value for key, value in optional.items() if key not in self._refused and value is not None}
            if fields.get("n") == 1:
                del fields["n"]
            try:
                response = self._client.chat.completions.with_raw_response.create(
                    model=self.model,
                    messages=messages,
                    tools=list(conversation.tools) or openai.omit,  # type: ignore[arg-type]
                    temperature=sampling.temperature,
                    top_p=sampling.top_p,
                    max_tokens=sampling.max_tokens,
                    extra_body=self.extra_body,
                    **fields,
                )
            except (openai.BadRequestError, openai.UnprocessableEntityError) as problem:
                named = next((key for key in fields if _names(str(problem), key)), None)
                if named is None:
                    raise
                self._refused.add(named)
                continue
            return _read(response.text)


def _wire(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as endpoints accept them: no reasoning of the past, an id on every call and its result."""
    rows = []
    pending: list[str] = []
    for index, message in enumerate(messages):
        row = message.chat()
        row.pop("reasoning_content", None)
        if message.role == "assistant":
            for position, call in enumerate(row.get("tool_calls", ())):
                call.setdefault("id", f"call_{index}_{position}")
            pending = [call["id"] for call in row.get("tool_calls", ())]
        elif message.role == "tool":
            by_position = pending.pop(0) if pending else f"call_{index}"
            row.setdefault("tool_call_id", by_position)
            row["content"] = row["content"] or ""
        rows.append(row)
    return rows


def _names(problem: str, field: str) -> bool:
    """Whether an error text is about request field ``field``."""
    return any(f"{quote}{field}{quote}" in problem for quote in "'\"`") or (field != "n" and field in problem)


def _is_transient(problem: BaseException) -> bool:
    if isinstance(problem, openai.APIStatusError):
        return problem.status_code >= 500 or problem.status_code in _TRANSIENT
    return isinstance(problem, (openai.APIConnectionError, Unusable))


def _read(text: str) -> tuple[list[Completion], tuple[int, int]]:
    try:
        body = json.loads(text)
        choices = body["choices"]
        prompt_ids = [int(index) for index in body.get("prompt_token_ids") or ()]
        completions = [_completion(choice, prompt_ids) for choice in choices]
        usage = body.get("usage") or {}
        spent = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        start = " ".join(text.split())[:120]
        raise Unusable(f"not a chat completion ({type(problem).__name__}): {start!r}") from problem
    if not completions:
        raise Unusable("a chat completion without choices")
    return completions, spent


def _completion(choice: dict[str, Any], prompt_ids: list[int]) -> Completion:
    answer = choice["message"]
    content = answer.get("content")
    if content is not None and not isinstance(content, str):
        raise TypeError("content is no text")
    calls = answer.get("tool_calls") or []
    reasoning = answer.get("reasoning_content") or answer.get("reasoning")
    stop: StopReason = "length" if choice.get("finish_reason") == "length" else "stop"
    malformed: str | None = None
    if calls:
        parsed = [_call(call) for call in calls]
        text = (content or "") + "".join(_hermes(call) for call in parsed)
        message = Message(role="assistant", content=content or None, tool_calls=parsed, reasoning_content=reasoning)
        broken = next((call for call in parsed if not isinstance(call.arguments, dict)), None)
        if not all(call.name for call in parsed):
            malformed = "a tool call without a name"
        elif broken is not None:
            malformed = f"arguments of {broken.name} must be a JSON object"
    else:
        text = content or ""
        message, malformed = parse_action(text)
        if malformed is None and reasoning and not message.reasoning_content:
            message.reasoning_content = reasoning
    if stop == "length":
        malformed = "cut off at the token limit"
    if malformed is not None:
        message = Message(role="assistant", content=text)
    entries = ((choice.get("logprobs") or {}).get("content")) or []
    logprobs = [float(entry["logprob"]) for entry in entries]
    if any(math.isnan(value) for value in logprobs):
        logprobs = []
    return Completion(
        message=message,
        text=text,
        prompt_ids=prompt_ids,
        token_ids=[int(index) for index in choice.get("token_ids") or ()],
        logprobs=logprobs,
        stop_reason=stop,
        malformed=malformed,
    )


def _call(raw: dict[str, Any]) -> ToolCall:
    function = raw["function"]
    return ToolCall(name=function["name"], arguments=function.get("arguments"), id=raw.get("id"))


def _hermes(call: ToolCall) -> str:
    arguments = call.arguments if isinstance(call.arguments, str) else canonical_json(call.arguments, sort=False)
    return f'\n<tool_call>\n{{"name": {json.dumps(call.name)}, "arguments": {arguments}}}\n</tool_call>'
