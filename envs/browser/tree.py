"""What a page looks like to an agent: Chromium's accessibility tree with element ids, as text.

The layout of the lines is the one BrowserGym's recordings have, so that recorded and replayed observations can be
compared: ``[18] checkbox 'I agree', clickable, visible, checked='false'``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pivotgym.envs.trajectory import JsonObject

ENTERED, CLOSED = "+", "-"
"""Marks in the page's list of ids: the frame just named could be looked into, or not."""
_LEFT_OUT_ROLES = frozenset({"InlineTextBox", "LineBreak", "ListMarker", "none"})
_LEFT_OUT = frozenset(
    {"editable", "readonly", "level", "settable", "multiline", "invalid", "focusable", "url", "labelledby"}
)
_FLAGS = frozenset({"required", "focused", "atomic", "busy"})
_NAMED_APART = frozenset(
    {"RootWebArea", "WebArea", "Iframe", "dialog", "alertdialog", "form", "group", "radiogroup", "region", "main"}
    | {"navigation", "complementary", "banner", "contentinfo", "search", "article", "document", "application", "figure"}
    | {"table", "grid", "treegrid", "tree", "list", "listbox", "menu", "menubar", "tablist", "tabpanel", "toolbar"}
)
"""Roles whose name is given to them, not made of the text in them: what it says may stand in them as well."""
MAX_NAME = 2000


class PageMoved(Exception):
    """The page changed while it was read."""


@dataclass
class Element:
    """What the layout says of one element."""

    id: str
    clickable: bool = False
    visible: bool = False
    drawing: bool = False
    """Whether it is an ``svg``."""


@dataclass
class Document:
    """The elements of a page and its frames, by Chromium's own node ids."""

    elements: dict[int, Element] = field(default_factory=dict)
    frames: dict[int, str] = field(default_factory=dict)
    texts: dict[int, str] = field(default_factory=dict)


def read_snapshot(snapshot: JsonObject, ids: Sequence[str], view: tuple[float, float]) -> Document:
    """Pairs the elements of ``DOMSnapshot.captureSnapshot`` with the ids the page gave them, in document order.

    Args:
        snapshot: Chromium's answer.
        ids: what the page says its elements are called.
        view: width and height of the window, in CSS pixels.

    Raises:
        PageMoved: they are not the same elements.
    """
    found = Document()
    strings, documents = snapshot["strings"], snapshot["documents"]
    given = iter(ids)
    try:
        if documents:
            _read_document(documents, 0, strings, given, found, view)
    except StopIteration:
        raise PageMoved("elements appeared") from None
    if next(given, None) is not None:
        raise PageMoved("elements went away")
    return found


def _read_document(
    documents: Sequence[JsonObject],
    index: int,
    strings: Sequence[str],
    given: Iterator[str],
    found: Document,
    view: tuple[float, float],
) -> None:
    document = documents[index]
    nodes, layout = document["nodes"], document["layout"]
    parents, types, names, values, backends = (
        nodes[key] for key in ("parentIndex", "nodeType", "nodeName", "nodeValue", "backendNodeId")
    )
    inner = dict(zip(*(nodes["contentDocumentIndex"][key] for key in ("index", "value")), strict=True))
    shadows = dict(zip(*(nodes["shadowRootType"][key] for key in ("index", "value")), strict=True))
    clickable = set(nodes["isClickable"]["index"])
    boxes = dict(zip(layout["nodeIndex"], layout["bounds"], strict=True))
    hidden: set[int] = set()
    for position, parent in enumerate(parents):
        if parent in hidden or (position in shadows and strings[shadows[position]] != "open"):
            hidden.add(position)
            continue
        if types[position] == 3:
            found.texts[backends[position]] = strings[values[position]] if values[position] >= 0 else ""
        if types[position] != 1 or strings[names[position]].startswith("::"):
            if types[position] == 1:
                hidden.add(position)
            continue
        element = Element(next(given), position in clickable, drawing=strings[names[position]] == "svg")
        box = boxes.get(position)
        if box is not None and box[2] > 0 and box[3] > 0:
            # Half of it has to be seen. A frame is taken to be as large as the window.
            x, y = box[0] - document.get("scrollOffsetX", 0.0), box[1] - document.get("scrollOffsetY", 0.0)
            element.visible = _shown(x, y, box[2], box[3], view)
        found.elements[backends[position]] = element
        if strings[names[position]] in ("IFRAME", "FRAME"):
            entered = next(given)
            if position in inner and entered == ENTERED:
                below = documents[inner[position]]
                found.frames[backends[position]] = strings[below["frameId"]]
                _read_document(documents, inner[position], strings, given, found, view)


def _shown(x: float, y: float, width: float, height: float, view: tuple[float, float]) -> bool:
    across = max(0.0, min(x + width, view[0]) - max(x, 0.0))
    down = max(0.0, min(y + height, view[1]) - max(y, 0.0))
    return across * down >= 0.5 * width * height


