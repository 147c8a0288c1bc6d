"""Playwright scripts in Python, as recorders write them: parsed, never run."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pivotgym.envs.formats.playwright_steps import Chain, Part, Pattern, Step, Unreadable, step_of

_FLAGS = {"I": "i", "IGNORECASE": "i", "M": "m", "MULTILINE": "m", "S": "s", "DOTALL": "s"}
_MAKERS = ("launch", "launch_persistent_context", "new_context", "connect", "connect_over_cdp", "start")
_SETUP = frozenset({"browser", "context", "playwright", "p", "asyncio", "pytest"})


class Wrong(Exception):
    """A statement that cannot be used, and its line."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(problem)
        self.line, self.problem = line, problem


@dataclass
class Script:
    """What one function of a file does.

    Attributes:
        name: of the function; ``""`` for the file itself.
        steps: in order.
        notes: what stands behind the last step.
        viewport: width and height in CSS pixels, where the script sets them.
        given: there is a page: a test is handed one, other scripts make it.
        pages: the variables that hold pages.
        popups: what opened a window, by the variable that tells of it.
        awaited: variables that hold something else an action brought, such as a download.
    """

    name: str
    steps: list[Step] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    viewport: tuple[int, int] | None = None
    given: bool = False
    pages: list[str] = field(default_factory=lambda: ["page"])
    popups: dict[str, Step] = field(default_factory=dict)
    awaited: list[str] = field(default_factory=list)

    def add(self, step: Step, line: int, text: str) -> None:
        """Appends a step; the notes so far stand before it."""
        step.line, step.text, step.notes = line, text, self.notes
        self.notes = []
        self.steps.append(step)

    def opened(self, name: str) -> None:
        """The script makes a page: a tab, but for the first one."""
        if self.given:
            self.pages.append(name)
            self.add(Step(kind="new_tab", page=name, opens=name), 0, "")
        else:
            self.given, self.pages = True, [name]


