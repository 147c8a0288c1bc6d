"""FSDP2 over two processes on gloo: the gradients, the losses and the checkpoints of one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import lamps
import pytest
import torch
from torch import Tensor

from pivotgym.envs.formats.jsonl import read_rows
from pivotgym.harness.options import OptimOptions
from pivotgym.harness.policies import load_policy
from pivotgym.harness.runs import total_costs
from pivotgym.harness.sft import SftConfig, train_sft

WORKER = Path(__file__).with_name("sharded_worker.py")
STEPS = 6


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sharded")
    torch.set_num_threads(1)
    policy = lamps.policy(layers=2)
    config = SftConfig(lora=None, epochs=4, batch=8, optim=OptimOptions(lr=3e-3))
    train_sft(lamps.trajectories(40, seed=1), policy, config, folder / "sft")
    torch.save(policy.model.state_dict(), folder / "start.pt")
    return folder / "start.pt"


def run(
    start: Path, out: Path, kind: str, processes: int, steps: int = STEPS, beta: float = 0.01, temperature: float = 1.0
) -> Path:
    out.mkdir(exist_ok=True)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(torchrun if processes > 1 else []), str(WORKER)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        [*command, str(start), str(out), kind, str(steps), str(beta), str(temperature)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {"ranks": processes}
    return out


@pytest.fixture(scope="module", params=["lora", "full"])
def both(request: pytest.FixtureRequest, start: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same run in one process and in two."""
    folder = tmp_path_factory.mktemp(request.param)
    return run(start, folder / "one", request.param, 1), run(start, folder / "two", request.param, 2)


def gradients(folder: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = torch.load(folder / "gradients.pt", weights_only=True)
    return found


def rows(folder: Path, kind: str = "train") -> list[dict[str, Any]]:
    return [row for row in read_rows(folder / "run" / "metrics.jsonl") if row["kind"] == kind]


def close(left: Any, right: Any, tolerance: float) -> None:
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        for name in left:
            close(left[name], right[name], tolerance)
    elif isinstance(left, list):
        assert len(left) == len(right)
        for mine, theirs in zip(left, right, strict=True):
            close(mine, theirs, tolerance)
    elif isinstance(left, float):
        assert right == pytest.approx(left, abs=tolerance, rel=tolerance)
    else:
        assert left == right


def test_the_gradient_is_that_of_one_process(both: tuple[Path, Path]) -> None:
    one, two = map(gradients, both)
    assert one.keys() == two.keys() and one
    difference = sum(float((one[name] - two[name]).square().sum()) for name in one) ** 0.5
    norm = sum(float(gradient.square().sum()) for gradient in one.values()) ** 0.5
    assert norm > 1e-3 and difference < 1e-5 * norm


def test_the_losses_are_those_of_one_process(both: tuple[Path, Path]) -> None:
    one, two = map(rows, both)
    assert [row["step"] for row in two] == list(range(1, STEPS + 1))
    assert sum(row["loss"] is not None for row in one) >= 3
    close(one, two, 1e-4)
    close(rows(both[0], "eval"), rows(both[1], "eval"), 1e-4)
    costs = [total_costs(folder / "run")["train"].row() for folder in both]
    for cost in costs:
        del cost["seconds"]
    assert costs[0] == costs[1], "counted once, not once a process"


def test_checkpoints_go_on_in_any_number_of_processes(both: tuple[Path, Path], start: Path) -> None:
    kind = both[0].parent.name
    kind = "full" if kind.startswith("full") else "lora"
    one, two = both
    for folder, processes in ((two, 1), (one, 2)):
        run(start, folder, kind, processes, STEPS + 2)  # goes on where the other number of processes ended
    close(rows(one), rows(two), 1e-4)
    assert [row["step"] for row in rows(one)] == list(range(1, STEPS + 3))
    names = {path.name for path in (one / "run" / "checkpoints" / f"step-{STEPS + 2:06d}").iterdir()}
    assert names == {path.name for path in (two / "run" / "checkpoints" / f"step-{STEPS + 2:06d}").iterdir()}
    if kind == "full":
        models = [load_policy(str(folder / "run" / "final")).model for folder in both]  # type: ignore[attr-defined]
        for (name, mine), theirs in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
            torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-3, msg=name)


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_the_pass_at_temperature_one_keeps_step_with_the_others(start: Path, tmp_path: Path, kind: str) -> None:
    both = [run(start, tmp_path / str(count), kind, count, steps=2, temperature=0.7) for count in (1, 2)]
    one, two = map(rows, both)
    assert len(one) == 2 and any(row["loss"] is not None for row in one)
    close(one, two, 1e-4)
    assert all(0 < row["sampler_gap_max"] < 1e-3 for row in [*one, *two] if row["loss"] is not None)
