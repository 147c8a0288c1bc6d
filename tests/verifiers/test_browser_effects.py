"""The effects verifier for browsers on pages of the tests' own: what counts, what does not, and what fails."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import needs
import pytest

needs.require("playwright", "browser")
needs.require("h11", "browser")
if not any(map(shutil.which, ("/usr/lib/chromium/chromium", "chromium", "google-chrome", "chromium-browser"))):
    needs.missing("Chromium is not installed: apt-get install chromium")

from chromium import kill  # noqa: E402
from web_pages import Agent  # noqa: E402

from pivotgym.envs.browser.engine import BrowserError, engine  # noqa: E402
from pivotgym.envs.browser.env import BrowserEnv  # noqa: E402
from pivotgym.envs.browser.session import Call, Done, Session  # noqa: E402
from pivotgym.envs.errors import BadInput, InfrastructureError  # noqa: E402
from pivotgym.envs.snapshots import SnapshotStore  # noqa: E402
from pivotgym.envs.terminal.env import TerminalEnv  # noqa: E402
from pivotgym.envs.trajectory import Message, Trajectory  # noqa: E402
from pivotgym.envs.verdict import Verdict  # noqa: E402
from pivotgym.verifiers import make, verify_completion  # noqa: E402
from pivotgym.verifiers.browser_pairs import as_message  # noqa: E402

NAMES = """<title>Names</title><form action="/sent"><input name=first aria-label=first><input name=last aria-label=last>
<button>Send</button></form><form action="/other"><input name=q aria-label=search></form>"""
FIRST, LAST, SEARCH = "textbox 'first'", "textbox 'last'", "textbox 'search'"
SECRET = """<title>Secret</title><script>let pressed = 0;</script>
<button onclick="pressed++">Press</button><button onclick="void 0">Other</button>
<button onclick="document.title = pressed === 1 ? 'won' : 'lost'">Open</button>"""
MENU = """<title>Menu</title><style>.below { display: none } li:hover .below { display: block }</style>
<ul><li><button id=file onclick="document.getElementById('note').textContent = 'File was chosen'">File</button>
<p class=below>New file</p></li><li><button>Edit</button><p class=below>Undo</p></li></ul><p id=note></p>"""
LONG = """<title>Long</title><input type=checkbox aria-label=agree>""" + "".join(
    f"<p style='height: 90px'>Paragraph {number}</p>" for number in range(40)
)
MARKS = """<title>Marks</title><style>.on { border: 2px solid }</style>
<div role=button onclick="this.classList.toggle('on')">Left</div>
<div role=button onclick="this.classList.toggle('on')">Right</div>"""
SERVER = """<title>Server</title><button onclick="fetch('/count').then((r) => r.text())">Count</button>
<button onclick="localStorage.seen = 'yes'">Note</button>
<button onclick="alert('Saved at ' + document.title)">Save</button><button onclick="alert('Lost')">Lose</button>"""


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    with closing(BrowserEnv(snapshots=SnapshotStore())) as env:
        yield Agent(env)


def judged(
    agent: Agent, recording: Trajectory, turn: int, calls: str | Message, spec: str = "browser_effects"
) -> Verdict:
    pivot = agent.env.pivot if agent.env.has_episode else None
    if pivot is None or pivot.trajectory is not recording or pivot.turn != turn:
        agent.env.reset(options={"trajectory": recording, "turn": turn})
    action = calls if isinstance(calls, Message) else as_message(calls)
    return verify_completion(make(spec), agent.env, action)


def right(agent: Agent, recording: Trajectory, turn: int, calls: str) -> bool:
    verdict = judged(agent, recording, turn, calls)
    assert verdict.rule == "browser_effects" and verdict.reward in (0.0, 1.0) and verdict.reason
    return verdict.reward == 1.0


def both_names(agent: Agent) -> tuple[Trajectory, dict[str, str]]:
    """First name, last name, sent: the page that is opened by it is won."""
    agent.open(NAMES, more={"/sent": "<title>won</title>", "/other": "<title>Other</title>"})
    ids = {name: agent.id_of(name) for name in (FIRST, LAST, SEARCH, "button 'Send'")}
    agent.do("fill", bid=ids[FIRST], value="Ada")
    agent.do("fill", bid=ids[LAST], value="Lovelace")
    agent.click("button 'Send'")
    assert agent.last[0] == 1.0
    return agent.recording(), ids


def test_the_same_end_is_right_however_it_was_reached(agent: Agent) -> None:
    recording, ids = both_names(agent)
    first, search, send = ids[FIRST], ids[SEARCH], ids["button 'Send'"]
    assert judged(agent, recording, 0, f"fill('{first}', 'Ada')").reason == "the demonstrated action"
    assert right(agent, recording, 0, f"click('{first}')\nkeyboard_type('Ada')")
    assert not right(agent, recording, 0, f"fill('{first}', 'Ada ')")
    assert not right(agent, recording, 0, f"fill('{search}', 'Ada')")
    assert right(agent, recording, 2, f"press('{first}', 'Enter')")
    assert right(agent, recording, 2, "goto('http://pages.test/sent?last=Lovelace&first=Ada')")
    assert not right(agent, recording, 2, f"press('{search}', 'Enter')")
    assert not right(agent, recording, 2, f"focus('{send}')")
    assert not right(agent, recording, 0, f"fill('{first}', 'Ada')\n" + "noop()\n" * 5), "more calls than allowed"


def test_another_order_is_forgiven_by_continuation_and_the_goal_by_nobody(agent: Agent) -> None:
    recording, ids = both_names(agent)
    first, last, _, send = ids.values()
    other_order = f"fill('{last}', 'Lovelace')"
    assert not right(agent, recording, 0, other_order)
    assert judged(agent, recording, 0, other_order, "any_of(browser_effects,continuation)").reward == 1.0
    everything = f"fill('{first}', 'Ada')\nfill('{last}', 'Lovelace')\nclick('{send}')"
    assert judged(agent, recording, 0, everything).reason == "ends the task with its reward"


def test_an_action_that_nobody_sees_is_found_by_the_next_turn(agent: Agent) -> None:
    agent.open(SECRET)
    press, other = agent.id_of("button 'Press'"), agent.id_of("button 'Other'")
    agent.click("button 'Press'")
    agent.click("button 'Open'")
    recording = agent.recording()
    assert right(agent, recording, 0, f"press('{press}', 'Enter')")
    for wrong in ("noop()", f"click('{other}')", f"focus('{press}')", f"dblclick('{press}')"):
        assert not right(agent, recording, 0, wrong), wrong
    assert "turn 1 of the demonstration" in judged(agent, recording, 0, f"focus('{press}')").reason


def test_the_mouse_leaves_nothing_that_counts_unless_it_was_to_look(agent: Agent) -> None:
    agent.open(MENU)
    file, edit = agent.id_of("button 'File'"), agent.id_of("button 'Edit'")
    agent.do("hover", bid=file)
    assert "New file" in agent.seen
    agent.do("mouse_move", x=600, y=600)
    agent.click("button 'File'")
    recording = agent.recording()
    assert right(agent, recording, 0, f"noop()\nhover('{file}')")
    assert not right(agent, recording, 0, "noop()")
    assert not right(agent, recording, 0, f"hover('{edit}')")
    # The menu is open under the mouse, and is not for the keyboard: what was chosen is the same.
    assert right(agent, recording, 2, f"press('{file}', 'Enter')")
    assert judged(agent, recording, 2, f"press('{file}', 'Enter')").reason.endswith("focus are elsewhere")
    assert not right(agent, recording, 2, f"hover('{file}')")


def test_time_does_not_count_though_the_page_shows_it(agent: Agent) -> None:
    ticking = "<p id=t></p><script>setInterval(() => { t.textContent = Math.round(performance.now() / 250); }, 250)"
    agent.open(f"{ticking}</script><input aria-label=name><input aria-label=more>")
    name = agent.id_of("textbox 'name'")
    agent.do("fill", bid=name, value="Ada")
    agent.do("noop", wait_ms=1500)
    recording = agent.recording()
    assert right(agent, recording, 0, f"click('{name}')\nkeyboard_type('Ada')")
    assert not right(agent, recording, 0, f"click('{name}')\nkeyboard_type('Eda')")
    assert not right(agent, recording, 1, "noop(100)"), "there, waiting is what was done"
    assert right(agent, recording, 1, "noop(500)\nnoop(1000)")


def test_scrolling_counts_where_it_is_all_that_was_done(agent: Agent) -> None:
    agent.open(LONG)
    agent.do("scroll", delta_x=0, delta_y=700)
    agent.do("scroll", delta_x=0, delta_y=-700)
    agent.click("checkbox 'agree'")
    recording = agent.recording()
    box = agent.id_of("checkbox 'agree'")
    assert right(agent, recording, 0, "scroll(0, 720)")
    assert not right(agent, recording, 0, "scroll(0, 200)")
    assert not right(agent, recording, 0, "noop()")
    assert not right(agent, recording, 0, f"scroll(0, 700)\nclick('{box}')"), "changes something, too"
    assert right(agent, recording, 2, f"click('{box}')\nscroll(0, 300)"), "where it stands then does not count"


def test_focus_counts_where_it_is_all_that_was_done(agent: Agent) -> None:
    agent.open(NAMES)
    first, last = agent.id_of(FIRST), agent.id_of(LAST)
    agent.do("focus", bid=last)
    recording = agent.recording()
    assert right(agent, recording, 0, f"click('{last}')")
    assert right(agent, recording, 0, f"press('{first}', 'Tab')")
    assert not right(agent, recording, 0, f"click('{first}')")
    assert not right(agent, recording, 0, "noop()")


def test_what_only_a_class_shows_what_the_server_has_and_what_is_stored(agent: Agent) -> None:
    agent.open(MARKS)
    left, other = agent.id_of("button 'Left'"), agent.id_of("button 'Right'")
    agent.do("click", bid=left)
    recording = agent.recording()
    assert not right(agent, recording, 0, f"click('{other}')")
    assert not right(agent, recording, 0, f"click('{left}')\nclick('{other}')")
    agent.open(SERVER)
    count, note = agent.id_of("button 'Count'"), agent.id_of("button 'Note'")
    agent.do("click", bid=count)
    agent.do("click", bid=note)
    recording = agent.recording()
    assert right(agent, recording, 0, f"press('{count}', 'Space')")
    assert not right(agent, recording, 0, "noop()")
    assert not right(agent, recording, 0, f"click('{count}')\nclick('{count}')")
    assert not right(agent, recording, 1, f"click('{note}')\nclick('{count}')")
    assert judged(agent, recording, 1, f"click('{count}')").evidence["differences"]


def test_dialogs_and_failures(agent: Agent) -> None:
    agent.open(SERVER)
    save, lose = agent.id_of("button 'Save'"), agent.id_of("button 'Lose'")
    agent.do("click", bid=save)
    agent.do("click", bid="999")
    recording = agent.recording()
    assert right(agent, recording, 0, f"press('{save}', 'Enter')")
    assert "dialogs" in judged(agent, recording, 0, f"click('{lose}')").reason
    assert not right(agent, recording, 0, f"click('{save}')\nclick('999')"), "fails where the demonstration does not"
    assert right(agent, recording, 1, "hover('999')"), "fails as the demonstration does"
    assert not right(agent, recording, 1, "hover('998')")
    assert not right(agent, recording, 0, "upload_file('999', 'a.txt')")


def test_messages(agent: Agent) -> None:
    agent.open("<p>The train leaves at 17:42 from platform 4.</p>", ends_on_message=True)
    agent.do("send_msg_to_user", text="The train leaves at 17:42 from platform 4.")
    recording = agent.recording()
    other = 'send_msg_to_user("It leaves at 17:42, platform 4.")'
    assert judged(agent, recording, 0, other).reward == 1.0
    assert judged(agent, recording, 0, Message(role="assistant", content="it leaves at 17:42, platform 4")).reward == 1
    for wrong in (
        'send_msg_to_user("The train leaves at 17:24 from platform 4.")',
        'send_msg_to_user("The train does not leave at 17:42 from platform 4.")',
        'report_infeasible("The train leaves at 17:42 from platform 4.")',
        "noop()",
        'send_msg_to_user("The train leaves at 17:42 from platform 4.")\nsend_msg_to_user("Or not.")',
    ):
        assert judged(agent, recording, 0, wrong).reward == 0.0, wrong


def test_calls_in_text_are_judged_as_tool_calls_are() -> None:
    with closing(BrowserEnv(interface="text", snapshots=SnapshotStore())) as env:
        agent = Agent(env)
        agent.open(NAMES)
        first, last = agent.id_of(FIRST), agent.id_of(LAST)
        env.step(f"I begin with the first name.\n<action>fill('{first}', 'Ada')</action>")
        env.step(f"<action>fill('{last}', 'Lovelace')</action>")
        recording = agent.recording()
        for text, reward in ((f"click('{first}')\nkeyboard_type('Ada')", 1.0), (f"fill('{last}', 'Ada')", 0.0)):
            action = Message(role="assistant", content=f"<action>{text}</action>")
            assert judged(agent, recording, 0, action).reward == reward


def test_a_dead_browser_is_no_verdict(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    recording, ids = both_names(agent)
    agent.env.reset(options={"trajectory": recording, "turn": 0})

    async def fails(*given: Any) -> Any:
        raise BrowserError("the browser did not answer")

    with monkeypatch.context() as broken:
        broken.setattr(Session, "turn", fails)
        with pytest.raises(InfrastructureError):
            judged(agent, recording, 0, f"click('{ids[FIRST]}')")
    assert right(agent, recording, 0, f"click('{ids[FIRST]}')\nkeyboard_type('Ada')"), "the next one is judged again"


class Crashes:
    """The process that shows the pages is killed as turns begin: as many turns as ``left``, or those that do ``verb``.

    That is what a machine does that is out of memory.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left, self.verb = 0, ""
        turn = Session.turn

        async def crashing(session: Session, calls: Sequence[Call]) -> Done:
            if self.left or any(name == self.verb for name, _ in calls):
                self.left = max(0, self.left - 1)
                kill("renderer")
            return await turn(session, calls)

        monkeypatch.setattr(Session, "turn", crashing)


