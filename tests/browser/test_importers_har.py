"""HAR archives that Playwright itself recorded: read, run offline, restored; and broken ones."""

from __future__ import annotations

import json
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from web_pages import BrowserEnv

from pivotgym.envs.browser import har
from pivotgym.envs.browser.engine import engine
from pivotgym.envs.browser.har import har_task, read_archive
from pivotgym.envs.browser.proxy import Proxy, SiteHost
from pivotgym.envs.browser.skeleton import record
from pivotgym.envs.browser.tasks import Answer, Request
from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats import detect, load_trajectories
from pivotgym.envs.trajectory import JsonObject

MakeEnv = Callable[..., BrowserEnv]
SITE = "http://news.example"
PAGES = {
    "/": "<title>News</title><h1>Today</h1><a href='/a'>First</a><iframe src='/advert'></iframe>"
    "<script>fetch('/latest').then((r) => r.text()).then((t) => document.body.append(t))</script>",
    "/advert": "<title>Advert</title><p>Buy</p>",
    "/latest": "<b>fresh</b>",
    "/a": "<title>First</title><h1>The first article</h1><a href='/old'>Second</a>",
    "/b": "<title>Second</title><h1>The second article</h1><form method=post action='/say'><button>Say</button></form>",
    "/say": "<title>Said</title><p>Thank you</p>",
}


class News:
    """The site that is recorded, behind a proxy of this process: a route of Playwright's does not follow redirects."""

    def handle(self, request: Request) -> Answer:
        html = [("Content-Type", "text/html")]
        if request.path == "/old":
            return Answer(302, [("Location", f"{SITE}/b")])
        found = PAGES.get(request.path, "<title>None</title>")
        return Answer(200 if request.path in PAGES else 404, html, found.encode())

    def save(self) -> bytes:
        return b""

    def load(self, state: bytes) -> None:
        pass

    def facts(self, state: bytes) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        pass


async def _browse(path: Path, content: Any) -> None:
    browser = await engine().browser()
    proxy = Proxy()
    proxy.host = SiteHost(News())
    address = await proxy.start(socket.create_server(("127.0.0.1", 0)))
    try:
        context = await browser.new_context(
            record_har_path=str(path), record_har_content=content, proxy={"server": address, "bypass": "<-loopback>"}
        )
        page = await context.new_page()
        await page.goto(f"{SITE}/", wait_until="networkidle")
        for name in ("First", "Second"):
            await page.get_by_role("link", name=name).click()
            await page.wait_for_load_state("networkidle")
        await page.get_by_role("button", name="Say").click()
        await page.wait_for_load_state("networkidle")
        await context.close()
    finally:
        await proxy.stop()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("news.har.zip", ""),
        pytest.param("news.har", "embed", marks=pytest.mark.slow),
        pytest.param("attached.har", "attach", marks=pytest.mark.slow),
    ],
)
def test_an_archive_of_playwright(name: str, content: str, tmp_path: Path, make_env: MakeEnv) -> None:
    path = tmp_path / name
    for left in (2, 1, 0):  # tests before may have killed the browser, whose end is noticed late
        try:
            engine().run(_browse(path, content or "attach"), 60.0)
            break
        except Exception as error:
            if not left or "closed" not in str(error):
                raise
    assert zipfile.is_zipfile(path) is (not content)
    assert detect(path) == "har"
    (skeleton,) = load_trajectories(path)
    assert skeleton.source["url"] == f"{SITE}/" and skeleton.source["posted"] == [f"{SITE}/say"]
    opened = [skeleton.action(turn).tool_calls[0].arguments for turn in range(len(skeleton.turns))]
    assert [one["url"] for one in opened if isinstance(one, dict)] in ([f"{SITE}/a", f"{SITE}/old"],)
    env = make_env()
    row = record(skeleton, env)
    assert "Today" in row.prefix(0)[1].text and "fresh" in row.prefix(0)[1].text and "Buy" in row.prefix(0)[1].text
    assert "The first article" in row.answer(0)[0].text
    assert "The second article" in row.answer(1)[0].text and f"URL: {SITE}/b\n" in row.answer(1)[0].text
    assert env.browser.missing == []
    env.snapshots.clear()
    for turn in range(len(row.turns)):
        _, info = env.reset(options={"trajectory": row, "turn": turn, "strict": True})
        assert info["restore"].fidelity == 1.0 and info["restore"].note is None
    env.step(row.action(1))
    assert env.messages[-1].text == row.answer(1)[0].text


