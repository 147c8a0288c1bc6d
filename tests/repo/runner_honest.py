"""Honest code with what libraries do, and its tests."""

from __future__ import annotations

from runner_honest_tests import HONEST_TEST

__all__ = ["HONEST", "HONEST_TEST"]

HONEST = """
import asyncio
import collections
import contextlib
import dataclasses
import enum
import functools
import inspect
import logging
import os
import pickle
import subprocess
import sys
import traceback
import typing
import warnings


class Color(enum.Enum):
    RED = 1


Point = collections.namedtuple("Point", "x y")


@dataclasses.dataclass
class Item:
    name: str
    count: int = 0


class Strict:
    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return self.value == other.value

    __hash__ = None


def add(a, b):
    logging.getLogger(__name__).warning("adding %s", a, stack_info=False)
    return a + b


def report():
    try:
        raise ValueError("no")
    except ValueError:
        logging.exception("seen")
        return traceback.format_exc()


def old():
    warnings.warn("old", DeprecationWarning, stacklevel=2)


def parameters(function):
    return list(inspect.signature(function).parameters)


def source(function):
    return inspect.getsource(function)


def wrapped(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        return function(*args, **kwargs)
    return inner


def hints():
    return typing.get_type_hints(Item)


def child():
    return subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True, text=True, check=True).stdout


def swallow(function):
    with contextlib.suppress(AssertionError):
        function()
    return 1


def expects(kind):
    def decorate(function):
        @functools.wraps(function)
        def inner(*args, **kwargs):
            try:
                function(*args, **kwargs)
            except kind:
                return
            raise AssertionError("not raised")
        return inner
    return decorate


@functools.total_ordering
class Version:
    # Zeros at the end say nothing; texts are versions too.

    def __init__(self, text):
        self.text = text
        self.key = [int(part) for part in text.split(".")]
        while self.key and not self.key[-1]:
            self.key.pop()

    def __eq__(self, other):
        return self.key == (other if isinstance(other, Version) else Version(other)).key

    def __lt__(self, other):
        return self.key < Version(str(other)).key

    def __str__(self):
        return self.text

    __hash__ = None


class Folded:
    def __init__(self, text):
        self.text = text

    def __eq__(self, other):
        return self.text.lower() == str(other).lower()

    def __contains__(self, text):
        return text.lower() in self.text.lower()


class Row:
    # Compares by what it holds, with any sequence.

    def __init__(self, *items):
        self.items = items

    def __iter__(self):
        return iter(self.items)

    def __eq__(self, other):
        return list(self) == list(other)


@contextlib.contextmanager
def refuses(kind):
    try:
        yield
    except kind:
        return
    raise AssertionError("not raised")


def forked(function):
    pid = os.fork()
    if pid == 0:
        os._exit(function())
    return os.waitpid(pid, 0)[1] >> 8


async def later(value):
    await asyncio.sleep(0)
    return value


def numbers():
    yield from range(3)


def roundtrip(value):
    return pickle.loads(pickle.dumps(value))
"""
