"""The checks of the held-out suite: right answers pass, wrong ones do not, and every question can be answered."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from typing import Any

import pytest

from pivotgym.envs.actions import parse_action
from pivotgym.envs.search.bundled import corpus
from pivotgym.envs.trajectory import Message, ToolCall
from pivotgym.harness.forgetting.arithmetic import Arithmetic, WordProblems, read_number
from pivotgym.harness.forgetting.facts import Facts, PlainText
from pivotgym.harness.forgetting.formats import Formats
from pivotgym.harness.forgetting.instructions import CONSTRAINTS, Instructions, draw
from pivotgym.harness.forgetting.items import Answer, Item
from pivotgym.harness.policies.base import Completion

EXAMPLES: list[tuple[str, dict[str, Any], str, str]] = [
    ("words_at_least", {"n": 3}, "one two three", "one two"),
    ("words_at_most", {"n": 2}, "well-known don't", "one two three"),
    ("words_at_most", {"n": 2}, "one", "..."),
    ("sentences", {"n": 2}, "It rains. Does it?", "It rains, does it?"),
    ("sentences", {"n": 2}, 'It costs 3.50 now. "Good!"', "One. Two. Three."),
    ("paragraphs", {"n": 2}, "one\n\ntwo\nstill two", "one\ntwo"),
    ("bullets", {"n": 3}, "Such as:\n- a\n- b\n- c", "- a\n- b\nc"),
    ("bullets", {"n": 3}, "* a\n* b\n* c", "- a\n- b\n- c\n- d"),
    ("numbered", {"n": 3}, "1. a\n2. b\n3. c", "1. a\n3. b\n2. c"),
    ("numbered", {"n": 3}, "First:\n1) a\n2) b\n3) c\nThat is it.", "- a\n- b\n- c"),
    ("two_answers", {}, "this\n***\nthat", "this\n***\nthis"),
    ("two_answers", {}, "this\n ***\nthat", "this *** that"),
    ("heading", {}, "# The sea\nIt is wide.", "The sea\n# It is wide."),
    ("heading", {}, "# x", "#x"),
    ("starts_with", {"phrase": "Here is what I think."}, "Here is what I think. No.", "here is what I think. No."),
    (
        "ends_with",
        {"phrase": "Ask me again tomorrow."},
        "No. Ask me again tomorrow.\n",
        "Ask me again tomorrow. Or not.",
    ),
    ("postscript", {}, "Dear you.\nP.S. Call me.", "Dear you.\nP.S. Call me.\nYours"),
    ("quoted", {}, '"It is so."', 'He said "it is so."'),
    ("lowercase", {}, "all of it, 3 times", "All of it"),
    ("uppercase", {}, "ALL OF IT, 3 TIMES", "ALL of IT"),
    ("keywords", {"words": ["river", "garden"]}, "A River, a garden.", "Rivers and a garden"),
    ("repeated", {"word": "river", "n": 2}, "River to river", "river and rivers"),
    ("forbidden", {"words": ["is", "the"]}, "This was then.", "Here it IS."),
    ("no_commas", {}, "no comma", "one, two"),
    ("no_digits", {}, "two", "2"),
    ("placeholders", {"n": 2}, "[name] of [town]", "[name] of (town)"),
    ("one_of", {"options": ["yes", "no", "maybe"]}, "Maybe.", "yes and no"),
]


@pytest.mark.parametrize(("kind", "values", "right", "wrong"), EXAMPLES)
def test_constraint(kind: str, values: dict[str, Any], right: str, wrong: str) -> None:
    holds = CONSTRAINTS[kind].holds
    assert holds(right, values)
    assert not holds(wrong, values)
    assert not holds("", values)


def test_every_kind_of_constraint_has_an_example() -> None:
    assert {kind for kind, *_ in EXAMPLES} == set(CONSTRAINTS)


def compliant(constraints: list[dict[str, Any]]) -> str:
    """Writes an answer that keeps all constraints: what shows that they can be kept."""
    found = {one["name"]: one["values"] for one in constraints}
    if "one_of" in found:
        return "maybe"
    filler = "we go there"
    parts = [f"{filler}."]
    if "keywords" in found:
        parts = [f"{' '.join(found['keywords']['words'])}."]
    if "repeated" in found:
        parts = [f"{' '.join([found['repeated']['word']] * found['repeated']['n'])}."]
    if "placeholders" in found:
        parts.append(" ".join(["[name]"] * found["placeholders"]["n"]))
    if "words_at_least" in found:
        parts.append(" ".join([filler] * found["words_at_least"]["n"]))
    if "sentences" in found:
        body = parts[0].rstrip(".")
        parts = [" ".join([f"{body}."] + [f"{filler}."] * (found["sentences"]["n"] - 1))]
    text = " ".join(parts)
    if "paragraphs" in found:
        text = "\n\n".join([text] + ["so"] * (found["paragraphs"]["n"] - 1))
    if "bullets" in found:
        text += "\n" + "\n".join(["- so"] * found["bullets"]["n"])
    if "numbered" in found:
        text += "\n" + "\n".join(f"{place}. so" for place in range(1, found["numbered"]["n"] + 1))
    if "two_answers" in found:
        text += "\n***\nso"
    if "heading" in found:
        text = f"# so\n{text}"
    if "starts_with" in found:
        text = f"{found['starts_with']['phrase']}\n{text}"
    if "ends_with" in found:
        text += f"\n{found['ends_with']['phrase']}"
    if "postscript" in found:
        text += "\nP.S. so"
    if "quoted" in found:
        text = f'"{text}"'
    if "uppercase" in found:
        text = text.upper()
    if "lowercase" in found:
        text = text.lower()
    return text


@pytest.mark.parametrize("seed", range(4))
def test_every_instruction_can_be_followed(seed: int) -> None:
    part = Instructions()
    items = part.items(120, seed)
    kinds = {one["name"] for item in items for one in item.data["constraints"]}
    assert kinds == set(CONSTRAINTS)
    assert {len(item.data["constraints"]) for item in items} == {1, 2, 3}
    for item in items:
        text = compliant(item.data["constraints"])
        assert part.score(item, Answer(text, None)) == {"all": 1.0, "each": 1.0}, (item.messages[0].text, text)


def test_two_constraints_together_are_not_met_by_one() -> None:
    part = Instructions()
    data = {"constraints": [{"name": "lowercase", "values": {}}, {"name": "no_commas", "values": {}}]}
    item = Item("i", "i", "instructions", (), data=data)
    assert part.score(item, Answer("a, b", None)) == {"all": 0.0, "each": 0.5}


def test_drawn_constraints_are_of_different_slots() -> None:
    rng = random.Random(1)
    for _ in range(300):
        names = draw(rng, 3)
        assert len({CONSTRAINTS[name].slot for name in names}) == len(names)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("Answer: 42", 42),
        ("2 + 2 = 4. Answer: 4\n", 4),
        ("The answer is 1,234.", 1234),
        ("First 7, then 9.", 9),
        ("so #### 12", 12),
        ("Answer: **17** coins", 17),
        ("Answer: −3", -3),
        ("Answer: 2.5", 2.5),
        ("Answer: 5. I said 6 before.", 5),
        ("none", None),
    ],
)
def test_read_number(text: str, number: float | None) -> None:
    assert read_number(text) == number


def test_arithmetic_against_python() -> None:
    part = Arithmetic()
    items = part.items(160, 3)
    assert len({item.messages[0].text for item in items}) == 160
    for item in items:
        expression = item.messages[0].text.removeprefix("Compute ").partition(". ")[0]
        assert re.fullmatch(r"[\d ()+*/-]+", expression)
        assert eval(expression) == item.data["answer"]
        assert part.score(item, Answer(f"Answer: {item.data['answer']}", None)) == {"right": 1.0}
        assert part.score(item, Answer(f"Answer: {item.data['answer'] + 1}", None)) == {"right": 0.0}


SOLUTIONS: dict[str, Callable[..., int]] = {
    "shop": lambda n, price, paid: paid - n * price,
    "share": lambda apples, people: apples // people,
    "ages": lambda age, older, years: age + older + years,
    "walk": lambda speed, hours, more: speed * hours + more,
    "boxes": lambda boxes, each, broken: boxes * each - broken,
    "half": lambda stamps, back: stamps // 2 + back,
    "train": lambda on, off, more: on - off + more,
    "weeks": lambda had, daily, weeks: had + 7 * weeks * daily,
    "twice": lambda few: few + 3 * few,
    "garden": lambda long, wide: 2 * long + 2 * wide,
}


def test_word_problems_solved_from_their_text() -> None:
    for item in WordProblems().items(200, 5):
        numbers = [int(found) for found in re.findall(r"\d+", item.messages[0].text)]
        assert SOLUTIONS[item.kind](*numbers) == item.data["answer"], item.messages[0].text
        assert item.data["answer"] >= 0


def test_formats_take_the_right_answer_only() -> None:
    part = Formats()
    kinds = set()
    for item in part.items(90, 2):
        kinds.add(item.kind)
        right = _right(item)
        assert part.score(item, right) == {"right": 1.0, item.kind: 1.0}, item
        for wrong in _wrong(item):
            assert part.score(item, wrong) == {"right": 0.0, item.kind: 0.0}, (item, wrong)
    assert kinds == {"json", "list", "call"}


def _right(item: Item) -> Answer:
    if item.kind == "json":
        return Answer(json.dumps(item.data["value"], indent=1), None)
    if item.kind == "list":
        return Answer("\n".join(item.data["lines"]) + "\n", None)
    call = {"name": item.data["tool"], "arguments": item.data["arguments"]}
    message, malformed = parse_action(f"<tool_call>\n{json.dumps(call)}\n</tool_call>")
    assert malformed is None
    return Answer("", message)


def _wrong(item: Item) -> list[Answer]:
    if item.kind == "json":
        value = item.data["value"]
        texts = [json.dumps(value) + " Done.", json.dumps({**value, "more": 1}), "{}", json.dumps(value)[:-1]]
        return [Answer(text, None) for text in texts]
    if item.kind == "list":
        text = "\n".join(item.data["lines"])
        return [Answer(f"Here it is:\n{text}", None), Answer(text.replace(" ", "  ", 1) + "x", None), Answer("", None)]
    call = ToolCall(name=item.data["tool"], arguments=item.data["arguments"])
    other = ToolCall(name=item.data["tool"], arguments={**item.data["arguments"], "more": 1})
    messages = [
        Message(role="assistant", tool_calls=[call, call]),
        Message(role="assistant", tool_calls=[other]),
        Message(role="assistant", content=json.dumps(item.data["arguments"])),
        Message(role="assistant", tool_calls=[ToolCall(name="unknown", arguments=item.data["arguments"])]),
    ]
    return [Answer(message.text, message) for message in messages] + [Answer("", None)]


def test_json_in_a_code_fence_counts() -> None:
    item = next(item for item in Formats().items(3, 0) if item.kind == "json")
    text = f"```json\n{json.dumps(item.data['value'])}\n```"
    assert Formats().score(item, Answer(text, None))["right"] == 1.0


def test_facts_are_stated_and_the_other_options_are_not() -> None:
    items = Facts().items(120, 1)
    assert len(items) == 120
    documents = corpus().documents
    places = set()
    for item in items:
        text = documents[item.group].text
        options, right = item.data["options"], item.data["right"]
        assert len(set(options)) == len(options) == 4
        assert text in item.messages[0].text
        places.add(right)
        for place, option in enumerate(options):
            bare = re.escape(re.sub("^the ", "", option))
            assert bool(re.search(rf"(?<!\w){bare}(?!\w)", text, re.IGNORECASE)) == (place == right)
    assert places == {0, 1, 2, 3}


def test_plain_text_is_the_corpus() -> None:
    items = PlainText().items(10_000, 0)
    assert {item.group for item in items} == set(corpus().documents)
    assert [item.id for item in PlainText().items(5, 1)] != [item.id for item in PlainText().items(5, 2)]


@pytest.mark.parametrize("part", [Instructions(), Arithmetic(), WordProblems(), Formats(), Facts(), PlainText()])
def test_items_depend_on_the_seed_alone(part: Any) -> None:
    keys = [[item.key() for item in part.items(30, seed)] for seed in (0, 0, 1)]
    assert keys[0] == keys[1] != keys[2]
    assert len({key["id"] for key in keys[0]}) == 30


@pytest.mark.parametrize(
    ("text", "malformed", "seen"),
    [
        ("<think>so 3?</think>\n4", None, "4"),
        ("<think>so 3?", "cut off after 9 tokens", ""),
        ("so 3?</think> it is 4, beca", "cut off after 9 tokens", "it is 4, beca"),
        ("it is 4, beca", "cut off after 9 tokens", "it is 4, beca"),
        ("so 3? or", "cut off after 9 tokens, within its reasoning", ""),
    ],
)
def test_reasoning_is_no_answer(text: str, malformed: str | None, seen: str) -> None:
    message = parse_action(text)[0] if malformed is None else Message(role="assistant", content=text)
    assert Answer.of(Completion(message=message, text=text, malformed=malformed)).text == seen
