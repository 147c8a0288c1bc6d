"""Effects for browsers: do the demonstrated and the sampled action in forks, compare what page and site became."""

from __future__ import annotations

from collections import Counter

from pivotgym.envs.browser.actions import calls_of
from pivotgym.envs.browser.effects import same_document
from pivotgym.envs.browser.env import FAULTS, BrowserEnv
from pivotgym.envs.core import AgentEnv
from pivotgym.envs.errors import BadInput
from pivotgym.envs.trajectory import JsonObject, Message
from pivotgym.verifiers.arguments import canonical_call
from pivotgym.verifiers.base import Verdict, Verifier, pivot_of
from pivotgym.verifiers.browser_messages import message_problem
from pivotgym.verifiers.browser_outcomes import Outcome, Outcomes, different, rows_between, said_by
from pivotgym.verifiers.talk import TalkRule

MAX_EXTRA_CALLS = 4
"""Calls allowed beyond the demonstration: by the keyboard, what one call does takes a few."""
MAX_WAIT_MS = 10_000.0
"""A sampled action may take so much longer on the page's clock, in milliseconds."""
MIN_SHOWN = 0.75
"""Of what a demonstration brought into view, so much must be in view."""
LOOKS = frozenset({"noop", "scroll", "hover", "mouse_move"})
"""Actions that are there to see more, not to change anything."""


class BrowserEffects(Verifier):
    """Right is an action after which page, browser and site are what they are after the demonstrated one.

    Both run in forks of the restored state, each until the page has settled. Compared are the addresses and titles of
    all tabs, the accessibility tree, the elements with their attributes and values, fields, storage, cookies, the
    site's own state, whether the episode is over, and what the task's goal gives.

    - **However it was reached.** Label or box, Enter or the button, a click by coordinates, keys, an address: only the
      end counts. Element ids do not, nor does an address that asks for the same document in other words where all the
      rest is equal.
    - **What does not count**, where the demonstration changes anything else: scroll position, focus, selection, where
      the mouse is, time on the page's clock. They say where the agent stands, and every action sets them anew. What
      they leave on the page (a hovered menu, a suggestion list) does not count either: where two ends differ, the
      demonstration waits if it was the shorter one, mouse and focus are taken away in both, and equal is right, as long
      as something is left of what the demonstration changed.
      The clipboard counts where the demonstration changes it, dialogs always.
    - **Where the demonstration changes nothing** that can be seen, all of that is what it is for: most of what it
      brought into view must be in view, and focus, selection and clipboard as it sets them. As a page may note a click
      where nobody sees it, the demonstration's next turns are then done after both, and must come out alike.
    - **The goal.** An action that ends the episode with as much reward as the demonstrated one, where that ends it, or
      with all of it, is right whatever else differs.
    - **Failures.** A call that fails is wrong, unless the demonstration fails with the same error.
    - **Messages** to the user are compared by :func:`pivotgym.verifiers.browser_messages.message_problem`.

    One turn is compared with one turn: who fills the second field first, or does the next turn's work as well, has not
    done the same. ``any_of(browser_effects,continuation)`` forgives it where the demonstration's other turns still
    reach the goal.
    """

    name = "browser_effects"
    cost = 300.0

    def __init__(self, talk: TalkRule | None = None, max_extra_calls: int = MAX_EXTRA_CALLS) -> None:
        self.talk = talk or TalkRule()
        self.max_extra_calls = max_extra_calls

    def verify(self, env: AgentEnv, action: Message) -> Verdict:
        """1 or 0 by rule ``browser_effects``; for a message without anything to check what :class:`TalkRule` gives.

        Raises:
            BadInput: ``env`` is no :class:`BrowserEnv`, or does not stand at a turn of a recording.
            InfrastructureError: the browser failed.
        """
        if not isinstance(env, BrowserEnv):
            raise BadInput(f"{type(env).__qualname__} is no browser: take the verifier effects", field="verifier")
        pivot = pivot_of(env)
        if _same_calls(env, pivot.demonstration, action):
            return self._right("the demonstrated action")
        calls, shown = calls_of(action), calls_of(pivot.demonstration)
        if len(calls) > len(shown) + self.max_extra_calls:
            return self._wrong(f"{len(calls)} calls where at most {len(shown) + self.max_extra_calls} are allowed")
        runs = Outcomes(env, pivot)
        wanted, given = runs.demonstrated(), runs.run(action)
        problem = _broken(wanted, given)
        if problem is not None:
            return self._wrong(problem)
        if said_by(pivot.demonstration) or said_by(action):
            return self._told(env, runs, action, wanted, given)
        if _wins(wanted, given):
            return self._right("ends the task with its reward")
        return self._compare(runs, action, wanted, given)

    def _told(self, env: BrowserEnv, runs: Outcomes, action: Message, wanted: Outcome, given: Outcome) -> Verdict:
        if not said_by(runs.pivot.demonstration):
            if given.answered and _wins(wanted, given):
                return self._right("answers what the task asks for")
            return self._wrong("tells the user something where the demonstration acts")
        if not said_by(action):
            if _wins(wanted, given):
                return self._right("ends the task with its reward")
            return self._wrong("does not tell the user anything")
        worth, why = message_problem(self.talk, env, runs.pivot, action, wanted, given)
        if worth <= 0.0:
            return self._wrong(why)
        rest = self._right(why) if _wins(wanted, given) else self._compare(runs, action, wanted, given)
        return rest if rest.reward < worth else rest.model_copy(update={"reward": worth, "reason": why})

    def _compare(self, runs: Outcomes, action: Message, wanted: Outcome, given: Outcome) -> Verdict:
        if given.done != wanted.done:
            return self._wrong("ends the episode" if given.done else "does not end the episode")
        if given.dialogs != wanted.dialogs:
            return self._wrong("raises other dialogs", {"dialogs": given.dialogs, "demonstrated": wanted.dialogs})
        if different(wanted, given):
            return self._settled(runs, action, wanted, given)
        if given.reward < wanted.reward:
            return self._wrong(f"earns {given.reward:g} where the demonstration earns {wanted.reward:g}")
        before = runs.before()
        problem = _otherwise_in(("clipboard",), before, wanted, given)
        if problem is None and not wanted.done and not different(before, wanted):
            problem = _placed_otherwise(runs, action, before, wanted, given) or _hidden_difference(runs, action)
            return self._right("no change, as demonstrated") if problem is None else self._wrong(problem)
        return self._right("the same page") if problem is None else self._wrong(problem)

    def _settled(self, runs: Outcomes, action: Message, wanted: Outcome, given: Outcome) -> Verdict:
        """Compares once mouse and focus are away."""
        evidence: JsonObject = {"differences": rows_between(wanted, given)[:20]}
        if not wanted.done and not _only_looks(runs.pivot.demonstration) and _same_place(wanted, given):
            # Several calls take longer than one: what moves on the page by itself has moved on.
            calm = runs.calm_demonstrated(min(max(given.now - wanted.now, 0.0), MAX_WAIT_MS))
            if different(runs.calm_before(), calm) and not different(calm, runs.run(action, calm=True)):
                return self._right("the same page once mouse and focus are elsewhere")
        if not different(runs.before(), given):
            return self._wrong("changes nothing where the demonstration does", evidence)
        parts = ", ".join(different(wanted, given))
        return self._wrong(f"another page than demonstrated: other {parts}", evidence)

    def _right(self, reason: str) -> Verdict:
        return Verdict(reward=1.0, rule=self.name, reason=reason)

    def _wrong(self, reason: str, evidence: JsonObject | None = None) -> Verdict:
        return Verdict(reward=0.0, rule=self.name, reason=reason, evidence=evidence or {})


