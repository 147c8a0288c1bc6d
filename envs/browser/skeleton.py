"""Runs what a script or an archive says was done, and records what is seen: a skeleton becomes a trajectory."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pivotgym.envs.browser.engine import BrowserError, BrowserGone, engine
from pivotgym.envs.browser.env import BrowserEnv
from pivotgym.envs.browser.session import Session
from pivotgym.envs.browser.tab import Moved, PageFault, Tab
from pivotgym.envs.browser.tasks import BrowserTask
from pivotgym.envs.errors import NotRestorable
from pivotgym.envs.formats.playwright_steps import Step
from pivotgym.envs.trajectory import JsonObject, Message, Outcome, Task, ToolCall, Trajectory

if TYPE_CHECKING:
    from playwright.async_api import ElementHandle

_SECONDS = 30.0
_FLAGS = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL}
# The page numbers its elements in this order, see inpage.js.
_ID = """(wanted) => {
  const top = wanted.ownerDocument.defaultView.top, ids = top.__pivot.report().ids;
  let at = 0;
  const walk = (list) => {
    for (const element of list) {
      const id = ids[at++];
      if (element === wanted) return id;
      let found = element.shadowRoot ? walk(element.shadowRoot.querySelectorAll("*")) : null;
      if (!found && /^I?FRAME$/.test(element.tagName) && ids[at++] === "+") {
        found = walk(element.contentDocument.querySelectorAll("*"));
      }
      if (found) return found;
    }
    return null;
  };
  return walk(top.document.querySelectorAll("*"));
}"""
_OPTION = "(element, index) => element.options[index] ? element.options[index].value : null"


def record(
    skeleton: Trajectory,
    env: BrowserEnv,
    task: Task | None = None,
    *,
    origins: Mapping[str, str] | None = None,
    closing: str | None = None,
) -> Trajectory:
    """Runs a skeleton's actions one by one and records what the environment shows.

    Locators are resolved by Playwright on the page as it is at that turn, and have to be of exactly one element. A
    first ``goto`` of the page where the task starts is no action of the agent's.

    Args:
        skeleton: as the importers of Playwright scripts and HAR archives give it.
        env: in its interface with tools; its episode is another one afterwards.
        task: where it is run; by default the skeleton's own.
        origins: by which of the task's origins an origin of the script is replaced, such as
            ``{"http://localhost:5000": "http://shop.test"}``.
        closing: what the agent says at the end, without which many tasks are not over.

    Returns:
        The trajectory, with the reward where the episode ended.

    Raises:
        NotRestorable: there is no task, or the pages are not those the script was made on; it says where.
        BrowserError: the browser died while an element was looked for.
    """
    task = task or skeleton.task
    if task is None:
        raise NotRestorable("no_environment", f"skeleton {skeleton.id} names no task to run it in")
    env.reset(options={"task": task})
    run = _Run(skeleton, env, origins or {})
    for turn in range(len(skeleton.turns)):
        run.turn(skeleton.action(turn))
        if run.over:
            break
    if closing is not None and not run.over:
        run.say(closing)
    messages = [message.clone() for message in env.transcript]
    turns = [message for message in messages if message.role == "assistant"]
    for message, source in zip(turns, run.sources, strict=True):
        message.source = source
    source = {key: value for key, value in skeleton.source.items() if key != "skeleton"}
    return Trajectory(id=skeleton.id, task=task, tools=env.tools, messages=messages, outcome=run.outcome, source=source)


class _Run:
    """One skeleton on its way through an episode."""

    def __init__(self, skeleton: Trajectory, env: BrowserEnv, origins: Mapping[str, str]) -> None:
        self._skeleton, self._env, self._origins = skeleton, env, origins
        self._tabs: dict[str, Tab] = {}
        self._calls = 0
        self.sources: list[JsonObject] = []
        self.outcome = Outcome()
        self.over = False

    def turn(self, action: Message) -> None:
        """Runs one action of the skeleton."""
        given = action.source.get("playwright")
        if given is None:
            self._do([call.clone() for call in action.tool_calls], {}, action.text)
            return
        step = Step.model_validate(given)
        where = f"{self._skeleton.id}, line {step.line} ({step.text})"
        session = self._env.browser.session
        if not self._tabs:
            self._tabs[step.page] = session.active
        shown = self._tabs.get(step.page)
        if step.kind != "new_tab":
            if shown is None or shown not in session.tabs:
                raise NotRestorable("no_page", f"{where}: the page {step.page!r} is not there")
            if shown is not session.active:
                self._do([ToolCall(name="tab_focus", arguments={"index": session.tabs.index(shown)})], {}, where)
        calls = self._calls_of(step, where)
        if calls and not self.over:
            self._do(calls, {"playwright": given}, where)
        if step.opens is not None and not self.over:
            self._tabs[step.opens] = self._env.browser.session.active
            if self._tabs[step.opens] is shown:
                raise NotRestorable("no_page", f"{where}: no window was opened")

    def say(self, text: str) -> None:
        """Ends the episode with an answer."""
        self._step({"role": "assistant", "content": text}, {})

    def _do(self, calls: list[ToolCall], source: JsonObject, where: str) -> None:
        for call in calls:
            call.id = f"call_{self._calls}"
            self._calls += 1
        self._step({"role": "assistant", "content": "", "tool_calls": [call.chat() for call in calls]}, source)
        head = self._env.messages[-1].text.partition("\n\n")[0]
        error = re.search(r"^Error: (.*)", head, re.MULTILINE)
        if error:
            raise NotRestorable("refused", f"{where}: {error.group(1)}")

    def _step(self, action: JsonObject, source: JsonObject) -> None:
        _, reward, terminated, truncated, info = self._env.step(action)
        self.sources.append(source)
        if terminated or truncated:
            self.over = True
            self.outcome = Outcome(reward=reward, termination=info["termination"])

    def _calls_of(self, step: Step, where: str) -> list[ToolCall]:
        """What the environment is asked to do; nothing where a box is already as it should be."""
        if step.kind == "goto":
            url = self._moved(str(step.arguments["url"]))
            start = [BrowserTask.of(self._env.task).url, self._env.browser.session.active.url]
            if not self.sources and _plain(url) in map(_plain, start):
                return []
            return [ToolCall(name="goto", arguments={"url": url})]
        if step.kind == "reload":
            return [ToolCall(name="goto", arguments={"url": self._env.browser.session.active.url})]
        if step.kind == "show":
            return []
        if step.locator is None:
            return [ToolCall(name=step.kind, arguments=step.arguments)]
        try:
            found = engine().run(_look(self._env.browser.session, step, where), _SECONDS)
        except BrowserGone as gone:
            raise BrowserError(f"{where}: {gone}") from gone
        except (Moved, PageFault) as fault:
            raise NotRestorable("page", f"{where}: {fault}") from fault
        if step.kind in ("check", "uncheck"):
            return [ToolCall(name="click", arguments={"bid": found["bid"]})] if found["act"] else []
        if step.kind == "type":
            typed = ToolCall(name="keyboard_type", arguments=step.arguments)
            return [ToolCall(name="focus", arguments={"bid": found["bid"]}), typed]
        if step.kind == "drag_and_drop":
            return [ToolCall(name=step.kind, arguments={"from_bid": found["bid"], "to_bid": found["to"]})]
        arguments = {"options": found["option"]} if "option" in found else step.arguments
        return [ToolCall(name=step.kind, arguments={"bid": found["bid"], **arguments})]

    def _moved(self, url: str) -> str:
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        return self._origins[origin] + url[len(origin) :] if origin in self._origins else url


async def _look(session: Session, step: Step, where: str) -> JsonObject:
    """What Playwright finds where the step's locators point."""
    tab = session.active
    handle = await _one(tab, step.locator, where)
    found: JsonObject = {"bid": await tab.call(handle.evaluate(_ID))}
    if step.target is not None:
        target = await _one(tab, step.target, where)
        found["to"] = await tab.call(target.evaluate(_ID))
    if step.kind in ("check", "uncheck"):
        found["act"] = await tab.call(handle.is_checked()) is (step.kind == "uncheck")
    if "index" in step.arguments:
        option = await tab.call(handle.evaluate(_OPTION, step.arguments["index"]))
        if option is None:
            raise NotRestorable("locator", f"{where}: there is no option {step.arguments['index']}")
        found["option"] = option
    if None in (found["bid"], found.get("to", "")):
        raise NotRestorable("locator", f"{where}: the element has no id")
    return found


async def _one(tab: Tab, locator: Any, where: str) -> ElementHandle:
    from playwright.async_api import Error

    try:
        handles: list[ElementHandle] = await tab.call(_apply(tab.page, locator).element_handles())
    except Error as error:
        raise NotRestorable("locator", f"{where}: {str(error).splitlines()[0]}") from error
    if len(handles) != 1:
        raise NotRestorable("locator", f"{where}: {len(handles)} elements are found, not one")
    return handles[0]


def _apply(page: Any, locator: Any) -> Any:
    """Playwright's locator; the names were checked when the script was read."""
    found = page
    for name, values, options in locator:
        part = getattr(found, name)
        if values is None:
            found = part
        else:
            given = {key: _value(page, value) for key, value in options.items()}
            found = part(*(_value(page, value) for value in values), **given)
    return found


def _value(page: Any, value: Any) -> Any:
    if isinstance(value, dict) and "regex" in value:
        flags = 0
        for letter in value["flags"]:
            flags |= _FLAGS.get(letter, 0)
        return re.compile(value["regex"], flags)
    if isinstance(value, dict):
        return _apply(page, value["locator"])
    return value


def _plain(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path or '/'}" + (f"?{parts.query}" if parts.query else "")
