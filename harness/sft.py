"""Supervised warm start: the recorded assistant turns, next token by next token.

A small model that never answers a prompt with a well-formed call has no pivots. A few supervised steps on a disjoint
set of trajectories give it the form; the run names them and counts their tokens like any other cost. This is also the
``sft`` baseline.

Speed: nothing is padded, what comes after the last assistant token is cut off, the language-model head runs on
assistant tokens only, and conversations that begin alike (policy text, tool schemas) are packed so that the common
beginning is computed once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from pivotgym.envs.errors import BadInput
from pivotgym.envs.trajectory import JsonObject, Trajectory, canonical_json, digest
from pivotgym.harness.adapters import start_settings
from pivotgym.harness.chat import ChatFormat, UnstableTemplate
from pivotgym.harness.checkpoints import Checkpoints, truncate
from pivotgym.harness.forward import padded_logprobs, tree_logprobs
from pivotgym.harness.learner import Learner
from pivotgym.harness.options import LoraOptions, OptimOptions
from pivotgym.harness.packing import Group, positions_of
from pivotgym.harness.policies.base import Conversation
from pivotgym.harness.policies.transformers_policy import TransformersPolicy
from pivotgym.harness.runs import (
    CostMeter,
    Progress,
    append_figures,
    claim,
    derive_seed,
    deterministic,
    exclusive,
    no_progress,
    policy_fingerprint,
    shuffled_batch,
    whole_folder,
    write_json,
)
from pivotgym.harness.turns import make_env

METRICS = "metrics.jsonl"


class SftConfig(BaseModel):
    """How to train on recordings.

    Attributes:
        epochs: passes over the trajectories; may be a fraction.
        batch: conversations in an update.
        max_length: longer conversations are cut behind the last assistant turn that fits.
        pack_tokens: conversations are packed into one forward pass up to so many distinct tokens.
        lora: adapter settings; None trains all weights.
        warm_start: folder of a LoRA adapter to start from; where all weights train it is merged into them first.
        optim: the optimiser.
        gradient_checkpointing: compute the layers again in the backward pass instead of keeping what is in them.
        env_options: keyword arguments of ``gym.make``, for trajectories that leave their tools to the environment.
        seed: fixes everything random.
        save_every: updates between checkpoints.
        keep: checkpoints kept.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: float = Field(1.0, gt=0)
    batch: int = Field(8, ge=1)
    max_length: int = Field(4096, ge=2)
    pack_tokens: int = Field(1024, ge=1)
    gradient_checkpointing: bool = False
    lora: LoraOptions | None = LoraOptions()
    warm_start: Path | None = None
    optim: OptimOptions = OptimOptions(lr=5e-4, warmup=3)
    env_options: JsonObject = Field(default_factory=dict)
    seed: int = 0
    save_every: int = Field(5, ge=1)
    keep: int = Field(2, ge=1)

    def results_depend_on(self) -> JsonObject:
        """The fields that change the results of an update."""
        return self.model_dump(mode="json", exclude={"epochs", "save_every", "keep", "gradient_checkpointing"})


@dataclass(frozen=True)
class Example:
    """Token ids, and which of them the assistant emitted."""

    token_ids: list[int]
    is_output: list[bool]

    @property
    def tokens(self) -> int:
        """Tokens that are trained on."""
        return sum(self.is_output)


@dataclass(frozen=True)
class SftResult:
    """What the warm start came to: the run's folder, its weights, updates, conversations, trained tokens, losses."""

    folder: Path
    weights: Path
    steps: int
    conversations: int
    cut: int
    trained_tokens: int
    first_loss: float | None
    last_loss: float | None


def examples_of(
    trajectories: Sequence[Trajectory],
    chat: ChatFormat,
    max_length: int = 4096,
    env_options: JsonObject | None = None,
) -> tuple[list[Example], int]:
    """Conversations as the agent saw them, as token ids.

    One example a trajectory; where the chat template renders earlier turns differently once the conversation goes on,
    one a turn.

    Returns:
        The examples, and how many were cut to ``max_length`` or left out because not even one turn fits.
    """
    examples, cut = [], 0
    for trajectory in trajectories:
        if not trajectory.turns:
            continue
        conversation = _conversation(trajectory, env_options)
        for example in _tokenise(conversation, chat):
            whole = example.tokens
            kept = _fit(example, max_length)
            cut += kept is None or kept.tokens < whole
            if kept is not None:
                examples.append(kept)
    return examples, cut


