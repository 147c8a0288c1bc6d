"""What actions do in forks of the browser at a pivot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

from pivotgym.envs.browser.actions import calls_of
from pivotgym.envs.browser.effects import content_of, element_lines, page_changes, same_document, visible_lines
from pivotgym.envs.browser.engine import BrowserError, BrowserGone, engine
from pivotgym.envs.browser.env import FAULTS, BrowserEnv
from pivotgym.envs.browser.steady import TIMED, TURN_SECONDS
from pivotgym.envs.browser.tab import Moved, PageFault, ScriptError
from pivotgym.envs.browser.tasks import Final
from pivotgym.envs.core import Pivot, Response
from pivotgym.envs.trajectory import JsonObject, Message, ToolCall

T = TypeVar("T")
ATTEMPTS = 3
"""How often an action is run anew when the browser dies under it."""
LATER_TURNS = 3
"""So many of the demonstration's next turns are done to find what the page does not show."""
SPEAKING = {"send_msg_to_user": "text", "report_infeasible": "reason"}
"""Calls that tell the user something, and the argument that says what."""
_ERROR = "Error: "
_ENDED = "The page cannot be used any more"
_BLUR = "document.activeElement && document.activeElement.blur ? document.activeElement.blur() : null"
_AWAY = Message(role="assistant", tool_calls=[ToolCall(name="mouse_move", arguments={"x": 0, "y": 0}, id="call_away")])


@dataclass(frozen=True)
class Outcome:
    """The browser after an action.

    Attributes:
        state: what it looks like (``PageView.state``); None where the page cannot be shown any more.
        elements: the active tab's elements (:func:`pivotgym.envs.browser.effects.element_lines`).
        site: the site's facts.
        errors: what could not be carried out, in the order of the calls.
        done: whether the episode is over.
        termination: why.
        reward: what the task's own goal gives for the state.
        answered: the task's goal depends on what the user was told.
        later: the outcomes of the demonstration's next turns, done after the action.
    """

    state: JsonObject | None
    elements: tuple[str, ...] = ()
    site: Any = None
    errors: tuple[str, ...] = ()
    done: bool = False
    termination: str | None = None
    reward: float = 0.0
    answered: bool = False
    later: tuple[Outcome, ...] = field(default=(), repr=False)

    @cached_property
    def content(self) -> JsonObject:
        """What counts of the state."""
        if self.state is None:
            return {"termination": self.termination}
        return {**content_of(self.state), "site": self.site, "elements": list(self.elements)}

    @property
    def fault(self) -> tuple[int, str] | None:
        """The first page that could not be shown any more: after how many more turns, and how that is called."""
        ends = enumerate((self, *self.later))
        return next(((turn, end.termination) for turn, end in ends if end.termination in FAULTS), None)

    @property
    def shown(self) -> dict[int, str]:
        """Lines of the tree that can be seen without scrolling, by their place in it."""
        return visible_lines(self.state) if self.state is not None else {}

    def part(self, name: str) -> Any:
        """A part of the state."""
        return self.state.get(name) if self.state is not None else None

    @property
    def now(self) -> float:
        """Milliseconds on the clock of the page shown."""
        return float(self.part("now") or 0.0)

    @property
    def dialogs(self) -> list[Any]:
        """The dialogs that the last call raised, kind and text each."""
        dialogs = self.part("dialogs")
        return list(dialogs[0]) if dialogs else []


def different(one: Outcome, other: Outcome) -> list[str]:
    """The parts of the content in which two outcomes differ.

    The address alone is no difference where it names the same document: the same page was asked for in other words.
    """
    keys = [key for key in {**one.content, **other.content} if one.content.get(key) != other.content.get(key)]
    if keys == ["address"]:
        ours, theirs = one.content["address"], other.content["address"]
        if len(ours) == len(theirs) and all(map(same_document, ours, theirs)):
            return []
    return keys


