"""Names of an invented world."""

from __future__ import annotations

import random

REGIONS = ("Aldervane", "Corsmoor", "the Hask Uplands", "Isenry", "the Low Marrow", "Tolmarch")
RIVERS = ("Brae", "Sillen", "Orrow", "Tavet", "Immer", "Kelve", "Wend", "Lusk")
_TOWN_STARTS = (
    "Harl", "Vess", "Brin", "Cald", "Ost", "Merr", "Dun", "Fal", "Gris", "Hov", "Jarn", "Kest", "Lod", "Nor", "Pell",
    "Quar", "Rus", "Sten", "Tarn", "Ulm",
)  # fmt: skip
_TOWN_ENDS = ["wick", "moor", "ford", "haven", "sted", "by", "gate", "holm", "mere", "brough"]
_FIRST_F = (
    "Mira", "Ilse", "Dorrit", "Anneke", "Sunniva", "Petra", "Yolande", "Edda", "Coralie", "Thea", "Winifred", "Oda",
    "Hester", "Livia", "Runa", "Adela", "Bettine", "Cosima", "Fenna", "Gudrun", "Imke", "Jorun", "Katrin", "Lisbet",
    "Maud", "Nerys", "Orla", "Pernille", "Rosalind", "Sabine", "Tilda", "Ursel", "Verity", "Wilma", "Ysolt",
)  # fmt: skip
_FIRST_M = (
    "Aldous", "Bram", "Casper", "Dirk", "Emeric", "Florian", "Goswin", "Henrik", "Ivo", "Joris", "Konrad", "Lambert",
    "Matthias", "Nils", "Osric", "Piers", "Quentin", "Rolf", "Silas", "Tobias", "Ulrich", "Valentin", "Wessel",
    "Xander", "Yorick", "Zacharias", "Anselm", "Bertil", "Corwin", "Detlef", "Egon", "Ferris", "Gerlach",
)  # fmt: skip
_LAST_STARTS = (
    "Tolv", "Ask", "Bren", "Cor", "Dray", "Eng", "Fitz", "Gall", "Hern", "Ing", "Kar", "Lind", "Mor", "Nev", "Ott",
    "Penh", "Rav", "Sel", "Thorn", "Ves", "Wolf",
)  # fmt: skip
_LAST_ENDS = ["ane", "erby", "ick", "olt", "mann", "stead", "quist", "ow", "ley", "aker", "sen", "ura"]
PRODUCTS = (
    "glass", "salt", "paper", "clocks", "linen", "copper wire", "bells", "tiles", "rope", "lenses", "soap", "barrels",
    "cider", "pianos", "sailcloth", "matches", "steam pumps", "ink",
)  # fmt: skip
_COMPANY = ("{last} & Sons", "{last} Works", "the {last} Company", "{last} Brothers", "{last} Manufactory")
_SHIP_ONE = (
    "Grey", "Patient", "Northern", "Silver", "Quiet", "Red", "Faithful", "Long", "Bright", "Lone", "Brave", "Winter",
)  # fmt: skip
_SHIP_TWO = ["Heron", "Lantern", "Petrel", "Anvil", "Magpie", "Harvest", "Cormorant", "Sister", "Plover", "Candle"]
_TITLE_ONE = (
    "Glass",
    "Salt",
    "Winter",
    "Borrowed",
    "Seventh",
    "Silent",
    "Amber",
    "Drowned",
    "Paper",
    "Broken",
    "Copper",
    "Empty",
    "Hollow",
    "Wandering",
)
_TITLE_TWO = (
    "Orchard", "Ferry", "Bell", "Stairs", "Harbour", "Clockmaker", "Field", "Letters", "Bridge", "Season", "Choir",
    "Mirror", "Widow", "Cartographer", "Lighthouse", "Procession",
)  # fmt: skip
DESTINATIONS = (
    "the Ember Straits", "the Nine Atolls", "the Vannic Ice", "Cape Sorrow", "the Hollow Coast", "the Sund of Birds",
    "the Great Skerry", "the Moth Islands", "the upper Zhar", "the Plain of Flint",
)  # fmt: skip


class Names:
    """Draws names, none of them twice.

    Args:
        rng: seeded.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._used: set[str] = set()
        self._lasts: dict[str, int] = {}

    def town(self) -> str:
        """A town; no two begin with the same five letters."""
        return self._new(lambda: self._rng.choice(_TOWN_STARTS) + self._rng.choice(_TOWN_ENDS))

    def person(self, woman: bool) -> str:
        """First and last name; at most two people share a last name."""

        def draw() -> str:
            last = self._rng.choice(_LAST_STARTS) + self._rng.choice(_LAST_ENDS)
            return f"{self._rng.choice(_FIRST_F if woman else _FIRST_M)} {last}"

        while True:
            name = self._new(draw)
            last = name.split()[1]
            if self._lasts.get(last, 0) < 2:
                self._lasts[last] = self._lasts.get(last, 0) + 1
                return name
            self._used.discard(name)

    def company(self, founder: str) -> str:
        """A company named after its founder."""
        last = founder.split()[1]
        return self._new(lambda: self._rng.choice(_COMPANY).format(last=last))

    def ship(self) -> str:
        """A ship."""
        return self._new(lambda: f"{self._rng.choice(_SHIP_ONE)} {self._rng.choice(_SHIP_TWO)}")

    def title(self) -> str:
        """The title of a work."""
        return self._new(lambda: f"The {self._rng.choice(_TITLE_ONE)} {self._rng.choice(_TITLE_TWO)}")

    def _new(self, draw: object) -> str:
        assert callable(draw)
        for _ in range(10_000):
            name = str(draw())
            if name not in self._used:
                self._used.add(name)
                return name
        raise RuntimeError("the lists of names are used up")
