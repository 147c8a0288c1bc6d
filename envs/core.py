"""AgentEnv: the Gymnasium environment every domain derives from.

The base owns what is the same everywhere: resetting to a task or to any turn of a recorded trajectory, replay and
its comparison with the recording, kept snapshots, forking, the episode's messages. A domain writes ``tasks``,
``start``, ``respond``, ``save``, ``load``, ``diff``, ``score`` and, where it holds resources, ``stop``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import gymnasium as gym
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pivotgym.envs.actions import parse_action
from pivotgym.envs.episode import Effect, Episode, Opening, Pivot, Response
from pivotgym.envs.errors import BadInput, InfrastructureError
from pivotgym.envs.restore import ObservationCheck, check_observations, restore
from pivotgym.envs.snapshots import Lease, SnapshotStore, State
from pivotgym.envs.spaces import ChatSpace, fit
from pivotgym.envs.trajectory import UNDELIVERED, JsonObject, Message, Task, Trajectory, canonical_json, digest
from pivotgym.envs.verdict import Verdict

__all__ = [
    "SHARED_SNAPSHOTS",
    "AgentEnv",
    "Effect",
    "EnvConfig",
    "Episode",
    "Opening",
    "Pivot",
    "ResetOptions",
    "Response",
]

SHARED_SNAPSHOTS = SnapshotStore()
"""The store environments of this process share unless they are given their own."""


class EnvConfig(BaseModel):
    """Options every environment takes, as keyword arguments of ``gym.make``.

    Attributes:
        max_turns: the episode is truncated after so many actions of the policy.
        max_observation_bytes: in observations above this, long texts are cut in the middle, head and tail kept.
        max_malformed: the episode ends, with reward 0, after so many malformed actions in a row.
        verifier: judge every step after a restore by this verifier spec (see :func:`pivotgym.verifiers.make`) and
            end the episode there: a one-turn environment. ``default`` takes the domain's own.
        snapshots: where states are kept; environments of one process share one store by default.
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    max_turns: int = Field(default=30, ge=1)
    max_observation_bytes: int = Field(default=1 << 20, ge=1024)
    max_malformed: int = Field(default=3, ge=1)
    verifier: str | None = None
    snapshots: SnapshotStore | None = None


_NOT_OF_THE_STATE = {"snapshots", "verifier", "max_turns", "max_malformed", "max_observation_bytes"}


class ResetOptions(BaseModel):
    """What ``reset(options=...)`` understands: a task, or a trajectory and a turn of it."""

    model_config = ConfigDict(extra="forbid")

    task: Task | str | None = None
    trajectory: Trajectory | None = None
    turn: int = 0
    strict: bool = False


