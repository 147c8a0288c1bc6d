"""AgentBench's OS tasks: every row loads, reference answers earn 1 and wrong answers 0."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from needs import missing

from pivotgym.envs.errors import BadInput, NotRestorable
from pivotgym.envs.sandbox import FileChange, SandboxUnavailable, get_backend
from pivotgym.envs.terminal.agentbench import AgentBenchTasks
from pivotgym.envs.terminal.agentbench_programs import added_by, can_deceive
from pivotgym.envs.terminal.agentbench_scripts import COMPARISONS, Script
from pivotgym.envs.terminal.env import NoGoal, TerminalEnv
from pivotgym.envs.terminal.sources import open_task_set
from pivotgym.envs.terminal.tasks import TerminalTask
from pivotgym.envs.trajectory import Message, Task, ToolCall

#: Rows of dev.json that refer to script files which are not in the recorded data.
LACKING = {3: "check/0.sh", 5: "check/0.sh", 25: "init/stock-log.sh"}
WRONG = "7654321"


@pytest.fixture(scope="module")
def env() -> Iterator[TerminalEnv]:
    try:
        get_backend("bubblewrap").clean()
    except SandboxUnavailable as reason:
        missing(str(reason))
    made = gym.make("pivotgym/Terminal-v0", tasks="agentbench")
    yield made.unwrapped  # type: ignore[misc]
    made.close()


def tasks_of(shared_data: Path, name: str) -> Sequence[Task]:
    return AgentBenchTasks(shared_data / "agentbench_os" / name).tasks()


def bash(command: str) -> Message:
    return Message(role="assistant", tool_calls=[ToolCall(name="bash", arguments={"command": command}, id="1")])


def answer(env: TerminalEnv, task: Task, text: str | None, *commands: str) -> dict[str, Any]:
    """Judges an answer; None gives the reference's."""
    env.reset(options={"task": task})
    for command in commands:
        env.step(bash(command))
    definition = TerminalTask.of(task).definition
    if text is None and "match" in definition:
        text = definition["match"]["answer"]
    elif text is None:
        text = env.sandbox.run(f"cd /root; {Script(**definition['example']).command()} 2>/dev/null").output
    verdict: dict[str, Any] = env.step(Message(role="assistant", content=text))[4]["verdict"]
    return verdict


def usable(text: str, check: str) -> bool:
    """Whether what a reference printed is a number at all, where a number is asked for."""
    return COMPARISONS[check](text, text)


def test_every_row_is_a_task(shared_data: Path) -> None:
    for name, count in (("dev.json", 26), ("train_first_500.json", 500)):
        rows = json.loads((shared_data / "agentbench_os" / name).read_text(encoding="utf-8"))
        tasks = tasks_of(shared_data, name)
        assert len(tasks) == len({task.id for task in tasks}) == count
        assert [TerminalTask.of(task).instruction for task in tasks] == [row["description"] for row in rows]
        for task, row in zip(tasks, rows, strict=True):
            spec = TerminalTask.of(task)
            assert ("match" in spec.definition) == ("match" in row["evaluation"])
            assert spec.setup.start == row.get("start", "")
            create = row.get("create")
            init = create.get("init") if isinstance(create, dict) else None
            assert bool(spec.setup.script) == (init is not None)
    opened = open_task_set(shared_data / "agentbench_os" / "dev.json")
    assert isinstance(opened, AgentBenchTasks) and len(opened.tasks()) == 26


def test_reference_answers_earn_one_and_wrong_ones_none(env: TerminalEnv, shared_data: Path) -> None:
    earned = 0
    for number, task in enumerate(tasks_of(shared_data, "dev.json")):
        if number in LACKING:
            with pytest.raises((NotRestorable, NoGoal), match=LACKING[number]):
                answer(env, task, "1")
            continue
        assert answer(env, task, None)["reward"] == 1.0, task.id
        assert answer(env, task, WRONG)["reward"] == 0.0, task.id
        earned += 1
    assert earned == 23


