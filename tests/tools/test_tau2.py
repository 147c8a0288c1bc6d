from __future__ import annotations

import copy
import importlib
import importlib.util
import json
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from needs import require

from pivotgym.envs.check import check_env_laws
from pivotgym.envs.errors import BadInput, MissingExtra, NotRestorable
from pivotgym.envs.formats import load_trajectories
from pivotgym.envs.snapshots import SnapshotStore
from pivotgym.envs.tools.cow import CowTable
from pivotgym.envs.tools.domain import get_domain
from pivotgym.envs.tools.env import ToolsEnv
from pivotgym.envs.tools.tau2 import Session, Tau2Domain, is_solo
from pivotgym.envs.tools.tau2_goal import content_hash
from pivotgym.envs.trajectory import Message, Task, ToolCall, Trajectory

FILES = [
    "claude-sonnet-4-5_airline",
    "gpt-4.1_airline",
    "gpt-4.1_retail",
    "ft-gpt-4.1_retail",
    "gpt-4.1_telecom",
    "gpt-4.1_telecom-no-user",
]
SOME = ["gpt-4.1_airline", "gpt-4.1_retail", "gpt-4.1_telecom", "gpt-4.1_telecom-no-user"]
pytestmark = pytest.mark.usefixtures("tau2_package")


@pytest.fixture(scope="module")
def tau2_package() -> None:
    require("tau2", "tau2")


def recorded(folder: Path, name: str, count: int | None = None) -> list[Trajectory]:
    return list(load_trajectories(folder / "tau2" / f"{name}.json"))[:count]


def domain(name: str) -> Tau2Domain:
    made = get_domain(f"tau2/{name}")
    assert isinstance(made, Tau2Domain)
    return made


def calls_of(trajectory: Trajectory) -> Iterator[tuple[ToolCall, str]]:
    for message in trajectory.messages:
        for call in message.tool_calls:
            yield call, "user" if message.role == "user" else "assistant"


def content(session: Session) -> str:
    """Hashes of both databases: our quick ones, which a test below holds against tau2's own."""
    kits = ["tools", "user_tools"] if session.environment.user_tools else ["tools"]
    return " ".join(content_hash(session, kit) for kit in kits)


# The package as oracle --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_states_and_results_are_those_of_the_package_itself(shared_data: Path, name: str) -> None:
    """The oracle is a plain tau2 environment with a database of its own, run side by side."""
    for trajectory in recorded(shared_data, name, 2):
        task = trajectory.task
        assert task is not None
        ours = get_domain(str(task.data["domain"]))
        assert isinstance(ours, Tau2Domain)
        definition = ours.definition(task)
        plain = ours._module.get_environment(**({"solo_mode": True} if is_solo(task) else {}))
        initial = definition.initial_state
        plain.set_state(None, initial.initialization_actions if initial else None, [])
        session = ours.open(task)
        message_type = importlib.import_module("tau2.data_model.message").ToolCall
        for call, requestor in calls_of(trajectory):
            arguments = copy.deepcopy(call.arguments)
            wanted = message_type(id="x", name=call.name, arguments=arguments, requestor=requestor)
            assert ours.call(session, call, requestor) == plain.get_response(wanted).content
            session = ours.load(task, ours.save(session))  # through a saved state after each call
        assert session.environment.get_db_hash() == plain.get_db_hash()
        assert session.environment.get_user_db_hash() == plain.get_user_db_hash()


@pytest.mark.parametrize("name", ["airline", "retail"])
def test_reading_tools_change_nothing(shared_data: Path, name: str) -> None:
    """Records are shared while these run; over all recorded calls, no record of the database changes."""
    ours = domain(name)
    template = ours._template(Task(env="e", id="t"))
    base = template.pristine.tables
    dumped = {key: {one: record.model_dump_json() for one, record in table.items()} for key, (table, _) in base.items()}
    seen: Counter[str] = Counter()
    for file in FILES:
        if not file.endswith(name):
            continue
        for trajectory in recorded(shared_data, file):
            assert trajectory.task is not None
            session = ours.open(trajectory.task)
            for call, _ in calls_of(trajectory):
                if call.name not in template.read_only:
                    ours.call(session, call)
                    continue
                before = ours.save(session)
                ours.call(session, call)
                after = ours.save(session)
                seen[call.name] += 1
                for field, (table, _) in before.payload.tables.items():
                    assert after.payload.tables[field][0] is table, f"{call.name} touched {field}"
                assert before.payload.rest == after.payload.rest
    now = {key: {one: record.model_dump_json() for one, record in table.items()} for key, (table, _) in base.items()}
    assert now == dumped, "the pristine records are as they were"
    assert sum(seen.values()) > 200 and len(seen) >= 5, seen


