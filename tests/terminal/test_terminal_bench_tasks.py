"""Terminal-Bench task folders of both generations, on a real sandbox."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from needs import missing, require
from terminal_bench_samples import FIRST, SECOND, write_samples

from pivotgym.envs.errors import BadInput, NotRestorable
from pivotgym.envs.sandbox import SandboxError, SandboxUnavailable
from pivotgym.envs.terminal.dockerfile import interpret, parse_dockerfile
from pivotgym.envs.terminal.sources import open_task_set
from pivotgym.envs.terminal.tasks import TerminalTask, get_task_set
from pivotgym.envs.terminal.terminal_bench import TerminalBenchTasks, parse_summary
from pivotgym.envs.terminal.terminal_bench_folders import unpack
from pivotgym.envs.trajectory import Task

SAMPLES = {**FIRST, **SECOND}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_samples(tmp_path_factory.mktemp("tasks"), SAMPLES)


@pytest.fixture(scope="module")
def tasks(folder: Path) -> TerminalBenchTasks:
    return TerminalBenchTasks(folder)


def find(tasks: TerminalBenchTasks, name: str) -> Task:
    return next(task for task in tasks.tasks() if task.id == name)


def play(task: Task, actions: list[Any], **options: Any) -> tuple[float, dict[str, Any], list[str]]:
    """Reward, verdict and observations of an episode that ends after ``actions``."""
    env = gym.make("pivotgym/Terminal-v0", disable_env_checker=True, **options)
    shown = []
    try:
        try:
            env.reset(options={"task": task})
        except SandboxUnavailable as error:
            missing(str(error))
        for action in actions:
            observation, *_ = env.step(action)
            shown.append(json.loads(observation)[0]["content"])
        _, reward, terminated, _, info = env.step("done")
        assert terminated
        return float(reward), info["verdict"], shown
    finally:
        env.close()


@pytest.mark.parametrize("name", SAMPLES)
def test_the_reference_solution_earns_one_and_doing_nothing_none(name: str, tasks: TerminalBenchTasks) -> None:
    task = find(tasks, name)
    options: dict[str, Any] = {}
    if name == "typed":
        if shutil.which("tmux") is None:
            missing("tmux is not installed")
        options["screen"] = True
    reward, judged, _ = play(task, [], **options)
    assert reward == 0.0, judged
    reward, judged, shown = play(task, tasks.solution(task), **options)
    assert reward == 1.0, (judged, shown)


def test_what_a_folder_says_of_its_machine(tasks: TerminalBenchTasks) -> None:
    assert [task.id for task in tasks.tasks()] == sorted(SAMPLES)
    counted = TerminalTask.of(find(tasks, "count-lines"))
    assert counted.instruction == "Write the number of lines of data.txt to count.txt."
    assert (counted.workdir, counted.timeout, counted.image) == ("/app", 90.0, None)
    assert counted.definition["test_seconds"] == 30.0
    assert counted.definition["base"] == "ghcr.io/laude-institute/t-bench/ubuntu-24-04:20250624"
    assert counted.definition["metadata"]["difficulty"] == "easy"
    two = TerminalTask.of(find(tasks, "two-files"))
    assert (two.limits.memory_bytes, two.limits.disk_bytes) == (512 << 20, 64 << 20)
    assert (two.env, two.definition["test_env"]) == ({"MODE": "fast"}, {"WANTED": "7"})
    assert TerminalTask.of(find(tasks, "not-root")).user == 1000
    assert TerminalTask.of(find(tasks, "compose-database")).env == {"DATABASE": "/app/x.db"}
    assert TerminalTask.of(find(tasks, "git-tidy")).definition["metadata"] == {"created": "2026-01-02"}


def test_a_task_travels_without_its_folder(folder: Path, tmp_path: Path) -> None:
    alone = tmp_path / "moved"
    shutil.copytree(folder / "hello-world", alone / "hello-world")
    (task,) = open_task_set(alone / "hello-world").tasks()
    shutil.rmtree(alone)
    task = Task.model_validate_json(task.model_dump_json())
    judge = get_task_set("terminal-bench")
    assert isinstance(judge, TerminalBenchTasks) and judge.tasks() == []
    assert play(task, judge.solution(task))[0] == 1.0
    (again,) = TerminalBenchTasks(folder / "hello-world").tasks()
    assert again.key == task.key  # the same folder gives the same task


def bash(command: str) -> str:
    return f"<tool_call>\n{json.dumps({'name': 'bash', 'arguments': {'command': command}})}\n</tool_call>"


def test_nothing_of_tests_and_solution_is_in_the_sandbox(tmp_path: Path) -> None:
    files = {**FIRST["count-lines"], "Dockerfile": "FROM ubuntu\nWORKDIR /app\nCOPY . .\n"}
    files["tests/cases.py"] += "# hidden-words\n"
    files["solution.sh"] += "# hidden-words\n"
    write_samples(tmp_path, {"all": files})
    (task,) = TerminalBenchTasks(tmp_path).tasks()
    look = "ls -A /app; ls -d /tests /oracle /.build* 2>&1; grep -rl hidden-words /app /root /tmp /srv /etc 2>/dev/null"
    _, _, (shown,) = play(task, [bash(look)])
    assert "data.txt" in shown and "Dockerfile" in shown
    assert all(word not in shown for word in ("solution", "run-tests", "tests/cases", "task.yaml", "hidden-words"))
    assert shown.count("No such file") == 3


CHEATS = {
    "a test folder of its own": "mkdir /else && ln -s /else /tests && echo 'echo PASSED' > /tests/run-tests.sh",
    "a reward of its own": "mkdir -p /logs/verifier; cd /logs/verifier; echo 1 > reward.txt; echo 1 > reward.json",
    "a function": "cat() { echo 'Hello, world!'; }; alias cat='echo x'; export -f cat; export BASH_ENV=/tmp/x",
    "a process": "(while sleep 0.05; do mkdir -p /logs/verifier; echo 1 > /logs/verifier/reward.txt; done) & disown",
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_what_is_left_behind_decides_nothing(cheat: str, tasks: TerminalBenchTasks) -> None:
    for name in ("hello-world", "count-lines"):
        assert play(find(tasks, name), [bash(CHEATS[cheat])])[0] == 0.0


def variant(root: Path, **files: str) -> Task:
    """The task hello-world with other files."""
    names = {"dockerfile": "environment/Dockerfile", "test": "tests/test.sh", "config": "task.toml"}
    write_samples(root, {"x": {**SECOND["hello-world"], **{names[key]: text for key, text in files.items()}}})
    return TerminalBenchTasks(root / "x").tasks()[0]


REWARDS = [
    ("echo 0.25 > /logs/verifier/reward.txt", 0.25, "the tests gave 0.25"),
    ("echo 7 > /logs/verifier/reward.txt", 1.0, "the tests gave 7"),
    ('echo \'{"reward": 0.5, "style": 1}\' > /logs/verifier/reward.json', 0.5, "the tests gave 0.5"),
    ('echo \'{"a": 1, "b": 0}\' > /logs/verifier/reward.json', 0.5, "the tests gave 0.5"),
    ("echo nan > /logs/verifier/reward.txt", 0.0, "reward.txt holds no finite number"),
    ("echo yes > /logs/verifier/reward.txt", 0.0, "reward.txt holds no number"),
    ("echo '[1]' > /logs/verifier/reward.json", 0.0, "reward.json holds no number"),
    ("ln -s /etc/passwd /logs/verifier/reward.txt", 0.0, "reward.txt holds no number"),
    ("true", 0.0, "the tests wrote no reward"),
    ("echo 1$(printf '%0400d' 0) > /logs/verifier/reward.json", 0.0, "reward.json holds no number"),
    ("printf '%9000s' | tr ' ' '[' > /logs/verifier/reward.json", 0.0, "reward.json holds no number"),
    ("sleep 99 & echo 1 > /logs/verifier/reward.txt", 1.0, "the tests gave 1"),
    ("yes | head -c 9000000; echo 0.75 > /logs/verifier/reward.txt", 0.75, "the tests gave 0.75"),
    ("sleep 30; echo 1 > /logs/verifier/reward.txt", 0.0, "the tests took more than 1 s"),
]


@pytest.mark.parametrize(("test", "reward", "reason"), REWARDS, ids=[case[2] + case[0][:12] for case in REWARDS])
def test_rewards_as_the_tests_write_them(test: str, reward: float, reason: str, tmp_path: Path) -> None:
    task = variant(
        tmp_path,
        test=f"#!/bin/bash\n{test}\n",
        config=f"[verifier]\ntimeout_sec = {1 if 'took more' in reason else 20}.0\n",
    )
    earned, judged, _ = play(task, [])
    assert (earned, judged["reason"]) == (reward, reason)


def test_a_state_that_cannot_be_tested_earns_nothing(tasks: TerminalBenchTasks) -> None:
    task = find(tasks, "hello-world")
    reward, judged, _ = play(task, [bash("touch /logs && echo 'Hello, world!' > /app/hello.txt")])
    assert reward == 0.0
    assert judged["reason"].startswith("what was left behind does not let the tests be put in place: mkdir:")


def test_tests_that_need_the_network_are_no_reward(tmp_path: Path) -> None:
    task = variant(
        tmp_path, test="#!/bin/bash\npython3 -c 'import urllib.request as u; u.urlopen(\"http://pypi.org\")'\n"
    )
    with pytest.raises(SandboxError, match="the tests need the network"):
        play(task, [])


def test_an_agent_cannot_make_the_network_missing(tasks: TerminalBenchTasks) -> None:
    """Whatever the tests print in its state: they print no such thing in the state it began with."""
    lie = "printf '#!/bin/sh\\necho Network is unreachable\\n' > /usr/local/bin/{0}; chmod 755 /usr/local/bin/{0}"
    for name, program in (("hello-world", "mkdir"), ("count-lines", "python3")):
        reward, judged, _ = play(find(tasks, name), [bash("hash -r; " + lie.format(program))])
        assert reward == 0.0 and "Network is unreachable" in judged["evidence"]["output"]


def test_the_network_a_test_needs_is_found_out_without_the_agent(tmp_path: Path) -> None:
    need = (
        "python3 -c 'import socket; socket.getaddrinfo(\"pypi.org\", 80)' || exit 1\necho 1 > /logs/verifier/reward.txt"
    )
    task = variant(tmp_path, test=f"#!/bin/bash\n{need}\n")
    lie = "mkdir -p /usr/local/bin; printf '#!/bin/sh\\nexit 1\\n' > /usr/local/bin/python3; chmod 755 /usr/local/bin/*"
    with pytest.raises(SandboxError, match="the tests need the network"):
        play(task, [bash(lie)])


# ------------------------------------------------------------------------------------------------------ Dockerfile


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            "RUN true\n\nRUN apt-get update && \\\n  apt-get install -y no-such-thing",
            "Dockerfile line 4, RUN apt-get update && apt-get install -y no-such-thing: it needs the network",
        ),
        (
            "RUN echo first; echo second >&2; exit 7",
            "line 2, RUN echo first; echo second >&2; exit 7: it ended with status 7",
        ),
        ("COPY --from=builder /x /y", "line 2, COPY /x /y: a file of another stage or image"),
        ("ADD https://example.org/x.tar /x", "line 2, ADD https://example.org/x.tar /x: it needs the network"),
    ],
)
def test_a_dockerfile_that_cannot_be_done_names_the_line(lines: str, said: str, tmp_path: Path) -> None:
    task = variant(tmp_path, dockerfile=f"FROM debian\n{lines}\nRUN exit 9\n")
    with pytest.raises(NotRestorable) as caught:
        play(task, [])
    assert said in str(caught.value) and "exit 9" not in str(caught.value)


def test_installing_what_is_there_takes_no_network(tmp_path: Path) -> None:
    install = "RUN apt-get update && apt-get install -y --no-install-recommends bash \\\n tar=1.2"
    install += " && rm -rf /var/lib/apt/lists/*"
    assert play(variant(tmp_path, dockerfile=f"FROM debian\n{install}\n"), [])[0] == 0.0
    task = variant(tmp_path, dockerfile="FROM debian\nRUN apt-get install -y bash surely-not-there\n")
    with pytest.raises(
        NotRestorable, match="line 2, RUN apt-get install -y bash surely-not-there: it needs the network"
    ):
        play(task, [])


def test_an_image_nothing_can_stand_in_for(tmp_path: Path) -> None:
    task = variant(tmp_path, dockerfile="FROM swebench/sweb.eval.x86_64.x:latest\nWORKDIR /testbed\n")
    with pytest.raises(NotRestorable, match=r"line 1, FROM swebench/.*no common Debian image"):
        play(task, [])


def test_copies_land_where_docker_puts_them(tmp_path: Path) -> None:
    context = tmp_path / "context"
    for path in ("one.txt", "two.txt", "tree/deep/leaf", "tree/skip.log", "run.sh"):
        (context / path).parent.mkdir(parents=True, exist_ok=True)
        (context / path).write_text(path, encoding="utf-8")
    (context / "run.sh").chmod(0o755)
    (context / ".dockerignore").write_text("**/*.log\n!keep.log\n# no pattern\n", encoding="utf-8")
    dockerfile = context / "Dockerfile"
    dockerfile.write_text(
        'FROM debian\nENV DIR=/opt/dir A="b c" D=e\\ f\nENV OLD form of it\nWORKDIR $DIR\nCOPY one.txt renamed\n'
        'COPY one.txt two.txt ./\nCOPY *.txt globbed/\nCOPY tree copied\nCOPY ["one.txt", "with space"]\n'
        "COPY --chmod=600 one.txt ${DIR:-x}/secret\nCOPY run.sh ${NONE:-/opt/bin}/\n",
        encoding="utf-8",
    )
    recipe = interpret(dockerfile, context)
    assert recipe.env == {"DIR": "/opt/dir", "A": "b c", "D": "e f", "OLD": "form of it"}
    task = TerminalTask(setup=recipe.setup, workdir=recipe.workdir, env=recipe.env).task("copies")
    env = gym.make("pivotgym/Terminal-v0", disable_env_checker=True)
    try:
        env.reset(options={"task": task})
        observation, *_ = env.step(
            bash("find . /opt/bin -type f -printf '%p %m %u\\n' | sort; ls -d /.build*; echo $A")
        )
    except SandboxUnavailable as error:
        missing(str(error))
    finally:
        env.close()
    *found, gone, value = json.loads(observation)[0]["content"].splitlines()
    assert found == [
        "./copied/deep/leaf 644 root",
        "./globbed/one.txt 644 root",
        "./globbed/two.txt 644 root",
        "./one.txt 644 root",
        "./renamed 644 root",
        "./secret 600 root",
        "./two.txt 644 root",
        "./with space 644 root",
        "/opt/bin/run.sh 755 root",
    ]
    assert "No such file" in gone and value == "b c"


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("WORKDIR /x\n", 1, "the first instruction is FROM"),
        ("# empty\n", None, "no FROM"),
        ("FROM debian\n\nFETCH x\n", 3, "unknown instruction FETCH"),
        ("FROM debian\nCOPY no-such-file /x\n", 2, "no such file"),
        ("FROM debian\nCOPY ../outside /x\n", 2, "no such file"),
        ("FROM debian\nRUN cat <<EOF\nnever ends\n", 2, "heredoc EOF does not end"),
    ],
)
def test_bad_dockerfiles_name_the_line(text: str, line: int | None, problem: str, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("x")
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=problem) as caught:
        interpret(context / "Dockerfile", context)
    assert (caught.value.file, caught.value.line) == (context / "Dockerfile", line)


def test_continued_lines_comments_and_heredocs(tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text(
        "FROM a\nRUN one \\\n# comment\n\n  two\nRUN <<-'X'\n\tbody\n\tX\nRUN --mount=type=cache,target=/c three\n"
    )
    parsed = parse_dockerfile(path)
    assert [(one.line, one.name) for one in parsed] == [(1, "FROM"), (2, "RUN"), (6, "RUN"), (9, "RUN")]
    assert parsed[1].text.split() == ["one", "two"]
    assert parsed[2].heredocs == (("X", False, "body\n"),)
    assert (parsed[3].text, parsed[3].flags) == ("three", {"mount": "type=cache,target=/c"})


# --------------------------------------------------------------------------------------------------------- folders


@pytest.mark.parametrize(
    ("generation", "file", "text", "field"),
    [
        (1, "task.yaml", "instruction: [1", None),
        (1, "task.yaml", "difficulty: easy", "instruction"),
        (1, "task.yaml", "instruction: x\nparser_name: mlebench", "parser_name"),
        (1, "task.yaml", "instruction: x\nrun_tests_in_same_shell: true", "run_tests_in_same_shell"),
        (1, "docker-compose.yaml", "services: {client: {build: .}, database: {image: x}}", "services"),
        (2, "task.toml", "[verifier]\ntimeout_sec = 'long'", "verifier.timeout_sec"),
        (2, "task.toml", "[verifier", None),
        (2, "task.toml", "[environment]\nmemory = 'much'", "environment.memory"),
        (2, "task.toml", "[environment]\nmemory_mb = 1", "environment.memory_bytes"),
        (2, "task.toml", "[[steps]]\nname = 'a'", "steps"),
        (2, "task.toml", "[solution.env]\nKEY = '${SURELY_NOT_SET}'", "solution.env.KEY"),
        (1, "docker-compose.yaml", "services: {client: {build: {context: ../..}}}", "services.client.build.context"),
        (
            1,
            "docker-compose.yaml",
            "services: {client: {build: {context: ., dockerfile: /etc/hostname}}}",
            "services.client.build.dockerfile",
        ),
    ],
)
def test_bad_folders_name_file_and_field(
    generation: int, file: str, text: str, field: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = FIRST["count-lines"] if generation == 1 else SECOND["hello-world"]
    root = write_samples(tmp_path, {"bad": {**files, file: text}, "good": SECOND["hello-world"]})
    with pytest.raises(BadInput) as caught:
        TerminalBenchTasks(root / "bad").tasks()
    assert (caught.value.file, caught.value.field) == (root / "bad" / file, field)
    with caplog.at_level(logging.WARNING):
        assert [task.id for task in TerminalBenchTasks(root).tasks()] == ["good"]
    assert str(caught.value) in caplog.text


def test_the_instruction_of_the_first_tasks(tmp_path: Path) -> None:
    text = "descriptions:\n- key: base\n  description: Do it.\n- key: hint\n  description: Look.\n"
    write_samples(tmp_path, {"old": {**FIRST["count-lines"], "task.yaml": text}})
    (task,) = TerminalBenchTasks(tmp_path).tasks()
    assert TerminalTask.of(task).instruction == "Do it."


def test_a_folder_without_tasks(tmp_path: Path) -> None:
    for path, problem in ((tmp_path, "no task here"), (tmp_path / "none", "no folder")):
        with pytest.raises(BadInput, match=problem):
            TerminalBenchTasks(path).tasks()


def test_archives_keep_files_and_modes(tasks: TerminalBenchTasks) -> None:
    packed = unpack(find(tasks, "two-files").data["definition"]["solution"])
    assert {name: data.decode() for name, data, _ in packed} == {
        "part.sh": SECOND["two-files"]["solution/part.sh"],
        "solve.sh": SECOND["two-files"]["solution/solve.sh"],
    }


PYTEST_FILE = """
import pytest
def test_passes(): pass
def test_fails(): assert 1 == 2, "a - b"
@pytest.mark.parametrize("x", ["a b", "c::d"])
def test_many(x): pass
@pytest.mark.skip(reason="why")
def test_skipped(): pass
@pytest.mark.xfail
def test_expected(): assert False
@pytest.mark.xfail
def test_surprise(): pass
@pytest.fixture
def broken(): raise ValueError("x")
def test_error(broken): pass
class TestIn:
    def test_inner(self): pass
