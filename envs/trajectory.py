"""Messages, tasks and trajectories: the one record everything else reads and writes.

Messages follow the OpenAI chat format. On disk a trajectory is one JSON object a line (JSONL); reading and
writing live in :mod:`pivotgym.envs.formats`.
"""

from __future__ import annotations

import copy
import hashlib
import json
import marshal
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_serializer, model_validator

Role = Literal["system", "developer", "user", "assistant", "tool"]
JsonObject = dict[str, Any]
FORMAT_VERSION = 1
UNDELIVERED = "undelivered"
"""Key of ``Message.source``: the environment refused this malformed action (or: this message says so); it was never
executed, and nobody but the agent saw it."""
T = TypeVar("T")


class ToolCall(BaseModel):
    """One tool call.

    ``arguments`` is a dict, or the raw string where the caller wrote something that is no JSON object.
    Reads OpenAI's nested form, a flat form, and arguments as dict or JSON text; writes OpenAI's form.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    arguments: JsonObject | str = Field(default_factory=dict)
    id: str | None = None
    source: JsonObject = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _read_any_form(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        data = dict(data)
        function = data.pop("function", None)
        if isinstance(function, dict):
            data = {**data, **function}
        data.pop("type", None)
        arguments = data.get("arguments")
        if arguments is None:
            data["arguments"] = {}
        elif isinstance(arguments, str):
            data["arguments"] = parse_arguments(arguments)
        return data

    def chat(self) -> JsonObject:
        """The call in OpenAI's form, without ``source``."""
        arguments = self.arguments if isinstance(self.arguments, str) else canonical_json(self.arguments, sort=False)
        row: JsonObject = {"type": "function", "function": {"name": self.name, "arguments": arguments}}
        if self.id is not None:
            row["id"] = self.id
        return row

    def clone(self) -> ToolCall:
        """An independent copy."""
        return _twin(self, arguments=copy_json(self.arguments), source=copy_json(self.source))

    @model_serializer
    def _write_openai(self) -> JsonObject:
        row = self.chat()
        if self.source:
            row["source"] = self.source
        return row


def parse_arguments(text: str) -> JsonObject | str:
    """JSON text to a dict; text that is no JSON object comes back unchanged. Empty text means no arguments."""
    if not text.strip():
        return {}
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, dict) else text


