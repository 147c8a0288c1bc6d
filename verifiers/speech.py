"""What a text does in a conversation: what it asks for, whether it denies, reports something done, or closes."""

from __future__ import annotations

import re
from dataclasses import dataclass

CONFIRMATION = "confirmation"

_TOPICS = {
    "choice": r"\bwhich (?:one|of|order|reservation|booking|flight|item|ticket|card|line|option|device|laptop)\b"
    r"|\bwhich account\b|\bwhat order\b",
    "email": r"e-?mail",
    "phone": r"phone number|telephone|mobile number|callback number|\bphone\b(?= *(?:,|or\b|and\b|\?|$))",
    "pin": r"\bpin\b|pass ?code",
    "contact": r"contact details|which contact",
    "zip": r"\bzip\b|postal code|post ?code",
    "order id": r"order (?:id|number|#)",
    "reservation id": r"reservation (?:id|number|code)|booking (?:id|number|reference|code)"
    r"|confirmation (?:number|code)",
    "user id": r"user ?(?:id|name)|account (?:id|number|name)|customer (?:id|number)|employee (?:id|number)|login name",
    "ticket": r"ticket (?:id|number)|case number|request number",
    "device": r"device (?:id|number|name)|asset (?:id|tag|number)|serial number",
    "name": r"\b(?:full|first|last|your|the) names?\b|passenger names?",
    "birth date": r"date of birth|birth ?date|\bdob\b",
    "address": r"(?<!e-mail )(?<!email )address",
    "payment": r"payment|credit card|gift card|paypal|pay with|method to (?:use|refund)",
    "reason": r"reason|why\b|what happened|cause of",
    "date": r"\bdates?\b|which day|what day|when\b",
    "item": r"\bitems?\b|product|variant|options? (?:would|do|you)",
    "flight": r"flight (?:number|option)|flights? (?:would|do) you|preferred flight",
    "cabin": r"cabin|class (?:would|do)|economy or business",
    "passengers": r"passengers?\b|travell?ers?\b|how many people",
    "bags": r"\bbags?\b|baggage|luggage",
    "insurance": r"insurance",
    "destination": r"destination|where (?:would|do|are) you|origin\b|airport",
    "airplane mode": r"(?:airplane|flight) mode",
    "mobile data": r"mobile data|data (?:is )?(?:enabled|turned on)",
    "data saver": r"data saver",
    "roaming": r"roaming",
    "network mode": r"network (?:mode|type|preference)|preferred network",
    "sim": r"\bsim\b",
    "apn": r"\bapn\b",
    "restart": r"restart|reboot|power(?:ing)? (?:off|cycle)|turn(?:ing)? (?:it|the phone|your phone) off and",
    "wifi calling": r"wi-?fi calling",
    "vpn": r"\bvpn\b",
    "speed test": r"speed ?test",
    "status bar": r"status bar|signal (?:strength|bars)",
    "permissions": r"permissions?\b",
    "error": r"error (?:message|code)|what (?:does it|do you) (?:say|see)",
    "operating system": r"operating system|\bos\b|windows or mac",
    "priority": r"priority|urgen|severity",
}
_ACTIONS = {
    "cancel": r"cancel",
    "refund": r"refund|reimburs|money back|credited back"
    r"|\b(?:sen[dt]|paid|pay|on (?:its|the) way)\b[^.!?]{0,30}\bback\b",
    "exchange": r"exchang|swap",
    "return": r"\breturn(?!\s+flight)(?:s|ed|ing)?\b|\btak(?:e|es|ing) back\b|\btook back\b",
    "change": r"\bchang|modif|updat|switch|adjust|\bedit",
    "book": r"\b(?:re)?book(?:s|ed|ing)?\b",
    "upgrade": r"upgrad",
    "downgrade": r"downgrad",
    "transfer": r"transfer|human agent|escalat|representative|specialist",
    "close": r"\bclos(?:e|es|ed|ing)\b|resolv",
    "reopen": r"re-?open",
    "assign": r"assign",
    "reset": r"\breset",
    "unlock": r"unlock",
    "lock": r"\block(?:s|ed|ing)?\b",
    "enable": r"enabl|turn(?:s|ed|ing)?(?: \w+){0,4} on\b|\bactivat",
    "disable": r"disabl|turn(?:s|ed|ing)?(?: \w+){0,4} off\b|deactivat",
    "restart": r"restart|reboot",
    "pay": r"\bpa(?:y|ys|id|ying)\b(?![^.!?]{0,30}\bback\b)",
    "charge": r"\bcharg(?:e|es|ed|ing)\b",
    "add": r"\badd(?:s|ed|ing)?\b",
    "remove": r"remov",
    "delete": r"delet|\beras",
    "grant": r"\bgrant|provision",
    "revoke": r"revok",
    "approve": r"approv",
    "send": r"\b(?:sen(?:d|ds|t|ding)|ship(?:s|ped|ping)?)\b(?![^.!?]{0,30}\bback\b)",
    "replace": r"\breplac",
    "open": r"\bopen(?:ed|s|ing)\b|\b(?:I|we|to|will) open\b|\bcreat(?:e|es|ed|ing)\b|\brais(?:e|es|ed|ing)\b",
    "arrive": r"\barriv(?:e|es|al|ing)\b|\bbe (?:here|there|with you)\b|\bdue\b|\bcom(?:es?|ing)\b(?! to\b)"
    r"|\bexpected\b|\bdeliver(?:y|s)?\b",
    "arrived": r"\barrived\b|\bdelivered\b|\bcame\b",
    "leave": r"\bleaves? (?:our|the|us)\b",
    "lose": r"\blost\b|\blos(?:e|es|ing)\b|\bstolen\b|\bsteal",
    "repair": r"\brepair|\bfix(?:ed|es|ing)?\b",
    "keep": r"\bke(?:ep|eps|pt)\b(?! in mind)",
    "sell": r"\bs(?:ell|ells|old|elling)\b",
    "discard": r"\bthr(?:ow|ows|ew|own)\b|\bdiscard",
    "expire": r"\bexpir",
    "reject": r"\breject",
    "suspend": r"\bsuspend",
    "resume": r"\bresum",
    "order": r"\bplac(?:e|ed|ing) (?:an|the|your|this) order|\bordered\b",
}
_MEETS = {
    "send": {"replace"},
    "replace": {"send"},
    "book": {"arrive"},
    "delete": {"remove"},
    "remove": {"delete"},
    "charge": {"pay"},
    "pay": {"charge"},
    "exchange": {"replace"},
}
"""What says the same as an action: ``the technician comes on 21 March`` where a visit is booked."""
_GOES_WITH = {
    "arrive": {"send"},
    "arrived": {"arrive"},
    "book": {"change"},
    "change": {"add", "remove"},
    "exchange": {"return", "send"},
    "return": {"send"},
    "refund": {"send"},
    "order": {"arrive"},
}
"""What may be spoken of beside an action without adding another one."""
_IDENTIFYING = {"order id", "reservation id", "ticket", "device", "flight", "item"}
_TOPIC = {name: re.compile(pattern, re.I) for name, pattern in _TOPICS.items()}
_ACTION = {name: re.compile(pattern, re.I) for name, pattern in _ACTIONS.items()}


