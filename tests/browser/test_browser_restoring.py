"""Ways to a kept state: the last page loaded anew, a session that stands by, everything once more; all the same."""

from __future__ import annotations

import asyncio
import gc
import re
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from chromium import kill
from web_pages import HOST, Agent, PagesSite, PagesTasks

from pivotgym.envs.browser import proxy, standby, tab
from pivotgym.envs.browser.apps.taskset import bundled_trajectories
from pivotgym.envs.browser.engine import Engine, engine, shutdown
from pivotgym.envs.browser.env import BrowserEnv
from pivotgym.envs.browser.session import Session
from pivotgym.envs.browser.slots import Slots, slots_of
from pivotgym.envs.browser.standby import standby_of
from pivotgym.envs.browser.tasks import Answer, Request
from pivotgym.envs.snapshots import SnapshotStore

MakeEnv = Callable[..., BrowserEnv]
START = """<title>Start</title><a href="/list">List</a><script>sessionStorage.way = 'start';
localStorage.visits = (+localStorage.visits || 0) + 1</script>"""
LIST = """<title>List</title><p id=p></p><input aria-label=word><input type=checkbox aria-label=box>
<a href="/cookie">Cookie</a>
<button onclick="fetch('/count').then((r) => r.text()).then((t) => { p.innerHTML = t; })">Count</button>
<script>localStorage.visits = (+localStorage.visits || 0) + 1;
p.textContent = `${localStorage.visits} visits from ${document.referrer} by ${sessionStorage.way} ${document.cookie}`
</script>"""


def walk(agent: Agent, more: dict[str, str] | None = None, start: str = START) -> str:
    """Two pages, of which the second is worked in; what is shown."""
    agent.open(start, more={"/list": LIST, **(more or {})})
    agent.click("link 'List'")
    agent.click("button 'Count'")
    agent.do("fill", bid=agent.id_of("textbox"), value="red")
    return agent.click("'box'")


def asked(since: int) -> list[str]:
    """What the sites opened since were asked for."""
    return [line for site in PagesTasks.opened[since:] for line in site.asked if "favicon" not in line]


def test_only_the_last_page_is_loaded(agent: Agent, make_env: MakeEnv) -> None:
    seen = walk(agent)
    assert "Count 1" in seen and "checked='true'" in seen
    since = len(PagesTasks.opened)
    fork = Agent(agent.env.fork())
    assert asked(since) == ["GET pages.test/list", "GET pages.test/count"]
    try:
        assert fork.env.browser.view.state == agent.env.browser.view.state
        assert "Count 2" in fork.click("button 'Count'")
        assert "Count 2" in agent.click("button 'Count'")
        assert fork.env.browser.view.text == agent.env.browser.view.text
    finally:
        fork.env.close()


def test_storage_cookies_and_referrer_are_as_the_page_found_them(agent: Agent) -> None:
    agent.open(START, more={"/list": LIST})
    agent.do("goto", url="http://pages.test/cookie")
    agent.do("goto", url="http://pages.test/")
    seen = agent.click("link 'List'")
    assert "3 visits from http://pages.test/ by start session=abc" in seen
    since = len(PagesTasks.opened)
    fork = agent.env.fork()
    try:
        assert asked(since) == ["GET pages.test/list"]
        assert fork.browser.view.state == agent.env.browser.view.state
        assert fork.browser.view.state["storage"] == {"local": {"visits": "3"}, "session": {"way": "start"}}
    finally:
        fork.close()


@pytest.mark.parametrize("way", ["agent", "page"])
def test_going_back_from_a_page_loaded_on_its_own(agent: Agent, way: str) -> None:
    walk(agent, more={"/list": LIST + '<button onclick="history.back()">Back</button>'})
    fork = Agent(agent.env.fork())
    try:
        for one in (agent, fork):
            seen = one.do("go_back") if way == "agent" else one.click("button 'Back'")
            assert "Title: Start" in seen
        assert fork.env.browser.view.state == agent.env.browser.view.state
    finally:
        fork.env.close()