@pytest.fixture
def crashes(monkeypatch: pytest.MonkeyPatch) -> Crashes:
    return Crashes(monkeypatch)


def test_a_demonstration_that_crashes_is_no_verdict_and_is_not_kept(agent: Agent, crashes: Crashes) -> None:
    recording, ids = both_names(agent)
    action = f"click('{ids[FIRST]}')\nkeyboard_type('Ada')"
    agent.env.reset(options={"trajectory": recording, "turn": 0})
    crashes.left = 3
    with pytest.raises(InfrastructureError, match="turn 0 of the demonstration ends in page_crashed"):
        judged(agent, recording, 0, action)
    assert crashes.left == 0
    assert right(agent, recording, 0, action)


def test_an_action_that_crashes_once_is_tried_again(agent: Agent, crashes: Crashes) -> None:
    recording, ids = both_names(agent)
    assert not right(agent, recording, 0, f"fill('{ids[FIRST]}', 'Eda')")  # the demonstration is known from here on
    crashes.left = 3
    assert right(agent, recording, 0, f"click('{ids[FIRST]}')\nkeyboard_type('Ada')")
    assert crashes.left == 0


@pytest.mark.slow
def test_an_action_that_crashes_where_everything_does_is_no_verdict(agent: Agent, crashes: Crashes) -> None:
    recording, ids = both_names(agent)
    action = f"click('{ids[FIRST]}')\nkeyboard_type('Ada')"
    assert not right(agent, recording, 0, f"fill('{ids[FIRST]}', 'Eda')")
    crashes.left = 1000
    with pytest.raises(InfrastructureError, match="of the demonstration"):
        judged(agent, recording, 0, action)
    crashes.left = 0
    assert right(agent, recording, 0, action)