@pytest.mark.parametrize("name", ["gpt-4.1_airline", "gpt-4.1_retail"])
def test_a_record_changed_by_a_reading_tool_would_be_noticed(
    shared_data: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above can fail: a reading tool that changes a shared record is seen in the pristine database."""
    trajectory = recorded(shared_data, name, 1)[0]
    task = trajectory.task
    assert task is not None
    ours = Tau2Domain(str(task.data["domain"]))
    session = ours.open(task)
    kit = type(session.environment.tools)
    monkeypatch.setattr(kit, "get_user_details", _spoiling(kit.get_user_details))
    user = next(iter(session.environment.tools.db.users))
    table = ours._template(task).pristine.tables["tools", "users"][0]
    before = table[user].model_dump_json()
    ours.call(session, ToolCall(name="get_user_details", arguments={"user_id": user}))
    assert table[user].model_dump_json() != before


def _spoiling(tool: Any) -> Any:
    def get_user_details(self: Any, user_id: str) -> Any:
        found = tool(self, user_id)
        found.email = "spoilt@example.com"
        return found

    get_user_details.__dict__.update(tool.__dict__)
    return get_user_details


@pytest.mark.parametrize("name", FILES)
def test_the_goal_agrees_with_the_recorded_reward(shared_data: Path, name: str) -> None:
    env = ToolsEnv(snapshots=SnapshotStore())
    for trajectory in recorded(shared_data, name):
        last = len(trajectory.turns) - 1
        env.reset(options={"trajectory": trajectory, "turn": last})
        env.advance(trajectory.action(last), trajectory.answer(last))
        before = content(env.session)
        verdict = env.score()
        details = trajectory.outcome.details
        assert verdict.reward == trajectory.outcome.reward, (trajectory.id, verdict)
        assert verdict.evidence["db_match"] == details["db_check"]["db_match"]
        assert verdict.evidence["breakdown"] == details["reward_breakdown"]
        assert verdict.evidence["ended"] is True
        assert [one["met"] for one in verdict.evidence["env_assertions"]] == [
            one["met"] for one in details.get("env_assertions") or []
        ]
        assert content(env.session) == before, "judging changes nothing"
    env.close()


def test_the_quick_hash_is_equal_exactly_where_the_packages_is(shared_data: Path) -> None:
    ours = domain("airline")
    pairs: list[tuple[str, str]] = []
    for trajectory in recorded(shared_data, "gpt-4.1_airline"):
        assert trajectory.task is not None
        session = ours.open(trajectory.task)
        for call, _ in calls_of(trajectory):
            ours.call(session, call)
            if call.name not in session.template.read_only and len(pairs) < 6:
                pairs.append((session.environment.get_db_hash(), content_hash(session, "tools")))
    assert len({one for one, _ in pairs}) == len({other for _, other in pairs}) == len(set(pairs)) > 3


def test_unjudged_criteria_are_reported() -> None:
    ours = domain("airline")
    task = ours.tasks()[0]
    definition = json.loads(ours.definition(task).model_dump_json())
    definition["evaluation_criteria"]["reward_basis"] = ["DB", "NL_ASSERTION"]
    task = Task(env=task.env, id=task.id, data={**task.data, "definition": definition})
    verdict = ours.goal(task, ours.open(task), [Message(role="assistant", content="hello")])
    assert verdict.evidence["not_evaluated"] == ["NL_ASSERTION"] and "NL_ASSERTION" in verdict.reason
    assert set(verdict.evidence["breakdown"]) == {"DB"} and verdict.evidence["ended"] is False


# State ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gpt-4.1_airline", "gpt-4.1_telecom", "gpt-4.1_telecom-no-user"])
def test_the_laws_hold(shared_data: Path, name: str) -> None:
    trajectories = sorted(recorded(shared_data, name), key=lambda one: len(one.messages))[:3]
    assert trajectories[0].task is not None
    kwargs = {"domain": trajectories[0].task.data["domain"], "user": "recorded", "recording": trajectories[0]}
    laws = ["fidelity", "isolation", "equivalence", "blindness", "nothing left", "determinism"]
    report = check_env_laws("pivotgym/Tools-v0", trajectories, env_kwargs=kwargs, laws=laws, resets=5)
    assert report.passed, {result.law: result.detail for result in report.results if not result.passed}


def test_what_a_session_does_to_a_phone_stays_in_it() -> None:
    """tau2 keeps the details of a VPN in a class attribute and changes them there."""
    ours = domain("telecom")
    task = ours.tasks()[0]
    spoilt, other = ours.open(task), ours.open(task)
    spoilt.environment.user_tools.break_vpn()
    for session, word in ((spoilt, "poor"), (ours.load(task, ours.save(spoilt)), "poor"), (other, "excellent")):
        ours.call(session, ToolCall(name="disconnect_vpn"), "user")
        ours.call(session, ToolCall(name="connect_vpn"), "user")
        assert word in ours.call(session, ToolCall(name="check_vpn_status"), "user").lower()


def test_a_saved_state_is_small_and_a_fork_shares_what_nobody_changed(shared_data: Path) -> None:
    ours = domain("airline")
    task = recorded(shared_data, "gpt-4.1_airline", 1)[0].task
    assert task is not None
    session = ours.open(task)
    assert ours.save(session).nbytes < 2_000
    user = next(iter(session.environment.tools.db.users))
    before = ours.save(session)
    given = ours.call(session, ToolCall(name="send_certificate", arguments={"user_id": user, "amount": 100}))
    assert not given.startswith("Error"), given
    after = ours.save(session)
    assert 10_000 < after.nbytes < 100_000
    changes = ours.diff(before, after)
    assert [change["path"] for change in changes] == [f"users/{user}"]
    assert set(changes[0]["after"].values()) >= {100} and changes[0]["kind"] == "changed"
    assert after.payload.tables["tools", "flights"][0] is before.payload.tables["tools", "flights"][0]
    assert isinstance(session.environment.tools.db.flights, CowTable)


def test_the_callers_arguments_are_not_the_databases() -> None:
    ours = domain("retail")
    task = ours.tasks()[0]
    for call in [call for one in ours.tasks() for call in ours.reference(one)][:60]:
        session, kept = ours.open(task), copy.deepcopy(call.arguments)
        ours.call(session, call)
        state = content(session)
        _scribble(call.arguments)
        assert content(session) == state
        call.arguments = kept


def _scribble(value: Any) -> None:
    if isinstance(value, dict):
        for item in value.values():
            _scribble(item)
        value["scribble"] = 1
    elif isinstance(value, list):
        value.append("scribble")


def test_diff_shows_both_databases_of_telecom() -> None:
    ours = domain("telecom")
    session = ours.open(ours.tasks()[0])
    before = ours.save(session)
    ours.call(session, ToolCall(name="toggle_airplane_mode"), "user")
    line = session.environment.tools.db.lines[0]
    arguments = {"customer_id": session.environment.tools.db.customers[0].customer_id, "line_id": line.line_id}
    ours.call(session, ToolCall(name="refuel_data", arguments={**arguments, "gb_amount": 2.0}))
    paths = [change["path"] for change in ours.diff(before, ours.save(session))]
    assert any(path.startswith("user/device") for path in paths)
    assert f"lines/{line.line_id}" in paths, paths
    json.dumps(ours.diff(before, ours.save(session)))


# Tasks, errors, episodes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "starts"),
    [
        (ToolCall(name="no_such_tool"), "Error: Tool 'no_such_tool' not found."),
        (ToolCall(name="get_user_details", arguments={"nobody": 1}), "Error: "),
        (ToolCall(name="get_user_details", arguments={"user_id": ["a", "list"]}), "Error: "),
        (ToolCall(name="get_user_details", arguments={"tool_name": "x", "requestor": "user"}), "Error: "),
        (ToolCall(name="get_user_details", arguments="not json"), "Error: the arguments of get_user_details"),
        (ToolCall(name="calculate", arguments={"expression": "9**9**9**9"}), "Error: Powers"),
        (ToolCall(name="toggle_airplane_mode"), "Error: Tool"),
    ],
    ids=lambda value: value.name if isinstance(value, ToolCall) else "",
)
def test_bad_calls_are_texts_for_the_agent(call: ToolCall, starts: str) -> None:
    ours = domain("airline")
    session = ours.open(ours.tasks()[0])
    before = content(session)
    assert ours.call(session, call).startswith(starts)
    assert content(session) == before


@pytest.mark.parametrize(
    ("task", "kind"),
    [
        (Task(env="pivotgym/Tools-v0", id="no such task", data={"domain": "tau2/airline"}), "unknown_task"),
        (Task(env="e", id="1", data={"domain": "tau2/airline", "definition": {"id": 3}}), "bad_task"),
        (Task(env="e", id="1", data={"domain": "tau2/airline", "mode": "solo"}), "no_solo_mode"),
    ],
)
def test_tasks_that_cannot_be_built_are_not_restorable(task: Task, kind: str) -> None:
    with pytest.raises(NotRestorable) as caught:
        domain("airline").open(task)
    assert caught.value.kind == kind


def test_an_initial_action_of_another_version_is_not_restorable(shared_data: Path) -> None:
    task = recorded(shared_data, "gpt-4.1_telecom", 1)[0].task
    assert task is not None
    definition = copy.deepcopy(task.data["definition"])
    definition["initial_state"]["initialization_actions"][0]["func_name"] = "set_hologram"
    changed = Task(env=task.env, id=task.id, data={**task.data, "definition": definition})
    with pytest.raises(NotRestorable, match="set_hologram") as caught:
        domain("telecom").open(changed)
    assert caught.value.kind == "initial_state"


def test_the_definition_in_the_task_wins() -> None:
    ours = domain("airline")
    task = ours.tasks()[0]
    definition = json.loads(ours.definition(task).model_dump_json())
    reservation = next(iter(ours.open(task).environment.tools.db.reservations))
    record = json.loads(ours.open(task).environment.tools.db.reservations[reservation].model_dump_json())
    record["created_at"] = "1999-12-31T00:00:00"
    definition["initial_state"] = {"initialization_data": {"agent_data": {"reservations": {reservation: record}}}}
    changed = Task(env=task.env, id=task.id, data={**task.data, "definition": definition})
    session = ours.open(changed)
    shown = ours.call(session, ToolCall(name="get_reservation_details", arguments={"reservation_id": reservation}))
    assert json.loads(shown)["created_at"] == "1999-12-31T00:00:00"
    assert ours.save(session).nbytes < 500_000, "records that equal the pristine ones are shared"
    again = ours.load(changed, ours.save(session))
    assert content(again) == content(session) != content(ours.open(task))
    paths = [change["path"] for change in ours.diff(ours.save(ours.open(task)), ours.save(session))]
    assert f"reservations/{reservation}" in paths


def test_a_task_may_begin_in_the_middle_of_a_conversation() -> None:
    """The history's calls are run once at a plain reset, and once, as recorded turns, at a restore."""
    ours = domain("airline")
    task = ours.tasks()[0]
    user = next(iter(ours.open(task).environment.tools.db.users))
    call = {"id": "c", "name": "send_certificate", "arguments": {"user_id": user, "amount": 50}}
    result = ours.call(ours.open(task), ToolCall(name="send_certificate", arguments=call["arguments"]))
    definition = json.loads(ours.definition(task).model_dump_json())
    definition["initial_state"] = {
        "message_history": [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "id": "c", "content": result, "requestor": "assistant"},
            {"role": "assistant", "content": "You have a certificate."},
            {"role": "user", "content": "Thanks. And now?"},
        ]
    }
    changed = Task(env=task.env, id=task.id, data={**task.data, "definition": definition})
    env = ToolsEnv(user="none", snapshots=SnapshotStore())
    env.reset(options={"task": changed})
    assert [message.role for message in env.messages] == ["system", "assistant", "tool", "assistant", "user"]
    begun = content(env.session)
    messages = [*env.messages, Message(role="assistant", content="Nothing more.")]
    trajectory = Trajectory(id="h", task=changed, messages=messages)
    info = env.reset(options={"trajectory": trajectory, "turn": 2})[1]
    assert info["restore"].faithful and content(env.session) == begun != content(ours.open(task))


