"""The terminal environment on real sandboxes."""

from __future__ import annotations

import base64
import io
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from small_set import SmallSet, bash, make, need, press, record, say

from pivotgym.envs.core import AgentEnv
from pivotgym.envs.errors import BadInput, NotRestorable, RestoreDiverged, VerifierBug
from pivotgym.envs.snapshots import SnapshotStore
from pivotgym.envs.terminal.bundled import BundledTasks
from pivotgym.envs.terminal.env import NoGoal, TerminalEnv
from pivotgym.envs.terminal.sources import open_task_set
from pivotgym.envs.terminal.tasks import Setup, TerminalTask
from pivotgym.envs.trajectory import Message, ToolCall, Trajectory
from pivotgym.verifiers import make as make_verifier


@pytest.fixture(scope="module", params=["bubblewrap", "docker"])
def backend(request: pytest.FixtureRequest) -> str:
    need(request.param)
    return str(request.param)


@pytest.fixture
def env(backend: str) -> Iterator[AgentEnv]:
    with closing(make(backend=backend, snapshots=SnapshotStore())) as made:
        yield made


def shown(env: AgentEnv, action: Message) -> str:
    """The one result that an action brings."""
    (answer,) = env.advance(action).messages
    return answer.text


def begin(env: AgentEnv, **fields: Any) -> None:
    env.reset(options={"task": TerminalTask(**{"set": "small", **fields}).task("made")})


def test_an_episode_that_reaches_its_goal(env: AgentEnv) -> None:
    env.reset(options={"task": "small-0"})
    assert [message.role for message in env.messages] == ["system", "user"]
    assert [tool["function"]["name"] for tool in env.tools] == ["bash"]
    _, reward, terminated, _, _ = env.step(bash("pwd; wc -l < numbers; cat note.txt; echo right0 > out"))
    assert env.messages[-1].text == "/data\n9\nnote 0\n"
    assert (reward, terminated) == (0.0, False)
    _, reward, terminated, _, info = env.step(say("0"))
    assert (reward, terminated, info["termination"]) == (1.0, True, "answered")


@pytest.mark.parametrize(("command", "answer"), [("true", "0"), ("echo wrong > out", "0"), ("echo right0 > out", "1")])
def test_an_episode_that_does_not(env: AgentEnv, command: str, answer: str) -> None:
    env.reset(options={"task": "small-0"})
    env.step(bash(command))
    assert env.step(say(answer))[1] == 0.0


def test_nothing_the_agent_defined_reaches_the_judge(env: AgentEnv) -> None:
    env.reset(options={"task": "small-0"})
    env.step(bash("cat() { echo right0; }; export -f cat; alias cat='echo right0'; PATH=/data:$PATH"))
    env.step(bash("echo 'echo right0' > /data/cat; chmod +x /data/cat; exec 3>&1"))
    _, reward, _, _, info = env.step(say("0"))
    assert reward == 0.0 and info["verdict"]["evidence"]["out"] == ""


def test_the_shell_lives_on_from_turn_to_turn(env: AgentEnv) -> None:
    begin(env)
    assert shown(env, bash("cd /tmp; x=5; f() { echo f$x; }")) == "(no output)"
    assert shown(env, bash("pwd; f; false")) == "/tmp\nf5\n[exit status 1]"


def test_commands_apart_share_no_shell(env: AgentEnv) -> None:
    begin(env, shell=["/bin/sh", "-c"], observation="raw", workdir="/srv")
    assert shown(env, bash("cd /tmp; x=5; echo $0")) == "/bin/sh\n"
    assert shown(env, bash("pwd; echo x$x")) == "/srv\nx\n"
    assert "shell of its own" in env.messages[0].text


def test_a_command_that_takes_too_long_leaves_the_session_usable(env: AgentEnv) -> None:
    begin(env, timeout=3)
    env.advance(bash("y=1"))
    assert shown(env, bash("echo begun; sleep 30")) == "begun\n[killed: it ran for more than 3 s]"
    assert shown(env, bash("echo $y")) == "1\n"


def test_silence_is_ended(backend: str) -> None:
    with closing(make(backend=backend, idle_timeout=3)) as env:
        begin(env)
        assert shown(env, bash("echo begun; sleep 30")) == "begun\n[killed: no output for 3 s]"


