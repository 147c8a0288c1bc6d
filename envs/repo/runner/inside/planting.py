# Plain Python 3.8, no annotations: it runs with the sandbox's interpreter.
# mypy: ignore-errors
"""Marks and planted errors in the syntax tree of a test file. Runs inside the sandbox (Python 3.8 or later).

Every test function gets a mark at its start, one before every end, and one before and one behind every assertion that
is a statement of its own. A mark is a call with a token; what the runner gets back tells which way the test went.

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
    from .assertions import (
        HOLDS,
        JUDGE,
        MARK,
        MATCHERS,
        NAMES,
        NEVER,
        PAIR,
        RAISES,
        assertion,
        dotted,
        is_text,
        plant,
        wrong,
    )
    from .drawn import drawing
else:
    from assertions import (
        HOLDS,
        JUDGE,
        MARK,
        MATCHERS,
        NAMES,
        NEVER,
        PAIR,
        RAISES,
        assertion,
        dotted,
        is_text,
        plant,
        wrong,
    )
    from drawn import drawing

_PLAIN_DECORATORS = {
    "pytest.mark", "mark", "unittest.skip", "unittest.skipIf", "unittest.skipUnless", "skipIf", "skipUnless", "skip",
    "mock.patch", "patch", "unittest.mock.patch", "staticmethod", "classmethod", "given", "settings", "example",
    "hypothesis", "parameterized", "pytest.fixture", "ddt", "data", "unpack", "override_settings",
}  # fmt: skip
"""Decorators under which an exception of the test's body is the test's failure."""
_ONCE = (
    "pytest.mark", "mark", "unittest.skip", "unittest.skipIf", "unittest.skipUnless", "skipIf", "skipUnless", "skip",
    "mock.patch", "patch", "unittest.mock.patch", "staticmethod", "classmethod", "pytest.fixture",
)  # fmt: skip
"""Decorators that do not call a test more than once."""


def token(key, *parts):
    """What a mark says: nobody without the key knows it before the mark is reached."""
    return hmac.new(key.encode(), "\0".join(map(str, parts)).encode(), hashlib.sha256).hexdigest()[:20]


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
        self.local, self.asking = set(), set()

    def module(self, tree):
        """Changes ``tree`` and returns what stands where: a row of tokens for every test function."""
        self.local = {node.name for node in ast.walk(tree) if hasattr(node, "body") and hasattr(node, "name")}
        self.random = drawing("%s %s" % (self.key, self.path), tree)
        loads = {part.id for part in ast.walk(tree) if isinstance(part, ast.Name)}
        self.loads = loads | {part.attr for part in ast.walk(tree) if isinstance(part, ast.Attribute)}
        functions = [node for node in ast.walk(tree) if _is_function(node) and not node.name.startswith("test")]
        known = None
        while known != self.asking:
            known = self.asking
            self.asking = {node.name for node in functions if _holds_assertions(node, known)}
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
                    _helper(node)
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
        return bool(found) and not any(set(names) & (self.local | MATCHERS) or names == [""] for names in found)

    def first_wrong(self, name, count):
        """Number of the first assertion that is wrong in this run, of ``count`` in that test."""
        if self.twin is None or not count:
            return None
        if count <= self.twins:
            return self.twin % count
        # Spread over the test, the exact place drawn anew each time; the first one is always among them.
        low, high = self.twin * count // self.twins, (self.twin + 1) * count // self.twins
        return 0 if self.twin == 0 else random.Random("%s %s" % (self.key, name)).randrange(low, max(high, low + 1))


class _Function:
    def __init__(self, planter, node, name):
        self.planter, self.node, self.name = planter, node, name
        self.ends, self.after, self.right, self.before, self.must, self.caught = [], [], [], [], [], False

    def token(self, *parts):
        return token(self.planter.key, self.planter.path, self.name, *parts)

    def instrument(self):
        node, planter = self.node, self.planter
        generator = any(isinstance(part, (ast.Yield, ast.YieldFrom)) for part in _own(node))
        count = sum(1 for _ in self._assertions(node.body))
        self.first = planter.first_wrong(self.name, count)
        self.index = 0
        self.top = node.body
        body = self._block(node.body, hard=True)
        start = 1 if body and isinstance(body[0], ast.Expr) and is_text(body[0].value) else 0
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
            "before": [before for before, _ in self.before],
            "pairs": self.before,
            # What is asserted whatever way the test goes.
            "must": self.must,
            # That a value of the code under test claims to equal other values too.
            "odd": [self.token("odd")],
            "xfail": any("xfail" in name or "expectedFailure" in name for name in decorators),
            # Where its failure need not be the test's failure, only the marks count.
            "plain": plain and not self.caught and not generator,
        }

    def _assertions(self, body):
        """The assertions that count, in the order of the source."""
        for node in body:
            if assertion(node):
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
        return [mark, ast.copy_location(ast.Raise(wrong(near, NEVER), None), near)]

    def _block(self, body, hard, caught=False):
        done = []
        for node in body:
            kind = assertion(node) if hard else None
            asks = hard and (kind or self._asks(node))
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
            planted = kind and self.first is not None and number >= self.first
            if planted:
                plant(node, kind, self.planter.random, self.planter.calls)
            place = number if kind else "call %d" % len(self.before)
            before, text = self.token("before", place), self.token("after", place)
            if kind == "equal-call" and dotted(node.value).split(".")[-1] not in _NEAR:
                _witnessed(node.value, text)
            if asks:
                self.before.append([before, text])
                done.append(_call(MARK, before, node))
            done.append(node)
            if asks:
                (self.after if planted else self.right).append(text)
                done.append(_call(MARK, text, node))
                if body is self.top:
                    self.must.append(text)
        return done

    def _asks(self, node):
        """Whether a statement calls an assertion that cannot be made wrong, or a function of the file that has one."""
        if isinstance(node, ast.Expr) and isinstance(node.value, (ast.Call, ast.Await)):
            name = dotted(getattr(node.value, "value", node.value)).split(".")[-1]
            return _sounds(name, self.planter.asking)
        return False


_NEAR = ("assertAlmostEqual", "assertIs", "assertCountEqual")


def _is_function(node):
    return isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))


def _holds_assertions(function, known):
    """Whether a function of a test file that is no test asserts something, by itself or by one that is known to."""
    return any(
        isinstance(part, ast.Assert) or (isinstance(part, ast.Call) and _sounds(dotted(part).split(".")[-1], known))
        for part in ast.walk(function)
    )


def _sounds(name, known):
    return name in known or name.lower().lstrip("_").startswith(("assert", "check", "verify"))


def _helper(function):
    """Hands the sides of equalities in a helper of the tests to the runner. Nothing is wrong there in a twin."""
    for node in ast.walk(function):
        if assertion(node) == "equal-call" and dotted(node.value).split(".")[-1] not in _NEAR:
            _witnessed(node.value, "")


def _witnessed(call, text):
    """Hands both sides of an equality to the runner on their way."""
    both = ast.Call(ast.Name(PAIR, ast.Load()), [ast.Constant(text), *call.args[:2]], [])
    call.args[:2] = [ast.Starred(both, ast.Load())]
    for part in (call.args[0], both, both.func, both.args[0]):
        ast.copy_location(part, call)


def judged(tree):
    """Has the runner compare both sides of every ``==`` and ``in`` of rewritten assertions, in place."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Compare):
            continue
        test, target = node.value, node.targets[0]
        if (
            isinstance(target, ast.Name)
            and target.id.startswith("@py_assert")
            and _one_of(test)
            and all(isinstance(side, (ast.Name, ast.Constant)) for side in (test.left, *test.comparators))
        ):
            node.value = _handed(test)


