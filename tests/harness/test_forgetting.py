"""The held-out suite on real (tiny) models: likelihoods, pairing, resuming, and what cannot be measured."""

from __future__ import annotations

import copy
import json
import math
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from tiny_models import make_model, make_tokenizer

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.jsonl import read_rows
from pivotgym.envs.trajectory import Message, ToolCall
from pivotgym.harness.forgetting import likelihood
from pivotgym.harness.forgetting.arithmetic import Arithmetic, WordProblems
from pivotgym.harness.forgetting.config import ForgettingConfig
from pivotgym.harness.forgetting.facts import PlainText
from pivotgym.harness.forgetting.formats import Formats
from pivotgym.harness.forgetting.items import Item, Metric
from pivotgym.harness.forgetting.likelihood import Likelihood, NoLikelihoods
from pivotgym.harness.forgetting.measure import change, estimate, ratio_interval, verdict
from pivotgym.harness.forgetting.suite import run_forgetting
from pivotgym.harness.forward import group_logprobs, padded_logprobs
from pivotgym.harness.policies.base import Conversation, PromptTooLong, Sampling
from pivotgym.harness.policies.scripted import ScriptedPolicy
from pivotgym.harness.policies.small import SmallOptions, make_small_policy
from pivotgym.harness.policies.transformers_policy import TransformersPolicy
from pivotgym.harness.report import build_report, print_run_summary, report_figures
from pivotgym.harness.report.forgetting import forgetting_markdown
from pivotgym.harness.stats import cluster_interval

SMALL = SmallOptions(layers=1, hidden=32, heads=2, feed_forward=32, merges=0, context=1536, copying=0)
CONFIG = ForgettingConfig(
    instructions=3, arithmetic=5, word_problems=0, formats=3, facts=4, text=3, episodes=0, max_tokens=6, chunk=2
)


def tiny(noise: float = 0.0) -> TransformersPolicy:
    """A random policy; with ``noise`` another one near it."""
    policy = make_small_policy([], SMALL)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter += noise * torch.randn(parameter.shape, generator=generator)
    return policy


def by_hand(policy: TransformersPolicy, ids: list[int], start: int) -> float:
    """Sum of the log-probabilities of ``ids[start:]`` by one plain forward pass."""
    with torch.no_grad():
        model: Any = policy.model
        logits_TV = model(input_ids=torch.tensor([ids])).logits[0].double()
    logprob_TV = torch.log_softmax(logits_TV, -1)
    return sum(float(logprob_TV[place - 1, ids[place]]) for place in range(start, len(ids)))


def test_options_are_scored_as_a_plain_forward_pass_scores_them() -> None:
    policy = tiny()
    scorer = Likelihood(policy)
    context, options = "Where does it rain? Answer:", [" in Porto", " in Ghent, often", " x"]
    found = scorer.options(context, options)
    for option, value in zip(options, found, strict=True):
        ids = policy.tokenizer.encode(context + option, add_special_tokens=False)
        before = policy.tokenizer.encode(context, add_special_tokens=False)
        assert value == pytest.approx(by_hand(policy, ids, len(before)), abs=1e-3)
    assert policy.usage.calls == 3 and policy.usage.prompt_tokens > len(context)
    # A space at the end of the context belongs to the option.
    assert scorer.options(context + " ", ["in Porto"]) == pytest.approx(found[:1], abs=1e-4)


def test_a_long_text_is_read_in_windows() -> None:
    policy = tiny()
    text = "The river is long. " * 90
    ids = policy.tokenizer.encode(text, add_special_tokens=False)
    assert len(ids) > 1024
    nats, tokens = Likelihood(policy).text(text)
    start = [policy.tokenizer.eos_token_id]
    expected = by_hand(policy, start + ids[:1024], 1) + by_hand(policy, ids[1023:], 1)
    assert tokens == len(ids)
    assert nats == pytest.approx(-expected, rel=1e-5)


def sliding(seed: int = 0) -> TransformersPolicy:
    """A policy whose layers see 64 tokens back, though it takes longer texts."""
    model = make_model("mistral", seed, sliding_window=64, max_position_embeddings=2048)
    return TransformersPolicy(model, make_tokenizer())