def test_a_shell_that_exits_comes_back(env: AgentEnv) -> None:
    begin(env)
    env.advance(bash("cd /tmp"))
    assert shown(env, bash("echo bye; exit 3")) == "bye\n[the shell exited with status 3; a new one was started]"
    assert shown(env, bash("pwd")) == "/tmp\n"


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (ToolCall(name="python", arguments={"command": "x"}, id="1"), "Error: unknown tool 'python'; there is: bash"),
        (ToolCall(name="bash", arguments={}, id="1"), "Error: 'command' is a required property"),
        (ToolCall(name="bash", arguments={"command": 5}, id="1"), "Error: command: 5 is not of type 'string'"),
        (ToolCall(name="bash", arguments="no json", id="1"), "Error: arguments must be a JSON object"),
    ],
)
def test_bad_calls_are_told_and_the_episode_goes_on(env: AgentEnv, call: ToolCall, error: str) -> None:
    begin(env)
    _, _, terminated, _, _ = env.step(Message(role="assistant", tool_calls=[call]))
    assert env.messages[-1].text == error and env.messages[-1].tool_call_id == "1" and not terminated
    assert shown(env, bash("echo on")) == "on\n"


def test_several_calls_run_in_order(env: AgentEnv) -> None:
    begin(env)
    calls = [ToolCall(name="bash", arguments={"command": text}, id=text) for text in ("echo a > f", "cat f")]
    answers = env.advance(Message(role="assistant", tool_calls=calls)).messages
    assert [(answer.tool_call_id, answer.text) for answer in answers] == [
        ("echo a > f", "(no output)"),
        ("cat f", "a\n"),
    ]


def test_other_names_for_the_tool_come_with_a_recording(env: AgentEnv) -> None:
    parameters = {"type": "object", "properties": {"cmd": {"type": "string"}}, "required": ["cmd"]}
    tools = [{"type": "function", "function": {"name": "execute_bash", "parameters": parameters}}]
    call = ToolCall(name="execute_bash", arguments={"cmd": "echo $((6*7))"}, id="1")
    messages = [
        Message(role="user", content="?"),
        Message(role="assistant", tool_calls=[call]),
        Message(role="tool", content="42\n", tool_call_id="1"),
        say("42"),
    ]
    recording = Trajectory(id="r", task=TerminalTask().task("r"), tools=tools, messages=messages)
    _, info = env.reset(options={"trajectory": recording, "turn": 1, "strict": True})
    assert info["restore"].fidelity == 1.0 and len(info["restore"].checks) == 1


def test_a_marker_ends_the_episode_and_what_follows_is_the_answer(env: AgentEnv) -> None:
    task = TerminalTask(set="small", finish_marker="DONE", definition={"text": "right9\n", "answer": "nine"})
    env.reset(options={"task": task.task("t")})
    assert env.step(bash("mkdir /data; echo right9 > /data/out; echo no DONE"))[2] is False
    _, reward, terminated, _, info = env.step(bash("echo DONE; echo nine"))
    assert (reward, terminated, info["termination"]) == (1.0, True, "submitted")


def test_what_a_recorded_user_says_is_passed_through(env: AgentEnv) -> None:
    actions = [bash("echo 1 > f")]
    recording = record(env, TerminalTask().task("r"), actions)
    more = [say("I forgot the call"), Message(role="user", content="call a tool"), bash("cat f")]
    answer = Message(role="tool", content="1\n", tool_call_id="c")
    recording.messages += [*more, answer, say("end")]
    _, info = env.reset(options={"trajectory": recording, "turn": 3, "strict": True})
    assert info["restore"].faithful and env.messages[-3].text == "call a tool"


def test_a_task_without_a_goal_gets_no_reward(env: AgentEnv) -> None:
    begin(env, set="recorded")
    with pytest.raises(NoGoal):
        env.step(say("done"))


# Set-up -------------------------------------------------------------------------------------------------------------


def tar_of(mode: str, **files: str) -> str:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=f"w:{mode}") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name.replace("__", "/"))
            member.size, member.mtime, member.uid, member.gid = len(text), 1_000_000_000, 12345, 12345
            archive.addfile(member, io.BytesIO(text.encode()))
    return base64.b64encode(data.getvalue()).decode()


