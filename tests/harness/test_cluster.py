"""Environments on a real Ray cluster of two nodes on this machine, nodes killed at work: results as without."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import lamps
import pytest
from needs import require

from pivotgym.envs.core import AgentEnv
from pivotgym.envs.errors import BadInput, NotRestorable
from pivotgym.envs.formats.jsonl import read_rows
from pivotgym.envs.tools.servicedesk import bundled_trajectories
from pivotgym.envs.trajectory import Message, ToolCall, Trajectory
from pivotgym.envs.verdict import Verdict
from pivotgym.harness.cluster import NodeLost, RayPlace
from pivotgym.harness.cluster_host import Host, Needs, needs_of
from pivotgym.harness.evaluate import EpisodeConfig, evaluate_episodes
from pivotgym.harness.grpo_episodes import EpisodeTrainConfig, train_episodes
from pivotgym.harness.options import OptimOptions
from pivotgym.harness.policies.base import Completion, Sampling, Usage
from pivotgym.harness.policies.transformers_policy import TransformersPolicy
from pivotgym.harness.profiling import ProfileConfig, profile
from pivotgym.harness.sft import SftConfig, train_sft
from pivotgym.harness.turns import Candidate, TurnRunner
from pivotgym.verifiers.base import Verifier

require("ray", "ray")


class TwoNodes:
    """Two nodes with room for one host each; the one that does not hold this process's connection can be killed."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        # Workers import what the tests import: the package and the domain beside this file.
        os.environ["PYTHONPATH"] = os.pathsep.join(
            [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        )
        small = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
        self.cluster = Cluster(initialize_head=True, head_node_args=small)
        self.address = self.cluster.address
        self.second: Any = None
        self.whole()

    def whole(self) -> None:
        if self.second is None:
            self.second = self.cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20)
            self.cluster.wait_for_nodes(timeout=90)

    def kill(self) -> None:
        """The second node dies: all its processes get SIGKILL, the workers too, which would linger for a moment."""
        import psutil

        started = [info.process.pid for found in self.second.all_processes.values() for info in found]
        whole = [child for pid in started for child in psutil.Process(pid).children(recursive=True)]
        self.cluster.remove_node(self.second, allow_graceful=False)
        for process in whole:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(whole, timeout=60)
        self.second = None


@pytest.fixture(scope="module")
def nodes() -> Iterator[TwoNodes]:
    import ray

    before = os.environ.get("PYTHONPATH")
    made = TwoNodes()
    try:
        yield made
    finally:
        ray.shutdown()
        made.cluster.shutdown()
        if before is None:
            os.environ.pop("PYTHONPATH", None)
        else:
            os.environ["PYTHONPATH"] = before


@pytest.fixture
def place(nodes: TwoNodes, monkeypatch: pytest.MonkeyPatch) -> Iterator[RayPlace]:
    nodes.whole()
    # A slow machine takes its time to start a host; what these tests say is where the hosts are in the end.
    monkeypatch.setattr("pivotgym.harness.cluster._UP", 120.0)
    with RayPlace(nodes.address, modules=["lamps_domain"], patience=180.0) as made:
        yield made


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> TransformersPolicy:
    """Presses keys, sometimes the right ones."""
    made = lamps.policy()
    config = SftConfig(lora=None, epochs=4, batch=8, optim=OptimOptions(lr=3e-3))
    train_sft(lamps.trajectories(40, seed=1), made, config, tmp_path_factory.mktemp("sft"))
    return made


class KillsWhileSampling:
    """A policy; when it samples for the ``at``-th time, a node dies that holds environments."""

    def __init__(self, policy: TransformersPolicy, nodes: TwoNodes, at: int) -> None:
        self._policy, self._nodes, self._at = policy, nodes, at
        self.name, self.calls = self._policy.name, 0
        self.fingerprint = self._policy.fingerprint

    @property
    def usage(self) -> Usage:
        return self._policy.usage

    def sample(self, conversations: Any, n: int = 1, sampling: Sampling | None = None) -> list[list[Completion]]:
        found = self._policy.sample(conversations, n, sampling)
        self.calls += 1
        if self.calls == self._at:
            self._nodes.kill()
        return found


def test_a_profile_with_a_node_killed_half_way_is_the_local_one(
    nodes: TwoNodes, place: RayPlace, policy: TransformersPolicy, tmp_path: Path
) -> None:
    config = ProfileConfig(rollouts=4, max_tokens=4, chunk=4, seed=3)
    recorded = lamps.trajectories(8, seed=2)
    here, there = tmp_path / "here.jsonl", tmp_path / "there.jsonl"
    rows = profile(recorded, policy, config, here)
    assert len(rows) == 16 and any(row["var"] for row in rows), "there is something to compare"
    killing = KillsWhileSampling(policy, nodes, at=2)
    found = profile(recorded, killing, config, there, place=place)
    assert killing.calls == 4 and nodes.second is None
    assert place.redone > 0, "work was lost"
    for row, other in zip(rows, found, strict=True):
        assert row == other
    assert here.read_bytes() == there.read_bytes()


