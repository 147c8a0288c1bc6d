"""The service desk: its recorded trajectories hold what the design promises, and only doing the job scores."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from needs import missing

from pivotgym.envs.errors import BadInput, NotRestorable
from pivotgym.envs.snapshots import SnapshotStore
from pivotgym.envs.tools.env import ToolsEnv
from pivotgym.envs.tools.functions import missing_facts
from pivotgym.envs.tools.servicedesk import COUNTS, ServiceDesk, act, bundled_trajectories, make_task, scenario_of
from pivotgym.envs.tools.servicedesk.scenario import VARIANTS, build
from pivotgym.envs.tools.servicedesk.tools import parse_date, say_date
from pivotgym.envs.tools.servicedesk.user import PATIENCE
from pivotgym.envs.trajectory import Message, Task, ToolCall, Trajectory

BUNDLED = bundled_trajectories()


@pytest.fixture
def env() -> Iterator[ToolsEnv]:
    env = ToolsEnv(domain="servicedesk", snapshots=SnapshotStore())
    yield env
    env.close()


def find(variant: str, split: str = "train", test: Callable[[Task], bool] = lambda task: True) -> Task:
    return next(task for task in ServiceDesk().tasks(split) if task.id.startswith(f"{variant}-{split}") and test(task))


def say(text: str) -> Message:
    return Message(role="assistant", content=text)


def do(name: str, **arguments: Any) -> Message:
    return Message(role="assistant", tool_calls=[ToolCall(name=name, arguments=arguments)])


def tool_texts(env: ToolsEnv) -> list[str]:
    return [message.text for message in env.messages if message.role == "tool"]


# Size and shape -------------------------------------------------------------------------------------------------


def test_size_of_the_domain() -> None:
    desk = ServiceDesk()
    assert len(desk.functions) == 14
    assert len(desk.tasks("train")) == 400 and len(desk.tasks("heldout")) == 100
    assert len(desk.tasks("long")) == 150
    assert len({task.id for task in desk.tasks()}) == 650
    kinds = {request.kind for task in desk.tasks() for request in scenario_of(task).requests}
    assert len(kinds) >= 8
    assert len(VARIANTS) == len(set(VARIANTS))


def test_bundled_trajectories_are_what_they_claim() -> None:
    assert Counter(row.task.data["split"] for row in BUNDLED if row.task) == COUNTS
    for split in COUNTS:
        assert bundled_trajectories(split) == [row for row in BUNDLED if row.task and row.task.data["split"] == split]
    assert len({row.id for row in BUNDLED}) == len(BUNDLED)
    assert {row.outcome.reward for row in BUNDLED} == {1.0}
    assert all(4 <= len(row.turns) <= 12 for row in BUNDLED)
    assert all(row.source["generator"] == 1 and row.source["seed"] == 0 for row in BUNDLED)
    # No two tell the same story, so memorising one does not serve another.
    assert len({row.messages[1].text for row in BUNDLED}) > 480
    talk = sum(not row.action(turn).tool_calls for row in BUNDLED for turn in range(len(row.turns)))
    turns = sum(len(row.turns) for row in BUNDLED)
    assert 0.2 < talk / turns < 0.6
    assert any(len(row.action(turn).tool_calls) == 2 for row in BUNDLED for turn in range(len(row.turns)))


def test_bundled_file_is_made_again_byte_for_byte(tmp_path: Path) -> None:
    # In a process of its own with another hash seed: nothing may depend on the order of sets.
    command = [sys.executable, "-m", "pivotgym.envs.tools.servicedesk.generate", "--out", str(tmp_path)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": "7"}, capture_output=True)
    made = sorted(path.name for path in tmp_path.iterdir())
    assert made == ["long.jsonl.gz", "trajectories.jsonl.gz"]
    for name in made:
        packed = files("pivotgym.envs.tools.servicedesk").joinpath(name).read_bytes()
        assert gzip.decompress((tmp_path / name).read_bytes()) == gzip.decompress(packed)
        assert len(packed) < 500_000


def test_another_seed_gives_other_tasks(tmp_path: Path) -> None:
    out = tmp_path / "other.jsonl"
    command = [sys.executable, "-m", "pivotgym.envs.tools.servicedesk.generate", "--out", str(out)]
    subprocess.run([*command, "--seed", "3", "--count", "50", "--heldout", "25", "--long", "9"], check=True)
    rows = [Trajectory.model_validate_json(line) for line in out.read_text().splitlines()]
    assert len(rows) == 84
    old = {"".join(message.text for message in row.messages) for row in BUNDLED}
    assert not old & {"".join(message.text for message in row.messages) for row in rows}


def test_splits_share_no_person_address_or_id() -> None:
    seen: dict[str, dict[str, set[str]]] = {}
    for split in COUNTS:
        kinds = seen.setdefault(split, {"name": set(), "email": set(), "id": set(), "street": set()})
        for task in ServiceDesk().tasks(split):
            for customer in scenario_of(task).world.customers:
                kinds["name"].add(customer.name)
                kinds["email"].add(customer.email)
                kinds["street"].add(customer.address.split(" ", 1)[1])
                kinds["id"] |= {row.id for row in (*customer.orders, *customer.tickets)}
    for one, two in itertools.combinations(COUNTS, 2):
        assert all(seen[one][kind] and not seen[one][kind] & seen[two][kind] for kind in seen[one])


# Laws -----------------------------------------------------------------------------------------------------------


def test_every_turn_restores_and_gives_the_recorded_answer(env: ToolsEnv) -> None:
    for row in BUNDLED:
        for turn in range(len(row.turns)):
            _, info = env.reset(options={"trajectory": row, "turn": turn, "strict": True})
            assert info["restore"].fidelity == 1.0
        # Law 1 at the last turn, and the user says what they said: the whole episode is made again.
        env.reset(options={"trajectory": row, "turn": 1})
        for turn in range(1, len(row.turns)):
            _, reward, terminated, _, _ = env.step(row.action(turn))
        assert terminated and reward == 1.0
        assert [message.chat() for message in env.messages] == [message.chat() for message in row.messages]


def test_the_expert_needs_only_the_conversation() -> None:
    """Every recorded action can be told from the prompt by the policy's rules; nothing hidden decides."""
    for row in BUNDLED:
        for turn in range(len(row.turns)):
            assert act(row.prefix(turn)) == row.action(turn), f"{row.id} turn {turn}"