@pytest.mark.parametrize("mode", ["", "gz", "bz2", "xz"])
def test_archives_files_script_and_start_in_this_order(env: AgentEnv, mode: str) -> None:
    setup = Setup(
        archives=[tar_of(mode, srv__a="archive", srv__b="archive"), tar_of(mode, srv__b="second")],
        files={"/srv/c/d": "file\n", "/srv/a": "file over archive"},
        script="id -un > /srv/who; cat /srv/a > /srv/copy; leaked=1; cd /srv",
        start="started=yes; cd /srv/c",
    )
    begin(env, setup=setup)
    assert shown(env, bash("cat ../a ../b ../copy; cat d; echo $started$leaked; pwd")) == (
        "file over archivesecondfile over archivefile\nyes\n/srv/c\n"
    )
    assert shown(env, bash("cat /srv/who; date -r /srv/b +%s; ls -d /.setup")) == (
        "root\n1000000000\nls: cannot access '/.setup': No such file or directory\n[exit status 2]"
    )


def test_the_set_up_is_roots_and_the_session_the_users(env: AgentEnv) -> None:
    setup = Setup(script="mkdir /vault; echo secret > /vault/s; chmod 700 /vault; mkdir /mine; chown 1234 /mine")
    begin(env, user=1234, workdir="/mine", setup=setup)
    assert shown(env, bash("id -u; touch here && echo can")) == "1234\ncan\n"
    assert "Permission denied" in shown(env, bash("cat /vault/s"))


@pytest.mark.parametrize(
    ("setup", "told"),
    [
        (Setup(script="echo half; echo broken >&2; exit 7"), "setup.script ended with status 7: half\nbroken"),
        (Setup(script="set -e; false; true"), "setup.script ended with status 1"),
        (Setup(script="if then"), "syntax error"),
        (Setup(start="cd /nowhere"), "setup.start ended with status 1"),
        (Setup(archives=["bm8gdGFy"]), "setup.archives ended with status"),
        (Setup(script="sleep 100 & true"), "leaves something running"),
        (Setup(files={"/etc/passwd/x": ""}), "setup.files ended with status"),
    ],
)
def test_a_set_up_that_fails_is_said(env: AgentEnv, setup: Setup, told: str) -> None:
    with pytest.raises(NotRestorable, match="setup_failed") as caught:
        begin(env, setup=setup)
    assert told in str(caught.value)
    assert not env.has_episode


def test_the_set_up_runs_once_for_many_episodes_of_a_task(env: AgentEnv) -> None:
    setup = Setup(script="cat /proc/sys/kernel/random/uuid > /id")
    ids = set()
    for _ in range(3):
        begin(env, setup=setup)
        ids.add(shown(env, bash("cat /id; echo changed > /id")))
    assert len(ids) == 1 and "changed" not in ids.pop()


# Restoring ----------------------------------------------------------------------------------------------------------

WORK = [
    bash("cd /data && mkdir -p a/b && cd a/b"),
    bash("x=7; f() { echo f:$x; }; echo one > one"),
    bash("pwd; f; ls -la; date; mktemp -u; echo $$ > /dev/null"),
    bash("seq 3 | sed s/2/two/ > ../list; cat ../list; nosuchcommand"),
    bash("rm one; export y=8; umask 027; touch new; stat -c %a new"),
    bash("echo $x$y; umask; cat one; ls"),
]


def test_every_turn_comes_back_by_replay_and_from_kept_states(env: AgentEnv) -> None:
    recording = record(env, "small-0", [*WORK, say("0")])
    for turn in range(len(recording.turns)):
        with closing(make(backend=env.config.backend, snapshots=SnapshotStore())) as fresh:
            _, info = fresh.reset(options={"trajectory": recording, "turn": turn, "strict": True})
            assert info["restore"].replayed == turn and info["restore"].note is None
        _, info = env.reset(options={"trajectory": recording, "turn": turn, "strict": True})
        assert info["restore"].fidelity == 1.0 and len(info["restore"].checks) == turn
        assert info["restore"].replayed <= 1
        if turn < len(WORK):
            replayed = shown(env, recording.action(turn))
            assert env.normalise(replayed) == env.normalise(recording.answer(turn)[0].text)


def test_a_divergence_is_seen_and_classed(env: AgentEnv) -> None:
    recording = record(env, "small-0", [bash("cat note.txt"), bash("nosuchcommand"), say("0")])
    recording.messages[3].content = "another note\n"
    recording.messages[5].content = "I am here after all\n"
    _, info = env.reset(options={"trajectory": recording, "turn": 2})
    assert [check.kind for check in info["restore"].diverged] == ["different", "missing_program"]
    with pytest.raises(RestoreDiverged, match="another note"):
        env.reset(options={"trajectory": recording, "turn": 2, "strict": True})