def _any(*alternatives: str) -> re.Pattern[str]:
    return re.compile("|".join(alternatives), re.IGNORECASE)


_CONFIRM = _any(
    r"confirm(?:ation)?\W+(?:if|that|whether|to|so|by|with|below|the above|these|this|all|and|yes)\b",
    r"confirm(?:ation)?\W+you(?:['’]d| would| want|['’]re)",
    r"confirm(?:ation)?(?:\s*[(.:?!]|$)",
    r"proceed|go ahead|would you like (?:me|us) to|would you like to (?:proceed|continue|go)",
    r"shall (?:I|we)\b|should I\b|do you want (?:me|us) to|may I (?:go|proceed)",
    r"is (?:this|that|everything) (?:correct|right|ok)|all correct",
    r"^\W*(?:is|are) [^?]{1,60} (?:correct|right|ok|okay|fine|good)\W*\?",
    r"yes/no|yes or no|['\"]yes['\"]|\(yes",
)
_REQUEST = _any(
    r"\bplease (?!hold|wait|note|be aware|remember|feel free|accept|allow|understand|keep|don't hesitate|rest assured)",
    r"\b(?:could|can|would|will) you\b",
    r"\bI(?:['’]ll| will)? (?:also )?need (?:your|the|to (?:know|verify|confirm))",
    r"\blet me know (?:which|what|whether|once|when|how|your|the)",
    r"\blet me know if you(?:['’]d| would) (?:like (?:me )?to|prefer)",
    r"\bmay I have\b|\bI (?:recommend|suggest|advise)\b|\byou(?:['’]ll| will)? need to\b",
)
_COURTESY = _any(
    r"anything else|any(?: (?:other|more|further|additional))+ (?:question|request|concern|help|assist|need)",
    r"further (?:help|assistance|questions?)|(?:else|more) (?:help|assistance)|need (?:any )?more details",
    r"let me know if (?:you (?:need|have)|there)|feel free|hesitate|how (?:can|may) I (?:help|assist)",
    r"just (?:ask|let me know)[!.]?$|please let me know[!.]?$",
    r"if you (?:need|have) (?:any|more|help|further|questions)",
)
_DENY = _any(
    r"\bunable to\b|\bcan ?not\b|\bcan['’]t\b|\bno longer\b|unfortunately",
    r"\bnot (?:able|eligible|possible|allowed|permitted|available|qualif|cover)",
    r"\bdo(?:es)?(?: not|n['’]t) (?:allow|permit|qualify|meet|cover)|\bdo(?:es)? not have",
    r"\bsorry,? (?:but )?no\b|\bno refund|\brefused\b|\bnot refund",
    r"\bdenied\b|\bineligible\b|\bdeclin|^no[,.](?! problem)|\bnot (?:currently )?(?:have|been|include)",
    r"\bthere (?:is|are) (?:currently )?no\b|\bcould(?: not|n['’]t) find",
)
NEGATION = _any(
    r"\b(?:not?(?! problem| worries)|never|none|neither|nothing|sorry|refused|unfortunately|unable|denied|wrong)\b",
    r"n['’]t\b|\bcannot\b|\bineligible\b|\bdeclin|\bincorrect\b|\bimpossible\b",
)
_OFFER = _any(r"\b(?:can|could|will|able to|going to|possible)\b|['’]ll\b")
_DONE = _any(
    r"\b(?:has|have) (?:now |already )?been (?:successfully )?(?P<first>\w+)",
    r"\bI(?:['’]ve| have) (?:now |just |successfully )*(?P<second>\w+)",
    r"\bI (?:just |already )?(?P<fifth>\w+ed|sent|paid)\b",
    r"\bsuccessfully (?P<third>\w+)|\b(?:is|are) (?:now|being) (?P<fourth>\w+)",
)
_DONE_LOOSELY = re.compile(
    r"\b(?:is|are|was|were|got|gets|been) (?:now |all )?(?P<first>\w+)"
    r"|^\W*(?P<third>\w+ed)\b|\b(?:\w+) (?P<fourth>\w+ed)[.!:]",
    re.I,
)
_DONE_WORD = re.compile(
    r"cancel|refund|exchang|return(?:ed)|chang|modif|updat|switch|book|upgrad|downgrad|transfer|escalat|clos|resolv|reopen"
    r"|assign|reset|unlock|locked|enabl|disabl|activat|paid|charged|added|removed|deleted|granted|revoked|approved|sent"
    r"|suspend|resum|placed|processed|started|created|completed|submitted|scheduled|issued|raised|logged|opened",
    re.I,
)
_PERFORMS = re.compile(r"\b(?:I|we) (?:now )?(?!will|can|could|would|have|may|need|do)(?P<verb>[a-z]+)\b", re.I)
_RESULTS = {
    "open": re.compile(r"\byour (?:new )?(?:ticket|case)(?: number| id)? is (?=[A-Z]*\d)", re.I),
    "book": re.compile(r"\b(?:technician|visit|engineer)\b[^.!?]*\b(?:comes?|is on|takes place)\b", re.I),
}
_CLOSE = _any(
    r"you['’]re (?:very |most )?welcome|great day|good day|wonderful day|nice day|take care|goodbye|\bbye\b",
    r"glad I could|happy to (?:have )?help(?:ed)?[.!]|enjoy your|safe travels",
    r"thank you for (?:contacting|choosing|your patience)",
)