def rows_between(one: Outcome, other: Outcome) -> list[JsonObject]:
    """The differences as rows, for a person to read."""
    parts = different(one, other)
    before = {key: one.content.get(key) for key in parts if key != "elements"}
    after = {key: other.content.get(key) for key in parts if key != "elements"}
    rows = page_changes(before, after)
    if "elements" in parts:
        ours, theirs = Counter(one.elements), Counter(other.elements)
        removed, added = list((ours - theirs).elements()), list((theirs - ours).elements())
        rows.append({"part": "elements", "removed": removed[:20], "added": added[:20]})
    return rows


def said_by(action: Message) -> list[tuple[str, str]]:
    """What an action tells the user: how (``text`` or ``reason``) and what. An action without calls is a text."""
    calls = calls_of(action)
    if not calls:
        return [("text", action.text)]
    found = []
    for call in calls:
        key = SPEAKING.get(call.name)
        if key is not None and isinstance(call.arguments, dict):
            found.append((key, str(call.arguments.get(key, ""))))
    return found


class Outcomes:
    """Runs actions at one pivot; what does not depend on the sampled action is found once a pivot.

    Args:
        env: stands at ``pivot``; it is forked, never stepped.
        pivot: where what was found out is kept.
    """

    def __init__(self, env: BrowserEnv, pivot: Pivot) -> None:
        self.env, self.pivot = env, pivot

    def demonstrated(self) -> Outcome:
        """What the demonstrated action does."""
        return self._once("demonstrated", self._demonstrate)

    def before(self) -> Outcome:
        """The state at the pivot."""
        return self._once("before", lambda: self._read(None))

    def calm_demonstrated(self, wait_ms: float = 0.0) -> Outcome:
        """As :meth:`demonstrated`, then waited for so long on the page's clock, and mouse and focus taken away."""
        return self._once(f"calm demonstrated {wait_ms}", lambda: self._demonstrate(calm=True, wait_ms=wait_ms))

    def calm_before(self) -> Outcome:
        """The state at the pivot, mouse and focus taken away."""
        return self._once("calm before", lambda: self._read(None, calm=True))

    def demonstrated_later(self) -> Outcome:
        """As :meth:`demonstrated`, with the outcomes of the next turns."""
        return self._once("later", lambda: self._demonstrate(later=True))

    def run(self, action: Message, *, calm: bool = False, later: bool = False) -> Outcome:
        """What a sampled action does in a fork.

        A page that crashes or does not answer is not always the action's doing: memory and processor time run out too.
        It is where it happens in a second fork as well, and the demonstration still works afterwards.

        Args:
            action: the action.
            calm: take mouse and focus away from the page's elements afterwards, as the next action would.
            later: also do the demonstration's next turns, at most :data:`LATER_TURNS`.

        Raises:
            InfrastructureError: the browser failed; that says nothing of the action.
        """
        outcome = self._read(action, calm=calm, later=later)
        if not _unclear(outcome):
            return outcome
        outcome = self._read(action, calm=calm, later=later)
        if _unclear(outcome):
            self._demonstrate(calm=calm, later=later)
        return outcome

    def _demonstrate(self, *, calm: bool = False, wait_ms: float = 0.0, later: bool = False) -> Outcome:
        """What the demonstration does now.

        Raises:
            InfrastructureError: as :meth:`run` does; or the page cannot be used after it, as it could when recorded.
        """
        outcome = self._read(self.pivot.demonstration, calm=calm, wait_ms=wait_ms, later=later)
        fault = outcome.fault
        if fault is not None and not self._ended_at(self.pivot.turn + fault[0]):
            raise BrowserError(f"turn {self.pivot.turn + fault[0]} of the demonstration ends in {fault[1]}")
        return outcome

    def _ended_at(self, turn: int) -> bool:
        """Whether the recording ended with that turn, because the page could not be used any more."""
        trajectory = self.pivot.trajectory
        if turn != len(trajectory.turns) - 1:
            return False
        return any(message.text.startswith(_ENDED) for message in trajectory.answer(turn))

    def _read(
        self, action: Message | None, *, calm: bool = False, wait_ms: float = 0.0, later: bool = False
    ) -> Outcome:
        died = ""
        for _ in range(ATTEMPTS):
            try:
                return self._run(action, calm, wait_ms, later)
            except (BrowserGone, Moved, ScriptError, PageFault) as gone:  # in reading the page, not in the action
                died = f"{type(gone).__name__}: {gone}"
        raise BrowserError(f"the page could not be read {ATTEMPTS} times: {died}")

    def _run(self, action: Message | None, calm: bool, wait_ms: float, later: bool) -> Outcome:
        with self._fork() as child:
            done = _Done() if action is None else _Done.of(child.advance(action, recorded=()))
            if calm and not done.done:
                fault = _calm(child, wait_ms)
                done = done if fault is None else _Done(done.errors, True, fault)
            outcome = _look(child, done)
            if not later or done.done:
                return outcome
            return replace(outcome, later=tuple(self._later(child)))

    def _later(self, child: BrowserEnv) -> Iterator[Outcome]:
        trajectory, turn = self.pivot.trajectory, self.pivot.turn
        for position in range(turn + 1, min(turn + 1 + LATER_TURNS, len(trajectory.turns))):
            done = _Done.of(child.advance(trajectory.action(position), recorded=()))
            yield _look(child, done)
            if done.done:
                return

    @contextmanager
    def _fork(self) -> Iterator[BrowserEnv]:
        child = self.env.fork()
        try:
            yield child
        finally:
            child.close()

    def _once(self, key: str, make: Callable[[], T]) -> T:
        cache = self.pivot.cache.setdefault("browser effects", {})
        if key not in cache:
            cache[key] = make()
        found: T = cache[key]
        return found