def train_sft(
    trajectories: Sequence[Trajectory],
    policy: TransformersPolicy,
    config: SftConfig,
    out: Path,
    progress: Progress = no_progress,
) -> SftResult:
    """Trains on what the assistant said and called in ``trajectories``.

    Writes the same files into ``out`` as :func:`pivotgym.harness.train.train`, rows of kind ``sft``, and goes on where
    it stopped when called again.

    Raises:
        BadInput: no usable trajectory, or ``out`` was begun with other settings.
        InfrastructureError: several updates in a row had no finite gradient; what was finished is kept.
    """
    out = Path(out)
    examples, cut = examples_of(trajectories, policy.format, config.max_length, config.env_options)
    if not examples:
        raise BadInput("no conversation to train on", field="trajectories")
    steps = max(1, round(config.epochs * len(examples) / config.batch))
    settings = {
        "method": "sft",
        **config.results_depend_on(),
        **start_settings(config.lora, config.warm_start),
        "policy": policy.name,
        "policy_fingerprint": policy_fingerprint(policy),
        "examples": digest(canonical_json([example.token_ids for example in examples])),
    }
    metrics = out / METRICS
    with exclusive(out / "run"), deterministic():
        claim(out / "settings.json", settings, [metrics, out / "checkpoints"])
        learner = Learner(
            policy.model,
            config.lora,
            config.optim,
            warm_start=config.warm_start,
            seed=derive_seed(config.seed, "adapter"),
            checkpointing=config.gradient_checkpointing,
        )
        # The longest first, and before a checkpoint is gone to: what the checks of the packed pass find must not depend
        # on where a killed run goes on.
        longest_first = sorted(examples, key=lambda item: len(item.token_ids), reverse=True)
        most = sum(len(example.token_ids) for example in longest_first[: config.batch])
        for example in longest_first:
            learner.way([_ending(example)], rows=max(len(example.token_ids), min(config.pack_tokens, most)))
        checkpoints = Checkpoints(out / "checkpoints", config.keep)
        state: JsonObject = checkpoints.resume(learner) or {"step": 0, "metrics_bytes": 0, "tokens": 0, "first": None}
        learner.skipped_in_row = int(state.get("skipped_in_row", 0))
        truncate(metrics, int(state["metrics_bytes"]))
        done, tokens, first, last = int(state["step"]), int(state["tokens"]), state["first"], state.get("last")
        progress("sft", done, steps, {})
        for number in range(done + 1, steps + 1):
            batch = [
                examples[index] for index in shuffled_batch(len(examples), config.batch, number, config.seed, "sft")
            ]
            skipped = learner.skipped
            with CostMeter(out, "sft", number) as meter, learner.recomputing:
                loss = _accumulate(learner, batch, config.pack_tokens)
                norm = learner.update(number)
                meter.cost.trained_tokens += sum(example.tokens for example in batch)
            tokens += sum(example.tokens for example in batch)
            if math.isfinite(loss):  # what is no number is in no summary, and in no JSON
                first, last = loss if first is None else first, loss
            row = {
                "kind": "sft",
                "step": number,
                "epoch": (number * config.batch - 1) // len(examples),
                "loss": loss,
                "grad_norm": norm,
                "updates_skipped": learner.skipped - skipped,
                "lr": learner.lr_at(number),
                "trained_tokens": sum(example.tokens for example in batch),
            }
            append_figures(metrics, row)
            if number == steps or number % config.save_every == 0:
                kept = {
                    "metrics_bytes": metrics.stat().st_size,
                    "tokens": tokens,
                    "first": first,
                    "last": last,
                    "skipped_in_row": learner.skipped_in_row,
                }
                checkpoints.save(learner, number, kept)
            progress("sft", number, steps, row)
        with whole_folder(out / "final") as folder:
            learner.save_weights(folder)
            if not learner.lora:  # a whole model is loaded by its folder, an adapter beside its base
                policy.tokenizer.save_pretrained(str(folder))
        result = SftResult(out, out / "final", max(done, steps), len(examples), cut, tokens, first, last)
        summary = {name: value for name, value in vars(result).items() if not isinstance(value, Path)}
        write_json(out / "summary.json", {"method": "sft", **summary})
    return result