def test_episodes_with_a_node_killed_half_way_are_the_local_ones(
    nodes: TwoNodes, place: RayPlace, policy: TransformersPolicy, tmp_path: Path
) -> None:
    tasks = lamps.Lamps().tasks()[:4]
    config = EpisodeConfig(trials=2, max_turns=5, max_tokens=4, batch=4, chunk=4)
    evaluate_episodes("pivotgym/Tools-v0", policy, tasks, config, tmp_path / "here")
    killing = KillsWhileSampling(policy, nodes, at=4)
    evaluate_episodes("pivotgym/Tools-v0", killing, tasks, config, tmp_path / "there", place=place)
    assert nodes.second is None and place.redone > 0
    rows = list(read_rows(tmp_path / "here" / "episodes.jsonl"))
    assert max(row["turns"] for row in rows) > 2, "the killed episodes had a history"
    assert rows == list(read_rows(tmp_path / "there" / "episodes.jsonl"))
    summaries = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("here", "there")]
    assert summaries[0] == summaries[1]


def test_whole_episodes_are_trained_on_as_here(place: RayPlace, tmp_path: Path) -> None:
    weights = lamps.supervised(tmp_path / "sft", epochs=4)
    config = EpisodeTrainConfig(steps=2, batch=2, group=3, max_tokens=4, max_turns=3, seed=4)
    tasks = lamps.Lamps().tasks()[:4]
    here = train_episodes(tasks, lamps.loaded(weights), config, tmp_path / "here")
    there = train_episodes(tasks, lamps.loaded(weights), config, tmp_path / "there", place=place)
    assert here.turns == there.turns > 0
    assert (here.folder / "metrics.jsonl").read_bytes() == (there.folder / "metrics.jsonl").read_bytes()


class Counts(Verifier):
    """Gives the number of the process that judges."""

    name = "counts"

    def verify(self, env: AgentEnv, action: Message) -> Verdict:
        if action.text == "boom":
            raise ZeroDivisionError("by the action")
        return Verdict(reward=1.0, rule="counts", evidence={"pid": os.getpid()})


class Says:
    name = "says"
    usage = Usage()

    def sample(self, conversations: Any, n: int = 1, sampling: Any = None) -> list[list[Completion]]:
        texts = ["boom" if index == 0 else "fine" for index in range(len(conversations))]
        return [[Completion(Message(role="assistant", content=text), text)] * n for text in texts]


def test_errors_are_those_of_a_local_run(place: RayPlace) -> None:
    recorded = bundled_trajectories("heldout")[:3]
    nowhere = Trajectory(id="nowhere", messages=[Message(role="assistant", content="hi")])
    unknown = Trajectory(id="unknown", task=recorded[2].task, messages=[])
    candidates = [Candidate(trajectory, 0) for trajectory in (recorded[0], recorded[1], nowhere, unknown)]
    results = []
    for where in (None, place):
        with TurnRunner(Counts(), place=where) as runner:
            results.append(runner.run(Says(), candidates, 2))
    here, there = results
    assert [r.status for r in here] == [r.status for r in there]
    assert [r.status for r in here] == ["infrastructure", "ok", "not_restorable", "not_restorable"]
    assert here[2].error == there[2].error and here[3].error == there[3].error
    first, second = (result[0].error or "" for result in results)
    assert first.splitlines()[0] == second.splitlines()[0] and "ZeroDivisionError" in second
    pids = [result[1].verdicts[0].evidence["pid"] for result in results]
    assert pids[0] == os.getpid() != pids[1], "judged in another process"


def pressing(key: str) -> Message:
    return Message(role="assistant", tool_calls=[ToolCall(name="press", arguments={"key": key})])