def test_beyond_an_attention_window_the_padded_batch_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    packed: list[int] = []

    def counted(model: Any, groups: list[tuple[list[int], list[list[int]]]], **options: Any) -> Any:
        packed.extend(len(prompt) + max(map(len, completions)) for prompt, completions in groups)
        return group_logprobs(model, groups, **options)

    monkeypatch.setattr(likelihood, "group_logprobs", counted)
    policy = sliding()
    scorer = Likelihood(policy)
    options = [" in Porto", " in Ghent, often"]
    for context, shared in (("Where does it rain? Answer:", [43]), ("Where does it rain? " * 8 + "Answer:", [43])):
        found = scorer.options(context, options)
        ids = [policy.tokenizer.encode(text, add_special_tokens=False) for text in (context, *options)]
        expected_NT = padded_logprobs(policy.model, ids[0], ids[1:]).logprobs_NT
        assert found == pytest.approx(expected_NT.sum(-1).tolist(), abs=1e-3)
        assert found[0] == pytest.approx(by_hand(policy, ids[0] + ids[1], len(ids[0])), abs=1e-3)
        assert packed == shared, "packed where the window holds it"
    text = "The river is long. " * 9
    nats, tokens = scorer.text(text)
    ids = [policy.tokenizer.bos_token_id, *policy.tokenizer.encode(text, add_special_tokens=False)]
    assert tokens == len(ids) - 1 > 64 and nats == pytest.approx(-by_hand(policy, ids, 1), rel=1e-5)


def test_a_window_does_not_end_the_suite(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"instructions": 0, "arithmetic": 0, "formats": 0})
    found = run_forgetting(sliding(), {"other": sliding(1)}, config, tmp_path)
    assert {row["part"] for row in found["metrics"]} == {"facts", "text"} and found["unmeasured"] == {}
    assert all(row["base"]["n"] == 3 for row in found["metrics"] if row["part"] == "text")


def test_a_text_longer_than_the_context_is_refused() -> None:
    with pytest.raises(PromptTooLong):
        Likelihood(tiny()).options("x" * 1600, [" y"])


def test_an_endpoint_gives_no_likelihoods() -> None:
    with pytest.raises(NoLikelihoods, match="'far' gives no log-likelihoods"):
        Likelihood(ScriptedPolicy(lambda _c, _r: Message(role="assistant", content="x"), name="far"))


def test_the_interval_of_a_ratio_over_ones_is_that_of_a_mean() -> None:
    values, groups = [0.5, 1.5, 2.0, 0.1, 0.9, 3.0], ["a", "a", "b", "c", "c", "c"]
    ratio, mean = ratio_interval(values, [1.0] * 6, groups), cluster_interval(values, groups)
    assert (ratio.mean, ratio.low, ratio.high) == pytest.approx((mean.mean, mean.low, mean.high))


def test_a_change_is_paired_item_by_item() -> None:
    metric = Metric("m", "M")
    before = [{"id": str(n), "group": str(n), "scores": {"right": float(n % 2)}} for n in range(40)]
    after = [{**row, "scores": {"right": 1.0}} for row in reversed(before)]
    found = change(metric, before, after[:30])
    assert found is not None and found.mean == 0.5 and found.n == 30
    assert verdict(metric, found) == "improved"
    assert verdict(Metric("m", "M", higher_is_better=False), found) == "forgotten"
    same = change(metric, before, before)
    assert same is not None and same.mean == 0 and verdict(metric, same) == ""
    assert estimate(metric, [{"id": "0", "group": "0", "scores": {}}]) is None


def test_ratios_over_other_tokens_are_not_compared() -> None:
    metric = Metric("nats_per_token", "T", "ratio", "nats", "tokens", higher_is_better=False)
    before = [{"id": n, "group": n, "scores": {"nats": 3.0, "tokens": 2.0}} for n in "abc"]
    after = [{**row, "scores": {"nats": 3.0, "tokens": 3.0}} for row in before]
    assert change(metric, before, after) is None
    worse = [{**row, "scores": {"nats": 3.2 + 0.1 * place, "tokens": 2.0}} for place, row in enumerate(before)]
    found = change(metric, before, worse)
    assert found is not None and found.mean == pytest.approx(0.15) and verdict(metric, found) == "forgotten"


