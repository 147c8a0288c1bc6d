"""Scripted solvers of MiniWoB++ tasks: they read what an agent reads, the goal and the tree, and act turn by turn.

A solver is a generator: it is given the goal and the first page, yields the calls of a turn, and is sent the page that
turn brought. It knows nothing of a page's scripts, its random numbers or its reward.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

from pivotgym.envs.browser.env import BrowserEnv
from pivotgym.envs.browser.miniwob import miniwob_task
from pivotgym.envs.trajectory import Outcome, ToolCall, Trajectory

Turn = list[ToolCall]
Solver = Generator[Turn, "Page", None]
SOLVERS: dict[str, Callable[[str, Page], Solver]] = {}
"""By the name of the page."""
_TEXT = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_LINE = re.compile(rf"(\t*)(?:\[(\w+)\] )?([\w-]+) ({_TEXT})(?: value=({_TEXT}))?((?:, .*)?)$")
MAX_TURNS = 60


@dataclass(eq=False)
class Node:
    """One line of the tree."""

    id: str
    role: str
    name: str
    value: str
    marks: str
    depth: int
    parent: Node | None = None
    children: list[Node] = field(default_factory=list)

    @property
    def clickable(self) -> bool:
        return ", clickable" in self.marks

    def within(self) -> Iterator[Node]:
        """What is below it, in order."""
        for child in self.children:
            yield child
            yield from child.within()

    @property
    def text(self) -> str:
        """The texts below it."""
        return " ".join(node.name for node in self.within() if node.role == "StaticText").strip()

    @property
    def target(self) -> str:
        """The id to act on: its own, or that of the nearest element it is in."""
        node: Node | None = self
        while node is not None and not node.id:
            node = node.parent
        assert node is not None, f"{self.role} {self.name!r} is in no element"
        return node.id


class Page:
    """An observation, read."""

    def __init__(self, observation: str) -> None:
        head, _, tree = observation.partition("\n\n")
        if "URL:" not in head:  # the first one, behind the goal
            head, _, tree = tree.partition("\n\n")
        self.head, self.nodes = head, list[Node]()
        path: list[Node] = []
        for line in tree.splitlines():
            found = _LINE.match(line)
            if found is None:
                continue
            tabs, bid, role, name, value, marks = found.groups()
            node = Node(bid or "", role, _read(name), _read(value) if value else "", marks, len(tabs))
            del path[node.depth :]
            node.parent = path[-1] if path else None
            if node.parent is not None:
                node.parent.children.append(node)
            path.append(node)
            self.nodes.append(node)

    def all(self, *roles: str) -> list[Node]:
        """Every node of these roles, in order."""
        return [node for node in self.nodes if node.role in roles]

    def find(self, role: str, name: str | None = None) -> Node:
        """The first node of that role and name."""
        found = self.seek(role, name)
        assert found is not None, f"no {role} {name!r}"
        return found

    def seek(self, role: str, name: str | None = None) -> Node | None:
        """The same, or None."""
        return next((node for node in self.all(role) if name is None or node.name == name), None)

    def texts(self) -> list[Node]:
        """The texts that are not empty."""
        return [node for node in self.all("StaticText") if node.name]

    def labelled(self, text: str) -> Node | None:
        """The innermost element that says just this."""
        return next((node for node in reversed(self.nodes) if node.id and text in (node.name, node.text)), None)

    def after(self, node: Node) -> list[Node]:
        """What comes after a node."""
        return self.nodes[self.nodes.index(node) + 1 :]

    def before(self, node: Node) -> list[Node]:
        """What comes before it, nearest first."""
        return self.nodes[: self.nodes.index(node)][::-1]


def _read(literal: str) -> str:
    return str(ast.literal_eval(literal))


def solves(*names: str) -> Callable[[Callable[[str, Page], Solver]], Callable[[str, Page], Solver]]:
    """Registers a solver for these pages."""

    def register(make: Callable[[str, Page], Solver]) -> Callable[[str, Page], Solver]:
        for name in names:
            assert name not in SOLVERS, name
            SOLVERS[name] = make
        return make

    return register


def do(name: str, **arguments: Any) -> ToolCall:
    """A call."""
    return ToolCall(name=name, arguments=arguments)


def click(node: Node | None) -> ToolCall:
    """A click on an element."""
    assert node is not None, "there is no such element"
    return do("click", bid=node.target)


def fill(node: Node, value: str) -> ToolCall:
    """New text in a field."""
    return do("fill", bid=node.target, value=value)


def quoted(goal: str) -> list[str]:
    """What stands between the goal's quotation marks."""
    return re.findall('"(.*?)"', goal)


def submit(page: Page, name: str = "Submit") -> Turn:
    """A click on the button of that name."""
    return [click(page.find("button", name))]


def solve(env: BrowserEnv, name: str, seed: int) -> Trajectory:
    """Plays an episode; its recording, with the reward it earned."""
    env.reset(options={"task": miniwob_task(name, seed)})
    first = env.messages[-1].text
    goal = first.partition("\n\nURL: ")[0]
    solver = SOLVERS[name](goal, Page(first))
    reward, terminated, number = 0.0, False, 0
    turn = next(solver, None)
    while turn is not None and not terminated and len(env.messages) < 2 * MAX_TURNS:
        calls = []
        for call in turn:
            calls.append(call.model_copy(update={"id": f"call_{number}"}).chat())
            number += 1
        _, earned, terminated, _, _ = env.step({"role": "assistant", "content": "", "tool_calls": calls})
        reward = float(earned)
        try:
            turn = solver.send(Page(env.messages[-1].text))
        except StopIteration:
            turn = None
    messages = [message.clone() for message in env.transcript]
    return Trajectory(
        id=f"{name}.{seed}",
        task=env.task,
        tools=env.tools,
        messages=messages,
        outcome=Outcome(reward=reward, termination="done" if terminated else None),
    )
