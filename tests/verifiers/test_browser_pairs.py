"""Precision and recall of the effects verifier for browsers on labelled actions, and the file that holds them."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import needs
import pytest

needs.require("werkzeug", "browser")

from pivotgym.envs.browser.effects import content_of, element_lines, plain_url, same_document, visible_lines  # noqa: E402
from pivotgym.envs.errors import BadInput  # noqa: E402
from pivotgym.harness.bench_verifiers import BROWSER, TARGET, bench_verifiers  # noqa: E402
from pivotgym.verifiers import make  # noqa: E402
from pivotgym.verifiers.browser_pairs import SETS, labelled, read_pairs  # noqa: E402
from pivotgym.verifiers.measure import measure  # noqa: E402

FEW = ("t018", "t028", "t119", "h042", "h086")
"""Pairs that are judged where only the quick tests run: three right ones, two wrong ones."""


def needs_chromium() -> None:
    needs.require("playwright", "browser")
    needs.require("h11", "browser")
    needs.require("miniwob", "browser")
    if not any(map(shutil.which, ("/usr/lib/chromium/chromium", "chromium", "google-chrome", "chromium-browser"))):
        needs.missing("Chromium is not installed: apt-get install chromium")


def test_the_pairs_are_many_and_of_both_kinds() -> None:
    recordings, pairs = read_pairs()
    assert len({pair.id for pair in pairs}) == len(pairs) >= 200
    for name in SETS:
        found = [pair for pair in pairs if pair.set == name]
        share = sum(pair.worth for pair in found) / len(found)
        assert 0.35 < share < 0.65 and len(found) >= 60
        where = Counter(pair.of.partition(".")[0] for pair in found)
        assert min(where[of] for of in ("shop", "tracker", "miniwob")) >= (5 if name == "hard" else 20)
    pages = [{pair.of for pair in pairs if pair.set == name and pair.of in recordings} for name in SETS]
    assert not (pages[0] & pages[1] | pages[1] & pages[2] | pages[0] & pages[2])
    assert all(pair.why and pair.kind for pair in pairs)


FINE = {"id": "x", "set": "tuned", "of": "shop.weigh-0", "turn": 0, "kind": "k", "sampled": "noop()", "worth": 1}
FINE["why"] = "w"


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ('{"id": "x"', "no JSON"),
        (json.dumps({**FINE, "worth": 2}), "worth"),
        (json.dumps({**FINE, "of": "shop.nothing-0"}), "of"),
        (json.dumps({**FINE, "sampled": "jump()"}), "sampled"),
        (json.dumps({**FINE, "more": 1}), "more"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str, field: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n" + line + "\n")
    with pytest.raises(BadInput) as error:
        read_pairs(path)
    assert f"{path}" in str(error.value) and "2" in str(error.value) and field in str(error.value)


def test_an_unknown_set_is_named() -> None:
    with pytest.raises(BadInput, match="browser_hard"):
        bench_verifiers(["browser_soft"])


def test_a_demonstration_that_solves_nothing_is_named(tmp_path: Path) -> None:
    needs_chromium()
    rows = [
        {"recording": "miniwob.click-test-2.1", "page": "click-test-2", "seed": 1, "calls": ["click('14')"]},
        {"id": "x", "set": "tuned", "of": "miniwob.click-test-2.1", "turn": 0, "kind": "k", "sampled": "noop()",
         "worth": 0, "why": "w"},
    ]  # fmt: skip
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(BadInput, match="do not solve click-test-2"):
        labelled("tuned", path)


def some_pairs(tmp_path: Path) -> Path:
    recordings, pairs = read_pairs()
    few = [pair for pair in pairs if pair.id in FEW]
    assert len(few) == len(FEW)
    lines = [recordings[of].model_dump_json() for of in {pair.of for pair in few} if of in recordings]
    path = tmp_path / "few.jsonl"
    path.write_text("\n".join([*lines, *(pair.model_dump_json() for pair in few)]))
    return path


def test_a_few_pairs(tmp_path: Path) -> None:
    needs_chromium()
    items = labelled(None, some_pairs(tmp_path))
    found = measure(make("browser_effects"), items)
    assert not found.mistakes and found.judged == len(FEW) and found.true_positive and found.true_negative


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_precision_and_recall(name: str) -> None:
    needs_chromium()
    rows = {row.verifier: row for row in bench_verifiers([BROWSER + name], ["exact", "terminal_effects"])}
    effects, exact = rows["browser_effects"], rows["exact"]
    assert effects.failed == 0 and effects.right + effects.wrong == len(labelled(name))
    assert effects.precision is not None and effects.precision >= TARGET, effects.mistakes
    assert effects.recall is not None and effects.recall >= TARGET, effects.mistakes
    assert exact.recall == 0.0, "right actions are written otherwise than the demonstration is"


def test_addresses() -> None:
    assert plain_url("http://a.test/p?b=2&a=1&c=") == plain_url("http://a.test/p?a=1&b=2")
    assert plain_url("http://a.test/p?a=1#top") != plain_url("http://a.test/p?a=1")
    assert plain_url("http://a.test/p?a=1&a=2") != plain_url("http://a.test/p?a=1")
    assert plain_url("http://[broken") == "http://[broken"
    assert same_document("http://a.test/p?a=1#x", "http://a.test/p") and not same_document(
        "http://a.test/p", "http://a.test/q"
    )


def test_what_counts_of_a_state() -> None:
    state = {
        "url": "http://a.test/", "title": "A", "tabs": [["http://a.test/", "A"]], "active": 0,
        "tree": ["RootWebArea 'A'", "\tbutton 'Go', clickable, visible", "\tbutton 'Far', clickable"],
        "fields": {"b2": "in a frame", "12": "later", "9": "first"}, "storage": {}, "cookies": [], "downloads": [],
        "focus": "9", "scroll": {}, "told": ["hello"],
    }  # fmt: skip
    moved = {**state, "focus": "12", "scroll": {"page": [0, 50]}, "told": [], "tree": [
        "RootWebArea 'A'", "\tbutton 'Go', clickable", "\tbutton 'Far', clickable, visible"]}  # fmt: skip
    renumbered = {**state, "fields": {"10": "first", "13": "later", "b2": "in a frame"}}
    assert content_of(state) == content_of(moved) == content_of(renumbered)
    assert content_of({**state, "fields": {"12": "first", "9": "later", "b2": "in a frame"}}) != content_of(state)
    assert visible_lines(state) == {1: "button 'Go', clickable"} and visible_lines(moved) == {
        2: "button 'Far', clickable"
    }


def test_element_lines_leave_out_what_the_mouse_and_the_focus_do() -> None:
    strings = [
        "DIV",
        "class",
        "tab on ui-state-hover",
        "SCRIPT",
        "tab on is-focused",
        "INPUT",
        "typed",
        "#text",
        "code",
        "tab",
    ]

    def lines(class_of_div: int) -> list[str]:
        nodes = {
            "parentIndex": [-1, 0, 1, 0], "nodeType": [1, 1, 3, 1], "nodeName": [0, 3, 7, 5],
            "nodeValue": [-1, -1, 8, -1], "attributes": [[1, class_of_div], [], [], [1, -1]],
            "inputValue": {"index": [3], "value": [6]}, "inputChecked": {"index": [3]},
            "shadowRootType": {"index": [], "value": []},
        }  # fmt: skip
        return element_lines({"strings": strings, "documents": [{"nodes": nodes}]})

    assert lines(2) == lines(4) == ["div class='on tab'", "input value 'typed' chosen"]
    assert lines(9) != lines(2)
