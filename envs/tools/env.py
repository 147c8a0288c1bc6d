"""``pivotgym/Tools-v0``: an agent that calls tools and talks to a user."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pivotgym.envs.core import AgentEnv, EnvConfig, Opening, Response
from pivotgym.envs.errors import NotRestorable
from pivotgym.envs.snapshots import State
from pivotgym.envs.tools.domain import ToolDomain, User, get_domain, registrations
from pivotgym.envs.tools.users import LLMUser, RecordedUser
from pivotgym.envs.trajectory import JsonObject, Message, Task, Trajectory
from pivotgym.envs.verdict import Verdict


class ToolsConfig(EnvConfig):
    """Options of ``pivotgym/Tools-v0``.

    Attributes:
        domain: where tasks are drawn from when a reset names none; a task names its own domain.
        user: ``domain`` (the domain's own simulated user), ``recorded`` (the turns of ``recording``), ``llm`` (an
            OpenAI-compatible endpoint with the task's instructions) or ``none``.
        user_endpoint: base URL for ``llm``.
        user_model: model name for ``llm``.
        recording: the trajectory whose user turns ``recorded`` speaks; by default the restored one.
        max_errors: the episode ends after so many failed tool calls: of the agent and in a row, or in domains that
            say so (τ²-bench) of both sides and in all.
    """

    domain: str = "servicedesk"
    user: Literal["domain", "recorded", "llm", "none"] = "domain"
    user_endpoint: str | None = None
    user_model: str | None = None
    recording: Trajectory | None = None
    max_errors: int = 10


class ToolsEnv(AgentEnv):
    """Tool-calling conversations over any :class:`ToolDomain`."""

    Config: ClassVar[type[EnvConfig]] = ToolsConfig
    config: ToolsConfig

    def __init__(self, config: EnvConfig | None = None, *, render_mode: str | None = None, **options: Any) -> None:
        super().__init__(config, render_mode=render_mode, **options)
        self._domain: ToolDomain | None = None
        self._session: Any = None

    @property
    def domain(self) -> ToolDomain:
        """The episode's domain, or before the first reset the configured one."""
        name = self._episode.task.data.get("domain") if self._episode is not None else None
        return get_domain(str(name or self.config.domain))

    @property
    def session(self) -> Any:
        """The live state of the episode, as the domain made it."""
        return self._session

    @property
    def fingerprint(self) -> str:
        """Tasks name their domain, so one fingerprint serves all, until a name is registered to mean another domain."""
        made = registrations()
        return f"ToolsEnv {made}" if made else "ToolsEnv"

    def tasks(self) -> Sequence[Task]:
        """The configured domain's tasks."""
        return get_domain(self.config.domain).tasks()

    def start(self, task: Task) -> Opening:
        """Opens a session of the task's domain."""
        self.stop()
        self._domain = self.domain
        self._session = self._domain.open(task)
        return self._domain.opening(task)

    def respond(self, action: Message, recorded: Sequence[Message] | None = None) -> Response:
        """Executes the action's calls in order; without calls, hands the text to the user."""
        if action.tool_calls:
            return self._run_calls(action, recorded)
        if recorded is not None:
            return Response(self._replay_user(recorded))
        end = self.domain.finished(self.task, action)
        if end is not None:
            return Response([], done=True, termination=end)
        answer = self._ask_user(action)
        if not answer.done and not self.domain.errors_in_a_row and self._too_many_errors(answer.messages):
            return Response(answer.messages, done=True, termination="too_many_errors")
        return answer

    def save(self) -> State | None:
        """The session's state."""
        return self.domain.save(self._session)

    def load(self, state: State) -> None:
        """A new session in that state."""
        self.stop()
        self._domain = self.domain
        self._session = self._domain.load(self.task, state)

    def diff(self, before: State, after: State) -> list[JsonObject]:
        """What differs between two states."""
        return self.domain.diff(before, after)

    def score(self) -> Verdict:
        """The task's own goal check; 0 for an episode that was cut off (see :meth:`ToolDomain.cut_off`).

        Without a reason to have ended (the episode still runs, or a verifier judges a state in the middle) the state
        and the conversation alone decide.
        """
        verdict = self.domain.goal(self.task, self._session, self.messages)
        termination = self.episode.termination
        if termination in (None, "judged"):
            return verdict
        cut_off = self.domain.cut_off(self.task, str(termination))
        evidence = {**verdict.evidence, "ended": not cut_off} if "ended" in verdict.evidence else verdict.evidence
        if not cut_off:
            return verdict.model_copy(update={"evidence": evidence})
        reason = f"the episode was cut off ({termination})"
        return Verdict(reward=0.0, rule=verdict.rule, reason=reason, evidence={**evidence, "cut_off": termination})

    def stop(self) -> None:
        """Closes the session."""
        if self._session is not None and self._domain is not None:
            session, self._session = self._session, None
            self._domain.close(session)

    def normalise(self, text: str) -> str:
        """The domain's normaliser."""
        return self.domain.normalise(text)

    def explain(self, action: Message, replayed: Message | None, recorded: Message | None) -> str | None:
        """The domain's explanation."""
        return self.domain.explain(action, replayed, recorded)

    def faults(self) -> Sequence[tuple[object, str]]:
        """The domain's tool calls."""
        return [(self.domain, "call")]

    # Inner parts ----------------------------------------------------------------------------------------------

    def _begin(self, task: Task, messages: list[Message] | None = None, tools: list[JsonObject] | None = None) -> None:
        super()._begin(task, messages, tools)
        if messages is not None:  # a restore: what was said and called comes with the recording
            return
        episode = self.episode
        for message in episode.messages:
            for call in message.tool_calls:  # a task that begins in the middle of a conversation
                self.domain.call(self._session, call, "user" if message.role == "user" else "assistant")
        last = episode.messages[-1] if episode.messages else None
        if last is not None and last.role == "assistant" and not last.tool_calls and self._user() is not None:
            # The agent has greeted: it is the user's turn.
            episode.messages.pop()
            answer = self._ask_user(last)
            episode.messages += [last, *answer.messages]

    def _run_calls(self, action: Message, recorded: Sequence[Message] | None) -> Response:
        results = [message for message in recorded or () if message.role == "tool" and message.requestor == "assistant"]
        answers: list[Message] = []
        for position, call in enumerate(action.tool_calls):
            shown = results[position] if position < len(results) else None
            if shown is not None and self.domain.recorded_only(call, shown):
                answers.append(shown)
                continue
            text = self.domain.call(self._session, call)
            answers.append(Message(role="tool", content=text, tool_call_id=call.id, name=call.name))
        end = self.domain.finished(self.task, action)
        if end is None and recorded is None and self._too_many_errors(answers):
            end = "too_many_errors"
        if recorded:
            # A recorded user may speak (or use tools of their own) after a call too.
            answers += self._replay_user([message for message in recorded if message not in results])
        return Response(answers, done=end is not None, termination=end)

    def _too_many_errors(self, answers: Sequence[Message]) -> bool:
        results = [message for message in [*self.messages, *answers] if message.role == "tool"]
        if not self.domain.errors_in_a_row:
            return sum(message.text.startswith("Error") for message in results) >= self.config.max_errors
        count = 0
        for message in reversed([message for message in results if message.requestor == "assistant"]):
            if not message.text.startswith("Error"):
                break
            count += 1
        return count >= self.config.max_errors

    def _replay_user(self, recorded: Sequence[Message]) -> list[Message]:
        """Takes the user's words from the recording, and executes the user's own tool calls."""
        answers: list[Message] = []
        results = [message for message in recorded if message.role == "tool"]
        position = 0
        for message in recorded:
            if message.role == "tool":
                continue
            answers.append(message)
            for call in message.tool_calls:
                shown = results[position] if position < len(results) else None
                position += 1
                if shown is not None and self.domain.recorded_only(call, shown):
                    answers.append(shown)
                    continue
                text = self.domain.call(self._session, call, requestor="user")
                answers.append(
                    Message(role="tool", content=text, tool_call_id=call.id, name=call.name, requestor="user")
                )
        return answers

    def _ask_user(self, action: Message) -> Response:
        user = self._user()
        if user is None:
            return Response([], done=True, termination="no_user")
        said: list[Message] = []
        for _ in range(self.config.max_turns):
            reply = user.reply(self.task, [*self.messages, action, *said])
            if reply is None:
                return Response(said, done=True, termination="user_stop")
            said.append(reply)
            if not reply.tool_calls:
                return Response(said)
            for call in reply.tool_calls:
                text = self.domain.call(self._session, call, requestor="user")
                said.append(Message(role="tool", content=text, tool_call_id=call.id, name=call.name, requestor="user"))
        return Response(said, done=True, termination="user_loop")

    def _user(self) -> User | None:
        if self.config.user == "none":
            return None
        if self.config.user == "llm":
            if not self.config.user_endpoint or not self.config.user_model:
                raise NotRestorable("no_user", "user='llm' needs user_endpoint and user_model")
            return LLMUser(self.config.user_endpoint, self.config.user_model, domain=self.domain)
        recording = self.config.recording or self.episode.recording
        if self.config.user == "recorded" and recording is not None:
            return RecordedUser(recording)
        return self.domain.user(self.task)