@pytest.mark.parametrize(
    "script",
    [
        "p.textContent += history.length",
        "const asking = indexedDB.open('store', 1); asking.onsuccess = () => { p.textContent += 'stored'; }",
        "addEventListener('click', () => history.pushState(0, '', '/other'))",
    ],
    ids=["history", "database", "address"],
)
def test_pages_that_know_more_than_their_address(agent: Agent, script: str) -> None:
    seen = walk(agent, more={"/list": f"{LIST}<script>{script}</script>"})
    for _ in range(2):
        fork = agent.env.fork()
        try:
            assert fork.browser.view.state == agent.env.browser.view.state
            assert fork.browser.view.text == agent.env.browser.view.text
        finally:
            fork.close()
    assert "Count 1" in seen


def test_a_page_that_a_form_was_posted_to_is_not_loaded_again_on_its_own(agent: Agent) -> None:
    agent.open('<form method=post action="/echo"><input name=q value=1><button>Send</button></form>')
    agent.click("button 'Send'")
    since = len(PagesTasks.opened)
    fork = agent.env.fork()
    try:
        assert asked(since) == ["GET pages.test/", "POST pages.test/echo"]
        assert fork.browser.view.state == agent.env.browser.view.state
    finally:
        fork.close()


@pytest.fixture
def lasting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions stand by for as long as the test takes."""
    monkeypatch.setattr(standby, "LINGER_SECONDS", 3600.0)


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[PagesSite]:
    """The sites that were closed."""
    found: list[PagesSite] = []
    monkeypatch.setattr(PagesSite, "close", lambda site: found.append(site))
    return found


def standing_by(agent: Agent) -> tuple[Session, PagesSite]:
    """Forks a state until a session stands by for it; gives that session and its site."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        agent.env.fork().close()
        kept = agent.env.browser.keep()
        assert kept is not None
        ready, pause = standby_of(engine())._ready, time.monotonic() + 5
        while time.monotonic() < pause:
            found = ready.get(agent.env.browser._key(kept))
            if found is not None and isinstance(found[1].site, PagesSite):
                return found[0], found[1].site
            time.sleep(0.02)
    raise AssertionError("no session stands by")


@pytest.mark.usefixtures("lasting")
def test_what_stands_by_ends_with_the_browser(agent: Agent, closed: list[PagesSite]) -> None:
    agent.open(START)
    session, site = standing_by(agent)
    ended = weakref.ref(standby_of(engine())), weakref.ref(session), weakref.ref(engine())
    assert site not in closed
    shutdown()
    assert site in closed
    agent.env.close()
    del session
    gc.collect()
    assert [one() for one in ended] == [None, None, None]


def test_a_session_does_not_stand_by_for_ever(
    agent: Agent, closed: list[PagesSite], monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.open(START)
    monkeypatch.setattr(standby, "LINGER_SECONDS", 2.0)
    session, site = standing_by(agent)
    deadline = time.monotonic() + 120
    while site not in closed:
        assert time.monotonic() < deadline, "the session still stands by"
        time.sleep(0.05)
    assert not session.alive
    assert session not in [ready[0] for ready in standby_of(engine())._ready.values()]


def test_environments_in_many_threads_share_the_parts_of_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    made, together = [], threading.Barrier(8)
    init = Slots.__init__

    def slow(self: Slots, of: Engine) -> None:
        time.sleep(0.05)
        init(self, of)
        made.append(self)

    monkeypatch.setattr(Slots, "__init__", slow)
    one = Engine()

    def ask(_: int) -> Slots:
        together.wait(60)
        return slots_of(one)

    try:
        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(ask, range(8)))
        assert len(made) == 1 and all(slots is made[0] for slots in found)
    finally:
        one.stop()


SLOW = """<title>Slow</title><button onclick="const text = (path) => fetch(path).then((r) => r.text());
Promise.all(['/one', '/two', '/three'].map(text)).then(() => { document.title = 'Answered'; })">Ask</button>"""


