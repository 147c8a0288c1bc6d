"""How facts are put into words: several sentences for each relation of each kind.

``{S}`` is the subject at the beginning of a sentence and ``{s}`` inside of one, ``{his}`` and ``{he}`` its pronouns,
``{o}`` the value, ``{O}`` the value at the beginning.
"""

from __future__ import annotations

PHRASES: dict[str, tuple[str, ...]] = {
    "town.region": (
        "{S} lies in {o}.",
        "Of the market towns of {o}, {s} is the one that carters know best.",
        "The traveller who comes into {o} by the post road reaches {s} towards evening.",
        "It belongs to {o} and has never wished to belong to any other part of the country.",
    ),
    "town.river": (
        "The houses stand on both banks of {o}.",
        "{O} runs through the middle of the town, brown in spring and nearly silent in August.",
        "Two bridges cross {o} here, the older of them roofed.",
        "Barges come up {o} as far as the grain quay.",
    ),
    "town.founded": (
        "The town was founded in {o}.",
        "Its charter is dated {o}, which the council counts as the year of its foundation.",
        "{S} was laid out in {o}, when the marsh below the castle had been drained.",
        "A stone in the town hall gives {o} as the year in which {s} was founded.",
    ),
    "town.population": (
        "At the last count it had {o} inhabitants.",
        "Some {o} people live there.",
        "The census found a population of {o}.",
    ),
    "town.product": (
        "The town lives by {o}.",
        "Ask anywhere for {o} and you will be told of {s}.",
        "Its trade is {o}, and half of the families have had a hand in it.",
        "Nothing has made {s} better known than its {o}.",
    ),
    "river.length": (
        "From its spring to the sea {s} measures {o} kilometres.",
        "{S} is {o} kilometres long.",
        "Surveyors put the length of {s} at {o} kilometres.",
    ),
    "river.source": (
        "It rises in {o}.",
        "{S} has its source in {o}, below a ridge of slate.",
        "Three springs in {o} together make {s}.",
    ),
    "institution.town": (
        "{S} stands in {o}.",
        "It is to be found in {o}, two streets behind the market.",
        "{O} gave the ground on which it was built.",
    ),
    "institution.opened": (
        "Its doors were opened in {o}.",
        "{S} was opened in {o}, a year later than planned.",
        "The opening took place in {o} and lasted three days.",
    ),
    "institution.architect": (
        "The building is the work of the architect {o}.",
        "{O} drew the plans and quarrelled with every mason.",
        "For the design the trustees chose {o}, over four older rivals.",
    ),
    "person.born_in": (
        "{S} was born in {o}.",
        "{S} came into the world in {o}, the child of a lock keeper.",
        "{his} birthplace was {o}, as the parish book shows.",
        "{O} is the town of {his} birth, though {he} seldom spoke of it.",
    ),
    "person.born": (
        "The year of {his} birth was {o}.",
        "{S} was born in {o}.",
        "{he} was a child of the year {o}.",
    ),
    "person.died": (
        "{S} died in {o}.",
        "{he} lived until {o}.",
        "Death came to {s} in {o}, after a short illness.",
    ),
    "person.buried": (
        "{his} grave is in {o}.",
        "{S} was buried in {o}, under a plain stone.",
        "{he} lies in the old churchyard of {o}.",
    ),
    "person.studied": (
        "{he} studied at {o}.",
        "At {o} {he} spent four years and, by {his} own account, learned chiefly to sit still.",
        "{his} schooling was finished at {o}.",
        "{O} took {s} as a student on half fees.",
    ),
    "person.mentor": (
        "{he} owed most to {his} teacher, {o}.",
        "It was {o} who taught {s} the trade.",
        "{O} took {s} as a pupil and kept {his} first attempts in a drawer.",
        "As a pupil of {o}, {he} learned to work slowly.",
    ),
    "company.founder": (
        "{S} was founded by {o}.",
        "The founder of the firm was {o}, who began with one borrowed cart.",
        "{O} started the business in a shed.",
    ),
    "company.seat": (
        "Its seat is in {o}.",
        "The head office stands in {o}, beside the weigh-house.",
        "From the first day the firm has been at home in {o}.",
    ),
    "company.started": (
        "The firm has existed since {o}.",
        "Its books begin in {o}.",
        "The first order was entered in {o}, the year of its foundation.",
    ),
    "company.makes": (
        "It makes {o}.",
        "{S} is a maker of {o} and has never tried anything else.",
        "What leaves its gates is {o}.",
    ),
    "company.workers": (
        "In its best years {o} hands were employed.",
        "The wage lists show {o} workers.",
        "It gives work to {o} people.",
    ),
    "expedition.leader": (
        "It was led by {o}.",
        "{O} commanded it and signed every page of the log.",
        "The command was given to {o}.",
    ),
    "expedition.sponsor": (
        "The costs were borne by {o}.",
        "Without the money of {o} it would not have left the quay.",
        "{O} paid for the stores, the instruments and the wages.",
    ),
    "expedition.start": (
        "It set out from {o}.",
        "The party left {o} on a wet morning.",
        "{O} saw it off with a brass band.",
    ),
    "expedition.days": (
        "It was away for {o} days.",
        "After {o} days the survivors were home again.",
        "The log counts {o} days.",
    ),
    "expedition.ship": (
        "The ship was the {o}.",
        "All hands sailed in the {o}, a vessel of two masts.",
        "The {o}, newly coppered, carried them.",
    ),
    "expedition.naturalist": (
        "{O} went along as naturalist.",
        "The naturalist of the party was {o}.",
        "Plants and birds were the business of {o}, who shared a cabin with the chronometers.",
    ),
    "work.author": (
        "{S} is by {o}.",
        "It was {o} who made it.",
        "The author is {o}; nobody has ever doubted it.",
        "{O} signed it with full name, which was not {p_his} habit.",
    ),
    "work.made": (
        "It was finished in {o}.",
        "The work bears the date {o}.",
        "It first came before the public in {o}.",
    ),
    "work.kept": (
        "The original is kept at {o}.",
        "{O} holds the original.",
        "It came by bequest to {o}, where it can be seen on request.",
    ),
    "work.dedicated": (
        "It is dedicated to {o}.",
        "The dedication names {o}.",
        "On the first leaf stands a dedication to {o}.",
    ),
    "event.town": (
        "It struck nobody but {o}.",
        "The place was {o}.",
        "{O} still speaks of it.",
    ),
    "event.happened": (
        "It happened on {o}.",
        "The date, {o}, is cut into the wall of the corn exchange.",
        "Everything began on {o}.",
    ),
    "event.hero": (
        "{O} was praised for keeping a cool head.",
        "The name that all accounts mention is that of {o}.",
        "Through it all {o} stood on the steps and gave directions.",
    ),
    "event.cost": (
        "The council put the cost at {o} crowns.",
        "In the accounts of the town it appears with {o} crowns.",
        "It cost {o} crowns, which were paid in yearly parts.",
    ),
}

