# Plain Python 3.8, no annotations: it runs with the sandbox's interpreter.
# mypy: ignore-errors
"""Marks and planted errors in the syntax tree of a test file. Runs inside the sandbox (Python 3.8 or later).

Every test function gets a mark at its start, one before every end, and one behind every assertion that is a statement
of its own. A mark is a call with a token; what the runner gets back tells which way the test went.

In a *twin* the assertions are wrong: another literal, an object that nothing equals, a negated condition, an exception
that nothing raises. Correct code cannot come to the mark behind such an assertion. The end of a twin raises.
"""

import ast
import hashlib
import hmac
import random
import types
import warnings

if __package__:  # the host reads the same trees
    from .drawn import _longer, drawing, other_literal
else:
    from drawn import _longer, drawing, other_literal

MARK, OTHER, WRONG, NEVER = "@pg_mark", "@pg_other", "@pg_value", "@pg_error"
JUDGE, PAIR = "@pg_judge", "@pg_pair"
"""Names that no source text can hold. In the code that runs, the objects are in their place (:func:`embedded`)."""

_PLAIN_DECORATORS = {
    "pytest.mark", "mark", "unittest.skip", "unittest.skipIf", "unittest.skipUnless", "skipIf", "skipUnless", "skip",
    "mock.patch", "patch", "unittest.mock.patch", "staticmethod", "classmethod", "given", "settings", "example",
    "hypothesis", "parameterized", "pytest.fixture", "ddt", "data", "unpack", "override_settings",
}  # fmt: skip
"""Decorators under which an exception of the test's body is the test's failure."""
_EQUALS = {
    "assertEqual", "assertEquals", "assertListEqual", "assertTupleEqual", "assertDictEqual", "assertSetEqual",
    "assertMultiLineEqual", "assertSequenceEqual", "assertCountEqual", "assertAlmostEqual", "assertIs",
}  # fmt: skip
_MATCHERS = {
    "pytest", "approx", "mock", "ANY", "call", "unittest", "dirty_equals", "numpy", "np", "pandas", "pd", "math", "re",
    "testfixtures", "hamcrest", "callee",
}  # fmt: skip
"""Names in calls whose result may equal many values."""
_ONCE = (
    "pytest.mark", "mark", "unittest.skip", "unittest.skipIf", "unittest.skipUnless", "skipIf", "skipUnless", "skip",
    "mock.patch", "patch", "unittest.mock.patch", "staticmethod", "classmethod", "pytest.fixture",
)  # fmt: skip
"""Decorators that do not call a test more than once."""
_RAISES = {"raises", "assertRaises", "assertRaisesRegex", "assertRaisesRegexp"}


def token(key, *parts):
    """What a mark says: nobody without the key knows it before the mark is reached."""
    return hmac.new(key.encode(), "\0".join(map(str, parts)).encode(), hashlib.sha256).hexdigest()[:20]


def dotted(node):
    """``a.b.c`` of an attribute chain, decorator calls taken off; empty for anything else."""
    while isinstance(node, ast.Call):
        node = node.func
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return ".".join([node.id] + names[::-1]) if isinstance(node, ast.Name) else ""


