"""Multi-hop questions over the world: composed from steps, answered by evaluation, checked for one answer.

A question walks from something it names over facts to a last value. It is kept only if

- the walk gives exactly one answer, whatever way the inverse steps (``the company that … founded``) are read;
- no document states all facts of the walk, and none holds both the answer and everything the question names.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

from pivotgym.envs.search.bundled.world import Entity, Fact, Value, World
from pivotgym.envs.search.bundled.writing import Library

HOPS = {2: 20, 3: 28, 4: 18}
"""Questions by number of facts needed."""
HELDOUT = 22
"""So many of them are held out."""


@dataclass(frozen=True)
class Step:
    """How to get from one thing to the next, in words.

    Attributes:
        kind: where it starts.
        relation: which relation is followed.
        words: noun phrases with ``{x}`` for where it starts.
        to: the kind it leads to.
        inverse: whether it leads from a value to its (only) subject.
    """

    kind: str
    relation: str
    words: tuple[str, ...]
    to: str
    inverse: bool = False


STEPS = (
    Step("work", "author", ("the author of {x}", "the maker of {x}"), "person"),
    Step("work", "kept", ("the institution that keeps the original of {x}",), "institution"),
    Step("work", "dedicated", ("the person named in the dedication of {x}",), "person"),
    Step("person", "born_in", ("the birthplace of {x}",), "town"),
    Step("person", "buried", ("the town with the grave of {x}",), "town"),
    Step("person", "studied", ("the school attended by {x}",), "institution"),
    Step("person", "mentor", ("the teacher of {x}",), "person"),
    Step("person", "founder", ("the company founded by {x}",), "company", inverse=True),
    Step("person", "leader", ("the expedition led by {x}",), "expedition", inverse=True),
    Step("person", "naturalist", ("the expedition that had as its naturalist {x}",), "expedition", inverse=True),
    Step("person", "dedicated", ("the work dedicated to {x}",), "work", inverse=True),
    Step("person", "hero", ("the event remembered for the cool head of {x}",), "event", inverse=True),
    Step("company", "founder", ("the founder of {x}",), "person"),
    Step("company", "seat", ("the town that is the seat of {x}",), "town"),
    Step("company", "sponsor", ("the expedition paid for by {x}",), "expedition", inverse=True),
    Step("expedition", "leader", ("the leader of {x}",), "person"),
    Step("expedition", "sponsor", ("the company that paid for {x}",), "company"),
    Step("expedition", "start", ("the port of departure of {x}",), "town"),
    Step("expedition", "naturalist", ("the naturalist of {x}",), "person"),
    Step("institution", "town", ("the town that is home to {x}",), "town"),
    Step("institution", "architect", ("the architect of {x}",), "person"),
    Step("event", "hero", ("the person praised in the accounts of {x}",), "person"),
    Step("town", "river", ("the river that flows through {x}",), "river"),
    Step("river", "source", ("the region that holds the source of {x}",), "region"),
    Step("ship", "ship", ("the expedition that sailed in the {x}",), "expedition", inverse=True),
)
LAST = {
    "town": (("founded", "In which year was {x} founded?"), ("product", "For what product is {x} known?"),
             ("population", "How many inhabitants does {x} have?")),
    "river": (("length", "How many kilometres long is {x}?"),),
    "institution": (("opened", "In which year was {x} opened?"), ("architect", "Who was the architect of {x}?")),
    "person": (("born", "In which year was {x} born?"), ("died", "In which year did {x} die?"),
               ("mentor", "Who was the teacher of {x}?"), ("buried", "In which town is {x} buried?"),
               ("born_in", "In which town was {x} born?")),
    "company": (("started", "Since which year has {x} existed?"), ("makes", "What does {x} make?"),
                ("workers", "How many workers did {x} employ?"), ("founder", "Who founded {x}?")),
    "expedition": (("ship", "In which ship did {x} sail?"), ("days", "How many days did {x} last?"),
                   ("start", "From which town did {x} set out?"), ("naturalist", "Who was the naturalist of {x}?")),
    "work": (("made", "From which year is {x}?"), ("kept", "Where is the original of {x} kept?")),
    "event": (("happened", "On what date did {x} happen or begin?"), ("cost", "How many crowns did {x} cost?")),
}  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """A question with its solution.

    Attributes:
        text: as the agent reads it.
        answer: as the documents write it.
        anchor: what it names.
        facts: what has to be found out, in this order.
        learned: what each of them tells, as the documents write it.
        signature: the relations walked.
    """

    text: str
    answer: str
    anchor: str
    facts: tuple[Fact, ...]
    learned: tuple[str, ...]
    signature: tuple[str, ...]


def ask(world: World, library: Library, seed: int = 0) -> list[Asked]:
    """The questions of a world, :data:`HOPS` of each length; no two share their answer or what they name."""
    rng = random.Random(f"questions {seed}")
    texts = {name: f"{one.document.title}\n{one.document.text}" for name, one in library.written.items()}
    found: list[Asked] = []
    answers: set[str] = set()
    anchors: set[str] = set()
    signatures: dict[tuple[str, ...], int] = {}
    last: dict[str, int] = {}
    for hops, count in sorted(HOPS.items(), reverse=True):
        candidates = sorted(_walks(world, hops), key=lambda walk: (walk[0], walk[1]))
        rng.shuffle(candidates)
        taken = 0
        for anchor, path, asked in candidates:
            if taken == count:
                break
            made = _asked(rng, world, anchor, path, asked)
            if made is None or made.answer in answers or made.anchor in anchors:
                continue
            if signatures.get(made.signature, 0) >= 2 or last.get(asked, 0) >= 7:
                continue
            if not hidden(world, library, texts, made):
                continue
            found.append(made)
            taken += 1
            answers.add(made.answer)
            anchors.add(made.anchor)
            signatures[made.signature] = signatures.get(made.signature, 0) + 1
            last[asked] = last.get(asked, 0) + 1
        if taken < count:
            raise RuntimeError(f"only {taken} of {count} questions of {hops} hops")
    rng.shuffle(found)
    return found


def hidden(world: World, library: Library, texts: dict[str, str], asked: Asked) -> bool:
    """Whether every fact is written somewhere, and no single document gives the answer away."""
    holders = [set(library.holders(fact)) for fact in asked.facts]
    if not all(holders) or set.intersection(*holders) or names(asked.text, asked.answer):
        return False
    return not any(names(text, asked.answer) and names(text, asked.anchor) for text in texts.values())


def names(text: str, name: str) -> bool:
    """Whether a text holds a name as whole words, in any case, without its article."""
    bare = re.sub(r"^the ", "", name, flags=re.IGNORECASE)
    return re.search(rf"(?<!\w){re.escape(bare)}(?!\w)", text, re.IGNORECASE) is not None


def solutions(world: World, anchor: str, kind: str, path: tuple[int, ...], last: str) -> set[Value]:
    """Every value that fits a walk: all subjects of an inverse step are followed."""
    here: set[Value] = {anchor if kind == "ship" else f"{kind}:{anchor}"}
    for index in path:
        step = STEPS[index]
        after: set[Value] = set()
        for value in here:
            if step.inverse:
                after |= set(world.inverse(step.relation, value, step.to))
            elif world.has(str(value), step.relation):
                after.add(world.get(str(value), step.relation))
        here = after
    return {world.get(str(value), last) for value in here if world.has(str(value), last)}


def _walks(world: World, hops: int) -> Iterator[tuple[tuple[str, str], tuple[int, ...], str]]:
    """(kind and name of the anchor), steps, last relation: every walk of so many facts."""
    anchors = [(entity.kind, entity.name) for entity in world.entities.values() if entity.kind in _ANCHORS]
    anchors += [("ship", str(world.get(one, "ship"))) for one in world.of("expedition")]
    for kind, name in anchors:
        paths: list[tuple[str, tuple[int, ...]]] = [(kind, ())]
        for _ in range(hops - 1):
            paths = [
                (step.to, (*path, index))
                for here, path in paths
                for index, step in enumerate(STEPS)
                if step.kind == here and not any(STEPS[one].relation == step.relation for one in path)
            ]
        for to, path in paths:
            for last, _ in LAST.get(to, ()):
                if all(STEPS[one].relation != last for one in path):
                    yield (kind, name), path, last


_ANCHORS = ("work", "company", "event", "person", "institution")


def _asked(rng: random.Random, world: World, anchor: tuple[str, str], path: tuple[int, ...], last: str) -> Asked | None:
    kind, name = anchor
    here: str = name if kind == "ship" else f"{kind}:{name}"
    facts: list[Fact] = []
    learned: list[str] = []
    passed = {here}
    text = _anchor_words(world, kind, name)
    for index in path:
        step = STEPS[index]
        if step.inverse:
            found = world.inverse(step.relation, here, step.to)
            if len(found) != 1:
                return None
            facts.append(Fact(found[0], step.relation, here))
            here = found[0]
        else:
            if not world.has(here, step.relation):
                return None
            value = str(world.get(here, step.relation))
            facts.append(Fact(here, step.relation, value))
            here = value
        if here in passed:
            return None
        passed.add(here)
        learned.append(world.said(here))
        text = rng.choice(step.words).format(x=text)
    if not world.has(here, last) or len(solutions(world, name, kind, path, last)) != 1:
        return None
    value_here = world.get(here, last)
    if value_here in passed:
        return None
    facts.append(Fact(here, last, value_here))
    question = dict(LAST[world.entities[here].kind])[last].format(x=text)
    answer = world.said(value_here)
    signature = tuple(fact.relation for fact in facts)
    return Asked(question, answer, name, tuple(facts), (*learned, answer), signature)


def _anchor_words(world: World, kind: str, name: str) -> str:
    if kind == "ship":
        return name
    entity: Entity = world.entities[f"{kind}:{name}"]
    if kind == "work":
        return f"the {entity.sort} “{name}”"
    return f"the {entity.sort} {name}" if kind == "person" else name