def test_forks_are_independent(env: AgentEnv) -> None:
    begin(env)
    env.advance(bash("cd /tmp; v=1; echo base > f"))
    with closing(env.fork()) as one, closing(env.fork()) as other:
        assert shown(one, bash("rm f; v=2; cd /")) == "(no output)"
        assert shown(other, bash("cat f; echo $v; pwd; echo other >> f")) == "base\n1\n/tmp\n"
        env.close()
        assert shown(one, bash("ls /tmp; echo $v")) == "2\n"


def test_the_effect_of_a_command_is_files_and_shell(env: AgentEnv) -> None:
    begin(env, workdir="/w")
    env.advance(bash("echo old > f; v=1"))
    effect = env.effect(bash("echo new > f; mkdir d; ln -s f l; v=2; cd d; g() { :; }"))
    assert effect.known and not effect.done
    paths = {row["path"]: row["kind"] for row in effect.changes if "path" in row}
    assert paths == {"/w/f": "file", "/w/d": "directory", "/w/l": "link"}
    shells = {(row["shell"], row.get("name")) for row in effect.changes if "shell" in row}
    assert {("cwd", None), ("variable", "v"), ("function", "g")} <= shells
    assert env.effect(bash("cat f > /dev/null")).changes == []
    assert env.effect(bash("echo new > f; echo old > f; v=1")).changes == []
    assert shown(env, bash("cat f; echo $v; pwd")) == "old\n1\n/w\n"


def test_a_background_process_makes_forks_replay_and_the_report_says_so(env: AgentEnv) -> None:
    actions = [bash("sleep 321 & echo $! > /tmp/pid"), bash("kill -0 $(cat /tmp/pid) && echo lives"), say("x")]
    recording = record(env, "small-0", actions)
    _, info = env.reset(options={"trajectory": recording, "turn": 2})
    assert info["restore"].faithful and info["restore"].replayed == 2
    assert "background process" in info["restore"].note and "sleep 321" in info["restore"].note
    assert env.save() is None
    with closing(env.fork()) as fork:
        assert shown(fork, bash("kill -0 $(cat /tmp/pid) && echo lives; pkill sleep; sleep 0.2")) == "lives\n"
        assert fork.save() is not None
    assert shown(env, bash("kill -0 $(cat /tmp/pid) && echo lives")) == "lives\n"


def test_an_episode_that_leaves_a_process_running_is_judged(env: AgentEnv) -> None:
    env.reset(options={"task": "small-1"})
    env.step(bash("echo right1 > out; (while :; do sleep 1; done) &"))
    assert env.score().reward == 0.0  # in the middle: no answer yet, and what runs goes on
    assert shown(env, bash("jobs -rp | wc -l")) == "1\n"
    assert env.step(say("1"))[1] == 1.0


# Screens ------------------------------------------------------------------------------------------------------------


def test_an_editor_driven_by_keys_is_restored_in_the_middle(backend: str) -> None:
    store = SnapshotStore()
    actions = [
        press("vi poem.txt", "Enter", wait=3.0),
        press("i", "first line", "Enter", "second line", wait=0.6),
        press("Escape", ":s/second/2nd/", "Enter", wait=0.6),
        press(":wq", "Enter", wait=1.0),
        press("clear; cat poem.txt", "Enter"),
    ]
    with closing(make(backend=backend, screen=True, snapshots=store)) as env:
        recording = record(env, "small-0", actions)
        screens = [message.text for message in recording.messages if message.role == "tool"]
        assert "poem.txt" in screens[0] and "2nd line" in screens[2]
        assert "first line\n2nd line\n" in screens[4] and "~" not in screens[4].replace(":~", "")
        _, info = env.reset(options={"trajectory": recording, "turn": 3, "strict": True})
        report = info["restore"]
        assert report.fidelity == 1.0 and len(report.checks) == 3 and report.replayed == 3
        assert "tmux" in report.note
        with closing(env.fork()) as fork:
            fork.advance(press(":q!", "Enter"))
            assert "No such file" in shown(fork, press("clear; cat poem.txt", "Enter"))
        env.advance(actions[3])
        assert shown(env, actions[4]) == screens[4]


