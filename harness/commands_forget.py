"""The command that measures forgetting."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from pivotgym.harness.commands import OUT, write_figures
from pivotgym.harness.forgetting.config import ForgettingConfig


@dataclass
class Forget:
    """Measure what training made policies forget: a held-out suite, paired with the base model. Resumable.

    Instructions, arithmetic, word problems, formats, multiple choice, plain text, episodes in the other domains, and
    tasks of lm-eval. Fails where a part cannot be measured on this machine; it is named with the reason.
    """

    base: str
    """the policy before training: embedded, a model folder or hub name, MODEL+ADAPTER, or openai:MODEL@BASE_URL"""
    policies: tuple[str, ...]
    """the trained ones"""
    out: Path = Path("runs/forgetting")
    """the folder; inside a run's folder the run's report shows the result"""
    json: Path | None = None
    """also write the figures here"""
    config: Annotated[ForgettingConfig, arg(name="")] = field(default_factory=ForgettingConfig)

    def run(self) -> bool:
        """Measures."""
        from functools import partial

        from pivotgym.harness.console import stages
        from pivotgym.harness.forgetting.suite import run_forgetting
        from pivotgym.harness.policies import load_policy
        from pivotgym.harness.report.forgetting import print_forgetting

        trained = {spec: partial(load_policy, spec) for spec in self.policies}
        with stages() as progress:
            found = run_forgetting(partial(load_policy, self.base), trained, self.config, self.out, progress)
        print_forgetting(found, OUT)
        write_figures(self.json, {"command": self._command(), "base": self.base, **found})
        return not found["unmeasured"]

    def _command(self) -> str:
        changed = self.config.model_dump(mode="json", exclude_defaults=True)
        options = [
            f"--{name.replace('_', '-')} {' '.join(map(str, value)) if isinstance(value, list) else value}"
            for name, value in changed.items()
        ]
        return " ".join(["pivotgym forget", "--base", self.base, "--policies", *self.policies, *options])