def test_the_suite_compares_a_policy_with_its_base(tmp_path: Path) -> None:
    found = run_forgetting(tiny(), {"same": tiny(), "other": tiny(0.02)}, CONFIG, tmp_path)
    metrics = {row["metric"]: row for row in found["metrics"]}
    assert set(metrics) >= {"instructions", "arithmetic", "formats", "facts", "nats_per_byte", "nats_per_token"}
    assert "word_problems" not in metrics and found["unmeasured"] == {}
    for row in metrics.values():
        assert row["policies"]["same"]["change"]["mean"] == 0
    moved = metrics["nats_per_byte"]["policies"]["other"]
    # The change from the texts themselves, not from the suite's rows.
    nats = {}
    for name, policy in (("base", tiny()), ("other", tiny(0.02))):
        scorer = Likelihood(policy)
        texts = [item.messages[0].text for item in PlainText().items(3, 0)]
        nats[name] = sum(scorer.text(text)[0] for text in texts) / sum(len(text.encode()) for text in texts)
    assert moved["change"]["mean"] == pytest.approx(nats["other"] - nats["base"], rel=1e-6)
    assert metrics["nats_per_byte"]["base"]["mean"] == pytest.approx(nats["base"], rel=1e-6)
    assert moved["change"]["low"] < moved["change"]["mean"] < moved["change"]["high"]
    cost = found["cost"]["base"]
    assert cost["forgetting: text"]["prompt_tokens"] > 1000 and cost["forgetting: arithmetic"]["sampled_tokens"] > 0
    assert json.loads((tmp_path / "forgetting.json").read_text())["metrics"] == found["metrics"]


class Stops(Exception):
    """The process is killed."""


class Killed(TransformersPolicy):
    """A policy whose process dies at a given call."""

    def __init__(self, policy: TransformersPolicy, calls: int) -> None:
        super().__init__(policy.model, policy.tokenizer, name=policy.name)
        self.left = calls

    def sample(self, conversations: Any, n: int = 1, sampling: Sampling | None = None) -> Any:
        if self.left == 0:
            raise Stops
        self.left -= 1
        return super().sample(conversations, n, sampling)


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    whole = run_forgetting(tiny(), {"other": tiny(0.02)}, CONFIG, tmp_path / "whole")
    for calls in (0, 1, 3):
        with pytest.raises(Stops):
            run_forgetting(Killed(tiny(), calls), {"other": tiny(0.02)}, CONFIG, tmp_path / "killed")
    rows = tmp_path / "killed/base/instructions.jsonl"
    with rows.open("ab") as file:
        file.write(b'{"id": "instr')  # cut off in the middle of a row
    with pytest.raises(Stops):
        run_forgetting(tiny(), {"other": Killed(tiny(0.02), 4)}, CONFIG, tmp_path / "killed")
    again = run_forgetting(tiny(), {"other": tiny(0.02)}, CONFIG, tmp_path / "killed")
    assert again["metrics"] == whole["metrics"]
    for file in sorted((tmp_path / "whole").rglob("*.jsonl")):
        if file.name != "timings.jsonl":
            other = tmp_path / "killed" / file.relative_to(tmp_path / "whole")
            assert other.read_bytes() == file.read_bytes(), file
    # Finished work is not done again: a policy that cannot answer at all ends it.
    run_forgetting(Killed(tiny(), 0), {"other": Killed(tiny(0.02), 0)}, CONFIG, tmp_path / "killed")


def test_other_settings_and_other_weights_are_refused(tmp_path: Path) -> None:
    run_forgetting(tiny(), {"other": tiny(0.02)}, CONFIG, tmp_path)
    with pytest.raises(BadInput, match="other settings"):
        run_forgetting(tiny(), {"other": tiny(0.02)}, CONFIG.model_copy(update={"seed": 1}), tmp_path)
    with pytest.raises(BadInput, match="policy was"):
        run_forgetting(tiny(), {"other": tiny(0.03)}, CONFIG, tmp_path)
    with pytest.raises(BadInput, match="name of its own"):
        run_forgetting(tiny(), {"base": tiny()}, CONFIG, tmp_path / "new")
    with pytest.raises(BadInput, match="no domain 'moon'"):
        run_forgetting(tiny(), {"a": tiny()}, ForgettingConfig(domains=("moon",)), tmp_path / "new")