class Planter:
    """Instruments one module.

    Args:
        key: of the run, for the tokens.
        path: of the file, part of the tokens.
        twin: None for the genuine run, else a number: which of its assertions a test has wrong from there on.
        twins: how many there are.
    """

    def __init__(self, key, path, twin, twins):
        self.key, self.path, self.twin, self.twins = key, path, twin, twins
        self.random = random.Random("%s %s" % (key, path))
        self.table = {}
        self.local = set()

    def module(self, tree):
        """Changes ``tree`` and returns what stands where: a row of tokens for every test function."""
        self.local = {node.name for node in ast.walk(tree) if hasattr(node, "body") and hasattr(node, "name")}
        self.random = drawing("%s %s" % (self.key, self.path), tree)
        loads = {part.id for part in ast.walk(tree) if isinstance(part, ast.Name)}
        self.loads = loads | {part.attr for part in ast.walk(tree) if isinstance(part, ast.Attribute)}
        self._suite(tree.body, "")
        ast.fix_missing_locations(tree)
        return self.table

    def _suite(self, body, prefix):
        for node in body:
            if isinstance(node, ast.ClassDef):
                self._suite(node.body, prefix + node.name + ".")
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                if node.name.startswith("test"):
                    _Function(self, node, prefix + node.name).instrument()
                else:
                    # Classes of tests that a function makes.
                    classes = [part for part in ast.walk(node) if isinstance(part, ast.ClassDef)]
                    self._suite(classes, prefix + node.name + ".<locals>.")
            elif isinstance(node, (ast.If, ast.Try, ast.With)):
                for name in ("body", "orelse", "finalbody"):
                    self._suite(getattr(node, name, []), prefix)
                for handler in getattr(node, "handlers", []):
                    self._suite(handler.body, prefix)

    def calls(self, node):
        """Whether an expression is a call of the code under test, as far as that can be seen."""
        found = [dotted(part).split(".") for part in ast.walk(node) if isinstance(part, ast.Call)]
        return bool(found) and not any(set(names) & (self.local | _MATCHERS) or names == [""] for names in found)

    def first_wrong(self, name, count):
        """Number of the first assertion that is wrong in this run, of ``count`` in that test."""
        if self.twin is None or not count:
            return None
        if count <= self.twins:
            return self.twin % count
        # Spread over the test, the exact place drawn anew each time; the first one is always among them.
        low, high = self.twin * count // self.twins, (self.twin + 1) * count // self.twins
        return 0 if self.twin == 0 else random.Random("%s %s" % (self.key, name)).randrange(low, max(high, low + 1))


def only_for_parameters(tree):
    """Names of a module that its functions never use: tables for ``parametrize``, done with after the collection."""
    made, used, texts = set(), set(), []
    for node in tree.body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            made.update(target.id for target in targets if isinstance(target, ast.Name))
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for part in node.body:
                used.update(name.id for name in ast.walk(part) if isinstance(name, ast.Name))
        elif isinstance(node, ast.Lambda):
            used.update(name.id for name in ast.walk(node.body) if isinstance(name, ast.Name))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.append(node.value)
        elif isinstance(node, ast.Delete):
            used.update(name.id for name in ast.walk(node) if isinstance(name, ast.Name))
    spoken = "\n".join(texts)
    return sorted(name for name in made - used if not name.startswith("__") and name not in spoken)


class _Function:
    def __init__(self, planter, node, name):
        self.planter, self.node, self.name = planter, node, name
        self.ends, self.after, self.right, self.caught = [], [], [], False

    def token(self, *parts):
        return token(self.planter.key, self.planter.path, self.name, *parts)

    def instrument(self):
        node, planter = self.node, self.planter
        generator = any(isinstance(part, (ast.Yield, ast.YieldFrom)) for part in _own(node))
        count = sum(1 for _ in self._assertions(node.body))
        self.first = planter.first_wrong(self.name, count)
        self.index = 0
        body = self._block(node.body, hard=True)
        start = 1 if body and isinstance(body[0], ast.Expr) and _is_text(body[0].value) else 0
        begin = self.token("start")
        if not _leaves(body[-1]):
            body += self._end(body[-1])
        body.insert(start, _call(MARK, begin, body[start] if start < len(body) else body[-1]))
        node.body = body
        decorators = [dotted(item) for item in node.decorator_list]
        plain = all(any(name == known or name.startswith(known + ".") for known in _PLAIN_DECORATORS)
                    for name in decorators)  # fmt: skip
        once = all(any(name == known or name.startswith(known + ".") for known in _ONCE)
                   and not name.endswith(("flaky", "repeat")) for name in decorators)  # fmt: skip
        planter.table[self.name] = {
            "start": begin,
            # The tests' own code calls it.
            "called": node.name in planter.loads,
            "repeats": not once,
            "ends": self.ends,
            "wrong": self.after,
            "right": self.right,
            "xfail": any("xfail" in name or "expectedFailure" in name for name in decorators),
            # Where its failure need not be the test's failure, only the marks count.
            "plain": plain and not self.caught and not generator,
        }

    def _assertions(self, body):
        """The assertions that count, in the order of the source."""
        for node in body:
            if _assertion(node):
                yield node
            if _catches(node):
                continue
            for block in _blocks(node):
                yield from self._assertions(block)

    def _end(self, near):
        text = self.token("end", len(self.ends))
        self.ends.append(text)
        mark = _call(MARK, text, near)
        if self.planter.twin is None:
            return [mark]
        return [mark, ast.copy_location(ast.Raise(_wrong(near, NEVER), None), near)]

    def _block(self, body, hard, caught=False):
        done = []
        for node in body:
            kind = _assertion(node) if hard else None
            inner = hard and not _catches(node)
            caught_here = caught or any(_catches_all(handler) for handler in getattr(node, "handlers", []))
            number = self.index
            if kind:
                self.index += 1
            for block in _blocks(node):
                block[:] = self._block(block, inner, caught_here)
            if isinstance(node, ast.Return):
                self.caught = self.caught or caught
                done += self._end(node)
            wrong = kind and self.first is not None and number >= self.first
            if wrong:
                plant(node, kind, self.planter.random, self.planter.calls)
            text = self.token("after", number)
            if kind == "equal-call" and dotted(node.value).split(".")[-1] not in _NEAR:
                _witnessed(node.value, text)
            done.append(node)
            if kind:
                (self.after if wrong else self.right).append(text)
                done.append(_call(MARK, text, node))
        return done


