"""The same deed at two moments is the same change, another deed is another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from small_set import bash, make, need

from pivotgym.envs.core import AgentEnv
from pivotgym.envs.terminal.tasks import TerminalTask
from pivotgym.envs.trajectory import JsonObject

BEGIN = """mkdir -p repo d && cd repo && git init -q -b main . && git config user.name a && git config user.email a@b &&
echo one > f && git add f && git commit -q -m first && cd .. && echo x > d/x && echo y > d/y && tar cf old.tar d"""


@pytest.fixture(scope="module")
def env() -> Iterator[AgentEnv]:
    need("bubblewrap")
    with closing(make()) as env:
        env.reset(options={"task": TerminalTask(workdir="/w").task("t")})
        assert env.advance(bash(BEGIN)).messages[0].text == "(no output)"
        yield env


def changes(env: AgentEnv, command: str) -> list[JsonObject]:
    effect = env.effect(bash(command))
    assert effect.known and "exit status" not in effect.observation[0].text, effect.observation[0].text
    return effect.changes


@pytest.mark.parametrize(
    "command",
    [
        "cd repo && echo two > f && git add f",
        "cd repo && echo two > f && git commit -q -a -m second",
        "cd repo && git checkout -q -b topic && git commit -q --allow-empty -m t && git checkout -q main",
        "cd repo && git tag -a v1 -m tagged && git branch other",
        "cd repo && echo two > f && git stash -q",
        "cd repo && git checkout -q --detach && git commit -q --allow-empty -m t",
        "touch d/new && tar cf t.tar d && tar czf t.tgz d && gzip -k d/new && zip -q -r z.zip d || true",
        "touch d/new && tar cJf t.txz d && bzip2 -k d/new && python3 -c 'import zipfile; "
        'zipfile.ZipFile("p.zip", "w").write("d/new")\'',
        "echo 'x = 1' > m.py && python3 -c 'import m'",
    ],
)
def test_the_same_deed_later(env: AgentEnv, command: str) -> None:
    one = changes(env, command)
    later = changes(env, f"sleep 1.1; {command}")
    assert one == later != []


@pytest.mark.parametrize(
    "command",
    [
        "cd repo && git status --short && git log --oneline && git diff",
        "cd repo && touch f && git update-index --refresh",
        "cd repo && git gc -q",
        "touch d/x && tar cf old.tar d",
    ],
)
def test_what_changes_nothing(env: AgentEnv, command: str) -> None:
    assert changes(env, f"sleep 1.1; {command}; cd /w") == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cd repo && git commit -q --allow-empty -m a", "cd repo && git commit -q --allow-empty -m b"),
        ("cd repo && echo 2 > f && git add f", "cd repo && echo 2 > f"),
        ("cd repo && git branch a", "cd repo && git branch b"),
        ("cd repo && git checkout -q -b a", "cd repo && git branch a"),
        ("cd repo && git tag v", "cd repo && git tag -a v -m v"),
        ("cd repo && git commit -q --amend -m first2", "cd repo && git commit -q --allow-empty -m first2"),
        ("cd repo && git config user.name z", "cd repo && git config user.name y"),
        ("tar cf t.tar d", "tar cf t.tar d/x"),
        ("tar czf t.tgz d", "echo z > d/x && tar czf t.tgz d && echo x > d/x"),
        ("tar cf t.tar d && chmod 600 t.tar", "tar cf t.tar d"),
        ("echo a | gzip > g.gz", "echo b | gzip > g.gz"),
        ("echo a > fake.gz", "echo b > fake.gz"),
        ("chmod 600 old.tar", "true"),
        ("rm old.tar", "true"),
    ],
)
def test_another_deed(env: AgentEnv, one: str, other: str) -> None:
    assert changes(env, f"{one}; cd /w") != changes(env, f"{other}; cd /w")


def test_caches_are_no_change_until_they_are_deleted(env: AgentEnv) -> None:
    with closing(env.fork()) as fork:
        fork.advance(bash("mkdir p; touch p/m.py; cd p"))
        assert changes(fork, "python3 -c 'import m'") == []
        fork.advance(bash("python3 -c 'import m'"))
        assert [row["kind"] for row in changes(fork, "rm -r __pycache__")] == ["absent"]
