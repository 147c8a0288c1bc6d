"""Long histories: layers are merged, and nobody can tell."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest
from needs import missing
from sandboxes import taken

from pivotgym.envs.errors import MissingExtra
from pivotgym.envs.sandbox import Sandbox, SandboxConfig, SandboxUnavailable, get_backend
from pivotgym.envs.sandbox.bubblewrap import BubblewrapBackend
from pivotgym.envs.sandbox.layers import MAX_LAYERS, Chain

LISTING = (
    "cd /root/work && find . -printf '%p %y %m %U:%G %s %l %T@\\n' | sort; find . -type f -exec sha256sum {} + | sort"
)
UNTIMED = LISTING.replace(" %T@", "").replace(" %s", "")


@pytest.fixture
def bubblewrap() -> BubblewrapBackend:
    try:
        backend = get_backend("bubblewrap")
    except (SandboxUnavailable, MissingExtra) as error:
        missing(str(error))
    assert isinstance(backend, BubblewrapBackend)
    return backend


@pytest.fixture
def begin(bubblewrap: BubblewrapBackend) -> Iterator[Callable[[], Sandbox]]:
    begun: list[Sandbox] = []

    def begin() -> Sandbox:
        begun.append(bubblewrap.start(SandboxConfig(workdir="/root/work")))
        return begun[-1]

    yield begin
    for box in begun:
        box.stop()


def random_command(rng: random.Random) -> str:
    """Something that makes, changes, moves or removes files, folders and links among few names."""

    def name() -> str:
        return "/".join(rng.choice("abc") for _ in range(rng.randint(1, 3)))

    one, two, text = name(), name(), rng.randint(0, 99)
    return rng.choice(
        [
            f"mkdir -p {one}",
            f"mkdir -p $(dirname {one}) && echo {text} > {one}",
            f"echo {text} >> {one}",
            f"rm -rf {one}",
            f"rm -rf {one} && mkdir -p {one} && echo {text} > {one}/n",
            f"mv -T {one} {two}",
            f"cp -r {one} {two}",
            f"ln -sfn {one} {two}",
            f"chmod {rng.choice(['700', '755', '711'])} {one}",
            f"rm -rf {one}/pipe && mkfifo {one}/pipe",  # never written to: opening it would wait for a reader
            f"cp -a {one} {two}",
            f"rm -rf /etc/skel && mkdir -p /etc/skel && echo {text} > /etc/skel/x",
            f"rm -rf /etc/perl /opt; mkdir -p /opt; echo {text} > /etc/perl",
        ]
    )


@pytest.mark.parametrize("seed", range(3))
def test_many_kept_states_are_what_one_long_session_is(
    bubblewrap: BubblewrapBackend, begin: Callable[[], Sandbox], seed: int
) -> None:
    rng = random.Random(seed)
    commands = [f"{{ {random_command(rng)}; }} 2>/dev/null" for _ in range(3 * MAX_LAYERS)]
    kept, plain = begin(), begin()
    snapshots = [taken(kept)]
    for command in commands:
        assert kept.run(command, timeout=10).ending == plain.run(command, timeout=10).ending == "exit"
        snapshots.append(taken(kept))
    chains = [snapshot.payload for snapshot in snapshots if isinstance(snapshot.payload, Chain)]
    assert len(chains[-1].parts) > MAX_LAYERS >= max(len(chain.layers) for chain in chains)
    there = "; find /etc/skel /etc/perl /opt -type f -exec sha256sum {} + 2>&1 | sort"
    assert kept.run(UNTIMED + there).output == plain.run(UNTIMED + there).output
    assert bubblewrap.changes(snapshots[-1], taken(plain)) == []
    # A state in the middle is still what it was, and its differences from the end are the same either way.
    middle = len(commands) // 2
    replayed = begin()
    for command in commands[:middle]:
        replayed.run(command)
    assert bubblewrap.changes(snapshots[middle], taken(replayed)) == []
    again = bubblewrap.load(snapshots[middle])
    assert again.run(UNTIMED).output == replayed.run(UNTIMED).output
    again.stop()
    forward = bubblewrap.changes(snapshots[middle], snapshots[-1])
    assert [change.row() for change in forward] == [
        change.row() for change in bubblewrap.changes(taken(replayed), taken(plain))
    ]


def test_three_hundred_turns(bubblewrap: BubblewrapBackend, begin: Callable[[], Sandbox]) -> None:
    box = begin()
    box.run("mkdir big; for i in $(seq 3000); do echo $i > big/$i; done")
    snapshots = [taken(box)]
    for turn in range(300):
        box.run(f"echo {turn} >> log; rm big/{turn + 1}; x={turn}")
        snapshots.append(taken(box))
    for turn in (0, 1, 137, 300):
        fork = bubblewrap.load(snapshots[turn])
        found = fork.run("cat log 2>/dev/null | wc -l; ls big | wc -l; echo ${x--}").output.split()
        assert found == [str(turn), str(3000 - turn), str(turn - 1) if turn else "-"]
        fork.stop()
    # The first layer holds more than all that came later: it is not copied along.
    last = snapshots[-1].payload
    assert isinstance(last, Chain) and last.layers[0].entries > 3000


def test_times_and_permissions_survive_merging(bubblewrap: BubblewrapBackend, begin: Callable[[], Sandbox]) -> None:
    box = begin()
    box.run("mkdir -p d/e; echo 1 > d/e/f; chmod 640 d/e/f; chmod 2751 d/e; chown 12:34 d/e/f 2>/dev/null")
    for turn in range(2 * MAX_LAYERS):
        box.run(f"touch -d '2001-01-01 00:00:{turn % 60:02}' d/e/f; echo {turn} > other{turn % 5}")
        taken(box)
    box.run("touch -d 2002-02-02 d/e d")
    before = box.run(LISTING).output
    snapshot = taken(box)
    fork = bubblewrap.load(snapshot)
    assert fork.run(LISTING).output == before
    fork.stop()


def test_merging_shows_in_no_listing(bubblewrap: BubblewrapBackend, begin: Callable[[], Sandbox]) -> None:
    box = begin()
    for turn in range(2 * MAX_LAYERS):
        box.run(f"echo {turn} > f{turn}")
        snapshot = taken(box)
    fork = bubblewrap.load(snapshot)
    assert fork.run("find . -type f -links +1; stat -c %h f0").output == "1\n"
    fork.stop()


def test_layers_go_when_nobody_stands_on_them(bubblewrap: BubblewrapBackend, begin: Callable[[], Sandbox]) -> None:
    folders = bubblewrap.layers.folder
    others = set(folders.iterdir())
    box = begin()
    snapshots = []
    for turn in range(5):
        box.run(f"echo {turn} > file{turn}")
        snapshots.append(taken(box))
    assert len(set(folders.iterdir()) - others) >= 5
    fork = bubblewrap.load(snapshots[2])
    for snapshot in snapshots:
        bubblewrap.close(snapshot)
    box.stop()
    assert fork.run("cat file0 file1 file2").output == "0\n1\n2\n"
    fork.stop()
    assert set(folders.iterdir()) - others == set()