def entry(url: str, **more: Any) -> JsonObject:
    content = {"mimeType": "text/html", "text": "<title>x</title>"}
    request = {"method": "GET", "url": url, "headers": more.pop("headers", [])}
    return {"request": request, "response": {"status": 200, "headers": [], "content": content}, **more}


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ([entry("http://a.example/"), {"request": {}}], "field log.entries.1: unusable entry"),
        ([entry("http://a.example/"), "text"], "field log.entries.1: unusable entry"),
        ([{**entry("http://a.example/"), "response": None}], "field log.entries.0: unusable entry"),
        ([entry("http://a.example/"), entry("http://a.example/", headers=None)], "field log.entries.1: unusable entry"),
        ([entry("http://a.example/", headers=[{"value": "x"}])], "field log.entries.0: unusable entry"),
        ([entry("http://[a.example/")], "field log.entries.0: unusable entry"),
        ([], "field log.entries: the archive holds no page"),
        ({"one": 1}, "field log.entries: no HAR archive: not a list"),
    ],
)
def test_broken_archives(entries: Any, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.har"
    path.write_text(json.dumps({"log": {"version": "1.2", "entries": entries}}))
    assert detect(path) == "har"
    with pytest.raises(BadInput, match=problem) as raised:
        list(load_trajectories(path))
    assert str(raised.value.file) == str(path)
    errors: list[BadInput] = []
    assert list(load_trajectories(path, on_error="skip", errors=errors)) == [] and len(errors) == 1


def test_broken_zips(tmp_path: Path) -> None:
    path = tmp_path / "two.har.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("one.har", "{}")
        archive.writestr("other.har", "{}")
    with pytest.raises(BadInput, match=r"holds 2 \.har files, not one"):
        list(load_trajectories(path))
    lacking = entry("http://a.example/")
    lacking["response"]["content"] = {"mimeType": "text/html", "_file": "gone.html"}
    path = tmp_path / "lacking.har.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("har.har", json.dumps({"log": {"entries": [lacking]}}))
    with pytest.raises(BadInput, match=r"field log.entries.0: unusable entry: .*gone.html"):
        list(load_trajectories(path))


def zipped(path: Path, entries: list[JsonObject], bodies: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("har.har", json.dumps({"log": {"entries": entries}}))
        for name, body in bodies.items():
            archive.writestr(name, body)
    return path


def with_file(url: str, name: str) -> JsonObject:
    made = entry(url)
    made["response"]["content"] = {"mimeType": "text/html", "_file": name}
    return made


def test_what_archives_may_unpack_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(har, "MAX_BYTES", 100_000)
    entries = [with_file(f"http://a.example/{at}", "body.html") for at in range(6)]
    archive = read_archive(str(zipped(tmp_path / "one.har.zip", entries, {"body.html": b"x" * 90_000})))
    bodies = {id(answer.body) for answers in archive.answers.values() for answer in answers}
    assert len(bodies) == 1 and 90_000 < archive.size < 100_000
    bomb = zipped(tmp_path / "bomb.har.zip", entries, {"body.html": b"x" * 110_000})
    with pytest.raises(BadInput, match=r"log\.entries\.0: .*body\.html: more than 100000 bytes"):
        read_archive(str(bomb))
    two = [with_file("http://a.example/", "body.html"), with_file("http://a.example/2", "other.html")]
    sixty = {"body.html": b"x" * 60_000, "other.html": b"y" * 60_000}
    with pytest.raises(BadInput, match=r"log\.entries\.1: .*other\.html: more than 100000 bytes"):
        read_archive(str(zipped(tmp_path / "two.har.zip", two, sixty)))
    for name, body in sixty.items():
        (tmp_path / name).write_bytes(body)
    (tmp_path / "beside.har").write_text(json.dumps({"log": {"entries": two}}))
    with pytest.raises(BadInput, match=r"log\.entries\.1: .*more than 100000 bytes"):
        read_archive(str(tmp_path / "beside.har"))
    (tmp_path / "long.har").write_text(json.dumps({"log": {"entries": [], "comment": "x" * 110_000}}))
    with pytest.raises(BadInput, match="more than 100000 bytes"):
        read_archive(str(tmp_path / "long.har"))


def test_sizes_that_zips_lie_about(tmp_path: Path) -> None:
    """The directory says ten bytes, the body unpacks to many more: no more than ten are unpacked."""
    path = zipped(tmp_path / "lie.har.zip", [with_file("http://a.example/", "b")], {"b": b"x" * 3_000_000})
    path.write_bytes(path.read_bytes().replace((3_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(BadInput, match=r"log\.entries\.0: .*b: Bad CRC-32"):
        read_archive(str(path))


def _flags(data: bytes) -> bytes:
    """Says of every entry that it is encrypted."""
    made = bytearray(data)
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        found = data.find(mark)
        while found >= 0:
            made[found + at] |= 1
            found = data.find(mark, found + 1)
    return bytes(made)


@pytest.mark.parametrize(
    ("method", "spoil", "problem"),
    [
        (
            zipfile.ZIP_STORED,
            lambda data: data.replace(b"<title>b", b"<title>c"),
            r"log\.entries\.0: .*Bad CRC-32.*b\.html",
        ),
        (zipfile.ZIP_STORED, lambda data: data.replace(b'"entries"', b'"entrees"'), r"Bad CRC-32.*har\.har"),
        (zipfile.ZIP_STORED, _flags, r"har\.har: .*encrypted"),
        (zipfile.ZIP_BZIP2, lambda data: data, r"har\.har: neither stored nor deflated"),
        (
            zipfile.ZIP_DEFLATED,
            lambda data: data[:38] + b"\xff" * 20 + data[58:],
            r"har\.har: Error -3 while decompressing",
        ),
        (zipfile.ZIP_STORED, lambda data: data.replace(b"PK\x03\x04", b"PK\x03\x05"), r"har\.har: Bad magic number"),
    ],
)
def test_spoiled_zips(method: int, spoil: Callable[[bytes], bytes], problem: str, tmp_path: Path) -> None:
    path = zipped(
        tmp_path / "spoiled.har.zip",
        [with_file("http://a.example/", "b.html")],
        {"b.html": b"<title>b</title>"},
        method,
    )
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(BadInput, match=problem) as raised:
        list(load_trajectories(path, format="har"))
    assert str(raised.value.file) == str(path)
    errors: list[BadInput] = []
    assert list(load_trajectories(path, format="har", on_error="skip", errors=errors)) == [] and len(errors) == 1


def test_an_archive_that_was_written_anew_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "site.har"
    path.write_text(json.dumps({"log": {"entries": [entry("http://a.example/")]}}))
    first = read_archive(str(path))
    assert read_archive(str(path)) is first
    path.write_text(json.dumps({"log": {"entries": [entry("http://a.example/other")]}}))
    assert read_archive(str(path)).first_page == "http://a.example/other"


def test_what_is_kept_in_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(har, "MAX_BYTES", 100_000)
    one, other = (
        str(zipped(tmp_path / name, [with_file("http://a.example/", "b")], {"b": b"x" * 60_000}))
        for name in ("one.har.zip", "other.har.zip")
    )
    first = read_archive(one)
    second = read_archive(other)
    assert read_archive(other) is second and read_archive(one) is not first


def test_which_requests_are_visits(tmp_path: Path) -> None:
    def dest(kind: str) -> Any:
        return [{"name": "Sec-Fetch-Dest", "value": kind}]

    entries = [
        entry("http://a.example/late", startedDateTime="2024-05-15T10:00:05Z"),
        entry("http://a.example/", startedDateTime="2024-05-15T10:00:00Z", headers=dest("document")),
        entry("http://a.example/frame", startedDateTime="2024-05-15T10:00:01Z", headers=dest("iframe")),
        entry("http://a.example/data", startedDateTime="2024-05-15T10:00:02Z", _resourceType="xhr"),
        entry("data:text/html,x", startedDateTime="2024-05-15T10:00:03Z"),
    ]
    path = tmp_path / "visits.har"
    path.write_text(json.dumps({"log": {"version": "1.2", "entries": entries}}))
    (row,) = load_trajectories(path)
    assert row.source["url"] == "http://a.example/"
    assert [row.action(turn).tool_calls[0].arguments for turn in range(len(row.turns))] == [
        {"url": "http://a.example/late"}
    ]


def test_what_redirects_lead_to(tmp_path: Path, make_env: MakeEnv) -> None:
    """Of pages the address they led to is shown; scripts get what lay there; cookies set on the way are kept."""
    script = "<title>x</title><p></p><script>fetch('/away', {method: 'POST', body: 'q=1'}).then((r) => r.text())"
    page = entry("http://a.example/end?%3Cx%3E")
    page["response"]["content"]["text"] = f"{script}.then((t) => document.querySelector('p').append(t))</script>"
    begin, away, there = entry("http://a.example/"), entry("http://a.example/away"), entry("http://a.example/there")
    begin["response"].update(status=301, headers=[{"name": "location", "value": "/end?%3Cx%3E#part"}], redirectURL="")
    begin["response"]["headers"].append({"name": "set-cookie", "value": "seen=1"})
    away["response"].update(status=303, headers=[{"name": "Location", "value": "there"}])
    away["request"].update(method="POST", postData={"text": "q=1"})
    there["response"]["content"] = {"mimeType": "text/plain", "text": "came round"}
    path = tmp_path / "away.har"
    path.write_text(json.dumps({"log": {"version": "1.2", "entries": [begin, page, away, there]}}))
    env = make_env()
    env.reset(options={"task": har_task(path)})
    view = env.browser.view
    assert view is not None and view.url == "http://a.example/end?%3Cx%3E#part" and "came round" in view.text
    assert [cookie[2:4] for cookie in view.state["cookies"]] == [["seen", "1"]] and env.browser.missing == []