class AgentEnv(gym.Env[str, Any], ABC):
    """Base class of all environments.

    Observations are JSON lists of the chat messages that are new to the agent (:class:`ChatSpace`); the whole
    conversation is in :attr:`messages`. Actions are raw assistant text, chat dicts or :class:`Message` objects.
    The reward of a step is 0 until the episode ends, then the domain's goal score; with ``verifier`` set it is the
    verdict on the single action.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012 (Gymnasium declares it so)
    Config: ClassVar[type[EnvConfig]] = EnvConfig
    default_verifier: ClassVar[str] = "effects"

    def __init__(self, config: EnvConfig | None = None, *, render_mode: str | None = None, **options: Any) -> None:
        if config is None:
            try:
                config = self.Config(**options)
            except ValidationError as error:
                first = error.errors()[0]
                raise BadInput(first["msg"], field=".".join(map(str, first["loc"]))) from error
        self.config = config
        self.render_mode = render_mode
        self.observation_space = ChatSpace(config.max_observation_bytes)
        self.action_space = ChatSpace(config.max_observation_bytes)
        self.snapshots = SHARED_SNAPSHOTS if config.snapshots is None else config.snapshots
        self._episode: Episode | None = None
        self._lease: Lease | None = None
        self._owned: State | None = None  # what a fork was loaded from: it disposes of it

    # What a domain writes ------------------------------------------------------------------------------------

    @abstractmethod
    def tasks(self) -> Sequence[Task]:
        """The tasks a reset without options draws from."""

    @abstractmethod
    def start(self, task: Task) -> Opening:
        """Builds the initial state of ``task``. Raises :class:`NotRestorable` where it cannot be built."""

    @abstractmethod
    def respond(self, action: Message, recorded: Sequence[Message] | None = None) -> Response:
        """Executes ``action``.

        Args:
            action: the assistant message.
            recorded: given while replaying: what the recording got back. What outside parties say (a user) is taken
                from here instead of asking them; what the environment itself computes is computed. An empty
                sequence means: execute, but ask nobody.
        """

    @abstractmethod
    def save(self) -> State | None:
        """The current state, independent of what happens next; None where it can only be rebuilt by replay."""

    @abstractmethod
    def load(self, state: State) -> None:
        """Goes to a saved state of the episode's task; works on a fresh instance and many times on one state."""

    @abstractmethod
    def diff(self, before: State, after: State) -> list[JsonObject]:
        """What differs between two states of one task, in canonical order; empty when nothing does."""

    @abstractmethod
    def score(self) -> Verdict:
        """Judges the episode so far by the task's own goal.

        ``self.episode.termination`` tells why the episode ended or was cut off (``max_turns``, ``context``, ``no_user``
        …), so that a goal which needs an orderly end can ask for one. It is None where a verifier asks about a state in
        the middle.
        """

    def stop(self) -> None:
        """Frees what the domain holds (processes, connections, files). May be called more than once."""

    def normalise(self, text: str) -> str:
        """Removes from an observation what may differ between two runs (times, process ids …)."""
        return text

    def parse_action(self, text: str) -> tuple[Message, str | None]:
        """Raw assistant text to a message, and why it is malformed or None. Default: Hermes tool calls."""
        return parse_action(text)

    def explain(self, action: Message, replayed: Message | None, recorded: Message | None) -> str | None:
        """A short kind for a known cause of a divergence (``injected_error`` …), or None when unknown."""
        return None

    def restore_errors(self) -> Sequence[str]:
        """What the world around the episode lacked so far, one line each: see :class:`RestoreReport`."""
        return ()

    def restore_note(self) -> str | None:
        """What the report of a restore says beside its checks (why the state was not kept), or None."""
        return None

    def faults(self) -> Sequence[tuple[object, str]]:
        """Where the episode's infrastructure can fail: ``(object, method name)``.

        The conformance suite makes each fail in turn and looks that no reward comes of it. Name the innermost calls.
        """
        return [(self, "respond")]

    @property
    def fingerprint(self) -> str:
        """Distinguishes kept states of differently configured environments.

        By default the class and every option but those that do not touch the state.
        """
        config = self.config.model_dump(exclude=_NOT_OF_THE_STATE)
        return f"{type(self).__module__}.{type(self).__qualname__} {digest(canonical_json(config))}"

    # The episode ----------------------------------------------------------------------------------------------

    @property
    def episode(self) -> Episode:
        """The running episode. Raises :class:`gymnasium.error.ResetNeeded` before the first reset."""
        if self._episode is None:
            raise gym.error.ResetNeeded("call reset() first")
        return self._episode

    @property
    def has_episode(self) -> bool:
        """Whether an episode was begun and not closed."""
        return self._episode is not None

    @property
    def task(self) -> Task:
        """The episode's task."""
        return self.episode.task

    @property
    def tools(self) -> list[JsonObject]:
        """The tools on offer, as OpenAI tool schemas."""
        return self.episode.tools

    @property
    def messages(self) -> list[Message]:
        """All messages that were delivered so far, the simulated user's own tool calls included.

        Malformed actions are not: nobody but the agent saw them (see :attr:`transcript`).
        """
        messages = self.episode.messages
        return messages if all(message.delivered for message in messages) else [m for m in messages if m.delivered]

    @property
    def transcript(self) -> list[Message]:
        """Everything, malformed actions and what they were answered included: what a recording holds."""
        return self.episode.messages

    @property
    def conversation(self) -> list[Message]:
        """The messages the agent sees."""
        return [message for message in self.transcript if message.visible_to_agent]

    @property
    def pivot(self) -> Pivot | None:
        """Where in a recording this environment stands; None after a step or a plain reset."""
        return self.episode.pivot

    # Gymnasium ------------------------------------------------------------------------------------------------

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, JsonObject]:
        """Starts an episode.

        Args:
            seed: seeds the choice of the task.
            options: see :class:`ResetOptions`: ``task`` (a Task or a task id), or ``trajectory`` (a Trajectory or its
                dict), ``turn`` and ``strict``.

        Returns:
            The conversation so far as observation; in ``info``: ``task``, ``turn``, and after a restore ``restore``
            (a :class:`RestoreReport`).

        Raises:
            NotRestorable: the state cannot be rebuilt.
            RestoreDiverged: ``strict`` and an observation differed.
            BadInput: unusable options.
        """
        super().reset(seed=seed)
        try:
            request = ResetOptions.model_validate(options or {})
        except ValidationError as error:
            first = error.errors()[0]
            raise BadInput(first["msg"], field="options." + ".".join(map(str, first["loc"]))) from error
        self._release()
        info: JsonObject = {}
        try:
            if request.trajectory is not None:
                info["restore"] = restore(self, request.trajectory, request.turn, strict=request.strict)
            else:
                self._begin(self._choose(request.task))
        except BaseException:
            self.close()  # a half-built episode must not be stepped
            raise
        visible = [message for message in self.episode.read_messages() if message.visible_to_agent]
        return self._observe(visible), {"task": self.task.id, "turn": self.episode.turn, **info}

    def step(self, action: str | JsonObject | Message) -> tuple[str, float, bool, bool, JsonObject]:
        """Executes one action of the policy.

        A malformed action is not executed, and nobody hears its text: it is answered by a message that says what is
        wrong with it, and counts as a turn. After ``max_malformed`` in a row the episode ends with reward 0.

        Returns:
            observation, reward, terminated, truncated, info. ``info`` has ``malformed`` where the text was no
            well-formed action, ``verdict`` where one was given, ``termination`` when the episode ended.

        Raises:
            InfrastructureError: something outside the policy failed. There is no reward, and the episode is over:
                what the action did until then is unknown.
        """
        episode = self.episode
        if episode.done:
            raise gym.error.ResetNeeded("the episode is over: call reset()")
        message, malformed = self.read_action(action)
        info: JsonObject = {"task": episode.task.id}
        if malformed is not None:
            info["malformed"] = malformed
        if self.config.verifier is not None and episode.pivot is not None:
            return self._judge_turn(message, malformed, info)
        try:
            return self._run_turn(message, malformed, info)
        except InfrastructureError:
            episode.done, episode.termination = True, "infrastructure_error"
            raise

    def _run_turn(
        self, message: Message, malformed: str | None, info: JsonObject
    ) -> tuple[str, float, bool, bool, JsonObject]:
        episode = self.episode
        response = self.advance(message) if malformed is None else self._refuse(message, malformed)
        episode.done = response.done
        truncated = not response.done and episode.turn >= self.config.max_turns
        reward = 0.0
        if response.done or truncated:
            episode.done, episode.termination = True, "max_turns" if truncated else response.termination or "done"
            if malformed is not None and response.done:
                verdict = Verdict(reward=0.0, rule="malformed", reason=f"{episode.malformed} in a row: {malformed}")
            else:
                verdict = self.score()
            info["verdict"], info["termination"] = verdict.model_dump(), episode.termination
            reward = verdict.reward
        info["turn"] = episode.turn
        visible = [message for message in response.messages if message.visible_to_agent]
        return self._observe(visible), reward, response.done, truncated, info

    def _refuse(self, message: Message, reason: str) -> Response:
        """Answers a malformed action without executing it."""
        episode = self.episode
        mark = {UNDELIVERED: reason}
        # From the user, as a tool message has to answer a call and there is none.
        answer = Message(role="user", content=f"Error: your last message was malformed: {reason}", source=mark)
        episode.messages += [_marked(message, mark), answer]
        episode.turn += 1
        episode.malformed += 1
        episode.pivot = None
        done = episode.malformed >= self.config.max_malformed
        return Response([answer], done=done, termination="malformed" if done else None)

    def render(self) -> str | None:
        """The conversation as text (render mode ``ansi``)."""
        if self.render_mode != "ansi":
            return None
        lines = []
        for message in self.messages:
            calls = "".join(f" {call.name}({canonical_json(call.arguments)})" for call in message.tool_calls)
            lines.append(f"[{message.role}] {message.text}{calls}")
        return "\n".join(lines)

    def picture(self) -> bytes | None:
        """The state as a person would see it, as a PNG image; None (the default) where there is nothing to look at.

        Raises:
            InfrastructureError: what shows it broke.
        """
        return None

    def close(self) -> None:
        """Frees everything the environment holds."""
        self._release()
        self._episode = None

    # Forks and effects ----------------------------------------------------------------------------------------

    def fork(self) -> Self:
        """An environment in the same state, independent from here on. The caller closes it."""
        self.episode  # noqa: B018 (raises ResetNeeded before there is a state to save)
        return self._fork_from(self.save())

    def _fork_from(self, state: State | None, *, private: bool = False) -> Self:
        """A fork in ``state``; a ``private`` one never leaves this class, so its messages need no copying."""
        episode = self.episode
        child = type(self)(self.config, render_mode=self.render_mode)
        child.spec = self.spec
        child._episode, child._owned = episode.twin(private), state
        try:
            if state is not None:
                child._lease = self._lease.again() if self._lease is not None else None
                child.load(state)
            else:
                child._replay_history()
        except BaseException:
            child.close()
            raise
        return child

    def effect(self, action: Message) -> Effect:
        """What ``action`` would change and show, found by executing it in a fork. Nobody outside is asked."""
        before, after = self.save(), None
        child = self._fork_from(before, private=True)
        try:
            response = child.respond(action, recorded=())
            after = child.save()
            if before is None or after is None:
                return Effect([], response.messages, response.done, known=False)
            return Effect(self.diff(before, after), response.messages, response.done)
        finally:
            child.close()
            _dispose(after)

    def advance(self, action: Message, recorded: Sequence[Message] | None = None) -> Response:
        """Executes ``action`` and appends it and its answer to the episode. Below ``step``: no reward, no parsing."""
        response = self.respond(action, recorded)
        episode = self.episode
        # The caller's and the recording's objects stay theirs.
        episode.messages += [message.clone() for message in (action, *response.messages)]
        episode.turn += 1
        episode.malformed = 0
        episode.pivot = None
        return response

    def read_action(self, action: str | JsonObject | Message) -> tuple[Message, str | None]:
        """An action in any accepted form to a message, and why it is malformed or None.

        Raises:
            BadInput: a dict that is no chat message, or a message of another role than the assistant.
        """
        if isinstance(action, str):
            return self.parse_action(action)
        role = action.role if isinstance(action, Message) else action.get("role", "assistant")
        if role != "assistant":
            raise BadInput(f"an action is an assistant message, not one of role {role!r}", field="action.role")
        if isinstance(action, Message):
            refused = action.source.get(UNDELIVERED)  # by whoever sampled it
            return action, None if refused is None else str(refused)
        try:
            return Message.model_validate({**action, "role": "assistant"}), None
        except ValidationError as error:
            first = error.errors()[0]
            raise BadInput(first["msg"], field="action." + ".".join(map(str, first["loc"]))) from error

    def check_answer(
        self, action: Message, replayed: Sequence[Message], recorded: Sequence[Message], first_index: int = 0
    ) -> list[ObservationCheck]:
        """Compares replayed with recorded observations. Default: tool messages, paired by position."""
        return check_observations(self, action, replayed, recorded, first_index)

    # Inner parts ----------------------------------------------------------------------------------------------

    def _begin(self, task: Task, messages: list[Message] | None = None, tools: list[JsonObject] | None = None) -> None:
        # The task must be known to start() and load(), the messages only come from start().
        self._episode = Episode(task, tools or [], list(messages or []))
        opening = self.start(task)
        if messages is None:
            self._episode.messages = [message.clone() for message in opening.messages]
        if not tools:
            self._episode.tools = opening.tools

    def _choose(self, wanted: Task | str | None) -> Task:
        if isinstance(wanted, Task):
            return wanted
        tasks = self.tasks()
        if not tasks:
            raise BadInput(f"{type(self).__qualname__} has no tasks: give one", field="options.task")
        if wanted is None:
            return tasks[int(self.np_random.integers(len(tasks)))]
        for task in tasks:
            if task.id == wanted:
                return task
        raise BadInput(f"no task {wanted!r} in {type(self).__qualname__}", field="options.task")

    def _judge_turn(
        self, message: Message, malformed: str | None, info: JsonObject
    ) -> tuple[str, float, bool, bool, JsonObject]:
        from pivotgym.verifiers import make, verify_completion

        spec = self.config.verifier if self.config.verifier != "default" else self.default_verifier
        verdict = verify_completion(make(spec or self.default_verifier), self, message, malformed)
        episode = self.episode
        episode.done, episode.termination = True, "judged"
        info["verdict"], info["termination"], info["turn"] = verdict.model_dump(), "judged", episode.turn
        return self._observe([]), verdict.reward, True, False, info

    def _replay_history(self) -> None:
        episode = self.episode
        self.start(episode.task)
        starts = [index for index, message in enumerate(episode.messages) if message.role == "assistant"]
        for index, end in zip(starts, [*starts[1:], len(episode.messages)], strict=False):
            if episode.messages[index].delivered:
                self.respond(episode.messages[index], recorded=episode.messages[index + 1 : end])

    def _release(self) -> None:
        if self._episode is not None:
            self.stop()
            self._episode = None
        if self._lease is not None:
            self._lease.release()
            self._lease = None
        _dispose(self._owned)
        self._owned = None

    def _observe(self, messages: Sequence[Message]) -> str:
        return fit([message.chat() for message in messages], self.config.max_observation_bytes)


def _marked(message: Message, mark: JsonObject) -> Message:
    twin = message.clone()
    twin.source = {**twin.source, **mark}
    return twin


def _dispose(state: State | None) -> None:
    if state is not None and state.dispose is not None:
        state.dispose()