@dataclass(frozen=True)
class _Done:
    errors: tuple[str, ...] = ()
    done: bool = False
    termination: str | None = None

    @classmethod
    def of(cls, response: Response) -> _Done:
        errors = tuple(error for message in response.messages for error in _errors_in(message))
        return cls(errors, response.done, response.termination or ("done" if response.done else None))


def _errors_in(message: Message) -> Sequence[str]:
    """What a message reports as failed; in one that shows the page that stands above the tree."""
    head = message.text.partition("\n\n")[0]
    return [line for line in head.splitlines() if line.startswith(_ERROR)]


def _look(child: BrowserEnv, done: _Done) -> Outcome:
    browser = child.browser
    view = browser.view
    if done.done:
        child.episode.done, child.episode.termination = True, done.termination
    reward = child.score().reward
    if view is None:
        return Outcome(None, (), None, done.errors, done.done, done.termination, reward)
    site = browser.site
    facts = site.facts(site.save()) if site is not None else None
    snapshot = engine().run(
        browser.session.active.send("DOMSnapshot.captureSnapshot", {"computedStyles": []}), TURN_SECONDS
    )
    elements = tuple(element_lines(snapshot))
    # Another text in the answer's place: does the goal ask for it?
    unsaid = Final(view, site, "–", child.messages, child.episode.termination)
    answered = reward > 0 and child.task_set.goal(child.task, unsaid).reward < reward
    return Outcome(view.state, elements, facts, done.errors, done.done, done.termination, reward, answered)


def _calm(child: BrowserEnv, wait_ms: float) -> str | None:
    """Takes mouse and focus away; says which fault of the page came of it."""
    if wait_ms > 0:
        wait = ToolCall(name="noop", arguments={"wait_ms": wait_ms}, id="call_wait")
        waited = child.respond(Message(role="assistant", tool_calls=[wait]))
        if waited.termination in FAULTS:
            return waited.termination
    engine().run(child.browser.session.active.evaluate(_BLUR), TURN_SECONDS)
    moved = child.respond(_AWAY)
    return moved.termination if moved.termination in FAULTS else None


def _unclear(outcome: Outcome) -> bool:
    """Whether the page ended in a fault that a machine short of memory or processor time can cause too."""
    return outcome.fault is not None and outcome.fault[1] in TIMED
