"""Grading short answers by normalised match: dates, numbers with units, names, lists, and what answers are wrapped in.

The match is strict about content: it asks whether two texts *are* the same answer in another spelling, never whether
one contains the other. What it cannot know (that ``the capital`` means a certain city) is for aliases or a judge.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from datetime import date
from decimal import Decimal, InvalidOperation

from pivotgym.envs.search.numbers import number_of
from pivotgym.envs.verdict import Verdict

_DASHES = dict.fromkeys(map(ord, "‐‑‒–—―−﹘﹣－"), "-")
_QUOTES = {**dict.fromkeys(map(ord, "‘’‚‛′`´"), "'"), **dict.fromkeys(map(ord, "“”„‟″«»"), '"')}
_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "january jan", "february feb", "march mar", "april apr", "may", "june jun", "july jul", "august aug",
            "september sep sept", "october oct", "november nov", "december dec",
        ),
        1,
    )
    for name in names.split()
}  # fmt: skip
# Before a whole name only: without them Lady Gaga and Captain America are somebody else.
_HONORIFICS = r"(?:dr|mr|mrs|ms|miss|prof|professor|sir|dame|lady|lord|captain|capt)\.? (?=\S+ \S)"
_LABEL = re.compile(
    r"(?:^|(?<=[\s.*#>]))(?:my |the |so,? |therefore,? |thus,? )?(?:final |exact |correct |short )?answer"
    r"(?: to the question)?\s*(?:\*{1,2}|_{1,2})?\s*(?:is|was|:|=|-)\s*:?\s*",
    re.IGNORECASE,
)
_LEAD = re.compile(
    # Not in any case: AT and IT are names.
    r"^(?:[Ii]t|[Tt]his|[Tt]hat|[Hh]e|[Ss]he|[Tt]hey|[Tt]here) (?:is|was|were|are) (?:called |named |in )?|"
    r"^(?:[Ii]t's|[Tt]hat's) (?:called |named |in )?"
)
_PAIR = re.compile(r"[^,;&]+, (?!and\b)[^,;&]+")
_PLACE = re.compile(
    r"^(?:[Ii]n|[Oo]n|[Aa]t|[Bb]y|[Ff]rom|[Ss]ince|(?:[Tt]he )?[Yy]ear(?: of)?) (?=\S)",
)


def grade(question: str, given: str, expected: Sequence[str]) -> Verdict:
    """1 where ``given`` matches one of the expected answers, else 0; rule ``goal``.

    Args:
        question: not used by the match; a judge sees it.
        given: the final answer as it was written.
        expected: the right answer and its other names.
    """
    right = any(matches(given, one) for one in expected)
    told = "the right answer" if right else "another answer"
    return Verdict(reward=float(right), rule="goal", reason=told, evidence={"given": unwrap(given)[:300]})


def matches(given: str, expected: str) -> bool:
    """Whether two answers are the same but for spelling.

    Equal are: letter case, accents, punctuation, dashes and quotes; leading articles, ``in``, ``it is``, titles of
    persons (``Dr``); ``Last, First`` and ``First Last``; a date in any unambiguous spelling; a number in digits,
    words, with thousands separators or a multiplier (``1.2 million``), with the same unit in another spelling, or with
    a unit on one side only; lists of the same things in another order, but for two
    things with a comma alone between them. A part of an answer, or an answer with more to
    it, is another answer.
    """
    one, other = unwrap(given), unwrap(expected)
    if not one or not other:
        return False
    days, other_days = _dates(one), _dates(other)
    if days or other_days:
        return days == other_days and len(days) == 1
    number, other_number = _quantity(one), _quantity(other)
    if number is not None or other_number is not None:
        return number is not None and other_number is not None and _same_quantity(number, other_number)
    ours, theirs = {_key(one), _key(one, whole=True)}, {_key(other, whole=True)}
    if "," not in other:
        ours |= {_turned(one)}
    if "," not in one:
        theirs |= {_turned(other)}
    if (ours & theirs) - {""}:
        return True
    parts, other_parts = _list(one), _list(other)
    if _PAIR.fullmatch(one) and _PAIR.fullmatch(other):
        return False  # Paris, Texas is a place, and no list
    return len(parts) > 1 and parts == other_parts


def unwrap(text: str) -> str:
    r"""The answer inside of what models write around it.

    Known are ``Final answer: …`` (the last of several), ``<answer>…</answer>``, ``\boxed{…}``, Markdown emphasis and
    code, quotes, a following ``Confidence: …`` line, and a closing full stop.
    """
    text = unicodedata.normalize("NFKC", text).translate(_DASHES).translate(_QUOTES).strip()
    for pattern in (r"<answer>(.*?)</answer>", r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}"):
        found = re.findall(pattern, text, re.IGNORECASE | re.DOTALL)
        if found:
            text = found[-1]
    text = re.sub(r"\\text\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"(?im)^[\s*_]*confidence[\s*_]*:.*$", "", text).strip()
    text = re.sub(r"(?im)^([\s#*_]*(?:final|exact) answer)[\s*_]*\n+", r"\1: ", text)  # as a heading
    labels = list(_LABEL.finditer(text))
    if labels:
        rest = text[labels[-1].end() :].strip()
        text = rest or text
        text = text.split("\n")[0]
    text = text.strip()
    for _ in range(4):
        before = text
        text = re.sub(r"^(\*{1,3}|_{1,3}|`{1,3}|\"|')(.+?)\1(?=[.,;!]?$)", r"\2", text, flags=re.DOTALL).strip()
        text = re.sub(r"^\$([^$]*[^$\d.,\s][^$]*)\$$", r"\1", text)
        text = re.sub(r"^[>#*\-]\s+", "", text)
        text = re.sub(r"(?<![A-Z])(?<!\b[A-Z]\.)[.!;,:\s]+$", "", text) if not re.search(r"\b[A-Z]\.$", text) else text
        if text == before:
            break
    return " ".join(text.strip("*_ ").split())


def _plain(text: str) -> str:
    """Folded: no case, no accents."""
    folded = unicodedata.normalize("NFKD", text.casefold())
    return "".join(one for one in folded if not unicodedata.combining(one)).replace("ø", "o").replace("ł", "l")


def _bare(text: str, *, whole: bool = False) -> str:
    """Without what may stand before an answer; ``whole`` keeps words that say where or when."""
    text = " ".join(text.split())
    for _ in range(4):
        before = text
        text = _LEAD.sub("", text)
        text = text if whole else _PLACE.sub("", text)
        text = re.sub(r"^(?:the|an|a) (?=\S)", "", text, flags=re.IGNORECASE)
        if text == before:
            break
    return text


def _key(text: str, *, whole: bool = False) -> str:
    """Equal for answers that are spelt differently only; empty where nothing but punctuation is left.

    ``whole`` keeps words like ``in`` at the beginning: those of the expected answer belong to it (``From Hell``), while
    a given answer may have them in addition.
    """
    plain = _plain(_bare(text, whole=whole))
    plain = re.sub(r"^" + _HONORIFICS, "", plain)
    plain = plain.replace("&", " and ").replace("%", " percent ")
    ordinal = number_of(plain, ordinals=True)
    if ordinal is not None and number_of(plain) is None:
        return f"{ordinal}th"
    plain = re.sub(r"(?<=\w)'s\b", "s", plain)
    # U.S.A., and J. R. R. as J.R.R.
    plain = re.sub(r"\b(?:[a-z]\.\s*){2,}", lambda found: re.sub(r"[.\s]", "", found[0]) + " ", plain)
    plain = re.sub(r"^st\.? (?=[a-z])", "saint ", plain)
    # What tells things apart although it is no letter: C++ and C#, +5 and -5.
    words = re.findall(r"\w+(?:\+\+|#)?", plain.replace("_", " "))
    numbered = [_digits(word) for word in words if word not in ("the",)]
    return " ".join(numbered) or " ".join(words)


def _digits(word: str) -> str:
    ordinal = re.fullmatch(r"(\d+)(?:st|nd|rd|th)", word)
    if ordinal:
        return ordinal[1] + "th"
    value = number_of(word, ordinals=True) if word.isalpha() else None
    if value is None:
        return word.lstrip("0") or "0" if word.isdecimal() else word
    return f"{value}th" if number_of(word) is None else str(value)


def _turned(text: str) -> str:
    """The key of ``Last, First`` as ``First Last``; empty for another form."""
    found = re.fullmatch(r"([^,]+), ([^,]+)", text)
    return _key(f"{found[2]} {found[1]}", whole=True) if found and not re.search(r"\d", text) else ""


def _list(text: str) -> list[str]:
    parts = [_key(part) for part in re.split(r"\s*(?:,\s*and\b|,|;|&|\band\b)\s*", _bare(text))]
    return sorted(part for part in parts if part)


# Dates ------------------------------------------------------------------------------------------------------------

_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_WEEKDAY = r"(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day,? )?"
_FORMS = (
    rf"(?P<d>\d{{1,2}})(?:st|nd|rd|th)?(?: of)? (?P<m>{_MONTH})\.?(?: of)?,? (?P<y>\d{{3,4}})",
    rf"(?P<m>{_MONTH})\.? (?:the )?(?P<d>\d{{1,2}})(?:st|nd|rd|th)?,? (?P<y>\d{{3,4}})",
    rf"(?P<y>\d{{4}}),? (?P<m>{_MONTH})\.? (?P<d>\d{{1,2}})(?:st|nd|rd|th)?",
    rf"(?P<d>\d{{1,2}})-(?P<m>{_MONTH})-(?P<y>\d{{4}})",
    r"(?P<y>\d{4})[-/.](?P<n>\d{1,2})[-/.](?P<d>\d{1,2})",
    rf"(?P<d>\d{{1,2}})(?:st|nd|rd|th)?(?: of)? (?P<m>{_MONTH})",
    rf"(?P<m>{_MONTH})\.? (?:the )?(?P<d>\d{{1,2}})(?:st|nd|rd|th)?",
    rf"(?P<m>{_MONTH})\.?(?: of)?,? (?P<y>\d{{3,4}})",
)


def _dates(text: str) -> set[tuple[int, int, int]]:
    """What day (year, month, day; 0 for a part not said) a text names, if it is a date and nothing else."""
    plain = _plain(_bare(text)).replace("ad ", "").strip(" .")
    plain = re.sub(rf"^{_WEEKDAY}(?:the )?", "", plain)
    for form in _FORMS:
        found = re.fullmatch(form, plain)
        if found:
            part = found.groupdict()
            month = _MONTHS[part["m"]] if part.get("m") else int(part.get("n") or 0)
            return _valid(int(part.get("y") or 0), month, int(part.get("d") or 0))
    slashed = re.fullmatch(r"(\d{1,2})[-/.](\d{1,2})[-/.](\d{4})", plain)
    if slashed:  # day and month in either order: both where both are possible
        one, other, year = (int(part) for part in slashed.groups())
        return _valid(year, other, one) | _valid(year, one, other)
    return set()


def _valid(year: int, month: int, day: int) -> set[tuple[int, int, int]]:
    try:
        date(year or 2000, month or 1, day or 1)
    except ValueError:
        return set()
    return {(year, month, day)}


# Quantities -------------------------------------------------------------------------------------------------------

_UNITS = {
    spelling: unit
    for unit, spellings in {
        "km": "km kms kilometre kilometres kilometer kilometers",
        "m": "m metre metres meter meters",
        "cm": "cm centimetre centimetres centimeter centimeters",
        "mm": "mm millimetre millimetres millimeter millimeters",
        "mi": "mi mile miles",
        "ft": "ft foot feet",
        "kg": "kg kgs kilo kilos kilogram kilograms kilogramme kilogrammes",
        "g": "g gram grams gramme grammes",
        "t": "t tonne tonnes",
        "ha": "ha hectare hectares",
        "km2": "km2 km^2 sqkm",
        "l": "l litre litres liter liters",
        "%": "% percent",
        "$": "$ dollar dollars usd",
        "€": "€ euro euros eur",
        "£": "£ gbp",
        "s": "sec secs second seconds",
        "min": "min mins minute minutes",
        "h": "h hr hrs hour hours",
        "day": "day days",
        "week": "week weeks",
        "month": "month months",
        "year": "year years yr yrs",
        "°": "° degree degrees",
        "person": "person persons people inhabitants residents",
    }.items()
    for spelling in spellings.split()
}
_AMOUNT = re.compile(r"(?P<before>[$€£])?\s*(?P<number>.+?)\s*(?P<unit>%|°|[$€£]|[a-z]+(?:\^?2)?)?")


def _quantity(text: str) -> tuple[Decimal, str] | None:
    """A number and its unit (empty: none, or none that is known) where the text is nothing else."""
    plain = _plain(_bare(text)).replace("per cent", "percent")
    plain = re.sub(r"^(?:about|approximately|roughly|around|exactly|some|circa|c\.|ca\.|~) ?(?=\d)", "", plain)
    plain = re.sub(r"^(?:ad|ce) (?=\d+$)|(?<=\d) ?(?:ad|ce|a\.d\.|c\.e\.)$", "", plain)
    plain = re.sub(r"\bsquare (kilomet(?:re|er)s?|km)\b", "km2", plain)
    plain = re.sub(r"^minus ", "-", plain)
    whole = _number(plain)
    if whole is not None:
        return whole, ""
    found = _AMOUNT.fullmatch(plain)
    if found is None:
        return None
    sign, word = found["before"] or "", found["unit"] or ""
    unit = _UNITS.get(word)
    value = _number(found["number"]) if not word or unit is not None else None
    if value is None and word:
        value = _number(f"{found['number']} {word}")
        unit = ""
    if value is None or (sign and unit):
        return None
    return value, _UNITS[sign] if sign else unit or ""


def _number(text: str) -> Decimal | None:
    text = text.strip().replace(" ", " ")
    if re.fullmatch(r"[+-]?\d{1,3}(?:[ ,'_]\d{3})+(?:\.\d+)?", text):
        text = re.sub(r"[ ,'_]", "", text)
    found = re.fullmatch(
        r"([+-]?\d+(?:\.\d+)?|[+-]?\.\d+)(?: ?(hundred|thousand|million|billion|trillion|[km]))?", text
    )
    try:
        if found:
            times = {"hundred": 2, "thousand": 3, "k": 3, "million": 6, "m": 6, "billion": 9, "trillion": 12}
            power = times[found[2]] if found[2] and not (found[2] in "km" and " " in text) else 0
            if found[2] in ("k", "m"):
                return None  # 5 m are metres
            return Decimal(found[1]).scaleb(power)
    except InvalidOperation:
        return None
    words = number_of(text)
    return Decimal(words) if words is not None else None


def _same_quantity(one: tuple[Decimal, str], other: tuple[Decimal, str]) -> bool:
    return one[0] == other[0] and (one[1] == other[1] or not one[1] or not other[1])