class Knowing(ScriptedPolicy):
    """Answers every question of the answered parts rightly: what it is asked is looked up by its text."""

    def __init__(self, config: ForgettingConfig) -> None:
        answers: dict[str, Message] = {}
        for part in (Arithmetic(), WordProblems(), Formats()):
            for item in part.items(getattr(config, part.name), config.seed):
                answers[item.messages[-1].text] = self._answer(item)
        super().__init__(lambda conversation, _: answers[conversation.messages[-1].text], name="knowing")

    @staticmethod
    def _answer(item: Item) -> Message:
        data = item.data
        if item.kind == "call":
            return Message(role="assistant", tool_calls=[ToolCall(name=data["tool"], arguments=data["arguments"])])
        if item.kind == "json":
            return Message(role="assistant", content=json.dumps(data["value"]))
        return Message(
            role="assistant", content="\n".join(data["lines"]) if item.kind == "list" else f"Answer: {data['answer']}"
        )


def test_a_policy_that_knows_everything_scores_one_and_forgets_by_falling_silent(tmp_path: Path) -> None:
    config = ForgettingConfig(
        instructions=0, arithmetic=24, word_problems=20, formats=18, facts=4, text=4, episodes=0, chunk=8
    )
    silent = ScriptedPolicy(lambda _c, _r: Message(role="assistant", content="I do not know."), name="silent")
    found = run_forgetting(Knowing(config), {"silent": silent}, config, tmp_path)
    assert {row["metric"] for row in found["metrics"]} == {
        "arithmetic", "word_problems", "formats", "formats_json", "formats_list", "formats_call",
    }  # fmt: skip
    for row in found["metrics"]:
        assert row["base"]["mean"] == 1.0
        assert row["policies"]["silent"]["change"]["mean"] == -1.0
        assert row["policies"]["silent"]["verdict"] == "forgotten"
    # Weights that are not here say nothing about given text: named, and no score.
    assert set(found["unmeasured"]) == {"facts", "text"}
    assert "gives no log-likelihoods" in found["unmeasured"]["facts"]


def test_questions_that_do_not_fit_are_left_out(tmp_path: Path) -> None:
    def short(noise: float) -> TransformersPolicy:
        policy = make_small_policy([], SMALL.model_copy(update={"context": 200}))
        with torch.no_grad():
            next(iter(policy.model.parameters())).mul_(1 + noise)
        return policy

    config = CONFIG.model_copy(update={"formats": 6})
    found = run_forgetting(short(0.0), {"other": short(0.1)}, config, tmp_path)
    rows = list(read_rows(tmp_path / "base/formats.jsonl"))
    assert len(rows) == 6 and {"error" in row for row in rows} == {True, False}
    formats = next(row for row in found["metrics"] if row["metric"] == "formats")
    assert formats["base"]["n"] == sum("error" not in row for row in rows)
    assert not any(row["metric"] == "facts" for row in found["metrics"])


def test_episodes_in_another_domain_are_judged_by_execution(tmp_path: Path) -> None:
    pytest.importorskip("bm25s")
    config = ForgettingConfig(
        instructions=0, arithmetic=0, word_problems=0, formats=0, facts=0, text=0, episodes=3, domains=("search",)
    )
    from pivotgym.envs.search.bundled import questions

    answers = {one.question: one.answers[0] for one in questions()}

    def knows(conversation: Conversation, _: Any) -> Message:
        text = answers[next(message.text for message in conversation.messages if message.role == "user")]
        return Message(role="assistant", tool_calls=[ToolCall(name="answer", arguments={"text": text})])

    guess = ScriptedPolicy(lambda _c, _r: Message(role="assistant", content="nobody knows"), name="guess")
    found = run_forgetting(ScriptedPolicy(knows, name="knows"), {"guess": guess}, config, tmp_path / "forgetting")
    (row,) = found["metrics"]
    assert row["metric"] == "episodes_search" and row["base"]["mean"] == 1.0 and row["base"]["n"] == 3
    assert row["policies"]["guess"]["value"]["mean"] == 0.0
    assert found["cost"]["base"]["evaluate episodes: search"]["rollout_turns"] == 3
    # Episodes of the suite are not the run's own.
    assert report_figures(tmp_path)["episodes"] is None


