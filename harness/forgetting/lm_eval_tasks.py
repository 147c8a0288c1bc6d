"""Tasks of the ``lm_eval`` package (EleutherAI's Language Model Evaluation Harness), where their data can be had.

The model is the policy's own, given to lm-eval's ``HFLM``; prompts, extraction of answers and metrics are lm-eval's.
A task that it does not know, that needs another package, or whose data cannot be reached is named with the reason. It
never becomes a score.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib.resources import files
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pivotgym.envs.errors import MissingExtra
from pivotgym.envs.formats.jsonl import read_rows, write_rows
from pivotgym.envs.trajectory import JsonObject
from pivotgym.harness.forgetting.items import ENDED, Metric
from pivotgym.harness.forgetting.likelihood import NoLikelihoods
from pivotgym.harness.policies.base import Policy
from pivotgym.harness.policies.transformers_policy import TransformersPolicy
from pivotgym.harness.runs import CostMeter, claim, policy_fingerprint

if TYPE_CHECKING:
    from pivotgym.harness.forgetting.suite import Suite

PAPER = "paper"
_BATCH = 8
_OTHER_SCALES = re.compile(r"_diff$|^(bleu|chrf|ter)(_(?!acc$)|$)|^rouge\w*_max$")
"""Metrics of lm-eval that are no shares even where all their values happen to lie in [0, 1]: differences, and scores
that it counts from 0 to 100."""


def paper_tasks() -> dict[str, str]:
    """The benchmarks the PivotRL paper (arXiv:2603.21383, tables 2 and 3) reports: lm-eval task, name there."""
    listed = json.loads(files(__package__).joinpath("paper_tasks.json").read_text(encoding="utf-8"))
    return {task: str(row["benchmark"]) for row in listed for task in row["tasks"]}


def task_names(wanted: Sequence[str]) -> dict[str, str]:
    """Tasks by what results call them; ``paper`` stands for :func:`paper_tasks`."""
    found: dict[str, str] = {}
    for name in wanted:
        found |= paper_tasks() if name == PAPER else {name: name}
    return found


def run_tasks(
    policy: Policy,
    wanted: Sequence[str],
    limit: int | None,
    seed: int,
    folder: Path,
    suite: Suite,
    told: Callable[[str, int, int], None],
    include: Path | None = None,
) -> None:
    """Runs tasks and adds their rows, metrics, or the reason they could not be measured, to ``suite``.

    A finished task is not run again; within one, lm-eval's request cache keeps what was answered.

    Args:
        policy: with its weights in this process.
        wanted: names of tasks and groups, or ``paper``.
        limit: only so many documents of each task.
        seed: of few-shot examples.
        folder: the rows, a file a task.
        suite: changed in place.
        told: ``told(name, done, total)``.
        include: folder with further task files (YAML).

    Raises:
        MissingExtra: ``lm_eval`` is not installed.
        BadInput: the folder was begun with other settings.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise MissingExtra("lm_eval", "lm-eval")
    names = task_names(wanted)
    if not isinstance(policy, TransformersPolicy):
        reason = str(NoLikelihoods(f"policy {policy.name!r} has no weights in this process"))
        suite.unmeasured.update({f"lm_eval/{name}": reason for name in names})
        return
    with _quiet():
        manager = _manager(include, tuple(names))
        for done, (name, label) in enumerate(names.items()):
            told("lm-eval", done, len(names))
            part = f"lm_eval/{name}"
            file = folder / f"{name}.jsonl"
            # Files from before all scores were kept lack those that say what is no share.
            settings = {"policy": policy_fingerprint(policy), "limit": limit, "seed": seed, "scores": "all"}
            claim(folder / f"{name}.claim.json", settings, [file])
            if not file.exists():
                tasks = _load(manager, name, label)
                if isinstance(tasks, str):
                    suite.unmeasured[part] = tasks
                    continue
                with CostMeter(folder.parent, "forgetting: lm_eval", name, policy):
                    write_rows(file, _evaluate(policy, manager, name, tasks, limit, seed, folder / ".cache"))
            rows = list(read_rows(file))
            found = scores_of(rows)
            suite.unmeasured.update(
                (f"{part}/{score}", f"lm-eval task {name!r}: {reason}") for score, reason in found.items() if reason
            )
            scores = [score for score, reason in found.items() if reason is None]
            if not scores:
                suite.unmeasured[part] = f"lm-eval task {name!r}: no metric in [0, 1] of single documents"
                continue
            suite.rows[part] = rows
            suite.metrics[part] = tuple(
                Metric(f"{name}_{score}", f"{label} (lm-eval, {score})", over=score) for score in scores
            )
        told("lm-eval", len(names), len(names))


def scores_of(rows: Sequence[JsonObject]) -> dict[str, str | None]:
    """The scores in rows of documents: None for one that is a share of something, otherwise why it is none.

    Judged over all documents: single values of a score from 0 to 100 lie in [0, 1] too, and those alone say nothing.
    """
    values: dict[str, list[float | None]] = {}
    for row in rows:
        for score, value in row["scores"].items():
            values.setdefault(score, []).append(value)
    return {score: _why_no_share(score, values[score]) for score in sorted(values)}


