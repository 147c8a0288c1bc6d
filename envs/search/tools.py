"""The four tools: ``search``, ``open``, ``find`` and ``answer``, typed functions over a :class:`Session`."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field

from pivotgym.envs.search.corpus import Paged
from pivotgym.envs.search.engine import Hit, Unreadable, cut_around
from pivotgym.envs.search.ranking import fold
from pivotgym.envs.search.view import Session
from pivotgym.envs.tools.schema import ToolError, ToolFunction

MATCHES_SHOWN = 8
"""Matches of ``find`` shown at once."""
MATCH_CHARS = 320
MAX_ANSWER = 2000
MAX_RESULTS = 20

Words = Annotated[str, Field(min_length=1, max_length=500)]


def search(session: Session, query: Words, k: Annotated[int, Field(ge=1, le=MAX_RESULTS)] = 5) -> str:
    """Finds documents by words; the best come first, each with the piece of its text that fits best.

    Args:
        query: a few words of what is looked for.
        k: how many documents to show.
    """
    if not query.strip():
        raise ToolError("query is empty")
    hits = session.engine.search(query, k, recorded_only=session.replaying)
    known = {hit[0] for hit in session.view.hits}
    new = tuple((hit.id, hit.title, hit.url) for hit in _distinct(hits) if hit.id not in known)
    session.move(query=query, results=tuple(hit.id for hit in hits), hits=session.view.hits + new)
    session.shown.documents += [hit.id for hit in hits]
    if not hits:
        return "No documents found."
    return "\n".join(_told(position, hit) for position, hit in enumerate(hits, 1))


def open(session: Session, document: Words, page: Annotated[int, Field(ge=1)] = 1) -> str:
    """Opens a document and shows one page of it.

    Args:
        document: its id, as search results show it in brackets.
        page: which page, from 1.
    """
    paged, name = _read(session, document)
    if page > paged.count:
        raise ToolError(f"[{name}] has {paged.count} page{'s' if paged.count > 1 else ''}, there is no page {page}")
    place = (name, page)
    seen = session.view.read
    session.move(document=name, page=page, find=None, position=0, read=seen if place in seen else (*seen, place))
    passages = paged.page(page)
    session.shown.places.add(place)
    session.shown.passages |= {(name, passage.number) for passage in passages}
    lines = [f"[{name}] {paged.document.title} (page {page} of {paged.count})"]
    if paged.document.url:
        lines.append(paged.document.url)
    return "\n\n".join(["\n".join(lines), *(passage.text for passage in passages)])


def find(session: Session, text: Words) -> str:
    """Finds a text in the open document, on all its pages, in any case. Asked again, it shows the next passages.

    Args:
        text: a word or a phrase.
    """
    if session.view.document is None:
        raise ToolError("no document is open")
    wanted = " ".join(fold(text).split())
    if not wanted:
        raise ToolError("text is empty")
    paged, name = _read(session, session.view.document)
    found = [one for one in paged.passages if wanted in " ".join(fold(one.text).split())]
    again = session.view.find == text
    begin = session.view.position if again and session.view.position < len(found) else 0
    part = found[begin : begin + MATCHES_SHOWN]
    session.move(find=text, position=begin + len(part), page=part[0].page if part else session.view.page)
    session.shown.passages |= {(name, passage.number) for passage in part}
    if not found:
        return f"{text!r} is not in [{name}] {paged.document.title}."
    which = f" (showing {begin + 1} to {begin + len(part)})" if len(part) < len(found) else ""
    head = f"{len(found)} passage{'s' if len(found) > 1 else ''} of [{name}] {paged.document.title}{which}:"
    lines = [f"page {passage.page}: {_around(passage.text, text)}" for passage in part]
    return "\n".join([head, *lines])


def answer(session: Session, text: Annotated[str, Field(min_length=1, max_length=MAX_ANSWER)]) -> str:
    """Gives the final answer to the question and ends.

    Args:
        text: the answer alone, as short as possible.
    """
    if not text.strip():
        raise ToolError("text is empty")
    if session.view.answer is not None:
        raise ToolError("an answer was already given")
    session.move(answer=text)
    return "Answer received."


FUNCTIONS: tuple[ToolFunction, ...] = (search, open, find, answer)


def _read(session: Session, document: str) -> tuple[Paged, str]:
    engine = session.engine
    hit = session.view.hit(document)
    if hit is None and engine.needs_hits:
        raise ToolError(f"no search has shown a document {document!r}")
    name, url = (hit[0], hit[2]) if hit is not None else (document, "")
    try:
        paged = engine.read(name, url, recorded_only=session.replaying)
    except Unreadable as problem:
        raise ToolError(f"[{name}] cannot be read: {problem}") from problem
    if paged is None:
        raise ToolError(f"there is no document {document!r}")
    return paged, paged.document.id


def _distinct(hits: list[Hit]) -> list[Hit]:
    return list({hit.id: hit for hit in reversed(hits)}.values())[::-1]


def _told(position: int, hit: Hit) -> str:
    where = f" (page {hit.page} of {hit.pages})" if hit.pages > 1 else ""
    address = f" {hit.url}" if hit.url and hit.url != hit.id else ""
    return f"{position}. [{hit.id}] {hit.title}{address}{where}\n   {' '.join(hit.snippet.split())}".rstrip()


def _around(text: str, wanted: str) -> str:
    """The sentences around the first match, at most :data:`MATCH_CHARS` characters, which always hold the match."""
    plain = " ".join(text.split())
    if len(plain) <= MATCH_CHARS:
        return plain
    pattern = r"\s+".join(re.escape(word) for word in wanted.split())
    found = re.search(pattern, plain, re.IGNORECASE)
    if found is None:  # spelt with other accents
        return cut_around(plain, wanted, MATCH_CHARS)
    start = max(0, found.start() - MATCH_CHARS // 2)
    start = plain.find(" ", start) + 1 if start else 0
    start = min(start, found.start())
    end = max(found.end(), start + MATCH_CHARS)
    cut = plain.rfind(" ", found.end(), end) if end < len(plain) else len(plain)
    end = cut if cut > 0 else end
    return ("… " if start else "") + plain[start:end] + (" …" if end < len(plain) else "")