def test_fork_is_isolated(env: ToolsEnv) -> None:
    row = BUNDLED[0]
    env.reset(options={"trajectory": row, "turn": 2})
    before = env.save()
    fork = env.fork()
    fork.step(row.action(2))
    after = fork.save()
    assert before is not None and after is not None
    assert [change["table"] for change in env.diff(before, after)] == ["refunds"]
    now = env.save()
    assert now is not None and env.diff(before, now) == []
    fork.close()


# Rewards --------------------------------------------------------------------------------------------------------


def test_doing_nothing_scores_nothing(env: ToolsEnv) -> None:
    texts = ("", "Hello, how can I help?", "Sorry, no.", "Done, your ticket is closed and your order is cancelled.")
    for task in ServiceDesk().tasks()[::7]:
        for text in texts:
            env.reset(options={"task": task})
            reward, ended = 0.0, False
            while not ended:
                _, reward, terminated, truncated, _ = env.step(say(text))
                ended = terminated or truncated
            assert reward == 0.0, (task.id, text)


def test_random_calls_score_nothing(env: ToolsEnv) -> None:
    """Calls that fit the schemas, with words of the conversation as arguments; then a text made of all results."""
    chance = random.Random(5)
    rewards = []
    for task in ServiceDesk().tasks()[::4]:
        env.reset(options={"task": task})
        for _ in range(6):
            words = re.findall(r"[\w.@-]+", " ".join(message.text for message in env.messages[1:]))
            schema = chance.choice(env.tools)["function"]
            arguments = {
                name: float(chance.choice((10, 20, 40))) if spec.get("type") == "number" else chance.choice(words)
                for name, spec in schema["parameters"]["properties"].items()
            }
            Draft202012Validator(schema["parameters"]).validate(arguments)
            env.step(do(schema["name"], **arguments))
        for _ in range(PATIENCE):
            _, reward, terminated, _, _ = env.step(say("No. " + " ".join(tool_texts(env))))
            if terminated:
                break
        # A request that only asks for a look can be met by chance; two or three in a row cannot.
        assert reward == 0.0 or task.data["split"] != "long", task.id
        rewards.append(reward)
    assert sum(rewards) / len(rewards) <= 0.02