_NEAR = ("assertAlmostEqual", "assertIs", "assertCountEqual")


def _witnessed(call, text):
    """Hands both sides of an equality to the runner on their way."""
    both = ast.Call(ast.Name(PAIR, ast.Load()), [ast.Constant(text), *call.args[:2]], [])
    call.args[:2] = [ast.Starred(both, ast.Load())]
    for part in (call.args[0], both, both.func, both.args[0]):
        ast.copy_location(part, call)


def judged(tree):
    """Hands the outcome and both sides of every ``==`` of rewritten assertions to the runner, in place."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Compare):
            continue
        test, target = node.value, node.targets[0]
        sides = [test.left, *test.comparators]
        if (
            isinstance(target, ast.Name)
            and target.id.startswith("@py_assert")
            and [type(operator) for operator in test.ops] == [ast.Eq]
            and all(isinstance(side, (ast.Name, ast.Constant)) for side in sides)
        ):
            again = [ast.Name(side.id, ast.Load()) if isinstance(side, ast.Name) else side for side in sides]
            node.value = ast.Call(ast.Name(JUDGE, ast.Load()), [test, *again], [])
            for part in (node.value, node.value.func, *again):
                ast.copy_location(part, test)


class _Names(ast.NodeTransformer):
    def visit_Name(self, node):
        known = node.id in (MARK, OTHER, WRONG, NEVER, JUDGE, PAIR)
        return ast.copy_location(ast.Constant(node.id), node) if known else node


def assembled(tree, path):
    """Code of a tree with texts where :func:`embedded` puts objects."""
    tree = ast.fix_missing_locations(_Names().visit(tree))
    with warnings.catch_warnings():
        # That a text is called.
        warnings.simplefilter("ignore")
        return compile(tree, path, "exec", dont_inherit=True)


def embedded(code, objects):
    """The code with objects in the place of their names: nothing but the code itself leads to them."""

    def put(thing):
        if isinstance(thing, types.CodeType):
            return embedded(thing, objects)
        if type(thing) is str:
            return objects.get(thing, thing)
        return type(thing)([put(item) for item in thing]) if type(thing) in (tuple, frozenset) else thing

    return code.replace(co_consts=tuple(put(item) for item in code.co_consts))


def _own(function):
    """The nodes of a function without those of the functions in it."""
    waiting = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            waiting.extend(ast.iter_child_nodes(node))


def _blocks(node):
    """The lists of statements in a statement that run as part of it."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return []
    blocks = [
        getattr(node, name) for name in ("body", "orelse", "finalbody") if isinstance(getattr(node, name, 0), list)
    ]
    for part in getattr(node, "handlers", []) + getattr(node, "cases", []):
        blocks.append(part.body)
    return [block for block in blocks if block and isinstance(block[0], ast.stmt)]


