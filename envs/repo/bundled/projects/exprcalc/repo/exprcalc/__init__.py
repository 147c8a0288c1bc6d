"""Parse, evaluate and print arithmetic expressions."""

from .evaluate import evaluate
from .lexer import ParseError
from .parser import parse
from .printer import render


def calculate(text, variables=None):
    """Return the value of the expression ``text``."""
    return evaluate(parse(text), variables)


__all__ = ["ParseError", "calculate", "evaluate", "parse", "render"]