def _accumulate(learner: Learner, batch: Sequence[Example], pack_tokens: int) -> float:
    """Gradients of the mean loss over the assistant tokens of ``batch``; returns that loss (nats a token)."""
    total = sum(example.tokens for example in batch)
    loss_sum = 0.0
    # What cannot be packed goes through the model on its own, and only that.
    packed: list[Example] = []
    alone: list[list[Example]] = []
    for example in batch:
        if learner.way([_ending(example)]).shared:
            packed.append(example)
        else:
            alone.append([example])
    packs = _packs(packed, pack_tokens)
    # The longest row says whether any is packed: a check that failed later would meet packs made for rows.
    if packs and not learner.way([_ending(example) for example in max(packs, key=_positions)]).shared:
        packs, alone = [], [[example] for example in batch]
    for pack in [*packs, *alone]:
        loss = -_pack_logprobs(learner, pack).sum() / total
        loss.backward()  # type: ignore[no-untyped-call]
        loss_sum += float(loss.detach())
    return loss_sum


def _pack_logprobs(learner: Learner, pack: Sequence[Example]) -> Tensor:
    model, way = learner.model, learner.way([_ending(example) for example in pack])
    if way.shared:
        found = tree_logprobs(model, [e.token_ids for e in pack], [e.is_output for e in pack], kernel=way.kernel)
        return found.logprobs_NT[found.mask_NT]
    (example,) = pack
    start = example.is_output.index(True)
    logprobs_1T = padded_logprobs(model, example.token_ids[:start], [example.token_ids[start:]]).logprobs_NT
    wanted = [place for place, flag in enumerate(example.is_output[start:]) if flag]
    return logprobs_1T[0, wanted]


def _positions(pack: Sequence[Example]) -> int:
    return positions_of([_ending(example) for example in pack])


def _ending(example: Example) -> Group:
    """A conversation as the learner's checks of the packed pass take it: its last tokens behind all others.

    Few of them: their logits are computed at once, and a whole conversation's would take gigabytes.
    """
    cut = max(1, len(example.token_ids) - 32)
    return example.token_ids[:cut], [example.token_ids[cut:]]


def _packs(batch: Sequence[Example], limit: int) -> list[list[Example]]:
    """Groups examples that begin alike, up to ``limit`` distinct tokens."""
    packs: list[list[Example]] = []
    size = 0
    before: list[int] = []
    # Neighbours in lexicographic order share the longest beginnings.
    for example in sorted(batch, key=lambda item: item.token_ids):
        fresh = len(example.token_ids) - _common(before, example.token_ids)
        if packs and size + fresh <= limit:
            packs[-1].append(example)
            size += fresh
        else:
            packs.append([example])
            size = len(example.token_ids)
        before = example.token_ids
    return packs


def _common(left: list[int], right: list[int]) -> int:
    count = 0
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        count += 1
    return count


def _conversation(trajectory: Trajectory, env_options: JsonObject | None) -> Conversation:
    tools = trajectory.tools
    if not tools and trajectory.task is not None:
        env = make_env(trajectory.task.env, env_options)
        try:
            env.reset(options={"trajectory": trajectory, "turn": 0})
            tools = env.tools
        finally:
            env.close()
    return Conversation([message for message in trajectory.messages if message.visible_to_agent], tools)


def _tokenise(conversation: Conversation, chat: ChatFormat) -> list[Example]:
    try:
        whole = chat.assistant_spans(conversation)
    except UnstableTemplate:
        found = []
        for index, message in enumerate(conversation.messages):
            if message.role == "assistant":
                before = Conversation(conversation.messages[:index], conversation.tools)
                prompt, action = chat.prompt_ids(before), chat.action_ids(before, message)
                found.append(Example([*prompt, *action], [False] * len(prompt) + [True] * len(action)))
        return found
    return [Example(whole.token_ids, whole.is_output)]


def _fit(example: Example, limit: int) -> Example | None:
    """Cut behind the last assistant turn that ends within ``limit``; None where none does."""
    flags = example.is_output
    ends = [i + 1 for i, flag in enumerate(flags) if flag and (i + 1 == len(flags) or not flags[i + 1])]
    fitting = [end for end in ends if end <= limit]
    return Example(example.token_ids[: fitting[-1]], flags[: fitting[-1]]) if fitting else None
