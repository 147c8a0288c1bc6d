# Plain Python 3.8, no annotations: it runs with the sandbox's interpreter.
# mypy: ignore-errors
"""Other values in the place of expected ones, drawn so that they do not look planted. Runs inside the sandbox."""

import ast
import random


def other_literal(node, rng):
    """A literal of the same form with another value; None where ``node`` is no literal."""
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    return _other(node, rng)


def _other(node, rng):
    if isinstance(node, ast.UnaryOp):
        inner = _other(node.operand, rng)
        return inner and ast.copy_location(ast.UnaryOp(node.op, inner), node)
    if isinstance(node, ast.Constant):
        value = _other_value(node.value, rng)
        return None if value is None else ast.copy_location(ast.Constant(value), node)
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        kind = type(node)
        # One changed element of a set may come to equal another one; a word more cannot.
        items = list(node.elts)
        for place in [] if kind is ast.Set else rng.sample(range(len(items)), len(items)):
            made = _other(items[place], rng)
            if made is not None:
                items = items[:place] + [made] + items[place + 1 :]
                break
        else:
            known = {item.value for item in items if isinstance(item, ast.Constant)}
            items = [*items, ast.Constant(_word(rng, known))]
        made = ast.Set(items) if kind is ast.Set else kind(items, ast.Load())
        return _located(made, node)
    if isinstance(node, ast.Dict):
        values = list(node.values)
        for place in rng.sample(range(len(values)), len(values)):
            made = _other(values[place], rng)
            if made is not None:
                values[place] = made
                return _located(ast.Dict(list(node.keys), values), node)
        known = {item.value for item in node.keys if isinstance(item, ast.Constant)}
        return _located(ast.Dict([*node.keys, ast.Constant(_word(rng, known))], [*values, ast.Constant(1)]), node)
    return None


def _located(made, node):
    for part in ast.walk(made):
        if not hasattr(part, "lineno"):
            ast.copy_location(part, node)
    return made


def _word(rng, known=()):
    """A text that may be any other one of the file."""
    texts = [text for text in getattr(rng, "pool", {}).get(str, ()) if text not in known and 2 < len(text) < 30]
    return rng.choice(texts) if texts else "".join(rng.choice("aeionrstl") for _ in range(rng.randrange(5, 9)))


def _longer(node, rng):
    """A text that what holds the literal does not hold: it goes on with the letters of another one, mixed."""
    letters = list(node.value + _word(rng, (node.value,)) + _word(rng))
    rng.shuffle(letters)
    while len(letters) < 8:
        letters += letters
    return ast.copy_location(ast.Constant(node.value + "".join(letters[:12])), node)


def drawing(seed, tree=None):
    """A source of chance that also knows the literals of a module, by type: planted values look like those."""
    made, pool = random.Random(seed), {}
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.Constant) and type(node.value) in (int, float, str, bytes):
            pool.setdefault(type(node.value), set()).add(node.value)
    made.pool = {kind: sorted(values) for kind, values in pool.items()}
    return made


def _changed(text, rng):
    """Another text of the same looks: shorter, in another order, or with another character."""
    for _ in range(8):
        place = rng.randrange(len(text)) if text else 0
        way = rng.randrange(3)
        if way == 0 and len(text) > 1:
            made = text[:place] + text[place + 1 :]
        elif way == 1 and len(text) > 1:
            other = rng.randrange(len(text))
            low, high = sorted((place, other))
            made = text[:low] + text[high : high + 1] + text[low + 1 : high] + text[low : low + 1] + text[high + 1 :]
        else:
            made = text[:place] + (rng.choice(text) if text else "a") + text[place:]
        if made != text:
            return made
    return text + (text[-1:] or "a")


def another(value, rng, wrong, depth=0):
    """A value of the same type that does not equal ``value``, for types where that is certain; else ``wrong``."""
    kind = type(value)
    if kind in (bool, int, float, complex, str, bytes):
        made = _other_value(value, rng)
        return wrong if made == value else made
    if kind in (list, tuple) and depth < 20:
        items = list(value)
        if not items:
            return kind([_word(rng)])
        place = rng.randrange(len(items))
        items[place] = another(items[place], rng, wrong, depth + 1)
        return kind(items)
    if kind is dict and depth < 20:
        if not value:
            return {_word(rng): 1}
        place = rng.choice(list(value))
        return {key: another(item, rng, wrong, depth + 1) if key is place else item for key, item in value.items()}
    if kind in (set, frozenset):
        return kind([*value, _word(rng, value)])
    return wrong