def _catches(node):
    """Whether a failure of what stands in a statement may go no further: wrong assertions there say nothing."""
    if isinstance(node, (ast.With, ast.AsyncWith)):
        names = {dotted(item.context_expr).split(".")[-1] for item in node.items}
        return bool(names & (_RAISES | {"suppress"}))
    return bool(getattr(node, "handlers", []))


def _leaves(node):
    return isinstance(node, (ast.Return, ast.Raise, ast.Continue, ast.Break))


def _catches_all(handler):
    return handler.type is None or "BaseException" in ast.dump(handler.type)


def _is_text(node):
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _call(name, text, near):
    made = ast.Expr(ast.Call(ast.Name(name, ast.Load()), [ast.Constant(text)], []))
    for part in ast.walk(made):
        ast.copy_location(part, near)
    return made


def _assertion(node):
    """What kind of assertion a statement is, and None for one that cannot be made wrong with certainty."""
    if isinstance(node, ast.Assert):
        return "assert"
    if isinstance(node, (ast.With, ast.AsyncWith)):
        for item in node.items:
            call = item.context_expr
            if isinstance(call, ast.Call) and dotted(call).split(".")[-1] in _RAISES and len(call.args) >= 1:
                return "raises" if len(node.items) == 1 else None
        return None
    if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Call):
        return None
    call = node.value
    if any(isinstance(arg, ast.Starred) for arg in call.args[:2]):
        return None
    name = dotted(call)
    method = name.split(".")[-1]
    if method in _RAISES and len(call.args) >= 2:
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
        node.items[0].context_expr.args[0] = _wrong(node, NEVER)
    elif kind == "raises-call":
        node.value.args[0] = _wrong(node, NEVER)
    elif kind == "equal-call":
        node.value.args[:2] = _unequal(node.value.args[0], node.value.args[1], rng, side)
    elif kind == "truth-call":
        node.value.args[0] = _negated(node.value.args[0])
    elif kind == "none-call":
        pair = ast.Tuple([node.value.args[0], _wrong(node, WRONG)], ast.Load())
        node.value.args[0] = ast.Subscript(pair, _index(1), ast.Load())
    elif kind == "in-call":
        # Another number may well be in there too; a text with a word more is not.
        text = _is_text(node.value.args[0]) and node.value.args[0].value
        node.value.args[0] = _longer(node.value.args[0], rng) if text else _wrong(node, WRONG)
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
        if isinstance(test.ops[0], ast.In) and _is_text(test.left) and test.left.value:
            test.left = _longer(test.left, rng)
            return test
        if isinstance(test.ops[0], ast.Is):
            test.comparators[0] = _wrong(test, WRONG)
            return test
    return _negated(test)


def _negated(test):
    return ast.copy_location(ast.UnaryOp(ast.Not(), test), test)


def _wrong(near, name):
    return ast.copy_location(ast.Name(name, ast.Load()), near)


def _unequal(left, right, rng, side):
    """Both sides of an equality, one of them wrong: the literal if there is one, since that is what is expected."""
    other = other_literal(right, rng)
    if other is not None:
        return [left, other]
    other = other_literal(left, rng)
    if other is not None:
        return [other, right]
    # The right side is what is expected, but for `expected == call()`: what the code under test gives stays as it is.
    # What a test library or the test's own file gives (`approx`, a matcher) may equal many values: it is exchanged.
    matcher = any(isinstance(part, ast.Call) for part in ast.walk(left)) and not side(left)
    return [_other_than(left), right] if matcher or (side(right) and not side(left)) else [left, _other_than(right)]


def _other_than(node):
    """A call that makes another value of the same type when the test runs."""
    return ast.copy_location(ast.Call(_wrong(node, OTHER), [node], []), node)
