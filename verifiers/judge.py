"""Judge: an LLM behind any OpenAI-compatible endpoint compares the sampled with the demonstrated action."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import tenacity

from pivotgym.envs.core import AgentEnv
from pivotgym.envs.errors import EndpointError
from pivotgym.envs.trajectory import JsonObject, Message, digest
from pivotgym.verifiers.base import Verdict, Verifier, pivot_of

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam

PROMPT = Path(__file__).with_name("judge.jinja")
_AGAIN = 'That was no usable verdict. Answer with nothing but {"equivalent": true or false, "reason": "one sentence"}.'
_MEMORY = 10_000


class Judge(Verifier):
    """Asks a model whether the sampled action is as good as the demonstrated one.

    It sees the tools, the conversation (cut in the middle above ``max_history_chars``), the demonstration and what it
    brought, and the candidate: all as JSON between marks that carry a digest of their contents, with ``<`` and ``>``
    escaped, so that a candidate can neither close its mark nor pose as the question. Reasoning is not shown.

    Answers are kept by a digest of model and prompt, in memory and, with ``cache``, in a SQLite file that several
    processes may share. A failure that may pass (connection, 429, 5xx) is retried with growing waits; an answer
    without a verdict is asked for once more. After that it is an :class:`EndpointError`, never a reward.
    """

    name = "judge"
    cost = 1000.0

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        cache: str | Path | None = None,
        prompt: str | Path = PROMPT,
        max_history_chars: int = 24_000,
        max_tokens: int = 1024,
        attempts: int = 4,
        first_wait: float = 0.5,
        timeout: float = 60.0,
    ) -> None:
        """Nothing is asked yet.

        Args:
            base_url: the endpoint, as ``http://localhost:8000/v1``.
            model: the model's name there.
            api_key: sent as bearer token; servers of one's own need none.
            cache: SQLite file, made where it does not exist; None keeps answers in memory only.
            prompt: Jinja2 template file.
            max_history_chars: limit of the conversation shown, in characters.
            max_tokens: limit of the answer.
            attempts: requests for one answer before giving up.
            first_wait: seconds before the second request, doubled each time, at most 20.
            timeout: seconds for one request.
        """
        import openai  # a second to import, and few commands judge

        self.model = model
        self.calls = 0
        self._client = openai.OpenAI(base_url=base_url, api_key=api_key or "none", timeout=timeout, max_retries=0)
        self._url = base_url
        self._template = _template(Path(prompt))
        self._max_history_chars, self._max_tokens = max_history_chars, max_tokens
        self._attempts, self._first_wait = attempts, first_wait
        self._memory: OrderedDict[str, JsonObject] = OrderedDict()
        self._file = Path(cache) if cache is not None else None
        self._lock = threading.Lock()

    def verify(self, env: AgentEnv, action: Message) -> Verdict:
        """1 or 0 by rule ``judge``. Raises EndpointError where no verdict can be had."""
        prompt = self.prompt(env, action)
        key = digest(json.dumps([self.model, self._max_tokens, prompt]))
        answer = self._remembered(key)
        cached = answer is not None
        if answer is None:
            answer = self._ask(prompt)
            self._remember(key, answer)
        evidence: JsonObject = {"model": self.model, "cached": cached, "answer": answer}
        return Verdict(
            reward=float(answer["equivalent"]), rule=self.name, reason=str(answer.get("reason", "")), evidence=evidence
        )

    def prompt(self, env: AgentEnv, action: Message) -> str:
        """What the model is asked about ``action``."""
        pivot = pivot_of(env)
        history = "\n".join(_shown(message) for message in env.conversation)
        answer = [message for message in pivot.answer if message.visible_to_agent]
        parts = {
            "tools": _escape(json.dumps([tool.get("function", tool) for tool in env.tools], ensure_ascii=False)),
            "history": cut_middle(history, self._max_history_chars),
            "demonstration": _shown(pivot.demonstration),
            "answer": cut_middle("\n".join(_shown(message) for message in answer), self._max_history_chars // 4),
            "candidate": cut_middle(_shown(action), self._max_history_chars // 2),
        }
        return self._template.render(mark=digest(json.dumps(parts))[:12], **parts)

    def _ask(self, prompt: str) -> JsonObject:
        messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": prompt}]
        text = self._complete(messages)
        verdict = parse_verdict(text)
        if verdict is None:
            again: list[ChatCompletionMessageParam] = [
                {"role": "assistant", "content": text},
                {"role": "user", "content": _AGAIN},
            ]
            text = self._complete([*messages, *again])
            verdict = parse_verdict(text)
        if verdict is None:
            raise EndpointError(f"judge {self.model} at {self._url} gave no verdict when asked twice: {text[:200]!r}")
        return verdict

    def _complete(self, messages: Sequence[ChatCompletionMessageParam]) -> str:
        import openai

        passing = (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError)
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(passing),
            stop=tenacity.stop_after_attempt(self._attempts),
            wait=tenacity.wait_exponential(multiplier=self._first_wait, max=20.0),
            reraise=True,
        )
        try:
            return retrying(self._request, messages)
        except openai.OpenAIError as error:
            raise EndpointError(f"judge {self.model} at {self._url}: {type(error).__name__}: {error}") from error

    def _request(self, messages: Sequence[ChatCompletionMessageParam]) -> str:
        with self._lock:
            self.calls += 1
        try:
            completion = self._client.chat.completions.create(
                model=self.model, messages=list(messages), temperature=0.0, max_tokens=self._max_tokens
            )
            return completion.choices[0].message.content or ""
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            # The server answered, but not in the protocol; the client hands such bodies through unchecked.
            raise EndpointError(f"judge {self.model} at {self._url} does not speak the protocol: {error}") from error

    def _remembered(self, key: str) -> JsonObject | None:
        with self._lock:
            if key in self._memory:
                self._memory.move_to_end(key)
                return self._memory[key]
        if self._file is None or not self._file.exists():
            return None
        with closing(_open(self._file)) as connection:
            row = connection.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
        return parse_verdict(row[0]) if row else None

    def _remember(self, key: str, answer: JsonObject) -> None:
        with self._lock:
            self._memory[key] = answer
            if len(self._memory) > _MEMORY:
                self._memory.popitem(last=False)
        if self._file is not None:
            with closing(_open(self._file)) as connection, connection:
                connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, json.dumps(answer)))


def parse_verdict(text: str) -> JsonObject | None:
    """The last JSON object in ``text`` with a boolean ``equivalent``, or None.

    The last one counts, since a model may quote the candidate, or think aloud, before its verdict.
    """
    decoder = json.JSONDecoder()
    found, position = None, text.find("{")
    while position >= 0:
        step = 1
        try:
            value, end = decoder.raw_decode(text, position)
            if isinstance(value, dict) and isinstance(value.get("equivalent"), bool):
                found, step = value, end - position
        except (ValueError, RecursionError):
            pass
        position = text.find("{", position + step)
    return {"equivalent": found["equivalent"], "reason": str(found.get("reason", ""))} if found else None


def cut_middle(text: str, limit: int) -> str:
    """``text`` in at most ``limit`` characters: head and tail, and a note of what is missing between."""
    if len(text) <= limit:
        return text
    note = f"\n… {len(text) - limit} characters left out …\n"
    # The end of a conversation matters more for what comes next than its beginning.
    room = max(limit - len(note), 2)
    head = room // 3
    return text[:head] + note + text[-(room - head) :]


def _shown(message: Message) -> str:
    row: dict[str, Any] = {"role": message.role}
    if message.text:
        row["content"] = message.text
    if message.tool_calls:
        row["tool_calls"] = [{"name": call.name, "arguments": call.arguments} for call in message.tool_calls]
    return _escape(json.dumps(row, ensure_ascii=False))


def _escape(text: str) -> str:
    return text.replace("<", "\\u003c").replace(">", "\\u003e")


@lru_cache(maxsize=8)
def _template(path: Path) -> jinja2.Template:
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=False)
    return environment.from_string(path.read_text(encoding="utf-8"))


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=30.0)
    connection.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL)")
    return connection