"""


def test_the_summary_that_pytest_itself_prints(tmp_path: Path) -> None:
    (tmp_path / "test_x.py").write_text(PYTEST_FILE, encoding="utf-8")
    program = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", "-c", "/dev/null", "test_x.py"]
    output = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False).stdout
    found = parse_summary(output)
    assert found is not None
    # A skipped test is named by its line, not by its name.
    named = {
        name: passed for name, passed in found.items() if name.startswith(("test_", "TestIn")) and "skip" not in name
    }
    assert named == {
        "test_passes": True,
        "test_fails": False,
        "test_many[a b]": True,
        "test_many[c::d]": True,
        "test_expected": True,
        "test_surprise": False,
        "test_error": False,
        "TestIn::test_inner": True,
    }
    assert parse_summary("3 passed in 0.1s") is None


# ---------------------------------------------------------------------------------------------------------- Docker


@pytest.fixture
def base_image() -> Iterator[str]:
    require("docker", "docker")
    from pivotgym.envs.sandbox.docker import DEFAULT_IMAGE, ensure_image

    try:
        ensure_image()
    except SandboxError as error:
        missing(str(error))
    yield str(DEFAULT_IMAGE)


def test_an_image_built_by_docker(base_image: str, tmp_path: Path) -> None:
    dockerfile = (
        f"FROM {base_image}\nARG WHAT=built\nENV MADE_BY=docker\nWORKDIR /app\n"
        f"COPY --from={base_image} /etc/passwd /copied\n"
        "RUN echo $WHAT > /app/built\nUSER agent\n"
    )
    test = (
        '#!/bin/bash\nmkdir -p /logs/verifier; cmp -s /copied /etc/passwd && [ "$(cat /tmp/hello)" = "built docker" ] '
    )
    test += "&& echo 1 > /logs/verifier/reward.txt || echo 0 > /logs/verifier/reward.txt\n"
    files = {**SECOND["hello-world"], "environment/Dockerfile": dockerfile, "tests/test.sh": test}
    files["solution/solve.sh"] = "echo $(cat built) $MADE_BY > /tmp/hello\n"
    tasks = TerminalBenchTasks(write_samples(tmp_path, {"x": files}), images="build")
    (task,) = tasks.tasks()
    spec = TerminalTask.of(task)
    import docker

    client = docker.from_env()
    try:
        assert spec.image is not None and client.images.get(spec.image).tags == [spec.image]
        assert (spec.workdir, spec.user, spec.env["MADE_BY"]) == ("/app", "agent", "docker")
        assert TerminalBenchTasks(tmp_path, images="build").tasks()[0].key == task.key
        assert play(task, [], backend="docker")[0] == 0.0
        assert play(task, tasks.solution(task), backend="docker")[0] == 1.0
    finally:
        client.images.remove(str(spec.image), force=True)
        client.close()


def test_an_image_docker_cannot_build(base_image: str, tmp_path: Path) -> None:
    files = {**SECOND["hello-world"], "environment/Dockerfile": f"FROM {base_image}\nRUN echo why; exit 3\n"}
    with pytest.raises(SandboxError, match=r"(?s)Dockerfile.*exit 3"):
        TerminalBenchTasks(write_samples(tmp_path, {"x": files}), images="build").tasks()
