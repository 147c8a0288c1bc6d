"""The commands that play, measure and show: evaluate, report, bench, demo, compare, warm-start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.console import Console
from tyro.conf import Positional, arg

from pivotgym.envs.errors import BadInput
from pivotgym.harness.bench_train_config import TrainBenchConfig
from pivotgym.harness.commands import OUT, read_options, tasks_of, write_figures
from pivotgym.harness.console import doing
from pivotgym.harness.demo import DemoConfig

REPEATS = 30
BROWSER_REPEATS = 5
"""Rounds of four pages each, two minutes long with BrowserGym beside."""

if TYPE_CHECKING:
    from pivotgym.harness.figures import Figure  # brings the sandboxes with it


@dataclass
class Report:
    """Make the page of a run: RUN/report.html, and the same figures as tables here."""

    run_folder: Positional[Path]
    pictures: bool = True
    """take pictures of the examples' turns where the domain has any (browser pages)"""
    json: Path | None = None
    """also write the figures here"""

    def run(self) -> bool:
        """Reports."""
        from pivotgym.harness.report import build_report, print_run_summary, report_figures

        if not self.run_folder.is_dir():
            raise BadInput("no such folder", file=self.run_folder)
        page = build_report(self.run_folder, pictures=self.pictures)
        figures = report_figures(self.run_folder)
        print_run_summary(figures, OUT)
        write_figures(self.json, figures)
        OUT.print(f"page: {page}", highlight=False)
        return True


@dataclass
class Bench:
    """Measure restoring and forking on this machine; fails where a target is missed.

    Medians with their spread; ratios within one run.
    """

    what: Positional[str] = "tools"
    """tools (restores and forks of tool domains), sandbox (bubblewrap and Docker side by side), repo (a restored turn
    against a container and a replay; the parts of a reward), browser (MiniWoB pages beside BrowserGym's), verifiers
    (precision and recall on labelled actions at terminals and on pages), train (an optimiser step beside the padded
    batch's and TRL's)"""
    repeats: int | None = None
    """timed runs of each; by default 30, of train 5, of browser 5 rounds of four pages each"""
    domains: tuple[str, ...] = ()
    """tools: only these domains; sandbox, repo: only these backends; verifiers: only these sets of pairs (on pages:
    browser_tuned, browser_held_out, browser_hard)"""
    json: Path | None = None
    """also write the rows here"""
    peer_python: Path | None = None
    """browser: a Python that has browsergym-miniwob, for the other side; by default this one, where it has"""
    peer_chromium: Path | None = None
    """browser: the Chromium of the other side; by default a whole one, as it would bring itself"""
    train: TrainBenchConfig = field(default_factory=TrainBenchConfig)

    def run(self) -> bool:
        """Measures."""
        kinds = {
            "tools": self._tools,
            "sandbox": self._sandbox,
            "repo": self._repo,
            "browser": self._browser,
            "verifiers": self._verifiers,
            "train": self._train,
        }
        if self.what not in kinds:
            raise BadInput(f"no benchmark {self.what!r}; there are: {', '.join(kinds)}", field="what")
        return kinds[self.what]()

    def _tools(self) -> bool:
        from pivotgym.harness.bench import bench_tools, print_rows

        rows = bench_tools(self.repeats or REPEATS, self.domains or None)
        print_rows(rows, OUT)
        write_figures(self.json, [row.model_dump(mode="json") for row in rows])
        return all(row.met is not False for row in rows)

    def _verifiers(self) -> bool:
        from pivotgym.harness.bench_verifiers import bench_verifiers, print_verifier_rows
        from pivotgym.verifiers.terminal_pairs import SETS

        rows = bench_verifiers(self.domains or SETS)
        print_verifier_rows(rows, OUT)
        write_figures(self.json, [row.model_dump(mode="json") for row in rows])
        return all(row.met is not False for row in rows)

    def _repo(self) -> bool:
        from pivotgym.harness.bench_repo import bench_repo, print_repo_rows

        missing: list[str] = []
        with doing() as tell:
            rows = bench_repo(self.repeats or REPEATS, self.domains or None, tell=tell, left_out=missing.append)
        print_repo_rows(rows, OUT)
        return self._end(rows, missing)

    def _browser(self) -> bool:
        from pivotgym.harness.bench_browser import bench_browser, print_browser_rows

        missing: list[str] = []
        with doing() as tell:
            rows = bench_browser(
                self.repeats or BROWSER_REPEATS,
                self.peer_python,
                self.peer_chromium,
                tell=tell,
                left_out=missing.append,
            )
        print_browser_rows(rows, OUT)
        for text in missing:
            OUT.print(text, highlight=False, markup=False)
        write_figures(self.json, [row.model_dump(mode="json") for row in rows])
        return all(row.met is not False for row in rows)

    def _train(self) -> bool:
        from pivotgym.harness.bench_train import bench_train, print_train_rows

        missing: list[str] = []
        with doing() as tell:
            rows = bench_train(self.repeats or 5, self.train, tell=tell, left_out=missing.append)
        print_train_rows(rows, OUT)
        return self._end(rows, missing, "--train.no-trl does without it")

    def _end(
        self,
        rows: Sequence[Figure],
        missing: Sequence[str],
        without: str = "name the others with --domains to do without it",
    ) -> bool:
        """Whether what was asked for was measured and met its targets; ``without`` says how to ask for less."""
        for text in missing:
            OUT.print(f"{text}; {without}", highlight=False, markup=False)
        write_figures(self.json, [row.model_dump(mode="json") for row in rows])
        return not missing and all(row.met is not False for row in rows)

    def _sandbox(self) -> bool:
        from pivotgym.harness.bench_sandbox import bench_sandbox, print_sandbox_rows

        missing: list[str] = []
        with doing() as tell:
            rows = bench_sandbox(self.repeats or REPEATS, self.domains or None, tell=tell, left_out=missing.append)
        print_sandbox_rows(rows, OUT)
        return self._end(rows, missing)