@dataclass(frozen=True)
class Request:
    """One request: the pieces of information (or steps) asked for; with ``any_of`` one of them is enough."""

    topics: frozenset[str]
    any_of: bool = False

    def met_by(self, asked: frozenset[str]) -> bool:
        """Whether a text that asks for ``asked`` asks for this."""
        if not self.topics:
            return bool(asked)
        if "choice" in self.topics and asked & _IDENTIFYING:
            asked = asked | {"choice"}
        return bool(self.topics & asked) if self.any_of else self.topics <= asked


@dataclass(frozen=True)
class Speech:
    """What a text does.

    Attributes:
        requests: what it asks the user for, courtesies (``anything else?``) not counted.
        actions: the kinds of action it speaks of (``refund``, ``cancel`` …), courtesies not counted.
        denies: it says that something cannot be done or is not there.
        denies_loosely: it holds any negation.
        denied: kinds of action that it says cannot be done.
        offered: kinds of action that it says can or will be done.
        negated: kinds of action in clauses with a negation.
        stated: kinds of action outside requests.
        performs: kinds of action in the speaker's own present (``we send a new one``): as good as done.
        reported: kinds of action in sentences that report something as done.
        results: kinds of action shown by what came of them (``your ticket is T405``).
        done: it reports an action as carried out (``has been cancelled``).
        done_loosely: the same, weaker wordings included (``is cancelled``, ``I cancelled``).
        closes: it says goodbye.
        words: number of words.
    """

    requests: tuple[Request, ...]
    actions: frozenset[str]
    denies: bool
    denies_loosely: bool
    denied: frozenset[str]
    offered: frozenset[str]
    negated: frozenset[str]
    stated: frozenset[str]
    performs: frozenset[str]
    reported: frozenset[str]
    results: frozenset[str]
    done: bool
    done_loosely: bool
    closes: bool
    words: int

    @property
    def asked(self) -> frozenset[str]:
        """Everything asked for; ``something`` where it asks for what no topic names."""
        return frozenset(topic for request in self.requests for topic in request.topics or {"something"})

    @property
    def act(self) -> str:
        """``asks``, ``denies``, ``reports``, ``closes`` or ``informs``: the first that applies."""
        if self.requests:
            return "asks"
        if self.denies:
            return "denies"
        if self.done:
            return "reports"
        return "closes" if self.closes else "informs"