def check_training(env: TerminalEnv, tasks: Sequence[Task]) -> tuple[int, list[str]]:
    """How many references earn 1, and the tasks that cannot be built here or whose reference prints no answer."""
    earned, unusable = 0, []
    for task in tasks:
        try:
            verdict = answer(env, task, None)
        except NotRestorable as reason:
            # The only known one: not every file system reserves space for a file.
            assert "fallocate" in str(reason)
            unusable.append(task.id)
            continue
        if verdict["reward"] == 1.0:
            earned += 1
        else:
            # AgentBench's own check fails on what these print: nothing, or two numbers.
            check = TerminalTask.of(task).definition["check"][1]["file"]
            assert not usable(verdict["evidence"]["answer"], Path(check).name), (task.id, verdict)
            unusable.append(task.id)
        assert answer(env, task, WRONG)["reward"] == 0.0
    return earned, unusable


def test_training_rows(env: TerminalEnv, shared_data: Path) -> None:
    assert check_training(env, tasks_of(shared_data, "train_first_500.json")[7::50]) == (10, [])


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_every_training_row(env: TerminalEnv, shared_data: Path) -> None:
    earned, unusable = check_training(env, tasks_of(shared_data, "train_first_500.json"))
    assert earned + len(unusable) == 500 and earned >= 496, unusable


def test_script_files_are_found_in_agentbenchs_layout(env: TerminalEnv, shared_data: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    shutil.copy(shared_data / "agentbench_os" / "dev.json", tmp_path / "data")
    scripts = {
        "init/stock-log.sh": "printf 'Bob | Sell | 1 | 2\\nAl | Sell | 1 | 2\\nBob | Sell | 3 | 4\\n' > /usr/stock.log",
        "check/integer-match.py": "import sys\nsys.exit(int(sys.argv[1]) != int(sys.argv[2]))",
    }
    for name, code in scripts.items():
        path = tmp_path / "scripts" / "dev" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code, encoding="utf-8")
    stock = AgentBenchTasks(tmp_path / "data" / "dev.json").tasks()[25]
    assert answer(env, stock, "2")["reward"] == 1.0
    assert answer(env, stock, "3")["reward"] == 0.0
    assert answer(env, stock, "two")["reward"] == 0.0


def test_what_was_started_runs_and_is_replayed(env: TerminalEnv, shared_data: Path) -> None:
    task = tasks_of(shared_data, "dev.json")[0]
    env.reset(options={"task": task})
    shown = json.loads(env.step(bash("sleep 2.2; wc -c < /root/log"))[0])[0]["content"]
    assert shown.startswith("The output of the OS:\n\n") and int(shown.split()[-1]) >= 2 * len("succeed")
    assert env.save() is None  # a live process: no snapshot holds it
    assert env.step(Message(role="assistant", content=" 1\n"))[1] == 1.0


def test_programs_the_agent_replaced_do_not_decide(env: TerminalEnv, shared_data: Path) -> None:
    task = tasks_of(shared_data, "dev.json")[HELLO]
    fake = "printf '#!/bin/sh\\necho 7654321\\n' > {0} && chmod 755 {0}"
    shadowed = [fake.format(f"{folder}/wc") for folder in ("/usr/local/bin", "/root", "/usr/local/sbin")]
    assert answer(env, task, WRONG, *shadowed, "echo 'export PATH=/root:$PATH' >> ~/.bashrc")["reward"] == 0.0
    assert answer(env, task, WRONG, "rm -f /usr/bin/wc; " + fake.format("/usr/bin/wc"))["reward"] == 0.0
    assert answer(env, task, WRONG, "wc() { echo 7654321; }; export -f wc; alias wc='echo 7654321'")["reward"] == 0.0
    assert answer(env, task, "3")["reward"] == 1.0


HELLO = 21