@dataclass
class Demo:
    """The whole loop on bundled recordings with the embedded model: ends with a table and report.html. Resumable."""

    out: Path = Path("runs/demo")
    """the run's folder; with several seeds, one folder each below it"""
    seeds: tuple[int, ...] = ()
    """several demos, one after the other, instead of --seed"""
    json: Path | None = None
    """also write the figures here"""
    config: Annotated[DemoConfig, arg(name="")] = field(default_factory=DemoConfig)

    def run(self) -> bool:
        """Runs the loop once for each seed."""
        from pivotgym.harness.console import stages
        from pivotgym.harness.demo import run_demo
        from pivotgym.harness.report import print_run_summary

        seeds = self.seeds or (self.config.seed,)
        console = Console(stderr=True)
        all_figures: dict[str, Any] = {}
        for seed in seeds:
            folder = self.out / f"seed-{seed}" if self.seeds else self.out
            with stages(console) as progress:
                result = run_demo(self.config.model_copy(update={"seed": seed}), folder, progress, console)
            print_run_summary(result.figures, OUT)
            OUT.print(f"page: {result.page}", highlight=False)
            all_figures[str(seed)] = result.figures
        write_figures(self.json, all_figures if self.seeds else all_figures[str(seeds[0])])
        return True


@dataclass
class Compare:
    """SFT, end-to-end GRPO and PivotRL from one start on the same tasks: a table, plots, a result file. Resumable."""

    config: Positional[Path]
    """a TOML or JSON file: what is compared (see docs/compare.md)"""
    out: Path = Path("runs/compare")
    """the folder of all phases"""
    seeds: tuple[int, ...] = ()
    """only these of the file's seeds, so that several processes can share the work; the last one makes the table"""
    json: Path | None = None
    """also write the figures here"""

    def run(self) -> bool:
        """Compares."""
        from pivotgym.harness.compare import run_compare
        from pivotgym.harness.compare_config import load_config
        from pivotgym.harness.compare_report import print_results
        from pivotgym.harness.console import stages

        config = load_config(self.config)
        with stages() as progress:
            found = run_compare(config, self.out, progress, seeds=self.seeds or None)
        if found is None:
            OUT.print("these seeds are done; the table is made when the others are too", highlight=False)
            return True
        print_results(found, OUT)
        OUT.print(f"table and plots: {self.out / 'compare.md'}", highlight=False)
        command = f"pivotgym compare {self.config}"
        write_figures(self.json, {"command": command, **found})
        return True


