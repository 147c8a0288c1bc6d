"""A top-down operator-precedence parser."""

from .lexer import ParseError, tokenize
from .tree import INFIX, POSTFIX, PREFIX, Call, Infix, Name, Number, Postfix, Prefix


class Parser:
    """Reads one expression from a list of tokens."""

    def __init__(self, tokens):
        self.tokens = tokens
        self.index = 0

    @property
    def current(self):
        """The token that comes next."""
        return self.tokens[self.index]

    def advance(self):
        """Return the next token and step over it."""
        token = self.current
        self.index += 1
        return token

    def expect(self, text):
        """Step over the operator ``text`` or complain."""
        if self.current.kind == "op" and self.current.text == text:
            return self.advance()
        raise ParseError(f"expected {text!r}", self.current.column)

    def expression(self, least=0):
        """Read an expression whose operators bind at least as tightly as ``least``."""
        node = self.operand()
        while self.current.kind == "op":
            op = self.current.text
            if op in POSTFIX and POSTFIX[op] >= least:
                self.advance()
                node = Postfix(op, node)
            elif op in INFIX and INFIX[op][0] >= least:
                self.advance()
                node = Infix(op, node, self.expression(INFIX[op][1]))
            else:
                break
        return node

    def operand(self):
        """Read a literal, a name, a call, a signed operand or a group."""
        token = self.advance()
        if token.kind == "number":
            return Number(float(token.text))
        if token.kind == "name":
            if self.current.text == "(":
                return Call(token.text, self.arguments())
            return Name(token.text)
        if token.text in PREFIX:
            return Prefix(token.text, self.expression(PREFIX[token.text]))
        if token.text == "(":
            node = self.expression()
            self.expect(")")
            return node
        if token.kind == "end":
            raise ParseError("unexpected end", token.column)
        raise ParseError(f"unexpected {token.text!r}", token.column)

    def arguments(self):
        """Read the arguments of a call, with their parentheses."""
        self.expect("(")
        args = []
        if self.current.text != ")":
            args.append(self.expression())
            while self.current.text == ",":
                self.advance()
                args.append(self.expression())
        self.expect(")")
        return tuple(args)


def parse(text):
    """Return the tree of the expression ``text``; raise :class:`ParseError` if there is none."""
    parser = Parser(tokenize(text))
    node = parser.expression()
    if parser.current.kind != "end":
        raise ParseError(f"unexpected {parser.current.text!r}", parser.current.column)
    return node
