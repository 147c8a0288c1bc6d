"""Templates: from the source to a tree of nodes, from the tree and the variables to the page."""

from tmpl.filters import FILTERS
from tmpl.markup import Markup, escape
from tmpl.scanner import pieces, words


class TemplateError(ValueError):
    """The source is no template. The message names the line."""


class Expression:
    """A variable or a literal with its filters."""

    def __init__(self, inside, line):
        self.line = line
        self.queue = words(inside)
        if not self.queue:
            raise TemplateError(f"line {line}: no expression: {inside!r}")
        self.start = self.atom()
        self.filters = []
        while self.queue:
            if self.queue.pop(0) != ("mark", "|"):
                raise TemplateError(f"line {line}: expected | in {inside!r}")
            self.filters.append(self.filter())

    def atom(self):
        """Read a literal, as ``Markup``, or the name of a variable."""
        kind, text = self.queue.pop(0) if self.queue else ("end", "")
        if kind == "text":
            return Markup(text[1:-1])
        if kind == "name":
            return tuple(text.split("."))
        raise TemplateError(f"line {self.line}: expected a value, not {text!r}")

    def filter(self):
        """Read the name and the arguments of a filter."""
        kind, name = self.queue.pop(0) if self.queue else ("end", "")
        if kind != "name" or name not in FILTERS:
            raise TemplateError(f"line {self.line}: no filter {name!r}")
        args = []
        if self.queue and self.queue[0] == ("mark", "("):
            while self.queue and self.queue.pop(0) != ("mark", ")"):
                args.append(self.atom())
        return FILTERS[name], args

    def value(self, scope):
        """Return the value of the expression; a missing variable is None."""
        value = resolve(self.start, scope)
        for function, args in self.filters:
            value = function(value, *[resolve(arg, scope) for arg in args])
        return value


def resolve(atom, scope):
    """Return a literal as it is and a variable's value from ``scope``."""
    if isinstance(atom, str):
        return atom
    value = scope
    for name in atom:
        value = value.get(name) if isinstance(value, dict) else getattr(value, name, None)
    return value


class Template:
    """A template, ready to be rendered any number of times."""

    def __init__(self, source):
        self.pieces = list(pieces(source))
        self.nodes, stop = self.block()
        if stop:
            raise TemplateError(f"{stop} without a beginning")

    def block(self):
        """Read nodes up to an ``else`` or ``end`` or the end of the source; return them and what stopped."""
        nodes = []
        while self.pieces:
            kind, text, line = self.pieces.pop(0)
            if kind == "text":
                nodes.append(("text", Markup(text)))
            elif kind == "value":
                nodes.append(("value", Expression(text, line)))
            elif text in ("else", "end"):
                return nodes, text
            elif text.startswith("if "):
                nodes.append(("if", Expression(text[3:], line), *self.branches(line)))
            elif text.startswith("for ") and " in " in text:
                name, _, values = text[4:].partition(" in ")
                nodes.append(("for", Expression(values, line), name.strip(), self.branches(line)[0]))
            else:
                raise TemplateError(f"line {line}: unknown tag {text!r}")
        return nodes, None

    def branches(self, line):
        """Read the nodes up to ``end``: those before and those after an ``else``."""
        first, stop = self.block()
        second = []
        if stop == "else":
            second, stop = self.block()
        if stop != "end":
            raise TemplateError(f"line {line}: no end")
        return first, second

    def render(self, **variables):
        """Return the page for these variables."""
        return str(self.fill(self.nodes, variables))

    def fill(self, nodes, scope):
        """Return the markup of ``nodes``."""
        page = Markup("")
        for kind, what, *more in nodes:
            if kind == "text":
                page += what
            elif kind == "value":
                value = what.value(scope)
                page += "" if value is None else escape(value)
            elif kind == "if":
                page += self.fill(more[0] if what.value(scope) else more[1], scope)
            else:
                for item in what.value(scope) or ():
                    page += self.fill(more[1], {**scope, more[0]: item})
        return page
