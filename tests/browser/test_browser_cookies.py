"""Cookies live by the page's clock, not by the machine's, whoever sets them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from web_pages import Agent

from pivotgym.envs.browser.cookies import LASTING_SECONDS, lasting
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
    cookieStore.set({name: "kept", value: "1", expires: Date.now() + 1000})
      .then(() => cookieStore.set({name: "gone", value: "1", expires: Date.now() - 1000}))
      .then(() => { p.textContent = `${document.lastModified} ${document.cookie}`; });</script>"""
    login = "user=ada; Path=/; Expires=Mon, 08 Jul 2019 00:00:00 GMT\nold=1; Expires=Fri, 07 Jun 2019 00:00:00 GMT"
    entries = [
        entry("https://shop.example/account", shown, "2019-06-08T15:21:00.5+02:00"),
        entry("https://shop.example/", f"{shown}<a href=/account>Account</a>", "2019-06-08T13:20:00Z", login),
        entry("https://shop.example/stored", stored, "2019-06-08T13:22:00.000Z"),
    ]
    path = tmp_path / "shop.har"
    path.write_text(json.dumps({"log": {"version": "1.2", "entries": entries}}))
    assert read_archive(str(path)).started == CLOCK
    agent.env.reset(options={"task": har_task(path, "https://shop.example/")})
    assert "'2019 user=ada'" in agent.seen
    assert "'2019 user=ada'" in agent.click("link 'Account'")
    assert "kept=1'" in agent.do("goto", url="https://shop.example/stored") and "gone" not in agent.seen
    assert "'10/21/2015 07:28:00 user=ada; kept=1'" in agent.seen
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