LABELS = {
    "town.region": "Region", "town.river": "River", "town.founded": "Founded", "town.population": "Inhabitants",
    "town.product": "Chief trade", "institution.town": "Place", "institution.opened": "Opened",
    "institution.architect": "Architect", "company.founder": "Founder", "company.seat": "Seat",
    "company.started": "Since", "company.makes": "Makes", "company.workers": "Workers", "work.author": "Author",
    "work.made": "Date", "work.kept": "Kept at", "work.dedicated": "Dedicated to", "event.town": "Place",
    "event.happened": "Date", "event.hero": "Remembered for it", "event.cost": "Cost in crowns",
    "expedition.leader": "Leader", "expedition.sponsor": "Paid for by", "expedition.start": "Departure from",
    "expedition.days": "Days", "expedition.ship": "Ship", "expedition.naturalist": "Naturalist",
    "river.length": "Length in kilometres", "river.source": "Source",
}  # fmt: skip
"""How a catalogue card or a register names a relation."""

CUES = {
    "town.region": ("lies in",), "town.river": ("river", "banks", "bridges", "Barges"),
    "town.founded": ("founded", "charter", "laid out"), "town.population": ("inhabitants", "population", "people live"),
    "town.product": ("trade", "lives by", "known"), "river.length": ("kilometres",),
    "river.source": ("rises", "source"),
    "institution.town": ("stands in", "built"), "institution.opened": ("opened", "opening"),
    "institution.architect": ("architect", "plans", "design"), "person.born_in": ("born", "birth"),
    "person.born": ("born", "birth"), "person.died": ("died", "death", "lived until"),
    "person.buried": ("buried", "grave", "churchyard"), "person.studied": ("studied", "schooling", "student", "years"),
    "person.mentor": ("teacher", "taught", "pupil"), "company.founder": ("founder", "founded", "business"),
    "company.seat": ("seat", "office", "at home"), "company.started": ("since", "books begin", "foundation"),
    "company.makes": ("makes", "maker", "gates"), "company.workers": ("workers", "hands", "people"),
    "expedition.leader": ("led by", "command"), "expedition.sponsor": ("costs", "money", "paid"),
    "expedition.start": ("set out", "left", "band"), "expedition.days": ("days",),
    "expedition.ship": ("ship", "sailed", "carried"), "expedition.naturalist": ("naturalist", "Plants"),
    "work.author": ("by", "made", "author", "signed"), "work.made": ("finished", "date", "public"),
    "work.kept": ("original", "bequest"), "work.dedicated": ("dedicat",),
    "event.town": ("place", "nobody but", "speaks"),
    "event.happened": ("happened", "date", "began"), "event.hero": ("praised", "name", "directions"),
    "event.cost": ("cost", "crowns"),
}  # fmt: skip
"""Words that a reader looks for to find a relation."""
