"""What ``pivotgym compare`` compares: one file, read from TOML or JSON."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from pivotgym.envs.errors import BadInput
from pivotgym.envs.trajectory import JsonObject
from pivotgym.harness.forgetting.config import ForgettingConfig
from pivotgym.harness.options import LoraOptions
from pivotgym.harness.policies.small import SmallOptions

Method = Literal["sft", "grpo", "pivotrl"]


class TaskSet(BaseModel):
    """Tasks of the service desk.

    Attributes:
        name: how results call the set.
        split: ``train``, ``heldout`` (other people, streets and ids) or ``long`` (several requests).
        kinds: only requests of these kinds; empty takes all.
        without: no requests of these kinds.
        count: how many tasks.
        seed: tasks of different seeds are different tasks.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = "train"
    split: Literal["train", "heldout", "long"] = "train"
    kinds: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    count: int = Field(100, ge=1)
    seed: int = 0


class StartOptions(BaseModel):
    """How the small policy becomes the one that all methods start from: supervised, then spoiled a little.

    Attributes:
        small: its shape.
        tasks: recordings of the expert it is supervised on; no method sees them.
        epochs: passes over them.
        lr: learning rate.
        other_spellings: chance that a turn's arguments are spelled otherwise, with the same effect, in both stages; the
            recordings that methods learn from have one spelling.
        slip_rate: chance of a careless action at each turn of the second stage, which ends the recording.
        slip_epochs: passes of the second stage, over the same recordings with slips and without.
        slip_lr: its learning rate.
        batch: conversations in an update.
        pack_tokens: tokens in a forward pass.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    small: SmallOptions = SmallOptions()
    tasks: TaskSet = TaskSet(name="start", count=4000, seed=1)
    epochs: float = Field(3.0, gt=0)
    lr: float = Field(2e-3, gt=0)
    other_spellings: float = Field(0.0, ge=0, le=1)
    slip_rate: float = Field(0.4, ge=0, lt=1)
    slip_epochs: float = Field(0.5, gt=0)
    slip_lr: float = Field(5e-4, gt=0)
    batch: int = Field(16, ge=1)
    pack_tokens: int = Field(512, ge=1)


class ProfileOptions(BaseModel):
    """The profile that pivots come from; see :class:`~pivotgym.harness.profiling.ProfileConfig` and ``FilterConfig``.

    Attributes:
        rollouts: K.
        chunk: candidates sampled together.
        stop_error: error probability of sequential testing; None draws all K everywhere.
        stop_margin: its margin.
        max_mean: the filter's limit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rollouts: int = Field(8, ge=2)
    chunk: int = Field(32, ge=1)
    stop_error: float | None = Field(None, gt=0, lt=1)
    stop_margin: float = Field(0.25, gt=0, le=0.5)
    max_mean: float = Field(0.8, ge=0, le=1)


class Arm(BaseModel):
    """One thing that is compared.

    Attributes:
        name: how results call it.
        method: ``sft`` (all recorded turns), ``grpo`` (whole episodes) or ``pivotrl`` (single turns).
        turns: pivotrl: ``pivots``, or ``all``: the same recordings' turns unfiltered, which cost no profiling.
        reprofile: pivotrl: profile again above this share of zero-variance groups.
        options: settings of the method, over those of the ``[methods]`` table.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.+-]*$")
    method: Method
    turns: Literal["pivots", "all"] = "pivots"
    reprofile: float | None = Field(None, ge=0, lt=1)
    options: JsonObject = Field(default_factory=dict)

    @model_validator(mode="after")
    def _only_pivotrl(self) -> Arm:
        if self.method != "pivotrl" and (self.turns != "pivots" or self.reprofile is not None):
            raise ValueError(f"{self.method} takes neither turns nor reprofile")
        if self.turns == "all" and self.reprofile is not None:
            raise ValueError("turns that were not profiled cannot be profiled again")
        return self


class Contrast(BaseModel):
    """A difference between two arms that answers a question of its own.

    Attributes:
        name: the question.
        arm: the arm that has it.
        against: the arm that has not.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    arm: str
    against: str


