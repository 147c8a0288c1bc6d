from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from needs import require
from rich.console import Console

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats import load_trajectories, save_trajectories
from pivotgym.envs.tools.domain import get_domain
from pivotgym.envs.tools.env import ToolsEnv
from pivotgym.envs.trajectory import Message, Task, ToolCall, Trajectory
from pivotgym.harness.bench import bench_tools, print_rows, workload
from pivotgym.harness.restoring import RestoreSummary, print_summary, restore_file, restore_trajectories

pytestmark = pytest.mark.usefixtures("tau2_package")
Row = dict[str, Any]
FILES = {
    "claude-sonnet-4-5_airline": (50, 371),
    "gpt-4.1_airline": (20, 148),
    "gpt-4.1_retail": (40, 299),
    "ft-gpt-4.1_retail": (40, 292),
    "gpt-4.1_telecom": (40, 689),
    "gpt-4.1_telecom-no-user": (40, 626),
}


@pytest.fixture(scope="module")
def tau2_package() -> None:
    require("tau2", "tau2")


@pytest.fixture
def untidy(shared_data: Path, tmp_path: Path) -> Callable[[Callable[[Row], None]], Path]:
    """A result file of three airline runs, changed by the given function."""

    def make(change: Callable[[Row], None]) -> Path:
        document = json.loads((shared_data / "tau2" / "gpt-4.1_airline.json").read_text())
        document["simulations"] = document["simulations"][:3]
        change(document)
        path = tmp_path / "untidy.json"
        path.write_text(json.dumps(document))
        return path

    return make


def calls_in(document: Row, run: int = 0) -> list[Row]:
    return [call for message in document["simulations"][run]["messages"] for call in message.get("tool_calls") or []]


def results_in(document: Row, run: int = 0) -> list[Row]:
    return [message for message in document["simulations"][run]["messages"] if message["role"] == "tool"]


def test_the_untouched_runs(untidy: Any) -> None:
    summary = restore_file(untidy(lambda _: None))
    assert summary.trajectories == 3 and summary.turns > 20 and summary.observations > 5
    assert summary.matched == summary.observations and summary.fidelity == 1.0
    assert summary.by_kind == {} and summary.inconsistent == 0
    assert summary.turns_recorded == summary.turns and summary.observations_recorded == summary.observations


@pytest.mark.parametrize(("name", "expected"), FILES.items(), ids=FILES)
def test_every_observation_of_the_recorded_files(shared_data: Path, name: str, expected: tuple[int, int]) -> None:
    path = shared_data / "tau2" / f"{name}.json"
    summary = restore_file(path)
    runs = json.loads(path.read_text())["simulations"]
    messages = [message for run in runs for message in run["messages"]]
    assert (summary.trajectories, summary.observations) == expected
    assert summary.observations == sum(message["role"] == "tool" for message in messages)
    assert summary.turns == sum(message["role"] == "assistant" for message in messages)
    assert summary.fidelity is not None and summary.fidelity >= 0.999
    assert len(summary.divergences) == summary.diverged and all(one.kind and one.diff for one in summary.divergences)
    assert summary.not_restorable == [] and summary.inconsistent == 0


def test_ids_used_twice_are_paired_by_position(untidy: Any) -> None:
    def change(document: Row) -> None:
        for run in range(3):
            for call in calls_in(document, run):
                call["id"] = "same"
            for result in results_in(document, run):
                result["id"] = "same"

    summary = restore_file(untidy(change))
    assert summary.fidelity == 1.0 and summary.observations > 5


def test_several_calls_in_a_message(untidy: Any) -> None:
    """All calls of a run in one message, all their results after it."""

    def change(document: Row) -> None:
        run = document["simulations"][0]
        calls, results = calls_in(document), results_in(document)
        run["messages"] = [
            {"role": "assistant", "content": None, "tool_calls": calls},
            *results,
            {"role": "user", "content": "###STOP###", "tool_calls": None},
        ]
        document["simulations"] = [run]

    summary = restore_file(untidy(change))
    assert summary.turns == 1 and summary.observations > 1 and summary.fidelity == 1.0


def test_arguments_as_text_and_arguments_that_are_no_json(untidy: Any) -> None:
    def change(document: Row) -> None:
        for call in calls_in(document):
            call["arguments"] = json.dumps(call["arguments"])
        calls_in(document, 1)[0]["arguments"] = "{not json"

    summary = restore_file(untidy(change))
    assert summary.diverged == 1 and summary.by_kind == {"call_fails_now": 1}
    assert "not a JSON object" in summary.divergences[0].diff


