"""A verifier's errors, measured against actions that people labelled right or wrong."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import gymnasium as gym
from pydantic import BaseModel, ConfigDict, ValidationError

from pivotgym.envs.core import AgentEnv
from pivotgym.envs.errors import BadInput, InfrastructureError, NotRestorable
from pivotgym.envs.trajectory import JsonObject, Message, Trajectory
from pivotgym.envs.verdict import Verdict
from pivotgym.verifiers.base import Verifier

M = TypeVar("M", bound=BaseModel)


class Labelled(BaseModel):
    """One labelled action.

    Attributes:
        trajectory: the recording whose turn ``turn`` the action answers.
        turn: 0-based assistant turn.
        action: the action.
        right: what a person says of it.
        kind: what makes it right or wrong (``wrong id``, ``other words`` …), for the table.
        malformed: set where the text was no well-formed action.
    """

    model_config = ConfigDict(extra="forbid")

    trajectory: Trajectory
    turn: int
    action: Message
    right: bool
    kind: str = ""
    malformed: str | None = None


@dataclass(frozen=True)
class Interval:
    """A share with its 95 % Wilson score interval; ``value`` is NaN where there is nothing to count."""

    value: float
    low: float
    high: float


@dataclass
class Measurement:
    """Confusion counts of one verifier. An action counts as accepted from ``threshold`` on.

    Attributes:
        true_positive: right and accepted.
        false_positive: wrong but accepted: what a policy would learn to exploit.
        false_negative: right but rejected: what a policy would unlearn.
        true_negative: wrong and rejected.
        failed: not judged, because the infrastructure failed or the state could not be restored; in no other count.
        mistakes: the wrongly judged actions with their verdicts.
    """

    name: str
    threshold: float
    true_positive: int = 0
    false_positive: int = 0
    false_negative: int = 0
    true_negative: int = 0
    failed: int = 0
    mistakes: list[tuple[Labelled, Verdict]] = field(default_factory=list)

    @property
    def errors(self) -> int:
        """Wrongly judged actions."""
        return self.false_positive + self.false_negative

    @property
    def judged(self) -> int:
        """Actions that got a verdict."""
        return self.errors + self.true_positive + self.true_negative

    @property
    def precision(self) -> Interval:
        """Share of right actions among the accepted ones."""
        return wilson(self.true_positive, self.true_positive + self.false_positive)

    @property
    def recall(self) -> Interval:
        """Share of accepted actions among the right ones."""
        return wilson(self.true_positive, self.true_positive + self.false_negative)

    @property
    def accuracy(self) -> Interval:
        """Share of rightly judged actions."""
        return wilson(self.true_positive + self.true_negative, self.judged)

    def row(self) -> JsonObject:
        """The figures as JSON."""
        shares = {name: vars(getattr(self, name)) for name in ("precision", "recall", "accuracy")}
        counts = ("true_positive", "false_positive", "false_negative", "true_negative", "failed", "errors", "judged")
        return {"verifier": self.name, **{name: getattr(self, name) for name in counts}, **shares}


def wilson(successes: int, trials: int, z: float = 1.959963984540054) -> Interval:
    """The Wilson score interval of a binomial share (Wilson 1927); ``z`` is the normal quantile, 95 % by default."""
    if trials == 0:
        return Interval(math.nan, 0.0, 1.0)
    share = successes / trials
    centre = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return Interval(share, max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale))


def measure(
    verifier: Verifier,
    labelled: Iterable[Labelled],
    *,
    threshold: float = 1.0,
    name: str | None = None,
    env_options: dict[str, Any] | None = None,
) -> Measurement:
    """Lets ``verifier`` judge every labelled action in its restored state.

    Args:
        verifier: what is measured.
        labelled: the actions; neighbours at one pivot share one restore.
        threshold: an action with at least this reward counts as accepted. At 1.0 partial reward is a rejection.
        name: for the table; default the verifier's.
        env_options: keyword arguments of ``gym.make``.
    """
    from pivotgym.verifiers import verify_completion

    result = Measurement(name or verifier.name, threshold)
    env: AgentEnv | None = None
    standing: tuple[int, int] | None = None
    for item in labelled:
        try:
            here = (id(item.trajectory), item.turn)
            if env is None or standing != here:
                env = _restored(env, item, env_options or {})
                standing = here
            verdict = verify_completion(verifier, env, item.action, item.malformed)
        except (InfrastructureError, NotRestorable):
            result.failed += 1
            continue
        _count(result, item, verdict)
    if env is not None:
        env.close()
    return result


def table(measurements: Sequence[Measurement]) -> str:
    """The measurements as aligned text, one line a verifier."""
    lines = [f"{'verifier':<24} {'errors':>6} {'TP':>4} {'FP':>4} {'FN':>4} {'TN':>4}  precision          recall"]
    for one in measurements:
        counts = f"{one.true_positive:>4} {one.false_positive:>4} {one.false_negative:>4} {one.true_negative:>4}"
        lines.append(f"{one.name:<24} {one.errors:>6} {counts}  {_percent(one.precision)}  {_percent(one.recall)}")
    return "\n".join(lines)


def _restored(env: AgentEnv | None, item: Labelled, options: dict[str, Any]) -> AgentEnv:
    task = item.trajectory.task
    if task is None:
        raise NotRestorable("no_environment", f"trajectory {item.trajectory.id} names no task")
    if env is None or env.spec is None or env.spec.id != task.env:
        if env is not None:
            env.close()
        made = gym.make(task.env, disable_env_checker=True, **options).unwrapped
        if not isinstance(made, AgentEnv):
            raise NotRestorable("no_environment", f"{task.env} is no AgentEnv")
        env = made
    env.reset(options={"trajectory": item.trajectory, "turn": item.turn})
    return env


def _count(result: Measurement, item: Labelled, verdict: Verdict) -> None:
    accepted = verdict.reward >= result.threshold
    if accepted == item.right:
        if item.right:
            result.true_positive += 1
        else:
            result.true_negative += 1
        return
    result.mistakes.append((item, verdict))
    if item.right:
        result.false_negative += 1
    else:
        result.false_positive += 1


def _percent(share: Interval) -> str:
    if math.isnan(share.value):
        return "    –            "
    return f"{share.value:>5.1%} [{share.low:>4.0%}, {share.high:>4.0%}]"


def read_lines(path: Path, kind_of: Callable[[Any], type[M]]) -> Iterator[tuple[int, M]]:
    """The lines of a file of pairs, each validated as the model that ``kind_of`` says of its JSON, with their numbers.

    Raises:
        BadInput: a line that is no JSON or does not fit its model; file, line and field are named.
    """
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row: Any = json.loads(line)
            yield number, kind_of(row).model_validate(row)
        except ValidationError as error:
            first = error.errors()[0]
            raise BadInput(first["msg"], file=path, line=number, field=".".join(map(str, first["loc"]))) from error
        except ValueError as error:
            raise BadInput(f"no JSON: {error}", file=path, line=number) from error
