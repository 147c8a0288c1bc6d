"""The laws of every environment, on terminals."""

from __future__ import annotations

from contextlib import closing

import pytest
from small_set import bash, make, need, press, record, say

from pivotgym.envs.check import CheckReport, check_env_laws
from pivotgym.envs.snapshots import SnapshotStore
from pivotgym.envs.terminal.tasks import Setup, TerminalTask
from pivotgym.envs.trajectory import Trajectory

ENV = "pivotgym/Terminal-v0"


@pytest.fixture(scope="module", params=["bubblewrap", pytest.param("docker", marks=pytest.mark.slow)])
def backend(request: pytest.FixtureRequest) -> str:
    need(request.param)
    return str(request.param)


def recordings(backend: str) -> list[Trajectory]:
    """Real commands, really executed: a shell that is used as one, files of all kinds, commands apart, another user."""
    files = [
        bash("ls -la; cat note.txt"),
        bash("cd /tmp && mkdir -p a/b && cd a/b && pwd"),
        bash("echo content > f; ln -s f link; mkfifo pipe; chmod 600 f; ls -l"),
        bash("x=5; y=(1 2 3); f() { echo \"$x ${y[@]}\"; }; alias ll='ls -l'; set -o pipefail; umask 077"),
        bash("f; date; echo $RANDOM > /dev/null; false | true"),
        bash("rm link pipe; mv f g; seq 100 | awk '{s+=$1} END {print s}' > sum; cat sum; umask; ls -l"),
        bash("grep -n nothing g"),
        bash("cd /data; echo right0 > out; cat out; f"),
        say("0"),
    ]
    python = [
        bash(
            "python3 - <<'EOF'\nimport json, pathlib\npathlib.Path('d.json').write_text(json.dumps({'a': [1, 2]}))\nEOF"
        ),
        bash("python3 -c \"import json; print(json.load(open('d.json'))['a'][1])\"; sort -r /data/note.txt"),
        bash("git init -q . 2>&1 | head -1; git add d.json; git status --short"),
        bash("sleep 30"),
        bash("exit 4"),
        bash("printf '\\xff\\xfe\\n'; echo right1 > /data/out"),
        say("1"),
    ]
    apart = TerminalTask(
        set="small",
        instruction="Do as you like.",
        user=1000,
        workdir="/work",
        shell=["bash", "-c"],
        observation="raw",
        setup=Setup(script="mkdir -p /work /data; chown 1000 /work; echo hidden > /root/secret"),
        definition={"text": "none\n", "answer": "none"},
    ).task("apart")
    commands = [bash("id -u; cd /; v=1"), bash("pwd; echo v$v; touch f; cat /root/secret"), bash("ls"), say("none")]
    with closing(make(backend=backend, snapshots=SnapshotStore())) as env:
        tasks = {task.id: task for task in env.tasks()}
        quick = tasks["small-1"].model_copy(update={"data": {**tasks["small-1"].data, "timeout": 4}})
        return [
            record(env, "small-0", files, "files"),
            record(env, quick, python, "python"),
            record(env, apart, commands, "apart"),
        ]


def reasons(report: CheckReport) -> list[str]:
    return [f"{result.law}: {result.detail}" for result in report.results if not result.passed]


def test_the_laws_on_recorded_commands(backend: str) -> None:
    report = check_env_laws(
        ENV,
        recordings(backend),
        env_kwargs={"tasks": "small", "backend": backend},
        max_turns_checked=7,
        horizon=4,
        resets=8,
    )
    assert reasons(report) == []
    assert report.result("fidelity").checked > 10


def test_the_laws_where_a_process_runs_in_the_background(backend: str) -> None:
    actions = [
        bash("(while :; do sleep 0.1; done) & echo begun"),
        bash("jobs -rp | wc -l; cd /tmp; z=9"),
        bash("pwd; echo $z; kill %1; wait; sleep 0.3; echo done > /data/out"),
        say("0"),
    ]
    with closing(make(backend=backend, snapshots=SnapshotStore())) as env:
        recording = record(env, "small-0", actions, "background")
    laws = ["fidelity", "isolation", "equivalence", "blindness", "honest reward", "nothing left"]
    kwargs = {"tasks": "small", "backend": backend}
    report = check_env_laws(ENV, [recording], env_kwargs=kwargs, max_turns_checked=4, resets=6, laws=laws)
    assert reasons(report) == []


def test_the_laws_on_a_screen(backend: str) -> None:
    actions = [
        press("cat note.txt; x=3", "Enter"),
        press("python3 -q", "Enter", wait=1.5),
        press("y = 6 * 7", "Enter", "y", "Enter", wait=0.5),
    ]
    with closing(make(backend=backend, screen=True, snapshots=SnapshotStore())) as env:
        recording = record(env, "small-0", actions, "screen")
    laws = ["fidelity", "honest reward", "nothing left"]
    kwargs = {"tasks": "small", "backend": backend, "screen": True}
    report = check_env_laws(
        ENV, [recording], env_kwargs=kwargs, max_turns_checked=2, horizon=2, resets=5, seconds_of_resets=1.0, laws=laws
    )
    assert reasons(report) == []
