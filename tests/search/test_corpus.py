"""Reading corpora, cutting pages, ranking, and the tools over them."""

from __future__ import annotations

import gzip
import json
import math
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from pivotgym.envs.errors import BadInput, MissingExtra, NotRestorable
from pivotgym.envs.search.corpus import Corpus, Document, Paged, load_corpus, text_of_html
from pivotgym.envs.search.domain import SearchDomain
from pivotgym.envs.search.engine import LocalEngine, cut_around
from pivotgym.envs.search.env import SearchEnv
from pivotgym.envs.search.ranking import Bm25, words
from pivotgym.envs.search.view import Session
from pivotgym.envs.trajectory import Task, ToolCall

TASK = Task(env="pivotgym/Search-v0", id="q", data={"question": "Which?", "expected": {"answers": ["blue"]}})
CALLS = {"tower": "The tower was built of slate.", "sea": "The sea is blue. " * 3, "hill": "A hill without a tower."}


def corpus_of(**texts: str) -> Corpus:
    return Corpus(Document(name, name.capitalize(), text) for name, text in texts.items())


@pytest.fixture
def talk() -> Callable[..., str]:
    """Calls a tool in one session over a small corpus."""
    long = "\n\n".join(f"Paragraph {number} about the lighthouse at Point {number}." for number in range(40))
    domain = SearchDomain(LocalEngine(corpus_of(**CALLS, long=long), page_chars=300))
    session = domain.open(TASK)

    def call(name: str, **arguments: Any) -> str:
        return domain.call(session, ToolCall(name=name, arguments=arguments))

    return call


def test_a_folder_of_text_markdown_and_html(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "one_note.txt").write_text("First line.\r\n\r\n\r\n\r\nSecond   line.\n", encoding="utf-8")
    (tmp_path / "deep" / "two.md").write_text("Intro\n\n## The *Title* ##\n\nBody.", encoding="utf-8")
    html = (
        "<html><head><title> My  page </title><style>p{}</style></head><body><nav>Menu</nav><h1>Head</h1>"
        "<p>One<br>two &amp; three</p><script>alert('x')</script>"
        "<table><tr><td>a</td><td>b</td></tr></table></body></html>"
    )
    (tmp_path / "three.HTML").write_text(html, encoding="utf-8")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff")
    (tmp_path / "empty.txt").write_text("")
    found = load_corpus(tmp_path).documents
    assert list(found) == ["deep/two.md", "empty.txt", "one_note.txt", "three.HTML"]
    assert found["one_note.txt"] == Document("one_note.txt", "one note", "First line.\n\nSecond line.")
    assert found["deep/two.md"].title == "The *Title*"
    assert found["three.HTML"].title == "My page"
    text = found["three.HTML"].text
    assert "One\ntwo & three" in text and "a b" in text and "Head" in text
    assert not any(word in text for word in ("Menu", "alert", "p{}"))


def test_rows_plain_and_gzip(tmp_path: Path) -> None:
    rows = [{"id": "b", "text": "B"}, {"id": 7, "title": "Seven\nand more", "text": "", "url": "http://x/7"}]
    text = "\n".join(json.dumps(row) for row in rows)
    (tmp_path / "c.jsonl").write_text(text + "\n\n")
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    plain, packed = load_corpus(tmp_path / "c.jsonl"), load_corpus(tmp_path / "c.jsonl.gz")
    assert plain.digest == packed.digest and list(plain.documents) == ["7", "b"]
    assert plain.documents["7"] == Document("7", "Seven and more", "", "http://x/7")
    assert plain.documents["b"].title == "b"


@pytest.mark.parametrize(
    ("row", "field", "told"),
    [
        ('{"id": "a"}', "text", "is missing"),
        ('{"text": "x"}', "id", "is missing"),
        ('{"id": true, "text": "x"}', "id", "not bool"),
        ('{"id": " ", "text": "x"}', "id", "is empty"),
        ('{"id": "a", "text": 5}', "text", "not int"),
        ('{"id": "a", "text": "x", "url": ["y"]}', "url", "not list"),
        ('{"id": "a", "text": "\\ud800"}', "text", "Unicode"),
        ('{"id": "ok", "text": "again"}', "id", "line 1"),
        ('["a", "x"]', None, "JSON object"),
        ('{"id": "a", ', None, "not valid JSON"),
    ],
)
def test_a_bad_row_is_named_by_file_line_and_field(tmp_path: Path, row: str, field: str | None, told: str) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text('{"id": "ok", "text": "fine"}\n\n' + row + "\n")
    with pytest.raises(BadInput, match=told) as caught:
        load_corpus(path)
    assert (caught.value.file, caught.value.line, caught.value.field) == (path, 3, field)