def analyse(text: str) -> Speech:
    """Finds out what ``text`` does, by word lists for English service conversations."""
    sentences = sentences_of(text)
    plain = [sentence for sentence in sentences if not _is_courtesy(sentence)]
    core = " ".join(plain)
    clauses = [part for sentence in plain for part in re.split(r"[,;:]|\band\b|\bbut\b", sentence)]
    denied = [clause for clause in clauses if _DENY.search(clause)]
    offered = [clause for clause in clauses if _OFFER.search(clause) and not NEGATION.search(clause)]
    requests = tuple(
        request for index, part in enumerate(plain) if _is_request(part) for request in _requests(plain, index)
    )
    return Speech(
        requests=requests,
        actions=actions_of(core),
        denies=any(_DENY.search(part) for part in plain if not _conditional(part)),
        denies_loosely=any(NEGATION.search(part) for part in sentences),
        denied=actions_of(" . ".join(denied)),
        offered=actions_of(" . ".join(offered)),
        negated=actions_of(" . ".join(clause for clause in clauses if NEGATION.search(clause))),
        stated=actions_of(" ".join(part for part in plain if not _is_request(part))),
        performs=actions_of(" . ".join(match.group() for match in _PERFORMS.finditer(core))),
        reported=actions_of(" . ".join(clause for clause in clauses if _is_report(clause))),
        results=frozenset(name for name, pattern in _RESULTS.items() if pattern.search(core)),
        done=any(_reports(part, _DONE) for part in plain if not _conditional(part)),
        done_loosely=any(_reports(part, _DONE) or _reports(part, _DONE_LOOSELY) for part in plain),
        closes=bool(_CLOSE.search(text)) or (bool(sentences) and not plain),
        words=len(text.split()),
    )


def sentences_of(text: str) -> list[str]:
    """The sentences and lines of a text."""
    # A list's ``1.`` ends no sentence.
    text = re.sub(r"(?m)^\s*\(?\d{1,2}[.)]\s+", "- ", text)
    return [part for part in re.split(r"(?<=[.!?])\s+|\n+", text) if re.search(r"\w", part)]


def clauses_of(text: str) -> list[str]:
    """The clauses of a text, cut at commas, dashes, line ends and between ``and`` or ``but``; courtesies left out."""
    return [
        part
        for sentence in sentences_of(text)
        if not _is_courtesy(sentence)
        for part in re.split(r"(?<!\d),|,(?!\d)|[;:()]|\band\b|\bbut\b|\s[-–—]\s", sentence)
        if re.search(r"\w", part)
    ]


