"""What an episode is made of: how it opens, what an action brings, where it stands."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from pivotgym.envs.restore import RestoreReport
from pivotgym.envs.trajectory import JsonObject, Message, Task, Trajectory, copy_json


@dataclass(frozen=True)
class Opening:
    """How an episode begins: the first messages and the tools on offer (OpenAI tool schemas)."""

    messages: list[Message]
    tools: list[JsonObject] = field(default_factory=list)


@dataclass(frozen=True)
class Response:
    """What an action brought: the messages that answer it, and whether (and why) the episode is over."""

    messages: list[Message]
    done: bool = False
    termination: str | None = None


@dataclass(frozen=True)
class Effect:
    """What an action changed (canonical JSON values, comparable with ``==``) and what it showed.

    ``known`` is False where the environment cannot save its state: then ``changes`` is empty because nobody could
    look, not because nothing changed.
    """

    changes: list[JsonObject]
    observation: list[Message]
    done: bool = False
    known: bool = True


@dataclass
class Pivot:
    """Where a restored environment stands: turn ``turn`` of ``trajectory``. Only verifiers look at it."""

    trajectory: Trajectory
    turn: int
    cache: dict[str, Any] = field(default_factory=dict)

    @property
    def demonstration(self) -> Message:
        """The recorded action."""
        return self.trajectory.action(self.turn)

    @property
    def answer(self) -> list[Message]:
        """What the recording got back for it."""
        return self.trajectory.answer(self.turn)


@dataclass
class Episode:
    """Everything of a running episode that is not the domain's state.

    Attributes:
        task: what is played.
        shared_tools: the tools as the domain or the recording gave them; never handed out, so that forks and kept
            states can share them.
        shared_messages: the conversation as the recording or a parent had it; read, never handed out or changed.
        turn: actions so far.
        malformed: malformed actions in a row, the last one included.
        done: whether the episode is over.
        termination: why it is over. Set before ``score()`` is called on an episode that ended or was cut off
            (``max_turns``, ``context``, ``no_user``, ``user_stop``, the domain's own …); None where ``score()`` is
            asked about a state in the middle, as verifiers do.
        pivot: where in a recording the episode stands, until it moves on.
        recording: the trajectory it was restored from.
        report: how faithful that was.
    """

    task: Task
    shared_tools: list[JsonObject]
    shared_messages: list[Message] = field(default_factory=list)
    turn: int = 0
    malformed: int = 0
    done: bool = False
    termination: str | None = None
    pivot: Pivot | None = None
    recording: Trajectory | None = None
    report: RestoreReport | None = None
    _tools: list[JsonObject] | None = None
    _messages: list[Message] | None = None

    @property
    def messages(self) -> list[Message]:
        """The whole conversation, refused actions included: a copy of this episode's own, made when first asked for.

        No message object is shared with a recording, a parent or a fork. Restoring a turn only to fork it needs no
        copy, and copying would be most of its time.
        """
        if self._messages is None:
            self._messages = [message.clone() for message in self.shared_messages]
        return self._messages

    @messages.setter
    def messages(self, messages: list[Message]) -> None:
        self._messages = messages

    def share_messages(self, messages: list[Message]) -> None:
        """Stands at the end of ``messages``, which stay somebody else's."""
        self.shared_messages, self._messages = messages, None

    def read_messages(self) -> list[Message]:
        """The conversation for reading only; may be somebody else's objects."""
        return self.shared_messages if self._messages is None else self._messages

    @property
    def tools(self) -> list[JsonObject]:
        """The tools on offer: a copy of this episode's own."""
        if self._tools is None:
            self._tools = copy_json(self.shared_tools)
        return self._tools

    @tools.setter
    def tools(self, tools: list[JsonObject]) -> None:
        self.shared_tools, self._tools = tools, None

    def twin(self, private: bool = False) -> Episode:
        """A copy for a fork that shares nothing that either side could change in place.

        With ``private`` the messages and tools themselves are shared: for a fork that nobody else gets to see.
        """
        if private:
            return replace(self, _messages=list(self.read_messages()))
        tools = self.shared_tools if self._tools is None else copy_json(self._tools)
        messages = None if self._messages is None else [message.clone() for message in self._messages]
        return replace(self, shared_tools=tools, _messages=messages, _tools=None)
