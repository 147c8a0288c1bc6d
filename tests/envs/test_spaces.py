"""The chat space: membership, sampling, and the shared memory of asynchronous vector environments."""

from __future__ import annotations

import copy
import json
import multiprocessing

import pytest
from gymnasium.utils.env_checker import check_action_space, check_observation_space
from gymnasium.vector.utils import create_shared_memory, read_from_shared_memory, write_to_shared_memory

from pivotgym.envs.spaces import ChatSpace, fit


def test_membership_is_by_bytes() -> None:
    space = ChatSpace(6)
    assert "abcdef" in space and "é" * 3 in space and "" in space and "\ud800" in space
    assert "abcdefg" not in space and "é" * 4 not in space and 5 not in space and ["a"] not in space
    check_action_space(space)
    check_observation_space(space)


def test_samples_depend_on_the_seed_alone() -> None:
    one, other = ChatSpace(seed=3), ChatSpace(seed=3)
    drawn = [one.sample() for _ in range(5)]
    assert drawn == [other.sample() for _ in range(5)] and len(set(drawn)) > 1
    assert all(text in one for text in drawn)
    assert ChatSpace(5) == ChatSpace(5) != ChatSpace(6)


def test_shared_memory_is_a_live_view() -> None:
    space = ChatSpace(16)
    memory = create_shared_memory(space, 3, multiprocessing)
    view = read_from_shared_memory(space, memory, 3)
    assert tuple(view) == ("", "", "")
    write_to_shared_memory(space, 1, "héllo \ud800", memory)
    write_to_shared_memory(space, 2, "x" * 16, memory)
    assert tuple(view) == ("", "héllo \ud800", "x" * 16)
    kept = copy.deepcopy(view)
    write_to_shared_memory(space, 2, "y", memory)
    assert kept == ("", "héllo \ud800", "x" * 16) and view[2] == view[-1] == "y" and view[1:] == ("héllo \ud800", "y")
    with pytest.raises(IndexError):
        view[3]
    with pytest.raises(ValueError, match="17 bytes"):
        write_to_shared_memory(space, 0, "z" * 17, memory)
    assert tuple(view) == ("", "héllo \ud800", "y"), "a text that does not fit touched its neighbour"


def test_a_huge_tool_result_stays_valid_json_with_head_and_tail() -> None:
    rows = [{"role": "tool", "content": "HEAD" + "ü\n" * 2_500_000 + "TAIL"}, {"role": "user", "content": "hi"}]
    text = fit(rows, 1 << 20)
    assert 300_000 < len(text.encode()) <= 1 << 20
    cut, whole = json.loads(text)
    assert cut["content"].startswith("HEAD") and cut["content"].endswith("TAIL") and "characters cut" in cut["content"]
    assert whole == {"role": "user", "content": "hi"}
    assert json.loads(fit(rows[1:], 1024)) == rows[1:]


def test_too_many_messages_keep_the_newest() -> None:
    rows = [{"role": "user", "content": f"message {n}"} for n in range(1000)]
    text = fit(rows, 2048)
    found = json.loads(text)
    assert len(text.encode()) <= 2048 and found[-1] == rows[-1] and "messages cut" in found[0]["content"]
    assert json.loads(fit([{"role": "assistant", "tool_calls": ["x" * 5000], "content": None}], 1024))
