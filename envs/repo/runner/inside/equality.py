# Plain Python 3.8, no annotations: it runs with the sandbox's interpreter.
# mypy: ignore-errors
"""Finds values that only claim to equal another one.

Runs inside the sandbox (Python 3.8 or later). A subclass of a built-in type may say of itself that it equals anything.
Where ``==`` said yes, and the built-in type's own comparison says no, it lied. No code of the values is run for that.

An object of another type whose class says what equals it is asked several times where it meets a plain value: whether
it equals that value, newly made each time, and whether it equals others of the same form, in no known order.
"""

import types

if __package__:
    from . import drawn
else:
    import drawn

_MOST = 20000
"""Parts of two values that are looked at."""
_PARTS = 300
"""Most parts of a plain value for which others are made up."""


def judging(eyes, violation, odd, planted, words, rng):
    """What judges equalities.

    Args:
        eyes: who is whose, see :mod:`witness`.
        violation: called with what happened; does not come back.
        odd: called where a value that passed for the expected one passes for others too.
        planted: the last planted value and the right one, in a list.
        words: names in the tests' files: a matcher of a library that they name may match much.
        rng: a source of chance.

    Returns:
        ``judge(result, first, second)``, for an equality that somebody else found; ``probed(first, second)``, both
        sides as they are to be compared and whether what was asked is odd; ``compare(first, second)``, the result of
        ``first == second``; ``holds(first, second)``, that of ``first in second``.
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

    plain_kinds = scalars | {complex, list, tuple, dict, set, frozenset}
    unlike, rebuilt, shuffle, size = drawn.unlike, drawn.rebuilt, rng.shuffle, rng.randrange

    def plain(value):
        """Whether a value is of built-in types alone, and small."""
        waiting, seen = [value], 0
        while waiting:
            each, seen = waiting.pop(), seen + 1
            kind = exact(each)
            if kind not in plain_kinds or seen > _PARTS:
                return False
            if kind is dict:
                waiting.extend(each)
                waiting.extend(each.values())
            elif kind in (list, tuple, set, frozenset):
                waiting.extend(each)
        return True

    def wilful(kind):
        """Whether a class of no built-in type has an equality of its own that may say anything."""
        for each in mro_of(kind):
            if each in bases:
                return doubtful(kind)
            found = space_of(each).get("__eq__")
            if found is None:
                continue
            if exact(found) is wrapper:
                return False
            if exact(found) is function and not theirs(code_of(found).co_filename):
                name = kind.__name__.lstrip("_")
                return not any(name.startswith((word, word.capitalize())) for word in words if len(word) > 2)
            return exact(found) is function or each.__module__ != "builtins"
        return False

    def holds_wilful(value):
        waiting, seen = [value], 0
        while waiting and seen < _PARTS:
            each, seen = waiting.pop(), seen + 1
            kind = exact(each)
            if kind in plain_kinds:
                if kind is dict:
                    waiting.extend(dict.values(each))
                elif kind not in scalars and kind is not complex:
                    waiting.extend(each)
            elif wilful(kind):
                return True
            else:
                base = base_of(kind)
                if base in (list, tuple, set, frozenset):
                    waiting.extend(base.__iter__(each))
                elif base is dict:
                    waiting.extend(dict.values(each))
        return False

    def asked(first, second):
        try:
            return (first == second) is True
        except Exception:
            return False

    def probed(first, second):
        if exact(first) in scalars and exact(second) in scalars:
            return first, second, False
        known = planted[0] if planted else None
        left, right = plain(first), plain(second)
        if left == right or not holds_wilful(second if left else first):
            return first, second, False
        value = first if left else second
        if known is not None and known[0] is value and plain(known[1]):
            # An honest equality may take a value that is near for the same.
            value = unlike(known[1], rng)
        turns = [True] * 3 + [False] * (4 + size(4))
        shuffle(turns)
        strange = False
        for same_value in turns:
            other = rebuilt(value if same_value else unlike(value, rng))
            answer = asked(other, second) if left else asked(first, other)
            strange = strange or answer is not same_value
        value = rebuilt(value)
        return (value, second, strange) if left else (first, value, strange)

    def compare(first, second):
        one, two, strange = probed(first, second)
        result = one == two
        del planted[:]
        if result is True and strange:
            odd()
        return judge(result, one, two)

    def holds(first, second):
        result = first in second
        kind = exact(second)
        if result is True and kind not in plain_kinds and plain(first):
            for each in mro_of(kind):
                found = space_of(each).get("__contains__")
                if found is not None:
                    if exact(found) is function and theirs(code_of(found).co_filename) and not refuses(first, second):
                        odd()
                    break
        return result

    def refuses(value, container):
        """Whether a container whose class says what is in it says no at times."""
        for _ in range(6):
            try:
                if (unlike(value, rng) in container) is not True:
                    return True
            except Exception:
                return True
        return False

    return judge, probed, compare, holds
