"""``make(spec)``: verifiers by name, and compositions of them as text."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pivotgym.envs.errors import BadInput
from pivotgym.verifiers.base import Verifier
from pivotgym.verifiers.compose import AllOf, AnyOf
from pivotgym.verifiers.continuation import Continuation
from pivotgym.verifiers.effects import MAX_EXTRA_CALLS, Effects
from pivotgym.verifiers.exact import ExactMatch
from pivotgym.verifiers.goal import Goal
from pivotgym.verifiers.judge import Judge
from pivotgym.verifiers.talk import TALK_ONLY_REWARD, TalkRule
from pivotgym.verifiers.tool_call import ToolCallMatch


class VerifierOptions(BaseModel):
    """Options of :func:`make`.

    Attributes:
        judge_url: base URL of the judge's endpoint; default: environment variable ``PIVOTGYM_JUDGE_URL``. Where it is
            set, ``effects`` and ``tool_call`` ask the judge about texts to the user too.
        judge_model: default: ``PIVOTGYM_JUDGE_MODEL``.
        judge_api_key: default: ``PIVOTGYM_JUDGE_API_KEY``.
        judge_cache: SQLite file that keeps the judge's answers; None keeps them in memory only.
        max_extra_calls: calls allowed beyond the demonstration (``effects``, ``terminal_effects``).
        talk_only_reward: reward of a text where the demonstration has nothing to check.
        incidental: regular expressions of paths that are no part of a change, beside the usual caches and histories
            (``terminal_effects``).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    judge_url: str | None = None
    judge_model: str | None = None
    judge_api_key: str | None = None
    judge_cache: Path | None = None
    max_extra_calls: int = Field(default=MAX_EXTRA_CALLS, ge=0)
    talk_only_reward: float = Field(default=TALK_ONLY_REWARD, ge=0.0, lt=1.0)
    incidental: tuple[str, ...] = ()

    def resolved(self) -> VerifierOptions:
        """With the environment variables filled in."""
        found = {
            "judge_url": self.judge_url or os.environ.get("PIVOTGYM_JUDGE_URL") or None,
            "judge_model": self.judge_model or os.environ.get("PIVOTGYM_JUDGE_MODEL") or None,
            "judge_api_key": self.judge_api_key or os.environ.get("PIVOTGYM_JUDGE_API_KEY") or None,
        }
        return self.model_copy(update=found)


Factory = Callable[[VerifierOptions], Verifier]


def _judge(options: VerifierOptions) -> Judge:
    if not options.judge_url or not options.judge_model:
        raise BadInput("set judge_url and judge_model, or PIVOTGYM_JUDGE_URL and PIVOTGYM_JUDGE_MODEL", field="judge")
    return Judge(options.judge_url, options.judge_model, api_key=options.judge_api_key, cache=options.judge_cache)


def _talk(options: VerifierOptions) -> TalkRule:
    return TalkRule(_judge(options) if options.judge_url else None, options.talk_only_reward)


def _terminal(options: VerifierOptions) -> Verifier:
    from pivotgym.verifiers.terminal import TerminalEffects  # brings the sandboxes with it

    return TerminalEffects(_talk(options), options.max_extra_calls, options.incidental)


def _repo(options: VerifierOptions) -> Verifier:
    from pivotgym.verifiers.repo import RepoEffects  # brings the sandboxes with it
    from pivotgym.verifiers.terminal import TerminalEffects

    return RepoEffects(TerminalEffects(_talk(options), options.max_extra_calls, options.incidental))


def _search(options: VerifierOptions) -> Verifier:
    from pivotgym.verifiers.search import SearchEffects

    return SearchEffects(options.max_extra_calls)


def _browser(options: VerifierOptions) -> Verifier:
    from pivotgym.verifiers.browser import BrowserEffects  # brings the browser with it

    return BrowserEffects(_talk(options))


_FACTORIES: dict[str, Factory] = {
    "browser_effects": _browser,
    "exact": lambda options: ExactMatch(),
    "tool_call": lambda options: ToolCallMatch(_talk(options)),
    "effects": lambda options: Effects(_talk(options), options.max_extra_calls),
    "repo_effects": _repo,
    "search_effects": _search,
    "terminal_effects": _terminal,
    "goal": lambda options: Goal(),
    "continuation": lambda options: Continuation(_talk(options)),
    "judge": _judge,
}
_COMPOSITIONS: dict[str, type[AllOf] | type[AnyOf]] = {"all_of": AllOf, "any_of": AnyOf}


def register_verifier(name: str, factory: Factory) -> None:
    """Makes a verifier known under ``name`` (lower-case letters, digits, underscores)."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in _COMPOSITIONS:
        raise BadInput(f"{name!r} cannot name a verifier", field="name")
    _FACTORIES[name] = factory
    _make.cache_clear()


def verifier_names() -> list[str]:
    """The names a spec may use."""
    return sorted([*_FACTORIES, *_COMPOSITIONS])


def make(spec: str, **options: Any) -> Verifier:
    """A verifier from its spec.

    Args:
        spec: a name (``effects``), or a composition of specs: ``any_of(tool_call,all_of(effects,goal))``.
        options: see :class:`VerifierOptions`. Equal specs with equal options give the same object, so that a judge
            keeps what it was asked.

    Raises:
        BadInput: an unknown name, a spec that does not parse, an unusable option.
    """
    try:
        read = VerifierOptions(**options).resolved()
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(first["msg"], field="verifier." + ".".join(map(str, first["loc"]))) from error
    return _make(spec, read)


@lru_cache(maxsize=64)
def _make(spec: str, options: VerifierOptions) -> Verifier:
    tokens = re.findall(r"[a-z][a-z0-9_]*|[(),]|\S", spec)
    verifier, rest = _parse(tokens, spec, options)
    if rest:
        raise BadInput(f"{spec!r}: {rest[0]!r} after the end", field="verifier")
    return verifier


def _parse(tokens: list[str], spec: str, options: VerifierOptions) -> tuple[Verifier, list[str]]:
    if not tokens:
        raise BadInput(f"{spec!r}: a verifier is missing", field="verifier")
    name, rest = tokens[0], tokens[1:]
    if name in _COMPOSITIONS:
        parts: list[Verifier] = []
        opening = "("
        while rest[:1] == [opening]:
            part, rest = _parse(rest[1:], spec, options)
            parts.append(part)
            opening = ","
        if not parts or rest[:1] != [")"]:
            raise BadInput(f"{spec!r}: {name} needs its parts in brackets", field="verifier")
        return _COMPOSITIONS[name](parts), rest[1:]
    if name not in _FACTORIES:
        known = ", ".join(verifier_names())
        raise BadInput(f"{spec!r}: unknown verifier {name!r}; known: {known}", field="verifier")
    return _FACTORIES[name](options), rest
