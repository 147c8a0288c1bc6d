"""The effects verifier for terminals, on real sandboxes: labelled pairs, and the rules one by one."""

from __future__ import annotations

import gc
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from needs import missing

from pivotgym.envs.core import AgentEnv
from pivotgym.envs.errors import BadInput
from pivotgym.envs.sandbox import SandboxError, SandboxUnavailable, get_backend
from pivotgym.envs.snapshots import SnapshotStore
from pivotgym.envs.terminal.env import TerminalEnv
from pivotgym.envs.terminal.tasks import Setup, TerminalTask
from pivotgym.envs.tools.env import ToolsEnv
from pivotgym.envs.trajectory import Message, ToolCall, Trajectory
from pivotgym.envs.verdict import Verdict
from pivotgym.harness.bench_verifiers import TARGET, bench_verifiers
from pivotgym.verifiers import make, verify_completion
from pivotgym.verifiers.terminal import TerminalEffects
from pivotgym.verifiers.terminal_changes import Change, compare, content, settle, significant
from pivotgym.verifiers.terminal_pairs import SETS, labelled, read_pairs
from pivotgym.verifiers.terminal_worlds import GONE, LESS, MIXED, MORE, SPOILED, take_away, varied_database, vary

try:
    get_backend("bubblewrap")
except (SandboxUnavailable, ModuleNotFoundError) as error:
    missing(str(error))

FILES = {
    "/w/a.txt": "one\ntwo\nthree\nfour\n",
    "/w/b.txt": "five\n",
    "/w/hosts.tsv": "web\tup\nmail\tdown\nname\tup\nfile\tdown\n",
}


@pytest.fixture
def env() -> Iterator[TerminalEnv]:
    with closing(TerminalEnv(snapshots=SnapshotStore())) as made:
        yield made


def bash(*commands: str) -> Message:
    calls = [ToolCall(name="bash", arguments={"command": command}, id=f"c{n}") for n, command in enumerate(commands)]
    return Message(role="assistant", tool_calls=calls)


def stand(env: AgentEnv, demonstration: Message, **fields: Any) -> None:
    """Puts ``env`` before ``demonstration``."""
    setup = Setup(files=FILES, **fields)
    task = TerminalTask(workdir="/w", instruction="Go on.", setup=setup, timeout=10.0).task("t")
    messages = [Message(role="user", content="Go on."), demonstration]
    env.reset(options={"trajectory": Trajectory(id="t", task=task, messages=messages), "turn": 0})


def judge(env: AgentEnv, demonstrated: str, sampled: str, verifier: TerminalEffects | None = None) -> Verdict:
    stand(env, bash(demonstrated))
    return (verifier or TerminalEffects()).verify(env, bash(sampled))


# The labelled pairs -----------------------------------------------------------------------------------------------


def test_the_pairs_are_many_and_labelled_both_ways() -> None:
    states, pairs = read_pairs()
    assert len(pairs) >= 60 and len(states) >= 8
    for name in ("tuned", "held_out"):
        worth = [pair.worth for pair in pairs if pair.set == name]
        assert sum(worth) >= 20 and len(worth) - sum(worth) >= 20 and len(worth) >= 60
        assert len(labelled(name)) == len(worth)
    asked = {name: {(pair.state, str(pair.demonstrated)) for pair in pairs if pair.set == name} for name in SETS}
    assert not asked["tuned"] & asked["held_out"]
    assert len({pair.id for pair in pairs}) == len(pairs)
    written = {(pair.state, str(pair.demonstrated), str(pair.sampled)) for pair in pairs}
    assert len(written) == len(pairs)
    kinds = {pair.kind for pair in pairs}
    assert {"files", "text", "git", "archives", "permissions", "processes", "sqlite", "python", "shell"} <= kinds


