"""Playwright scripts in JavaScript or TypeScript, as recorders write them: read strictly, never run.

Only the statements a recorder writes are known: ``await page.….click();``, ``const page1 = await …;``, and the frame
around them (imports, ``test('…', async ({ page }) => {``, launching and closing).
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from pivotgym.envs.formats.playwright_python import Script, Wrong
from pivotgym.envs.formats.playwright_steps import PROPERTIES, Chain, Part, Pattern, Unreadable, step_of

_TOKEN = re.compile(
    r"""(?P<skip>\s+|//[^\n]*|/\*.*?\*/)
    |(?P<text>'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\.)*`)
    |(?P<number>-?\d+(?:\.\d+)?)
    |(?P<name>[A-Za-z_$][\w$]*)
    |(?P<mark>=>|\?\.|\.\.\.|[^\s])""",
    re.VERBOSE | re.DOTALL,
)
_REGEX = re.compile(r"/((?:[^/\\\n\[]|\\.|\[(?:[^\]\\\n]|\\.)*\])+)/([a-z]*)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "0": "\0", "\n": ""}
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None, "undefined": None}
_MAX_DEPTH = 50


class _Token(NamedTuple):
    kind: str
    text: str
    line: int
    start: int
    end: int


def read_javascript(source: str) -> list[Script]:
    """The scripts of a file: one for each test, or the file itself. Raises Wrong."""
    return _Reader(source).scripts()


def _tokens(source: str) -> list[_Token]:
    found: list[_Token] = []
    position, line = 0, 1
    while position < len(source):
        before = found[-1].text if found else "("
        regex = _REGEX.match(source, position) if before in ("(", ",", ":", "[", "=") else None
        if regex and not source.startswith(("//", "/*"), position):
            found.append(_Token("regex", regex.group(), line, position, regex.end()))
            position = regex.end()
            continue
        match = _TOKEN.match(source, position)
        if match is None or match.group() in ("'", '"', "`"):
            raise Wrong(line, "a text without an end")
        if match.lastgroup != "skip":
            found.append(_Token(str(match.lastgroup), match.group(), line, position, match.end()))
        line += match.group().count("\n")
        position = match.end()
    return found


class _Reader:
    def __init__(self, source: str) -> None:
        self._source, self._tokens, self._at = source, _tokens(source), 0
        self._script = Script("")
        self._scripts = [self._script]
        self._promised: dict[str, str] = {}
        self._other: list[str] = []
        self._open = 0

    def scripts(self) -> list[Script]:
        while self._at < len(self._tokens):
            begin = self._tokens[self._at]
            try:
                self._statement()
            except Unreadable as problem:
                raise Wrong(begin.line, str(problem)) from problem
            except IndexError:
                raise Wrong(begin.line, "a statement without an end") from None
        if self._open:
            raise Wrong(self._tokens[-1].line, "a block without an end")
        return [script for script in self._scripts if script.steps]

    # Statements ------------------------------------------------------------------------------------------------

    def _statement(self) -> None:
        begin = self._at
        token = self._tokens[begin]
        words = [one.text for one in self._tokens[begin : begin + 4]]
        if token.text == ";":
            self._at += 1
        elif token.text == "}":
            self._end_block()
        elif token.text == "import":
            self._skip()
        elif token.text == "test" and words[1] == "(":
            self._test()
        elif words[:2] == ["test", "."]:
            if words[2:] in (["describe", "("], ["describe", "."]):
                self._block_of_function()
            else:
                self._script.notes.append(self._skip())
        elif words[:2] == ["(", "async"]:
            self._block_of_function()
        elif token.text in ("const", "let", "var"):
            self._assign()
        elif words[0] == "expect" or words[:2] == ["await", "expect"]:
            self._script.notes.append(self._skip())
        else:
            self._call()

    def _skip(self) -> str:
        """To the end of the statement; its text."""
        begin, depth = self._tokens[self._at], 0
        while True:
            token = self._tokens[self._at]
            depth += (token.text in _CLOSING) - (token.text in _CLOSING.values())
            self._at += 1
            if depth < 0:
                raise Unreadable("a closing bracket too many")
            if token.text == ";" and depth == 0:
                return self._source[begin.start : token.start]

    def _block_of_function(self) -> None:
        """Goes into the body of the next arrow function."""
        while self._tokens[self._at].text != "=>":
            self._at += 1
        if self._tokens[self._at + 1].text != "{":
            raise Unreadable("a function without a body")
        self._at += 2
        self._open += 1

    def _test(self) -> None:
        name = self._tokens[self._at + 2]
        if name.kind != "text":
            raise Unreadable("a test without a name")
        self._script = Script(_unquote(name.text), given=True)
        self._scripts.append(self._script)
        self._block_of_function()

    def _end_block(self) -> None:
        self._open -= 1
        if self._open < 0:
            raise Unreadable("a closing bracket too many")
        self._at += 1
        while self._at < len(self._tokens) and self._tokens[self._at].text in (")", "(", ";"):
            self._at += 1

    def _assign(self) -> None:
        script, begin = self._script, self._at
        name = self._tokens[begin + 1]
        if name.kind != "name" or self._tokens[begin + 2].text != "=":
            text = self._skip()
            if "require(" not in text:
                raise Unreadable(f"no statement a recorder writes: {text}")
            return
        self._at += 3
        awaited = self._take("await")
        first = self._tokens[self._at].text
        text = self._source[self._tokens[begin].start : self._peek_end()]
        if first == "require":
            self._skip()
            return
        if awaited and first in self._promised:
            step = next((one for one in reversed(script.steps) if one.page == self._promised[first]), None)
            if step is None:
                raise Unreadable("nothing is done that could open a window")
            step.opens = name.text
            script.pages.append(name.text)
            self._skip()
            return
        if first in self._other:  # a download, a response
            self._skip()
            self._other.append(name.text)
            script.notes.append(text)
            return
        chain = self._whole_chain()
        last = chain.parts[-1] if chain.parts else Part("")
        if last.name == "new_page":
            script.opened(name.text)
        elif last.name in ("launch", "new_context", "connect"):
            size = last.options.get("viewport")
            if isinstance(size, dict):
                script.viewport = (int(size["width"]), int(size["height"]))
        elif last.name == "wait_for_event" and chain.base in script.pages:
            if last.values == ["popup"]:
                self._promised[name.text] = chain.base
            else:
                self._other.append(name.text)
            script.notes.append(text)
        elif chain.parts and step_of(chain, script.pages) is None:
            script.notes.append(text)
        else:
            raise Unreadable(f"no statement a recorder writes: {text}")

    def _call(self) -> None:
        script, begin = self._script, self._tokens[self._at]
        awaited = self._take("await")
        base = self._tokens[self._at].text
        if base in ("browser", "context", "playwright") or (awaited and base in self._promised):
            self._skip()
            return
        if base in self._other:
            script.notes.append(self._skip())
            return
        if base not in script.pages:
            line = self._source.splitlines()[begin.line - 1].strip()
            raise Unreadable(f"no statement a recorder writes: {line}")
        text = self._source[begin.start : self._peek_end()]
        if self._tokens[self._at + 2].text in ("once", "on", "route"):
            script.notes.append(self._skip())
            return
        step = step_of(self._whole_chain(), script.pages)
        if step is None:
            script.notes.append(text)
        else:
            script.add(step, begin.line, text)

    def _peek_end(self) -> int:
        at = self._at
        self._skip()
        end = self._tokens[self._at - 1].start
        self._at = at
        return end

    def _take(self, text: str) -> bool:
        if self._tokens[self._at].text != text:
            return False
        self._at += 1
        return True

    # Expressions -----------------------------------------------------------------------------------------------

    def _whole_chain(self) -> Chain:
        chain = self._value(0)
        if not isinstance(chain, Chain) or not self._take(";"):
            raise Unreadable("no statement a recorder writes")
        return chain

    def _value(self, depth: int) -> Any:
        token = self._tokens[self._at]
        self._at += 1
        if depth > _MAX_DEPTH:
            raise Unreadable("nested too deep")
        if token.kind == "text":
            return _unquote(token.text)
        if token.kind == "number":
            return float(token.text) if "." in token.text else int(token.text)
        if token.kind == "regex":
            source, _, flags = token.text[1:].rpartition("/")
            return Pattern(source, flags)
        if token.text in _WORDS:
            return _WORDS[token.text]
        if token.text == "[":
            return self._list("]", depth)
        if token.text == "{":
            return self._object(depth)
        if token.kind == "name":
            return self._chain(token.text, depth)
        raise Unreadable(f"no plain value: {token.text}")

    def _chain(self, base: str, depth: int) -> Chain:
        parts: list[Part] = []
        while self._take("."):
            name = self._tokens[self._at]
            if name.kind != "name":
                raise Unreadable(f"no name: {name.text}")
            self._at += 1
            part = Part(_snake(name.text))
            if self._take("("):
                part.values = self._list(")", depth)
                chosen = part.name == "select_option"
                if part.values and isinstance(part.values[-1], dict) and not (chosen and len(part.values) == 1):
                    part.options = {_snake(key): value for key, value in part.values.pop().items()}
                if part.name in PROPERTIES and not part.values:  # first() and last() are methods here
                    part.values = None
                if part.name in ("and", "or"):
                    part.name += "_"
            parts.append(part)
        return Chain(base, parts)

    def _list(self, end: str, depth: int) -> list[Any]:
        found: list[Any] = []
        while not self._take(end):
            found.append(self._value(depth + 1))
            if not self._take(",") and self._tokens[self._at].text != end:
                raise Unreadable(f"expected , or {end}, not {self._tokens[self._at].text}")
        return found

    def _object(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not self._take("}"):
            key = self._tokens[self._at]
            if key.kind not in ("name", "text"):
                raise Unreadable(f"no key: {key.text}")
            self._at += 1
            if not self._take(":"):
                raise Unreadable(f"no value for {key.text}")
            found[_unquote(key.text) if key.kind == "text" else key.text] = self._value(depth + 1)
            if not self._take(",") and self._tokens[self._at].text != "}":
                raise Unreadable(f"expected , or }}, not {self._tokens[self._at].text}")
        return found


def _snake(name: str) -> str:
    return re.sub("([A-Z])", lambda found: f"_{found.group().lower()}", name)


def _unquote(literal: str) -> str:
    if literal[0] == "`" and re.search(r"(?<!\\)\$\{", literal):
        raise Unreadable(f"a text with values in it: {literal}")

    def escaped(found: re.Match[str]) -> str:
        code = found.group(1)
        if code[0] in "ux":
            return chr(int(code[1:].strip("{}"), 16))
        return _ESCAPES.get(code, code)

    text = re.sub(r"\\(u\{[0-9a-fA-F]+\}|u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)", escaped, literal[1:-1], flags=re.DOTALL)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
