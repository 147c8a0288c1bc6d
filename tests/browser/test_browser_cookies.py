"""Cookies live by the page's clock, not by the machine's, whoever sets them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from web_pages import Agent

from pivotgym.envs.browser.cookies import LASTING_SECONDS, cookie_date, lasting
from pivotgym.envs.browser.har import har_task, read_archive

CLOCK = 1_560_000_000_000  # 8 June 2019, 13:20 UTC
LASTS, GONE = f" Max-Age={LASTING_SECONDS}", " Max-Age=0"


@pytest.mark.parametrize(
    ("line", "rewritten"),
    [
        ("a=1", "a=1"),
        ("a=1; Path=/; HttpOnly", "a=1; Path=/; HttpOnly"),
        ("a=1; Expires=Sat, 08 Jun 2019 13:30:00 GMT; Path=/", f"a=1; Path=/;{LASTS}"),
        ("a=1; expires=Sat, 08-Jun-2019 13:10:00 GMT; Path=/", f"a=1; Path=/;{GONE}"),
        ("a=1;EXPIRES=Thu, 01 Jan 1970 00:00:00 GMT", f"a=1;{GONE}"),
        ("a=1; Max-Age=5", f"a=1;{LASTS}"),
        ("a=1; max-age=-1; Secure", f"a=1; Secure;{GONE}"),
        ("a=1; Max-Age=5; Expires=Thu, 01 Jan 1970 00:00:00 GMT", f"a=1;{LASTS}"),
        ("a=1; Expires=Sat, 08 Jun 2030 13:30:00 GMT; Max-Age=0", f"a=1;{GONE}"),
        ("a=1; Max-Age=soon; Expires=never", "a=1; Max-Age=soon; Expires=never"),
        ("a=1; Expires=Mon, 1 Jan 99999 00:00:00 GMT", "a=1; Expires=Mon, 1 Jan 99999 00:00:00 GMT"),
        ("expires=1; Path=/", "expires=1; Path=/"),
    ],
)
def test_what_a_site_sets(line: str, rewritten: str) -> None:
    assert lasting(line, CLOCK) == rewritten


DATES = {
    "Sat, 08 Jul 2019 13:30:00 GMT": 1_562_592_600,
    "Saturday, 08-Jul-19 13:30:00 GMT": 1_562_592_600,
    "Sat Jul  8 13:30:00 2019": 1_562_592_600,
    "Sat, 08/Jul/2019 13:30:00": 1_562_592_600,
    "13:30:00 8 July 2019": 1_562_592_600,
    "1 Jan 70 00:00:00": 0,
    "1 Jan 69 00:00:00": 3_124_224_000,
    "Fri, 31 Dec 9999 23:59:59 GMT": 253_402_300_799,
    "0": None,
    "-1": None,
    "7": None,
    "Sat, 30 Feb 2019 13:30:00 GMT": None,
    "Sat, 08 Jul 2019 24:30:00 GMT": None,
    "2019-07-08T13:30:00Z": None,
}
"""RFC 6265, section 5.1.1: in seconds since 1970, or None for what is no date."""


def test_dates_are_read_as_browsers_do(agent: Agent) -> None:
    assert {date: cookie_date(date) for date in DATES} == DATES
    assert cookie_date("Sat, 08 Jul 1600 13:30:00 GMT") is cookie_date("Mon, 1 Jan 99999 00:00:00 GMT") is None
    # Scripts' dates are read in the page: those after its clock are kept, those before are not, and what is no date
    # makes a cookie of the session.
    lines = [f"c{number}=1; expires={date}" for number, date in enumerate(DATES)]
    agent.open(f"<p>x</p><script>for (const line of {json.dumps(lines)}) document.cookie = line;</script>", clock=CLOCK)
    state = agent.env.browser.view.state if agent.env.browser.view is not None else {}
    kept = {row[2]: row[4] for row in state["cookies"]}
    wanted = {f"c{number}": time is None for number, time in enumerate(DATES.values()) if time is None or time > 1e9}
    assert kept == wanted


SCRIPT = """<title>t</title><p id=p></p><button onclick="drop()">Drop</button><button onclick="show()">Show</button>
<script>
const at = (seconds) => new Date(Date.now() + 1000 * seconds).toUTCString();
document.cookie = "hour=1; path=/; expires=" + at(3600);
document.cookie = "past=1; expires=" + at(-1);
document.cookie = "brief=1; max-age=1";
document.cookie = "never=1; max-age=0; expires=" + at(3600);
document.cookie = "session=1";
const show = () => { p.textContent = "have " + document.cookie + "."; };
const drop = () => { document.cookie = "hour=; path=/; expires=Thu, 01 Jan 1970 00:00:00 GMT"; show(); };
show();
</script>"""


def test_what_scripts_set(agent: Agent) -> None:
    assert "'have hour=1; brief=1; session=1.'" in agent.open(SCRIPT)
    time.sleep(1.2)  # past the second of the machine's, not of the page's
    assert "'have hour=1; brief=1; session=1.'" in agent.click("'Show'")
    assert "'have brief=1; session=1.'" in agent.click("'Drop'")
    state = agent.env.browser.view.state if agent.env.browser.view is not None else {}
    assert [row[2:] for row in state["cookies"]] == [["brief", "1", False], ["session", "1", True]]
    recording = agent.recording()
    for turn in range(len(recording.turns)):
        assert agent.env.reset(options={"trajectory": recording, "turn": turn})[1]["restore"].fidelity == 1.0


def entry(url: str, text: str, when: str, cookies: str = "") -> Any:
    headers = [{"name": "Content-Type", "value": "text/html"}]
    headers.append({"name": "Last-Modified", "value": "Wed, 21 Oct 2015 07:28:00 GMT"})
    if cookies:
        headers.append({"name": "set-cookie", "value": cookies})  # Chromium's archives write all into one
    content = {"mimeType": "text/html", "text": text}
    request = {"method": "GET", "url": url, "headers": []}
    response = {"status": 200, "headers": headers, "content": content}
    return {"startedDateTime": when, "request": request, "response": response}


def test_a_recorded_site_has_its_own_time(agent: Agent, tmp_path: Path) -> None:
    shown = "<p id=p></p><script>p.textContent = new Date().getFullYear() + ' ' + document.cookie;</script>"
    stored = """<p id=p></p><script>
    cookieStore.set({name: "kept", value: "1", expires: new Date(Date.now() + 1000)})
      .then(() => cookieStore.set({name: "gone", value: "1", expires: Date.now() - 1000}))
      .then(() => Promise.all([cookieStore.get("kept"), cookieStore.getAll()]))
      .then(([kept, all]) => {
        const times = [kept, ...all].map((one) => one.expires ?? "none").join();
        p.textContent = `${document.lastModified} ${document.cookie} ${times}`;
      });</script>"""
    # Each is a second old when it comes, long after the archive begins.
    logout = "\n".join(f"{name}=; Path=/; Expires=Sat, 08 Jun 2019 13:39:59 GMT" for name in ("user", "kept"))
    login = "user=ada; Path=/; Expires=Mon, 08 Jul 2019 00:00:00 GMT\nold=1; Expires=Fri, 07 Jun 2019 00:00:00 GMT"
    entries = [
        entry("https://shop.example/account", shown, "2019-06-08T15:21:00.5+02:00"),
        entry("https://shop.example/", f"{shown}<a href=/account>Account</a>", "2019-06-08T13:20:00Z", login),
        entry("https://shop.example/stored", stored, "2019-06-08T13:22:00.000Z"),
        entry("https://shop.example/logout", shown, "2019-06-08T13:40:00Z", logout),
        entry("https://shop.example/strange", shown, "0001-01-01T00:00:00Z"),
    ]
    path = tmp_path / "shop.har"
    path.write_text(json.dumps({"log": {"version": "1.2", "entries": entries}}))
    assert read_archive(str(path)).started == CLOCK
    agent.env.reset(options={"task": har_task(path, "https://shop.example/")})
    assert "'2019 user=ada'" in agent.seen
    assert "'2019 user=ada'" in agent.click("link 'Account'")
    assert "kept=1 " in agent.do("goto", url="https://shop.example/stored") and "gone" not in agent.seen
    assert "'10/21/2015 07:28:00 user=ada; kept=1 none,none,none'" in agent.seen
    assert "'2019 '" in agent.do("goto", url="https://shop.example/logout") or "'2019'" in agent.seen
    recording = agent.recording()
    for turn in range(len(recording.turns)):
        _, info = agent.env.reset(options={"trajectory": recording, "turn": turn, "strict": True})
        assert info["restore"].fidelity == 1.0
    agent.env.reset(options={"task": har_task(path, "https://shop.example/account", clock=0)})
    assert "StaticText '1970'" in agent.seen


def test_an_archive_without_times_has_the_usual_clock(agent: Agent, tmp_path: Path) -> None:
    page = "<p id=p></p><script>p.textContent = 'year ' + new Date().getFullYear();</script>"
    path = tmp_path / "page.har"
    path.write_text(json.dumps({"log": {"entries": [entry("http://a.example/", page, "yesterday")]}}))
    assert read_archive(str(path)).started is None
    agent.env.reset(options={"task": har_task(path)})
    assert "'year 2024'" in agent.seen


def test_what_the_browser_is_asked_for_is_waited_for(agent: Agent, tmp_path: Path) -> None:
    page = """<p id=p>begun</p><script>(async () => {
      for (let i = 0; i < 200; i++) await cookieStore.set("k" + i % 9, String(i));
      await cookieStore.delete("k0");
      p.textContent = (await cookieStore.getAll()).map((one) => one.value).join();
    })();</script>"""
    path = tmp_path / "page.har"
    path.write_text(json.dumps({"log": {"entries": [entry("https://a.example/", page, "2019-06-08T13:20:00Z")]}}))
    agent.env.reset(options={"task": har_task(path)})
    values = sorted(agent.seen.rpartition("StaticText '")[2].strip("'\n").split(","))
    assert values == ["191", "192", "193", "194", "195", "196", "197", "199"]  # the last nine but 198, which k0 had