def test_the_recorded_user_answers_the_greeting(shared_data: Path) -> None:
    trajectory = recorded(shared_data, "gpt-4.1_retail", 1)[0]
    env = ToolsEnv(user="recorded", recording=trajectory, snapshots=SnapshotStore())
    env.reset(options={"task": trajectory.task})
    assert [message.role for message in env.messages] == ["system", "assistant", "user"]
    said = next(message for message in trajectory.messages if message.role == "user")
    assert env.messages[-1].text == said.text
    assert env.messages[0].text == trajectory.messages[0].text, "the policy is that of the recording"


@pytest.mark.parametrize("name", ["gpt-4.1_airline", "gpt-4.1_telecom", "gpt-4.1_telecom-no-user"])
def test_the_opening_is_that_of_the_recording(shared_data: Path, name: str) -> None:
    trajectory = recorded(shared_data, name, 1)[0]
    task = trajectory.task
    assert task is not None
    ours = get_domain(str(task.data["domain"]))
    opening = ours.opening(task)
    theirs = trajectory.messages[0].text
    if is_solo(task):  # the package's policy is a little younger than that recording
        assert opening.messages[0].text.split("<ticket>")[1] == theirs.split("<ticket>")[1]
    else:
        assert opening.messages[0].text == theirs
    names = {tool["function"]["name"] for tool in opening.tools}
    called = {
        call.name for message in trajectory.messages if message.role == "assistant" for call in message.tool_calls
    }
    assert called <= names
    assert ("done" in names) == ("toggle_airplane_mode" in names) == is_solo(task)
    assert len(opening.messages) == (1 if is_solo(task) else 2)