def unlike(value, rng, depth=0):
    """A value of the same form that nothing takes for ``value``: no other spelling, order or rounding of it."""
    kind = type(value)
    if kind is str:
        if not any(letter.isalnum() for letter in value):
            return _word(rng) + rng.choice("bdkmp") * 3
        made = value
        while sum(one != two for one, two in zip(made.lower(), value.lower())) * 2 <= sum(map(str.isalnum, value)):
            made = "".join(_letter(letter, rng) for letter in value)
        return made
    if kind is bytes:
        return unlike(value.decode("latin-1"), rng).encode("latin-1", "replace")
    if kind is bool:
        return not value
    if kind is int:
        if abs(value) >= 1 << 600:
            return value // 3 + rng.randrange(1 << 60)
        low, made = max(10 ** (len(str(abs(value))) - 1), 2), abs(value)
        while made == abs(value):
            made = rng.choice((low, 3 * low + 1, 5 * low + 3, 7 * low + 2)) + rng.randrange(low // 2)
        return -made if value < 0 else made
    if kind is float:
        return value * rng.choice((-3.5, 7.25, 0.125)) + rng.choice((5, 11)) if abs(value) < 1e15 else rng.random()
    if kind in (list, tuple) and value and depth < 20:
        return kind([unlike(item, rng, depth + 1) for item in value])
    if kind is dict and value and depth < 20:
        return {key: unlike(item, rng, depth + 1) for key, item in value.items()}
    if kind in (set, frozenset) and value:
        return kind([unlike(item, rng, depth + 1) for item in value] + [_word(rng, value)])
    return {list: ["x"], tuple: ("x",), dict: {"x": 1}, set: {"x"}, frozenset: frozenset("x")}.get(kind, "none")


def _letter(letter, rng):
    if letter.isdigit():
        return rng.choice("123456789")
    if letter.isalpha():
        made = rng.choice("abcdefghiklmnoprstuvwy")
        return made.upper() if letter.isupper() else made
    return letter


def rebuilt(value):
    """The same value of built-in types, in objects that nothing else refers to."""
    kind = type(value)
    if kind is str:
        return "".join(list(value))
    if kind is bytes:
        return bytes(bytearray(value))
    if kind is int:
        return int(str(value)) if abs(value) < 1 << 600 else value + 0
    if kind is float:
        return float.fromhex(value.hex())
    if kind in (list, tuple, set, frozenset):
        return kind([rebuilt(item) for item in value])
    if kind is dict:
        return {rebuilt(key): rebuilt(item) for key, item in value.items()}
    return value


def _other_value(value, rng):
    if isinstance(value, bool):
        return not value
    pool = [item for item in getattr(rng, "pool", {}).get(type(value), ()) if item != value]
    if isinstance(value, int):
        near = [value + 1, value + 2] if value == 0 else [value + 1, value - 1]
        # The negative of a planted zero would equal it.
        return rng.choice(near + [item for item in pool if item]) or value + 1
    if isinstance(value, float):
        far = [item for item in pool if abs(item - value) > 1e-3 * (1 + abs(value))]
        if far and rng.random() < 0.5:
            return rng.choice(far)
        return (
            value * 2 + rng.choice((1, 0.5, 3))
            if value == value and 0 <= value < 1e300
            else value - 1.5
            if (value == value and abs(value) < 1e15)
            else 0.5
        )
    if isinstance(value, complex):
        return value * 2 + 3
    if isinstance(value, str):
        near = [text for text in pool if 0.5 <= (len(text) + 1) / (len(value) + 1) <= 2]
        return rng.choice(near) if near and rng.random() < 0.5 else _changed(value, rng)
    if isinstance(value, bytes):
        text = _changed(value.decode("latin-1"), rng)
        return text.encode("latin-1")
    return None
