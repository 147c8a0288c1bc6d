"""The scripted expert: searches, opens, finds and answers, and reads only what the tools have shown."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from pivotgym.envs.search.bundled.asking import Asked, names
from pivotgym.envs.search.bundled.phrases import CUES
from pivotgym.envs.search.bundled.world import Fact, World
from pivotgym.envs.search.bundled.writing import Library
from pivotgym.envs.search.domain import SearchDomain
from pivotgym.envs.search.view import Session
from pivotgym.envs.trajectory import Message, ToolCall

SHORTEST, LONGEST = 4, 10
"""Turns of an expert."""


class Lost(Exception):
    """The expert does not get to the answer in so many turns."""


@dataclass
class _Run:
    """One attempt: what was done and what the last tool showed."""

    domain: SearchDomain
    session: Session
    rng: random.Random
    actions: list[Message] = field(default_factory=list)
    shown: str = ""

    def tells(self, name: str) -> bool:
        """Whether what was shown last says a name (a mere link does not)."""
        return names(self.shown.split("See also: ")[0], name)

    def do(self, thought: str, tool: str, **arguments: str | int) -> str:
        call = ToolCall(name=tool, arguments=dict(arguments), id=f"call_{len(self.actions)}")
        self.shown = self.domain.call(self.session, call)
        if self.shown.startswith("Error"):
            raise Lost(f"{tool} {arguments}: {self.shown}")
        self.actions.append(Message(role="assistant", content=thought, tool_calls=[call]))
        return self.shown


def play(domain: SearchDomain, world: World, library: Library, asked: Asked, seed: int = 0) -> list[Message]:
    """The expert's actions for a question.

    Raises:
        Lost: no way of :data:`SHORTEST` to :data:`LONGEST` turns was found.
    """
    problems = []
    for attempt in range(12):
        rng = random.Random(f"expert {seed} {attempt} {asked.text}")
        run = _Run(domain, Session(domain.engine), rng)
        try:
            _solve(run, world, library, asked, hurried=attempt >= 6)
            if SHORTEST <= len(run.actions) <= LONGEST:
                return run.actions
            problems.append(f"{len(run.actions)} turns")
        except Lost as problem:
            problems.append(str(problem))
    raise Lost(f"{asked.text}: {problems[-1]}")


def _solve(run: _Run, world: World, library: Library, asked: Asked, *, hurried: bool) -> None:
    known, thought = asked.anchor, run.rng.choice(_STARTS).format(x=asked.anchor)
    at = asked.anchor if not any(one.endswith(f":{asked.anchor}") for one in world.entities) else ""
    for fact, learned in zip(asked.facts, asked.learned, strict=True):
        holders = library.holders(fact)
        if not (run.session.view.document in holders and run.tells(learned) and not at):
            _reach(run, thought, known, learned, fact, world, holders, hurried=hurried)
        thought = run.rng.choice(_LEARNED).format(x=known, y=learned)
        known, at = learned, ""
    run.do(f"{thought} That answers the question.", "answer", text=asked.answer)


_STARTS = ("I start with {x}.", "First I look for {x}.", "The question names {x}, so I begin there.")
_LEARNED = (
    "{x} leads to {y}.",
    "So from {x} I get {y}.",
    "The page gives {y} for {x}.",
)


def _reach(
    run: _Run,
    thought: str,
    known: str,
    learned: str,
    fact: Fact,
    world: World,
    holders: Sequence[str],
    *,
    hurried: bool,
) -> None:
    """Gets a page or a passage on screen that states the fact."""
    cues = CUES[f"{world.entities[fact.subject].kind}.{fact.relation}"]
    plain = re.sub(r"^the ", "", known)
    if run.session.view.document not in holders:
        linked = [name for name in holders if f"[{name}]" in run.shown]
        if linked:
            run.do(f"{thought} There is a link to it.", "open", document=run.rng.choice(linked))
        else:
            name, page = _search(run, thought, plain, cues, holders)
            arguments: dict[str, str | int] = {"document": name}
            if page > 1 and (hurried or run.rng.random() < 0.5):
                arguments["page"] = page
            run.do(run.rng.choice(_OPENING).format(x=plain), "open", **arguments)
        thought = ""
    if run.tells(learned) and (run.tells(plain) or not _is_list(run)):
        return
    texts = (*cues, plain) if not _is_list(run) else (plain,)
    for text in texts:
        found = _peek(run, text)
        if names(found.split("See also: ")[0], learned):
            run.do(f"{thought} Not on this page; I look for “{text}”.".strip(), "find", text=text)
            return
    raise Lost(f"{learned} is not to be found in {run.session.view.document}")


_OPENING = ("This one should tell.", "I read what it says about {x}.", "The result on {x} looks right.")


def _is_list(run: _Run) -> bool:
    document = run.session.view.document or ""
    return document.startswith(("roll-", "survey-"))


def _search(run: _Run, thought: str, plain: str, cues: Sequence[str], holders: Sequence[str]) -> tuple[str, int]:
    queries = [plain, *(f"{plain} {cue.split()[0].lower()}" for cue in cues)]
    run.rng.shuffle(queries)
    for query in queries:
        hits = run.domain.engine.search(query, 5)
        good = [hit for hit in hits if hit.id in holders]
        if good:
            run.do(thought, "search", query=query)
            hit = run.rng.choice(good)
            return hit.id, hit.page
    raise Lost(f"no search for {plain} finds one of {list(holders)}")


def _peek(run: _Run, text: str) -> str:
    copy = Session(run.domain.engine, run.session.view)
    return run.domain.call(copy, ToolCall(name="find", arguments={"text": text}))
