"""AgentLab's recorded episodes: imported, the same pages, every turn restored, the recorded reward earned."""

from __future__ import annotations

import copy
import datetime
import gzip
import json
import pickle
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pivotgym.envs.browser.env import BrowserEnv
from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats import detect, load_trajectories, save_trajectories
from pivotgym.envs.formats.pickles import read_pickle
from pivotgym.envs.trajectory import JsonObject

EPISODES = ["click-checkboxes_20", "click-dialog_14"]


@pytest.fixture
def recorded(shared_data: Path) -> Path:
    return shared_data / "agentlab_miniwob"


@pytest.mark.parametrize("name", EPISODES)
def test_recorded_episodes_restore_and_earn_their_reward(
    name: str, recorded: Path, make_env: Callable[..., BrowserEnv]
) -> None:
    path = recorded / f"{name}.json"
    assert detect(path) == "agentlab"
    (row,) = load_trajectories(path)
    env = make_env()
    env.reset(options={"task": row.task})
    assert [message.text for message in env.messages] == [message.text for message in row.prefix(0)]
    for turn in range(len(row.turns)):
        _, info = env.reset(options={"trajectory": row, "turn": turn, "strict": True})
        assert info["restore"].fidelity == 1.0 and len(info["restore"].checks) == turn
        assert {check.status for check in info["restore"].checks} <= {"exact"}
    last = len(row.turns) - 1
    _, reward, terminated, _, info = env.step(row.action(last))
    assert terminated and info["termination"] == row.outcome.termination == "done"
    assert reward == row.outcome.reward == 1.0
    assert env.messages[-1].text == row.answer(last)[-1].text


def test_what_is_kept(recorded: Path, tmp_path: Path) -> None:
    document = json.loads((recorded / "click-checkboxes_20.json").read_text())
    (row,) = load_trajectories(recorded / "click-checkboxes_20.json")
    assert row.id == document["episode"] and row.source["summary"] == document["summary"]
    assert row.source["exp_args"] == document["exp_args"]
    assert [call.arguments for turn in range(3) for call in row.action(turn).tool_calls] == [
        {"bid": "18"},
        {"bid": "30"},
        {"bid": "33"},
    ]
    assert row.action(0).reasoning_content == document["steps"][0]["agent_info"]["think"]
    assert row.answer(2)[0].source["agentlab"]["task_info"] == document["steps"][3]["task_info"]
    assert save_trajectories(tmp_path / "rows.jsonl", [row]) == 1
    assert list(load_trajectories(tmp_path / "rows.jsonl")) == [row]


@pytest.fixture
def document(recorded: Path) -> JsonObject:
    read: JsonObject = json.loads((recorded / "click-checkboxes_20.json").read_text())
    return read


def load(tmp_path: Path, document: JsonObject) -> Any:
    path = tmp_path / "episode.json"
    path.write_text(json.dumps(document))
    (row,) = load_trajectories(path, format="agentlab")
    return row


def test_other_benchmarks_are_imported_and_have_no_task(document: JsonObject, tmp_path: Path) -> None:
    document["exp_args"]["env_args"]["task_name"] = "webarena.310"
    row = load(tmp_path, document)
    assert row.task is None and len(row.turns) == 3


