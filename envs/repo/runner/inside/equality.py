# Plain Python 3.8, no annotations: it runs with the sandbox's interpreter.
# mypy: ignore-errors
"""Finds values that only claim to equal another one.

Runs inside the sandbox (Python 3.8 or later). A subclass of a built-in type may say of itself that it equals anything.
Where ``==`` said yes, and the built-in type's own comparison says no, it lied. No code of the values is run.
"""

import types

_MOST = 20000
"""Parts of two values that are looked at."""


def judging(eyes, violation):
    """``judge(result, first, second)``, which gives ``result`` back.

    Args:
        eyes: who is whose, see :mod:`witness`.
        violation: called with what happened; does not come back.
    """
    bases = (str, bytes, bool, int, float, list, tuple, dict, set, frozenset)
    scalars = frozenset((str, bytes, bool, int, float, type(None)))
    mro_of, space_of = type.__dict__["__mro__"].__get__, type.__dict__["__dict__"].__get__
    function, wrapper = types.FunctionType, type(int.__eq__)
    code_of, globals_of, theirs = function.__code__.__get__, function.__globals__.__get__, eyes.theirs
    exact = type

    def base_of(kind):
        for each in mro_of(kind):
            if each in bases:
                return each
        return None

    def doubtful(kind):
        """Whether equality of a subclass is not the base's and not a library's own."""
        for each in mro_of(kind):
            if each in bases:
                return False
            found = space_of(each).get("__eq__")
            if found is None:
                continue
            if exact(found) is wrapper:
                return found.__objclass__ is not each
            if exact(found) is not function or theirs(code_of(found).co_filename):
                return True
            # A library's function in a class that is not that library's.
            return globals_of(found).get(each.__qualname__.split(".")[0]) is None or found.__qualname__ != (
                each.__qualname__ + ".__eq__"
            )
        return False

    def same(first, second, state):
        """True, False, or None where the built-in types do not say."""
        state[0] += 1
        if state[0] > _MOST:
            return None
        if first is second:
            return True
        one, two = exact(first), exact(second)
        base, other = base_of(one), base_of(two)
        if base is None or other is None:
            return True if one is exact(None) and two is one else None
        if one is not base and not state[1]:
            state[1] = doubtful(one)
        if two is not other and not state[1]:
            state[1] = doubtful(two)
        if base in (bool, int, float):
            if other not in (bool, int, float):
                return False
            left = float.__add__(first, 0.0) if base is float else int.__add__(first, 0)
            right = float.__add__(second, 0.0) if other is float else int.__add__(second, 0)
            return left == right
        if base in (str, bytes):
            return base is other and base.__eq__(first, second)
        if base in (list, tuple):
            if other not in (list, tuple):
                return False
            if base.__len__(first) != other.__len__(second):
                return False
            return together(zip(base.__iter__(first), other.__iter__(second)), state)
        if base is dict:
            if other is not dict or dict.__len__(first) != dict.__len__(second):
                return False
            keys = list(dict.__iter__(first)) + list(dict.__iter__(second))
            if any(exact(key) not in scalars for key in keys):
                return None
            left, right = dict(dict.items(first)), dict(dict.items(second))
            if any(key not in right for key in left):
                return False
            return together([(left[key], right[key]) for key in left], state)
        if other not in (set, frozenset):
            return False
        if base.__len__(first) != other.__len__(second):
            return False
        left, right = list(base.__iter__(first)), list(other.__iter__(second))
        if any(exact(item) not in scalars for item in left + right):
            return None
        return set(left) == set(right)

    def together(pairs, state):
        answer = True
        for first, second in pairs:
            found = same(first, second, state)
            if found is False:
                # Another part may be the doubtful one.
                answer = False
            elif found is None and answer:
                answer = None
            if answer is False and state[1]:
                return False
        return answer

    def judge(result, first, second):
        if result is True:
            one, two = exact(first), exact(second)
            if one in scalars and two in scalars:
                return result
            state = [0, False]
            try:
                lied = same(first, second, state) is False and state[1]
            except Exception:
                # Deeper than the interpreter goes, or changed by another thread.
                lied = False
            if lied:
                violation("an object that claims to be equal: %s" % (one if one not in bases else two).__name__)
        return result

    return judge
