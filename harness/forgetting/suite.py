"""Runs the held-out suite on a base policy and on trained ones, resumably, and compares them item by item.

Every policy has a folder with a file of rows for each part; a row is an item with its scores. Items, their order and
the random numbers are the same for all policies, so changes are paired. A part that cannot be measured here (no
sandbox, no weights in this process) is named with the reason; it never becomes a score.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pivotgym.envs.errors import BadInput, InfrastructureError, MissingExtra
from pivotgym.envs.formats.jsonl import RowAppender, read_rows, write_rows
from pivotgym.envs.trajectory import JsonObject, canonical_json, digest
from pivotgym.harness.forgetting.arithmetic import Arithmetic, WordProblems
from pivotgym.harness.forgetting.config import ForgettingConfig
from pivotgym.harness.forgetting.episodes import EpisodeOptions, play_domain, success_metric
from pivotgym.harness.forgetting.facts import Facts, PlainText
from pivotgym.harness.forgetting.formats import Formats
from pivotgym.harness.forgetting.instructions import Instructions
from pivotgym.harness.forgetting.items import Answer, AnsweredPart, Item, Metric
from pivotgym.harness.forgetting.likelihood import Likelihood, NoLikelihoods
from pivotgym.harness.forgetting.measure import figures
from pivotgym.harness.policies.base import Completion, Policy, PromptTooLong, Sampling
from pivotgym.harness.runs import (
    TIMINGS,
    Cost,
    CostMeter,
    Progress,
    claim,
    derive_seed,
    deterministic,
    exclusive,
    no_progress,
    policy_fingerprint,
    total_costs,
    write_json,
)

RESULT = "forgetting.json"
_ANSWERED: tuple[AnsweredPart, ...] = (Instructions(), Arithmetic(), WordProblems(), Formats())
ANSWERED = {part.name: part for part in _ANSWERED}
FACTS, TEXT = Facts(), PlainText()
PARTS = (*ANSWERED, FACTS.name, TEXT.name, "episodes", "lm_eval")


@dataclass(frozen=True)
class Suite:
    """What one policy's folder holds.

    Attributes:
        rows: of each part, by its name; ``episodes/DOMAIN`` and ``lm_eval/TASK`` too.
        metrics: of each part.
        unmeasured: parts that could not be measured, with the reason; ``PART/SCORE`` for one metric of a part.
    """

    rows: dict[str, list[JsonObject]]
    metrics: dict[str, tuple[Metric, ...]]
    unmeasured: dict[str, str]


def run_forgetting(
    base: Policy | Callable[[], Policy],
    trained: Mapping[str, Policy | Callable[[], Policy]],
    config: ForgettingConfig,
    out: Path,
    progress: Progress = no_progress,
    labels: Mapping[str, str] | None = None,
) -> JsonObject:
    """Measures what trained policies forgot, into ``out``; called again it goes on where it stopped.

    Writes ``forgetting.json`` and, for each policy, a folder with the rows of every part and ``timings.jsonl``.

    Args:
        base: the policy before training, or a function that loads it.
        trained: the others, by the name results call them; only one policy is held at a time where functions load
            them.
        config: what is asked.
        out: the folder.
        progress: called after each piece of work.
        labels: what the figures call each of ``trained``; those of one label are runs of one method, and are told
            together, with intervals over the items.

    Returns:
        The content of ``forgetting.json``: for each metric the base's value, and each policy's value with the paired
        change and its 95 % interval; what could not be measured, and why; the cost of each policy.

    Raises:
        BadInput: nothing to compare, a name that is taken twice, or ``out`` was begun with other settings.
    """
    folders = {name: _folder(name) for name in trained}
    if not trained or len({*folders.values(), "base"}) < len(trained) + 1:
        raise BadInput("needs at least one trained policy, each with a name of its own", field="policies")
    config.played()
    out = Path(out)
    with exclusive(out / "forgetting"), deterministic():
        settings: JsonObject = {"config": config.model_dump(mode="json"), "policies": sorted(trained)}
        if labels is not None:
            settings["labels"] = dict(sorted(labels.items()))
        claim(out / "forgetting.settings.json", settings, [out / RESULT])
        suites = {"base": run_suite(_loaded(base), config, out / "base", progress, "base")}
        for name, policy in trained.items():
            suites[name] = run_suite(_loaded(policy), config, out / folders[name], progress, name)
        found = compare_suites(suites if labels is None else pool_suites(suites, labels), config)
        found["cost"] = {name: _costs(out / folders.get(name, "base")) for name in suites}
        write_json(out / RESULT, found)
    return found


def compare_suites(suites: Mapping[str, Suite], config: ForgettingConfig) -> JsonObject:
    """The figures of suites by policy, of which ``base`` is what the others are compared with."""
    base = suites["base"]
    others = {name: suite for name, suite in suites.items() if name != "base"}
    metrics: list[JsonObject] = []
    # What is no share for one policy is none for any: both sides of a change are of one metric.
    left_out = {name for suite in suites.values() for name in suite.unmeasured}
    for part, rows in base.rows.items():
        by_policy = {name: suite.rows[part] for name, suite in others.items() if part in suite.rows}
        kept = [metric for metric in base.metrics[part] if f"{part}/{metric.over}" not in left_out]
        metrics += [{"part": part, **row} for row in figures(kept, rows, by_policy)]
    missing: dict[str, str] = {}
    for name, suite in suites.items():
        for part, reason in suite.unmeasured.items():
            missing.setdefault(part, reason if name == "base" else f"{name}: {reason}")
    return {
        "forgetting": 1,
        "policies": list(others),
        "metrics": metrics,
        "unmeasured": missing,
        "settings": config.model_dump(mode="json"),
    }


def pool_suites(suites: Mapping[str, Suite], labels: Mapping[str, str]) -> dict[str, Suite]:
    """Suites by label, rows of the runs of one label together; the base meets each run of them once."""
    runs: dict[str, list[Suite]] = {}
    for name, label in labels.items():
        runs.setdefault(label, []).append(suites[name])
    most = max(len(found) for found in runs.values())
    return {"base": _pooled([suites["base"]] * most), **{label: _pooled(found) for label, found in runs.items()}}


def _pooled(runs: Sequence[Suite]) -> Suite:
    parts = [part for part in runs[0].rows if all(part in run.rows for run in runs)]
    rows: dict[str, list[JsonObject]] = {
        part: [
            {**row, "id": f"{row['id']} (run {number})"} for number, run in enumerate(runs) for row in run.rows[part]
        ]
        for part in parts
    }
    unmeasured = {part: reason for run in reversed(runs) for part, reason in run.unmeasured.items()}
    return Suite(rows, {part: runs[0].metrics[part] for part in parts}, unmeasured)


def run_suite(policy: Policy, config: ForgettingConfig, folder: Path, progress: Progress, name: str) -> Suite:
    """Every part of the suite for one policy, into its folder."""
    suite = Suite({}, {}, {})

    def told(part: str, done: int, total: int) -> None:
        progress(f"{name}: {part}", done, total, {})

    for part in ANSWERED.values():
        if count := getattr(config, part.name):
            suite.metrics[part.name] = part.metrics
            suite.rows[part.name] = _run_items(
                part.name,
                part.items(count, config.seed),
                policy,
                config,
                folder,
                told,
                _answering(part, policy, config),
            )
    for scored, one in ((FACTS, _choose), (TEXT, _read)):
        if count := getattr(config, scored.name):
            try:
                likelihood = Likelihood(policy)
            except NoLikelihoods as error:
                suite.unmeasured[scored.name] = str(error)
                continue
            suite.metrics[scored.name] = scored.metrics
            suite.rows[scored.name] = _run_items(
                scored.name, scored.items(count, config.seed), policy, config, folder, told, _scoring(likelihood, one)
            )
    options = EpisodeOptions(config.episodes, config.max_turns, config.turn_tokens, config.temperature, config.seed)
    for domain in config.played():
        part_name = f"episodes/{domain}"
        try:
            rows = play_domain(domain, policy, options, folder / "episodes" / domain, progress, name)
        except (MissingExtra, InfrastructureError) as error:
            suite.unmeasured[part_name] = str(error)
            continue
        suite.metrics[part_name], suite.rows[part_name] = (success_metric(domain),), rows
    if config.lm_eval:
        from pivotgym.harness.forgetting.lm_eval_tasks import run_tasks

        run_tasks(
            policy, config.lm_eval, config.lm_limit, config.seed, folder / "lm_eval", suite, told, config.lm_include
        )
    return suite


Scores = Callable[[Sequence[Item], int], list[JsonObject]]


def _run_items(
    part: str,
    items: Sequence[Item],
    policy: Policy,
    config: ForgettingConfig,
    folder: Path,
    told: Callable[[str, int, int], None],
    scores: Scores,
) -> list[JsonObject]:
    """The rows of a part: those on disk up to the last whole chunk, then the rest."""
    file = folder / f"{part}.jsonl"
    settings = {
        "policy": policy_fingerprint(policy),
        "items": digest(canonical_json([item.key() for item in items])),
        **config.model_dump(mode="json", include={"max_tokens", "temperature", "seed", "chunk"}),
    }
    claim(folder / f"{part}.claim.json", settings, [file])
    rows = list(read_rows(file))
    if len(rows) < len(items):
        rows = rows[: len(rows) // config.chunk * config.chunk]
    if file.exists():
        write_rows(file, rows)
    told(part, len(rows), len(items))
    for start in range(len(rows), len(items), config.chunk):
        chunk = items[start : start + config.chunk]
        with CostMeter(folder, f"forgetting: {part}", start, policy):
            made = scores(chunk, start)
        with RowAppender(file, fsync=True) as appender:
            for item, row in zip(chunk, made, strict=True):
                rows.append({"id": item.id, "group": item.group, "kind": item.kind, **row})
                appender.append(rows[-1])
        told(part, len(rows), len(items))
    return rows


def _answering(part: AnsweredPart, policy: Policy, config: ForgettingConfig) -> Scores:
    def scores(items: Sequence[Item], start: int) -> list[JsonObject]:
        seed = derive_seed(config.seed, "forgetting", part.name, start)
        sampling = Sampling(config.temperature, 1.0, config.max_tokens, seed)
        return [
            {"scores": {}, "error": "the question does not fit the policy's context"}
            if completion is None
            else {"scores": part.score(item, Answer.of(completion)), "answer": completion.text}
            for item, completion in zip(items, _ask(policy, items, sampling), strict=True)
        ]

    return scores


def _ask(policy: Policy, items: Sequence[Item], sampling: Sampling) -> list[Completion | None]:
    """A completion for each item; None for those that do not fit the policy's context."""
    fitting = list(range(len(items)))
    while fitting:
        try:
            found = policy.sample([items[place].conversation for place in fitting], 1, sampling)
        except PromptTooLong as error:
            del fitting[error.index]
            continue
        answers: list[Completion | None] = [None] * len(items)
        for place, completions in zip(fitting, found, strict=True):
            answers[place] = completions[0]
        return answers
    return [None] * len(items)