def test_solo_ends_with_done_or_the_stop_token() -> None:
    ours = domain("telecom")
    solo = Task(env="e", id="t", data={"domain": "tau2/telecom", "mode": "solo"})
    done = Message(role="assistant", tool_calls=[ToolCall(name="done")])
    assert ours.finished(solo, done) == "agent_stop"
    assert ours.finished(Task(env="e", id="t"), done) is None
    assert ours.finished(solo, Message(role="assistant", content="###STOP###")) == "agent_stop"
    assert ours.finished(solo, Message(role="assistant", content="Wait.")) is None


def test_the_user_of_telecom_has_instructions_and_tools() -> None:
    ours = domain("telecom")
    task = ours.tasks()[0]
    assert "Task instructions" in ours.user_instructions(task) or len(ours.user_instructions(task)) > 100
    names = {tool["function"]["name"] for tool in ours.user_tools(task)}
    assert "toggle_airplane_mode" in names and "refuel_data" not in names
    assert domain("airline").user_tools(domain("airline").tasks()[0]) == []
    assert ours.user(task) is None


@pytest.mark.parametrize(
    ("text", "only_recorded"),
    [
        ("Error: Service temporarily unavailable. Please try again later.", True),
        ('{"error": "Request timed out"}', True),
        ("503 Service Unavailable", True),
        ("Error: User not found", False),
        ("Error: Too many reservations", False),
        ("Status Bar: 📵 No Signal | Data Disabled", False),
        ('{"note": "the gateway timed out once", "id": 3}', False),
        ("", False),
    ],
)
def test_injected_service_errors_are_recognised(text: str, only_recorded: bool) -> None:
    call = ToolCall(name="get_user_details")
    assert domain("airline").recorded_only(call, Message(role="tool", content=text)) is only_recorded