LIE = "printf '#!/bin/sh\\necho 7654321\\n' > {0}; chmod 755 {0}"
STDLIB = "$(python3 -Ic 'import os; print(os.path.dirname(os.__file__))')"
DECEIVED = {
    "a new program in an earlier folder": ("wc -l < /root/data", LIE.format("/usr/sbin/wc")),
    "a new program for one that is not there": (
        "nosuchprogram || wc -l < /root/data",
        LIE.format("/usr/bin/nosuchprogram"),
    ),
    "a package over a module": (
        "python3 -c 'import shlex; print(shlex.quote(open(\"/root/data\").read().strip()[-1]))'",
        f"mkdir {STDLIB}/shlex; echo 'def quote(text): return 7654321' > {STDLIB}/shlex/__init__.py",
    ),
    "byte code that is not its source's": (
        "python3 -c 'import shlex; print(shlex.quote(open(\"/root/data\").read().strip()[-1]))'",
        "cd /tmp; python3 - <<'EOF'\n"
        "import importlib._bootstrap_external as b, importlib.util, os, shlex\n"
        "stat = os.stat(shlex.__file__)\n"
        "code = compile('def quote(text): return 7654321', shlex.__file__, 'exec')\n"
        "path = importlib.util.cache_from_source(shlex.__file__)\n"
        "os.makedirs(os.path.dirname(path), exist_ok=True)\n"
        "data = b._code_to_timestamp_pyc(code, int(stat.st_mtime), stat.st_size)\n"
        "open(path + '.new', 'wb').write(data); os.replace(path + '.new', path)\nEOF",
    ),
    "another program behind a link": (
        "awk 'END { print NR }' /root/data",
        LIE.format("/root/a") + "; ln -sf /root/a /etc/alternatives/awk",
    ),
}


def counting(tmp_path: Path, reference: str) -> Task:
    """A task whose answer is the number of lines of a file, 3."""
    check = {"language": "python", "file": "check/integer-match.py"}
    evaluation = {"check": [None, check], "example": reference}
    row = {"description": "?", "create": {"init": "seq 3 > /root/data"}, "evaluation": evaluation}
    (tmp_path / "made.json").write_text(json.dumps([row]), encoding="utf-8")
    return AgentBenchTasks(tmp_path / "made.json").tasks()[0]


@pytest.mark.parametrize("how", DECEIVED)
def test_what_the_agent_adds_does_not_decide(how: str, env: TerminalEnv, tmp_path: Path) -> None:
    reference, lie = DECEIVED[how]
    task = counting(tmp_path, reference)
    assert answer(env, task, "3")["reward"] == 1.0
    assert answer(env, task, WRONG)["reward"] == 0.0
    verdict = answer(env, task, WRONG, lie)
    assert verdict["reward"] == 0.0, verdict


def test_a_command_that_the_reference_installs_may_be_installed(env: TerminalEnv, tmp_path: Path) -> None:
    install = "printf '#!/bin/sh\\necho $(( $1 ))\\n' > {0}/calc; chmod 755 {0}/calc"
    evaluation = {"check": '[ "$(calc 3*4)" = 12 ]', "example": install.format("/usr/local/bin")}
    (tmp_path / "calc.json").write_text(json.dumps([{"description": "?", "evaluation": evaluation}]), encoding="utf-8")
    task = AgentBenchTasks(tmp_path / "calc.json").tasks()[0]
    assert answer(env, task, "done")["reward"] == 0.0
    for folder in ("/usr/local/bin", "/usr/bin"):
        assert answer(env, task, "done", install.format(folder))["reward"] == 1.0
    verdict = answer(env, task, "done", install.format("/usr/bin"), LIE.format("/usr/sbin/other"))
    assert (verdict["reward"], verdict["evidence"]["replaced"]) == (0.0, ["/usr/sbin/other"])


@pytest.mark.parametrize(
    ("path", "before", "counts"),
    [
        ("/usr/bin/find", "file", True),
        ("/bin/sh", "link", True),
        ("/etc/ld.so.preload", "absent", True),
        ("/etc/alternatives/awk", "link", True),
        ("/usr/lib/python3/dist-packages/sitecustomize.py", "absent", True),
        ("/root/.local/lib/python3.11/site-packages/x.pth", "absent", True),
        ("/usr/bin/calc", "absent", True),
        ("/usr/sbin/grep", "absent", True),
        ("/usr/local/bin/calc", "absent", True),
        ("/usr/lib/python3.11/json", "directory", True),
        ("/lib64", "link", True),
        ("/usr/lib/python3.11/__pycache__/json.cpython-311.pyc", "absent", False),
        ("/root/bin/find", "file", False),
        ("/home/x/libfoo", "file", False),
        ("/usr/stock.log", "file", False),
        ("/binary", "absent", False),
    ],
)
def test_which_changes_may_touch_the_programs_of_a_check(path: str, before: str, counts: bool) -> None:
    assert can_deceive(FileChange(path, "file", before=before)) is counts


