"""The report on a real run: its figures are those of the files, and no text of a recording gets out of its place."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import lamps
import pytest
from rich.console import Console

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.jsonl import append_row, read_jsonl, read_rows, write_rows
from pivotgym.harness.evaluate import EpisodeConfig, evaluate_episodes
from pivotgym.harness.options import OptimOptions
from pivotgym.harness.pivots import FilterConfig, filter_file, load_pivots
from pivotgym.harness.profiling import ProfileConfig, profile
from pivotgym.harness.report import build_report, print_run_summary, report_figures
from pivotgym.harness.report.text import clean, percent, seconds
from pivotgym.harness.restoring import restore_trajectories
from pivotgym.harness.runs import total_costs, write_json
from pivotgym.harness.sft import SftConfig, train_sft
from pivotgym.harness.train import TrainConfig, train

ATTACK = "</pre><script>alert('x')</script><img src=http://evil.example/x onerror=alert(1)>{{ 7*7 }} \u202eevil\ud800"


class Page(HTMLParser):
    """What a browser would act on: elements, the addresses they load, event handlers, ids; and the visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.ids: list[str] = []
        self.cells: list[list[str]] = []
        self.parts: list[str] = []
        self._in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attributes:
            if name in {"src", "href", "xlink:href", "data", "action", "poster", "srcset"}:
                self.addresses.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)
            if name == "id":
                self.ids.append(value or "")
        if tag == "tr":
            self.cells.append([])
        if tag in {"td", "th"} and self.cells:
            self.cells[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in {"td", "th"}:
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        self.parts.append(data)
        if self._in_cell:
            self.cells[-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join("".join(self.parts).split())

    def row(self, name: str) -> list[str]:
        """The cells of the first row of a table that begins with ``name``."""
        return next(cells for cells in self.cells if cells and cells[0] == name)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run made by the real stages, laid out as the demo lays it out."""
    out = tmp_path_factory.mktemp("run")
    recordings = lamps.trajectories(24, turns=3)
    write_json(out / "restore.json", restore_trajectories(recordings).model_dump(mode="json"))
    policy = lamps.policy(0)
    fast = OptimOptions(lr=5e-3)
    train_sft(
        lamps.trajectories(30, turns=3, seed=9), policy, SftConfig(epochs=4, lora=None, optim=fast), out / "warm_start"
    )
    profiled = out / "profile" / "profile.jsonl"
    profile(recordings, policy, ProfileConfig(rollouts=8, max_tokens=8, chunk=8), profiled)
    report = filter_file(profiled, out / "profile" / "pivots.jsonl", FilterConfig(max_mean=0.7))
    write_json(out / "profile" / "pivots.filter.json", report.row())
    _episodes(policy, out / "evaluate" / "before")
    config = TrainConfig(steps=6, batch=3, max_tokens=8, lora=None, optim=fast, eval_every=2, measure_kl=True)
    train(load_pivots(out / "profile" / "pivots.jsonl"), policy, config, out / "train")
    _episodes(policy, out / "evaluate" / "after")
    write_json(
        out / "run.json",
        {
            "command": "pivotgym demo --seed 0",
            "seed": 0,
            "machine": {"cores": 2, "threads": 1},
            "warm_start": {
                "updates": 25,
                "trained_tokens": 4321,
                "cost": {"sft": {"trained_tokens": 4321, "seconds": 75}},
            },
        },
    )
    build_report(out)
    return out


def _episodes(policy: Any, out: Path) -> None:
    config = EpisodeConfig(trials=3, max_turns=1, max_tokens=8, env_options={"domain": lamps.DOMAIN}, seed=5)
    evaluate_episodes("pivotgym/Tools-v0", policy, lamps.Lamps().tasks(), config, out)


@pytest.fixture(scope="module")
def page(run: Path) -> Page:
    return Page((run / "report.html").read_text(encoding="utf-8"))


def test_nothing_is_fetched_and_nothing_runs(run: Path, page: Page) -> None:
    assert page.addresses and all(address.startswith("#") for address in page.addresses)
    assert not {"script", "iframe", "object", "embed", "link", "img", "image", "form", "base"} & set(page.tags)
    assert not page.handlers
    text = (run / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|url\((?!#)|@import", text)
    assert "default-src 'none'" in text
    assert text.count("<svg") >= 9
    assert len(text) < 2_000_000


def test_ids_are_unique_and_references_resolve(page: Page) -> None:
    assert len(page.ids) == len(set(page.ids))
    assert {address[1:] for address in page.addresses} <= set(page.ids)


def test_heldout_reward_on_the_page_is_that_of_the_files(run: Path, page: Page) -> None:
    evaluations = [row for row in read_rows(run / "train" / "metrics.jsonl") if row["kind"] == "eval"]
    gain = json.loads((run / "train" / "summary.json").read_text())["gain"]
    cells = page.row("Reward on held-out pivots")
    for cell, row in zip(cells[1:3], (evaluations[0]["reward"], evaluations[-1]["reward"]), strict=True):
        assert cell == f"{row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
        assert cell in page.text
    assert cells[3].replace("−", "-") == f"{gain['mean']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]"
    assert f"{gain['n']} pivots" in cells[4]


def test_candidates_pivots_and_reasons_are_those_of_the_files(run: Path, page: Page) -> None:
    rows = list(read_rows(run / "profile" / "profile.jsonl"))
    pivots = load_pivots(run / "profile" / "pivots.jsonl")
    wrong = sum(max(row["rewards"]) == 0 for row in rows)
    assert page.row("kept as pivots")[1] == str(len(pivots))
    assert page.row("dropped: always wrong")[1] == str(wrong) and wrong > 0
    figures = report_figures(run)
    found = figures["profile"]
    assert found["candidates"] == len(rows) == sum(place["candidates"] for place in found["histogram"])
    assert found["pivots"] == len(pivots) == sum(map(sum, found["grid"]["pivots"]))
    for place in found["histogram"]:
        inside = [row for row in rows if abs(row["mean"] - place["centre"]) < 1e-9]
        assert place["candidates"] == len(inside)
    for row in found["by_turn"]:
        means = [item["mean"] for item in rows if item["turn"] == row["turn"]]
        assert row["reward_mean"] == pytest.approx(sum(means) / len(means))
        assert row["pivots"] == sum(pivot.turn == row["turn"] for pivot in pivots)
    verdicts = [verdict["rule"] for row in rows for verdict in row["verdicts"]]
    assert {rule["rule"]: rule["actions"] for rule in found["rules"]} == {r: verdicts.count(r) for r in set(verdicts)}


def test_costs_add_up(run: Path, page: Page) -> None:
    figures = report_figures(run)["cost"]
    sampled = sum(
        cost.sampled_tokens for path in run.rglob("timings.jsonl") for cost in total_costs(path.parent).values()
    )
    assert figures["total"]["sampled_tokens"] == sampled > 0
    assert page.row("Total")[4] == f"{sampled:,}"
    assert page.row("Profiling")[1] == f"{total_costs(run / 'profile')['profile'].rollout_turns:,}"
    assert page.row("Supervised warm start")[5] == f"{total_costs(run / 'warm_start')['sft'].trained_tokens:,}"
    assert page.row("Whole episodes (before)") and page.row("Whole episodes (after)")
    shipped = next(cells for cells in page.cells if cells and cells[0].startswith("Before the run"))
    assert shipped[5] == "4,321" and shipped[-1] == "75.0 s"
    own = sum(cost.trained_tokens for path in run.rglob("timings.jsonl") for cost in total_costs(path.parent).values())
    assert figures["total"]["trained_tokens"] == own  # the shipped one is apart


def test_stages_that_share_a_folder_are_counted_once_each(run: Path, tmp_path: Path) -> None:
    (tmp_path / "profile.jsonl").write_bytes((run / "profile" / "profile.jsonl").read_bytes())
    figures = {"model_calls": 3, "trained_tokens": 5, "seconds": 1.0}
    for stage, part in (("train", 1), ("evaluate pivots", 1), ("train", 2), ("evaluate pivots", 2)):
        append_row(tmp_path / "timings.jsonl", {"stage": stage, "part": part, **figures})
    cost = report_figures(tmp_path)["cost"]
    assert [(stage["stage"], stage["model_calls"]) for stage in cost["stages"]] == [
        ("train", 6), ("evaluate pivots", 6),
    ]  # fmt: skip
    assert cost["total"]["model_calls"] == 12 and cost["total"]["trained_tokens"] == 20


def test_episode_success_has_honest_intervals(run: Path, page: Page) -> None:
    figures = report_figures(run)["episodes"]["sides"]
    for side, found in figures.items():
        rows = list(read_rows(run / "evaluate" / side / "episodes.jsonl"))
        success = found["success"]
        assert success["mean"] == pytest.approx(sum(row["reward"] >= 1 for row in rows) / len(rows))
        own = json.loads((run / "evaluate" / side / "summary.json").read_text())
        for name in ("success", "pass_at_k", "pass_hat_k"):
            assert found[name] == own[name], "the page and the command agree"
        assert success["low"] <= success["mean"] <= success["high"]
        assert success["high"] > success["low"], "no success in 24 episodes does not prove a rate of exactly 0"
        assert list(found["pass_at_k"]) == ["1", "2", "3"]
        assert found["pass_hat_k"]["3"]["mean"] <= success["mean"] + 1e-9 <= found["pass_at_k"]["3"]["mean"] + 2e-9
    assert page.row("pass@3") and page.row("pass^3")


def test_examples_show_the_verdicts(run: Path, page: Page) -> None:
    rows = {(row["trajectory"], row["turn"]): row for row in read_rows(run / "profile" / "profile.jsonl")}
    shown = re.search(r"(lamp-0-\d+), turn (\d)", page.text)
    assert shown is not None
    row = rows[(shown[1], int(shown[2]))]
    best = row["rewards"].index(1.0)
    assert row["verdicts"][best]["reason"] in page.text
    assert "the policy does not see it" in page.text


def test_text_from_recordings_and_policies_is_escaped(run: Path, tmp_path: Path) -> None:
    pivots = list(read_rows(run / "profile" / "pivots.jsonl"))
    rows = list(read_rows(run / "profile" / "profile.jsonl"))
    for row in pivots:
        for message in row["trajectory"]["messages"]:
            if message["role"] != "assistant":
                message["content"] = ATTACK
    for row in rows:
        row["completions"] = [ATTACK for _ in row["completions"]]
        row["demonstration"] = ["$x^2$" + ATTACK]
        row["verdicts"] = [{"rule": ATTACK, "reason": ATTACK} for _ in row["verdicts"]]
    write_rows(tmp_path / "pivots.jsonl", pivots)
    write_rows(tmp_path / "profile.jsonl", rows)
    write_json(tmp_path / "run.json", {"command": ATTACK.replace("\ud800", ""), "title": "<b>t</b>"})
    text = build_report(tmp_path).read_text(encoding="utf-8")
    attacked = Page(text)
    assert "&lt;script&gt;alert(" in text and "script" not in attacked.tags and "img" not in attacked.tags
    assert not attacked.handlers and all(address.startswith("#") for address in attacked.addresses)
    assert "{{ 7*7 }}" in attacked.text  # not run as a template either
    assert "\u202e" not in text
    console = Console(file=StringIO(), width=100)
    print_run_summary(tmp_path, console)  # markup in names does not raise


def test_a_flat_folder_with_a_profile_alone(run: Path, tmp_path: Path) -> None:
    (tmp_path / "profile.jsonl").write_bytes((run / "profile" / "profile.jsonl").read_bytes())
    page = Page(build_report(tmp_path).read_text(encoding="utf-8"))
    figures = report_figures(tmp_path)
    assert set(figures["missing"]) == {"restore", "pivots", "train", "episodes", "forgetting"}
    for command in figures["missing"].values():
        assert command in page.text
    rows = list(read_rows(tmp_path / "profile.jsonl"))
    assert figures["profile"]["pivots"] == sum(row["var"] > 0 for row in rows)


def test_reasons_without_the_filters_report_are_counted_again(run: Path, tmp_path: Path) -> None:
    for name in ("profile.jsonl", "pivots.jsonl"):
        (tmp_path / name).write_bytes((run / "profile" / name).read_bytes())
    kept = json.loads((run / "profile" / "pivots.filter.json").read_text())
    found = report_figures(tmp_path)["filter"]
    assert {name: found[name] for name in kept if name != "settings"} == {
        n: v for n, v in kept.items() if n != "settings"
    }


def test_a_run_that_is_still_going(run: Path, tmp_path: Path) -> None:
    rows = list(read_rows(run / "train" / "metrics.jsonl"))
    for row in rows[:2]:
        append_row(tmp_path / "train" / "metrics.jsonl", row)
    with (tmp_path / "train" / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "step": 2, "rew')
    page = Page(build_report(tmp_path).read_text(encoding="utf-8"))
    assert page.row("Reward on held-out pivots")[2] == "–"
    assert report_figures(tmp_path)["train"]["steps"] == 1


def test_missing_numbers_are_shown_as_such(run: Path, tmp_path: Path) -> None:
    train_rows = [row for row in read_rows(run / "train" / "metrics.jsonl") if row["kind"] == "train"]
    for row in train_rows:
        append_row(tmp_path / "metrics.jsonl", {**row, "reward_mean": float("nan"), "grad_norm": None, "kl": None})
    rows = [{**row, "status": "infrastructure", "rewards": [], "mean": None, "var": None, "verdicts": []}
            for row in read_rows(run / "profile" / "profile.jsonl")]  # fmt: skip
    write_rows(tmp_path / "profile.jsonl", rows)
    page = build_report(tmp_path).read_text(encoding="utf-8")
    assert "nan" not in Page(page).text.lower()
    assert report_figures(tmp_path)["train"]["reward_first"] is None
    json.dumps(report_figures(tmp_path), allow_nan=False)


def test_ten_thousand_candidates_stay_a_small_page(run: Path, tmp_path: Path) -> None:
    template = next(row for row in read_rows(run / "profile" / "profile.jsonl") if 0 < row["mean"] < 1)

    def rows() -> Any:
        for place in range(10_000):
            count = place % 9
            rewards = [1.0] * count + [0.0] * (8 - count)
            changed = {"rewards": rewards, "mean": count / 8, "var": count / 8 * (1 - count / 8)}
            yield {
                **template, **changed, "trajectory": f"t{place // 50}", "turn": place % 50,
                "demonstration": [f"tool_{place % 40}"], "completions": ["word " * 40] * 8,
            }  # fmt: skip

    write_rows(tmp_path / "profile.jsonl", rows())
    path = build_report(tmp_path)
    assert path.stat().st_size < 1_000_000
    figures = report_figures(tmp_path)["profile"]
    assert figures["candidates"] == 10_000
    assert sum(map(sum, figures["grid"]["candidates"])) == 10_000
    assert len(figures["grid"]["candidates"][0]) <= 40
    assert sum(kind["candidates"] for kind in figures["by_kind"]) == 10_000


def test_a_pivots_example_comes_from_its_own_recording(run: Path, page: Page) -> None:
    recordings = {item.id: item for item in read_jsonl(run / "profile" / "profile.trajectories.jsonl")}
    for name, turn in re.findall(r"(lamp-0-\d+), turn (\d)", page.text):
        (call,) = recordings[name].action(int(turn)).tool_calls
        assert f"press {json.dumps(call.arguments)}" in page.text


def test_the_terminal_shows_the_same_figures(run: Path) -> None:
    console = Console(file=StringIO(), width=160)
    print_run_summary(run, console)
    assert isinstance(console.file, StringIO)
    printed = console.file.getvalue()
    figures = report_figures(run)
    assert f"{figures['filter']['pivots']:,}" in printed
    assert f"{figures['train']['after']['reward']['mean']:.3f} [" in printed
    assert "Profiling" in printed and "Supervised warm start" in printed


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such folder"):
        build_report(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("nothing")
    (tmp_path / "answer.json").write_text('{"success": true, "data": []}')
    (tmp_path / "profile_of_the_town.jsonl").write_text('{"people": 12000}\n')
    (tmp_path / "pivots.jsonl").write_text("")
    (tmp_path / "metrics.jsonl").write_text('{"cpu": 0.3}\n')
    with pytest.raises(BadInput, match=r"nothing of a run.*profile"):
        build_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_damaged_line_is_noted_and_the_rest_reported(run: Path, tmp_path: Path) -> None:
    lines = (run / "profile" / "profile.jsonl").read_text().splitlines()
    (tmp_path / "profile.jsonl").write_text("\n".join([*lines[:5], "not json", *lines[5:]]) + "\n")
    figures = report_figures(tmp_path)
    assert figures["profile"]["candidates"] == 5
    assert any("line 6" in note for note in figures["notes"])


@pytest.mark.parametrize(
    ("value", "text"), [(1.0, "100.0 %"), (0.99999, "> 99.9 %"), (0.0, "0.0 %"), (1e-6, "< 0.1 %"), (None, "–")]
)
def test_a_share_is_never_rounded_to_all_or_nothing(value: float | None, text: str) -> None:
    assert percent(value) == text


def test_texts_and_times() -> None:
    assert clean("a\x00b\u202ec\ud800") == "a�b�c�"
    assert clean("x" * 700, 600).endswith("… (100 more characters)")
    assert [seconds(value) for value in (0.0005, 0.25, 59.94, 725, float("nan"))] == [
        "0.5 ms", "250 ms", "59.9 s", "12 min 05 s", "–",
    ]  # fmt: skip