def test_a_slow_site_holds_up_nobody_else(make_env: MakeEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    served, began = threading.Event(), threading.Event()
    inside, problems = threading.Lock(), list[str]()  # what a site raises is an error page, not a failed test

    class SlowSite(PagesSite):
        def handle(self, request: Request) -> Answer | None:
            alone = inside.acquire(blocking=False)
            try:
                if not alone:
                    problems.append("two requests at a time")
                if request.path == "/":
                    time.sleep(10 * proxy.SLOW_SECONDS)
                if request.path == "/one":
                    began.set()
                    if not served.wait(120):
                        problems.append("the other site does not answer meanwhile")
                return super().handle(request)
            finally:
                if alone:
                    inside.release()

    slow, quick = Agent(make_env()), Agent(make_env())
    quick.open(START, more={"/list": LIST})
    with monkeypatch.context() as other:
        other.setattr(PagesTasks, "open", lambda self, task, spec: SlowSite(spec.definition["pages"]))
        slow.open(SLOW)
    monkeypatch.setattr(tab, "_RESPONSE_SECONDS", 120.0)
    monkeypatch.setattr(tab, "SETTLE_SECONDS", 150.0)
    with ThreadPoolExecutor(1) as threads:
        asking = threads.submit(slow.click, "button 'Ask'")
        try:
            assert began.wait(60)
            assert "Title: List" in quick.click("link 'List'")
        finally:
            served.set()
        assert "Title: Answered" in asking.result(120)
    assert not problems


def test_a_slow_site_answers_in_the_order_of_arrival() -> None:
    handled: list[str] = []

    class SlowSite(PagesSite):
        def handle(self, request: Request) -> Answer | None:
            time.sleep((2 if request.path in ("/0", "/3") else 0) * proxy.SLOW_SECONDS)
            handled.append(request.path)
            return None

    async def ask() -> None:
        host = proxy.SiteHost(SlowSite({}))
        paths = [f"/{number}" for number in range(20)]
        asked = [(proxy.request_of("GET", path, {"host": HOST}, b""), path) for path in paths]
        await asyncio.gather(*(host.answered(request, url) for request, url in asked))
        assert handled == paths

    asyncio.run(ask())


@pytest.mark.usefixtures("lasting")
def test_a_session_stands_by_for_a_state_restored_again_and_again(agent: Agent, make_env: MakeEnv) -> None:
    walk(agent)
    recording = agent.recording()
    env, turn = make_env(snapshots=SnapshotStore()), len(recording.turns) - 1

    def restore() -> None:
        report = env.reset(options={"trajectory": recording, "turn": turn, "strict": True})[1]["restore"]
        assert report.fidelity == 1.0

    def standing() -> Session:
        """Waits for it; on a machine too busy to prepare one in time, restores once more."""
        kept = env.browser.keep()
        assert kept is not None
        key, ready = env.browser._key(kept), standby_of(engine())._ready
        for _ in range(6):
            deadline = time.monotonic() + 35
            while time.monotonic() < deadline:
                if key in ready:
                    return ready[key][0]
                time.sleep(0.05)
            restore()
        raise AssertionError("no session stands by")

    for _ in range(3):
        restore()
    for _ in range(2):
        session = standing()
        restore()
        assert env.browser.session is session
    standing()
    env.advance(recording.action(turn))
    kill("browser")
    restore()
    env.advance(recording.action(turn))
    assert env.browser.view is not None and agent.env.browser.view is not None
    assert env.browser.view.state == agent.env.browser.view.state


DRAWS = """<title>Draws</title><p id=here></p><iframe src="/frame"></iframe><a href="/frame" target=_blank>Again</a>
<script>document.getElementById("here").textContent = `${Math.random()} ${Date.now()}`;</script>"""
FRAME = "<p id=p></p><script>document.getElementById('p').textContent = `${Math.random()} ${Date.now()}`;</script>"


def drawn(agent: Agent, seed: int, clock: int) -> list[str]:
    seen = [agent.open(DRAWS, more={"/frame": FRAME}, page_seed=seed, clock=clock)]
    seen.append(agent.click("link 'Again'"))
    return [number for text in seen for number in re.findall(r"'(0\.\d+ \d+)'", text)]


def test_a_context_serves_one_seed_after_another(agent: Agent) -> None:
    """Documents, frames and pop-ups begin with the episode's own seed and clock, whoever had the context before."""
    wanted = [(seed, 1_700_000_000_000 + 1000 * seed) for seed in (3, 4, 5)]
    first = []
    for seed, clock in wanted:
        shutdown()  # a context of its own
        first.append(drawn(agent, seed, clock))
    assert all(len(numbers) == 3 for numbers in first) and first[0] != first[1] != first[2]
    for numbers, (_, clock) in zip(first, wanted, strict=True):
        assert all(number.endswith(str(clock)) for number in numbers)
    for _ in range(3):
        assert [drawn(agent, seed, clock) for seed, clock in wanted] == first
    # Contexts that had a pop-up are not used again; those without are, whatever the seed was.
    reused = []
    for seed in range(8, 16):
        known = set(slots_of(engine())._all)
        agent.open(FRAME, page_seed=seed)
        reused.append(agent.env.browser.session._slot in known)
    assert all(reused[3:])


HOVER = """<title>Hover</title><style>button { display: block; width: 200px; height: 40px }</style><ul id=said></ul>
<button onclick="this.remove()" onmouseover="note('over one')">One</button>
<button onclick="this.remove()" onmouseover="note('over two')">Two</button>
<button onmouseover="note('over three')">Three</button>
<script>const note = (text) => { document.title += ", " + text; };</script>"""


def test_what_comes_under_the_mouse_is_told_so_before_the_page_is_looked_at(agent: Agent) -> None:
    for _ in range(8):
        agent.open(HOVER)
        assert agent.click("'One'").splitlines()[1] == "Title: Hover, over one, over two"
        assert agent.click("'Two'").splitlines()[1] == "Title: Hover, over one, over two, over three"


def test_a_state_looks_the_same_to_the_last_bit() -> None:
    """Edges that are drawn over what was there before would differ in the last bit of their colour, by luck."""
    row = next(row for row in bundled_trajectories(None) if row.id == "bundled-tracker.new_ticket-0")
    actions = [message for message in row.messages if message.role == "assistant"]
    with closing(BrowserEnv(snapshots=SnapshotStore())) as env:
        pictures = set()
        for _ in range(8):
            env.reset(options={"trajectory": row, "turn": 3})
            env.step(actions[3])
            pictures.add(env.screenshot())
    assert len(pictures) == 1


STORING = """<title>Storing</title><p id=found></p>
<button onclick="localStorage.x = 1">local</button><button onclick="sessionStorage.x = 1">session</button>
<button onclick="document.cookie = 'x=1'">cookie</button><button onclick="window.name = 'x'">name</button>
<button onclick="indexedDB.open('x')">database</button><button onclick="this.remove()">none</button>
<button onclick="indexedDB.databases().then((all) => { found.textContent += ' ' + all.length; })">look</button>
<script>const found = document.getElementById("found");
found.textContent = `found ${[localStorage.x, sessionStorage.x, document.cookie, window.name].join("") || "nothing"}`;
</script>"""


def test_what_an_episode_stored_is_gone_and_where_nothing_was_nothing_is_cleared(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PagesTasks, "stateless", True)
    for number, what in enumerate(("none", "local", "none", "session", "cookie", "name", "database", "none")):
        assert "found nothing" in agent.open(STORING, page_seed=number)
        slot = agent.env.browser.session._slot
        assert slot is not None and slot.bare
        assert "nothing" in agent.click(f"'{what}'")
        assert slot.bare == (what == "none")
    agent.open(STORING, page_seed=99)
    assert "found nothing 0" in agent.click("'look'")


def test_what_was_stored_is_gone_after_an_episode_that_left_the_site(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PagesTasks, "stateless", True)
    for what in ("local", "session"):
        agent.open(STORING)
        agent.click(f"'{what}'")
        agent.do("goto", url="about:blank")
        slot = agent.env.browser.session._slot
        assert slot is not None and not slot.bare
        assert "found nothing" in agent.open(STORING)


def test_held_keys_end_with_the_episode(agent: Agent) -> None:
    keys = "<title>Keys</title><input onkeydown='document.title = `${event.key} ${event.shiftKey}`'>"
    agent.open(keys)
    agent.do("keyboard_down", key="Shift")
    agent.open(keys)
    agent.click("textbox")
    assert "Title: ArrowLeft false" in agent.do("keyboard_press", key="ArrowLeft")