@dataclass
class WarmStart:
    """Make the adapter the demo starts from: supervised steps on bundled recordings the demo does not touch."""

    out: Path = Path("runs/warm-start")
    """the run's folder; the adapter is in OUT/adapter"""
    epochs: float = 2.4
    """passes over the expert's recordings"""
    slip_epochs: float = 0.8
    """passes over the same with slips"""
    rank: int = 8
    """of the adapter"""
    layers: int = 12
    """adapted layers, from the top"""

    def run(self) -> bool:
        """Makes the adapter."""
        from pivotgym.harness.console import stages
        from pivotgym.harness.warm_start import make_warm_start

        with stages() as progress:
            adapter = make_warm_start(
                self.out,
                progress,
                epochs=self.epochs,
                slip_epochs=self.slip_epochs,
                rank=self.rank,
                layers=self.layers,
            )
        OUT.print(f"adapter: {adapter}", highlight=False)
        return True


@dataclass
class Evaluate:
    """Play whole episodes (resumable), or sample at pivots: success, pass@k, pass^k or mean reward, with intervals."""

    policy: str
    """embedded, a model folder or hub name, MODEL+ADAPTER, openai:MODEL@BASE_URL, vllm:MODEL or vllm:MODEL@BASE_URL"""
    env: str = "pivotgym/Tools-v0"
    """Gymnasium id"""
    out: Path = Path("runs/evaluate")
    """the run's folder"""
    pivots: Path | None = None
    """evaluate at the held-out pivots of this file instead of playing episodes"""
    trials: int = 1
    """times each task is played, or actions sampled at each pivot"""
    tasks: int | None = None
    """only the first so many tasks"""
    split: str | None = None
    """only tasks whose data names this split"""
    env_options: str = "{}"
    """keyword arguments of gym.make, as a JSON object"""
    max_turns: int = 30
    """an episode is cut off after so many actions"""
    max_tokens: int = 256
    """longest action"""
    temperature: float = 1.0
    batch: int = 16
    """episodes at once"""
    seed: int = 0
    ray: str | None = None
    """address of a Ray cluster whose nodes run the environments (auto, HOST:PORT, local); the results are the same"""
    json: Path | None = None
    """also write the figures here"""

    def run(self) -> bool:
        """Evaluates."""
        return self._at_pivots() if self.pivots is not None else self._episodes()

    def _at_pivots(self) -> bool:
        from pivotgym.harness.cluster import place_at
        from pivotgym.harness.console import stages
        from pivotgym.harness.evaluate import evaluate_pivots
        from pivotgym.harness.pivots import load_pivots
        from pivotgym.harness.policies import load_policy
        from pivotgym.harness.policies.base import Sampling
        from pivotgym.harness.turns import TurnRunner

        assert self.pivots is not None
        chosen = [pivot for pivot in load_pivots(self.pivots) if pivot.split == "heldout"]
        if not chosen:
            raise BadInput("no held-out pivots: filter with --heldout above 0", file=self.pivots)
        sampling = Sampling(self.temperature, 1.0, self.max_tokens)
        with (
            place_at(self.ray) as place,
            TurnRunner("default", env_options=read_options(self.env_options), place=place) as runner,
            stages() as progress,
        ):
            found = evaluate_pivots(
                load_policy(self.policy),
                chosen,
                self.trials,
                self.seed,
                runner=runner,
                sampling=sampling,
                progress=progress,
            )
        OUT.print(f"mean reward at {len(chosen)} pivots: {found.reward}", highlight=False)
        write_figures(self.json, found.row())
        return True

    def _episodes(self) -> bool:
        from pivotgym.harness.cluster import place_at
        from pivotgym.harness.console import stages
        from pivotgym.harness.evaluate import EpisodeConfig, evaluate_episodes
        from pivotgym.harness.policies import load_policy

        options = read_options(self.env_options)
        tasks = tasks_of(self.env, options, self.split, self.tasks)
        config = EpisodeConfig(
            trials=self.trials,
            max_turns=self.max_turns,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            batch=self.batch,
            seed=self.seed,
            env_options=options,
        )
        with place_at(self.ray) as place, stages() as progress:
            found = evaluate_episodes(
                self.env, load_policy(self.policy), tasks, config, self.out, progress, place=place
            )
        lines = {"success": found.success, "episodes": found.episodes, "excluded (infrastructure)": found.excluded}
        lines |= {f"pass@{k}": value for k, value in found.pass_at_k.items() if k > 1}
        lines |= {f"pass^{k}": value for k, value in found.pass_hat_k.items() if k > 1}
        for name, value in lines.items():
            OUT.print(f"{name}: {value}", highlight=False)
        write_figures(self.json, found.row())
        return True