def _scoring(likelihood: Likelihood, one: Callable[[Likelihood, Item], JsonObject]) -> Scores:
    def scores(items: Sequence[Item], start: int) -> list[JsonObject]:
        found: list[JsonObject] = []
        for item in items:
            try:
                found.append(one(likelihood, item))
            except PromptTooLong:
                found.append({"scores": {}, "error": "the text does not fit the policy's context"})
        return found

    return scores


def _choose(likelihood: Likelihood, item: Item) -> JsonObject:
    options = [str(option) for option in item.data["options"]]
    sums = likelihood.options(item.messages[0].text, [f" {option}" for option in options])
    by_byte = [value / len(option.encode()) for value, option in zip(sums, options, strict=True)]
    right = item.data["right"]
    scores = {
        "right": float(sums.index(max(sums)) == right),
        "right_by_byte": float(by_byte.index(max(by_byte)) == right),
    }
    return {"scores": scores, "answer": options[sums.index(max(sums))], "loglikelihoods": sums}


def _read(likelihood: Likelihood, item: Item) -> JsonObject:
    text = item.messages[0].text
    nats, tokens = likelihood.text(text)
    return {"scores": {"nats": nats, "bytes": float(len(text.encode())), "tokens": float(tokens)}}


def _costs(folder: Path) -> JsonObject:
    """What each stage cost, episodes by domain included."""
    totals: dict[str, Cost] = {}
    for file in sorted(folder.rglob(TIMINGS)):
        for stage, cost in total_costs(file.parent).items():
            name = stage if file.parent == folder else f"{stage}: {file.parent.name}"
            totals[name] = totals.get(name, Cost()) + cost
    return {name: cost.row() for name, cost in totals.items()}


def _loaded(policy: Policy | Callable[[], Policy]) -> Policy:
    return policy if isinstance(policy, Policy) else policy()


def _folder(name: str) -> str:
    """A folder's name for a policy's."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")
    return name if plain == name else f"{plain[-40:].strip('-.')}-{digest(name)[:8]}"
