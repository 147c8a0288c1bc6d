"""A corpus: documents with an id, a title, a text and an address, read from a folder or a JSONL file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pivotgym.envs.errors import BadInput, MissingExtra
from pivotgym.envs.formats.rows import Problems, iter_jsonl, read_text
from pivotgym.envs.trajectory import canonical_json, digest

PAGE_CHARS = 800
"""Characters of one page, unless said otherwise."""
_TEXT, _MARKDOWN, _HTML = {".txt", ".text"}, {".md", ".markdown"}, {".html", ".htm", ".xhtml"}
_FIELDS = ("id", "title", "text", "url")


@dataclass(frozen=True)
class Document:
    """One document.

    Attributes:
        id: its name in the corpus, as tools take it.
        title: one line.
        text: the whole text, paragraphs separated by blank lines.
        url: its address, or empty.
    """

    id: str
    title: str
    text: str
    url: str = ""


@dataclass(frozen=True)
class Passage:
    """One paragraph (or a part of a very long one) and the page it stands on.

    Attributes:
        number: 0-based, over the whole document.
        page: 1-based.
        text: the paragraph.
    """

    number: int
    page: int
    text: str


class Paged:
    """A document cut into pages at paragraphs; paragraphs longer than a page are cut at sentences or spaces.

    Args:
        document: what to cut.
        page_chars: no page is longer than this.
    """

    def __init__(self, document: Document, page_chars: int = PAGE_CHARS) -> None:
        self.document = document
        self.passages = tuple(_passages(document.text, page_chars))
        self.count = self.passages[-1].page if self.passages else 1

    def page(self, number: int) -> list[Passage]:
        """The passages of a page (1-based)."""
        return [passage for passage in self.passages if passage.page == number]


class Corpus:
    """Documents by id.

    Args:
        documents: in any order; they are kept sorted by id.

    Raises:
        BadInput: no document at all, or an id that is given twice.
    """

    def __init__(self, documents: Iterable[Document]) -> None:
        self.documents: Mapping[str, Document] = {one.id: one for one in _checked(documents)}
        if not self.documents:
            raise BadInput("a corpus needs at least one document", field="corpus")

    def __len__(self) -> int:
        return len(self.documents)

    @cached_property
    def digest(self) -> str:
        """Equal for corpora with the same documents."""
        return digest(canonical_json([[one.id, one.title, one.text, one.url] for one in self.documents.values()]))

    @cached_property
    def addresses(self) -> Mapping[str, str]:
        """Ids by URL; of two documents with one address the first."""
        found: dict[str, str] = {}
        for one in self.documents.values():
            if one.url:
                found.setdefault(one.url, one.id)
        return found


def load_corpus(path: str | Path) -> Corpus:
    """Reads a corpus.

    Args:
        path: a folder of ``.txt``, ``.md`` and ``.html`` files (ids are their paths below it; other files are left
            alone), or a JSONL file, plain or gzip, with rows ``{"id", "title", "text", "url"}``, of which ``id`` and
            ``text`` are needed.

    Raises:
        BadInput: nothing to read there, a row that is no document, or an id given twice; with file, line and field.
        MissingExtra: HTML files without the extra ``search``.
    """
    where = Path(path)
    if where.is_dir():
        return Corpus(_folder(where))
    if not where.is_file():
        raise BadInput("no such file or folder", file=where)
    return Corpus(_rows(where))


def text_of_html(html: str) -> tuple[str, str]:
    """Title and readable text of an HTML page: scripts, styles and navigation left out, blocks as paragraphs.

    Raises:
        MissingExtra: without the extra ``search``.
    """
    try:
        from bs4 import BeautifulSoup
    except ImportError as error:
        raise MissingExtra("beautifulsoup4", "search") from error
    soup = BeautifulSoup(html, "html.parser")
    title = soup.title.get_text(" ", strip=True) if soup.title is not None else ""
    if not title and (heading := soup.find(["h1", "h2"])) is not None:
        title = heading.get_text(" ", strip=True)
    for part in soup(["script", "style", "title", "noscript", "template", "head", "nav", "iframe", "svg"]):
        part.decompose()
    blocks = ["p", "div", "section", "article", "li", "tr", "h1", "h2", "h3", "h4", "h5", "h6", "pre", "blockquote"]
    for line_break in soup.find_all("br"):
        line_break.replace_with("\n")
    for block in soup.find_all([*blocks, "table", "ul", "ol", "dt", "dd", "header", "footer", "main", "figcaption"]):
        block.insert_before("\n\n")
        block.insert_after("\n\n")
    for cell in soup.find_all(["td", "th"]):
        cell.insert_after(" ")
    return " ".join(title.split()), _tidy(soup.get_text())


def _tidy(text: str) -> str:
    lines = [re.sub(r"[^\S\n]+", " ", line).strip() for line in text.splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _checked(documents: Iterable[Document]) -> Iterator[Document]:
    found: dict[str, Document] = {}
    for one in documents:
        if one.id in found:
            raise BadInput(f"two documents have the id {one.id!r}", field="id")
        found[one.id] = one
    yield from (found[name] for name in sorted(found))


def _folder(folder: Path) -> Iterator[Document]:
    known = _TEXT | _MARKDOWN | _HTML
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in known and path.is_file())
    if not paths:
        raise BadInput(f"no {', '.join(sorted(known))} file in this folder", file=folder)
    for path in paths:
        name, kind = path.relative_to(folder).as_posix(), path.suffix.lower()
        text = read_text(path) if path.stat().st_size else ""
        if kind in _HTML:
            title, text = text_of_html(text)
        else:
            title = _first_heading(text) if kind in _MARKDOWN else ""
        yield Document(id=name, title=title or path.stem.replace("_", " ").replace("-", " "), text=_tidy(text))


def _first_heading(text: str) -> str:
    found = re.search(r"^#{1,6}\s+(.+?)\s*#*\s*$", text, re.MULTILINE)
    return found.group(1) if found else ""


def _rows(path: Path) -> Iterator[Document]:
    seen: dict[str, int] = {}
    for row in iter_jsonl(path, Problems()):
        value, line = row.value, row.line
        if not isinstance(value, dict):
            raise BadInput(f"a document is a JSON object, not {type(value).__name__}", file=path, line=line)
        for field in _FIELDS:
            content = value.get(field)
            if content is None and field in ("title", "url"):
                continue
            if field == "id" and isinstance(content, int) and not isinstance(content, bool):
                continue
            if not isinstance(content, str):
                told = "is missing" if content is None else f"is a text, not {type(content).__name__}"
                raise BadInput(told, file=path, line=line, field=field)
            try:
                content.encode()
            except UnicodeEncodeError as error:
                raise BadInput("is no valid Unicode", file=path, line=line, field=field) from error
        name = str(value["id"])
        if not name.strip():
            raise BadInput("is empty", file=path, line=line, field="id")
        if name in seen:
            raise BadInput(f"{name!r} is also the id of line {seen[name]}", file=path, line=line, field="id")
        seen[name] = line
        title = " ".join((value.get("title") or name).split())
        yield Document(id=name, title=title, text=value["text"], url=value.get("url") or "")


def _passages(text: str, page_chars: int) -> Iterator[Passage]:
    page, used, number = 1, 0, 0
    for paragraph in re.split(r"\n\s*\n", text):
        for part in _parts(paragraph.strip(), page_chars):
            if used and used + 2 + len(part) > page_chars:
                page, used = page + 1, 0
            yield Passage(number, page, part)
            number += 1
            used += len(part) + (2 if used else 0)


def _parts(paragraph: str, limit: int) -> Sequence[str]:
    parts: list[str] = []
    while len(paragraph) > limit:
        ends = [found.end() for found in re.finditer(r"[.!?][\"')\]]*\s|\n", paragraph[:limit])]
        cut = ends[-1] if ends and ends[-1] > limit // 3 else paragraph.rfind(" ", limit // 3, limit) + 1
        cut = cut if cut > 0 else limit
        parts.append(paragraph[:cut].rstrip())
        paragraph = paragraph[cut:].lstrip()
    return [*parts, paragraph] if paragraph else parts