def test_a_run_without_messages_and_one_of_an_unknown_task(untidy: Any) -> None:
    def change(document: Row) -> None:
        document["simulations"][0]["messages"] = []
        document["simulations"][1]["task_id"] = "no such task"

    summary = restore_file(untidy(change))
    assert {one.kind for one in summary.not_restorable} == {"no_messages", "unknown_task"}
    assert summary.by_kind == {"no_messages": 1, "unknown_task": 1}
    assert summary.trajectories == 3 and summary.turns > 0 and summary.fidelity == 1.0


def test_a_task_of_another_run_is_reported_not_hidden(shared_data: Path, tmp_path: Path) -> None:
    document = json.loads((shared_data / "tau2" / "gpt-4.1_telecom.json").read_text())
    runs, tasks = document["simulations"][:1], {task["id"]: task for task in document["tasks"]}
    own = tasks[runs[0]["task_id"]]
    other = next(task for task in tasks.values() if len(str(task["initial_state"])) != len(str(own["initial_state"])))
    own["initial_state"] = other["initial_state"]
    path = tmp_path / "mismatch.json"
    path.write_text(json.dumps({**document, "simulations": runs}))
    summary = restore_file(path)
    assert summary.turns > 0 and summary.diverged > 0
    assert summary.matched + summary.diverged == summary.observations
    assert sum(summary.by_kind.values()) == summary.diverged
    strict = restore_file(path, strict=True)
    assert [one.kind for one in strict.not_restorable] == ["diverged"] and strict.turns < summary.turns
    assert strict.turns_recorded == summary.turns == summary.turns_recorded, "what was given up shows as missing"
    assert strict.observations_recorded == summary.observations_recorded > strict.observations


def conversation(*steps: tuple[ToolCall, str]) -> Trajectory:
    messages = [Message(role="system", content="policy")]
    for call, result in steps:
        messages += [Message(role="assistant", tool_calls=[call]), Message(role="tool", content=result)]
    task = Task(env="pivotgym/Tools-v0", id="0", data={"domain": "tau2/airline"})
    return Trajectory(id="made", task=task, messages=messages)


@pytest.mark.parametrize("text", ["Error: Service temporarily unavailable", '{"error": "Gateway timeout"}'])
def test_injected_service_errors_are_skipped_and_counted(text: str) -> None:
    """The call never ran: were it replayed, the later results would differ."""
    domain = get_domain("tau2/airline")
    session = domain.open(domain.tasks()[0])
    user = next(iter(session.environment.tools.db.users))
    look = ToolCall(name="get_user_details", arguments={"user_id": user})
    give = ToolCall(name="send_certificate", arguments={"user_id": user, "amount": 500})
    shown = domain.call(session, look)
    summary = restore_trajectories([conversation((give, text), (look, shown))])
    assert (summary.recorded, summary.matched, summary.diverged) == (1, 1, 0)
    assert summary.by_kind == {"service_error": 1} and summary.fidelity == 1.0
    replayed = restore_trajectories([conversation((give, "Error: no such luck"), (look, shown))])
    assert (replayed.recorded, replayed.matched, replayed.diverged) == (0, 0, 2)


def test_unknown_tools_and_wrong_types_give_the_packages_errors() -> None:
    wrong = ToolCall(name="get_user_details", arguments={"user_id": 7})
    summary = restore_trajectories(
        [
            conversation(
                (ToolCall(name="fly"), "Error: Tool 'fly' not found."),
                (wrong, "Error: User 7 not found"),
                (ToolCall(name="fly"), "Error: no wings"),
                (ToolCall(name="fly"), "flown"),
            )
        ]
    )
    assert (summary.matched, summary.diverged) == (2, 2)
    assert summary.by_kind == {"call_fails_now": 1, "error_text": 1}


def test_a_tool_result_of_five_megabytes() -> None:
    long = "x" * 5_000_000
    summary = restore_trajectories([conversation((ToolCall(name="calculate", arguments={"expression": "1+1"}), long))])
    assert summary.diverged == 1 and len(summary.divergences[0].diff) <= 2000
    assert summary.turns == 1


def test_a_result_that_the_recording_lacks_is_no_observation() -> None:
    run = conversation((ToolCall(name="calculate", arguments={"expression": "1+1"}), "2.0"))
    run.messages.append(Message(role="assistant", tool_calls=[ToolCall(name="list_all_airports")]))
    summary = restore_trajectories([run])
    assert (summary.observations, summary.matched, summary.diverged) == (1, 1, 0)
    assert summary.by_kind == {"unexpected": 1}


