"""Repositories that end at a commit: nothing later is anywhere in the sandbox, whatever the source holds or tries."""

from __future__ import annotations

import base64
import io
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from needs import missing
from planted import BUGGY, MARK, Planted, commit, git, plant

from pivotgym.envs.errors import BadInput, MissingExtra, NotRestorable
from pivotgym.envs.repo import blind, git_sources
from pivotgym.envs.repo.repository import blind_archive, setup_of
from pivotgym.envs.repo.tasks import Repository, RepoTask
from pivotgym.envs.sandbox import Backend, Sandbox, SandboxUnavailable, get_backend
from pivotgym.envs.terminal.prepare import prepare
from pivotgym.envs.terminal.tasks import Setup

WORKDIR = "/testbed"


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setattr("pivotgym.envs.repo.repository.cache_folder", lambda: folder)
        patch.setattr(git_sources, "cache_folder", lambda: folder)
        yield


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module", params=["bubblewrap", "docker"])
def backend(request: pytest.FixtureRequest) -> Backend:
    try:
        return get_backend(request.param)
    except (SandboxUnavailable, MissingExtra) as error:
        missing(str(error))
        raise


@pytest.fixture
def started(backend: Backend) -> Iterator[Callable[[RepoTask], Sandbox]]:
    boxes: list[Sandbox] = []

    def start(spec: RepoTask) -> Sandbox:
        image = "host"
        if backend.name == "docker":
            from pivotgym.envs.sandbox.docker import DEFAULT_IMAGE

            image = str(DEFAULT_IMAGE)
        boxes.append(prepare(backend, spec, image))
        return boxes[-1]

    yield start
    for box in boxes:
        box.stop()


def clone_of(planted: Planted, **changes: object) -> RepoTask:
    repository = Repository(kind="clone", source=str(planted.path), commit=planted.start)
    return RepoTask(repository=repository.model_copy(update=changes))


