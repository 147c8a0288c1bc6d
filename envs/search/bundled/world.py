"""An invented world: towns, people, companies, expeditions, works, events, and the facts that connect them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from pivotgym.envs.search.bundled.names import DESTINATIONS, PRODUCTS, REGIONS, RIVERS, Names

Value = str | int
"""An entity's key, or a literal."""


@dataclass(frozen=True)
class Entity:
    """One thing of the world.

    Attributes:
        key: unique.
        kind: ``town``, ``person``, ``river``, ``institution``, ``company``, ``expedition``, ``work``, ``event`` or
            ``region``.
        name: as it is written.
        sort: what sort of its kind (``novel``, ``museum``, ``flood``, an occupation).
        woman: of a person.
    """

    key: str
    kind: str
    name: str
    sort: str = ""
    woman: bool = False


@dataclass(frozen=True)
class Fact:
    """``relation(subject) = value``; every relation gives one value a subject."""

    subject: str
    relation: str
    value: Value


@dataclass
class World:
    """Entities by key and facts by (subject, relation)."""

    entities: dict[str, Entity] = field(default_factory=dict)
    facts: dict[tuple[str, str], Value] = field(default_factory=dict)

    def add(self, kind: str, name: str, sort: str = "", woman: bool = False, **facts: Value) -> Entity:
        """A new entity with its facts."""
        entity = Entity(f"{kind}:{name}", kind, name, sort, woman)
        if entity.key in self.entities:
            raise RuntimeError(f"two entities are called {entity.key}")
        self.entities[entity.key] = entity
        for relation, value in facts.items():
            self.facts[entity.key, relation] = value
        return entity

    def of(self, kind: str) -> list[Entity]:
        """All entities of a kind."""
        return [entity for entity in self.entities.values() if entity.kind == kind]

    def get(self, subject: str | Entity, relation: str) -> Value:
        """The value of a relation."""
        return self.facts[subject if isinstance(subject, str) else subject.key, relation]

    def has(self, subject: str | Entity, relation: str) -> bool:
        """Whether the subject has that relation."""
        return (subject if isinstance(subject, str) else subject.key, relation) in self.facts

    def inverse(self, relation: str, value: Value, kind: str | None = None) -> list[str]:
        """Every subject (of a kind) with that value."""
        found = self._inverted.get((relation, value), [])
        return [key for key in found if kind is None or self.entities[key].kind == kind]

    def said(self, value: Value) -> str:
        """A value as it is written."""
        return self.entities[value].name if isinstance(value, str) and value in self.entities else str(value)

    def all_facts(self) -> Iterator[Fact]:
        """Every fact."""
        for (subject, relation), value in self.facts.items():
            yield Fact(subject, relation, value)

    @cached_property
    def _inverted(self) -> dict[tuple[str, Value], list[str]]:
        found: dict[tuple[str, Value], list[str]] = {}
        for (subject, relation), value in self.facts.items():
            found.setdefault((relation, value), []).append(subject)
        return found


_OCCUPATIONS = (
    "novelist", "painter", "composer", "engineer", "geographer", "botanist", "astronomer", "navigator", "architect",
    "merchant", "physician", "printer",
)  # fmt: skip
_INSTITUTIONS = ("museum", "academy", "library", "observatory", "school of navigation", "botanical garden")
_WORKS = ("novel", "painting", "opera", "atlas", "treatise")
_EVENTS = ("flood", "fire", "trade fair", "regatta", "strike", "comet festival")
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
MAKERS = {"novel": "novelist", "painting": "painter", "opera": "composer", "atlas": "geographer", "treatise": ""}


def build(seed: int = 0) -> World:
    """The world of a seed: the same one each time."""
    rng = random.Random(f"world {seed}")
    names, world = Names(rng), World()
    regions = [world.add("region", name) for name in REGIONS]
    lengths = rng.sample(range(61, 640), len(RIVERS))
    rivers = [
        world.add("river", f"the {name}", length=length, source=rng.choice(regions).key)
        for name, length in zip(RIVERS, lengths, strict=True)
    ]
    towns = _towns(rng, names, world, regions, rivers)
    people = _people(rng, names, world, towns)
    _institutions(rng, world, towns, people)
    companies = _companies(rng, names, world, towns, people)
    _expeditions(rng, names, world, towns, people, companies)
    _works(rng, names, world, people)
    _events(rng, world, towns, people)
    return world


def _towns(rng: random.Random, names: Names, world: World, regions: list[Entity], rivers: list[Entity]) -> list[Entity]:
    founded = rng.sample(range(1012, 1689), 38)
    people = rng.sample(range(2100, 68_000), 38)
    return [
        world.add(
            "town",
            names.town(),
            region=regions[index % len(regions)].key,
            river=rivers[rng.randrange(len(rivers))].key,
            founded=founded[index],
            population=people[index],
            product=PRODUCTS[index % len(PRODUCTS)],
        )
        for index in range(38)
    ]