@pytest.mark.parametrize(
    ("run", "kind"),
    [
        (Trajectory(id="a", messages=[]), "no_messages"),
        (Trajectory(id="b", messages=[Message(role="assistant", content="hi")]), "no_environment"),
        (
            Trajectory(id="c", task=Task(env="nowhere/No-v0", id="t"), messages=[Message(role="assistant")]),
            "no_environment",
        ),
        (
            Trajectory(id="d", task=Task(env="pivotgym/Tools-v0", id="t"), messages=[Message(role="user")]),
            "no_turns",
        ),
        (
            Trajectory(
                id="e",
                task=Task(env="pivotgym/Tools-v0", id="t", data={"domain": "atlantis"}),
                messages=[Message(role="assistant", content="hi")],
            ),
            "bad_input",
        ),
    ],
)
def test_what_cannot_be_restored_is_named_and_the_rest_goes_on(run: Trajectory, kind: str) -> None:
    good = conversation((ToolCall(name="calculate", arguments={"expression": "2*3"}), "6.0"))
    summary = restore_trajectories([run, good])
    assert [(one.trajectory, one.kind) for one in summary.not_restorable] == [(run.id, kind)]
    assert summary.matched == 1 and summary.trajectories == 2


def test_one_turn_only(untidy: Any) -> None:
    path = untidy(lambda _: None)
    summary = restore_file(path, turn=2)
    assert summary.turns == 3
    run = next(iter(load_trajectories(path)))
    until = restore_trajectories([run], turn=len(run.turns) - 1)
    assert until.observations == sum(message.role == "tool" for message in run.messages)
    assert (until.turns_recorded, until.observations_recorded) == (1, until.observations)
    beyond = restore_trajectories([run], turn=500)
    assert beyond.by_kind == {"no_such_turn": 1} and beyond.turns == 0


def test_bad_rows_of_a_file_are_counted(shared_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    save_trajectories(path, [conversation((ToolCall(name="calculate", arguments={"expression": "2*3"}), "6.0"))])
    whole = path.read_text()
    path.write_text(whole + whole[: len(whole) // 2])
    summary = restore_file(path)
    assert summary.trajectories == 2 and summary.matched == 1
    assert [one.kind for one in summary.not_restorable] == ["unreadable"]
    path.write_text(whole[:40])
    with pytest.raises(BadInput, match=r"runs\.jsonl"):
        restore_file(path)


def test_processes_give_the_same_figures_and_progress_is_told(untidy: Any) -> None:
    path = untidy(lambda _: None)
    told: list[tuple[int, int]] = []
    one, many = (
        restore_file(path, progress=lambda done, total: told.append((done, total))),
        restore_file(path, workers=2),
    )
    assert told == [(1, 3), (2, 3), (3, 3)]
    exclude = {"seconds"}
    assert one.model_dump(exclude=exclude) == many.model_dump(exclude=exclude)


def test_the_summary_as_json_and_as_a_table(untidy: Any) -> None:
    def change(document: Row) -> None:
        results_in(document)[0]["content"] = "something else"
        document["simulations"][2]["messages"] = []

    summary = restore_file(untidy(change))
    row = json.loads(summary.model_dump_json())
    assert {"trajectories", "turns", "observations", "matched", "diverged", "fidelity", "seconds"} <= set(row)
    assert row["fidelity"] == summary.matched / summary.observations < 1
    assert row["divergences"][0]["diff"] and row["divergences"][0]["kind"] == "different"
    console = Console(record=True, width=140, quiet=False, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    print_summary(summary, console)
    text = console.export_text()
    assert f"{summary.turns} of {summary.turns_recorded}" in text
    assert "no_messages" in text and "different" in text and f"{summary.fidelity:.4%}" in text
    assert RestoreSummary.model_validate(summary.model_dump(exclude={"fidelity"})) == summary


def test_bench_measures_what_it_says() -> None:
    work = workload("tau2/airline")
    calls = [call for message in work.trajectory.messages for call in message.tool_calls]
    assert len(calls) == 20 and len({call.name for call in calls}) >= 4
    env = ToolsEnv()
    report = env.reset(options=work.options)[1]["restore"]
    assert report.faithful and len(report.checks) == 20
    plain = workload("tau2/airline", lookups=True)
    assert all(call.name.startswith("get_") for message in plain.trajectory.messages for call in message.tool_calls)
    rows = bench_tools(repeats=5, domains=["tau2/airline"])
    by_name = {row.name.split(": ")[1]: row for row in rows}
    assert by_name["fork"].met is True, by_name["fork"]
    assert by_name["replay over restore"].median > by_name["replay over restore, 20 lookups only"].median > 1, by_name
    assert all(row.low <= row.median <= row.high and row.repeats == 5 for row in rows)
    console = Console(record=True, width=160, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    print_rows(rows, console)
    assert all(row.wall is not None and row.wall > 0 for row in rows)
    fork = by_name["fork"]
    assert fork.wall is not None and fork.wall >= 0.9 * fork.median, "one thread: no more CPU time than wall clock"
    shown = console.export_text()
    assert "≥ 20 x" in shown and "wall clock" in shown and "CPU" in shown
