"""The documents of the world: articles, registers, obituaries, letters, reviews, pamphlets; and who says what."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from pivotgym.envs.search.bundled.flavour import sentences
from pivotgym.envs.search.bundled.phrases import LABELS, PHRASES
from pivotgym.envs.search.bundled.world import Entity, Fact, World
from pivotgym.envs.search.corpus import Document

_ORDER = {
    "town": ("region", "river", "founded", "product", "population"),
    "river": ("source", "length"),
    "region": (),
    "institution": ("town", "architect", "opened"),
    "person": ("born_in", "born", "studied", "mentor", "died", "buried"),
    "company": ("founder", "seat", "started", "makes", "workers"),
    "expedition": ("leader", "sponsor", "start", "ship", "naturalist", "days"),
    "work": ("author", "made", "kept", "dedicated"),
    "event": ("town", "happened", "hero", "cost"),
}
_LEADS = {
    "town": ("{N} is a town of the inland country.", "Few towns are described as differently as {n}.",
             "A gazetteer that left out {n} would be sent back to the printer."),
    "river": ("{N} is among the lesser rivers of the country.", "Boatmen call {n} a good-tempered river."),
    "region": ("{N} is one of the six historical regions.", "Old geographies begin with {n}."),
    "institution": ("{N} is a public {k}.",
                    "Of the {k} it is said that people come for the warmth and stay for the rest.",
                    "{N} owes its existence to a lottery."),
    "person": ("{N}, {k}.", "The {k} {n} belongs to the figures whom every almanac mentions.",
               "{N} was a {k} of the old school."),
    "company": ("{N} is a name that shopkeepers know.", "There are larger firms than {n}, but few as old-fashioned.",
                "On invoices one reads the name of {n} in green ink."),
    "expedition": ("{N} is the subject of more songs than books.",
                   "Much has been written about {n}, little of it true.",
                   "{N} filled the papers for a year."),
    "work": ("{N} is a {k}.", "Of the {k} known as {n} there is only one complete state.",
             "Whoever speaks of the period speaks sooner or later of {n}, a {k}."),
    "event": ("{N} is remembered in the district.", "Older people date other things by {n}.",
              "Of {n} there are seven printed accounts."),
}  # fmt: skip


@dataclass
class Written:
    """A document and the facts it states."""

    document: Document
    about: str
    facts: set[Fact] = field(default_factory=set)


@dataclass
class Library:
    """All documents by id."""

    written: dict[str, Written] = field(default_factory=dict)

    def holders(self, fact: Fact) -> list[str]:
        """The documents that state a fact, by id."""
        return sorted(name for name, one in self.written.items() if fact in one.facts)


def write(world: World, seed: int = 0) -> Library:
    """All documents of a world."""
    rng = random.Random(f"library {seed}")
    library = Library()
    moved = _side_documents(rng, world)
    for entity in world.entities.values():
        side = moved.get(entity.key)
        main = [one for one in _ORDER[entity.kind] if world.has(entity, one) and not (side and one in side[1])]
        _add(library, _article(rng, world, entity, main))
        if side is not None:
            _add(library, _SIDES[side[0]](rng, world, entity, side[1]))
    for region in world.of("region"):
        _add(library, _survey(rng, world, region))
    for school in world.of("institution"):
        if world.inverse("studied", school.key):
            _add(library, _roll(rng, world, school))
    return library


def _add(library: Library, written: Written) -> None:
    if written.document.id in library.written:
        raise RuntimeError(f"two documents are called {written.document.id}")
    library.written[written.document.id] = written


def _side_documents(rng: random.Random, world: World) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Which entities have a second document, of what sort, and the relations that stand only there."""
    plan: dict[str, tuple[str, tuple[str, ...]]] = {}
    for sort, kind, count, relations in (
        ("obituary", "person", 26, ("mentor", "died", "buried")),
        ("letter", "expedition", 10, ("ship", "naturalist")),
        ("review", "work", 16, ("dedicated",)),
        ("pamphlet", "company", 9, ("founder", "workers")),
        ("report", "event", 8, ("hero", "cost")),
    ):
        for entity in rng.sample(world.of(kind), count):
            plan[entity.key] = (sort, tuple(one for one in relations if world.has(entity, one)))
    return plan


# Articles ---------------------------------------------------------------------------------------------------------


def _article(rng: random.Random, world: World, entity: Entity, relations: Sequence[str]) -> Written:
    if entity.kind in ("work", "institution", "company", "expedition", "event") and rng.random() < 0.25:
        return _card(rng, world, entity, relations)
    facts = [Fact(entity.key, one, world.get(entity, one)) for one in relations]
    lead = rng.choice(_LEADS[entity.kind]).format(n=entity.name, N=_cap(entity.name), k=_sort(entity))
    told = [_sentence(rng, world, entity, fact, first=index == 0) for index, fact in enumerate(facts)]
    long = rng.random() < 0.45
    more = sentences(rng, entity.kind, rng.randrange(10, 15) if long else rng.randrange(4, 9), _words(entity))
    body = _mixed(rng, told, more)
    blocks = [f"{lead} {body[0]}", *body[1:]]
    if rng.random() < 0.3:
        blocks.insert(rng.randrange(1, len(blocks) + 1), rng.choice(_ASIDES))
    text = "\n\n".join([*blocks, *_see_also(rng, world, entity)])
    return _written(_cap(_plain_title(entity)), text, entity, facts)


