"""lm-eval on our models: its likelihoods are ours, a local task runs, and data that cannot be reached is no score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from needs import require

from pivotgym.envs.formats.jsonl import read_rows
from pivotgym.harness.forgetting.config import ForgettingConfig
from pivotgym.harness.forgetting.facts import Facts, PlainText
from pivotgym.harness.forgetting.items import Metric
from pivotgym.harness.forgetting.likelihood import Likelihood
from pivotgym.harness.forgetting.lm_eval_tasks import counting_model, paper_tasks, scores_of, task_names
from pivotgym.harness.forgetting.suite import Suite, compare_suites, run_forgetting
from pivotgym.harness.policies.scripted import ScriptedPolicy
from pivotgym.harness.policies.small import SmallOptions, make_small_policy
from pivotgym.harness.policies.transformers_policy import TransformersPolicy

require("lm_eval", "lm-eval")
NOTHING = {"instructions": 0, "arithmetic": 0, "word_problems": 0, "formats": 0, "facts": 0, "text": 0, "episodes": 0}
COLOURS = [
    {"question": "The colour of snow is", "choices": ["white", "green"], "right": 0},
    {"question": "The colour of grass is", "choices": ["white", "green"], "right": 1},
    {"question": "The colour of milk is", "choices": ["white", "black"], "right": 0},
    {"question": "The colour of coal is", "choices": ["white", "black"], "right": 1},
]
TASK = """\
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{data}"}}}}
test_split: test
"""
CHOICE = (
    TASK.replace("{name}", "local_colours")
    + """\
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: right
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""
)
GENERATED = """\
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{choices[right]}}}}"
generation_kwargs: {{until: ["\\n"], max_gen_toks: 4, do_sample: false}}
"""
WRITTEN = (
    TASK.replace("{name}", "local_written")
    + GENERATED
    + """\
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""
)
SCALED = (
    TASK.replace("{name}", "local_scaled")
    + GENERATED
    + """\
process_results: !function scaled.scores
metric_list:
"""
    + "".join(
        f"  - {{{{metric: {name}, aggregation: mean, higher_is_better: true}}}}\n"
        for name in ("bleu_max", "bleu_diff", "bleu_acc", "near_diff", "gone")
    )
)
SCORES = """\
def scores(doc, results):
    number = ["snow", "grass", "milk", "coal"].index(doc["question"].split()[3])
    bleu = [0.4, 35.0, 60.0, 0.0][number]
    return {
        "bleu_max": bleu,
        "bleu_diff": bleu - 20,
        "bleu_acc": int(bleu > 20),
        "near_diff": 0.25,
        "gone": float("nan") if number == 2 else 0.5,
    }
"""
LOST = (
    TASK.replace("{name}", "local_lost").replace("{data}", "{data}.gone")
    + """\
output_type: multiple_choice
doc_to_text: question
doc_to_choice: choices
doc_to_target: right
"""
)


def tiny(noise: float = 0.0) -> TransformersPolicy:
    options = SmallOptions(layers=1, hidden=32, heads=2, feed_forward=32, merges=0, context=1536, copying=0)
    policy = make_small_policy([], options)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter += noise * torch.randn(parameter.shape, generator=generator)
    return policy


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of lm-eval tasks on local data."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    data = tmp_path / "colours.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in COLOURS))
    folder = tmp_path / "tasks"
    folder.mkdir()
    for name, text in (("choice", CHOICE), ("written", WRITTEN), ("scaled", SCALED), ("lost", LOST)):
        (folder / f"{name}.yaml").write_text(text.format(data=data))
    (folder / "scaled.py").write_text(SCORES)
    return folder


def test_our_likelihoods_are_those_of_lm_eval() -> None:
    from lm_eval.api.instance import Instance

    policy = tiny(0.05)
    scorer, peer = Likelihood(policy), counting_model(policy)
    for item in Facts().items(6, 0):
        context, options = item.messages[0].text, [f" {option}" for option in item.data["options"]]
        requests = [Instance("loglikelihood", {}, (context, option), place) for place, option in enumerate(options)]
        theirs = [value for value, _ in peer.loglikelihood(requests, disable_tqdm=True)]
        assert scorer.options(context, options) == pytest.approx(theirs, abs=1e-3)
    # Longer texts are cut at other places: there in windows of the whole context.
    texts = [text for item in PlainText().items(9, 0) if len(text := item.messages[0].text) < 1000]
    assert len(texts) > 2
    requests = [Instance("loglikelihood_rolling", {}, (text,), place) for place, text in enumerate(texts)]
    rolling = peer.loglikelihood_rolling(requests, disable_tqdm=True)
    assert [-scorer.text(text)[0] for text in texts] == pytest.approx(rolling, rel=1e-5)


def test_local_tasks_run_and_compare(tmp_path: Path, tasks: Path) -> None:
    config = ForgettingConfig(**NOTHING, lm_eval=("local_colours", "local_written"), lm_include=tasks)
    found = run_forgetting(tiny(), {"other": tiny(0.3)}, config, tmp_path / "out")
    metrics = {row["metric"]: row for row in found["metrics"]}
    assert set(metrics) == {"local_colours_acc", "local_written_exact_match"} and found["unmeasured"] == {}
    # The accuracy as the two options' likelihoods say it, for both policies.
    for name, policy in (("base", tiny()), ("other", tiny(0.3))):
        scorer = Likelihood(policy)
        right = 0
        for row in COLOURS:
            sums = scorer.options(str(row["question"]), [f" {choice}" for choice in row["choices"]])
            right += sums.index(max(sums)) == row["right"]
        shown = metrics["local_colours_acc"]
        value = shown["base"] if name == "base" else shown["policies"]["other"]["value"]
        assert value["mean"] == right / len(COLOURS)
    assert found["cost"]["base"]["forgetting: lm_eval"]["prompt_tokens"] > 0
    assert 4 <= found["cost"]["base"]["forgetting: lm_eval"]["sampled_tokens"] <= 2 * 4 * 8
    rows = list(read_rows(tmp_path / "out/base/lm_eval/local_colours.jsonl"))
    assert [row["id"] for row in rows] == [f"local_colours/{place}" for place in range(4)]
    # A finished task is not run again: without its data the result is the same.
    (tmp_path / "colours.jsonl").unlink()
    assert run_forgetting(tiny(), {"other": tiny(0.3)}, config, tmp_path / "out")["metrics"] == found["metrics"]


def test_what_is_no_share_is_named_and_no_score(tmp_path: Path, tasks: Path) -> None:
    config = ForgettingConfig(**NOTHING, lm_eval=("local_scaled",), lm_include=tasks)
    found = run_forgetting(tiny(), {"other": tiny(0.3)}, config, tmp_path / "out")
    (row,) = found["metrics"]
    assert row["metric"] == "local_scaled_bleu_acc" and row["base"]["mean"] == 0.5 and row["base"]["n"] == 4
    missing = {part.removeprefix("lm_eval/local_scaled/"): reason for part, reason in found["unmeasured"].items()}
    assert set(missing) == {"bleu_max", "bleu_diff", "near_diff", "gone"}
    assert missing["bleu_max"].endswith("bleu_max is no share: it lies between 0 and 60")
    assert missing["bleu_diff"].endswith("it lies between -20 and 40")
    assert missing["near_diff"].endswith("another scale than [0, 1]")
    assert missing["gone"].endswith("no finite number for 1 of 4 documents")


def test_which_scores_are_shares() -> None:
    rows = [{"scores": {"acc": 0.5, "bleu": 0.3, "rouge1_max": 0.9, "bleu_acc, strict": 1.0, "rouge1": 0.2}}]
    assert {score for score, reason in scores_of(rows).items() if reason is None} == {
        "acc", "bleu_acc, strict", "rouge1",
    }  # fmt: skip
    # A document without the score says nothing about it.
    assert scores_of([*rows, {"scores": {}}])["acc"] is None and scores_of([*rows, {"scores": {"acc": 1.5}}])["acc"]


@pytest.mark.parametrize("others", [True, False], ids=["others", "alone"])
def test_policies_are_compared_by_the_same_scores(others: bool) -> None:
    def suite(values: dict[str, list[float]], unmeasured: dict[str, str]) -> Suite:
        rows = [
            {"id": str(n), "group": str(n), "kind": "x", "scores": {name: found[n] for name, found in values.items()}}
            for n in range(2)
        ]
        metrics = tuple(Metric(name, name, over=name) for name in values if f"lm_eval/x/{name}" not in unmeasured)
        return Suite({"lm_eval/x": rows} if metrics else {}, {"lm_eval/x": metrics} if metrics else {}, unmeasured)

    more = {"acc": [0.0, 1.0]} if others else {}
    base = suite({"score": [0.2, 0.4], **more}, {})
    trained = suite({"score": [0.2, 40.0], **more}, {"lm_eval/x/score": "it lies between 0.2 and 40"})
    found = compare_suites({"base": base, "trained": trained}, ForgettingConfig())
    assert [row["metric"] for row in found["metrics"]] == list(more)
    assert found["unmeasured"] == {"lm_eval/x/score": "trained: it lies between 0.2 and 40"}


def test_what_cannot_be_had_is_named_and_no_score(tmp_path: Path, tasks: Path) -> None:
    config = ForgettingConfig(**NOTHING, lm_eval=("local_lost",), lm_include=tasks)
    found = run_forgetting(tiny(), {"other": tiny(0.3)}, config, tmp_path / "out")
    assert found["metrics"] == []
    assert "'local_lost': its data cannot be reached" in found["unmeasured"]["lm_eval/local_lost"]
    assert "\n" not in found["unmeasured"]["lm_eval/local_lost"]


@pytest.mark.slow  # reads the index of all of lm-eval's tasks
def test_a_task_that_lm_eval_does_not_have(tmp_path: Path, tasks: Path) -> None:
    config = ForgettingConfig(**NOTHING, lm_eval=("no_such_task",), lm_include=tasks)
    found = run_forgetting(tiny(), {"other": tiny(0.3)}, config, tmp_path / "out")
    assert found["unmeasured"]["lm_eval/no_such_task"].endswith("lm-eval has no such task")


def test_a_policy_without_weights_is_told_so(tmp_path: Path, tasks: Path) -> None:
    def silent() -> Any:
        return ScriptedPolicy(lambda _c, _r: None, name="silent")  # type: ignore[arg-type, return-value]

    config = ForgettingConfig(**NOTHING, lm_eval=("local_colours",), lm_include=tasks)
    found = run_forgetting(silent(), {"again": silent()}, config, tmp_path / "out")
    assert found["metrics"] == [] and "no weights" in found["unmeasured"]["lm_eval/local_colours"]


def test_the_papers_benchmarks_by_name() -> None:
    assert set(paper_tasks().values()) == {
        "IFBench", "AIME25", "MATH500", "LiveCodeBench", "SciCode", "MMLU-Pro", "MMLU-ProX", "WMT24++",
    }  # fmt: skip
    assert task_names(("paper", "mine")) == {**paper_tasks(), "mine": "mine"}


@pytest.mark.slow
def test_the_papers_tasks_that_lm_eval_has() -> None:
    from lm_eval.tasks import TaskManager

    known = {task for task in paper_tasks() if TaskManager().match_tasks([task])}
    assert {"aime25", "minerva_math500", "mmlu_pro"} <= known
