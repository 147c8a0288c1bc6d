"""The commands of ``pivotgym``: each a dataclass of its options with a ``run`` that says whether it succeeded.

Engines are imported inside ``run``; only their option models are needed to parse a command line.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, Literal, Protocol

from rich.console import Console
from rich.table import Table
from tyro.conf import Positional, arg

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.jsonl import read_rows
from pivotgym.envs.trajectory import Task
from pivotgym.harness.options import LoraOptions
from pivotgym.harness.pivots import FilterConfig
from pivotgym.harness.profiling import ProfileConfig
from pivotgym.harness.ranks import Ranks

# Tables sent to a file or a pager need more than the 80 columns rich assumes there.
OUT = Console(width=None if sys.stdout.isatty() else 110)


class Command(Protocol):
    """One command."""

    def run(self) -> bool:
        """Does it; False where it ran but found a failure (a broken law, a divergence under ``--strict``)."""
        ...


def write_figures(path: Path | None, figures: Any) -> None:
    """Writes the figures a person reads as JSON, atomically."""
    if path is not None:
        from pivotgym.harness.runs import write_json

        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, figures)


def read_options(text: str) -> dict[str, Any]:
    """``--env-options`` as a dict. Raises BadInput where it is no JSON object."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise BadInput(f"no JSON: {error}", field="--env-options") from error
    if not isinstance(value, dict):
        raise BadInput("not a JSON object", field="--env-options")
    return value


def bundled_file(path: Path) -> Path:
    """The packaged file that ``bundled:NAME`` stands for; any other path as it is. Raises BadInput for no such name."""
    if not str(path).startswith("bundled:"):
        return path
    files = {
        "browser": "browser/apps/trajectories.jsonl.gz",
        "repo": "repo/bundled/trajectories.jsonl.gz",
        "search": "search/bundled/trajectories.jsonl.gz",
        "terminal": "terminal/bundled/trajectories.jsonl.gz",
        "servicedesk": "tools/servicedesk/trajectories.jsonl.gz",
    }
    name = str(path).partition(":")[2]
    if name not in files:
        raise BadInput(f"no bundled recordings {name!r}; there are: {', '.join(files)}", field="file")
    return Path(str(resources.files("pivotgym.envs").joinpath(files[name])))


def split_of(task: Task) -> str | None:
    """The split a task's data names, itself or in its definition."""
    named = task.data.get("split") or (task.data.get("definition") or {}).get("split")
    return None if named is None else str(named)


def tasks_of(env_id: str, options: dict[str, Any], split: str | None, limit: int | None) -> list[Task]:
    """The first ``limit`` tasks of an environment, or of one split of it. Raises BadInput where there is none."""
    from pivotgym.harness.turns import make_env

    env = make_env(env_id, options)
    try:
        tasks = [task for task in env.tasks() if split is None or split_of(task) == split]
    finally:
        env.close()
    if not tasks[:limit]:
        raise BadInput(f"no task in split {split!r}" if split else "no tasks", field="--split")
    return tasks[:limit]


@dataclass
class Profile:
    """Sample K actions of a frozen policy at every candidate turn and judge them by execution. Resumable."""

    file: Positional[Path]
    policy: str
    """embedded, a model folder or hub name, MODEL+ADAPTER, openai:MODEL@BASE_URL, vllm:MODEL or vllm:MODEL@BASE_URL"""
    out: Path = Path("profile.jsonl")
    """where the rows go"""
    source: str = "auto"
    """format of FILE"""
    env_options: str = "{}"
    """keyword arguments of gym.make, as a JSON object"""
    ray: str | None = None
    """address of a Ray cluster whose nodes run the environments (auto, HOST:PORT, local); the rows are the same"""
    json: Path | None = None
    """also write the figures here"""
    config: Annotated[ProfileConfig, arg(name="")] = field(default_factory=ProfileConfig)

    def run(self) -> bool:
        """Profiles."""
        from pivotgym.envs.formats import load_trajectories
        from pivotgym.harness.cluster import place_at
        from pivotgym.harness.console import stages
        from pivotgym.harness.policies import load_policy
        from pivotgym.harness.profiling import profile

        trajectories = list(load_trajectories(self.file, self.source))
        config = self.config.model_copy(update={"env_options": read_options(self.env_options)})
        self.out.parent.mkdir(parents=True, exist_ok=True)
        with place_at(self.ray) as place, stages() as progress:
            rows = profile(trajectories, load_policy(self.policy), config, self.out, progress, place=place)
        judged: int = sum(row["status"] == "ok" for row in rows)
        OUT.print(f"{judged} of {len(rows)} candidates judged, rows in {self.out}", highlight=False)
        failed = Counter((row["status"], str(row["error"])[:200]) for row in rows if row["status"] != "ok")
        for (status, error), count in failed.most_common(5):
            OUT.print(f"{count} {status}: {error}", highlight=False, markup=False, soft_wrap=True)
        by_status = dict(Counter(row["status"] for row in rows))
        means = [row["mean"] for row in rows if row["mean"] is not None]
        mixed = sum((row["var"] or 0) > 0 for row in rows)
        figures = {"candidates": len(rows), "by_status": by_status, "mixed": mixed}
        write_figures(self.json, {**figures, "mean_reward": fmean(means) if means else None})
        return judged > 0