def in_image(planted: Planted, **changes: object) -> RepoTask:
    """The planted repository with all it has, as an image would hold it."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.add(planted.path, "testbed")
        archive.add(planted.path.parent / "other", "opt/copy")
        content = b"a wheel"
        member = tarfile.TarInfo("root/.cache/pip/http/calc-2.whl")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    repository = Repository(kind="image", commit=planted.start).model_copy(update=changes)
    return RepoTask(repository=repository, setup=Setup(archives=[base64.b64encode(data.getvalue()).decode()]))


LOOKS = {
    "log": "git log --all --format='%H %B'",
    "lost": "git fsck --lost-found 2>&1; cat .git/lost-found/*/* 2>/dev/null",
    "reachable": "git rev-list --objects --all --reflog",
    "objects": "git cat-file --batch-all-objects --batch",
    "files": "grep -ra . .git",
    "reflog": "git reflog show --all; git stash list; git notes list",
    "settings": "git config --list; git remote -v; git branch -a; git tag -n9; git worktree list",
}


def seen(box: Sandbox, planted: Planted) -> dict[str, str]:
    """Where something of the future shows."""
    marks = (MARK, planted.fix, planted.fix[:10], "token-5d1e")
    found = {}
    for name, command in LOOKS.items():
        result = box.run(f"{{ {command}; }} > /tmp/look 2>&1; grep -aoE '{'|'.join(marks)}' /tmp/look | sort | uniq -c")
        if result.output.strip():
            found[name] = result.output
    return found


def test_the_source_shows_its_future_in_all_these_ways(planted: Planted) -> None:
    """Or the tests below would find nothing for the wrong reason."""
    for name, command in LOOKS.items():
        done = subprocess.run(["bash", "-c", command], cwd=planted.path, capture_output=True, check=False)
        text = done.stdout.decode(errors="replace")
        assert MARK in text or planted.fix in text, name
    git(planted.path, "fsck")
    (planted.path / ".git" / "lost-found").exists() and subprocess.run(
        ["rm", "-r", str(planted.path / ".git" / "lost-found")], check=True
    )


@pytest.mark.parametrize("kind", ["clone", "image"])
def test_nothing_of_the_future_is_in_the_sandbox(
    kind: str, planted: Planted, started: Callable[[RepoTask], Sandbox]
) -> None:
    box = started(clone_of(planted) if kind == "clone" else in_image(planted))
    assert seen(box, planted) == {}
    assert blind.check(box, WORKDIR, planted.start) == []
    assert box.run("git status --porcelain; git diff-files; git stash list").output == ""
    assert box.run("git rev-parse HEAD; git branch --show-current").output.split() == [planted.start, "main"]
    assert box.run("git log --format=%s").output.splitlines() == ["Add numbers", "Begin"]
    assert box.run("git tag; git describe --tags").output.split() == ["v1", "v1.1", "v1.1"]
    assert box.run("cat calc.py").output == BUGGY
    assert box.run("ls /opt/copy/.git /root/.cache/pip").status != 0
    # An agent can work: commit, stash, branch.
    work = "echo x >> calc.py && git stash -q && git stash pop -q && git checkout -q -b b && git commit -qam x"
    assert box.run(f"{work} && git gc -q").status == 0


def test_what_an_agent_leaves_of_the_past_is_no_future(
    planted: Planted, started: Callable[[RepoTask], Sandbox]
) -> None:
    box = started(clone_of(planted))
    assert box.run("git checkout -q --detach HEAD~ && git checkout -q main && git reset -q --hard HEAD").status == 0
    assert blind.check(box, WORKDIR, planted.start) == []


def test_check_names_what_shows(planted: Planted, started: Callable[[RepoTask], Sandbox]) -> None:
    spec = in_image(planted)
    raw = spec.model_copy(update={"repository": Repository(kind="archive")})
    found = blind.check(started(raw), WORKDIR, planted.start)
    text = "\n".join(found)
    for part in (
        f"later commit: {planted.fix}",
        "object that the past does not need",
        "reference: refs/stash",
        "reference: refs/notes/commits",
        "reference: refs/replace/",
        "reference: refs/pull/7/head",
        "reference to later: refs/tags/v2",
        "reference to later: refs/heads/feature-",
        "left in the git folder: logs",
        "left in the git folder: FETCH_HEAD",
        "left in the git folder: ORIG_HEAD",
        "left in the git folder: worktrees",
        "hook: ",
        "setting: remote.origin.url",
        "credentials: ",
        "downloads of packages: /root/.cache/pip",
        "another copy: /opt/copy/.git",
    ):
        assert part in text, (part, text)


@pytest.mark.parametrize("kind", ["clone", "image"])
def test_a_patch_that_brings_the_bug_leaves_one_commit(
    kind: str, planted: Planted, started: Callable[[RepoTask], Sandbox]
) -> None:
    patch = git(planted.path, "diff", planted.fix, planted.start, "--", "calc.py")
    changes = {"commit": planted.fix, "patch": patch}
    box = started(clone_of(planted, **changes) if kind == "clone" else in_image(planted, **changes))
    assert seen(box, planted) == {}
    assert blind.check(box, WORKDIR, "") == []
    assert box.run("cat calc.py; git rev-list --count --all; git status --porcelain").output == f"{BUGGY}1\n"


@pytest.mark.parametrize("backend", ["bubblewrap"], indirect=True)
def test_an_image_that_stands_at_the_fix_goes_back(
    planted: Planted, tmp_path: Path, started: Callable[[RepoTask], Sandbox]
) -> None:
    subprocess.run(["cp", "-a", str(planted.path), str(tmp_path / "calc")], check=True)
    (tmp_path / "other").mkdir()
    git(tmp_path / "calc", "checkout", "-q", "-f", "main")
    (tmp_path / "calc" / "built.so").write_text("a build product\n")
    later = Planted(tmp_path / "calc", planted.start, planted.fix, planted.first)
    box = started(in_image(later))
    assert blind.check(box, WORKDIR, planted.start) == [] and seen(box, planted) == {}
    assert box.run("cat calc.py built.so").output == BUGGY + "a build product\n"


@pytest.mark.parametrize("backend", ["bubblewrap"], indirect=True)
def test_the_commit_of_a_swe_bench_image_stays(
    planted: Planted, tmp_path: Path, started: Callable[[RepoTask], Sandbox]
) -> None:
    subprocess.run(["cp", "-a", str(planted.path), str(tmp_path / "calc")], check=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "calc" / "tox.ini").write_text("[tox]\n")
    git(tmp_path / "calc", "add", "tox.ini")
    who = ("-c", "user.name=SWE-bench", "-c", "user.email=setup@swebench.config")
    author = "--author=SWE-bench <setup@swebench.config>"
    git(tmp_path / "calc", *who, "commit", "-q", author, "-m", "SWE-bench", when=40)
    box = started(in_image(Planted(tmp_path / "calc", planted.start, planted.fix, planted.first)))
    assert blind.check(box, WORKDIR, planted.start) == [] and seen(box, planted) == {}
    assert box.run("git log --format=%s; cat tox.ini").output == "SWE-bench\nAdd numbers\nBegin\n[tox]\n"


@pytest.mark.parametrize("backend", ["bubblewrap"], indirect=True)
def test_another_user_owns_the_repository_and_install_runs_as_root(
    planted: Planted, started: Callable[[RepoTask], Sandbox]
) -> None:
    spec = clone_of(planted, install="id -un > installed && pwd >> installed")
    spec = spec.model_copy(update={"user": "nobody", "setup": Setup(script="touch /testbed/mine; exit 0")})
    box = started(spec)
    assert box.run("cat installed; ls mine").output == "root\n/testbed\nmine\n"
    assert box.run("echo x > calc.py && git commit -qam x && git log --format=%s -1").output == "x\n"


@pytest.mark.parametrize("backend", ["bubblewrap"], indirect=True)
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"install": "echo no compiler >&2; exit 3"}, "status 3.*no compiler"),
        ({"kind": "image", "commit": "0" * 40}, "no repository in /testbed"),
    ],
)
def test_a_repository_that_cannot_be_set_up_is_no_start(
    changes: dict[str, object], said: str, planted: Planted, started: Callable[[RepoTask], Sandbox]
) -> None:
    with pytest.raises(NotRestorable, match=f"(?s)setup_failed.*{said}"):
        started(clone_of(planted, **changes))


# Archives ---------------------------------------------------------------------------------------------------------


def unpacked(data: bytes, folder: Path) -> Path:
    folder.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        archive.extractall(folder, filter="fully_trusted")
    return folder / "testbed"


def test_the_same_source_gives_the_same_bytes(planted: Planted, tmp_path: Path) -> None:
    one = blind_archive(str(planted.path), planted.start, remake=True)
    assert one == blind_archive(str(planted.path), planted.start[:12], remake=True)
    assert one == blind_archive(str(planted.path), "v1.1")  # from the cache
    assert one == blind_archive(str(planted.path.parent / "tree"), planted.start)  # a worktree
    git(tmp_path, "clone", "-q", "--bare", str(planted.path), "bare.git")
    bare = unpacked(blind_archive(str(tmp_path / "bare.git"), planted.start, remake=True), tmp_path / "a")
    assert git(bare, "rev-parse", "HEAD") == planted.start
    assert not (planted.path.parent / "hook-ran").exists()


def test_a_shallow_source_stays_shallow(planted: Planted, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "--depth=1", "--branch=v1.1", f"file://{planted.path}", "short")
    tree = unpacked(blind_archive(str(tmp_path / "short"), planted.start), tmp_path / "out")
    assert git(tree, "rev-list", "--all") == planted.start
    assert git(tree, "status", "--porcelain") == "" and git(tree, "fsck") == ""
    with pytest.raises(NotRestorable, match="no_repository"):
        blind_archive(str(tmp_path / "short"), planted.first)


def test_files_of_every_kind_arrive(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    git(source, "init", "-q", "-b", "main")
    (source / "run.sh").write_text("#!/bin/sh\n")
    (source / "run.sh").chmod(0o755)
    (source / "link").symlink_to("run.sh")
    (source / "crlf.txt").write_bytes(b"one\r\n")
    (source / ".gitattributes").write_text("*.txt text eol=crlf\n*.bin filter=evil\n")
    (source / "data.bin").write_bytes(bytes(range(256)))
    (source / "ümläut \t name").write_text("x\n")
    start = commit(source, "All", 0)
    git(source, "config", "filter.evil.smudge", f"touch {tmp_path}/smudged; cat")
    git(source, "config", "filter.evil.clean", f"touch {tmp_path}/cleaned; cat")
    tree = unpacked(blind_archive(str(source), start), tmp_path / "out")
    assert (tree / "run.sh").stat().st_mode & 0o111 and (tree / "link").readlink() == Path("run.sh")
    assert (tree / "crlf.txt").read_bytes() == b"one\r\n" and (tree / "data.bin").read_bytes() == bytes(range(256))
    assert git(tree, "status", "--porcelain") == "" and (tree / "ümläut \t name").exists()
    assert not (tmp_path / "smudged").exists() and not (tmp_path / "cleaned").exists()


@pytest.mark.parametrize(
    ("source", "commit_name"),
    [
        ("--upload-pack=touch /tmp/x", "0" * 40),
        ("-oProxyCommand=x", "0" * 40),
        ("ext::sh -c 'touch {mark}'", "0" * 40),
        ("fd::3", "0" * 40),
        ("ssh://-oProxyCommand=touch${{IFS}}{mark}/x", "0" * 40),
        ("{source}", "--output={mark}"),
        ("{source}", "-h"),
        ("{source}", "a..b"),
        ("{source}", "main:calc.py"),
        ("", "0" * 40),
    ],
)
def test_what_git_would_take_for_an_option_or_a_program_is_refused(
    source: str, commit_name: str, planted: Planted, tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    with pytest.raises((BadInput, NotRestorable)):
        blind_archive(source.format(mark=mark, source=planted.path), commit_name.format(mark=mark))
    assert not mark.exists()


@pytest.mark.parametrize("name", ["--output=/tmp/x", "-h", "a b", "$(touch /tmp/x)^0"])
def test_no_commit_of_an_image_is_an_option(name: str) -> None:
    with pytest.raises(BadInput, match="no name of a commit"):
        setup_of(RepoTask(repository=Repository(kind="image", commit=name)))


def test_a_hostile_source_runs_nothing(planted: Planted, tmp_path: Path) -> None:
    source = tmp_path / "evil"
    subprocess.run(["cp", "-a", str(planted.path), str(source)], check=True)
    mark, run = tmp_path / "ran", tmp_path / "run.sh"
    run.write_text(f'#!/bin/sh\ntouch {mark}\nexec "$@"\n')
    run.chmod(0o755)
    for name, value in {
        "core.fsmonitor": str(run),
        "core.hooksPath": str(tmp_path),
        "core.sshCommand": str(run),
        "core.pager": str(run),
        "core.gitProxy": str(run),
        "core.alternateRefsCommand": str(run),
        "uploadpack.packObjectsHook": str(run),
        "diff.external": str(run),
        "remote.origin.promisor": "true",
        "remote.origin.url": f"ext::{run}",
        "remote.origin.uploadpack": str(run),
        "extensions.partialClone": "origin",
        "protocol.ext.allow": "always",
    }.items():
        git(source, "config", name, value)
    tree = unpacked(blind_archive(str(source), planted.start, remake=True), tmp_path / "one")
    again = unpacked(blind_archive(f"file://{source}", planted.start, remake=True), tmp_path / "two")
    assert git(tree, "rev-parse", "HEAD") == git(again, "rev-parse", "HEAD") == planted.start
    # A missing object would be fetched by a program that the source names.
    for pack in (source / ".git" / "objects" / "pack").iterdir():
        pack.unlink()
    with pytest.raises(NotRestorable, match="no_repository"):
        blind_archive(str(source), planted.start, remake=True)
    assert not mark.exists()


@pytest.mark.parametrize("source", ["/nowhere/at/all", "{tmp}", "https://127.0.0.1:1/owner/calc"])
def test_no_repository_is_a_typed_error(source: str, tmp_path: Path) -> None:
    with pytest.raises(NotRestorable) as raised:
        blind_archive(source.format(tmp=tmp_path), "0" * 40)
    assert raised.value.kind == "no_repository"


def test_a_url_is_fetched_once(planted: Planted, tmp_path: Path, http_git: Callable[[Path], str]) -> None:
    url = http_git(planted.path)
    tree = unpacked(blind_archive(url, planted.start, remake=True), tmp_path / "one")
    assert git(tree, "rev-list", "--all").split() == [planted.start, planted.first]
    (planted.path / ".git").rename(tmp_path / "away")
    try:
        assert blind_archive(url, planted.first)  # what was fetched is kept
    finally:
        (tmp_path / "away").rename(planted.path / ".git")


@pytest.fixture
def http_git() -> Iterator[Callable[[Path], str]]:
    """Serves a clone over plain HTTP, by the protocol that needs only files."""
    import functools
    import http.server
    import threading

    servers: list[http.server.ThreadingHTTPServer] = []

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    def serve(path: Path) -> str:
        git(path, "update-server-info")
        handler = functools.partial(Quiet, directory=str(path))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}/.git"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def test_the_cache_is_bounded(planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(blind_archive(str(planted.path), planted.start, remake=True))
    monkeypatch.setattr("pivotgym.envs.repo.repository.cache_folder", lambda: tmp_path)
    monkeypatch.setattr(git_sources, "CACHE_BYTES", int(size * 2.5))
    for at in ("/a", "/b", "/c", "/d"):
        blind_archive(str(planted.path), planted.start, at=at)
    kept = list(tmp_path.glob("*.tar"))
    assert len(kept) == 2 and sum(path.stat().st_size for path in kept) <= size * 2.5


def test_a_workdir_must_be_a_folder_of_its_own(planted: Planted) -> None:
    with pytest.raises(BadInput, match="workdir"):
        setup_of(clone_of(planted).model_copy(update={"workdir": "/"}))