@pytest.mark.slow
def test_an_action_that_crashes_where_the_demonstration_works_is_wrong(agent: Agent, crashes: Crashes) -> None:
    recording, ids = both_names(agent)
    crashes.verb = "dblclick"
    verdict = judged(agent, recording, 0, f"dblclick('{ids[FIRST]}')")
    assert verdict.reward == 0.0 and "page_crashed" in verdict.reason
    assert right(agent, recording, 0, f"click('{ids[FIRST]}')\nkeyboard_type('Ada')")


@pytest.mark.slow
def test_a_recording_that_ends_with_a_page_out_of_use(agent: Agent, crashes: Crashes) -> None:
    agent.open("<title>Trap</title><button>Press</button>")
    press = agent.id_of("button 'Press'")
    crashes.verb = "dblclick"
    agent.do("dblclick", bid=press)
    assert agent.env.episode.termination == "page_crashed"
    recording = agent.recording()
    assert right(agent, recording, 0, f"dblclick('{press}', 'left')")
    assert not right(agent, recording, 0, f"click('{press}')")


@pytest.mark.slow
def test_chromium_is_killed_between_two_judgements(agent: Agent) -> None:
    recording, ids = both_names(agent)
    assert right(agent, recording, 0, f"click('{ids[FIRST]}')\nkeyboard_type('Ada')")
    for time in range(2):
        for number in _chromium():
            os.kill(number, signal.SIGKILL)
        assert right(agent, recording, 0, f"focus('{ids[FIRST]}')\nkeyboard_type('Ada')"), time
        assert not right(agent, recording, 0, f"focus('{ids[LAST]}')\nkeyboard_type('Ada')")


