"""How much of what is asked. Apart from the suite, so that a command line is read without torch."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from pivotgym.envs.errors import BadInput

DOMAINS = {
    "tools": "pivotgym/Tools-v0",
    "terminal": "pivotgym/Terminal-v0",
    "repo": "pivotgym/Repo-v0",
    "search": "pivotgym/Search-v0",
    "browser": "pivotgym/Browser-v0",
}
"""Environments by what results call them."""


class ForgettingConfig(BaseModel):
    """How much of what is asked.

    Attributes:
        instructions: requests with constraints on the form of the answer; 0 leaves a part out.
        arithmetic: expressions.
        word_problems: problems in words.
        formats: JSON, lists and calls of tools.
        facts: multiple-choice questions on the corpus.
        text: documents for the perplexity.
        episodes: tasks played in each other domain.
        domains: the other domains; by default all but the one named in ``trained``.
        trained: the domain that was trained in, whose episodes say nothing about forgetting.
        max_tokens: longest answer. Thinking models need thousands.
        turn_tokens: longest action of an episode.
        max_turns: longest episode.
        temperature: 0 takes the most probable tokens.
        lm_eval: tasks of lm-eval by name, or ``paper`` for those the PivotRL paper reports.
        lm_limit: only so many documents of each.
        lm_include: folder with further task files of lm-eval's (YAML).
        seed: of items and sampling.
        chunk: items asked together; a killed run loses at most so many. Results depend on it in the last digit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    instructions: int = Field(48, ge=0)
    arithmetic: int = Field(48, ge=0)
    word_problems: int = Field(40, ge=0)
    formats: int = Field(48, ge=0)
    facts: int = Field(64, ge=0)
    text: int = Field(48, ge=0)
    episodes: int = Field(4, ge=0)
    domains: tuple[str, ...] = ()
    trained: str = "tools"
    max_tokens: int = Field(192, ge=1)
    turn_tokens: int = Field(128, ge=1)
    max_turns: int = Field(8, ge=1)
    temperature: float = Field(0.0, ge=0)
    lm_eval: tuple[str, ...] = ()
    lm_limit: int | None = Field(None, ge=1)
    lm_include: Path | None = None
    seed: int = 0
    chunk: int = Field(16, ge=1)

    def played(self) -> tuple[str, ...]:
        """The domains whose episodes are played. Raises BadInput for one that there is not."""
        for name in (*self.domains, self.trained):
            if name and name not in DOMAINS:
                raise BadInput(f"no domain {name!r}; there are: {', '.join(DOMAINS)}", field="domains")
        if not self.episodes:
            return ()
        return self.domains or tuple(name for name in DOMAINS if name != self.trained)