@dataclass
class Filter:
    """Keep the pivots of a profile; say what was dropped and why."""

    file: Positional[Path]
    out: Path = Path("pivots.jsonl")
    """where the pivots go"""
    json: Path | None = None
    """also write the figures here"""
    config: Annotated[FilterConfig, arg(name="")] = field(default_factory=FilterConfig)

    def run(self) -> bool:
        """Filters."""
        from pivotgym.harness.pivots import filter_file
        from pivotgym.harness.runs import write_json

        self.out.parent.mkdir(parents=True, exist_ok=True)
        report = filter_file(self.file, self.out, self.config)
        figures = report.row()
        write_json(self.out.with_suffix(".filter.json"), figures)
        write_figures(self.json, figures)
        table = Table(title=f"{self.file} to {self.out}")
        table.add_column("")
        table.add_column("candidates", justify="right")
        for name, count in [("profiled", report.candidates), *report.dropped.items(), ("kept", report.kept)]:
            table.add_row(name.replace("_", " "), str(count))
        OUT.print(table)
        return bool(report.kept)


_ONE_BY_ONE = (
    *("steps", "batch", "group", "epochs", "beta", "max_tokens", "max_turns", "sampler", "eval_every", "eval_rollouts"),
    "save_every",
)


@dataclass
class Train:
    """Train on pivots (pivotrl), on recorded turns (sft) or on whole episodes (grpo); --resume goes on after a kill.

    Several processes share pivotrl's work and weights: torchrun --nproc-per-node N -m pivotgym.harness.cli train …
    """

    file: Positional[Path]
    """pivots.jsonl for pivotrl; trajectories in any format for sft; the same, or JSON lines of tasks, for grpo"""
    policy: str
    """the policy to train: embedded, a model folder or hub name"""
    method: Literal["pivotrl", "sft", "grpo"] = "pivotrl"
    out: Path = Path("runs/train")
    """the run's folder"""
    resume: bool = False
    """go on with a run that was begun; without it a folder in use is refused"""
    full: bool = False
    """train all weights instead of LoRA adapters"""
    options: str = "{}"
    """further settings of the method by name, as a JSON object (see TrainConfig, SftConfig and
    EpisodeTrainConfig)"""
    steps: int | None = None
    """pivotrl, grpo: rollout batches"""
    batch: int | None = None
    """pivots (pivotrl), conversations (sft) or tasks (grpo) in a step"""
    group: int | None = None
    """pivotrl: actions sampled at each pivot; grpo: episodes of each task"""
    epochs: float | None = None
    """sft: passes over the trajectories"""
    beta: float | None = None
    """pivotrl, grpo: weight of the KL to the frozen reference"""
    max_tokens: int | None = None
    """pivotrl, grpo: longest action"""
    max_turns: int | None = None
    """grpo: longest episode"""
    budget_turns: int | None = None
    """grpo, and pivotrl with --reprofile: actions sampled in all"""
    reprofile: float | None = None
    """pivotrl: profile again with the policy of now when more than this share of the groups of 5 steps have equal
    rewards; actions sampled for that count against --budget-turns (by default those of --steps)"""
    profile: Path | None = None
    """the profile that FILE came from, for --reprofile; by default profile.jsonl beside it"""
    sampler: str | None = None
    """pivotrl, grpo: transformers (the trained weights themselves), vllm (an engine in this process) or
    vllm:BASE_URL"""
    warm_start: Path | None = None
    """folder of a LoRA adapter to start from; it is then the reference policy"""
    eval_every: int | None = None
    """pivotrl: steps between evaluations on held-out pivots"""
    eval_rollouts: int | None = None
    """pivotrl: actions sampled at each held-out pivot"""
    save_every: int | None = None
    """steps between checkpoints"""
    seed: int = 0
    env_options: str = "{}"
    """keyword arguments of gym.make, as a JSON object"""
    lr: float | None = None
    """learning rate"""
    ray: str | None = None
    """pivotrl, grpo: address of a Ray cluster whose nodes run the environments (auto, HOST:PORT, local)"""
    json: Path | None = None
    """also write the figures here"""
    lora: LoraOptions = field(default_factory=LoraOptions)

    def run(self) -> bool:
        """Trains."""
        from pivotgym.harness.ranks import torchrun_ranks

        with torchrun_ranks() as ranks:
            ranks.once(self._look)
            if self.method == "pivotrl" and self.reprofile is None:
                return self._pivotrl(ranks)
            if ranks.count > 1:
                raise BadInput("only pivotrl without --reprofile runs in several processes", field="--method")
            return {"pivotrl": self._legs, "sft": self._sft, "grpo": self._grpo}[self.method]()

    def _look(self) -> None:
        if (self.out / "settings.json").exists() and not self.resume:
            raise BadInput("a run was begun here: --resume goes on with it, or choose another --out", file=self.out)
        if self.reprofile is not None and self.method != "pivotrl":
            raise BadInput(f"--method {self.method} has no such option", field="--reprofile")
        if self.method == "pivotrl" and self.reprofile is None and self.budget_turns is not None:
            raise BadInput("--method pivotrl takes it with --reprofile only: there are --steps", field="--budget-turns")
        if self.method == "sft" and self.ray is not None:
            raise BadInput("--method sft has no environments", field="--ray")

    def _pivotrl(self, ranks: Ranks) -> bool:
        from pivotgym.harness.cluster import place_at
        from pivotgym.harness.console import stages
        from pivotgym.harness.pivots import load_pivots
        from pivotgym.harness.train import TrainConfig, train

        config = self._config(TrainConfig)
        pivots = load_pivots(self.file)
        if not any(pivot.split == "train" for pivot in pivots):
            raise BadInput(f"no pivots to train on ({len(pivots)} rows, none of split 'train')", file=self.file)
        shown = None if ranks.lead else Console(quiet=True)
        with place_at(self.ray) as place, stages(shown) as progress:
            result = train(pivots, self._policy(), config, self.out, progress, place=place, ranks=ranks)
        return self._tell(result, {}) if ranks.lead else True

    def _tell(self, result: Any, more: dict[str, Any]) -> bool:
        OUT.print(f"{result.steps} steps, weights in {result.weights}", highlight=False)
        for name, row in (("held-out reward before", result.before), ("after", result.after)):
            if row is not None:
                OUT.print(f"{name}: {_estimate(row['reward'])}", highlight=False)
        if result.gain is not None:
            OUT.print(f"gain, paired by pivot: {_estimate(result.gain)}", highlight=False)
        figures = {"steps": result.steps, "before": result.before, "after": result.after, "gain": result.gain}
        write_figures(self.json, {"method": self.method, **figures, **more})
        return True

    def _legs(self) -> bool:
        from pivotgym.harness.cluster import place_at
        from pivotgym.harness.console import stages
        from pivotgym.harness.pivots import load_pivots
        from pivotgym.harness.reprofiling import Base, LegsConfig, train_in_legs
        from pivotgym.harness.runs import claim, exclusive
        from pivotgym.harness.train import TrainConfig
        from pivotgym.harness.training_inputs import profile_of

        config = self._config(TrainConfig)
        pivots = load_pivots(self.file)
        profile_config, filter_config, recordings = profile_of(self.file, self.profile)
        profile_config = profile_config.model_copy(update={"env_options": config.env_options})
        budget = self.budget_turns or config.steps * config.batch * config.group
        legs = LegsConfig(threshold=self.reprofile)
        base = Base(self.policy, config.warm_start, config.lora is not None)
        settings = {"budget_turns": budget, "legs": legs.model_dump(mode="json"), "policy": self.policy}
        configs = (config, profile_config, filter_config, legs)
        with exclusive(self.out / "run"), place_at(self.ray) as place, stages() as progress:
            claim(self.out / "settings.json", {"method": "pivotrl in legs", **settings})
            result = train_in_legs(pivots, recordings, base, *configs, budget, self.out, progress, place=place)
        for row in result.legs:
            OUT.print(f"leg {row['leg']}: {row['steps']} steps on {row['pivots']} pivots", highlight=False)
        return self._tell(result, {"legs": result.legs, "rollout_turns": result.rollout_turns})

    def _grpo(self) -> bool:
        from pivotgym.harness.cluster import place_at
        from pivotgym.harness.console import stages
        from pivotgym.harness.grpo_episodes import METRICS, EpisodeTrainConfig, train_episodes
        from pivotgym.harness.training_inputs import tasks_in

        config = self._config(EpisodeTrainConfig)
        tasks = tasks_in(self.file)
        with place_at(self.ray) as place, stages() as progress:
            result = train_episodes(tasks, self._policy(), config, self.out, progress, place=place)
        rewards = [row["reward_mean"] for row in read_rows(self.out / METRICS)]
        OUT.print(
            f"{result.steps} steps on {len(tasks)} tasks, {result.turns} turns, mean reward {rewards[0]:.3f} in the "
            f"first step and {rewards[-1]:.3f} in the last, weights in {result.weights}",
            highlight=False,
        )
        figures = {"steps": result.steps, "tasks": len(tasks), "rollout_turns": result.turns, "rewards": rewards}
        write_figures(self.json, {"method": self.method, **figures})
        return True

    def _sft(self) -> bool:
        from pivotgym.envs.formats import load_trajectories
        from pivotgym.harness.console import stages
        from pivotgym.harness.sft import SftConfig, train_sft

        config = self._config(SftConfig)
        trajectories = list(load_trajectories(self.file))
        with stages() as progress:
            result = train_sft(trajectories, self._policy(), config, self.out, progress)
        OUT.print(
            f"{result.steps} updates on {result.trained_tokens} tokens, loss {result.first_loss:.3f} to "
            f"{result.last_loss:.3f}, weights in {result.weights}",
            highlight=False,
        )
        figures = {
            "updates": result.steps,
            "trained_tokens": result.trained_tokens,
            "conversations": result.conversations,
        }
        losses = {"first_loss": result.first_loss, "last_loss": result.last_loss}
        write_figures(self.json, {"method": self.method, **figures, **losses})
        return True

    def _config(self, kind: Any) -> Any:
        """The method's settings: its defaults, then ``--options``, then the options given one by one."""
        from pydantic import ValidationError

        given: dict[str, Any] = {"lora": None if self.full else self.lora, "seed": self.seed}
        given["env_options"] = read_options(self.env_options)
        if self.warm_start is not None:
            given["warm_start"] = self.warm_start
        if self.lr is not None:
            given["optim"] = {**kind.model_fields["optim"].default.model_dump(), "lr": self.lr}
        alone = {name: getattr(self, name) for name in _ONE_BY_ONE if getattr(self, name) is not None}
        if self.method == "grpo" and self.budget_turns is not None:
            alone["budget_turns"] = self.budget_turns
        foreign = sorted(set(alone) - set(kind.model_fields))
        if foreign:
            raise BadInput(f"--method {self.method} has no such option", field=f"--{foreign[0].replace('_', '-')}")
        try:
            given |= json.loads(self.options) | alone
            return kind.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            raise BadInput(first["msg"], field=".".join(map(str, first["loc"]))) from error
        except (ValueError, TypeError) as error:
            raise BadInput(f"no JSON object: {error}", field="--options") from error

    def _policy(self) -> Any:
        from pivotgym.harness.policies import load_policy
        from pivotgym.harness.policies.transformers_policy import TransformersPolicy

        policy = load_policy(self.policy)
        if not isinstance(policy, TransformersPolicy):
            raise BadInput(f"{self.policy!r} has no weights here to train", field="--policy")
        return policy


def _estimate(row: dict[str, Any]) -> str:
    from pivotgym.harness.stats import Estimate

    return str(Estimate(**row))
