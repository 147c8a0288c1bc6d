"""``pivotgym/Browser-v0``: an agent in a web browser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pivotgym.containers.build import BROWSER_IMAGE
from pivotgym.envs.actions import parse_action
from pivotgym.envs.browser import prompts
from pivotgym.envs.browser.actions import BY_NAME, TOOLS, NotCalls, calls_of, parse_calls
from pivotgym.envs.browser.effects import page_changes
from pivotgym.envs.browser.session import Call
from pivotgym.envs.browser.steady import Kept, SteadySession
from pivotgym.envs.browser.tab import PageFault
from pivotgym.envs.browser.tasks import BrowserTask, Final, TaskSet, get_task_set
from pivotgym.envs.core import AgentEnv, EnvConfig, Opening, Response
from pivotgym.envs.errors import InfrastructureError
from pivotgym.envs.restore import ObservationCheck, check_observations
from pivotgym.envs.snapshots import State
from pivotgym.envs.tools.schema import ArgumentError, validate_arguments
from pivotgym.envs.trajectory import JsonObject, Message, Task, ToolCall
from pivotgym.envs.verdict import Verdict

FAULTS = ("page_stuck", "page_restless", "page_too_large", "page_broken", "page_crashed", "page_forbidden")
"""Terminations that a page brought about: it could not be shown any more."""
_ENDING = ("report_infeasible",)


class PageNotShown(InfrastructureError):
    """A task's first page could not be shown: there is no episode."""


class BrowserConfig(EnvConfig):
    """Options of ``pivotgym/Browser-v0``.

    Attributes:
        tasks: the task set a reset without options draws from.
        interface: ``tools`` (each action a tool call) or ``text`` (BrowserGym's calls in the answer's text).
        backend: where Chromium runs: ``local``, on this machine, or ``docker``, in a container without a network.
        image: the container's image; empty for ``pivotgym-browser``.
    """

    tasks: str = "miniwob"
    interface: Literal["tools", "text"] = "tools"
    backend: Literal["local", "docker"] = "local"
    image: str = ""

    def placement(self) -> dict[str, float]:
        """What a node must have for such an environment (see :mod:`pivotgym.harness.cluster`)."""
        return {"docker" if self.backend == "docker" else "browser": 1}


