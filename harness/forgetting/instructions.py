"""Following instructions that a program can check (the idea of IFEval: Zhou et al. 2023, arXiv:2311.07911).

Prompts and checks are our own: a request and one to three constraints on the form of the answer, drawn so that they
can all hold at once.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from pivotgym.envs.trajectory import JsonObject
from pivotgym.harness.forgetting.items import Answer, Item, Metric, numbered

REQUESTS = (
    "Write a short note to a neighbour about a lost cat.",
    "Describe how to make a cup of tea.",
    "Explain why the sky is blue to a child.",
    "Recommend a place for a picnic and say why.",
    "Write a product description for a wooden chair.",
    "Tell a short story about a lighthouse keeper.",
    "Give advice to somebody who starts a new job.",
    "Describe your idea of a perfect breakfast.",
    "Write an invitation to a birthday party.",
    "Explain what a library is for.",
    "Describe a train journey through the mountains.",
    "Write a complaint about a late delivery.",
    "Explain how a bicycle works.",
    "Describe the sea on a stormy day.",
    "Suggest three ways to save water at home.",
    "Write a thank-you message to a teacher.",
    "Explain the difference between weather and climate.",
    "Write an announcement for a village market.",
    "Describe a painting of a winter forest.",
    "Explain how to look after a house plant.",
)
QUESTIONS = (
    "Is a tomato heavier than a car?",
    "Do fish live in water?",
    "Is ice colder than steam?",
    "Will it rain in Lisbon on the third of May next year?",
    "Is the moon made of cheese?",
    "Does a triangle have three sides?",
)
_KEYWORDS = ("river", "window", "garden", "morning", "letter", "bridge", "market", "music", "winter", "friend")
_FORBIDDEN = ("very", "because", "good", "the", "is", "and")
_STARTS = ("To whom it may concern:", "Here is what I think.", "Let me begin with a simple fact.")
_ENDS = ("That is all I can say.", "Ask me again tomorrow.", "Nothing more needs to be added.")
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


@dataclass(frozen=True)
class Constraint:
    """A constraint on the form of an answer.

    Attributes:
        slot: constraints of one slot exclude each other.
        draw: its values.
        ask: how it is said.
        holds: whether an answer keeps it.
        excludes: slots it cannot be combined with.
    """

    slot: str
    draw: Callable[[random.Random], JsonObject]
    ask: Callable[[JsonObject], str]
    holds: Callable[[str, JsonObject], bool]
    excludes: frozenset[str] = frozenset()


def words(text: str) -> list[str]:
    """The words of a text, in lower case; numbers count."""
    return [word.lower() for word in _WORD.findall(text)]


def sentences(text: str) -> int:
    """How many sentences: ends of sentence before a space, a quotation mark or the end."""
    return len(re.findall(r"[.!?]+(?=[\s\"”’)]|$)", text.strip()))


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.strip().splitlines() if line.strip()]


def _paragraphs(text: str) -> int:
    return sum(1 for part in re.split(r"\n\s*\n", text.strip()) if part.strip())


def _bullets(text: str) -> int:
    return sum(bool(re.match(r"[-*•]\s+\S", line)) and not line.startswith("**") for line in _lines(text))


def _numbers(text: str) -> list[int]:
    return [int(found[1]) for line in _lines(text) if (found := re.match(r"(\d+)[.)]\s+\S", line))]


def _letters(text: str) -> list[str]:
    return [char for char in text if char.isalpha()]


def _number(*choices: int) -> Callable[[random.Random], JsonObject]:
    return lambda rng: {"n": rng.choice(choices)}


def _phrase(choices: tuple[str, ...]) -> Callable[[random.Random], JsonObject]:
    return lambda rng: {"phrase": rng.choice(choices)}


def _nothing(rng: random.Random) -> JsonObject:
    return {}


def _quoted(text: str, _: JsonObject) -> bool:
    stripped = text.strip()
    return len(stripped) > 2 and stripped[0] in '"“' and stripped[-1] in '"”'


def _two_answers(text: str, _: JsonObject) -> bool:
    parts = re.split(r"^\s*\*\*\*\s*$", text.strip(), flags=re.MULTILINE)
    return len(parts) == 2 and all(part.strip() for part in parts) and parts[0].strip() != parts[1].strip()


CONSTRAINTS: dict[str, Constraint] = {
    "words_at_least": Constraint(
        "length",
        _number(30, 40, 60),
        lambda v: f"Use at least {v['n']} words.",
        lambda text, v: len(words(text)) >= v["n"],
    ),
    "words_at_most": Constraint(
        "length",
        _number(30, 40, 60),
        lambda v: f"Use at most {v['n']} words.",
        lambda text, v: 0 < len(words(text)) <= v["n"],
    ),
    "sentences": Constraint(
        "length",
        _number(2, 3, 4),
        lambda v: f"Write exactly {v['n']} sentences.",
        lambda text, v: sentences(text) == v["n"],
        frozenset({"layout", "opening", "closing", "placeholders"}),
    ),
    "paragraphs": Constraint(
        "layout",
        _number(2, 3),
        lambda v: f"Write exactly {v['n']} paragraphs, with one blank line between them.",
        lambda text, v: _paragraphs(text) == v["n"],
        frozenset({"opening", "closing"}),
    ),
    "bullets": Constraint(
        "layout",
        _number(3, 4, 5),
        lambda v: f'Include a list of exactly {v["n"]} bullet points; each is a line that begins with "- ".',
        lambda text, v: _bullets(text) == v["n"],
    ),
    "numbered": Constraint(
        "layout",
        _number(3, 4),
        lambda v: f'Include a numbered list of exactly {v["n"]} lines: "1. …", "2. …" and so on.',
        lambda text, v: _numbers(text) == list(range(1, v["n"] + 1)),
        frozenset({"digits"}),
    ),
    "two_answers": Constraint(
        "layout",
        _nothing,
        lambda v: "Give two different answers, with a line of three asterisks (***) between them.",
        _two_answers,
    ),
    "heading": Constraint(
        "opening",
        _nothing,
        lambda v: 'Make the first line a heading that begins with "# ".',
        lambda text, v: bool(re.match(r"# \S", text.strip())),
    ),
    "starts_with": Constraint(
        "opening",
        _phrase(_STARTS),
        lambda v: f'Begin with exactly these words: "{v["phrase"]}"',
        lambda text, v: text.strip().startswith(v["phrase"]),
        frozenset({"case"}),
    ),
    "ends_with": Constraint(
        "closing",
        _phrase(_ENDS),
        lambda v: f'End with exactly these words, and nothing after them: "{v["phrase"]}"',
        lambda text, v: text.strip().endswith(v["phrase"]),
        frozenset({"case"}),
    ),
    "postscript": Constraint(
        "closing",
        _nothing,
        lambda v: 'Add a postscript at the end: a last line that begins with "P.S."',
        lambda text, v: bool(_lines(text)) and bool(re.match(r"P\.\s?S\.\s*\S", _lines(text)[-1])),
        frozenset({"case"}),
    ),
    "quoted": Constraint(
        "wrapping",
        _nothing,
        lambda v: "Wrap your whole answer in double quotation marks.",
        _quoted,
        frozenset({"opening", "closing", "layout"}),
    ),
    "lowercase": Constraint(
        "case",
        _nothing,
        lambda v: "Use lowercase letters only.",
        lambda text, v: bool(_letters(text)) and text == text.lower(),
    ),
    "uppercase": Constraint(
        "case",
        _nothing,
        lambda v: "Use CAPITAL LETTERS only.",
        lambda text, v: bool(_letters(text)) and text == text.upper(),
    ),
    "keywords": Constraint(
        "words",
        lambda rng: {"words": rng.sample(_KEYWORDS, 2)},
        lambda v: f'Use the words "{v["words"][0]}" and "{v["words"][1]}".',
        lambda text, v: set(v["words"]) <= set(words(text)),
    ),
    "repeated": Constraint(
        "words",
        lambda rng: {"word": rng.choice(_KEYWORDS), "n": rng.choice((2, 3))},
        lambda v: f'Use the word "{v["word"]}" at least {v["n"]} times.',
        lambda text, v: words(text).count(v["word"]) >= v["n"],
    ),
    "forbidden": Constraint(
        "forbidden",
        lambda rng: {"words": rng.sample(_FORBIDDEN, 2)},
        lambda v: f'Do not use the words "{v["words"][0]}" and "{v["words"][1]}".',
        lambda text, v: bool(words(text)) and not set(v["words"]) & set(words(text)),
        frozenset({"opening", "closing"}),
    ),
    "no_commas": Constraint(
        "punctuation",
        _nothing,
        lambda v: "Do not use any comma.",
        lambda text, v: bool(text.strip()) and "," not in text,
    ),
    "no_digits": Constraint(
        "digits",
        _nothing,
        lambda v: "Do not use any digit.",
        lambda text, v: bool(text.strip()) and not re.search(r"\d", text),
    ),
    "placeholders": Constraint(
        "placeholders",
        _number(2, 3),
        lambda v: f"Include at least {v['n']} placeholders in square brackets, such as [name].",
        lambda text, v: len(re.findall(r"\[[^\[\]\n]+\]", text)) >= v["n"],
    ),
    "one_of": Constraint(
        "whole",
        lambda rng: {"options": ["yes", "no", "maybe"]},
        lambda v: "Answer with exactly one of these words and nothing else: " + ", ".join(v["options"]) + ".",
        lambda text, v: text.strip().lower().rstrip(".") in v["options"],
    ),
}


class Instructions:
    """Requests with constraints; ``all``: every constraint is kept, ``each``: the share of them that is."""

    name = "instructions"
    metrics = (
        Metric("instructions", "Instructions (every constraint kept)", over="all"),
        Metric("instructions_each", "Instructions (share of constraints kept)", over="each"),
    )

    def items(self, count: int, seed: int) -> list[Item]:
        """Requests with one, two and three constraints in turn; a few are questions with one word as the answer."""
        rng = random.Random(f"instructions {seed}")
        found: list[tuple[str, str, str, JsonObject]] = []
        for number in range(count):
            if number % 12 == 11:
                names, request = ["one_of"], QUESTIONS[(number // 12) % len(QUESTIONS)]
            else:
                names, request = draw(rng, 1 + number % 3), rng.choice(REQUESTS)
            values = [CONSTRAINTS[name].draw(rng) for name in names]
            asked = [CONSTRAINTS[name].ask(value) for name, value in zip(names, values, strict=True)]
            constraints = [{"name": name, "values": value} for name, value in zip(names, values, strict=True)]
            found.append(("", "instructions", " ".join([request, *asked]), {"constraints": constraints}))
        return numbered(self.name, found)

    def score(self, item: Item, answer: Answer) -> dict[str, float]:
        """Whether all are kept, and the share that is."""
        kept = [CONSTRAINTS[one["name"]].holds(answer.text, one["values"]) for one in item.data["constraints"]]
        return {"all": float(all(kept)), "each": sum(kept) / len(kept)}


def draw(rng: random.Random, count: int) -> list[str]:
    """So many constraints that can hold together, by name."""
    chosen: list[str] = []
    names = [name for name, constraint in CONSTRAINTS.items() if constraint.slot != "whole"]
    for name in rng.sample(names, len(names)):
        if len(chosen) == count:
            break
        new = CONSTRAINTS[name]
        if all(_together(new, CONSTRAINTS[one]) for one in chosen):
            chosen.append(name)
    return chosen


def _together(one: Constraint, other: Constraint) -> bool:
    return one.slot != other.slot and other.slot not in one.excludes and one.slot not in other.excludes