def read_python(source: str) -> list[Script]:
    """The scripts of a file: one for each function that does something, and the file itself. Raises Wrong."""
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise Wrong(error.lineno or 1, f"not Python: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise Wrong(1, f"not Python: {error}") from error
    scripts: list[Script] = []
    _Reader(source, scripts).block(tree.body, Script(""))
    return [script for script in scripts if script.steps]


class _Reader:
    def __init__(self, source: str, scripts: list[Script]) -> None:
        self._source, self._scripts = source, scripts

    def block(self, body: Sequence[ast.stmt], script: Script) -> None:
        if script not in self._scripts:
            self._scripts.append(script)
        for statement in body:
            try:
                self._statement(statement, script)
            except Unreadable as problem:
                raise Wrong(statement.lineno, str(problem)) from problem

    def _statement(self, statement: ast.stmt, script: Script) -> None:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            given = any(argument.arg == "page" for argument in statement.args.args)
            self.block(statement.body, Script(statement.name, given=given))
        elif isinstance(statement, ast.With | ast.AsyncWith):
            self._with(statement, script)
        elif isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            self._assign(statement, statement.targets[0], script)
        elif isinstance(statement, ast.Expr):
            self._expression(statement, script)
        elif isinstance(statement, ast.Assert):
            script.notes.append(self._text(statement))
        elif isinstance(statement, ast.If) and "__name__" in ast.unparse(statement.test):
            pass
        elif not isinstance(statement, ast.Import | ast.ImportFrom | ast.Pass):
            raise Unreadable(f"no statement a recorder writes: {self._text(statement)}")

    def _with(self, statement: ast.With | ast.AsyncWith, script: Script) -> None:
        if len(statement.items) != 1:
            raise Unreadable("more than one thing in a with")
        item = statement.items[0]
        chain = _chain(item.context_expr)
        begun = len(script.steps)
        name = chain.parts[-1].name if chain.parts else ""
        if name.startswith("expect_") and chain.base in script.pages:
            self.block(statement.body, script)
            if name == "expect_popup" and isinstance(item.optional_vars, ast.Name):
                if len(script.steps) == begun:
                    raise Unreadable("nothing is done that could open a window")
                script.popups[item.optional_vars.id] = script.steps[-1]
            elif name != "expect_popup":
                script.notes.append(self._text(item.context_expr))
                if isinstance(item.optional_vars, ast.Name):
                    script.awaited.append(item.optional_vars.id)
        elif chain.base in ("sync_playwright", "async_playwright", "playwright"):
            self.block(statement.body, script)
        else:
            raise Unreadable(f"unknown with: {self._text(item.context_expr)}")

    def _assign(self, statement: ast.Assign, target: ast.expr, script: Script) -> None:
        if not isinstance(target, ast.Name):
            raise Unreadable(f"no statement a recorder writes: {self._text(statement)}")
        chain = _chain(statement.value)
        last = chain.parts[-1] if chain.parts else Part("")
        if last.name == "value" and chain.base in script.popups:
            script.popups[chain.base].opens = target.id
            script.pages.append(target.id)
        elif chain.base in script.awaited:
            script.notes.append(self._text(statement))
            script.awaited.append(target.id)
        elif last.name == "new_page":
            script.opened(target.id)
        elif last.name in _MAKERS:
            size = last.options.get("viewport")
            if isinstance(size, dict):
                script.viewport = (int(size["width"]), int(size["height"]))
        elif last.name == "pages" or not chain.parts:
            raise Unreadable(f"no statement a recorder writes: {self._text(statement)}")
        elif step_of(chain, script.pages) is not None:
            raise Unreadable(f"the result of an action is kept: {self._text(statement)}")
        else:
            script.notes.append(self._text(statement))

    def _expression(self, statement: ast.Expr, script: Script) -> None:
        value = statement.value
        text = self._text(statement)
        if isinstance(value, ast.Constant):
            return  # a docstring
        inner = value.value if isinstance(value, ast.Await) else value
        called = inner.func if isinstance(inner, ast.Call) else None
        while isinstance(called, ast.Attribute | ast.Call):
            called = called.value if isinstance(called, ast.Attribute) else called.func
        base = called.id if isinstance(called, ast.Name) else ""
        if base == "expect":
            script.notes.append(text)
        elif base in script.pages:
            if re.match(rf"(await )?{re.escape(base)}\.(once|on|route|add_init_script|unroute)\(", text):
                script.notes.append(text)
                return
            step = step_of(_chain(inner), script.pages)
            if step is None:
                script.notes.append(text)
            else:
                script.add(step, statement.lineno, text)
        elif base in script.awaited:
            script.notes.append(text)
        elif base in _SETUP or base in ("run", "main") or any(one.name == base for one in self._scripts):
            pass  # starting, closing, tracing
        else:
            raise Unreadable(f"no statement a recorder writes: {text}")

    def _text(self, node: ast.AST) -> str:
        return ast.get_source_segment(self._source, node) or ast.unparse(node)


def _chain(node: ast.expr) -> Chain:
    """``a.b(c).d`` as a chain."""
    parts: list[Part] = []
    while True:
        if isinstance(node, ast.Await):
            node = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if any(keyword.arg is None for keyword in node.keywords):
                raise Unreadable("** in a call")
            options = {str(keyword.arg): _value(keyword.value) for keyword in node.keywords}
            parts.append(Part(node.func.attr, [_value(one) for one in node.args], options))
            node = node.func.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            return Chain(node.func.id, parts[::-1])
        elif isinstance(node, ast.Attribute):
            parts.append(Part(node.attr))
            node = node.value
        elif isinstance(node, ast.Name):
            return Chain(node.id, parts[::-1])
        else:
            raise Unreadable(f"no statement a recorder writes: {ast.unparse(node)}")


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "re.compile" and node.args:
        source = ast.literal_eval(node.args[0])
        names = [part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute) and part.attr != "compile"]
        unknown = [name for name in names if name not in _FLAGS]
        if unknown or not isinstance(source, str):
            raise Unreadable(f"cannot be used: {ast.unparse(node)}")
        return Pattern(source, "".join(_FLAGS[name] for name in names))
    if isinstance(node, ast.Call | ast.Attribute | ast.Name):
        return _chain(node)
    if isinstance(node, ast.Lambda):
        return None
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise Unreadable(f"no plain value: {ast.unparse(node)}") from None