_ASIDES = (
    "(The earlier editions of this work gave several of these particulars differently. They have been compared with "
    "the parish books and corrected.)",
    "Sources: the town books; private papers, seen by courtesy of the owners; conversations.",
    "A fuller treatment is in preparation and has been for some time.",
    "Readers who can add to this entry are asked to write to the editors, in ink.",
)


def _card(rng: random.Random, world: World, entity: Entity, relations: Sequence[str]) -> Written:
    """A register entry: labels and values, then remarks."""
    facts = [Fact(entity.key, one, world.get(entity, one)) for one in relations]
    shuffled = rng.sample(facts, len(facts))
    lines = [f"{LABELS[f'{entity.kind}.{fact.relation}']}: {_cap(world.said(fact.value))}" for fact in shuffled]
    head = f"Register entry. {_cap(entity.name)}" + (f" ({_sort(entity)})" if entity.sort else "")
    remarks = " ".join(sentences(rng, entity.kind, rng.randrange(4, 8), _words(entity)))
    text = "\n\n".join([head, "\n".join(lines), f"Remarks. {remarks}", *_see_also(rng, world, entity)])
    return _written(_cap(_plain_title(entity)), text, entity, facts)


def _mixed(rng: random.Random, told: list[str], more: list[str]) -> list[str]:
    """Facts in their order with other sentences between them, as two to four paragraphs."""
    slots = sorted(rng.randrange(len(more) + 1) for _ in told)
    stream: list[str] = []
    position = 0
    for slot, fact in zip(slots, told, strict=True):
        stream += more[position:slot]
        position = slot
        stream.append(fact)
    stream += more[position:]
    count = rng.randrange(2, 5)
    size = max(1, -(-len(stream) // count))
    return [" ".join(stream[start : start + size]) for start in range(0, len(stream), size)]


def _see_also(rng: random.Random, world: World, entity: Entity) -> list[str]:
    near = [value for (key, _), value in world.facts.items() if key == entity.key and value in world.entities]
    near += [key for (key, _), value in world.facts.items() if value == entity.key]
    names = sorted({str(key) for key in near} - {entity.key})
    if not names or rng.random() < 0.4:
        return []
    chosen = rng.sample(names, min(len(names), rng.randrange(1, 4)))
    links = [f"[{slug(world.entities[key])}] {_cap(_plain_title(world.entities[key]))}" for key in chosen]
    return ["See also: " + "; ".join(links)]


# Other documents --------------------------------------------------------------------------------------------------


def _obituary(rng: random.Random, world: World, entity: Entity, relations: Sequence[str]) -> Written:
    facts = [Fact(entity.key, one, world.get(entity, one)) for one in relations]
    paper = rng.choice(("the Evening Packet", "the Provincial Gazette", "the Almanac of the Trades"))
    told = [_sentence(rng, world, entity, fact, first=index == 0) for index, fact in enumerate(facts)]
    more = sentences(rng, "person", rng.randrange(4, 7), _words(entity))
    opening = f"From {paper}. We have to report the passing of {entity.name}, whom our readers knew as a {entity.sort}."
    closing = rng.choice(("The shops were shut.", "There was no speech, as had been wished.", "It rained."))
    text = "\n\n".join([opening, *_mixed(rng, told, more), closing])
    return _written(f"Obituary of {entity.name}", text, entity, facts)


def _letter(rng: random.Random, world: World, entity: Entity, relations: Sequence[str]) -> Written:
    facts = [Fact(entity.key, one, world.get(entity, one)) for one in relations]
    said = {
        "ship": ("You ask what we sailed in: it was the {o}, and she leaked.",
                 "I was sick from the first night on board the {o}.",
                 "Of the {o} herself I can say only good; of her cook nothing."),
        "naturalist": ("{o} was our naturalist and filled my bunk with moss.",
                       "Our naturalist, {o}, would stop the boats for a duck.",
                       "I shared the tent with {o}, the naturalist, who snored in Latin."),
    }  # fmt: skip
    told = [rng.choice(said[fact.relation]).format(o=world.said(fact.value)) for fact in facts]
    more = sentences(rng, "expedition", rng.randrange(4, 7), _words(entity))
    opening = f"My dear sister, you want to hear about {entity.name}, in which I had my small part as a carpenter."
    closing = "Kiss the children and keep the dog off the beds. Your brother."
    text = "\n\n".join([opening, *_mixed(rng, told, more), closing])
    return _written(f"A carpenter's letter about {entity.name}", text, entity, facts)


def _review(rng: random.Random, world: World, entity: Entity, relations: Sequence[str]) -> Written:
    facts = [Fact(entity.key, one, world.get(entity, one)) for one in relations]
    said = (
        "I had not expected the dedication to {o}, and I doubt that {o} had.",
        "That it is dedicated to {o} will surprise those who know both.",
        "The dedication, to {o}, is the shortest and best part.",
    )
    told = [rng.choice(said).format(o=world.said(fact.value)) for fact in facts]
    more = sentences(rng, "work", rng.randrange(4, 8), _words(entity))
    opening = (
        f"Notices of the season: {entity.name}. Your reviewer came late, sat badly, and was not sorry to have come."
    )
    text = "\n\n".join([opening, *_mixed(rng, told, more), "We advise our readers to judge for themselves."])
    return _written(f"A notice of {entity.name}", text, entity, facts)


def _pamphlet(rng: random.Random, world: World, entity: Entity, relations: Sequence[str]) -> Written:
    facts = [Fact(entity.key, one, world.get(entity, one)) for one in relations]
    told = [_sentence(rng, world, entity, fact, first=index == 0) for index, fact in enumerate(facts)]
    more = sentences(rng, "company", rng.randrange(5, 9), _words(entity))
    opening = f"Printed for the jubilee and given to friends of {entity.name}: a short history, with omissions."
    text = "\n\n".join([opening, *_mixed(rng, told, more), "May the wheels turn on!"])
    return _written(f"Jubilee pamphlet of {entity.name}", text, entity, facts)


def _report(rng: random.Random, world: World, entity: Entity, relations: Sequence[str]) -> Written:
    facts = [Fact(entity.key, one, world.get(entity, one)) for one in relations]
    told = [_sentence(rng, world, entity, fact, first=False) for fact in facts]
    more = sentences(rng, "event", rng.randrange(4, 7), _words(entity))
    opening = f"Report of the committee on {entity.name}, read aloud and adopted with two votes against."
    text = "\n\n".join([opening, *_mixed(rng, told, more), "Signed: the secretary."])
    return _written(f"Committee report on {entity.name}", text, entity, facts)


def _survey(rng: random.Random, world: World, region: Entity) -> Written:
    """A long document on all towns of a region, of several pages."""
    facts: list[Fact] = []
    chapters: list[str] = []
    for key in world.inverse("region", region.key, "town"):
        town = world.entities[key]
        stated = [Fact(key, one, world.get(key, one)) for one in ("product", "river", "population")]
        told = [_sentence(rng, world, town, fact, first=index == 0) for index, fact in enumerate(stated)]
        more = sentences(rng, "town", rng.randrange(2, 6), _words(town))
        chapters.append(f"{town.name}. " + " ".join(_mixed(rng, told, more)))
        facts += [Fact(key, "region", region.key), *stated]
    opening = f"A survey of {region.name}, town by town, made on foot and in bad shoes."
    text = "\n\n".join([opening, *sentences(rng, "region", 3, _words(region)), *chapters])
    return _written(f"Survey of {region.name}", text, region, facts)


def _roll(rng: random.Random, world: World, school: Entity) -> Written:
    """The students of a school, in the order of the alphabet."""
    students = sorted(world.inverse("studied", school.key), key=lambda key: world.entities[key].name.split()[::-1])
    remarks = ("paid in full", "left without notice", "lent books and returned them", "sang", "ill in the second year")
    lines = [
        f"{world.entities[key].name}, later {world.entities[key].sort}; {rng.choice(remarks)}." for key in students
    ]
    opening = f"Roll of students of {school.name}, copied from the matriculation book."
    text = "\n\n".join([opening, *("\n".join(lines[start : start + 6]) for start in range(0, len(lines), 6))])
    facts = [Fact(key, "studied", school.key) for key in students]
    return _written(f"Roll of students of {school.name}", text, school, facts)


_SIDES = {"obituary": _obituary, "letter": _letter, "review": _review, "pamphlet": _pamphlet, "report": _report}


# Words ------------------------------------------------------------------------------------------------------------


def slug(entity: Entity) -> str:
    """The id of an entity's article."""
    return _slug(_plain_title(entity))


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower().replace("'", "")).strip("-")


def _plain_title(entity: Entity) -> str:
    return re.sub(r"^the ", "", entity.name)


def _sort(entity: Entity) -> str:
    return entity.sort or entity.kind


def _cap(text: str) -> str:
    return text[:1].upper() + text[1:]


def _words(entity: Entity) -> dict[str, str]:
    she = entity.woman
    short = entity.name.split()[-1] if entity.kind == "person" else entity.name
    return {"s": short, "he": "she" if she else "he", "his": "her" if she else "his"}


def _sentence(rng: random.Random, world: World, entity: Entity, fact: Fact, *, first: bool) -> str:
    choices = PHRASES[f"{entity.kind}.{fact.relation}"]
    said, words = world.said(fact.value), _words(entity)
    subject = entity.name if first else rng.choice((words["s"], words["he"] if entity.kind == "person" else "it"))
    made = world.entities.get(str(fact.value))
    text = rng.choice(choices).format_map(
        {**words, "S": _cap(subject), "o": said, "O": _cap(said), "p_his": "her" if made and made.woman else "his"}
    )
    return _cap(text)


def _written(title: str, text: str, entity: Entity, facts: Sequence[Fact]) -> Written:
    text = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)  # a painter, an opera
    return Written(Document(_slug(title), title, text), entity.key, set(facts))
