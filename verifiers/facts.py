"""The checkable facts of a text: ids, e-mail addresses, amounts, dates, times, phone numbers, known terms.

Pure functions on text. Two spellings of one fact give equal facts: ``$1,200.00`` and ``1200``, ``May 5, 2024`` and
``2024-05-05``, ``2:30 PM`` and ``14:30``, ``#W123`` and ``w123``. :mod:`pivotgym.verifiers.speech` finds what a
text asks for and whether it affirms or denies.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pivotgym.envs.trajectory import JsonObject, Message
from pivotgym.verifiers.memo import Memo

SMALL_NUMBER = 12
"""Bare whole numbers up to this are counts or list positions; stating one unasked is no invention."""

MAX_TERM_WORDS = 4
"""Longer strings in tool results are prose, not names."""

MAX_SCANNED = 200_000
"""Of a longer tool result the first and the last half of so many characters are searched for facts …"""

MAX_LEAVES = 20_000
"""… and, where it is JSON, its first so many leaves."""

_MONTHS = {
    name: index + 1
    for index, name in enumerate(("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"))
}
_MONTH = (
    r"(?P<month>Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?"
    r"|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)\.?"
)
_DAY = r"(?P<day>[0-3]?\d)(?:st|nd|rd|th)?(?!\d)"
_NUMBER_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six"),
    *("seven", "eight", "nine", "ten", "eleven", "twelve"),
)
_WORDS = {word: str(index) for index, word in enumerate(_NUMBER_WORDS)}
_UNITS = r"GB|MB|TB|KB|Mbps|kg|lbs?|ft|mAh|hrs?|mins?|h|x|ml|L|km|cm|mm|days?|hours?|minutes?|inch(?:es)?|[KMB]"

_MARKER = re.compile(r"###[A-Z_-]+###")
_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+")
_ISO_DATE = re.compile(r"\b(\d{4})-(\d{2})-(\d{2})(?=T|\b)")
_US_DATE = re.compile(r"\b(\d{1,2})/(\d{1,2})/(\d{4})\b")
_MONTH_DAY = re.compile(rf"\b{_MONTH}\s+{_DAY}(?:\s*(?:-|–|to|and|&)\s*(?P<until>[0-3]?\d)(?:st|nd|rd|th)?(?!\d))?"
                        r"(?:,?\s+(?P<year>(?:19|20)\d{2}))?")  # fmt: skip
_DAY_MONTH = re.compile(rf"\b{_DAY}\s+(?:of\s+)?{_MONTH}(?:,?\s+(?P<year>(?:19|20)\d{{2}}))?")
_ROADS = {
    "st": "street", "rd": "road", "ln": "lane", "ave": "avenue", "dr": "drive", "ct": "court", "blvd": "boulevard"
}  # fmt: skip
_ADDRESS = re.compile(
    r"\b(\d{1,5})\s+((?:[A-Z][\w'’.]*\s+){1,3}?)"
    r"(Street|St|Road|Rd|Lane|Ln|Avenue|Ave|Drive|Dr|Court|Ct|Boulevard|Blvd|Way|Place|Square|Terrace)\b"
)
_TIME = re.compile(
    r"(?<![\w:])T?(\d{1,2}):(\d{2})(?::\d{2})?\s*([AaPp]\.?[Mm]\b\.?)?|\b(\d{1,2})\s*([AaPp]\.?[Mm]\b\.?)"
)
_PHONE = re.compile(r"(?<![\w#-])\+?(?:\(\d{1,4}\)|\d{1,4})(?:[\s.-]?\(?\d{2,4}\)?){0,3}[\s.-]\d{3,4}(?![\w-])")
_MONEY = re.compile(
    r"(?:US)?[$€£¥]\s?-?(\d[\d,]{0,20}(?:\.\d+)?)|(?<![\d,.])(\d[\d,]{0,20}(?:\.\d+)?)\s?(?:USD|EUR|GBP|dollars?|euros?|pounds?|cents?)\b"
)
_TOKEN = re.compile(r"(?<![\w.])#?[A-Za-z0-9]+(?:[_-][A-Za-z0-9]+)*(?!\w)")
_NUMBER = re.compile(r"(?<![\w.,])(\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)(?![\w])")
_LIST_MARK = re.compile(r"(?m)^\s*\(?\d{1,2}[.)]\s+")
_RANGE = re.compile(r"(?<![\w#.,-])(\d{1,4})\s?[-–]\s?(\d{1,4})(?![\w.,-]\d|\w|-)")
_QUANTITY = re.compile(rf"\b(\d[\d,]{{0,20}}(?:\.\d+)?)[\s-]?(?:{_UNITS})\b")
_SENTENCE = re.compile(r"\n|[.!?]\s")
_CLAUSE = re.compile(r"[,;\n]|\band\b|\bbut\b|\bwhile\b|[.!?]\s")
_COMPOUND = re.compile(r"\d+(?:-[A-Za-z]+)+|\d+(?:st|nd|rd|th)", re.IGNORECASE)


@dataclass(frozen=True)
class Fact:
    """One checkable fact in canonical form.

    Attributes:
        kind: ``id``, ``email``, ``address`` (number and street), ``amount`` (money, shares and bare numbers alike),
            ``date`` (ISO; the year is ``????`` where the text leaves it out), ``time`` (24 hours), ``phone`` (its last
            ten digits), ``term`` (a known name or status), ``marker`` (a control word, as ``###STOP###``).
        value: the canonical value.
        money: the amount was written with a currency.
    """

    kind: str
    value: str
    money: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        return f"{self.kind} {self.value}"

    @property
    def shape(self) -> str:
        """Equal for ids of one kind (``w123`` and ``w456``); for other facts their kind."""
        return re.sub(r"\d", "9", re.sub(r"[a-z]", "a", self.value)) if self.kind == "id" else self.kind

    @property
    def trivial(self) -> bool:
        """A small bare count: true or not, it invents nothing."""
        return self.kind == "amount" and not self.money and _is_small(self.value)


@dataclass(frozen=True)
class Found:
    """A fact and where in the text it stands (character span)."""

    fact: Fact
    start: int
    end: int


class FactSet:
    """Facts with the lenience of :meth:`covers`: a date without its year agrees with the same day of any year."""

    def __init__(self, facts: Iterable[Fact] = ()) -> None:
        self._facts = set(facts)
        self._days = {fact.value[4:] for fact in self._facts if fact.kind == "date"}
        self._open_days = {fact.value[4:] for fact in self._facts if fact.kind == "date" and fact.value[0] == "?"}

    def __iter__(self) -> Iterator[Fact]:
        return iter(sorted(self._facts, key=str))

    def __len__(self) -> int:
        return len(self._facts)

    def covers(self, fact: Fact) -> bool:
        """Whether ``fact`` is among these."""
        if fact in self._facts:
            return True
        if fact.kind == "date":
            return fact.value[4:] in (self._days if fact.value[0] == "?" else self._open_days)
        return False

    def missing_from(self, other: FactSet) -> list[Fact]:
        """The facts of this set that ``other`` does not cover."""
        return [fact for fact in self if not other.covers(fact)]


@dataclass(frozen=True)
class Vocabulary:
    """What a conversation's tool traffic makes recognisable in a text.

    Attributes:
        ids: upper-case identifiers without digits (``UHDAHF``), as they stand in tool calls and results.
        terms: short names and statuses there (``electric kettle``, ``pending``), case-folded, each with the keys it
            stood under.
    """

    ids: frozenset[str] = frozenset()
    terms: Mapping[str, frozenset[str]] = field(default_factory=dict)


def find(text: str, vocabulary: Vocabulary | None = None) -> list[Found]:
    """Every fact of ``text`` in order of appearance, terms last."""
    vocabulary = vocabulary or Vocabulary()
    rest = _LIST_MARK.sub(lambda match: " " * len(match.group()), text)
    found: list[Found] = []

    def take(pattern: re.Pattern[str], read: Any) -> None:
        nonlocal rest
        cut = list(rest)
        for match in pattern.finditer(rest):
            facts = read(match)
            if facts:
                found.extend(Found(fact, match.start(), match.end()) for fact in facts)
                cut[match.start() : match.end()] = "\0" * (match.end() - match.start())
        rest = "".join(cut)

    take(_MARKER, lambda match: [Fact("marker", match.group())])
    take(_EMAIL, lambda match: [Fact("email", match.group().casefold())])
    take(_ADDRESS, _address)
    take(_ISO_DATE, lambda match: _date(match.group(1), match.group(2), match.group(3)))
    take(_US_DATE, lambda match: _date(match.group(3), match.group(1), match.group(2)))
    take(_MONTH_DAY, _month_days)
    take(_DAY_MONTH, _month_days)
    take(_TIME, _time)
    take(_PHONE, _phone)
    take(_RANGE, lambda match: _amount(match.group(1)) + _amount(match.group(2)))
    take(_MONEY, lambda match: _amount(match.group(1) or match.group(2), money=True))
    take(_QUANTITY, lambda match: _amount(match.group(1)))
    take(_TOKEN, lambda match: _identifier(match.group(), vocabulary))
    take(_NUMBER, lambda match: _amount(match.group(1)))
    found.sort(key=lambda item: item.start)
    return found + _terms(text, vocabulary)


def attributions(text: str, vocabulary: Vocabulary | None = None) -> dict[Fact, Fact]:
    """Which amount, date or time is said of which id (or, where there is none, of which term).

    A value belongs to a subject where the two stand together in one sentence, line or clause that has no other subject
    and no other value of its kind. What different cuts of the text say differently is left out.
    """
    found = find(text, vocabulary)
    said: dict[Fact, Fact] = {}
    unclear: set[Fact] = set()
    for pattern in (_SENTENCE, _CLAUSE):
        for inside in _segments(text, found, pattern):
            ids = {fact for fact in inside if fact.kind == "id"}
            subjects = ids or {fact for fact in inside if fact.kind == "term"}
            if len(subjects) != 1:
                continue
            subject = subjects.pop()
            for kind in ("amount", "date", "time"):
                values = {fact for fact in inside if fact.kind == kind}
                if len(values) == 1:
                    value = values.pop()
                    if said.setdefault(value, subject) != subject:
                        unclear.add(value)
    return {value: subject for value, subject in said.items() if value not in unclear}


def _segments(text: str, found: list[Found], pattern: re.Pattern[str]) -> list[list[Fact]]:
    """The facts of each piece of ``text`` between matches of ``pattern``; none of them is cut through a fact."""
    cuts = [cut.start() for cut in pattern.finditer(text)]
    cuts = [cut for cut in cuts if not any(item.start < cut < item.end for item in found)]
    ends = [*cuts, len(text)]
    return [
        [item.fact for item in found if start <= item.start < end] for start, end in zip([0, *cuts], ends, strict=True)
    ]


def facts_of(text: str, vocabulary: Vocabulary | None = None) -> FactSet:
    """The facts of ``text`` as a set. Number words count as numbers here (``two reservations``)."""
    found = [item.fact for item in find(text, vocabulary)]
    words = re.findall(r"[a-z]+", text.casefold())
    return FactSet([*found, *(Fact("amount", _WORDS[word]) for word in words if word in _WORDS)])


def stated(text: str, vocabulary: Vocabulary | None = None) -> FactSet:
    """The facts ``text`` states in digits or names: what may be required of another text."""
    return FactSet(item.fact for item in find(text, vocabulary))


def vocabulary_of(messages: Sequence[Message], tools: Sequence[JsonObject] = ()) -> Vocabulary:
    """Reads the tool calls and results of a conversation, and the values the tools' schemas enumerate."""
    ids: set[str] = set()
    terms: dict[str, frozenset[str]] = {}
    for key, value in _enumerated(tools):
        if isinstance(value, str) and _is_term(key, value):
            terms[" ".join(_plain(value).split())] = frozenset({key})
    for message in messages:
        values = list(_strings(message.text)) if message.role == "tool" else []
        for call in message.tool_calls:
            values += [(key, value) for key, value in leaves(call.arguments) if isinstance(value, str)]
        for key, value in values:
            if len(value) > 60:
                continue
            if re.fullmatch(r"[A-Z]{5,}", value):
                ids.add(value)
            elif _is_term(key, value):
                term = " ".join(_plain(value).split())
                terms[term] = terms.get(term, frozenset()) | {key}
    return Vocabulary(frozenset(ids), terms)


def known_facts(messages: Sequence[Message], vocabulary: Vocabulary | None = None) -> FactSet:
    """Every fact that stands anywhere in a conversation: what a truthful text can draw on."""
    vocabulary = vocabulary or Vocabulary()
    facts: list[Fact] = []
    for message in messages:
        if message.role == "tool":
            # What the vocabulary holds it has from here; the rest does not depend on it.
            facts += _plain_facts(message.text)
            facts += [Fact("id", name.casefold()) for name in vocabulary.ids]
            facts += [Fact("term", term) for term in vocabulary.terms]
        else:
            facts += facts_of(message.text, vocabulary)
        for call in message.tool_calls:
            arguments = call.arguments
            text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
            facts += facts_of(text, vocabulary)
    return FactSet(facts)


def _enumerated(tools: Sequence[JsonObject]) -> Iterator[tuple[str, Any]]:
    for tool in tools:
        parameters = tool.get("function", tool).get("parameters") or {}
        for key, schema in (parameters.get("properties") or {}).items():
            for value in schema.get("enum") or () if isinstance(schema, dict) else ():
                yield key, value


def _read_facts(text: str) -> tuple[Fact, ...]:
    if len(text) <= MAX_SCANNED:
        return tuple(facts_of(text))
    half = MAX_SCANNED // 2
    facts = {*facts_of(text[:half]), *facts_of(text[-half:])}
    for _, value in _first_leaves(parse_json(text)):
        facts.update(_leaf_facts(value))
    return tuple(facts)


def _leaf_facts(value: Any) -> list[Fact]:
    """The fact a leaf of a very long result is as a whole; it is not searched."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return []
    leaf = value if isinstance(value, str) else repr(value)
    if len(leaf) > 64:
        return []
    if date := _ISO_DATE.fullmatch(leaf):
        return _date(*date.groups())
    if _NUMBER.fullmatch(leaf):
        return _amount(leaf)
    if _EMAIL.fullmatch(leaf):
        return [Fact("email", leaf.casefold())]
    return _identifier(leaf, Vocabulary()) if _TOKEN.fullmatch(leaf) else []


def _read_strings(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((key, value) for key, value in _first_leaves(parse_json(text)) if isinstance(value, str))


def _first_leaves(value: Any, limit: int = MAX_LEAVES) -> list[tuple[str, Any]]:
    """The first ``limit`` leaves of a JSON value as (nearest key, value), in order."""
    found: list[tuple[str, Any]] = []
    waiting: list[tuple[str, Any]] = [("", value)]
    while waiting and len(found) < limit:
        key, item = waiting.pop()
        if isinstance(item, dict) and item:
            waiting.extend((str(name), part) for name, part in reversed(item.items()))
        elif isinstance(item, list) and item:
            waiting.extend((key, part) for part in reversed(item))
        else:
            found.append((key, item))
    return found


# Every turn of a conversation looks at the same results again, and they may be megabytes.
_plain_facts = Memo(_read_facts)
_strings = Memo(_read_strings)


def parse_json(text: str) -> Any:
    """The JSON value of ``text``, or ``text`` itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def leaves(value: Any, key: str = "") -> list[tuple[str, Any]]:
    """The leaves of a JSON value as (nearest key, value); an empty object or list is a leaf itself."""
    if isinstance(value, dict) and value:
        return [leaf for name, item in value.items() for leaf in leaves(item, str(name))]
    if isinstance(value, list) and value:
        return [leaf for item in value for leaf in leaves(item, key)]
    return [(key, value)]


def _address(match: re.Match[str]) -> list[Fact]:
    number, name, road = match.groups()
    road = _ROADS.get(road.casefold(), road.casefold())
    return [Fact("address", f"{number} {' '.join(name.casefold().split())} {road}")]


def _date(year: str, month: str | int, day: str) -> list[Fact]:
    month, number = int(month), int(day)
    if not (1 <= month <= 12 and 1 <= number <= 31):
        return []
    return [Fact("date", f"{year}-{month:02d}-{number:02d}")]


def _month_days(match: re.Match[str]) -> list[Fact]:
    groups = match.groupdict()
    month = _MONTHS[groups["month"][:3].casefold()]
    days = [groups["day"], groups.get("until")]
    return [fact for day in days if day for fact in _date(groups.get("year") or "????", month, day)]


def _time(match: re.Match[str]) -> list[Fact]:
    hour = int(match.group(1) or match.group(4))
    minute = int(match.group(2) or 0)
    half = (match.group(3) or match.group(5) or "").casefold()
    if half.startswith("p") and hour < 12:
        hour += 12
    if half.startswith("a") and hour == 12:
        hour = 0
    return [Fact("time", f"{hour:02d}:{minute:02d}")] if hour < 25 and minute < 60 else []


def _phone(match: re.Match[str]) -> list[Fact]:
    digits = re.sub(r"\D", "", match.group())
    if not 7 <= len(digits) <= 15 or re.fullmatch(r"[\d ]+", match.group()):
        return []
    return [Fact("phone", digits[-10:])]


def _amount(text: str, *, money: bool = False) -> list[Fact]:
    # By hand: decimal arithmetic would round long numbers, and two tracking numbers would become one.
    whole, _, fraction = text.replace(",", "").partition(".")
    fraction = fraction.rstrip("0")
    value = (whole.lstrip("0") or "0") + ("." + fraction if fraction else "")
    return [Fact("amount", value, money)]


def _is_small(value: str) -> bool:
    return len(value) <= 2 and value.isdigit() and int(value) <= SMALL_NUMBER


def _identifier(token: str, vocabulary: Vocabulary) -> list[Fact]:
    bare = token.lstrip("#")
    if bare in vocabulary.ids:
        return [Fact("id", bare.casefold())]
    has_digit = any(character.isdigit() for character in bare)
    if not has_digit or (bare.isdigit() and token[0] != "#") or _COMPOUND.fullmatch(bare):
        return []
    return [Fact("id", bare.casefold())] if not bare.isdigit() else _amount(bare)


def _terms(text: str, vocabulary: Vocabulary) -> list[Found]:
    plain = _plain(text)
    words = list(re.finditer(r"[^\W\d_](?:[^\W\d_]|['&-](?=[^\W\d_]))*", plain))
    found: list[Found] = []
    first = 0
    while first < len(words):
        step = 1
        # The longest first: ``economy`` is not said by ``basic economy``.
        for count in range(min(MAX_TERM_WORDS, len(words) - first), 0, -1):
            start, end = words[first].start(), words[first + count - 1].end()
            term = " ".join(plain[start:end].split())
            if term in vocabulary.terms:
                found.append(Found(Fact("term", term), start, end))
                step = count
                break
        first += step
    return found


def _plain(text: str) -> str:
    return text.lower().replace("_", " ")


_PERSON_KEYS = re.compile(r"first_?name|last_?name|full_?name|customer_?name|summary|description|text|body", re.I)
_PLAIN_WORDS = {"yes", "no", "none", "true", "false", "null", "unknown", "available", "user", "other", "name", "ok"}


def _is_term(key: str, value: str) -> bool:
    if _PERSON_KEYS.fullmatch(key) or not 1 <= len(value.split()) <= MAX_TERM_WORDS or len(value) < 3:
        return False
    return bool(re.fullmatch(r"[A-Za-z][A-Za-z _'&-]*", value)) and value.casefold() not in _PLAIN_WORDS
