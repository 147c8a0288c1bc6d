"""Functions that do not compute the same thing twice."""

import functools

from cachebox.core import CacheBox

_ABSENT = object()


def remember(capacity, weigh=None):
    """Decorator: keep the results of the calls used last. Arguments must be hashable."""

    def decorate(function):
        box = CacheBox(capacity, weigh)

        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            key = (args, tuple(sorted(kwargs.items())))
            result = box.get(key, _ABSENT)
            if result is _ABSENT:
                result = function(*args, **kwargs)
                box[key] = result
            return result

        wrapper.box = box
        return wrapper

    return decorate