class Message(BaseModel):
    """One chat message (OpenAI chat format plus ``requestor`` and ``source``).

    ``requestor`` tells whose tool call a tool message answers: in telecom the simulated user has tools too, and
    the agent sees neither those calls nor their results. ``source`` keeps what the recording had beside this.
    """

    model_config = ConfigDict(extra="forbid")

    role: Role
    content: str | list[JsonObject] | None = None
    tool_calls: list[ToolCall] = Field(default_factory=list)
    tool_call_id: str | None = None
    name: str | None = None
    reasoning_content: str | None = None
    requestor: Literal["assistant", "user"] = "assistant"
    source: JsonObject = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _none_is_absent(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("tool_calls", ...) is None:
            data = {key: value for key, value in data.items() if key != "tool_calls"}
        return data

    @model_serializer(mode="wrap")
    def _drop_defaults(self, handler: Any) -> JsonObject:
        row: JsonObject = handler(self)
        kept = {key: value for key, value in row.items() if value not in (None, [], {})}
        if kept.get("requestor") == "assistant":
            del kept["requestor"]
        # Chat templates and OpenAI clients expect the key even where there is no text.
        kept.setdefault("content", self.content)
        return kept

    @property
    def text(self) -> str:
        """The text of ``content``; the text parts joined where it is a list of parts, ``""`` where it is null."""
        if isinstance(self.content, str):
            return self.content
        if self.content is None:
            return ""
        return "".join(str(part.get("text", "")) for part in self.content)

    @property
    def visible_to_agent(self) -> bool:
        """False for the simulated user's own tool calls and their results."""
        if self.role == "tool":
            return self.requestor == "assistant"
        return not (self.role == "user" and self.tool_calls)

    @property
    def delivered(self) -> bool:
        """False for a malformed action that was refused, and for the message that says so."""
        return UNDELIVERED not in self.source

    def clone(self) -> Message:
        """An independent copy, in a fraction of the time of ``model_copy(deep=True)``."""
        content = copy_json(self.content) if isinstance(self.content, list) else self.content
        calls = [call.clone() for call in self.tool_calls]
        return _twin(self, content=content, tool_calls=calls, source=copy_json(self.source))

    def chat(self) -> JsonObject:
        """The plain OpenAI chat dict: what a policy or a chat template sees."""
        # Written out, not dumped by pydantic: every observation goes through here, and this is five times faster.
        row: JsonObject = {"role": self.role}
        if isinstance(self.content, str):
            row["content"] = self.content
        elif self.content:
            row["content"] = copy.deepcopy(self.content)
        if self.tool_calls:
            row["tool_calls"] = [call.chat() for call in self.tool_calls]
        for key in ("tool_call_id", "name", "reasoning_content"):
            value = getattr(self, key)
            if value is not None:
                row[key] = value
        row.setdefault("content", self.content)
        return row


class Task(BaseModel):
    """What an environment needs to build its initial state.

    Attributes:
        env: Gymnasium id, for example ``pivotgym/Tools-v0``.
        id: the task's name within its domain.
        data: domain-specific, JSON only (for the tool domain: ``domain`` and, for tasks that travel with their
            trajectory, ``definition``).
    """

    model_config = ConfigDict(extra="forbid")

    env: str
    id: str
    data: JsonObject = Field(default_factory=dict)

    @property
    def key(self) -> str:
        """Equal for tasks that build the same initial state."""
        return digest(canonical_json([self.env, self.id, self.data]))


class Outcome(BaseModel):
    """How the recorded episode ended. ``reward`` is None where the source does not say."""

    model_config = ConfigDict(extra="forbid")

    reward: float | None = None
    termination: str | None = None
    details: JsonObject = Field(default_factory=dict)


class Trajectory(BaseModel):
    """A recorded episode.

    *Turn* ``t`` (0-based) is the t-th assistant message; the state before it is every message before it and the
    environment as it was then.
    """

    model_config = ConfigDict(extra="forbid")

    id: str
    task: Task | None = None
    tools: list[JsonObject] = Field(default_factory=list)
    messages: list[Message]
    outcome: Outcome = Field(default_factory=Outcome)
    source: JsonObject = Field(default_factory=dict)
    version: int = FORMAT_VERSION

    @field_validator("version")
    @classmethod
    def _known_version(cls, version: int) -> int:
        if version > FORMAT_VERSION:
            raise ValueError(f"written in format version {version}; this release reads up to {FORMAT_VERSION}")
        return version

    @property
    def turns(self) -> list[int]:
        """Index into ``messages`` of every assistant message."""
        return [index for index, message in enumerate(self.messages) if message.role == "assistant"]

    def action(self, turn: int) -> Message:
        """The recorded action of turn ``turn``. Raises IndexError beyond the last turn."""
        return self.messages[self._index(turn)]

    def prefix(self, turn: int) -> list[Message]:
        """Every message before turn ``turn``."""
        return self.messages[: self._index(turn)]

    def answer(self, turn: int) -> list[Message]:
        """The recorded messages between turn ``turn`` and the next one: what the environment and user replied."""
        turns = self.turns
        end = turns[turn + 1] if turn + 1 < len(turns) else len(self.messages)
        return self.messages[self._index(turn) + 1 : end]

    def cut(self, turns: int) -> Trajectory:
        """The first ``turns`` turns with what came back; without the outcome where later ones are cut off.

        Raises:
            ValueError: not even one turn is asked for.
        """
        if turns < 1:
            raise ValueError(f"a trajectory of {turns} turns")
        if turns >= len(self.turns):
            return self
        return self.model_copy(update={"messages": self.prefix(turns), "outcome": Outcome()})

    def _index(self, turn: int) -> int:
        turns = self.turns
        if not 0 <= turn < len(turns):
            raise IndexError(f"trajectory {self.id} has {len(turns)} turns, there is no turn {turn}")
        return turns[turn]


def copy_json(value: T) -> T:
    """An independent copy of a JSON value (of any value, only slower)."""
    if not value or isinstance(value, str):
        return value if not isinstance(value, dict | list) else type(value)()
    try:
        copied: T = marshal.loads(marshal.dumps(value))  # type: ignore[arg-type]  # five times faster than copy.deepcopy
    except ValueError:
        copied = copy.deepcopy(value)
    return copied


_M = TypeVar("_M", bound=BaseModel)


def _twin(model: _M, **changed: Any) -> _M:
    # What model_copy(update=changed) does, in half the time: every fork copies its whole conversation.
    twin = type(model).__new__(type(model))
    object.__setattr__(twin, "__dict__", {**model.__dict__, **changed})
    object.__setattr__(twin, "__pydantic_fields_set__", set(model.__pydantic_fields_set__))
    object.__setattr__(twin, "__pydantic_extra__", None)
    object.__setattr__(twin, "__pydantic_private__", None)
    return twin


def canonical_json(value: Any, *, sort: bool = True) -> str:
    """JSON text with one spelling per value; what cannot be JSON is written as its ``str``."""
    return (_SORTED if sort else _UNSORTED).encode(value)


# json.dumps would make an encoder at each call.
_SORTED = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(", ", ": "), default=str)
_UNSORTED = json.JSONEncoder(sort_keys=False, ensure_ascii=False, separators=(", ", ": "), default=str)


def digest(text: str) -> str:
    """A short content hash (128 bits of SHA-256, hexadecimal)."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