def test_what_is_no_corpus(tmp_path: Path) -> None:
    (tmp_path / "blank.jsonl").write_text("\n\n")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    for path in (tmp_path / "nothing", tmp_path / "blank.jsonl", tmp_path):
        with pytest.raises(BadInput):
            load_corpus(path)
    (tmp_path / "latin.txt").unlink()
    with pytest.raises(BadInput, match=r"no .*\.md.* file in this folder"):
        load_corpus(tmp_path)
    with pytest.raises(BadInput, match="two documents"):
        Corpus([Document("a", "", ""), Document("a", "", "x")])


def test_pages_hold_everything_once_and_none_is_too_long() -> None:
    sentence = "Here stands a sentence of some length, and it goes on. "
    text = "\n\n".join([sentence * 30, "short", "x" * 1000, sentence * 3, "", "end"])
    paged = Paged(Document("a", "A", text), 400)
    joined = "".join(passage.text for passage in paged.passages).replace(" ", "")
    assert joined == text.replace(" ", "").replace("\n", "")
    for number in range(1, paged.count + 1):
        page = paged.page(number)
        assert page and sum(len(one.text) for one in page) + 2 * (len(page) - 1) <= 400
    assert [one.number for one in paged.passages] == list(range(len(paged.passages)))
    assert all(one.text.endswith("on.") for one in paged.passages if one.text.startswith("Here"))
    empty = Paged(Document("e", "E", ""))
    assert empty.count == 1 and empty.page(1) == []


def test_html_without_title_and_broken_html() -> None:
    assert text_of_html("<h2>Only <b>head</b></h2><p>x") == ("Only head", "Only head\n\nx")
    assert text_of_html("plain text") == ("", "plain text")
    assert text_of_html("<p>open <b>never closed")[1] == "open never closed"


def test_ranking_agrees_with_the_formula_and_breaks_ties_by_id() -> None:
    texts = {f"d{number}": "common word" for number in (3, 1, 2)}
    engine = LocalEngine(corpus_of(**texts, a="rare common", z="unrelated"))
    assert [hit.id for hit in engine.search("common", 10)] == ["a", "d1", "d2", "d3"]
    assert [hit.id for hit in engine.search("common", 2)] == ["a", "d1"]
    assert [hit.id for hit in engine.search("rare common", 1)] == ["a"]
    assert engine.search("nowhere", 5) == [] and engine.search("the of", 5) == []


def test_bm25_scores_are_those_of_the_published_formula() -> None:
    corpus = corpus_of(one="wolf wolf fox", two="fox hare", three="hare hare hare hare owl")
    tokens = {name: words(f"{one.title}\n{one.title}\n{one.text}") for name, one in corpus.documents.items()}
    mean = sum(map(len, tokens.values())) / len(tokens)

    def score(name: str, query: str) -> float:
        total = 0.0
        for word in words(query):
            frequency = tokens[name].count(word)
            holding = sum(word in other for other in tokens.values())
            idf = math.log(1 + (len(tokens) - holding + 0.5) / (holding + 0.5))
            total += idf * frequency / (frequency + 1.5 * (1 - 0.75 + 0.75 * len(tokens[name]) / mean))
        return total

    found = Bm25(corpus).scores("fox and wolves, wolf")
    assert found == pytest.approx([score(name, "fox wolf wolves") for name in corpus.documents], rel=1e-4)


def test_words_are_found_in_any_case_accent_and_number() -> None:
    engine = LocalEngine(corpus_of(a="Čapek wrote of Newts", b="glass"))
    for query in ("capek", "CAPEK", "newt", "Newts'", "čapek's"):
        assert [hit.id for hit in engine.search(query, 3)] == ["a"], query
    assert words("The glass of the boss's wives") == ["glass", "boss", "wive"]


def test_snippets_are_cut_around_the_words() -> None:
    text = "Nothing here. " * 40 + "The heron nests at Ostby. " + "More nothing. " * 40
    cut = cut_around(text, "heron Ostby", 100)
    assert "heron nests at Ostby" in cut and len(cut) <= 104 and cut.startswith("…") and cut.endswith("…")
    assert cut_around("short", "x") == "short"


def test_search_open_find_and_answer(talk: Callable[..., str]) -> None:
    found = talk("search", query="tower")
    assert found.splitlines()[0] == "1. [tower] Tower" and "[hill]" in found and "[sea]" not in found
    assert talk("search", query="zzz") == "No documents found."
    assert talk("find", text="x") == "Error: no document is open"
    assert talk("open", document="sea").startswith("[sea] Sea (page 1 of 1)\n\nThe sea is blue.")
    first = talk("open", document="long", page=2)
    assert first.startswith("[long] Long (page 2 of") and "Paragraph 0 " not in first
    one = talk("find", text="POINT  7.")
    assert one.startswith("1 passage of [long] Long:\npage ") and "Paragraph 7 " in one
    assert talk("find", text="harbour") == "'harbour' is not in [long] Long."
    assert talk("answer", text="blue") == "Answer received."
    assert talk("answer", text="red") == "Error: an answer was already given"


