"""A live search API: asked, recorded, and restored from the record alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from search_web import Web, serving

from pivotgym.envs.check import check_env_laws
from pivotgym.envs.errors import BadInput, EndpointError, RestoreDiverged
from pivotgym.envs.search.engine import Hit, NotRecorded, Unreadable
from pivotgym.envs.search.env import SearchEnv
from pivotgym.envs.search.live import LiveApi, LiveEngine, at
from pivotgym.envs.search.record import Record
from pivotgym.envs.snapshots import SnapshotStore
from pivotgym.envs.trajectory import Task, Trajectory

TASK = Task(env="pivotgym/Search-v0", id="q", data={"question": "Which colour?", "expected": {"answers": ["blue"]}})


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as found:
        found.put("/sea", "<title>The Sea</title><p>The sea at Ostby is blue.<p>" + "It is wide. " * 200)
        found.put("/ostby", "<html><body><h1>Ostby</h1><p>Ostby lies by the sea.</body></html>")
        found.put("/note", "A plain note on the sea.", kind="text/plain")
        found.put("/gone", "sea", status=404)
        found.put("/paper", "%PDF sea", kind="application/pdf")
        yield found


def api_of(web: Web, **more: Any) -> dict[str, Any]:
    return {
        "search_url": f"{web.url}/search?q={{query}}&n={{k}}",
        "results": "data.0.items",
        "title": "name",
        "url": "link",
        "snippet": "about.text",
        "wait": 0.0,
        "timeout": 20.0,
        **more,
    }


def engine_of(web: Web, record: Record | None = None, **more: Any) -> LiveEngine:
    offline = more.pop("offline", False)
    kept = Record() if record is None else record
    return LiveEngine(LiveApi.model_validate(api_of(web, **more)), kept, offline=offline)


def env_of(web: Web, record: Path | None, **more: Any) -> SearchEnv:
    env = gym.make(
        "pivotgym/Search-v0",
        disable_env_checker=True,
        live=api_of(web),
        record=record,
        snapshots=SnapshotStore(),
        **more,
    ).unwrapped
    assert isinstance(env, SearchEnv)
    return env


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"tool_calls": [{"name": name, "arguments": arguments}]}


def recorded_session(web: Web, record: Path) -> Trajectory:
    with closing(env_of(web, record)) as env:
        env.reset(options={"task": TASK})
        env.step(call("search", query="sea Ostby", k=5))
        env.step(call("open", document=f"{web.url}/sea"))
        env.step(call("find", text="blue"))
        env.step(call("open", document=f"{web.url}/gone"))
        _, reward, terminated, _, _ = env.step(call("answer", text="blue"))
        assert (reward, terminated) == (1.0, True)
        return Trajectory(id="live", task=TASK, tools=env.tools, messages=env.messages)


def test_fields_are_found_by_their_paths(web: Web) -> None:
    hits = engine_of(web).search("sea", 2)
    url = web.url
    assert hits == [
        Hit(f"{url}/gone", "gone", f"{url}/gone", "sea on /gone"),
        Hit(f"{url}/note", "note", f"{url}/note", "sea on /note"),
    ]
    assert web.paths() == ["/search?q=sea&n=2"]
    engine_of(web).search("a&b=c d/é", 2)
    assert web.paths()[-1] == "/search?q=a%26b%3Dc%20d%2F%C3%A9&n=2"
    assert at({"a": [{"b": 1}]}, "a.0.b") == 1 and at({"a": []}, "a.0.b") is None and at(5, "") == 5


def test_a_search_by_post_with_a_body_and_a_key_from_the_environment(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_SEARCH_KEY", "s3cret")
    headers = {"Authorization": "Bearer ${TEST_SEARCH_KEY}"}
    body = {"q": "{query}", "n": "{k}", "more": ["x {query}"]}
    record = Record()
    engine = engine_of(web, record, search_url=f"{web.url}/search", method="POST", body=body, headers=headers)
    assert [hit.title for hit in engine.search("plain note", 5)] == ["note"]
    method, path, sent, got = web.asked[-1]
    assert (method, path, got) == ("POST", "/search", {"q": "plain note", "n": 5, "more": ["x plain note"]})
    assert sent["authorization"] == "Bearer s3cret"
    assert "s3cret" not in json.dumps(record._answers) and "s3cret" not in engine.fingerprint
    monkeypatch.delenv("TEST_SEARCH_KEY")
    with pytest.raises(BadInput, match="TEST_SEARCH_KEY"):
        engine.search("another", 5)


def test_a_vector_store_of_the_openai_kind(web: Web) -> None:
    hits = {"data": [{"file_id": "file-1", "filename": "sea.md", "score": 0.9, "content": [{"text": "It is blue."}]}]}
    web.put("/v1/vector_stores/vs/search", json.dumps(hits), kind="application/json")
    content = {"data": [{"type": "text", "text": "The sea is blue."}]}
    web.put("/v1/vector_stores/vs/files/file-1/content", json.dumps(content), kind="application/json")
    engine = engine_of(
        web,
        search_url=f"{web.url}/v1/vector_stores/vs/search",
        method="POST",
        body={"query": "{query}", "max_num_results": "{k}"},
        results="data",
        id="file_id",
        title="filename",
        snippet="content.0.text",
        document_url=f"{web.url}/v1/vector_stores/vs/files/{{id}}/content",
        document_text="data.0.text",
    )
    assert engine.search("sea", 3) == [Hit("file-1", "sea.md", "", "It is blue.")]
    assert web.asked[-1][3] == {"query": "sea", "max_num_results": 3}
    found = engine.read("file-1")
    assert found is not None and found.document.text == "The sea is blue."


def test_redirects_are_followed_but_not_with_keys(web: Web) -> None:
    web.moved["/old"] = "/note"
    plain = engine_of(web).read("old", f"{web.url}/old")
    assert plain is not None and plain.document.text == "A plain note on the sea."
    before = len(web.asked)
    with pytest.raises(Unreadable):
        engine_of(web, headers={"X-Key": "s3cret"}).read("old", f"{web.url}/old")
    assert web.paths()[before:] == ["/old"]


def test_keys_are_not_sent_to_the_sites_that_results_name(web: Web) -> None:
    with serving() as other:
        other.put("/page", "<p>elsewhere")
        engine = engine_of(web, headers={"X-Key": "s3cret"})
        engine.read(f"{other.url}/page", f"{other.url}/page")
        engine.read(f"{web.url}/note", f"{web.url}/note")
        assert "x-key" not in other.asked[0][2] and web.asked[0][2]["x-key"] == "s3cret"


def test_documents_are_pages_texts_or_fields_of_an_answer(web: Web) -> None:
    engine = engine_of(web)
    page = engine.read(f"{web.url}/sea", f"{web.url}/sea")
    assert page is not None and page.document.title == "The Sea" and page.count > 1
    assert page.passages[0].text == "The sea at Ostby is blue."
    note = engine.read(f"{web.url}/note", f"{web.url}/note")
    assert note is not None and note.document.text == "A plain note on the sea."
    for path, told in (("/gone", "status 404"), ("/paper", "application/pdf"), ("/nowhere", "404")):
        with pytest.raises(Unreadable, match=told):
            engine.read(web.url + path, web.url + path)
    with pytest.raises(Unreadable, match="no web address"):
        engine.read("file:///etc/passwd", "file:///etc/passwd")
    web.put("/doc", json.dumps({"body": {"title": "T", "text": "Body."}}), kind="application/json")
    other = engine_of(
        web, document_url=f"{web.url}/doc?x={{id}}", document_text="body.text", document_title="body.title"
    )
    found = other.read("a b", "")
    assert found is not None and (found.document.title, found.document.text) == ("T", "Body.")
    assert web.paths()[-1] == "/doc?x=a%20b"
    # A page may refuse; an API that does, refuses us, and that says nothing about the document.
    for status in (401, 403):
        web.failing = [status]
        with pytest.raises(Unreadable, match=f"status {status}"):
            engine.read(f"{web.url}/x{status}", f"{web.url}/x{status}")
        web.failing = [status]
        with pytest.raises(EndpointError, match=f"status {status}"):
            other.read("c", "")
    assert other.read("c", "") is not None  # nothing of it was kept


def test_failures_that_may_pass_are_retried_and_others_are_errors(web: Web) -> None:
    web.failing = [503, 429]
    assert engine_of(web, attempts=3).search("sea", 1)
    web.failing = [503] * 2
    with pytest.raises(EndpointError, match="503"):
        engine_of(web, attempts=2).search("sea", 1)
    before = len(web.asked)
    web.failing = [400]
    with pytest.raises(EndpointError, match="status 400"):
        engine_of(web, attempts=3).search("sea", 1)
    assert len(web.asked) == before + 1


def test_answers_that_are_no_results(web: Web) -> None:
    with pytest.raises(EndpointError, match=r"no list at 'nothing\.here'"):
        engine_of(web, results="nothing.here").search("sea", 1)
    with pytest.raises(EndpointError, match="is no JSON"):
        engine_of(web, search_url=f"{web.url}/sea?q={{query}}").search("sea", 1)
    with serving() as closed:
        url = closed.url
    with pytest.raises(EndpointError, match=r"127\.0\.0\.1"):
        engine_of(web, search_url=f"{url}/search?q={{query}}", attempts=1).search("sea", 1)


def test_settings_that_make_no_sense(web: Web) -> None:
    for wrong in ({"search_url": "ftp://x/{query}"}, {"method": "PUT"}, {"attempts": 0}, {"field": 1}):
        with pytest.raises(BadInput) as caught:
            gym.make("pivotgym/Search-v0", live={**api_of(web), **wrong})
        assert "live" in str(caught.value.field)


def test_the_first_answer_stays_the_answer(web: Web, tmp_path: Path) -> None:
    record = Record(tmp_path / "record.jsonl")
    engine = engine_of(web, record)
    first = engine.search("sea", 5)
    web.put("/another", "sea")
    assert engine.search("sea", 5) == first and len(web.asked) == 1
    again = engine_of(web, Record(tmp_path / "record.jsonl"), offline=True)
    assert again.search("sea", 5) == first and len(web.asked) == 1
    with pytest.raises(NotRecorded, match="no answer to: search 'hill'"):
        again.search("hill", 5)
    with pytest.raises(NotRecorded):
        engine.search("hill", 5, recorded_only=True)
    assert len(web.asked) == 1


def test_two_records_of_one_file_see_each_other(tmp_path: Path) -> None:
    one, other = Record(tmp_path / "deep" / "r.jsonl"), Record(tmp_path / "deep" / "r.jsonl")
    assert one.put({"search": "a"}, {"hits": [1]}) == {"hits": [1]}
    assert other.get({"search": "a"}) == {"hits": [1]}
    assert other.put({"search": "a"}, {"hits": [2]}) == {"hits": [1]}
    assert other.put({"search": "b"}, {"hits": []}) == {"hits": []} and one.get({"search": "b"}) == {"hits": []}
    assert len((tmp_path / "deep" / "r.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("row", "field"), [('{"request": {}}', "answer"), ('{"request": 1, "answer": {}}', "request"), ("[]", None)]
)
def test_a_bad_record_is_named(tmp_path: Path, row: str, field: str | None) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"request": {"a": 1}, "answer": {}}\n' + row + "\n")
    with pytest.raises(BadInput) as caught:
        Record(path)
    assert (caught.value.file, caught.value.line, caught.value.field) == (path, 2, field)


def test_only_documents_that_a_search_has_shown_are_opened(web: Web) -> None:
    with closing(env_of(web, None)) as env:
        env.reset(options={"task": TASK})
        observation = env.step(call("open", document=f"{web.url}/sea"))[0]
        assert "no search has shown a document" in observation and web.asked == []


def test_a_recorded_session_restores_offline_at_every_turn(web: Web, tmp_path: Path) -> None:
    record = tmp_path / "record.jsonl"
    trajectory = recorded_session(web, record)
    asked = len(web.asked)
    for offline in (True, False):
        with closing(env_of(web, record, offline=offline)) as env:
            for turn in range(len(trajectory.turns)):
                _, info = env.reset(options={"trajectory": trajectory, "turn": turn})
                assert info["restore"].fidelity == 1.0 and info["restore"].faithful
            assert env.step(trajectory.action(turn))[1] == 1.0
    assert len(web.asked) == asked


def test_the_laws_hold_offline(web: Web, tmp_path: Path) -> None:
    record = tmp_path / "record.jsonl"
    trajectory = recorded_session(web, record)
    asked = len(web.asked)
    report = check_env_laws(
        "pivotgym/Search-v0",
        [trajectory],
        env_kwargs={"live": api_of(web), "record": record, "offline": True},
        laws=("fidelity", "isolation", "equivalence", "blindness", "honest reward"),
        resets=3,
    )
    assert [(one.law, one.detail) for one in report.results if not one.passed] == []
    assert len(web.asked) == asked


def test_what_the_record_lacks_is_an_error_in_the_report_and_never_a_call(web: Web, tmp_path: Path) -> None:
    record = tmp_path / "record.jsonl"
    trajectory = recorded_session(web, record)
    rows = record.read_text().splitlines()
    short = tmp_path / "short.jsonl"
    short.write_text("\n".join(row for row in rows if "/sea" not in json.dumps(json.loads(row)["request"])) + "\n")
    asked = len(web.asked)
    with closing(env_of(web, short)) as env:  # not offline: even so, replaying must not ask
        _, info = env.reset(options={"trajectory": trajectory, "turn": 3})
        report = info["restore"]
        assert not report.faithful and report.fidelity < 1.0
        assert report.diverged[0].turn == 1 and report.diverged[0].kind == "not_recorded"
        assert "not in the record" in str(report.diverged[0].diff)
        assert len(web.asked) == asked
    with closing(env_of(web, short)) as env, pytest.raises(RestoreDiverged):
        env.reset(options={"trajectory": trajectory, "turn": 3, "strict": True})
    assert len(web.asked) == asked


def test_an_action_that_the_record_cannot_answer_has_no_reward(web: Web, tmp_path: Path) -> None:
    record = tmp_path / "record.jsonl"
    trajectory = recorded_session(web, record)
    with closing(env_of(web, record, offline=True, verifier="search_effects")) as env:
        env.reset(options={"trajectory": trajectory, "turn": 0})
        with pytest.raises(NotRecorded):
            env.step(call("search", query="something else"))
        env.reset(options={"trajectory": trajectory, "turn": 0})
        assert env.step(call("search", query="sea Ostby", k=5))[1] == 1.0
    with closing(env_of(web, record)) as env:  # online, the policy may ask what it likes, and it is recorded
        env.reset(options={"trajectory": trajectory, "turn": 1})
        env.step(call("search", query="plain note"))
    assert "plain note" in record.read_text()


def test_a_server_that_dies_is_an_error_and_no_reward(tmp_path: Path) -> None:
    with serving() as web:
        web.put("/sea", "sea")
        env = env_of(web, None)
        env.engine.api.__dict__.update(attempts=1)  # type: ignore[attr-defined]
        env.reset(options={"task": TASK})
    with closing(env), pytest.raises(EndpointError):
        env.step(call("search", query="sea"))