@dataclass(frozen=True)
class Line:
    """One line of the tree; ``plain`` is the same without element ids and focus, for comparing states."""

    depth: int
    text: str
    plain: str


def tree_lines(
    trees: Mapping[str | None, Sequence[JsonObject]], document: Document, *, generic: bool = True
) -> list[Line]:
    """The accessibility tree as lines.

    Args:
        trees: ``Accessibility.getFullAXTree``'s nodes by frame id; None for the page itself.
        document: its elements.
        generic: also list elements without a role of their own that can be clicked.
    """
    lines: list[Line] = []
    _walk(trees, None, document, generic, 0, lines)
    return lines


def _walk(
    trees: Mapping[str | None, Sequence[JsonObject]],
    frame: str | None,
    document: Document,
    generic: bool,
    depth: int,
    lines: list[Line],
) -> None:
    nodes = trees.get(frame) or ()
    if not nodes:
        return
    by_id = {node["nodeId"]: node for node in nodes}
    # A stack, not recursion: a page may nest as deep as it likes.
    stack: list[tuple[JsonObject, int, str]] = [(nodes[0], depth, "")]
    while stack:
        node, level, above = stack.pop()
        node = _label_shown(node, by_id, document)
        line = _line(node, level, above, document, generic)
        below, name = level, above
        role = node.get("role", {}).get("value")
        if line is not None:
            lines.append(line)
            below, name = level + 1, "" if role in _NAMED_APART else str(node.get("name", {}).get("value", ""))
        if not generic:  # BrowserGym compares a text with the node right above it, shown or not
            unnamed = node.get("ignored") or role in _LEFT_OUT_ROLES
            name = "" if unnamed else str(node.get("name", {}).get("value", ""))
        if line is None or node.get("role", {}).get("value") != "StaticText":
            for child in reversed(node.get("childIds", ())):
                if child in by_id:
                    stack.append((by_id[child], below, name))
        inner = document.frames.get(node.get("backendDOMNodeId", -1))
        if inner is not None and inner in trees:
            _walk(trees, inner, document, generic, below, lines)


def _label_shown(node: JsonObject, by_id: Mapping[str, JsonObject], document: Document) -> JsonObject:
    """Labels of controls and their text, which newer versions of Chromium leave out: an agent may click them."""
    if not node.get("ignored"):
        return node
    if _is_label(node):
        return {**node, "ignored": False, "role": {"value": "LabelText"}, "name": {"value": ""}}
    text = document.texts.get(node.get("backendDOMNodeId", -1))
    parent = by_id.get(node.get("parentId", ""))
    if text is not None and text.strip() and parent is not None and _is_label(parent):
        return {**node, "ignored": False, "role": {"value": "StaticText"}, "name": {"value": text}}
    return node


def _is_label(node: JsonObject) -> bool:
    return any(reason["name"] == "labelFor" for reason in node.get("ignoredReasons", ()))


def _line(node: JsonObject, depth: int, above: str, document: Document, generic: bool) -> Line | None:
    role = node.get("role", {}).get("value", "")
    if node.get("ignored") or role in _LEFT_OUT_ROLES or "name" not in node:
        return None
    name = str(node["name"].get("value", "")).replace("\xa0", " ").strip()[:MAX_NAME]
    if role == "StaticText" and (name in above if name else generic):
        return None  # told already; or white space, which Chromium lists or not by how its line was laid out when
    element = document.elements.get(node.get("backendDOMNodeId", -1))
    attributes = list(_attributes(node))
    clickable = element is not None and element.clickable
    if role == "generic" and not attributes and not (generic and clickable):
        return None
    drawing = role == "SvgRoot" or (role in ("image", "img") and element is not None and element.drawing)
    if drawing and generic and not (name or clickable or any(part != "focused" for part in attributes)):
        return None  # Chromium lists it or not by when it first looked: before the drawing's parts were there, or after
    text = f"{role} {name!r}"
    value = node.get("value", {}).get("value")
    if value is not None and value != "":
        number = not generic and not isinstance(value, str)  # BrowserGym gives a number as such
        text += f" value={value!r}" if number else f" value={str(value)[:MAX_NAME]!r}"
    flags: list[str] = []
    if element is not None:
        flags += ["clickable"] if element.clickable else []
        flags += ["visible"] if element.visible else []
    shown = ", ".join([text, *flags, *attributes])
    plain = ", ".join([text, *flags, *(part for part in attributes if part != "focused")])
    if element is not None:
        shown = f"[{element.id}] {shown}"
    return Line(depth, "\t" * depth + shown, "\t" * depth + plain)


def _attributes(node: JsonObject) -> Iterator[str]:
    for found in node.get("properties", ()):
        name, value = found["name"], found.get("value", {}).get("value")
        if name in _LEFT_OUT or value is None:
            continue
        if name in _FLAGS:
            if value:
                yield name
        else:
            yield f"{name}={value!r}"