def test_a_seat_whose_host_is_lost_over_and_over_says_so(place: RayPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    # Only hosts are lost here: their nodes are there to be used again at once.
    monkeypatch.setattr("pivotgym.harness.cluster._SUSPECT", 0.5)
    seat = place.seat("pivotgym/Tools-v0", {})
    seat.reset(options={"task": lamps.task("c")})
    before = [message.chat() for message in seat.conversation]
    place.lose(seat._hosted)  # type: ignore[arg-type]
    seat.step(pressing("c"))
    assert [message.chat() for message in seat.conversation][: len(before)] == before, "it went on elsewhere"
    ask = place.ask

    def lost(hosted: Any, request: Any) -> None:
        place.lose(hosted)
        ask(hosted, request)

    place.ask = lost  # type: ignore[method-assign]
    place._redo = 1
    with pytest.raises(NodeLost, match="2 hosts in turn"):
        seat.step(pressing("d"))
    seat.close()


def test_what_comes_out_differently_is_not_gone_on_with(place: RayPlace) -> None:
    seat = place.seat("pivotgym/Tools-v0", {})
    seat.reset(options={"task": lamps.task("c")})
    seat.step(pressing("c"))
    place.lose(seat._hosted)  # type: ignore[arg-type]
    seat._journal[1] = ("step", {"action": pressing("d")})
    with pytest.raises(NodeLost, match="came out differently"):
        seat.step(pressing("e"))


def test_needs_are_what_the_configuration_says(place: RayPlace) -> None:
    assert needs_of("pivotgym/Tools-v0") == Needs()
    assert dict(needs_of("pivotgym/Terminal-v0").resources) == {"sandbox": 1}
    assert dict(needs_of("pivotgym/Repo-v0", {"backend": "docker"}).resources) == {"docker": 1}
    assert needs_of("pivotgym/Terminal-v0").memory == 2**30
    assert dict(needs_of("pivotgym/Browser-v0").resources) == {"browser": 1}
    with pytest.raises(BadInput, match="backend"):
        needs_of("pivotgym/Terminal-v0", {"backend": "none"})
    with pytest.raises(BadInput, match="no environment"):
        needs_of("pivotgym/Nothing-v0")
    place._patience = 0.5
    seat = place.seat("pivotgym/Terminal-v0", {"backend": "docker"})
    with pytest.raises(BadInput, match=r"no node of the cluster offers.*docker"):
        seat.reset()


def test_a_host_goes_to_the_node_that_has_what_it_needs(nodes: TwoNodes, place: RayPlace) -> None:
    special = nodes.cluster.add_node(num_cpus=1, resources={"docker": 1}, object_store_memory=100 * 2**20)
    try:
        hosted = place.take(Needs(resources=(("docker", 1.0),)))
        assert hosted.node == special.node_id, "as the host itself says"
    finally:
        nodes.cluster.remove_node(special, allow_graceful=False)
        nodes.cluster.wait_for_nodes(timeout=90)


OTHER = Needs(memory=2**20)
"""A second kind of environment, which the same nodes have room for."""


def test_hosts_without_environments_make_room_for_another_kind(place: RayPlace) -> None:
    idle = [place.take(Needs()) for _ in range(2)]
    assert len({hosted.node for hosted in idle}) == 2, "all CPUs are taken"
    for hosted in idle:
        place.give_back(hosted)
    other = place.take(OTHER)
    assert other.ready and [hosted.lost for hosted in idle].count(True) >= 1
    again = place.take(Needs())
    assert again.ready, "both kinds have a host"
    place.give_back(again)
    place.give_back(other)


def test_more_kinds_than_cpus_in_one_batch_are_judged_as_here(place: RayPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pivotgym.harness.cluster._ROUND", 2.0)
    kinds = itertools.cycle([Needs(), OTHER, Needs(memory=2**21)])
    monkeypatch.setattr("pivotgym.harness.cluster.needs_of", lambda *_: next(kinds))
    candidates = [Candidate(trajectory, 0) for trajectory in bundled_trajectories("heldout")[:4]]
    results = []
    for where in (None, place):
        with TurnRunner(place=where) as runner:
            results.append(runner.run(Says(), candidates, 2))
    here, there = results
    assert [r.status for r in here] == ["ok"] * 4 == [r.status for r in there], [r.error for r in there]
    assert [r.verdicts for r in here] == [r.verdicts for r in there]
    assert place.redone > 0, "a batch holds all its environments: some had to move"


def test_on_a_busy_cluster_environments_share_the_hosts_there_are(place: RayPlace) -> None:
    import ray

    class Job:
        def ready(self) -> None:
            """Runs."""

    first = place.take(Needs())
    job = ray.remote(Job).options(num_cpus=1).remote()
    ray.get(job.ready.remote(), timeout=60)
    place._patience = 5.0
    assert [place.take(Needs()) for _ in range(2)] == [first, first]
    assert first.seats == 3
    ray.kill(job)
    until = time.monotonic() + 60
    while ray.available_resources().get("CPU", 0) < 1 and time.monotonic() < until:
        time.sleep(0.1)
    time.sleep(2)
    assert ray.available_resources().get("CPU") == 1, "no host was left waiting for the CPU"
    place._patience = 60.0
    assert place.take(Needs()) is not first, "now there is room"


def test_a_host_that_never_comes_up_is_not_left_in_the_queue(place: RayPlace) -> None:
    import ray

    taken = [ray.remote(Host).options(num_cpus=1).remote() for _ in range(2)]
    ray.get([host.node.remote() for host in taken], timeout=60)
    place._patience = 1.0
    with pytest.raises(NodeLost, match="no host came up"):
        place.take(Needs())
    assert not place._kinds[Needs()].hosts
    for host in taken:
        ray.kill(host)


def test_an_address_without_a_cluster_is_bad_input() -> None:
    import ray

    ray.shutdown()
    with pytest.raises(BadInput, match="no Ray cluster"):
        RayPlace("127.0.0.1:1")


def test_not_restorable_crosses_the_border(place: RayPlace) -> None:
    seat = place.seat("pivotgym/Tools-v0", {})
    with pytest.raises(NotRestorable):
        seat.reset(options={"trajectory": Trajectory(id="x", task=lamps.task("a"), messages=[]), "turn": 0})
