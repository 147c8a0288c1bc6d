# Plain Python 3.8, no annotations: it runs with the sandbox's interpreter.
# mypy: ignore-errors
"""What an assertion is, and how it is made wrong. Runs inside the sandbox (Python 3.8 or later)."""

import ast

if __package__:  # the host reads the same trees
    from .drawn import _longer, other_literal
else:
    from drawn import _longer, other_literal

MARK, OTHER, WRONG, NEVER = "@pg_mark", "@pg_other", "@pg_value", "@pg_error"
JUDGE, HOLDS, PAIR = "@pg_judge", "@pg_holds", "@pg_pair"
NAMES = frozenset((MARK, OTHER, WRONG, NEVER, JUDGE, HOLDS, PAIR))
"""Names that no source text can hold. In the code that runs, the objects are in their place (``planting.embedded``)."""

_EQUALS = {
    "assertEqual", "assertEquals", "assertListEqual", "assertTupleEqual", "assertDictEqual", "assertSetEqual",
    "assertMultiLineEqual", "assertSequenceEqual", "assertCountEqual", "assertAlmostEqual", "assertIs",
}  # fmt: skip
MATCHERS = {
    "pytest", "approx", "mock", "ANY", "call", "unittest", "dirty_equals", "numpy", "np", "pandas", "pd", "math", "re",
    "testfixtures", "hamcrest", "callee",
}  # fmt: skip
"""Names in calls whose result may equal many values."""
RAISES = {"raises", "assertRaises", "assertRaisesRegex", "assertRaisesRegexp"}


def dotted(node):
    """``a.b.c`` of an attribute chain, decorator calls taken off; empty for anything else."""
    while isinstance(node, ast.Call):
        node = node.func
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return ".".join([node.id] + names[::-1]) if isinstance(node, ast.Name) else ""


def is_text(node):
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def assertion(node):
    """What kind of assertion a statement is, and None for one that cannot be made wrong with certainty."""
    if isinstance(node, ast.Assert):
        return "assert"
    if isinstance(node, (ast.With, ast.AsyncWith)):
        for item in node.items:
            call = item.context_expr
            if isinstance(call, ast.Call) and dotted(call).split(".")[-1] in RAISES and len(call.args) >= 1:
                return "raises" if len(node.items) == 1 else None
        return None
    if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Call):
        return None
    call = node.value
    if any(isinstance(arg, ast.Starred) for arg in call.args[:2]):
        return None
    name = dotted(call)
    method = name.split(".")[-1]
    if method in RAISES and len(call.args) >= 2:
        return "raises-call"
    if not name.startswith("self."):
        return None
    if method in _EQUALS and len(call.args) >= 2:
        # With places or a delta another value may be near enough.
        near = method == "assertAlmostEqual" and (len(call.args) > 2 or call.keywords)
        return None if near else "equal-call"
    if method in ("assertTrue", "assertFalse", "assert_") and call.args:
        return "truth-call"
    if method == "assertIsNone" and call.args:
        return "none-call"
    return "in-call" if method == "assertIn" and len(call.args) >= 2 else None


def plant(node, kind, rng, side):
    """Makes an assertion wrong, in place."""
    if kind == "raises":
        node.items[0].context_expr.args[0] = wrong(node, NEVER)
    elif kind == "raises-call":
        node.value.args[0] = wrong(node, NEVER)
    elif kind == "equal-call":
        node.value.args[:2] = _unequal(node.value.args[0], node.value.args[1], rng, side)
    elif kind == "truth-call":
        node.value.args[0] = _negated(node.value.args[0])
    elif kind == "none-call":
        pair = ast.Tuple([node.value.args[0], wrong(node, WRONG)], ast.Load())
        node.value.args[0] = ast.Subscript(pair, _index(1), ast.Load())
    elif kind == "in-call":
        # Another number may well be in there too; a text with a word more is not.
        text = is_text(node.value.args[0]) and node.value.args[0].value
        node.value.args[0] = _longer(node.value.args[0], rng) if text else wrong(node, WRONG)
    else:
        node.test = _false(node.test, rng, side)


def _index(number):
    constant = ast.Constant(number)
    return getattr(ast, "Index")(constant) if _OLD_INDEX else constant


_OLD_INDEX = not isinstance(ast.parse("a[1]", mode="eval").body.slice, ast.Constant)


def _false(test, rng, side):
    """An expression that is false where ``test`` is true."""
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        test.values[0] = _false(test.values[0], rng, side)
        return test
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        if isinstance(test.ops[0], ast.Eq):
            test.left, test.comparators[0] = _unequal(test.left, test.comparators[0], rng, side)
            return test
        if isinstance(test.ops[0], ast.In) and is_text(test.left) and test.left.value:
            test.left = _longer(test.left, rng)
            return test
        if isinstance(test.ops[0], ast.Is):
            test.comparators[0] = wrong(test, WRONG)
            return test
    return _negated(test)


def _negated(test):
    return ast.copy_location(ast.UnaryOp(ast.Not(), test), test)


def wrong(near, name):
    return ast.copy_location(ast.Name(name, ast.Load()), near)


def _unequal(left, right, rng, side):
    """Both sides of an equality, one of them wrong: the literal if there is one, since that is what is expected."""
    other = other_literal(right, rng)
    if other is not None:
        return [left, _other_than(right, other)]
    other = other_literal(left, rng)
    if other is not None:
        return [_other_than(left, other), right]
    # The right side is what is expected, but for `expected == call()`: what the code under test gives stays as it is.
    # What a test library or the test's own file gives (`approx`, a matcher) may equal many values: it is exchanged.
    matcher = any(isinstance(part, ast.Call) for part in ast.walk(left)) and not side(left)
    return [_other_than(left), right] if matcher or (side(right) and not side(left)) else [left, _other_than(right)]


def _other_than(node, *other):
    """A call that gives another value when the test runs: a literal in its place, or one of the same type."""
    return ast.copy_location(ast.Call(wrong(node, OTHER), [node, *other], []), node)