def _why_no_share(score: str, values: Sequence[float | None]) -> str | None:
    numbers = [value for value in values if value is not None]
    if len(numbers) < len(values):
        return f"{score} is no finite number for {len(values) - len(numbers)} of {len(values)} documents"
    if min(numbers) < 0 or max(numbers) > 1:
        return f"{score} is no share: it lies between {min(numbers):.4g} and {max(numbers):.4g}"
    if _OTHER_SCALES.search(score.partition(", ")[0]):
        return f"{score} is no share: it has another scale than [0, 1]"
    return None


@lru_cache(maxsize=4)
def _manager(include: Path | None, names: tuple[str, ...]) -> Any:
    """A task manager that knows these names if any does."""
    from lm_eval.tasks import TaskManager

    if include is not None:
        own: Any = TaskManager(include_path=str(include), include_defaults=False)
        if all(own.match_tasks([name]) for name in names):
            return own  # reading the index of all of lm-eval's tasks takes half a minute
    return TaskManager(include_path=None if include is None else str(include))


def _load(manager: Any, name: str, label: str) -> list[Any] | str:
    """The tasks of a name, with their data; or one line that says why they cannot be had."""
    said = f"lm-eval task {name!r}" if name == label else f"lm-eval task {name!r} ({label})"
    if not manager.match_tasks([name]):
        return f"{said}: lm-eval has no such task"
    try:
        return list(manager.load([name])["tasks"].values())
    except ImportError as error:
        return f"{said} needs a package that is not installed: {_line(error)}"
    except Exception as error:  # whatever a hub, a loading script or a file system raises: there is no data
        return f"{said}: its data cannot be reached: {_line(error)}"


def _line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]


def _evaluate(
    policy: TransformersPolicy, manager: Any, name: str, tasks: Sequence[Any], limit: int | None, seed: int, cache: Path
) -> Iterator[JsonObject]:
    from lm_eval.evaluator import simple_evaluate

    cache.mkdir(parents=True, exist_ok=True)
    # Questions that are answered in words are asked as this policy is asked; options are compared as plain text.
    chat = any(task.OUTPUT_TYPE == "generate_until" for task in tasks)
    found: Any = simple_evaluate(
        model=counting_model(policy),
        tasks=[name],
        task_manager=manager,
        limit=limit,
        bootstrap_iters=0,
        log_samples=True,
        apply_chat_template=chat,
        use_cache=str(cache / name),
        random_seed=seed,
        numpy_random_seed=seed,
        torch_random_seed=seed,
        fewshot_random_seed=seed,
    )
    for task, samples in found["samples"].items():
        for sample in samples:
            found_here = {metric: sample.get(metric) for metric in sample["metrics"]}
            scores = {
                # JSON has no NaN; null keeps that there was one.
                metric: float(value) if math.isfinite(value) else None
                for metric, value in found_here.items()
                if isinstance(value, Real)  # metrics of whole tasks have lists and pairs
            }
            filtered = sample.get("filter", "none")
            row = f"{task}/{sample['doc_id']}"
            yield {
                "id": row if filtered == "none" else f"{row}/{filtered}",
                "group": row,
                "kind": task,
                "scores": scores if filtered == "none" else {f"{k}, {filtered}": v for k, v in scores.items()},
            }


def counting_model(policy: TransformersPolicy) -> Any:
    """The policy's model as lm-eval's ``HFLM``; what it reads and samples counts in the policy's usage.

    Raises:
        MissingExtra: ``lm_eval`` is not installed.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise MissingExtra("lm_eval", "lm-eval")
    from lm_eval.models.huggingface import HFLM

    class Counting(HFLM):  # type: ignore[misc]
        def _model_call(self, inps: Any, *args: Any, **kwargs: Any) -> Any:
            policy.usage.calls += int(inps.shape[0])
            policy.usage.prompt_tokens += int(inps.numel())
            return super()._model_call(inps, *args, **kwargs)

        def _model_generate(self, context: Any, *args: Any, **kwargs: Any) -> Any:
            found = super()._model_generate(context, *args, **kwargs)
            policy.usage.calls += int(context.shape[0])
            policy.usage.prompt_tokens += int(context.numel())
            policy.usage.sampled_tokens += int(found.numel() - context.numel())
            return found

    return Counting(
        pretrained=policy.model.eval(),
        tokenizer=policy.tokenizer,
        batch_size=_BATCH,
        max_length=min(policy.context, 2**20),
        chat_template_args=policy.format.template_args or None,
        # The answer of a model that thinks is what follows.
        think_end_token=ENDED if ENDED in str(policy.tokenizer.chat_template) else None,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Only errors of lm-eval and of the hub."""
    names = ("lm_eval", "huggingface_hub", "datasets", "lm-eval")
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