def test_a_domain_that_cannot_be_played_is_named_not_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = ForgettingConfig(
        instructions=0, arithmetic=2, word_problems=0, formats=0, facts=0, text=0, episodes=1, domains=("search",)
    )
    import importlib.util

    if importlib.util.find_spec("bm25s") is not None:
        import sys

        monkeypatch.setitem(sys.modules, "bm25s", None)  # as where the package is not installed
        from pivotgym.envs.search import engine

        engine.local_engine.cache_clear()
    found = run_forgetting(Knowing(config), {"again": Knowing(config)}, config, tmp_path)
    assert "bm25s" in found["unmeasured"]["episodes/search"]
    assert [row["metric"] for row in found["metrics"]] == ["arithmetic"]


def test_the_report_shows_it_or_says_how_to_get_it(tmp_path: Path) -> None:
    found = run_forgetting(tiny(), {"<b>other</b>": tiny(0.02)}, CONFIG, tmp_path / "forgetting")
    assert report_figures(tmp_path)["forgetting"]["metrics"] == found["metrics"]
    page = build_report(tmp_path).read_text()
    section = page[page.index('<h2 id="forgetting">') : page.index('<h2 id="rules">')]
    moved = next(row for row in found["metrics"] if row["metric"] == "nats_per_byte")["policies"]["<b>other</b>"]
    assert f"{moved['change']['mean']:+.3f}".replace("-", "−") in section
    assert "Plain text, nats a byte" in section and "<b>other" not in section and "&lt;b&gt;other" in section
    assert "Forgetting: text" in page  # its cost
    out = StringIO()
    print_run_summary(tmp_path, Console(file=out, width=160))
    assert "Change to the base model" in out.getvalue() and "Plain text, nats a byte" in out.getvalue()
    assert "not told apart on" in out.getvalue()

    (tmp_path / "bare").mkdir()
    (tmp_path / "bare/restore.json").write_text(json.dumps({"observations": 2, "matched": 2, "diverged": 0}))
    assert "pivotgym forget" in build_report(tmp_path / "bare").read_text()
    assert "forgetting" in report_figures(tmp_path / "bare")["missing"]


def test_the_page_of_a_comparison_has_it_too(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"instructions": 0, "formats": 0})
    found = run_forgetting(tiny(), {"a|b": tiny(0.02)}, config, tmp_path)
    lines = forgetting_markdown({**found, "unmeasured": {"episodes/repo": "no sandbox"}})
    row = next(line for line in lines if line.startswith("| Plain text, nats a byte |"))
    moved = next(one for one in found["metrics"] if one["metric"] == "nats_per_byte")["policies"]["a|b"]
    assert f"{moved['change']['mean']:+.3f}".replace("-", "−") in row and "a\\|b" in row
    assert "Not measured: episodes/repo: no sandbox" in lines[-1]
    assert "pivotgym forget" in forgetting_markdown(None)[0]


def test_it_measures_what_was_damaged() -> None:
    """Weights moved towards noise make plain text less likely: the sign of the change is forgetting's."""
    policy = tiny()
    texts = [item.messages[0].text for item in PlainText().items(4, 0)]
    model: Any = policy.model
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(8):  # learns the bytes' frequencies, so that there is something to forget
        ids = torch.tensor([policy.tokenizer.encode(text)[:256] for text in texts])
        loss = model(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    damaged = TransformersPolicy(copy.deepcopy(model), policy.tokenizer)
    with torch.no_grad():
        for parameter in damaged.model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    before, after = (sum(Likelihood(one).text(text)[0] for text in texts) for one in (policy, damaged))
    assert math.isfinite(after) and after > before