def test_find_goes_on_where_it_stopped_and_begins_again(talk: Callable[..., str]) -> None:
    talk("open", document="long")
    shown = [talk("find", text="lighthouse") for _ in range(6)]
    assert shown[0].startswith("40 passages of [long] Long (showing 1 to 8):")
    assert "(showing 33 to 40)" in shown[4] and shown[5] == shown[0]
    assert talk("find", text="Point 1.") != talk("find", text="lighthouse") == shown[0]


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("open", {"document": "nope"}, "there is no document 'nope'"),
        ("open", {"document": "sea", "page": 2}, "has 1 page, there is no page 2"),
        ("open", {"document": "sea", "page": 0}, "page"),
        ("open", {"page": 1}, "missing argument document"),
        ("search", {"query": ""}, "query"),
        ("search", {"query": "  "}, "query is empty"),
        ("search", {"query": "x", "k": 21}, "k"),
        ("search", {"query": "x", "k": "3"}, "k"),
        ("search", {"query": "x", "site": "y"}, "unknown argument site"),
        ("answer", {"text": " "}, "text is empty"),
        ("browse", {}, "unknown tool browse"),
    ],
)
def test_wrong_calls_are_told_and_change_nothing(name: str, arguments: dict[str, Any], told: str) -> None:
    domain = SearchDomain(LocalEngine(corpus_of(**CALLS)))
    session = domain.open(TASK)
    domain.call(session, ToolCall(name="open", arguments={"document": "tower"}))
    before = session.view
    answer = domain.call(session, ToolCall(name=name, arguments=arguments))
    assert answer.startswith("Error: ") and told in answer
    assert session.view is before


def test_a_document_is_opened_by_its_address_too() -> None:
    corpus = Corpus([Document("a", "A", "text", "http://example.org/a")])
    domain = SearchDomain(LocalEngine(corpus))
    session = domain.open(TASK)
    shown = domain.call(session, ToolCall(name="open", arguments={"document": "http://example.org/a"}))
    assert shown == "[a] A (page 1 of 1)\nhttp://example.org/a\n\ntext"


def test_snapshots_are_one_reference_and_forks_are_independent(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text("".join(json.dumps({"id": name, "text": text}) + "\n" for name, text in CALLS.items()))
    env = gym.make("pivotgym/Search-v0", corpus=path, disable_env_checker=True).unwrapped
    assert isinstance(env, SearchEnv)
    with closing(env):
        env.reset(options={"task": TASK})
        env.step({"tool_calls": [{"name": "open", "arguments": {"document": "sea"}}]})
        before = env.save()
        assert before is not None and before.payload is env.session.view
        with closing(env.fork()) as fork:
            assert fork.session is not env.session and fork.session.view is env.session.view
            fork.step({"tool_calls": [{"name": "search", "arguments": {"query": "tower"}}]})
            after = fork.save()
            assert after is not None
            changed = [change["path"] for change in fork.diff(before, after)]
            assert changed == ["query", "results", "hits"] and env.diff(before, before) == []
            assert env.session.view is before.payload
            _, reward, terminated, _, info = fork.step("The answer is blue.")
            assert (reward, terminated, info["termination"]) == (1.0, True, "answered")
        _, reward, _, _, info = env.step({"tool_calls": [{"name": "answer", "arguments": {"text": "red"}}]})
        assert reward == 0.0 and info["verdict"]["evidence"]["given"] == "red"


def test_a_session_of_a_task_without_a_question_or_answer(tmp_path: Path) -> None:
    domain = SearchDomain(LocalEngine(corpus_of(**CALLS)))
    with pytest.raises(NotRestorable, match="has no question"):
        domain.open(Task(env="pivotgym/Search-v0", id="x"))
    nameless = Task(env="pivotgym/Search-v0", id="x", data={"question": "Which?"})
    session = domain.open(nameless)
    assert isinstance(session, Session)
    with pytest.raises(BadInput, match="names no right answer"):
        domain.goal(nameless, session, [])


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bm25s", None)
    with pytest.raises(MissingExtra, match=r"bm25s is not installed: pip install 'pivotgym\[search\]'"):
        LocalEngine(corpus_of(**CALLS))
    monkeypatch.setitem(sys.modules, "bs4", None)
    with pytest.raises(MissingExtra, match=r"beautifulsoup4 is not installed: pip install 'pivotgym\[search\]'"):
        text_of_html("<p>x")


def test_options_that_do_not_fit(tmp_path: Path) -> None:
    for options, told in (
        ({"ranker": "embeddings"}, "needs an encoder"),
        ({"offline": True}, "belongs to a live search API"),
        ({"record": tmp_path / "r"}, "belongs to a live search API"),
    ):
        env = gym.make("pivotgym/Search-v0", disable_env_checker=True, **options)  # type: ignore[arg-type]
        with closing(env), pytest.raises(BadInput, match=told):
            env.reset()
    with pytest.raises(BadInput):
        gym.make("pivotgym/Search-v0", page_chars=3)
