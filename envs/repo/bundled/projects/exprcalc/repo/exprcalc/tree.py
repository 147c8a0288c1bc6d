"""The nodes of an expression tree, and how tightly the operators bind."""

from dataclasses import dataclass

# (left, right): an operator takes what stands beside it as an operand if that binds at least so tightly.
# left < right groups from left to right, left > right from right to left.
INFIX = {
    "+": (10, 11),
    "-": (10, 11),
    "*": (20, 21),
    "/": (20, 21),
    "%": (20, 21),
    "^": (31, 30),
}
PREFIX = {"-": 40, "+": 40}
POSTFIX = {"!": 50}
ATOM = 100


@dataclass(frozen=True)
class Number:
    """A literal."""

    value: float


@dataclass(frozen=True)
class Name:
    """A variable or a constant."""

    name: str


@dataclass(frozen=True)
class Call:
    """A function and its arguments."""

    name: str
    args: tuple


@dataclass(frozen=True)
class Infix:
    """An operator between two operands."""

    op: str
    left: object
    right: object


@dataclass(frozen=True)
class Prefix:
    """A sign before its operand."""

    op: str
    operand: object


@dataclass(frozen=True)
class Postfix:
    """An operator after its operand."""

    op: str
    operand: object


def binding(node):
    """Return how tightly the outermost operator of ``node`` binds."""
    if isinstance(node, Infix):
        return min(INFIX[node.op])
    if isinstance(node, Prefix):
        return PREFIX[node.op]
    if isinstance(node, Postfix):
        return POSTFIX[node.op]
    return ATOM
