"""Write an expression tree as text."""

from .tree import INFIX, POSTFIX, PREFIX, Call, Infix, Name, Number, Postfix, Prefix, binding


def render(node):
    """Return the text of ``node`` with as few parentheses as possible."""
    if isinstance(node, Number):
        return f"{node.value:g}"
    if isinstance(node, Name):
        return node.name
    if isinstance(node, Call):
        return f"{node.name}({', '.join(render(arg) for arg in node.args)})"
    if isinstance(node, Prefix):
        return node.op + _operand(node.operand, PREFIX[node.op])
    if isinstance(node, Postfix):
        return _operand(node.operand, POSTFIX[node.op]) + node.op
    if isinstance(node, Infix):
        left, right = INFIX[node.op]
        return f"{_operand(node.left, left)} {node.op} {_operand(node.right, right)}"
    raise TypeError(f"no node: {node!r}")


def _operand(node, least):
    """Return the text of an operand, in parentheses where it binds less tightly than ``least``."""
    return render(node) if binding(node) >= least else f"({render(node)})"
