"""What differs between two states of a browser, as rows that can be compared, and what counts of a state."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from pivotgym.envs.trajectory import JsonObject, canonical_json

LISTS = ("tree", "tabs", "cookies", "told", "dialogs", "downloads")
"""Parts compared line by line; of the others each value."""
POSITION = ("focus", "mouse", "scroll", "selection", "clipboard", "now", "dialogs", "dom", "active")
"""Parts that say where the agent stands on the page rather than what the page has become."""
_UNSEEN = frozenset({"SCRIPT", "STYLE", "HEAD", "NOSCRIPT", "TEMPLATE"})
_ADDRESSES = frozenset({"href", "src", "action", "formaction"})
_PASSING = re.compile(r"hover|focus", re.IGNORECASE)
"""Classes that scripts put on whatever the mouse or the focus is on."""
_VISIBLE = ", visible"


def page_changes(before: JsonObject, after: JsonObject) -> list[JsonObject]:
    """Rows of ``part``, ``path``, ``before`` and ``after``, or for lists of ``part``, ``removed`` and ``added``."""
    rows: list[JsonObject] = []
    for part in sorted({*before, *after}):
        one, two = before.get(part), after.get(part)
        if part in LISTS:
            rows += _list_changes(part, one or [], two or [])
        else:
            _value_changes(part, "", one, two, rows)
    return rows


def content_of(state: JsonObject) -> JsonObject:
    """What a page and its browser have become, without :data:`POSITION` and what follows from it.

    Left out are also what was told to the user and what the page says of the task (often its reward, less by time).
    Fields stand in their order, not by id, as two ways to one page may number its elements otherwise.
    """
    fields = state["fields"]
    ordered = sorted(fields, key=_in_order)
    return {
        "address": [plain_url(state["url"]), *(plain_url(url) for url, _ in state["tabs"])],
        "tabs": [state["active"], *(title for _, title in state["tabs"])],
        "title": state["title"],
        "tree": [line.replace(_VISIBLE, "") for line in state["tree"]],
        "fields": {str(number): fields[name] for number, name in enumerate(ordered)},
        "storage": state["storage"],
        "cookies": state["cookies"],
        "downloads": state["downloads"],
    }


def visible_lines(state: JsonObject) -> dict[int, str]:
    """The lines of the tree that can be seen without scrolling, by their place in it."""
    return {place: line.strip().replace(_VISIBLE, "") for place, line in enumerate(state["tree"]) if _VISIBLE in line}


def plain_url(url: str) -> str:
    """An address with its parameters in order, empty ones and an empty fragment left out."""
    try:
        parts = urlsplit(url)
        query = sorted(pair for pair in parse_qsl(parts.query) if pair[1])
    except ValueError:
        return url
    return urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode(query), parts.fragment))


def same_document(one: str, other: str) -> bool:
    """Whether two addresses differ in their parameters at most."""
    return one.partition("#")[0].partition("?")[0] == other.partition("#")[0].partition("?")[0]


def element_lines(snapshot: JsonObject) -> list[str]:
    """The elements of Chromium's ``DOMSnapshot.captureSnapshot`` with attributes and values, and the texts.

    Much of what a page shows stands in no accessibility tree: what a class or a style marks as chosen, where a shape
    lies. Classes of hovering and focus are left out, as are scripts, styles and the inner parts of controls.
    """
    strings: Sequence[str] = [*snapshot["strings"], ""]  # no text is number -1
    return [line for document in snapshot["documents"] for line in _document_lines(document["nodes"], strings)]


def _document_lines(nodes: JsonObject, strings: Sequence[str]) -> Iterator[str]:
    texts: dict[int, str] = {}
    for key in ("inputValue", "textValue"):
        found = nodes.get(key, {"index": [], "value": []})
        texts.update(zip(found["index"], (strings[value] for value in found["value"]), strict=True))
    chosen = {index for key in ("inputChecked", "optionSelected") for index in nodes.get(key, {"index": []})["index"]}
    shadows = dict(zip(*(nodes["shadowRootType"][key] for key in ("index", "value")), strict=True))
    hidden: set[int] = set()
    for position, (parent, kind, name, value, attributes) in enumerate(
        zip(*(nodes[key] for key in ("parentIndex", "nodeType", "nodeName", "nodeValue", "attributes")), strict=True)
    ):
        tag = strings[name]
        inner = position in shadows and strings[shadows[position]] != "open"
        if parent in hidden or inner or tag.startswith("::") or tag.upper() in _UNSEEN:
            hidden.add(position)
        elif kind == 3:
            text = " ".join(strings[value].split())
            if text:
                yield f"{text!r}"
        elif kind == 1:
            parts = [tag.lower(), *_attributes(attributes, strings)]
            parts += [f"value {texts[position]!r}"] if position in texts else []
            parts += ["chosen"] if position in chosen else []
            yield " ".join(parts)


def _attributes(flat: Sequence[int], strings: Sequence[str]) -> Iterator[str]:
    pairs = sorted((strings[name], strings[value]) for name, value in zip(flat[::2], flat[1::2], strict=True))
    for name, value in pairs:
        if name == "class":
            value = " ".join(sorted(part for part in value.split() if not _PASSING.search(part)))
        elif name in _ADDRESSES:
            value = plain_url(value)
        if value or name not in ("class", "style"):
            yield f"{name}={value!r}"


def _in_order(name: str) -> tuple[str, int]:
    """Ids are letters for the frame and a number: ``b12`` behind ``b9``."""
    number = name.lstrip("abcdefghijklmnopqrstuvwxyz")
    return name[: len(name) - len(number)], int(number) if number.isdigit() else 0


def _list_changes(part: str, one: list[Any], two: list[Any]) -> list[JsonObject]:
    if one == two:
        return []
    old = [line.strip() if isinstance(line, str) else canonical_json(line) for line in one]
    new = [line.strip() if isinstance(line, str) else canonical_json(line) for line in two]
    removed, added = list[str](), list[str]()
    for kind, from_old, to_old, from_new, to_new in difflib.SequenceMatcher(None, old, new, False).get_opcodes():
        if kind != "equal":
            removed += old[from_old:to_old]
            added += new[from_new:to_new]
    return [{"part": part, "removed": removed, "added": added}]


def _value_changes(part: str, path: str, one: Any, two: Any, rows: list[JsonObject]) -> None:
    if one == two and type(one) is type(two):
        return
    if isinstance(one, dict) and isinstance(two, dict):
        for key in sorted({*map(str, one), *map(str, two)}):
            _value_changes(part, f"{path}.{key}" if path else key, one.get(key), two.get(key), rows)
        return
    rows.append({"part": part, "path": path, "before": one, "after": two})