def test_actions_that_cannot_be_read_were_never_run(
    document: JsonObject, tmp_path: Path, make_env: Callable[..., BrowserEnv]
) -> None:
    step = copy.deepcopy(document["steps"][1])
    step["obs"]["last_action_error"] = "NameError: name 'clik' is not defined\nline 2"
    document["steps"].insert(1, step)
    document["steps"][0]["action"] = "clik('18')"
    document["steps"][1]["action"] = "click('18')"
    # What was seen after the call that failed is what was seen before it.
    for key in ("axtree_txt", "focused_element_bid"):
        document["steps"][1]["obs"][key] = document["steps"][0]["obs"][key]
    row = load(tmp_path, document)
    assert not row.action(0).delivered and row.action(1).delivered
    assert "Error: NameError: name 'clik' is not defined\n\n" in row.answer(0)[0].text
    env = make_env()
    _, info = env.reset(options={"trajectory": row, "turn": 3})
    assert info["restore"].fidelity == 1.0
    _, reward, _, _, _ = env.step(row.action(3))
    assert reward == 1.0


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda one: one["exp_args"].pop("env_args"), "field exp_args.env_args: missing"),
        (lambda one: one["steps"].clear(), "field steps: no steps"),
        (lambda one: one["steps"][1].update(obs=None, action=5), "field steps.1.action: expected a string or null"),
        (lambda one: one["steps"][2]["obs"].pop("axtree_txt"), "field steps.2.obs.axtree_txt: missing"),
        (lambda one: one["steps"][1].update(action=None), "field steps.1.action: no action"),
        (lambda one: one["steps"][1]["obs"].update(open_pages_titles=[]), "field steps.1.obs.open_pages_titles"),
    ],
)
def test_bad_episodes(spoil: Callable[[JsonObject], Any], problem: str, document: JsonObject, tmp_path: Path) -> None:
    spoil(document)
    with pytest.raises(BadInput, match=problem):
        load(tmp_path, document)


@dataclass
class StepInfo:
    step: int
    obs: JsonObject
    reward: Any
    raw_reward: Any
    terminated: bool
    truncated: bool
    action: str | None
    agent_info: Any
    task_info: Any


def as_folder(document: JsonObject, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes an episode as AgentLab does: pickled objects of classes that are not there when they are read."""
    module = types.ModuleType("agentlab_loop")
    module.StepInfo = StepInfo  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "agentlab_loop", module)
    monkeypatch.setattr(StepInfo, "__module__", "agentlab_loop")
    for step in document["steps"]:
        step["obs"]["elapsed_time"] = np.array([1.5])
        info = StepInfo(**{key: step[key] for key in StepInfo.__dataclass_fields__})
        info.reward = np.float64(info.reward)
        (folder / f"step_{info.step}.pkl.gz").write_bytes(gzip.compress(pickle.dumps(info)))
    arguments = {**document["exp_args"], "exp_dir": Path("/results/one"), "exp_date": datetime.datetime(2025, 1, 22)}
    (folder / "exp_args.pkl").write_bytes(pickle.dumps(arguments))
    (folder / "summary_info.json").write_text(json.dumps(document["summary"]))
    monkeypatch.delitem(sys.modules, "agentlab_loop")


def test_a_folder_says_the_same(
    document: JsonObject, recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (row,) = load_trajectories(recorded / "click-checkboxes_20.json")
    as_folder(document, tmp_path, monkeypatch)
    assert detect(tmp_path) == "agentlab"
    (read,) = load_trajectories(tmp_path)
    assert [message.chat() for message in read.messages] == [message.chat() for message in row.messages]
    assert read.task == row.task and read.outcome == row.outcome
    assert read.source["exp_args"]["exp_dir"] == "/results/one"
    assert read.source["exp_args"]["exp_date"] == "<datetime>"
    assert read.answer(2)[0].source["agentlab"]["reward"] == 1.0  # one of NumPy's numbers
    (tmp_path / "step_1.pkl.gz").unlink()
    with pytest.raises(BadInput, match=r"steps are missing: there are 0, 2, 3"):
        list(load_trajectories(tmp_path))


def test_pickles_run_nothing(tmp_path: Path) -> None:
    path, touched = tmp_path / "bad.pkl", tmp_path / "touched"

    class Bad:
        def __reduce__(self) -> Any:
            return Path.write_text, (touched, "run")

    path.write_bytes(pickle.dumps({"one": Bad(), "numbers": [np.float32(1.5), np.int64(-3), np.bool_(True)]}))
    read = read_pickle(path)
    assert read["numbers"] == [1.5, -3, True] and not touched.exists()
    assert pickle.loads(path.read_bytes()) and touched.exists()  # it would have
    path.write_bytes(b"\x80\x04nonsense")
    with pytest.raises(BadInput, match="no pickle that can be read"):
        read_pickle(path)
    with pytest.raises(BadInput, match="cannot be read"):
        read_pickle(tmp_path / "none.pkl")