@pytest.mark.slow
def test_effects_are_precise_and_complete_on_the_labelled_pairs() -> None:
    found = {(row.set, row.verifier): row for row in bench_verifiers()}
    for name, precision, recall in (("tuned", TARGET, TARGET), ("held_out", 0.8, 0.9)):
        best = found[name, "terminal_effects"]
        assert best.failed == 0
        assert best.precision is not None and best.precision >= precision, best.mistakes
        assert best.recall is not None and best.recall >= recall, best.mistakes
        assert best.met is (True if name == "tuned" else None)
        # Comparing what is written finds hardly any other way to do the same, here least of all.
        for other in ("exact", "tool_call"):
            share = found[name, other].recall
            assert share is not None and share < 0.2


def test_hostile_pairs_are_told_from_right_ones(env: TerminalEnv) -> None:
    """One wrong and one right pair of each kind that fakes once passed for."""
    _, pairs = read_pairs()
    hostile = [pair for pair in pairs if pair.state == "traps"]
    chosen = {(pair.kind, pair.worth): pair.id for pair in hostile}
    assert len(chosen) >= 16
    found = 0
    for item in labelled("tuned"):
        if item.kind.split()[0] in chosen.values():
            env.reset(options={"trajectory": item.trajectory, "turn": 0})
            verdict = TerminalEffects().verify(env, item.action)
            assert (verdict.reward == 1.0) == item.right, (item.kind, verdict.reason)
            found += 1
    assert found == len(chosen)


PAIR = (
    '{"id": "p", "set": "tuned", "in": "known", "kind": "", "demonstrated": "a", "sampled": "b", "worth": 1, "why": ""}'
)


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ('{"state": "s"}', "workdir"),
        (PAIR.replace("known", "?"), "in"),
        (PAIR.replace("1", "2"), "worth"),
        ('{"id": "p"}', "set"),
        ("{", None),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, field: str | None) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"state": "known", "workdir": "/"}\n' + line + "\n")
    with pytest.raises(BadInput) as caught:
        read_pairs(file)
    assert "pairs.jsonl" in str(caught.value) and "2" in str(caught.value)
    assert field is None or field in str(caught.value)


# Rules ----------------------------------------------------------------------------------------------------------


def test_it_is_made_by_its_name_and_needs_a_sandbox() -> None:
    verifier = make("terminal_effects", incidental=("/w/log",))
    assert isinstance(verifier, TerminalEffects) and "/w/log" in verifier.incidental
    with pytest.raises(BadInput, match="sandbox"):
        verifier.verify(ToolsEnv(), bash("ls"))


def test_paths_may_be_declared_incidental(env: TerminalEnv) -> None:
    logging = "ls; date +%N > /w/run.log"
    assert judge(env, "ls", logging).reward == 0.0
    assert judge(env, "ls", logging, TerminalEffects(incidental=(r"/w/.*\.log",))).reward == 1.0
    assert judge(env, "ls", "ls; python3 -m pytest --version >/dev/null; mkdir -p .pytest_cache/v").reward == 1.0
    assert judge(env, "ls", "ls; mkdir __pycache__; echo x > __pycache__/a.txt").reward == 0.0


def test_a_note_in_a_variable_is_no_change_but_another_value_is(env: TerminalEnv) -> None:
    assert judge(env, "wc -l < a.txt", "n=$(wc -l < a.txt); echo $n").reward == 1.0
    assert judge(env, "wc -l < a.txt", "export n=$(wc -l < a.txt); echo $n").reward == 0.0
    assert judge(env, "wc -l < a.txt", "PS1=$(wc -l < a.txt); HOME=$PS1; echo $HOME").reward == 0.0
    assert judge(env, "n=$(wc -l < a.txt); echo $n", "wc -l < a.txt").reward == 0.0


def test_what_a_command_says_itself_it_did_not_find(env: TerminalEnv) -> None:
    for guess in (
        "echo 4",
        "expr 2 + 2",
        "awk 'BEGIN {print 4}'",
        "seq 4 4",
        "cat <<< 4",
        "x=4; echo $x",
        "wc -c < b.txt",
    ):
        verdict = judge(env, "wc -l < a.txt", guess)
        assert verdict.reward == 0.0, (guess, verdict.reason)
    assert judge(env, "wc -l < a.txt", "sed -n '$=' a.txt").reward == 1.0