class BrowserEnv(AgentEnv):
    """Tasks in a real Chromium; every state can be gone back to."""

    Config: ClassVar[type[EnvConfig]] = BrowserConfig
    default_verifier: ClassVar[str] = "browser_effects"
    config: BrowserConfig

    def __init__(self, config: EnvConfig | None = None, *, render_mode: str | None = None, **options: Any) -> None:
        super().__init__(config, render_mode=render_mode, **options)
        self._browser: SteadySession | None = None
        self._spec: BrowserTask | None = None

    @property
    def browser(self) -> SteadySession:
        """The episode's browser. Raises :class:`gymnasium.error.ResetNeeded` without an episode."""
        self.episode  # noqa: B018 (raises ResetNeeded)
        assert self._browser is not None
        return self._browser

    @property
    def spec_of_task(self) -> BrowserTask:
        """What the episode's task says."""
        if self._spec is None:
            self._spec = BrowserTask.of(self.task)
        return self._spec

    @property
    def task_set(self) -> TaskSet:
        """What serves and judges the episode."""
        return get_task_set(self.spec_of_task.set)

    @property
    def fingerprint(self) -> str:
        """Tasks carry what they need; the interface decides what counts as a call."""
        return f"{type(self).__name__} {self.config.interface}"

    def screenshot(self, *, full_page: bool = False) -> bytes:
        """The active tab as a PNG image: what is seen of it, or with ``full_page`` all of it."""
        return self.browser.screenshot(full_page)

    def picture(self) -> bytes:
        """What is seen of the active tab."""
        return self.screenshot()

    # The domain ------------------------------------------------------------------------------------------------

    def tasks(self) -> Sequence[Task]:
        """The configured set's tasks."""
        return get_task_set(self.config.tasks).tasks()

    def start(self, task: Task) -> Opening:
        """Opens the task's first page."""
        self.stop()
        self._spec = spec = BrowserTask.of(task)
        self._browser = browser = SteadySession(task, spec, self.task_set, self._image())
        try:
            view = browser.start()
        except PageFault as fault:
            raise PageNotShown(f"task {task.id}: {fault.kind}: {fault.reason}") from fault
        text = self.config.interface == "text"
        goal = spec.goal if spec.goal is not None else browser.goal or ""
        messages = [
            Message(role="system", content=prompts.TEXT_SYSTEM if text else prompts.TOOLS_SYSTEM),
            Message(role="user", content=prompts.opening(goal, view.text)),
        ]
        return Opening(messages, [] if text else TOOLS)

    def respond(self, action: Message, recorded: Sequence[Message] | None = None) -> Response:
        """Carries out the action's calls in order; a message without calls ends the episode."""
        calls = calls_of(action)
        if not calls:
            said = [message for message in recorded or () if message.role == "user"]
            return Response(said, done=not said, termination=None if said else "answered")
        ready, problems = self._check(calls)
        try:
            done = self.browser.turn(ready)
        except PageFault as fault:
            text = f"The page cannot be used any more: {fault.reason}."
            return Response(self._answers(action, calls, problems, text), done=True, termination=fault.kind)
        errors = iter(done.errors)
        told = [problem if problem is not None else next(errors) for problem in problems]
        text = done.view.text
        if problems[-1] is not None:
            head, _, rest = text.partition("\n\n")
            text = f"{head}\nError: {problems[-1]}\n\n{rest}"
        end = self.task_set.ended(self.spec_of_task, done.view)
        if end is None and any(call.name in _ENDING for call in calls):
            end = "infeasible"
        if end is None and self.spec_of_task.ends_on_message and any(call.name == "send_msg_to_user" for call in calls):
            end = "answered"
        return Response(self._answers(action, calls, told, text), done=end is not None, termination=end)

    def save(self) -> State | None:
        """How the state was reached and what it is; None where the page is gone."""
        kept = self.browser.keep()
        if kept is None:
            return None
        return State(kept, kept.nbytes)

    def load(self, state: State) -> None:
        """Goes there again, in a browser context of its own."""
        self.stop()
        self._spec = BrowserTask.of(self.task)
        self._browser = SteadySession(self.task, self._spec, self.task_set, self._image())
        kept: Kept = state.payload
        self._browser.restore(kept)

    def diff(self, before: State, after: State) -> list[JsonObject]:
        """What differs between two states: page, tabs, fields, storage, cookies, the site's own facts."""
        one, two = before.payload, after.payload
        rows = page_changes(one.view.state, two.view.state)
        site = self._browser.site if self._browser is not None else None
        if one.site != two.site and site is not None:
            rows += page_changes({"site": site.facts(one.site)}, {"site": site.facts(two.site)})
        return rows

    def score(self) -> Verdict:
        """The task set's judgement of the last page, the site and the answer."""
        episode, browser = self.episode, self.browser
        final = Final(browser.view, browser.site, self._answer_given(), self.messages, episode.termination)
        return self.task_set.goal(episode.task, final)

    def stop(self) -> None:
        """Gives the browser context back."""
        browser, self._browser = self._browser, None
        if browser is not None:
            browser.close()

    def parse_action(self, text: str) -> tuple[Message, str | None]:
        """Tool calls, or in the text interface calls such as ``click('12')``."""
        if self.config.interface == "tools":
            return parse_action(text)
        message = Message(role="assistant", content=text)
        try:
            parse_calls(text)
        except NotCalls as problem:
            return message, str(problem)
        return message, None

    def check_answer(
        self, action: Message, replayed: Sequence[Message], recorded: Sequence[Message], first_index: int = 0
    ) -> list[ObservationCheck]:
        """Compares observations; in the text interface they are the user's messages."""
        if action.tool_calls or not calls_of(action):
            return check_observations(self, action, replayed, recorded, first_index)
        return check_observations(self, action, _as_results(replayed), _as_results(recorded), first_index)

    def explain(self, action: Message, replayed: Message | None, recorded: Message | None) -> str | None:
        """What the task set knows."""
        if recorded is None:
            return "not_recorded"
        if replayed is None:
            return None
        return self.task_set.explain(self.task, action, replayed.text, recorded.text)

    def restore_errors(self) -> Sequence[str]:
        """Requests that the archive of a recorded site does not hold."""
        browser = self._browser
        if browser is None or not self.task_set.archived:
            return ()
        return [f"not in the archive: {line}" for line in dict.fromkeys(browser.missing)]

    def restore_note(self) -> str | None:
        """Requests of the pages that nobody served."""
        missing = self._browser.missing if self._browser is not None else []
        return f"{len(missing)} requests not served: {'; '.join(missing[:10])}"[:4000] if missing else None

    def faults(self) -> Sequence[tuple[object, str]]:
        """One turn in the browser."""
        return [(self.browser.session, "turn")]

    # Inner parts ----------------------------------------------------------------------------------------------

    def _image(self) -> str:
        """The image Chromium runs in; empty for this machine."""
        if self.config.backend == "local":
            return ""
        return self.config.image or BROWSER_IMAGE

    def _check(self, calls: Sequence[ToolCall]) -> tuple[list[Call], list[str | None]]:
        """The calls that can be tried, and for each call why it cannot, or None."""
        ready: list[Call] = []
        problems: list[str | None] = []
        for call in calls:
            tool = BY_NAME.get(call.name)
            if tool is None:
                problems.append(f"unknown tool {call.name!r}; there is: {', '.join(BY_NAME)}")
                continue
            try:
                ready.append((call.name, validate_arguments(tool, call.arguments)))
                problems.append(None)
            except ArgumentError as error:
                problems.append(str(error))
        return ready, problems

    def _answers(
        self, action: Message, calls: Sequence[ToolCall], errors: Sequence[str | None], text: str
    ) -> list[Message]:
        """A message for each call; the last one shows the page."""
        if not action.tool_calls:
            return [Message(role="user", content=text)]
        earlier = [f"Error: {error}" if error else "Done." for error in errors[:-1]]
        return [
            Message(role="tool", content=said, tool_call_id=call.id, name=call.name)
            for call, said in zip(calls, [*earlier, text], strict=True)
        ]

    def _answer_given(self) -> str | None:
        """The last thing the agent told the user."""
        for message in reversed(self.messages):
            if message.role != "assistant":
                continue
            calls = calls_of(message)
            if not calls:
                return message.text
            for call in reversed(calls):
                if call.name in ("send_msg_to_user", "report_infeasible") and isinstance(call.arguments, dict):
                    said = call.arguments.get("text") or call.arguments.get("reason")
                    return str(said) if said is not None else None
        return None


def _as_results(messages: Sequence[Message]) -> list[Message]:
    return [message.model_copy(update={"role": "tool"}) if message.role == "user" else message for message in messages]