def judged_as_written(tree):
    """The same where pytest could not rewrite the assertions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert) and isinstance(node.test, ast.Compare) and _one_of(node.test):
            node.test = _handed(node.test)


def _one_of(test):
    return [type(operator) for operator in test.ops] in ([ast.Eq], [ast.In])


def _handed(test):
    """The call that makes a comparison."""
    name = ast.Name(JUDGE if isinstance(test.ops[0], ast.Eq) else HOLDS, ast.Load())
    made = ast.Call(ast.copy_location(name, test), [test.left, *test.comparators], [])
    return ast.copy_location(made, test)


class _Names(ast.NodeTransformer):
    def visit_Name(self, node):
        return ast.copy_location(ast.Constant(node.id), node) if node.id in NAMES else node


def assembled(tree, path):
    """Code of a tree with texts where :func:`embedded` puts objects."""
    tree = _Names().visit(tree)
    for part in ast.walk(tree):
        # pytest's own nodes have a first line only; an ancestor's last one may be before it.
        if getattr(part, "lineno", None) is not None and getattr(part, "end_lineno", None) is None:
            part.end_lineno, part.end_col_offset = part.lineno, part.col_offset
    ast.fix_missing_locations(tree)
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
        return bool(names & (RAISES | {"suppress"}))
    return bool(getattr(node, "handlers", []))


def _leaves(node):
    return isinstance(node, (ast.Return, ast.Raise, ast.Continue, ast.Break))


def _catches_all(handler):
    return handler.type is None or "BaseException" in ast.dump(handler.type)


def _call(name, text, near):
    made = ast.Expr(ast.Call(ast.Name(name, ast.Load()), [ast.Constant(text)], []))
    for part in ast.walk(made):
        ast.copy_location(part, near)
    return made
