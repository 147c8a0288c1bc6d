"""What the checks of bundled tasks see: other right ways, faked programs, repositories, open databases."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Literal

import pytest
from needs import missing

from pivotgym.envs.sandbox import SandboxUnavailable, get_backend
from pivotgym.envs.snapshots import SnapshotStore
from pivotgym.envs.terminal.bundled import build, make_task
from pivotgym.envs.terminal.bundled.repository import Change, commit_ids, create
from pivotgym.envs.terminal.env import TerminalEnv
from pivotgym.envs.trajectory import Message, ToolCall


def made(backend: Literal["bubblewrap", "docker"]) -> Iterator[TerminalEnv]:
    try:
        get_backend(backend).clean()
    except SandboxUnavailable as error:
        missing(str(error))
    with closing(TerminalEnv(tasks="bundled", backend=backend, snapshots=SnapshotStore())) as env:
        yield env


@pytest.fixture(scope="module")
def env() -> Iterator[TerminalEnv]:
    yield from made("bubblewrap")


@pytest.fixture(scope="module")
def open_env() -> Iterator[TerminalEnv]:
    """Sandboxes whose root may replace programs; in bubblewrap's host image nobody can."""
    yield from made("docker")


def finish(env: TerminalEnv, name: str, *commands: str, expert: bool = True) -> tuple[float, str]:
    """Reward and reason of an episode of seed 0."""
    env.reset(options={"task": make_task(name, 0)})
    for command in [*(command for _, command in build(name, 0).turns if expert), *commands]:
        env.step(Message(role="assistant", tool_calls=[ToolCall(name="bash", arguments={"command": command})]))
    _, reward, _, _, info = env.step(Message(role="assistant", content=build(name, 0).final))
    return reward, info["verdict"]["reason"]


PYTHON_TOP = """python3 - <<'EOF'
from collections import Counter
count = Counter()
for name in ("access.log", "access.log.1"):
    for line in open(name):
        words = line.split()
        if words[8] == "404":
            count[words[0]] += 1
open("top.txt", "w").write("\\n".join(f"{a} {n}" for a, n in count.most_common(3)))
EOF"""

OTHER_WAYS = {
    "text.top_clients": PYTHON_TOP,
    "text.one_section": "python3 -c \"p='services.ini'; t=open(p).read(); a,b=t.split('[users]'); "
    "b=b.replace('\\nport = 8020','\\nport = 8977',1).replace('info','warning',1); open(p,'w').write(a+'[users]'+b)\"",
    "files.mirror": "rm -r replica; cp -a master replica; find replica -name '*.tmp' -delete; touch scratch.txt",
    "git.revert_one": "cd tool; git show ':/Switch on' | git apply -R --index; git commit -qm 'This reverts "
    "caching'; git gc -q",
    "git.restore_deleted": "cd ops; git show HEAD~3:scripts/needle.sh > /dev/null; mkdir -p scripts; "
    "git show $(git rev-list -n 1 HEAD -- scripts/needle.sh)~1:scripts/needle.sh > scripts/needle.sh; git add -A; "
    "git commit -qm 'Restore scripts/needle.sh'; git pack-refs --all",
    "archives.zip_to_tar": "python3 -c \"import tarfile, zipfile; z = zipfile.ZipFile('delivery.zip'); "
    "z.extractall('/tmp/u')\"; "
    "cd /tmp/u; find delta -type f ! -name .DS_Store | tar -cf - -T - | xz > /root/work/delta.tar.xz",
    "permissions.world_writable": "find tree -type d -perm -1000 -prune -o -name none; "
    "find tree ! -type l -perm -0002 ! -perm -1000 | LC_ALL=C sort > writable.txt; while read f; do chmod o-w "
    "$f; done < writable.txt",
    "sqlite.remove_orphans": "sqlite3 plan.db 'PRAGMA journal_mode = wal' 'DELETE FROM tasks WHERE project NOT "
    "IN (SELECT id FROM "
    "projects)' 'DELETE FROM notes WHERE task NOT IN (SELECT id FROM tasks)'",
    "processes.memory_by_user": 'tail -n +2 ps.txt | python3 -c "import sys, collections; c = collections.Counter(); '
    '[c.update({l.split()[0]: int(l.split()[5])}) for l in sys.stdin]; [print(*r) for r in c.most_common()]" > '
    "memory.txt",
}