def _same_calls(env: BrowserEnv, demonstration: Message, action: Message) -> bool:
    calls, shown = calls_of(action), calls_of(demonstration)
    if not calls and not shown:
        return action.text == demonstration.text
    return [canonical_call(env.tools, call) for call in calls] == [canonical_call(env.tools, call) for call in shown]


def _broken(wanted: Outcome, given: Outcome) -> str | None:
    """Says if the action failed, or made the page fail, where the demonstrated one did not."""
    if given.termination in FAULTS and given.termination != wanted.termination:
        return f"the page cannot be used any more ({given.termination})"
    failed = list((Counter(given.errors) - Counter(wanted.errors)).elements())
    return failed[0][:300] if failed else None


def _wins(wanted: Outcome, given: Outcome) -> bool:
    """Whether the action ends the episode with what there is to earn."""
    return given.done and given.reward >= (wanted.reward if wanted.done and wanted.reward > 0 else 1.0)


def _same_place(wanted: Outcome, given: Outcome) -> bool:
    """Whether both show the same document and site: no mouse and no focus brings another."""
    ours, theirs = given.content, wanted.content
    alike = all(ours.get(part) == theirs.get(part) for part in ("cookies", "site"))
    return alike and all(map(same_document, ours["address"], theirs["address"]))


def _only_looks(action: Message) -> bool:
    calls = calls_of(action)
    return bool(calls) and all(call.name in LOOKS for call in calls)


def _placed_otherwise(runs: Outcomes, action: Message, before: Outcome, wanted: Outcome, given: Outcome) -> str | None:
    """Says if what the demonstration brought into view is not in view, or focus or selection are not as it set them."""
    if _only_looks(runs.pivot.demonstration):
        brought = wanted.shown.keys() - before.shown.keys()  # equal pages have equal trees
        missing = sorted(brought - given.shown.keys())
        if len(brought) - len(missing) < MIN_SHOWN * len(brought):
            return f"does not show {len(missing)} of {len(brought)} lines, the first {wanted.shown[missing[0]][:200]}"
        return None
    return _otherwise_in(("focus", "selection"), before, wanted, given)


def _otherwise_in(parts: tuple[str, ...], before: Outcome, wanted: Outcome, given: Outcome) -> str | None:
    for part in parts:
        if wanted.part(part) not in (before.part(part), given.part(part)):
            return f"another {part} than demonstrated"
    return None


def _hidden_difference(runs: Outcomes, action: Message) -> str | None:
    """Says if the demonstration's next turns come out otherwise: the page noted something without showing it."""
    if _only_looks(runs.pivot.demonstration) and _only_looks(action):
        return None
    wanted, given = runs.demonstrated_later(), runs.run(action, later=True)
    for turn, (theirs, ours) in enumerate(zip(wanted.later, given.later, strict=False), runs.pivot.turn + 1):
        if different(theirs, ours) or (theirs.done, theirs.reward) != (ours.done, ours.reward):
            return f"looks the same now, but turn {turn} of the demonstration then does something else"
        if theirs.errors != ours.errors:
            return f"looks the same now, but turn {turn} of the demonstration then fails"
    return None
