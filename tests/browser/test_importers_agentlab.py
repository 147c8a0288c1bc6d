"""AgentLab's recorded episodes: imported, the same pages, every turn restored, the recorded reward earned."""

from __future__ import annotations

import copy
import datetime
import gzip
import json
import pickle
import re
import subprocess
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
from pivotgym.envs.formats import detect, load_trajectories, pickles, save_trajectories
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


def _twice(levels: int, empty: bytes) -> bytes:
    """What holds one value twice, which holds another one twice, and so on."""
    made = empty + b"q\x00"
    for level in range(levels):
        get = b"h" + bytes([level])
        made += (get * 2 + b"\x86" if empty == b")" else b"](" + get * 2 + b"e") + b"q" + bytes([level + 1])
    return made


def _arguments(levels: int) -> bytes:
    """Objects of one class, each the argument of the next."""
    return b"cm\nC\nq\x00)" + b"q\x010h\x00h\x01\x81\x85" * levels


def _attributes(levels: int) -> bytes:
    """Objects of one class, each an attribute of the next."""
    return b"cm\nC\nq\x00N" + b"q\x010h\x00)\x81}X\x01\x00\x00\x00ah\x01sb" * levels


HOSTILE = {
    "tuples in a key": (b"}" + b")" + b"\x85" * 1_000_000 + b"Ns.", "nested deeper than 200"),
    "tuples in a set": (b"\x8f(" + b")" + b"\x85" * 1_000_000 + b"\x90.", "nested deeper than 200"),
    "tuples": (b")" + b"\x85" * 1_000_000 + b".", "nested deeper than 200"),
    "lists": (b"]" * 100_000 + b"a" * 99_999 + b".", "nested deeper than 200"),
    "mappings": (b"}N" * 100_000 + b"}" + b"s" * 100_000 + b".", "nested deeper than 200"),
    "objects": (_attributes(50_000) + b".", "nested deeper than 200"),
    "arguments": (_arguments(100_000) + b".", r"^\['<C>'\]$"),  # which are not shown
    "shared tuples as a type": (
        _twice(60, b")") + b"cnumpy\nscalar\ncnumpy\ndtype\nh\x3c\x85RC\x01x\x86R.",
        "^<scalar>$",
    ),
    "shared lists": (_twice(60, b"]") + b".", "more than 10000000 values"),
    "shared tuples": (_twice(60, b")") + b".", "more than 10000000 values"),
    "shared tuples in a key": (_twice(60, b")") + b"}h\x3cNs.", "keys that are too large"),
    "shared tuples in a set": (b"(" + _twice(60, b")") + b"\x91.", "keys that are too large"),
    "a huge table": (b"Nr\xff\xff\xff\x7f.", "stores value 2147483647 before"),
    "a huge table, in text": (b"Np99999999999\n.", "stores value 99999999999 before"),
}
BROKEN = {
    "in itself by an object": (b"cm\nC\n)\x81q\x00}X\x01\x00\x00\x00ah\x00sb.", "a value that holds itself"),
    "in itself": (b"]q\x00h\x00a.", "a value that holds itself"),
    "a huge number": (b"\x8b\x00\x10\x00\x00" + b"\x7f" * 4096 + b".", "more than 14000 bits"),
    "classes": (b"".join(b"cm\nC%d\n0" % at for at in range(10_001)) + b"N.", "more than 10000 classes"),
    "no mark": (b"Nt.", "a mark that is not there"),
    "nothing there": (b"a.", "a value that is not there"),
    "never stored": (b"h\x05.", "value 5, which was not stored"),
    "an extension": (b"\x82\x01.", "extension registry"),
}
_READS = """
import pathlib, resource, sys
sys.path[:0] = sys.argv[2:]
from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.pickles import read_pickle
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    print(read_pickle(sys.argv[1]))
except BadInput as problem:
    print(problem)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize("name", HOSTILE)
def test_pickles_that_would_take_the_process_down(name: str, tmp_path: Path) -> None:
    """Read in a process of its own, which must end by itself; without the checks some of these would never."""
    data, problem = HOSTILE[name]
    path = tmp_path / "hostile.pkl"
    path.write_bytes(data)
    ended = subprocess.run(
        [sys.executable, "-c", _READS, str(path), *sys.path], capture_output=True, text=True, timeout=240
    )
    assert ended.returncode == 0, ended.stderr
    said, grown = ended.stdout.splitlines()
    assert re.search(problem, said.removeprefix(f"{path}: ")) and (str(path) in said or problem[0] == "^")
    assert int(grown) < 1000  # MB


@pytest.mark.parametrize("name", BROKEN)
def test_pickles_that_are_refused(name: str, tmp_path: Path) -> None:
    data, problem = BROKEN[name]
    path = tmp_path / "broken.pkl"
    path.write_bytes(data)
    with pytest.raises(BadInput, match=problem) as raised:
        read_pickle(path)
    assert raised.value.file == path


def test_long_pickles_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "MAX_OPCODES", 1000)
    path = tmp_path / "long.pkl"
    path.write_bytes(b"N0" * 499 + b"N.")
    assert read_pickle(path) is None
    path.write_bytes(b"N0" * 500 + b"N.")
    with pytest.raises(BadInput, match="more than 1000 opcodes"):
        read_pickle(path)


def test_shared_values_of_pickles_are_read_once(tmp_path: Path) -> None:
    path, one = tmp_path / "shared.pkl", {"a": [1, (2, "x")]}
    path.write_bytes(pickle.dumps([one, one, {("k", (1, 2)): one}, frozenset({("s", 1)})]))
    read = read_pickle(path)
    assert read == [{"a": [1, [2, "x"]]}] * 2 + [{"['k', [1, 2]]": {"a": [1, [2, "x"]]}}, [["s", 1]]]
    assert read[0] is read[1]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_every_protocol(protocol: int, tmp_path: Path) -> None:
    value = {"n": [1, -70_000, 1 << 80, 1.5, None, True], "t": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4))}
    path = tmp_path / "value.pkl"
    path.write_bytes(pickle.dumps({**value, "date": datetime.datetime(2025, 1, 22), "self": [value, value]}, protocol))
    plain = {"n": value["n"], "t": [list(one) for one in value["t"]]}
    assert read_pickle(path) == {**plain, "date": "<datetime>", "self": [plain, plain]}


def test_values_that_are_deep_only_by_what_they_share(tmp_path: Path) -> None:
    path = tmp_path / "deep.pkl"
    made = b"(]q\x00"
    for at in range(4):
        made += b"]" * 150 + b"h" + bytes([at]) + b"a" * 150 + b"q" + bytes([at + 1])
    path.write_bytes(made + b"l.")
    with pytest.raises(BadInput, match="nested deeper than 200"):
        read_pickle(path)