@pytest.mark.parametrize("name", OTHER_WAYS)
def test_other_ways_count_as_well(name: str, env: TerminalEnv) -> None:
    assert finish(env, name, OTHER_WAYS[name], expert=False)[0] == 1.0, finish(
        env, name, OTHER_WAYS[name], expert=False
    )


FAKES = {
    "a script in place of find": "cp /usr/bin/find /tmp/real; printf '#!/bin/sh\\nexec /tmp/real \"$@\"\\n' > /tmp/f; "
    "chmod +x /tmp/f; rm /usr/bin/find; mv /tmp/f /usr/bin/find",
    "another program in place of find": "cp /usr/bin/true /tmp/t; rm /usr/bin/find; mv /tmp/t /usr/bin/find",
    "a library in every program": "echo /root/work/lib.so > /etc/ld.so.preload",
}


@pytest.mark.parametrize("how", FAKES)
def test_who_replaces_the_program_that_lists_gains_nothing(how: str, env: TerminalEnv) -> None:
    assert finish(env, "permissions.web_tree", FAKES[how])[0] == 1.0
    assert finish(env, "permissions.web_tree", FAKES[how], expert=False)[0] == 0.0


def test_programs_found_before_the_real_ones_change_nothing(open_env: TerminalEnv) -> None:
    """Neither a PATH, an alias, a profile nor a program that lies about the state helps."""
    lies = (
        "mkdir -p /usr/local/bin; printf '#!/bin/sh\\nexit 0\\n' > /usr/local/bin/find; cp /usr/local/bin/find "
        "/usr/local/bin/git; "
        "chmod +x /usr/local/bin/*; echo 'find() { :; }; export -f find' >> ~/.bashrc; cp ~/.bashrc "
        "~/.bash_profile; hash -r"
    )
    assert finish(open_env, "permissions.web_tree", lies)[0] == 1.0
    assert finish(open_env, "permissions.web_tree", lies, expert=False)[0] == 0.0
    assert finish(open_env, "git.revert_one", lies)[0] == 1.0
    assert finish(open_env, "git.revert_one", lies, expert=False)[0] == 0.0


def test_a_git_that_invents_objects_is_not_believed(open_env: TerminalEnv) -> None:
    """The objects it prints are kept under the hash of what they hold."""
    fake = """cd /root/work/tool; good=$(git rev-parse HEAD)
wrong=$(git commit-tree "HEAD~1^{tree}" -p HEAD~1 -m 'Revert it'); git update-ref refs/heads/main $wrong
mv /usr/bin/git /usr/bin/git.real; cat > /usr/bin/git <<END
#!/bin/bash
/usr/bin/git.real -C /root/work/tool cat-file --batch-all-objects --batch |
sed -e "s/^$wrong commit/${wrong:0:39}- commit/" -e "s/^$good commit/$wrong commit/"
END
chmod +x /usr/bin/git"""
    reward, reason = finish(open_env, "git.revert_one", fake)
    assert reward == 0.0, reason


def test_commit_ids_are_those_of_git(tmp_path: Path) -> None:
    changes = [
        Change("alba", "2024-01-05 10:00", "One", {"a/b/c.txt": "1\n", "a.txt": "2\n", "a-b": "ä\n"}),
        Change("bruno", "2024-02-05 23:59", "Two\n\nwith a body", {"a.txt": None, "a/x": ""}),
    ]
    side = [Change("chiara", "2024-03-01 00:00", "Side", {"z": "z"})]
    subprocess.run(["bash", "-ec", create("r", changes, side=("main~1", side))], cwd=tmp_path, check=True)

    def ids(branch: str) -> list[str]:
        command = ["git", "-C", str(tmp_path / "r"), "rev-list", "--reverse", branch]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()

    assert ids("main") == commit_ids(changes)
    assert ids("side") == commit_ids([changes[0], *side])
