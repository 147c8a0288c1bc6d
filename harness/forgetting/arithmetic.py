"""Arithmetic and word problems: generated from a seed, with exact whole-number answers."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from pivotgym.envs.trajectory import JsonObject
from pivotgym.harness.forgetting.items import Answer, Item, Metric, numbered

_ASK = 'Write the result as a number at the end, after "Answer:".'
_NUMBER = re.compile(r"[-−]?\d+(?:[  ,]\d{3})*(?:\.\d+)?")
_NAMES = ("Ana", "Bo", "Carla", "Dmitri", "Elif", "Farid", "Grace", "Hugo", "Ines", "Jonas", "Kira", "Liam")


def read_number(text: str) -> float | None:
    """The number a text gives as its answer: the first after the last ``Answer:`` (or ``####``), else the last of all.

    Thousands separators are dropped. None where there is no number.
    """
    marked = re.split(r"answer\s*(?:is)?\s*[:=]?|####", text, flags=re.IGNORECASE)
    if len(marked) > 1 and (found := _NUMBER.search(marked[-1])):
        return _value(found[0])
    every = _NUMBER.findall(text)
    return _value(every[-1]) if every else None


def _value(text: str) -> float:
    return float(re.sub(r"[  ,]", "", text).replace("−", "-"))


def _right(item: Item, answer: Answer) -> dict[str, float]:
    found = read_number(answer.text)
    return {"right": float(found is not None and found == item.data["answer"])}


def _sum(rng: random.Random) -> tuple[str, int]:
    a, b = rng.randrange(2, 10), rng.randrange(2, 10)
    return f"{a} + {b}", a + b


def _long_sum(rng: random.Random) -> tuple[str, int]:
    a, b = rng.randrange(100, 1000), rng.randrange(100, 1000)
    return f"{a} + {b}", a + b


def _difference(rng: random.Random) -> tuple[str, int]:
    a, b = rng.randrange(50, 100), rng.randrange(10, 50)
    return f"{a} - {b}", a - b


def _product(rng: random.Random) -> tuple[str, int]:
    a, b = rng.randrange(3, 10), rng.randrange(3, 10)
    return f"{a} * {b}", a * b


def _long_product(rng: random.Random) -> tuple[str, int]:
    a, b = rng.randrange(12, 100), rng.randrange(12, 100)
    return f"{a} * {b}", a * b


def _quotient(rng: random.Random) -> tuple[str, int]:
    a, b = rng.randrange(3, 13), rng.randrange(3, 13)
    return f"{a * b} / {a}", b


def _brackets(rng: random.Random) -> tuple[str, int]:
    a, b, c = rng.randrange(2, 20), rng.randrange(2, 20), rng.randrange(2, 10)
    return f"({a} + {b}) * {c}", (a + b) * c


def _precedence(rng: random.Random) -> tuple[str, int]:
    a, b, c = rng.randrange(20, 100), rng.randrange(2, 10), rng.randrange(2, 10)
    return f"{a} - {b} * {c}" if a > b * c else f"{a} + {b} * {c}", a - b * c if a > b * c else a + b * c


OPERATIONS: dict[str, Callable[[random.Random], tuple[str, int]]] = {
    "sum": _sum,
    "long_sum": _long_sum,
    "difference": _difference,
    "product": _product,
    "long_product": _long_product,
    "quotient": _quotient,
    "brackets": _brackets,
    "precedence": _precedence,
}


class Arithmetic:
    """One expression each, of eight kinds in turn."""

    name = "arithmetic"
    metrics = (Metric("arithmetic", "Arithmetic"),)

    def items(self, count: int, seed: int) -> list[Item]:
        """Different expressions of all kinds; the same for the same seed."""
        rng = random.Random(f"arithmetic {seed}")
        found: dict[str, tuple[str, str, str, JsonObject]] = {}
        kinds = list(OPERATIONS)
        tries = 0
        while len(found) < count:
            kind = kinds[len(found) % len(kinds)]
            text, value = OPERATIONS[kind](rng)
            tries += 1
            # A kind with few expressions may be used up; from then on it may repeat itself.
            name = text if tries < 50 * count else f"{text} {tries}"
            found.setdefault(name, ("", kind, f"Compute {text}. {_ASK}", {"answer": value}))
        return numbered(self.name, list(found.values()))

    def score(self, item: Item, answer: Answer) -> dict[str, float]:
        """Whether the number is right."""
        return _right(item, answer)


def _shop(rng: random.Random, a: str, b: str) -> tuple[str, int]:
    n, price, paid = rng.randrange(2, 8), rng.randrange(2, 9), 100
    return (
        f"{a} buys {n} notebooks for {price} coins each and pays with a note of {paid} coins. "
        "How many coins does the shop give back?",
        paid - n * price,
    )


def _share(rng: random.Random, a: str, b: str) -> tuple[str, int]:
    people, each, left = rng.randrange(3, 8), rng.randrange(2, 9), rng.randrange(0, 2)
    return (
        f"{a} shares {people * each + left} apples equally among {people} people, as many whole apples each as "
        "possible. How many apples does each get?",
        each,
    )


def _ages(rng: random.Random, a: str, b: str) -> tuple[str, int]:
    age, older, years = rng.randrange(6, 30), rng.randrange(2, 12), rng.randrange(2, 9)
    return f"{a} is {age} years old. {b} is {older} years older. How old is {b} in {years} years?", age + older + years


def _walk(rng: random.Random, a: str, b: str) -> tuple[str, int]:
    speed, hours, more = rng.randrange(3, 7), rng.randrange(2, 6), rng.randrange(1, 5)
    return (
        f"{a} walks {speed} kilometres an hour for {hours} hours and then {more} kilometres more. "
        "How many kilometres is that in all?",
        speed * hours + more,
    )


def _boxes(rng: random.Random, a: str, b: str) -> tuple[str, int]:
    boxes, each, broken = rng.randrange(3, 9), rng.randrange(6, 13), rng.randrange(2, 6)
    return (
        f"{a} unpacks {boxes} boxes with {each} cups in each; {broken} cups are broken. How many cups are whole?",
        boxes * each - broken,
    )


def _half(rng: random.Random, a: str, b: str) -> tuple[str, int]:
    half, given = rng.randrange(8, 30), rng.randrange(2, 7)
    return (
        f"{a} has {2 * half} stamps and gives half of them to {b}. {b} then gives {given} of those back. "
        f"How many stamps does {a} have now?",
        half + given,
    )


def _train(rng: random.Random, a: str, b: str) -> tuple[str, int]:
    on, off, more = rng.randrange(40, 90), rng.randrange(5, 30), rng.randrange(3, 25)
    return (
        f"A train leaves with {on} passengers. At the first stop {off} get off and {more} get on. "
        "How many passengers are on the train then?",
        on - off + more,
    )


def _weeks(rng: random.Random, a: str, b: str) -> tuple[str, int]:
    daily, weeks, had = rng.randrange(2, 7), rng.randrange(2, 5), rng.randrange(5, 40)
    return (
        f"{a} has saved {had} coins and saves {daily} coins every day from now on. "
        f"How many coins does {a} have after {weeks} weeks?",
        had + 7 * daily * weeks,
    )


def _twice(rng: random.Random, a: str, b: str) -> tuple[str, int]:
    few = rng.randrange(4, 25)
    return f"{a} has {few} shells. {b} has three times as many. How many shells do they have together?", 4 * few


def _garden(rng: random.Random, a: str, b: str) -> tuple[str, int]:
    long, wide = rng.randrange(6, 20), rng.randrange(3, 12)
    return (
        f"A garden is {long} metres long and {wide} metres wide. {a} builds a fence all around it. "
        "How many metres of fence are needed?",
        2 * (long + wide),
    )


STORIES: dict[str, Callable[[random.Random, str, str], tuple[str, int]]] = {
    "shop": _shop,
    "share": _share,
    "ages": _ages,
    "walk": _walk,
    "boxes": _boxes,
    "half": _half,
    "train": _train,
    "weeks": _weeks,
    "twice": _twice,
    "garden": _garden,
}


class WordProblems:
    """Problems of one to three steps, of ten kinds in turn, with other names and numbers each time."""

    name = "word_problems"
    metrics = (Metric("word_problems", "Word problems"),)

    def items(self, count: int, seed: int) -> list[Item]:
        """All kinds in turn; the same for the same seed."""
        rng = random.Random(f"word problems {seed}")
        kinds = list(STORIES)
        found: list[tuple[str, str, str, JsonObject]] = []
        for number in range(count):
            kind = kinds[number % len(kinds)]
            one, other = rng.sample(_NAMES, 2)
            text, value = STORIES[kind](rng, one, other)
            found.append(("", kind, f"{text} {_ASK}", {"answer": value}))
        return numbered(self.name, found)

    def score(self, item: Item, answer: Answer) -> dict[str, float]:
        """Whether the number is right."""
        return _right(item, answer)