@pytest.mark.parametrize(
    ("variant", "turn", "wrong"),
    [
        ("refund_late", "note", lambda call: ("refund", {"order": "?", "amount": 8})),
        ("refund_big", "escalate", lambda call: ("note", {"topic": "refund"})),
        ("damaged", "refund", lambda call: ("refund", {**call.arguments, "amount": call.arguments["amount"] * 2})),
        ("repair", "repair", lambda call: ("replace", call.arguments)),
        ("replace", "replace", lambda call: ("repair", call.arguments)),
        ("cancel_shipped", "note", lambda call: ("note", {"topic": "refund"})),
        ("outage", "open_ticket", lambda call: ("open_ticket", {**call.arguments, "priority": "normal"})),
        ("address_typo", "set_address", lambda call: ("set_address", {"address": "1 " + call.arguments["address"]})),
        ("news_old", "escalate", lambda call: ("close_ticket", call.arguments)),
    ],
)
def test_breaking_a_rule_fails_the_goal(
    env: ToolsEnv, variant: str, turn: str, wrong: Callable[[ToolCall], tuple[str, dict[str, Any]]]
) -> None:
    for row in (row for row in BUNDLED if row.task and row.task.id.startswith(f"{variant}-")):
        index, call = next(
            (index, call)
            for index in range(len(row.turns))
            for call in row.action(index).tool_calls
            if call.name == turn
        )
        name, arguments = wrong(call)
        if arguments.get("order") == "?":
            arguments["order"] = row.action(index - 1).tool_calls[0].arguments["order"]  # type: ignore[index]
        env.reset(options={"trajectory": row, "turn": index})
        env.step(do(name, **arguments))
        assert not tool_texts(env)[-1].startswith("Error"), "the tool itself must not stop the agent"
        _, reward, terminated, truncated, info = env.step(row.action(len(row.turns) - 1))
        while not (terminated or truncated):
            _, reward, terminated, truncated, info = env.step(row.action(len(row.turns) - 1))
        assert reward == 0.0
        assert info["verdict"]["evidence"]["state"]


def test_the_result_must_be_told(env: ToolsEnv) -> None:
    row = BUNDLED[0]
    env.reset(options={"trajectory": row, "turn": len(row.turns) - 1})
    for said in ("Done.", "I did it.", "Bye."):
        _, reward, terminated, _, info = env.step(say(said))
    assert terminated and reward == 0.0
    assert info["verdict"]["evidence"] == {"state": [], "untold": ["16"]}


def test_other_ways_to_do_the_same(env: ToolsEnv) -> None:
    """Execution, not spelling, decides: these all lead to the recorded state."""
    for row in BUNDLED:
        assert row.task is not None
        if row.task.id.split("-")[0] not in ("visit", "refund", "address", "solved_two"):
            continue
        customer = scenario_of(row.task).customer
        env.reset(options={"task": row.task})
        env.step(do("login", contact=customer.phone.replace("-", " "), pin=int(customer.pin)))
        for call in scenario_of(row.task).reference[:0:-1]:  # the last first
            arguments = dict(call.arguments) if isinstance(call.arguments, dict) else {}
            for name in ("order", "id", "address"):
                if name in arguments:
                    arguments[name] = f" {arguments[name].lower()}"
            if "day" in arguments:
                arguments["day"] = parse_date(arguments["day"]).isoformat()
            if "amount" in arguments:
                arguments["amount"] = float(arguments["amount"])
            env.step(do(call.name, **arguments))
        _, reward, terminated, _, info = env.step(row.action(len(row.turns) - 1))
        assert terminated and reward == 1.0, (row.id, info)


# Tools ----------------------------------------------------------------------------------------------------------


def test_account_data_needs_a_login_and_ones_own_ids(env: ToolsEnv) -> None:
    env.reset(options={"task": make_task("train", 0)})
    scenario = scenario_of(env.task)
    own, other = scenario.customer, scenario.world.customers[1]
    env.step(do("get_order", order=own.orders[0].id))
    env.step(do("login", contact=own.email, pin=other.pin))
    env.step(do("login", contact="nobody@mail.com", pin=own.pin))
    env.step(do("login", contact=own.email.upper(), pin=own.pin))
    env.step(do("get_order", order=other.orders[0].id))
    env.step(do("open_ticket", topic="tv", priority="gold"))
    env.step(do("fly", to="moon"))
    env.step(do("get_order"))
    texts = tool_texts(env)
    assert [text.startswith("Error: ") for text in texts] == [True, True, True, False, True, True, True, True]
    assert "log in" in texts[0] and "PIN" in texts[1] and "contact" in texts[2] and "has no order" in texts[4]
    assert json.loads(texts[3])["orders"] == {order.id: order.item for order in own.orders}


@pytest.mark.parametrize(
    "text", ["14 March", "March 14", "14 Mar", "14 march 2026", "2026-03-14", "14.3.", "14th March"]
)
def test_dates(text: str) -> None:
    assert parse_date(text).isoformat() == "2026-03-14"
    assert say_date(parse_date(text)) == "14 March"


# The user -------------------------------------------------------------------------------------------------------


def user_says(env: ToolsEnv, text: str) -> str | None:
    _, _, terminated, _, _ = env.step(say(text))
    return None if terminated else env.messages[-1].text


def test_user_gives_what_is_asked_in_any_words(env: ToolsEnv) -> None:
    task = find("cancel_shipped", test=lambda task: scenario_of(task).contact not in scenario_of(task).opening)
    customer = scenario_of(task).customer
    for text in (
        "Who are you? Your PIN and phone?",
        "I need your e-mail address and the PIN",
        "Please give me your contact and pin",
    ):
        env.reset(options={"task": task})
        reply = user_says(env, text)
        assert reply is not None and customer.pin in reply
        assert customer.email in reply or customer.phone in reply
    env.reset(options={"task": task})
    order = scenario_of(task).requests[0].order
    assert order is not None and order in str(user_says(env, "Which order do you mean?"))


