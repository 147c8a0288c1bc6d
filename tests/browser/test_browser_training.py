"""Chromium dies in the middle of a training step: the run goes on, and is to the byte what it would have been.

A tiny random model acts: it knows one token for clicking each element of the page, so that some of what it samples is
right. Environment, verifier, sampler and trainer are the project's own; so is Chromium.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from chromium import kill
from tiny_models import call_model, call_tokenizer
from web_pages import Agent

from pivotgym.envs.browser.apps.generate import KINDS, play
from pivotgym.envs.browser.engine import engine
from pivotgym.envs.browser.miniwob import miniwob_task
from pivotgym.envs.core import AgentEnv
from pivotgym.envs.formats.jsonl import read_rows
from pivotgym.envs.trajectory import Message, Trajectory
from pivotgym.envs.verdict import Verdict
from pivotgym.harness.options import LoraOptions, OptimOptions
from pivotgym.harness.pivots import Pivot
from pivotgym.harness.policies.transformers_policy import TransformersPolicy
from pivotgym.harness.train import TrainConfig, train
from pivotgym.verifiers import make
from pivotgym.verifiers.base import Verifier

CONFIG = TrainConfig(
    steps=2,
    batch=2,
    group=6,
    max_tokens=2,
    micro_batch=1,
    workers=2,
    eval_rollouts=2,
    lora=LoraOptions(rank=2),
    optim=OptimOptions(lr=1e-3),
)


class Killing(Verifier):
    """The environment's own verifier; before some of its verdicts the browser is killed."""

    def __init__(self, spec: str, deaths: dict[int, str]) -> None:
        self._inner, self._deaths, self.asked, self.killed = make(spec), dict(deaths), 0, 0

    def verify(self, env: AgentEnv, action: Message) -> Verdict:
        self.asked += 1
        which = self._deaths.pop(self.asked, None)
        if which is not None:
            self.killed += kill(which)
        return self._inner.verify(env, action)


def clicker(pages: list[str]) -> TransformersPolicy:
    """A random model that mostly clicks on elements of these pages."""
    ids = sorted({found for page in pages for found in re.findall(r"\[(\w+)\] (?:checkbox|button|link)", page)})[:12]
    calls = [f'<tool_call>{{"name": "click", "arguments": {{"bid": "{one}"}}}}</tool_call>' for one in ids]
    words = call_tokenizer(calls)
    model = call_model(words, max_position_embeddings=32768)
    with torch.no_grad():  # bytes are as likely as each other; a click is likelier, and behind a click comes the end
        rows, words_in = model.lm_head.weight, model.model.embed_tokens.weight
        rows[: -len(calls)] = 0.0
        rows[:, :2] = words_in[:, :2] = 0.0
        words_in[words.convert_tokens_to_ids("<|assistant|>"), 1], rows[-len(calls) :, 1] = 5.0, 2.0
        words_in[-len(calls) :, 0], rows[words.eos_token_id, 0] = 5.0, 3.0
    return TransformersPolicy(model, words, name="clicker")


def miniwob(agent: Agent) -> tuple[Trajectory, list[int]]:
    agent.env.reset(options={"task": miniwob_task("click-checkboxes", 3)})
    for name in re.findall(r"checkbox '(\w+)'", agent.seen)[:2]:
        agent.click(f"checkbox '{name}'")
    agent.click("button 'Submit'")
    return agent.recording(), [1, 2]


def shop(agent: Agent) -> tuple[Trajectory, list[int]]:
    tasks, kind = KINDS["shop.tidy_cart"]
    agent.env.reset(options={"task": tasks.make(kind, 0)})
    built, _, _ = tasks.build(kind, 0)
    play(agent.env, built.expert[:3])
    return agent.recording(), [0, 1]


@pytest.mark.parametrize("record", [miniwob, shop])
def test_killing_chromium_in_a_training_step_changes_nothing(agent: Agent, record: object, tmp_path: Path) -> None:
    recording, turns = record(agent)  # type: ignore[operator]
    pages = [recording.prefix(turn)[-1].text for turn in turns]
    spec = agent.env.default_verifier
    agent.env.close()
    torch.set_num_threads(1)
    pivots = [Pivot(trajectory=recording, turn=turn) for turn in turns]
    runs, starts = {}, {}
    for name, deaths in {"quiet": {}, "killed": {2: "browser", 4: "renderer", 7: "driver"}}.items():
        before, verifier = engine().starts, Killing(spec, deaths)
        result = train(pivots, clicker(pages), CONFIG, tmp_path / name, verifier=verifier)
        assert result is not None
        runs[name] = (tmp_path / name / "metrics.jsonl").read_bytes()
        starts[name] = engine().starts - before
        assert verifier.killed >= len(deaths) and verifier.asked >= 7
    assert starts["killed"] >= starts["quiet"] + 2, "the browser itself died twice"
    assert runs["killed"] == runs["quiet"]
    rows = [row for row in read_rows(tmp_path / "killed" / "metrics.jsonl") if row["kind"] == "train"]
    assert [row["step"] for row in rows] == [1, 2]
    assert all(row["groups_excluded"] == 0 for row in rows), "nothing was lost"
    assert any(row["reward_mean"] > 0 for row in rows), "some of what was judged after a death is right"