MAIN = (
    Arm(name="sft", method="sft"),
    Arm(name="grpo", method="grpo"),
    Arm(name="pivotrl", method="pivotrl"),
)
"""The methods."""
ABLATIONS = (
    Arm(name="arguments", method="pivotrl", options={"verifier": "tool_call"}),
    Arm(name="exact", method="pivotrl", options={"verifier": "exact"}),
    Arm(name="all-turns", method="pivotrl", turns="all"),
    Arm(name="all-turns-exact", method="pivotrl", turns="all", options={"verifier": "exact"}),
    Arm(name="kl", method="pivotrl", options={"beta": 0.05}),
)
"""The ablations the PivotRL paper (arXiv:2603.21383) left open: the reward on the same pivots (execution, comparison
of arguments, exact match), filtering alone (``exact`` against ``all-turns-exact``), KL alone."""


class CompareConfig(BaseModel):
    """One comparison.

    Attributes:
        policy: ``small`` (made by ``start``), or a policy to load: ``embedded``, a model folder or name.
        start: how the small policy is made.
        warm_start: LoRA adapter that all methods start from, where ``policy`` is loaded.
        lora: adapter settings; None trains all weights.
        seeds: of training and evaluation; the start is the same for all.
        train: tasks of the recordings that SFT and PivotRL learn from; GRPO plays the same tasks.
        evaluate: the sets that are played; the first is in-domain.
        trials: episodes of each task.
        temperature: of evaluation.
        budget_turns: sampled actions each of GRPO and PivotRL may use, profiling included.
        max_turns: longest episode.
        max_tokens: longest action.
        profile: what pivots come from.
        methods: settings by method (``sft``, ``grpo``, ``pivotrl``), as in ``SftConfig``, ``EpisodeTrainConfig`` and
            ``TrainConfig``.
        arms: what is compared; by default the methods and the ablations.
        reference_arm: the arm that differences are told against.
        contrasts: further differences, such as what an ablation shows.
        forgetting: the held-out suite that the start and trained policies are measured on; None measures none.
        forgetting_arms: only these; empty takes all.
        threads: of torch; results depend on it in the last digit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    policy: str = "small"
    start: StartOptions = StartOptions()
    warm_start: Path | None = None
    lora: LoraOptions | None = None
    seeds: tuple[int, ...] = (1, 2, 3)
    train: TaskSet = TaskSet(count=60, seed=2)
    evaluate: tuple[TaskSet, ...] = (TaskSet(name="in-domain", seed=3), TaskSet(name="held-out", split="heldout"))
    trials: int = Field(1, ge=1)
    temperature: float = Field(1.0, ge=0)
    budget_turns: int = Field(4000, ge=1)
    max_turns: int = Field(10, ge=1)
    max_tokens: int = Field(64, ge=1)
    profile: ProfileOptions = ProfileOptions()
    methods: dict[Method, JsonObject] = Field(default_factory=dict)
    arms: tuple[Arm, ...] = (*MAIN, *ABLATIONS)
    reference_arm: str = "pivotrl"
    contrasts: tuple[Contrast, ...] = ()
    forgetting: ForgettingConfig | None = None
    forgetting_arms: tuple[str, ...] = ()
    threads: int = Field(1, ge=1)

    @field_validator("seeds", "evaluate", "arms")
    @classmethod
    def _some(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if not value:
            raise ValueError("at least one is needed")
        names = [getattr(item, "name", item) for item in value]
        if len(set(names)) < len(names):
            raise ValueError("two have the same name")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> CompareConfig:
        names = {arm.name for arm in self.arms}
        named = [("reference_arm", self.reference_arm)]
        named += [("forgetting_arms", name) for name in self.forgetting_arms]
        named += [("contrasts", name) for item in self.contrasts for name in (item.arm, item.against)]
        for field, name in named:
            if name not in names:
                raise ValueError(f"{field}: there is no arm {name!r}")
        if self.warm_start is not None and (self.policy == "small" or self.lora is None):
            raise ValueError("warm_start: needs a loaded policy and lora settings")
        return self

    def options(self, arm: Arm) -> JsonObject:
        """The settings of an arm: the method's, then its own."""
        return {**self.methods.get(arm.method, {}), **arm.options}


def load_config(path: Path) -> CompareConfig:
    """Reads a comparison from a ``.toml`` or ``.json`` file.

    Raises:
        BadInput: no such file, no TOML or JSON, or a field that is wrong (file and field).
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(error.strerror or str(error), file=path) from error
    except UnicodeDecodeError as error:
        raise BadInput("no text file", file=path) from error
    try:
        value = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except json.JSONDecodeError as error:
        raise BadInput(f"no JSON: {error.msg}", file=path, line=error.lineno) from error
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"no TOML: {error}", file=path) from error
    try:
        return CompareConfig.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(first["msg"], file=path, field=".".join(map(str, first["loc"])) or None) from error
