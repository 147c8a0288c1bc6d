"""Recorded sites replay from their archive, and from nothing else."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from web_pages import Agent

from pivotgym.envs.browser.har import NoGoal, RecordedSite, RecordedSites, har_task, read_archive
from pivotgym.envs.browser.tasks import BrowserTask, Request
from pivotgym.envs.errors import BadInput, NotRestorable, RestoreDiverged
from pivotgym.harness.restoring import restore_trajectories


def entry(url: str, text: str, *, method: str = "GET", kind: str = "text/html", status: int = 200, **more: Any) -> Any:
    content = {"mimeType": kind, "text": text, **more.pop("content", {})}
    headers = [{"name": "Content-Type", "value": kind}, {"name": "Content-Encoding", "value": "br"}]
    headers += [{"name": name, "value": value} for name, value in more.pop("headers", [])]
    request = {"method": method, "url": url, "headers": [], **more}
    return {"request": request, "response": {"status": status, "headers": headers, "content": content}}


HOME = """<title>News</title><link rel=stylesheet href="/s.css"><img src="https://cdn.example/logo.png" alt=logo>
<p id=p>…</p><a href="/article?id=1">Article</a><a href="/missing">Missing</a><form method=post action=/search>
<input name=q aria-label=q><button>Search</button></form>
<script>fetch("https://api.example/latest", {method: "POST", body: "n=1"}).then((r) => r.json())
  .then((found) => { document.getElementById("p").textContent = found.text; });</script>"""
PIXEL = base64.b64encode(b"GIF89a\x01\x00\x01\x00\x00\x00\x00;").decode()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    allow = [("Access-Control-Allow-Origin", "*")]
    cookie = [("Set-Cookie", "a=1; Path=/"), ("Set-Cookie", "b=2; Path=/")]
    entries = [
        entry("https://news.example/", HOME, headers=cookie),
        entry("https://news.example/s.css", "p { color: red }", kind="text/css"),
        entry("https://cdn.example/logo.png", PIXEL, kind="image/gif", content={"encoding": "base64"}),
        entry(
            "https://api.example/latest",
            '{"text": "fresh"}',
            method="POST",
            kind="application/json",
            headers=allow,
            postData={"text": "n=1"},
        ),
        entry("https://news.example/article?id=1", "<title>Article</title><h1>First</h1>"),
        entry("https://news.example/article?id=1", "<title>Article</title><h1>Again</h1>"),
        entry("https://news.example/search", "<title>Found</title>", method="POST", postData={"text": "q=cats"}),
        entry("https://news.example/cancelled", "", status=0),
    ]
    path = tmp_path / "news.har"
    path.write_text(json.dumps({"log": {"version": "1.2", "entries": entries}}))
    return path


def test_a_recorded_site(agent: Agent, archive: Path) -> None:
    agent.env.reset(options={"task": har_task(archive)})
    assert "URL: https://news.example/" in agent.seen and "StaticText 'fresh'" in agent.seen
    assert agent.env.browser.missing == []
    state = agent.env.browser.view.state if agent.env.browser.view is not None else {}
    assert [cookie[2:4] for cookie in state["cookies"]] == [["a", "1"], ["b", "2"]]
    agent.do("fill", bid=agent.id_of("textbox"), value="cats")
    assert "Title: Found" in agent.click("button 'Search'")
    agent.do("go_back")
    assert "heading 'First'" in agent.click("link 'Article'")
    agent.do("goto", url="https://news.example/")
    assert "heading 'Again'" in agent.click("link 'Article'")
    recording = agent.recording()
    for turn in range(len(recording.turns)):
        _, info = agent.env.reset(options={"trajectory": recording, "turn": turn, "strict": True})
        assert info["restore"].fidelity == 1.0 and info["restore"].note is None


def test_what_the_archive_lacks_is_reported(agent: Agent, archive: Path) -> None:
    agent.env.reset(options={"task": har_task(archive)})
    assert "not served" in agent.click("link 'Missing'")
    agent.do("goto", url="https://elsewhere.example/x")
    recording = agent.recording()
    _, info = agent.env.reset(options={"trajectory": recording, "turn": 1})
    assert "https://news.example/missing: not served" in info["restore"].note
    # The observation is the recorded one, and yet a page without what it asked for is not what was recorded.
    report = info["restore"]
    assert report.fidelity == 1.0 and not report.faithful
    assert report.errors == ["not in the archive: https://news.example/missing: not served"]
    with pytest.raises(RestoreDiverged, match=r"not in the archive: https://news\.example/missing"):
        agent.env.reset(options={"trajectory": recording, "turn": 1, "strict": True})
    summary = restore_trajectories([recording])
    assert [(found.turn, found.problem) for found in summary.incomplete] == [
        (1, "not in the archive: https://news.example/missing: not served"),
        (2, "not in the archive: https://elsewhere.example/x: not served"),
    ]
    assert summary.by_kind == {"lacking": 2} and summary.diverged == 0
    agent.env.reset(options={"task": har_task(archive)})
    with pytest.raises(NoGoal):
        agent.env.score()


def test_what_failed_when_it_was_recorded_fails_again_and_web_sockets_are_told_of(agent: Agent, tmp_path: Path) -> None:
    page = """<title>Live</title><p id=p></p><script>
    fetch("/cancelled").then((r) => { document.getElementById("p").textContent = r.status; });
    new WebSocket("wss://live.example/feed");</script>"""
    path = tmp_path / "live.har"
    entries = [entry("https://live.example/", page), entry("https://live.example/cancelled", "", status=0)]
    path.write_text(json.dumps({"log": {"version": "1.2", "entries": entries}}))
    agent.env.reset(options={"task": har_task(path)})
    assert "StaticText '502'" in agent.seen
    agent.do("noop")
    _, info = agent.env.reset(options={"trajectory": agent.recording(), "turn": 0})
    assert info["restore"].errors == ["not in the archive: wss://live.example/feed: web sockets are not served"]


def test_what_was_posted_otherwise_is_refused_and_noted(agent: Agent, archive: Path) -> None:
    agent.env.reset(options={"task": har_task(archive)})
    agent.do("fill", bid=agent.id_of("textbox"), value="dogs")
    assert "not served" in agent.click("button 'Search'")
    assert any("https://news.example/search" in one for one in agent.env.browser.missing)


def ask(site: RecordedSite, url: str, body: bytes, method: str = "POST") -> bytes | None:
    parts = urlsplit(url)
    answer = site.handle(Request(method, parts.netloc, parts.path, parts.query, body=body, scheme=parts.scheme))
    return None if answer is None else answer.body


def test_what_a_request_is_found_by(tmp_path: Path) -> None:
    url, form = "http://a.example/", '--{0}\r\nContent-Disposition: form-data; name="q"\r\n\r\n{1}\r\n--{0}--\r\n'
    (tmp_path / "body.txt").write_text("attached")
    entries = [
        entry(f"{url}said", "cats", method="POST", postData={"text": "q=cats"}),
        entry(f"{url}said", "birds", method="POST", postData={"text": "q=birds"}),
        entry(f"{url}unsaid", "any", method="POST", postData={"mimeType": "text/plain", "params": []}),
        entry(f"{url}parts", "parts", method="POST", postData={"text": form.format("one", "cats")}),
        entry(f"{url}file", "file", method="POST", postData={"text": "", "_file": "body.txt"}),
    ]
    path = tmp_path / "posts.har"
    path.write_text(json.dumps({"log": {"entries": entries}}))
    site = RecordedSite(read_archive(str(path)))
    assert [ask(site, f"{url}said", body) for body in (b"q=birds", b"q=cats", b"q=birds")] == [
        b"birds",
        b"cats",
        b"birds",
    ]
    assert ask(site, f"{url}said", b"q=dogs") is None and ask(site, f"{url}said", b"") is None
    assert ask(site, f"{url}unsaid", b"q=dogs") == b"any" == ask(site, f"{url}unsaid", b"")
    assert ask(site, f"{url}parts", form.format("other", "cats").encode()) == b"parts"
    assert ask(site, f"{url}parts", form.format("other", "dogs").encode()) is None
    assert ask(site, f"{url}file", b"attached") == b"file" and ask(site, f"{url}file", b"other") is None


def test_an_archive_that_was_moved_is_found_by_its_name_and_digest(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, sites = har_task(archive), RecordedSites()
    spec = BrowserTask.of(task)
    moved, working = tmp_path / "moved", tmp_path / "working"
    moved.mkdir()
    working.mkdir()
    monkeypatch.chdir(working)
    monkeypatch.setattr(RecordedSites, "folders", [])
    site = sites.open(task, spec)
    assert isinstance(site, RecordedSite) and ask(site, "https://news.example/s.css", b"", "GET") is not None
    archive.rename(moved / archive.name)
    with pytest.raises(NotRestorable, match=r"no_archive: news\.har is neither at"):
        sites.open(task, spec)
    monkeypatch.setattr(RecordedSites, "folders", [moved])
    assert isinstance(sites.open(task, spec), RecordedSite)
    monkeypatch.setattr(RecordedSites, "folders", [])
    monkeypatch.chdir(moved)
    assert isinstance(sites.open(task, spec), RecordedSite)


def test_only_the_archive_that_was_recorded_with_is_read(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, sites = har_task(archive), RecordedSites()
    spec = BrowserTask.of(task)
    archive.write_text(archive.read_text().replace("fresh", "other"))
    with pytest.raises(NotRestorable, match="other_archive: not the archive that was recorded with"):
        sites.open(task, spec)
    for path in (archive, Path("/dev/zero"), Path("/etc/hostname")):
        with pytest.raises(NotRestorable, match=r"no_archive|other_archive"):
            sites.open(task, spec.model_copy(update={"definition": {"har": str(path), "sha256": "0" * 64}}))
        with pytest.raises(NotRestorable, match="has no digest"):
            sites.open(task, spec.model_copy(update={"definition": {"har": str(path)}}))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "no HAR archive"),
        ('{"log": {}}', "field log.entries: no HAR archive"),
        ('{"log": {"entries": [{"request": {}}]}}', "field log.entries.0: unusable entry"),
        ('{"log": {"entries": []}}', "holds no page"),
    ],
)
def test_bad_archives(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "bad.har"
    path.write_text(text)
    with pytest.raises(BadInput, match=problem):
        har_task(path)
    with pytest.raises(BadInput, match="No such file"):
        har_task(tmp_path / "none.har")


def test_bodies_beside_the_archive_stay_in_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "a" / "site.har"
    path.parent.mkdir()
    (tmp_path / "secret").write_text("secret")
    entries = [entry("http://a.example/", "", content={"_file": "../secret"})]
    path.write_text(json.dumps({"log": {"entries": entries}}))
    with pytest.raises(BadInput, match="outside the archive's folder"):
        har_task(path)
