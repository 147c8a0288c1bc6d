"""τ²-bench's evaluation of an episode, by the ``tau2`` package's own evaluators.

The evaluators ask for an environment and replay the conversation in it. Here they get the episode's own state
instead: it is what is judged, it costs nothing to have, and untidy recordings (ids used twice, injected errors) that
tau2 refuses to replay can be judged too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from pivotgym.envs.errors import NotRestorable
from pivotgym.envs.tools.tau2 import USER_STOPS, Session, Tau2Domain, import_tau2, is_solo
from pivotgym.envs.trajectory import JsonObject, Message, Task, canonical_json, digest
from pivotgym.envs.verdict import Verdict

if TYPE_CHECKING:
    from pivotgym.envs.tools.cow import Table

_STATE = ("DB", "ENV_ASSERTION")


def judge(domain: Tau2Domain, task: Task, session: Session, messages: Sequence[Message]) -> Verdict:
    """The verdict of tau2's evaluators; see :meth:`Tau2Domain.goal`."""
    definition = domain.definition(task)
    ended = has_ended(domain, task, messages)
    criteria = definition.evaluation_criteria
    if criteria is None:
        return Verdict(reward=1.0, rule="goal", reason="the task has no criteria", evidence={"ended": ended})
    trajectory = to_tau2(messages)
    basis = [str(kind.value) for kind in criteria.reward_basis]
    state = _state_reward(domain, task, definition, session, trajectory)
    actions = _evaluator("action", "ActionEvaluator").calculate_reward(task=definition, full_trajectory=trajectory)
    said = _evaluator("communicate", "CommunicateEvaluator").calculate_reward(
        task=definition, full_trajectory=trajectory
    )
    breakdown: dict[str, float] = {}
    for info, kinds in ((state, _STATE), (actions, ("ACTION",)), (said, ("COMMUNICATE",))):
        found = {str(kind.value): float(value) for kind, value in (info.reward_breakdown or {}).items()}
        # An evaluator with nothing to check gives 1 and may name no breakdown.
        breakdown |= {kind: found.get(kind, float(info.reward)) for kind in kinds if kind in basis}
    not_evaluated = [kind for kind in basis if kind not in breakdown]
    reward = 1.0
    for value in breakdown.values():
        reward *= value
    evidence: JsonObject = {
        "basis": basis,
        "breakdown": breakdown,
        "ended": ended,
        "db_match": state.db_check.db_match if state.db_check is not None else None,
        "env_assertions": [
            {"name": check.env_assertion.func_name, "met": check.met} for check in state.env_assertions or []
        ],
        "actions": [{"name": check.action.name, "met": check.action_match} for check in actions.action_checks or []],
        "communicate": [{"info": check.info, "met": check.met} for check in said.communicate_checks or []],
    }
    if not_evaluated:
        evidence["not_evaluated"] = not_evaluated
    return Verdict(reward=reward, rule="goal", reason=_reason(breakdown, not_evaluated), evidence=evidence)


def has_ended(domain: Tau2Domain, task: Task, messages: Sequence[Message]) -> bool:
    """Whether the agent or the user ended the conversation; τ²-bench gives 0 where neither did."""
    for message in reversed(messages):
        if message.role == "user":
            return any(token in message.text for token in USER_STOPS)
        if message.role == "assistant":
            return domain.finished(task, message) is not None
    return False


def to_tau2(messages: Sequence[Message]) -> list[Any]:
    """Messages as the ``tau2`` package's own; calls whose arguments are no object are left out."""
    types = import_tau2("data_model.message")
    converted = []
    for message in messages:
        if message.role not in ("assistant", "user"):
            continue  # the evaluators look at what was said and called; the state speaks for the results
        calls = [
            types.ToolCall(id=call.id or "", name=call.name, arguments=call.arguments, requestor=message.role)
            for call in message.tool_calls
            if isinstance(call.arguments, dict)
        ]
        made = types.AssistantMessage if message.role == "assistant" else types.UserMessage
        converted.append(made(role=message.role, content=message.text or None, tool_calls=calls or None))
    return converted


def content_hash(session: Session, kit: str) -> str:
    """Equal for two databases of one domain exactly where tau2's own hash is equal, without dumping all records.

    What is hashed is the difference to the pristine database; records shared with it are known to be equal.
    """
    database = getattr(session.environment, kit).db
    parts: list[Any] = []
    for name, value in vars(database).items():
        if name not in session.template.table_fields[kit]:
            parts.append([name, _text(value)])
            continue
        base: Table = session.template.pristine.tables[kit, name][0]
        for key in sorted(base.keys() | value.keys()):
            # dict.get: looking must not make the record the session's own.
            now, then = dict.get(value, key), base.get(key)
            if now is not then and (text := _text(now)) != _text(then):
                parts.append([name, key, text])
    return digest(canonical_json(parts))


def _state_reward(domain: Tau2Domain, task: Task, definition: Any, session: Session, trajectory: list[Any]) -> Any:
    made: list[Session] = []

    def construct(*_: Any, **__: Any) -> Any:
        # tau2 asks first for the environment to judge, then for the one in which the expected actions are run.
        judged = not made
        made.append(domain.fork(session) if judged else domain.fresh(session))
        environment = made[-1].environment
        if judged:
            environment.set_state = _keep_state
        else:
            environment.set_solo_mode(False)
        if made[-1].template.table_fields["tools"]:
            environment.get_db_hash = _hasher(made[-1], "tools")
        return environment

    evaluator = _evaluator("env", "EnvironmentEvaluator")
    try:
        return evaluator.calculate_reward(
            environment_constructor=construct, task=definition, full_trajectory=trajectory, solo_mode=is_solo(task)
        )
    except (AttributeError, TypeError, ValueError) as error:
        # The task's criteria name what this version of the package does not have.
        raise NotRestorable("bad_criteria", f"task {task.id!r}: {type(error).__name__}: {error}") from error


def _keep_state(*_: Any, **__: Any) -> None:
    """Stands in for set_state: the state is already there."""


def _hasher(session: Session, kit: str) -> Callable[[], str]:
    return lambda: content_hash(session, kit)


def _evaluator(module: str, name: str) -> Any:
    return getattr(import_tau2(f"evaluator.evaluator_{module}"), name)


def _text(value: Any) -> str:
    plain = value.model_dump() if isinstance(value, BaseModel) else value
    return json.dumps(plain, sort_keys=True, default=_plain)


def _plain(value: Any) -> Any:
    return value.model_dump() if isinstance(value, BaseModel) else str(value)


def _reason(breakdown: dict[str, float], not_evaluated: list[str]) -> str:
    failed = [kind for kind, value in breakdown.items() if value < 1.0]
    text = f"not met: {', '.join(failed)}" if failed else "all evaluated criteria are met"
    return f"{text}; not evaluated: {', '.join(not_evaluated)}" if not_evaluated else text