def _chromium() -> list[int]:
    """Process ids of the browsers this process started."""
    parents: dict[int, tuple[int, str]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            parents[int(folder.name)] = parent, (folder / "cmdline").read_text().replace("\0", " ")
        except (OSError, ValueError):
            continue
    found = []
    for number, (_, line) in parents.items():
        above = number
        while above in parents and above != os.getpid():
            above = parents[above][0]
        if above == os.getpid() and "chrom" in line.split(" ")[0] and "--type=" not in line:
            found.append(number)
    assert found
    return found


@pytest.mark.slow
def test_an_action_that_breaks_the_page_is_wrong(agent: Agent) -> None:
    agent.open("<title>Trap</title><button onclick='for (;;);'>Trap</button><button>Nothing</button>")
    trap = agent.id_of("button 'Trap'")
    agent.click("button 'Nothing'")
    verdict = judged(agent, agent.recording(), 0, f"click('{trap}')")
    assert verdict.reward == 0.0 and "page_stuck" in verdict.reason


def test_only_where_it_belongs(agent: Agent) -> None:
    with pytest.raises(BadInput, match="is no browser"):
        make("browser_effects").verify(TerminalEnv(), as_message("noop()"))
    agent.open(NAMES)
    with pytest.raises(BadInput, match="does not stand at a turn"):
        make("browser_effects").verify(agent.env, as_message("noop()"))
    assert BrowserEnv.default_verifier == "browser_effects"
    assert engine() is not None