def test_a_choice_must_be_made(env: TerminalEnv) -> None:
    demonstration = "awk -F'\\t' '$2 == \"down\" {print $1}' hosts.tsv"
    assert judge(env, demonstration, "cut -f1 hosts.tsv").reward == 0.0
    assert judge(env, demonstration, "grep down hosts.tsv").reward == 1.0
    without = TerminalEffects(worlds=())
    assert judge(env, demonstration, "cut -f1 hosts.tsv", without).reward == 1.0  # it is the worlds that tell


def test_a_failing_command_is_wrong_unless_its_status_is_an_answer(env: TerminalEnv) -> None:
    assert judge(env, "cat b.txt", "cat b.txt; cat nothing").reward == 0.0
    assert judge(env, "cat b.txt | grep -c six || true", "grep -c six b.txt").reward == 1.0
    assert judge(env, "cat nothing", "cat ./nothing").reward == 1.0  # the demonstration fails too


def test_calls_are_counted_and_checked(env: TerminalEnv) -> None:
    stand(env, bash("ls"))
    verifier = TerminalEffects()
    assert verifier.verify(env, bash("ls", "cat a.txt")).reward == 1.0
    assert "calls" in verifier.verify(env, bash("ls", "cat a.txt", "cat b.txt")).reason
    odd = Message(role="assistant", tool_calls=[ToolCall(name="bash", arguments={"cmd": "ls"})])
    assert verifier.verify(env, odd).reward == 0.0
    unknown = Message(role="assistant", tool_calls=[ToolCall(name="python", arguments={"command": "ls"})])
    assert "unknown tool" in verifier.verify(env, unknown).reason
    assert verifier.verify(env, Message(role="assistant", content="a.txt b.txt hosts.tsv")).reward == 0.0
    message, malformed = env.parse_action("<tool_call>{oops</tool_call>")
    assert verify_completion(verifier, env, message, malformed).rule == "malformed"


def test_while_something_runs_only_the_demonstrated_commands_are_right(env: TerminalEnv) -> None:
    stand(env, bash("kill $P"), start="sleep 1000 & P=$!")
    verifier = TerminalEffects()
    assert verifier.verify(env, bash("kill   $P")).reward == 1.0
    assert verifier.verify(env, bash("ls")).reward == 0.0
    stand(env, bash("ls"))
    assert "runs" in verifier.verify(env, bash("ls; sleep 1000 &")).reason


def test_a_command_that_is_killed_is_wrong(env: TerminalEnv) -> None:
    task = TerminalTask(workdir="/w", setup=Setup(files=FILES), timeout=1.0).task("short")
    messages = [Message(role="user", content="Go on."), bash("cat b.txt")]
    env.reset(options={"trajectory": Trajectory(id="t", task=task, messages=messages), "turn": 0})
    assert TerminalEffects().verify(env, bash("cat b.txt; sleep 30")).reward == 0.0