def test_what_the_reference_adds_may_hide_no_program() -> None:
    reference = [FileChange("/usr/local/bin/calc", "file"), FileChange("/opt/data", "file", before="file")]
    added = added_by([*reference, FileChange("/usr/bin/grep", "file")], {"grep", "find"})
    assert added(FileChange("/usr/bin/calc", "file"))
    for change in (
        FileChange("/usr/bin/grep", "file"),
        FileChange("/usr/bin/calc", "file", before="file"),
        FileChange("/opt/data", "file", before="file"),
        FileChange("/usr/bin/other", "file"),
    ):
        assert not added(change)


@pytest.mark.parametrize(
    ("name", "one", "other", "same"),
    [
        ("integer-match.py", " 3\n", "3", True),
        ("integer-match.py", "three", "3", False),
        ("integer-match.py", "3.0", "3", False),
        ("size-match.py", "4K", "4096", True),
        ("size-match.py", "1MB", "1024KB\n", True),
        ("size-match.py", "1.5K", "1536", False),
        ("size-match.py", "", "0", False),
        ("string-match.py", "a\r\nb\n", "a\nb", True),
        ("string-match.py", "A", "a", False),
        ("containing.py", "it is 3 indeed", "3", True),
        ("in.py", "3", "it is 3 indeed", True),
        ("in.py", "4", "it is 3 indeed", False),
    ],
)
def test_comparisons(name: str, one: str, other: str, same: bool) -> None:
    assert COMPARISONS[name](one, other) is same


ROW = {"description": "?", "evaluation": {"match": "x"}}


@pytest.mark.parametrize(
    ("match", "text", "reward"),
    [
        ("x", " x \n", 1.0),
        ({"answer": "x", "strip": False}, " x", 0.0),
        ({"answer": "x", "strip": True}, " x", 1.0),
        ({"regex": "^a+$"}, "aaa", 1.0),
        ({"regex": "^a+$"}, "aab", 0.0),
    ],
)
def test_matches(match: Any, text: str, reward: float, env: TerminalEnv, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps([{**ROW, "evaluation": {"match": match}}]), encoding="utf-8")
    assert answer(env, AgentBenchTasks(tmp_path / "t.json").tasks()[0], text)["reward"] == reward


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"evaluation": {"match": "x"}}, "1.description"),
        ({"description": "?"}, "1.evaluation"),
        ({**ROW, "evaluation": {}}, "1.evaluation"),
        ({**ROW, "evaluation": {"check": [None]}}, "1.evaluation.example"),
        ({**ROW, "evaluation": {"check": [{"language": "perl", "code": "1"}]}}, "1.evaluation.check.language"),
        ({**ROW, "create": {"init": {"script": "ls"}}}, "1.create.init"),
        ({**ROW, "start": 3}, "1.start"),
        ({**ROW, "start": {"file": "/etc/hostname"}}, "1.start.file"),
        ({**ROW, "start": {"file": "../secret"}}, "1.start.file"),
        ({**ROW, "create": {"init": {"file": "link"}}}, "1.create.init.file"),
        ({**ROW, "create": {"init": {"file": "scripts/secret"}}}, "1.create.init.file"),
        ({**ROW, "evaluation": {"match": {"regex": "("}}}, "1.evaluation.match.regex"),
        (3, "1"),
    ],
)
def test_a_bad_row_is_located(row: Any, field: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret", encoding="utf-8")
    (tmp_path := tmp_path / "tasks").mkdir()
    (tmp_path / "link").symlink_to("../secret")
    (tmp_path / "scripts").symlink_to("..")
    (tmp_path / "t.json").write_text(json.dumps([ROW, row]), encoding="utf-8")
    with pytest.raises(BadInput) as raised:
        AgentBenchTasks(tmp_path / "t.json").tasks()
    assert raised.value.field == field