def test_user_loses_patience_and_repeats_the_wish(env: ToolsEnv) -> None:
    task = find("outage")
    env.reset(options={"task": task})
    wish = scenario_of(task).requests[0].text
    assert user_says(env, "Nice weather.") == wish
    assert user_says(env, "Your PIN?") not in (None, wish)
    assert user_says(env, "Lovely.") == wish
    assert user_says(env, "Indeed.") is None


def test_user_confirms_and_corrects(env: ToolsEnv) -> None:
    task = find("address_typo")
    request = scenario_of(task).requests[0]
    wrong = next(value for value, answer in request.confirm.items() if answer.startswith("No"))
    right = next(value for value, answer in request.confirm.items() if answer == "Yes.")
    env.reset(options={"task": task})
    assert user_says(env, f"So you live at {wrong}?") == f"No, it is {right}."
    assert user_says(env, f"Please confirm: {right.upper()}.") == "Yes."
    assert user_says(env, f"Your address is {right}. Anything else?") is None


def test_a_correction_is_never_taken_for_the_wrong_value() -> None:
    """6 Mill Lane is inside 16 Mill Lane: the user must still say no to the wrong one."""
    desk = ServiceDesk()
    for index in range(0, 4000):
        if VARIANTS[index % len(VARIANTS)] != "address_typo":
            continue
        task = make_task("train", index)
        request = build("train", 0, index).requests[0]
        user = desk.user(task)
        for value, answer in request.confirm.items():
            reply = user.reply(task, [*desk.opening(task).messages, say(f"Is {value} correct?")])
            assert reply is not None and reply.text == answer


def test_second_request_comes_when_the_first_is_settled(env: ToolsEnv) -> None:
    row = next(row for row in BUNDLED if row.task and row.task.id.startswith("password+solved"))
    assert row.task is not None
    first, second = scenario_of(row.task).requests
    env.reset(options={"trajectory": row, "turn": 2})
    assert user_says(env, f"The code is {first.facts[0]}. Anything else?") == second.text
    assert missing_facts(first.facts, [row.action(2)]) == []


def test_listing_every_answer_is_no_answer(env: ToolsEnv) -> None:
    dates = " ".join(f"{day} March," for day in range(1, 32))
    for variant, said in (("where", f"It arrives on {dates}"), ("news", "It is open, planned, waiting.")):
        row = next(row for row in BUNDLED if row.task and row.task.id.startswith(f"{variant}-"))
        last = len(row.turns) - 1
        env.reset(options={"trajectory": row, "turn": last})
        assert user_says(env, said) is not None
        env.reset(options={"trajectory": row, "turn": last})
        assert user_says(env, row.action(last).text) is None


# Tasks that cannot be built ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data", [{}, {"split": "moon"}, {"generator": 99}, {"index": -1}, {"index": "x"}, {"seed": None}]
)
def test_unknown_tasks_are_not_restorable(env: ToolsEnv, data: dict[str, Any]) -> None:
    task = make_task("train", 0)
    broken = {**task.data, **data} if data else {"domain": "servicedesk"}
    with pytest.raises(NotRestorable, match="unknown_task"):
        env.reset(options={"task": task.model_copy(update={"data": broken})})


def test_unknown_split() -> None:
    with pytest.raises(BadInput, match="no split"):
        ServiceDesk().tasks("test")


# Prompt length ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("splits", "most"), [(("train", "heldout"), 500), (("long",), 1000)])
def test_prompts_are_short_for_the_embedded_model(splits: tuple[str, ...], most: int) -> None:
    from pivotgym.envs.errors import InfrastructureError, MissingExtra
    from pivotgym.harness.chat import ChatFormat
    from pivotgym.harness.policies.base import Conversation
    from pivotgym.harness.policies.embedded import embedded_model

    try:
        folder = embedded_model()
    except (InfrastructureError, MissingExtra) as problem:
        missing(f"the embedded model: {problem}")
    from transformers import AutoTokenizer

    chat = ChatFormat(AutoTokenizer.from_pretrained(folder))
    longest: Counter[str] = Counter()
    for row in (row for split in splits for row in bundled_trajectories(split)):
        last = len(row.turns) - 1
        prompt = chat.prompt_ids(Conversation(row.prefix(last), row.tools))
        longest["prompt"] = max(longest["prompt"], len(prompt))
        for message in row.messages:
            size = len(chat.tokenizer.encode(message.text, add_special_tokens=False))
            longest[message.role] = max(longest[message.role], size)
    assert longest["prompt"] < most
    assert longest["system"] <= 120
    if most == 500:
        assert longest["user"] <= 35 and longest["tool"] <= 35 and longest["assistant"] <= 25