def _people(rng: random.Random, names: Names, world: World, towns: list[Entity]) -> list[Entity]:
    people: list[Entity] = []
    for index in range(84):
        woman = rng.random() < 0.5
        born = rng.randrange(1788, 1872)
        person = world.add(
            "person",
            names.person(woman),
            _OCCUPATIONS[index % len(_OCCUPATIONS)],
            woman,
            born_in=rng.choice(towns).key,
            born=born,
            died=born + rng.randrange(51, 89),
            buried=rng.choice(towns).key,
        )
        older = [one for one in people if 18 <= born - int(world.get(one, "born")) <= 45]
        if older and rng.random() < 0.7:
            world.facts[person.key, "mentor"] = rng.choice(older).key
        people.append(person)
    return people


def _institutions(rng: random.Random, world: World, towns: list[Entity], people: list[Entity]) -> None:
    places = rng.sample(towns, 14)
    architects = [person for person in people if person.sort == "architect"]
    for index, town in enumerate(places):
        sort = _INSTITUTIONS[index % len(_INSTITUTIONS)]
        architect = architects[index % len(architects)]
        title = {"museum": "Museum", "academy": "Academy", "library": "Library", "observatory": "Observatory"}.get(
            sort, " ".join(word if word == "of" else word.capitalize() for word in sort.split())
        )
        world.add(
            "institution",
            f"the {town.name} {title}",
            sort,
            town=town.key,
            opened=int(world.get(architect, "born")) + rng.randrange(27, 50),
            architect=architect.key,
        )
    schools = [one for one in world.of("institution") if one.sort in ("academy", "school of navigation", "observatory")]
    for person in people:
        if rng.random() < 0.75:
            world.facts[person.key, "studied"] = rng.choice(schools).key


def _companies(
    rng: random.Random, names: Names, world: World, towns: list[Entity], people: list[Entity]
) -> list[Entity]:
    founders = [person for person in people if person.sort in ("merchant", "engineer", "printer", "physician")]
    companies = []
    for index, founder in enumerate(rng.sample(founders, 26)):
        company = world.add(
            "company",
            names.company(founder.name),
            founder=founder.key,
            seat=rng.choice(towns).key,
            started=int(world.get(founder, "born")) + rng.randrange(22, 41),
            makes=PRODUCTS[(5 * index + 3) % len(PRODUCTS)],
            workers=rng.randrange(40, 1900),
        )
        companies.append(company)
    return companies


def _expeditions(
    rng: random.Random,
    names: Names,
    world: World,
    towns: list[Entity],
    people: list[Entity],
    companies: list[Entity],
) -> None:
    leaders = [person for person in people if person.sort in ("navigator", "geographer", "astronomer")]
    botanists = [person for person in people if person.sort in ("botanist", "physician", "painter")]
    for index, leader in enumerate(rng.sample(leaders, 18)):
        year = int(world.get(leader, "born")) + rng.randrange(26, 46)
        place = DESTINATIONS[index % len(DESTINATIONS)]
        world.add(
            "expedition",
            f"the {year} expedition to {place}",
            leader=leader.key,
            year=year,
            sponsor=rng.choice(companies).key,
            start=rng.choice(towns).key,
            ship=names.ship(),
            naturalist=rng.choice(botanists).key,
            days=rng.randrange(97, 811),
        )


def _works(rng: random.Random, names: Names, world: World, people: list[Entity]) -> None:
    keepers = [one for one in world.of("institution") if one.sort in ("museum", "library", "academy")]
    for index in range(46):
        sort = _WORKS[index % len(_WORKS)]
        makers = [person for person in people if not MAKERS[sort] or person.sort == MAKERS[sort]]
        author = rng.choice(makers)
        world.add(
            "work",
            names.title(),
            sort,
            author=author.key,
            made=int(world.get(author, "born")) + rng.randrange(24, 50),
            kept=rng.choice(keepers).key,
            dedicated=rng.choice([person for person in people if person is not author]).key,
        )


def _events(rng: random.Random, world: World, towns: list[Entity], people: list[Entity]) -> None:
    places = rng.sample(towns, 24)
    for index, town in enumerate(places):
        sort = _EVENTS[index % len(_EVENTS)]
        hero = rng.choice(people)
        year = int(world.get(hero, "born")) + rng.randrange(25, 50)
        month = rng.choice(_MONTHS)
        world.add(
            "event",
            f"the {town.name} {sort} of {year}",
            sort,
            town=town.key,
            hero=hero.key,
            happened=f"{rng.randrange(1, 29)} {month} {year}",
            cost=rng.randrange(12, 960) * 100,
        )
