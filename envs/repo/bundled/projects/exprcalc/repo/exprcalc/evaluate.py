"""The value of an expression tree."""

import math
import operator

from .tree import Call, Infix, Name, Number, Postfix, Prefix

OPERATORS = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "%": operator.mod,
    "^": operator.pow,
}
FUNCTIONS = {"sqrt": math.sqrt, "abs": abs, "min": min, "max": max}
CONSTANTS = {"pi": math.pi, "e": math.e}


def factorial(value):
    """Return ``value!``; ``value`` must be a whole number that is not negative."""
    if value < 0 or value != int(value):
        raise ValueError(f"no factorial of {value:g}")
    return float(math.factorial(int(value)))


def evaluate(node, variables=None):
    """Return the value of ``node``. A variable hides a constant of its name."""
    known = {**CONSTANTS, **(variables or {})}

    def value(node):
        if isinstance(node, Number):
            return node.value
        if isinstance(node, Name):
            if node.name not in known:
                raise NameError(f"unknown name {node.name!r}")
            return known[node.name]
        if isinstance(node, Infix):
            return OPERATORS[node.op](value(node.left), value(node.right))
        if isinstance(node, Prefix):
            return -value(node.operand) if node.op == "-" else value(node.operand)
        if isinstance(node, Postfix):
            return factorial(value(node.operand))
        if isinstance(node, Call):
            if node.name not in FUNCTIONS:
                raise NameError(f"unknown function {node.name!r}")
            return FUNCTIONS[node.name](*[value(arg) for arg in node.args])
        raise TypeError(f"no node: {node!r}")

    return value(node)