@pytest.mark.parametrize("name", FILES)
def test_no_result_of_a_real_tool_is_taken_for_an_injected_one(shared_data: Path, name: str) -> None:
    ours = domain("airline")
    results = [one for run in recorded(shared_data, name) for one in run.messages if one.role == "tool"]
    assert len(results) > 100
    assert not [one.text for one in results if ours.recorded_only(ToolCall(name="x"), one)]


# The package around it ----------------------------------------------------------------------------------------------


def test_without_the_package_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name == "tau2" or name.startswith("tau2.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, package=None: None)
    with pytest.raises(MissingExtra, match=r"pivotgym\[tau2\]"):
        Tau2Domain("tau2/airline")


def test_an_unknown_domain_is_bad_input() -> None:
    with pytest.raises(BadInput, match="moonbase"):
        Tau2Domain("tau2/moonbase")


def test_it_is_silent_and_leaves_the_users_log_alone() -> None:
    """In a new process: nothing is printed, the user's own log works, and errors still come."""
    code = """
    from loguru import logger
    from pivotgym.envs.tools.env import ToolsEnv
    from pivotgym.envs.trajectory import Message, ToolCall
    env = ToolsEnv(domain="tau2/retail", user="none")
    env.reset(seed=1)
    call = ToolCall(name="find_user_id_by_email", arguments={"email": "x"})
    env.advance(Message(role="assistant", tool_calls=[call]))
    assert env.messages[-1].text == "Error: User not found", env.messages[-1]
    import sys
    assert "litellm" not in sys.modules, "it looks for the network"
    logger.warning("mine")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert done.stdout == "" and len(lines) == 1 and lines[0].endswith("mine"), done.stderr
