"""What documents say beside facts: sentences with slots, none of which names anything."""

from __future__ import annotations

import random

SLOTS: dict[str, tuple[str, ...]] = {
    "season": ("in spring", "in autumn", "in a hard winter", "at midsummer", "in the weeks before Lent",
               "after harvest"),
    "adj": ("patient", "stubborn", "cheerful", "silent", "careful", "restless", "thrifty", "proud", "absent-minded"),
    "thing": ("a brass compass", "a box of letters", "an oak chair", "a cracked bell", "a wooden leg",
              "a ledger in red", "two pewter jugs", "a stuffed owl", "a map with wine stains", "a copper kettle"),
    "people": ("fishwives", "schoolmasters", "carters", "old soldiers", "apprentices", "pilots", "innkeepers", "nuns"),
    "time": ("for thirty years", "for one summer", "to this day", "for as long as anyone remembers", "until the war"),
    "weather": ("fog", "hail", "a north wind", "thaw", "drizzle", "heat", "snow to the window sills"),
    "craft": ("bookbinding", "bee-keeping", "the lute", "chess by post", "grafting pears", "whittling", "bell-ringing"),
    "money": ("ninety crowns", "a cask of herring", "four months' wages", "a handshake", "half a silver spoon"),
}  # fmt: skip

FLAVOUR: dict[str, tuple[str, ...]] = {
    "town": (
        "The market is held on Thursdays, and {season} also on Mondays.",
        "Visitors are shown {thing} that is said to have belonged to a queen.",
        "The {people} have their own chapel and keep {thing} in it.",
        "Its streets are steep, and {weather} makes them dangerous.",
        "A {adj} sort of people live here, or so the neighbours say.",
        "The inn by the gate has been let {time} to one family.",
        "When {weather} comes down from the hills, the lamps are lit at noon.",
        "There is a proverb that no {adj} man ever left it rich.",
        "The clock of the town hall has been five minutes slow {time}.",
        "Behind the church the {people} play at skittles {season}.",
        "Storks used to nest on the mill; {weather} drove them away.",
        "A painted ceiling in the guildhall shows {thing} and three {people}.",
        "Eels are eaten here {season}, with more mustard than elsewhere.",
        "The railway passes it by, which the {people} regret and nobody else does.",
    ),
    "person": (
        "{he} was by all accounts {adj}, and fond of {craft}.",
        "Those who knew {s} remember {thing} on the desk.",
        "{he} never travelled without {thing}.",
        "Every evening {season} {he} walked to the bridge and back.",
        "In letters {he} complains of {weather} and of {people}.",
        "{he} sold the first work of {his} hands for {money}.",
        "{he} gave away {money} to {people} and told no one.",
        "Portraits show a {adj} face; friends thought it a poor likeness.",
        "{he} was twice offered a chair and twice said no.",
        "For recreation {he} took up {craft}, without much success.",
        "A fall on the ice left {s} with a stiff knee {time}.",
        "{he} could not abide {people}, and said so {season}.",
        "{his} handwriting is so small that clerks were paid extra to read it.",
        "{he} kept bees, a dog and {thing}.",
    ),
    "company": (
        "The yard smells of tar {season}.",
        "The {people} of the district call it simply the works.",
        "In bad years it paid in bread; once it paid with {thing}.",
        "Over the gate hangs {thing}, painted by an apprentice.",
        "A strike of the {people} ended {season} with {money} for each.",
        "The first machine was bought for {money} and never ran in {weather}.",
        "Its clerks are {adj}, and forbidden to whistle.",
        "Foreign agents have tried to buy it and were sent home with {thing}.",
        "The bell is rung at five, in {weather} at six.",
        "Every new hand is given an apron and {money}.",
        "It has kept a brass band {time}.",
        "A warehouse burned down {season}, and was rebuilt in stone.",
    ),
    "expedition": (
        "The stores held biscuit for a year and {thing}.",
        "In {weather} the dogs would not go on.",
        "The cook, a {adj} man, had sailed with {people} before.",
        "Three chronometers were taken, of which one survived {weather}.",
        "They wintered under the upturned boats and taught each other {craft}.",
        "Among the things brought home were {thing} and forty skins.",
        "A cairn was built {season}; a bottle in it holds the names.",
        "The second mate kept a diary that is mostly about {weather}.",
        "Each man was promised {money} on return.",
        "They met {people} on the beach, who traded fish for nails.",
        "Scurvy came {season} and was fought with cress.",
        "The charts they drew were in use {time}.",
    ),
    "work": (
        "The critics called it {adj}; the public did not mind.",
        "It was bought for {money}, which was thought too much.",
        "A copy hangs in an inn, between {thing} and the clock.",
        "The {people} in it are drawn from life.",
        "{weather}, which fills the second part, was much admired.",
        "It was begun {season} and laid aside twice.",
        "A rival claimed to have had the idea while at {craft}.",
        "For {time_short} nobody spoke of anything else.",
        "Schoolchildren know the beginning by heart.",
        "The first owner used it to hide {thing}.",
        "It has been forged at least twice, both times by {people}.",
        "Restorers found the mark of a cat's paw in one corner.",
    ),
    "event": (
        "The {people} were the first to notice.",
        "{weather} had kept everyone at home on the day before.",
        "A song about it was sung {time}.",
        "The mayor, a {adj} man, had left his keys in {thing}.",
        "Newspapers as far as the capital printed drawings of it.",
        "Bakers gave out bread at the gate.",
        "A boy of nine rang the bell until his hands bled.",
        "The {people} say that {weather} had been foretold.",
        "For a week nothing could be bought but {thing}.",
        "A medal was struck and is now worth {money}.",
    ),
    "institution": (
        "Entry is free on Sundays, and {season} also at night.",
        "The porter, a {adj} person, knows every visitor by name.",
        "In the great hall stands {thing}, given by {people}.",
        "Its cellars are damp, and {weather} makes them damper.",
        "A lecture on {craft} is given each year, as a founder's will demands.",
        "The first keeper was paid {money} and lodging.",
        "The catalogue runs to nine volumes, of which the fourth is lost.",
        "Swallows nest above the door {season}.",
        "A staircase of ninety steps leads to the reading room.",
        "It has been closed only once, for {weather}.",
    ),
    "river": (
        "In {weather} the ferries stop.",
        "Its lower course is navigable {season}.",
        "Salmon are taken at the weirs, mostly by {people}.",
        "The {people} on its banks swear by its water for {craft}.",
        "Old maps draw it with three mouths; two have silted up.",
        "Logs are floated down {season}.",
        "It has burst its banks often, though {weather} is seldom to blame.",
    ),
    "region": (
        "Sheep outnumber {people} here by nine to one.",
        "The uplands are bare, and {weather} may come in any month.",
        "Its dialect has eleven words for {weather}.",
        "The roads are good {season} and bad otherwise.",
        "It sends {people} to every army and wool to every port.",
        "A {adj} pride in {craft} is common in its villages.",
        "The old diet met here and ate {money} at a sitting, as its enemies said.",
    ),
}


def sentences(rng: random.Random, kind: str, count: int, words: dict[str, str]) -> list[str]:
    """Different sentences of a kind, their slots filled."""
    chosen = rng.sample(FLAVOUR[kind], min(count, len(FLAVOUR[kind])))
    found = []
    for text in chosen:
        slots = {name: rng.choice(values) for name, values in SLOTS.items()}
        filled = text.format_map({**slots, "time_short": rng.choice(("a month", "a season", "ten days")), **words})
        found.append(filled[0].upper() + filled[1:])
    return found