def test_a_broken_sandbox_is_no_verdict(env: TerminalEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    stand(env, bash("ls"))

    def broken(*_: Any, **__: Any) -> None:
        raise SandboxError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(type(env.sandbox), "run", broken)
        with pytest.raises(SandboxError):
            TerminalEffects().verify(env, bash("ls -a"))
    assert TerminalEffects().verify(env, bash("ls -a")).reward == 1.0


def test_judging_leaves_the_state_alone(env: TerminalEnv) -> None:
    stand(env, bash("ls"))
    verifier = TerminalEffects()
    before = env.save()
    for _ in range(2):
        assert verifier.verify(env, bash("ls -a")).reward == 1.0
        assert verifier.verify(env, bash("rm -rf /w; cd /; X=1")).reward == 0.0
    after = env.save()
    assert before is not None and after is not None and env.diff(before, after) == []


def test_commits_are_equal_whenever_they_are_made(env: TerminalEnv) -> None:
    script = (
        "cd /w && export HOME=/root && git init -q . && git config user.name A && git config user.email a@example.org"
    )
    demonstration = "git add a.txt && git commit -qm First && git log --oneline"
    stand(env, bash(demonstration), script=script)
    verifier = TerminalEffects()
    late = "sleep 1.1; git add a.txt; git commit -q -m First; git log"
    verdict = verifier.verify(env, bash(late))
    assert verdict.reward == 1.0, verdict.reason
    assert verifier.verify(env, bash(late.replace("a.txt", "b.txt"))).reward == 0.0
    assert verifier.verify(env, bash(late.replace("First", "Second"))).reward == 0.0


@pytest.mark.parametrize("date", ["1700000005 +0000", "1700000013 +0000"])  # 0941250 and 6261071
def test_an_id_that_is_all_digits_is_no_count(env: TerminalEnv, date: str) -> None:
    """Of every 27th commit the seven digits that are shown are all decimal ones."""
    dated = f"GIT_AUTHOR_DATE='{date}' GIT_COMMITTER_DATE='{date}' git commit -qm First"
    script = (
        "cd /w && export HOME=/root && git init -q . && git config user.name A && git config user.email a@example.org"
    )
    stand(env, bash(f"git add a.txt && {dated} && git log --oneline"), script=script)
    verdict = TerminalEffects().verify(env, bash(f"git add a.txt; {dated}; git log"))
    assert verdict.reward == 1.0, verdict.reason


# Changes and worlds --------------------------------------------------------------------------------------------


def database(*statements: str) -> bytes:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    data = connection.serialize()
    connection.close()
    return data


TABLE = "create table t(id integer primary key, name text, city text)"
ROWS = "insert into t values (1, 'a', 'x'), (2, 'b', 'y'), (3, 'c', 'x')"


def test_databases_are_compared_by_what_they_hold() -> None:
    one = database(TABLE, ROWS)
    two = database(TABLE, ROWS, "insert into t values (9, 'z', 'z')", "delete from t where id = 9")
    assert one != two and content(one) == content(two)
    assert content(one) != content(database(TABLE, ROWS, "delete from t where id = 1"))
    assert content(one[:2000]) is None and content(b"SQLite format 3\0" + b"x" * 200) is None


def test_what_two_demonstrations_differ_in_is_no_difference() -> None:
    def change(text: str, path: str = "/w/f") -> Change:
        data = text.encode()
        row = {"path": path, "kind": "file", "mode": 0o644, "size": len(data), "digest": text}
        return significant([row], lambda _: data, "")

    def left(wanted: Change, again: Change, given: Change) -> int:
        missing, extra = compare(wanted.rows, given.rows)
        return len(settle(missing, extra, wanted, again, given)[0])

    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:")
    first, second, third = (change(f"pid 7\nrun at {now}{seconds}\n") for seconds in (10, 11, 12))
    assert left(first, second, third) == 0  # the moment differs by itself
    assert left(first, first, third) == 1  # it stands in the demonstration
    assert left(first, second, change(f"pid 8\nrun at {now}12\n")) == 1  # another line is another line
    assert left(change("a"), change("a"), change("b")) == 1
    old, new = change("x", "/tmp/tmp.aaaaaaaaaa"), change("x", "/tmp/tmp.bbbbbbbbbb")
    assert left(old, new, change("x", "/tmp/tmp.cccccccccc")) == 0
    assert left(old, old, new) == 1


def test_rows_that_do_not_matter_are_left_out() -> None:
    rows = [
        {"path": "/w/__pycache__/a.cpython-311.pyc", "kind": "file", "size": 3, "digest": "d"},
        {"path": "/root/.bash_history", "kind": "file", "size": 3, "digest": "d"},
        {"path": "/w/__pycache__/b.pyc", "kind": "absent"},
        {"path": "/root/.cache/pip/selfcheck/x.json", "kind": "file", "size": 3, "digest": "d"},
        {"path": "/w/a", "kind": "absent"},
        {"shell": "variable", "name": "f", "value": '-- f="b"'},
        {"shell": "cwd", "value": "/"},
    ]

    def kept(source: str, **options: Any) -> list[int]:
        found = significant(rows, lambda path: None, source, **options).rows
        return sorted(rows.index(row) for row in found)

    assert kept("for f in a b; do :; done") == [1, 2, 3, 4, 6]
    assert kept("f=b") == [1, 2, 3, 4, 5, 6]
    assert kept("pip install x; f=b") == [1, 2, 4, 5, 6]
    assert kept("f=b", named="cp a.pyc __pycache__/") == [0, 1, 2, 3, 4, 5, 6]
    assert kept("f=b", incidental=("/w/.*",)) == [1, 3, 5, 6]


def test_databases_are_varied() -> None:
    data = database(TABLE, ROWS)

    def rows(world: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(":memory:")
        connection.deserialize(varied_database(data, world))
        found = connection.execute("select name, city from t order by id").fetchall()
        connection.close()
        return found

    plain = [("a", "x"), ("b", "y"), ("c", "x")]
    assert rows(MORE) == plain * 2
    assert rows(LESS) == plain[:1]
    assert rows(MIXED) != plain and sorted(name for name, _ in rows(MIXED)) == ["a", "b", "c"]


def test_files_are_varied_in_the_fork_alone(env: TerminalEnv) -> None:
    stand(env, bash("ls"))
    wanted = {
        MORE: (
            "one\n" + "two\n" * 3 + "three\n" * 3 + "four\n" * 3,
            "five\n" * 4,
            "a-copy.txt\na.txt\nb-copy.txt\nb.txt\n",
        ),
        LESS: ("one\ntwo\n", "five\n", "a.txt\nb.txt\n"),
        MIXED: ("five\n", "one\nfour\nthree\ntwo\n", "a.txt\nb.txt\n"),
    }
    for world, (text, other, names) in wanted.items():
        with closing(env.fork()) as child:
            box = child.sandbox
            assert vary(box, world, ["/w"])
            assert box.run("cat a.txt").output == text
            assert box.run("cat b.txt").output == other
            assert box.run("ls *.txt").output == names
            columns = box.run("cut -f2 hosts.tsv; cut -f1 hosts.tsv").output.split()
            assert world != MIXED or (sorted(columns[:4]) == ["down", "down", "up", "up"] and columns[4] == "web")
    assert env.sandbox.run("cat a.txt").output == FILES["/w/a.txt"]


def test_what_a_command_names_is_spoiled_or_taken_away(env: TerminalEnv) -> None:
    stand(env, bash("ls"))
    for world, there in ((SPOILED, 1), (GONE, 0)):
        with closing(env.fork()) as child:
            box = child.sandbox
            assert take_away(box, world, "/w", ["a.txt", "..", "/", ".", "/usr/bin/env", "/bin", "no"])
            assert box.run("test -e a.txt; echo $?; cat b.txt; env true; echo $?").output == f"{1 - there}\nfive\n0\n"
            assert box.run("cat a.txt 2>&1").output != FILES["/w/a.txt"]


def test_states_of_worlds_go_with_the_pivot(env: TerminalEnv) -> None:
    stand(env, bash("wc -l < a.txt"))
    assert TerminalEffects().verify(env, bash("grep -c '' a.txt")).reward == 1.0
    pivot = env.episode.pivot
    assert pivot is not None
    kept = list(pivot.cache["terminal states"])
    assert len(kept) == 4  # as it is, and three worlds
    roots = [Path(state.payload.path) for state in kept if hasattr(state.payload, "path")]
    del pivot
    env.close()
    gc.collect()
    assert not any(root.exists() for root in roots)
