"""``pivotgym bench train`` with a tiny model: all sides take the same step, and what is measured is reported."""

from __future__ import annotations

import json
from pathlib import Path

import lamps
import pytest
from needs import require

from pivotgym.envs.errors import InfrastructureError
from pivotgym.harness import bench_train as module
from pivotgym.harness.bench_train import StepsDiffer, bench_train, check_same
from pivotgym.harness.bench_train_config import Point, Taken, TrainBenchConfig
from pivotgym.harness.cli import main

SMALL = TrainBenchConfig(prompt=48, completion=6, group=4, curve_groups=(), curve_prompts=(), threads=1, trl=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    policy = lamps.policy(layers=2)
    policy.model.save_pretrained(str(folder))  # type: ignore[operator]
    policy.tokenizer.save_pretrained(str(folder))
    return str(folder)


@pytest.mark.parametrize(
    "curve",
    [
        pytest.param((), id="main"),
        pytest.param(("--train.curve-groups", "2", "--train.curve-prompts", "64"), id="curve", marks=pytest.mark.slow),
    ],
)
def test_the_command_measures_all_sides(
    model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    curve: tuple[str, ...],
) -> None:
    require("trl", "dev")
    monkeypatch.setattr(TrainBenchConfig, "is_standard", True)
    monkeypatch.setattr(module, "FASTER", 1e6)  # nothing is that fast
    monkeypatch.setenv("COLUMNS", "200")
    out = tmp_path / "figures.json"
    sizes = {"model": model, "prompt": 48, "completion": 6, "group": 4, "rows": 3, "threads": 1}
    options = [word for name, value in sizes.items() for word in (f"--train.{name}", str(value))]
    if not curve:
        curve = ("--train.curve-groups", "4", "--train.curve-prompts", "48")  # the main sizes, which are not repeated
    with pytest.raises(SystemExit) as ended:
        main(["bench", "train", "--repeats", "2", *options, "--train.lora", *curve, "--json", str(out)])
    assert ended.value.code == 1, "a missed target is a failure"
    rows = json.loads(out.read_text())
    found = {(row["backend"], row["name"]): row for row in rows}
    names = {"G 4, prompt 48, completion 6": 2}
    if "2" in curve:
        names |= {"G 2, prompt 48, completion 6": 1, "G 4, prompt 64, completion 6": 1}
    for name, repeats in names.items():
        for side in ("packed", "padded", "trl"):
            step, memory = found[side, f"{name}: step"], found[side, f"{name}: peak memory"]
            assert step["repeats"] == repeats and step["unit"] == "ms" and step["median"] > 0
            speed = found[side, f"{name}: operations a second"]
            assert speed["unit"] == "Top/s" and 0 < speed["median"] < 100
            assert memory["unit"] == "MB" and memory["median"] > 100, "a process with torch in it"
        for side in ("padded", "trl"):
            ratio = found[f"{side} over packed", f"{name}: step"]
            assert ratio["unit"] == "x" and ratio["low"] <= ratio["median"] <= ratio["high"]
            assert ratio["target"] == (1e6 if name == "G 4, prompt 48, completion 6" else None)
            if repeats == 1:
                times = [found[one, f"{name}: step"]["median"] for one in (side, "packed")]
                assert ratio["median"] == pytest.approx(times[0] / times[1])
    assert len(rows) == len(names) * (3 * 4 + 2 * 3)
    shown = capsys.readouterr().out
    assert "over packed" in shown and "missed" in shown and all(name.partition(",")[0] in shown for name in names)


@pytest.mark.parametrize("asked", [True, False])
def test_a_side_that_was_asked_for_and_is_not_there_is_a_failure(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, asked: bool
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    monkeypatch.setenv("COLUMNS", "200")
    out = tmp_path / "figures.json"
    sizes = {"model": model, "prompt": 24, "completion": 4, "group": 2, "threads": 1}
    options = [word for name, value in sizes.items() for word in (f"--train.{name}", str(value))]
    options += ["--train.curve-groups", "2", "--train.curve-prompts", "24"]  # the main sizes, which are not repeated
    command = ["bench", "train", "--repeats", "1", *options, "--json", str(out), *([] if asked else ["--train.no-trl"])]
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert bool(ended.value.code) == asked
    assert {row["backend"] for row in json.loads(out.read_text())} == {"packed", "padded", "padded over packed"}
    shown = capsys.readouterr().out
    said = "trl is left out: it is not installed (pip install trl); --train.no-trl does without it"
    assert (said in shown) == asked


def test_sizes_and_targets() -> None:
    points = list(TrainBenchConfig(curve_groups=(2, 8, 32), curve_prompts=(256, 1024)).points())
    assert [(point.group, point.prompt) for point in points] == [(8, 1024), (2, 1024), (32, 1024), (8, 256)]
    assert TrainBenchConfig().is_standard and not TrainBenchConfig(group=4).is_standard
    assert not TrainBenchConfig(model="other").is_standard
    for group, rows, wanted in ((8, 4, 4), (8, 3, 2), (7, 4, 1), (2, 4, 2)):
        assert Point(group, 1, 1, rows, 1).rows_that_divide == wanted


def test_sides_that_do_not_take_the_same_step_are_no_result() -> None:
    def taken(norm: float) -> Taken:
        return Taken(1.0, 1.0, norm, 1.0, 1.0, None)

    check_same({"packed": taken(2.0), "padded": taken(2.01), "trl": taken(1.99)}, "x")
    for norm in (2.1, 0.0, float("nan")):
        with pytest.raises(StepsDiffer, match=r"\(trl\), 2.0 \(packed\) at x"):
            check_same({"packed": taken(2.0), "padded": taken(2.0), "trl": taken(norm)}, "x")
    with pytest.raises(StepsDiffer):
        check_same({"packed": taken(float("nan")), "padded": taken(2.0)}, "x")


def test_a_side_that_ends_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"model": str(tmp_path / "nothing")})
    with pytest.raises(InfrastructureError, match=r"packed ended: .*nothing"):
        bench_train(1, config)
