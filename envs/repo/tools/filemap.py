"""``filemap``: a Python file in brief. Function bodies of more than five lines are left out."""

from __future__ import annotations

import json

from pivotgym.envs.repo.tools.confined import run_python
from pivotgym.envs.repo.tools.session import Session, TextFile
from pivotgym.envs.repo.tools.state import Refused, ToolResult

_LONG = 5
_BODIES = """
import ast, json, sys, warnings
warnings.simplefilter("ignore")
try:
    nodes = list(ast.walk(ast.parse(sys.stdin.buffer.read())))
except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
    print(json.dumps(str(error)))
else:
    functions = [node for node in nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    print(json.dumps([[one.body[0].lineno, one.body[-1].end_lineno] for one in functions]))
"""


def filemap(session: Session, path: str) -> ToolResult:
    """The file's lines with their numbers, longer function bodies replaced by a note.

    Raises:
        Refused: it is no Python source.
    """
    text = TextFile.of(session.read(session.absolute(path)), keep_ends=False).text
    told = json.loads(run_python(_BODIES, text.encode("utf-8", "replace")) or '"it is too complex"')
    if isinstance(told, str):
        raise Refused(f"The file cannot be parsed as Python: {told}\n", "no_python")
    left_out = [(first, last) for first, last in told if last - first >= _LONG]
    hidden = {line for first, last in left_out for line in range(first, last + 1)}
    rows = [(first, f"... eliding lines {first}-{last} ...") for first, last in left_out]
    rows += [(number, line) for number, line in enumerate(text.splitlines(), 1) if number not in hidden]
    shown = "".join(f"{number:6d} {line}\n" for number, line in sorted(rows))
    return ToolResult(shown, session.state)