def test_a_program_that_asks_gets_its_keys_and_an_interrupt(backend: str) -> None:
    with closing(make(backend=backend, screen=True)) as env:
        env.reset(options={"task": "small-0"})
        assert [tool["function"]["name"] for tool in env.tools] == ["keystrokes"]
        env.advance(press("python3 -q", "Enter", wait=3.0))
        assert "\n42\n" in shown(env, press("print(6 * 7)", "Enter", wait=1.0))
        assert "KeyboardInterrupt" in shown(env, press("while True: pass\n\n", "C-c", wait=1.5))
        env.advance(press("C-d"))
        env.step(press("echo right0 > out; sleep 300 &", "Enter"))
        assert env.step(say("0"))[1] == 1.0


def test_a_terminal_that_was_killed_is_started_again(backend: str) -> None:
    with closing(make(backend=backend, screen=True)) as env:
        env.reset(options={"task": "small-0"})
        text = shown(env, press("touch kept; tmux -L terminal kill-server", "Enter"))
        assert text.startswith("[the terminal was gone; a new one was started]")
        assert "kept" in shown(env, press("ls", "Enter"))


KEYS = {
    "no tmux any more": ["T=$(command -v tmux); rm -f $T; kill -9 -1"],
    "a tmux that fails": [
        "printf '#!/bin/sh\\nexit 1\\n' > /usr/local/bin/tmux; chmod 755 /usr/local/bin/tmux",
        "hash -r",
    ],
    "a tmux that shows nothing": [
        "printf '#!/bin/sh\\ncase $* in *capture*) exit 1;; esac\\n' > /usr/local/bin/tmux",
        "chmod 755 /usr/local/bin/tmux; hash -r",
    ],
}


@pytest.mark.parametrize("how", KEYS)
def test_a_terminal_that_cannot_be_started_again_is_told(how: str, backend: str) -> None:
    with closing(make(backend=backend, screen=True)) as env:
        env.reset(options={"task": "small-0"})
        for keys in KEYS[how]:
            env.step(press(keys, "Enter"))
        assert shown(env, press("ls", "Enter")) == "[the terminal cannot be started again]"
        _, reward, terminated, _, _ = env.step(say("0"))
        assert (reward, terminated) == (0.0, True)


# Broken by the agent --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", ["rm", "exit"])
def test_an_agent_that_removes_its_shell_earns_nothing_and_breaks_nothing(env: AgentEnv, last: str) -> None:
    for task in ("small-0", BundledTasks().tasks()[0], BundledTasks().tasks()[-1]):
        env.reset(options={"task": task})
        env.step(bash("rm -f /usr/bin/bash /bin/bash"))
        if last == "exit":
            env.step(bash("exit"))
            assert "[the shell" in shown(env, bash("echo hi"))
        _, reward, terminated, _, _ = env.step(say("0"))
        assert (reward, terminated) == (0.0, True)


def test_an_effect_without_a_shell_is_wrong(env: AgentEnv) -> None:
    recording = record(env, "small-0", [bash("echo hi > x"), say("0")])
    env.reset(options={"trajectory": recording, "turn": 0})
    verify = make_verifier("terminal_effects").verify
    assert verify(env, bash("echo hi > ./x")).reward == 1.0
    assert verify(env, bash("echo hi > x; rm -f /usr/bin/bash")).reward == 0.0
    assert verify(env, bash("echo hi > ./x")).reward == 1.0


def test_what_a_judge_raises_is_a_bug_of_the_judge(env: AgentEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(*_: object) -> None:
        raise ZeroDivisionError("division")

    monkeypatch.setattr(SmallSet, "goal", raises)
    env.reset(options={"task": "small-0"})
    with pytest.raises(VerifierBug, match="ZeroDivisionError on the action"):
        env.step(say("0"))


# Sources ------------------------------------------------------------------------------------------------------------


def test_unknown_sources_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no terminal task set"):
        open_task_set("nothing-here")
    (tmp_path / "x.json").write_text('[{"a": 1}]')
    with pytest.raises(BadInput, match="neither AgentBench"):
        open_task_set(tmp_path)
    (tmp_path / "x.json").write_text("[")
    with pytest.raises(BadInput, match="no JSON"):
        open_task_set(tmp_path / "x.json")


def test_options_that_do_not_touch_the_state_share_kept_states() -> None:
    def mark(**options: Any) -> str:
        env = make(**options)
        assert isinstance(env, TerminalEnv)
        return env.fingerprint

    assert mark() == mark(tasks="bundled", max_turns=3)
    marks = [mark(), mark(image="/some/root"), mark(screen=True), mark(idle_timeout=3.0)]
    assert len(set(marks)) == len(marks)
    with pytest.raises(BadInput, match="backend"):
        make(backend="podman")