def actions_of(text: str) -> frozenset[str]:
    """The kinds of action that ``text`` speaks of (``refund``, ``cancel`` …)."""
    return frozenset(name for name, pattern in _ACTION.items() if pattern.search(text))


def conveyed(wanted: frozenset[str], given: Speech) -> frozenset[str]:
    """Which of the ``wanted`` kinds of action a text speaks of, in other words included."""
    said = given.actions | given.results
    return frozenset(action for action in wanted if ({action} | _MEETS.get(action, set())) & said)


def additional(wanted: frozenset[str], given: frozenset[str]) -> frozenset[str]:
    """The kinds of action in ``given`` that neither are ``wanted``, nor say the same, nor go with them."""
    allowed = set(wanted)
    for action in wanted:
        allowed |= _MEETS.get(action, set()) | _GOES_WITH.get(action, set())
    return given - allowed


def _is_report(sentence: str) -> bool:
    return _reports(sentence, _DONE) or _reports(sentence, _DONE_LOOSELY)


def _is_courtesy(sentence: str) -> bool:
    return bool(_COURTESY.search(sentence)) and not re.search(r"shall I|proceed|\bconfirm\b", sentence, re.I)


def _conditional(sentence: str) -> bool:
    return bool(re.match(r"\W*(?:if|once|when|after|before|unless|in case)\b", sentence, re.I))


def _is_request(sentence: str) -> bool:
    if sentence.rstrip(" *_\"'”’)").endswith("?"):
        return True
    if _conditional(sentence):
        # ``If …, please let me know`` is a courtesy, ``After that, please restart it`` is a step to take.
        courteous = re.match(r"\W*(?:if|in case|unless)\b", sentence, re.IGNORECASE)
        wanted = r"\bplease (?:confirm|provide)\b" if courteous else r",\s*please\b"
        return bool(re.search(wanted, sentence, re.IGNORECASE))
    return bool(_REQUEST.search(sentence))


def _requests(sentences: list[str], index: int) -> list[Request]:
    sentence = sentences[index]
    if _CONFIRM.search(_PURPOSE.sub("", sentence)):
        return [Request(frozenset({CONFIRMATION}))]
    # ``Could you please provide: 1. … 2. …`` lists what it wants; items marked as optional are not required.
    listed = []
    for part in sentences[index + 1 :]:
        if not _ITEM.match(part):
            break
        listed.append("" if _OPTIONAL.search(part) else part)
    text = " ".join([_SEQUEL.sub("", sentence), *listed])
    if not _topics(text) and _BACKWARD.search(sentence) and index > 0:
        text = sentences[index - 1]
    # ``your e-mail or phone, and your PIN`` are two requests; ``phone, id, or name and birth date`` is one.
    parts = re.split(r",\s*(?:and|plus|as well as)\b", text) if not re.search(r",\s*or\b", text) else [text]
    found = [Request(_topics(part), any_of=bool(_EITHER.search(part))) for part in parts]
    return [request for request in found if request.topics] or [Request(frozenset())]


# ``To proceed, I need your name`` asks for a name, not for a go-ahead.
_PURPOSE = re.compile(r"^\W*(?:in order )?to [^,?]{1,80},\s*", re.IGNORECASE)
# ``…, and I will look up your account``: what comes of the answer is not asked for.
_SEQUEL = re.compile(r"(?:,?\s*and|\bso(?: that)?)\s+(?:I|we)(?:['’]ll| will| can)?\b.*", re.IGNORECASE | re.DOTALL)
_EITHER = re.compile(r"\b(?:or|either)\b", re.IGNORECASE)
_ITEM = re.compile(r"\s*(?:[-*•–]|\(?\d{1,2}[.)])\s*")
_OPTIONAL = re.compile(r"\bif (?:you|any|applicable|known)|optional", re.IGNORECASE)
_BACKWARD = re.compile(r"\b(?:these|those|this|that|them|it|one)\b", re.IGNORECASE)


def _topics(text: str) -> frozenset[str]:
    return frozenset(name for name, pattern in _TOPIC.items() if pattern.search(text))


def _reports(sentence: str, pattern: re.Pattern[str]) -> bool:
    if sentence.rstrip().endswith("?"):
        return False
    return any(_DONE_WORD.match(word) for match in pattern.finditer(sentence) for word in match.groups() if word)
