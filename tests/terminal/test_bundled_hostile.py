"""What an agent may leave behind to make a check fail instead of judging it: that is wrong, and no more."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing

import pytest
from needs import missing

from pivotgym.envs.errors import VerifierBug
from pivotgym.envs.sandbox import SandboxUnavailable, get_backend
from pivotgym.envs.snapshots import SnapshotStore
from pivotgym.envs.terminal.bundled import archives, build, look, make_task, repository
from pivotgym.envs.terminal.bundled.look import Look, Wrong, parse_json, same, table
from pivotgym.envs.terminal.env import TerminalEnv
from pivotgym.envs.trajectory import Message, ToolCall


@pytest.fixture(scope="module")
def env() -> Iterator[TerminalEnv]:
    try:
        get_backend("bubblewrap").clean()
    except SandboxUnavailable as error:
        missing(str(error))
    with closing(TerminalEnv(tasks="bundled", snapshots=SnapshotStore())) as made:
        yield made


HUGE = "SELECT 1 AS id, hex(zeroblob(400000000)) AS name"
LEFT: dict[str, tuple[str, str]] = {
    "a field of a table that is too long": (
        "scripting.flatten_json",
        "python3 -c \"print('a' * 200000)\" > people.csv; printf 'print(\"a\" * 200000)' > flatten.py",
    ),
    "no text": ("text.regional_sales", "head -c 3000 /dev/urandom > revenue.csv"),
    "JSON in JSON in JSON": (
        "scripting.merge_settings",
        "python3 -c \"print('[' * 900 + ']' * 900)\" > merged.json",
    ),
    "a number of many digits": ("scripting.merge_settings", "printf '%05000d' 7 | tr 0 1 > merged.json"),
    "a commit without a message": (
        "git.restore_deleted",
        "cd ops; git commit --amend -q --allow-empty-message -m ''",
    ),
    "a picked commit without a message": (
        "git.pick_fixes",
        "cd product; git commit --amend -q --allow-empty-message -m ''",
    ),
    "a name that is no text": ("files.mirror", "touch replica/$'\\xff\\xfe'"),
    "a view that is larger than memory": (
        "sqlite.unique_contacts",
        f"sqlite3 contacts.db 'DROP TABLE contacts' 'CREATE VIEW contacts AS {HUGE}'",
    ),
}


@pytest.mark.parametrize("what", LEFT)
def test_what_an_agent_leaves_is_wrong_and_no_bug(what: str, env: TerminalEnv) -> None:
    name, command = LEFT[what]
    env.reset(options={"task": make_task(name, 0)})
    for line in [*(line for _, line in build(name, 0).turns), command]:
        env.step(Message(role="assistant", tool_calls=[ToolCall(name="bash", arguments={"command": line})]))
    _, reward, _, _, info = env.step(Message(role="assistant", content=build(name, 0).final))
    assert reward == 0.0
    info["verdict"]["reason"].encode()  # as a log needs it


def header(name: str, size: bytes, kind: bytes = b"0") -> bytes:
    """A tar header with any size field."""
    block = bytearray(tarfile.TarInfo(name).tobuf(tarfile.GNU_FORMAT))
    block[124:136], block[156:157], block[148:156] = size, kind, b" " * 8
    block[148:155] = b"%06o\0" % sum(block)
    return bytes(block)


def long_names(count: int) -> bytes:
    return header("x", b"00000000001\0", b"L").join([b""] + [b"a".ljust(512, b"\0")] * count)


XZ = lzma.compress(b"x", filters=[{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 30}])
BOMB = io.BytesIO()
with zipfile.ZipFile(BOMB, "w", zipfile.ZIP_DEFLATED) as packed:
    packed.writestr("zeros", bytes(20 << 20))
TARS = {
    "a negative size": (header("x", b"\xff" * 11 + b"\x00"), ""),
    "long names without end": (long_names(3000), ""),
    "a bomb": (gzip.compress(bytes(40 << 20)), "gz"),
    "a dictionary larger than memory": (XZ, "xz"),
    "noise": (hashlib.sha256(b"").digest() * 40, ""),
    "a broken stream": (zlib.compress(b"x" * 999)[:20], "gz"),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("what", TARS)
def test_archives_that_are_traps(what: str) -> None:
    data, kind = TARS[what]
    with pytest.raises(Wrong):
        same(archives._tar(data, kind), {"x": b""}, "the archive")
    for text in (BOMB.getvalue(), BOMB.getvalue()[:-30], data):
        with pytest.raises(Wrong):
            archives._zip(text)


def test_sound_archives_are_read() -> None:
    files = {"a/b": b"1\n", "c" * 120: b"22\n"}
    packed, zipped = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz", preset=9) as tar, zipfile.ZipFile(zipped, "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
            archive.writestr(name, data)
    assert archives._tar(packed.getvalue(), "xz") == archives._zip(zipped.getvalue()) == files


def test_values_that_cannot_be_shown() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (deep, 10**5000):
        with pytest.raises(Wrong, match="the value is wrong"):
            same(value, 1, "the value")
    for text in ("[" * 200_000, "1" * 5000, '{"a": '):
        with pytest.raises(Wrong):
            parse_json(text)
    for data in (b"a," + b"x" * 200_000, b'"\xff"', b"\0"):
        with pytest.raises(Wrong):
            table([["a"]])(data)


def test_objects_that_no_git_prints() -> None:
    assert repository._parse((f"{'0' * 40} blob ²\nxx\n").encode()) == {}
    assert repository._parse((f"{'0' * 40} blob {'9' * 5000}\nxx\n").encode()) == {}
    assert list(repository._parse(b"0 blob 2\nxx\n").values()) == [("blob", b"xx")]


def test_folders_that_stand_for_more_than_can_be() -> None:
    """Twenty trees, each of ten times the one before."""
    made = object.__new__(repository.Repository)
    made._objects, made._walked = {}, 0
    blob = made._objects.setdefault(repository._hash("blob", b""), ("blob", b""))
    id, mode = repository._hash(*blob), "100644"
    for _ in range(20):
        content = b"".join(f"{mode} {number}\0".encode() + bytes.fromhex(id) for number in range(10))
        id, mode = repository._hash("tree", content), "40000"
        made._objects[id] = ("tree", content)
    with pytest.raises(Wrong, match="too many files"):
        made.files(repository.Commit("", id, (), "", ""))


def test_what_else_a_check_raises_is_a_bug(env: TerminalEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Look, path: str) -> bytes:
        raise KeyError(path)

    monkeypatch.setattr(look.Look, "bytes", broken)
    env.reset(options={"task": make_task("files.mirror", 0)})
    with pytest.raises(VerifierBug, match="KeyError on the action"):
        env.step(Message(role="assistant", content="done"))
