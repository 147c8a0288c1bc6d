"""Recorded sites: pages of the live web, replayed offline from a HAR archive.

A request that the archive does not hold is answered with an error and noted for the report of the restore. Nothing is
ever asked of the network.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar
from urllib.parse import urljoin, urlsplit

from pivotgym.envs.browser.cookies import lasting
from pivotgym.envs.browser.tasks import Answer, BrowserTask, Final, Request, Site, TaskSet
from pivotgym.envs.errors import BadInput, InfrastructureError, NotRestorable
from pivotgym.envs.trajectory import JsonObject, Task
from pivotgym.envs.verdict import Verdict

_DROPPED = frozenset(
    {
        "content-encoding",  # archives hold the decoded body
        "content-length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "alt-svc",
        "strict-transport-security",
        "report-to",
        "nel",
    }
)


_MAX_REDIRECTS = 20
MAX_BYTES = 512 << 20
"""Archives that hold more, unpacked and with their bodies, are refused."""
_MAX_KEPT = 8


class NoGoal(InfrastructureError):
    """A recorded site has no goal of its own: its episodes cannot be judged."""


class Archive:
    """The responses of a HAR file by request; a ``.har.zip`` of Playwright's holds it with the bodies beside it.

    Several for one request are given in the order they were recorded; the last one repeats.

    Attributes:
        digest: SHA-256 of the file, hexadecimal; bodies in files beside it are not in it.
        size: bytes of the HAR document and of all bodies, each counted once.
        failed: requests that had no answer when it was recorded, blocked or cancelled ones.
        navigations: method and address of every document that was asked for in a tab, in order; where that led on to
            another address, the first one.
        started: when it was recorded, in milliseconds since 1970; None where it does not say so.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with _located(path, "log.entries"):
            self.digest = _digest(path)
        self.size = 0
        self.answers: dict[str, list[Answer]] = {}
        self.failed: set[str] = set()
        self.first_page: str | None = None
        self.started: int | None = None
        self._bodies: dict[str, bytes] = {}
        self._zip: zipfile.ZipFile | None = None
        try:
            with _located(path, "log.entries", "no HAR archive"):
                entries = json.loads(self._text())["log"]["entries"]
            if not isinstance(entries, list):
                raise BadInput("no HAR archive: not a list", file=path, field="log.entries")
            for position, entry in enumerate(entries):
                with _located(path, f"log.entries.{position}"):
                    self._add(entry)
        finally:
            self._bodies.clear()
            if self._zip is not None:
                self._zip.close()
        self.navigations = _navigations(entries, path)

    def _text(self) -> str:
        if not zipfile.is_zipfile(self.path):
            self._take(self.path.stat().st_size)
            return self.path.read_text(encoding="utf-8-sig")
        self._zip = zipfile.ZipFile(self.path)
        names = [name for name in self._zip.namelist() if name.endswith(".har") and "/" not in name]
        if len(names) != 1:
            raise BadInput(f"the zip holds {len(names)} .har files, not one", file=self.path)
        return self._unpacked(self._zip, names[0]).decode("utf-8-sig")

    def _take(self, size: int) -> None:
        self.size += size
        if self.size > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES} bytes unpacked")

    def _unpacked(self, file: zipfile.ZipFile, name: str) -> bytes:
        try:
            info = file.getinfo(name)
            self._take(info.file_size)
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError("neither stored nor deflated")
            with file.open(info) as packed:
                return packed.read(info.file_size)  # with a size it unpacks no more, whatever the file really holds
        except Exception as error:  # what a broken zip raises is not documented
            raise ValueError(f"{name}: {error}") from error

    def _add(self, entry: JsonObject) -> None:
        request, response = entry["request"], entry["response"]
        if not request["url"].startswith(("http://", "https://")):
            return  # it never left the browser
        urlsplit(request["url"])  # raises for an address that is none
        if int(response["status"]) <= 0:  # blocked or cancelled: this has no answer here either
            self.failed.add(_keys(request["method"], request["url"], b"")[0])
            return
        body = self._body(response.get("content") or {})
        headers = [
            (str(header["name"]), line)
            for header in response.get("headers", ())
            if str(header["name"]).lower() not in _DROPPED and not str(header["name"]).startswith(":")
            for line in _lines(str(header["name"]), str(header["value"]), _time(entry))
        ]
        posted = self._body(request.get("postData") or {})
        answer = Answer(int(response["status"]), headers, body)
        _target(request["url"], answer)
        self.answers.setdefault(_keys(request["method"], request["url"], posted)[0], []).append(answer)
        if (time := _time(entry)) is not None:
            self.started = time if self.started is None else min(self.started, time)
        if self.first_page is None and "html" in str((response.get("content") or {}).get("mimeType", "")):
            self.first_page = request["url"]

    def _body(self, content: JsonObject) -> bytes:
        if "_file" in content:
            name = str(content["_file"])
            if name not in self._bodies:  # many entries may name one
                self._bodies[name] = self._beside(name) if self._zip is None else self._unpacked(self._zip, name)
            return self._bodies[name]
        text = content.get("text") or ""
        encoded = content.get("encoding") == "base64"
        body = base64.b64decode(text) if encoded else str(text).encode("utf-8", "surrogatepass")
        self._take(len(body))
        return body

    def _beside(self, name: str) -> bytes:
        """Playwright's archives may hold bodies in files beside them."""
        wanted = (self.path.parent / name).resolve()
        if not wanted.is_relative_to(self.path.parent.resolve()):
            raise ValueError(f"a body outside the archive's folder: {name}")
        size = wanted.stat().st_size
        if not wanted.is_file():
            raise ValueError(f"a body that is no regular file: {name}")
        self._take(size)
        return wanted.read_bytes()


def _lines(name: str, value: str, time: int | None) -> list[str]:
    """The values of one recorded header: some recorders write all cookies into one, a line each.

    Whether a cookie was set or deleted is told by the time it was recorded at, not by when the archive begins.
    """
    if name.lower() != "set-cookie":
        return [value.replace("\n", " ")]
    return [line if time is None else lasting(line, time) for line in value.splitlines()]


def _time(entry: JsonObject) -> int | None:
    """When it was asked for, in milliseconds since 1970, where it says so; some recorders write the year 1 or 1970."""
    try:
        at = datetime.fromisoformat(str(entry.get("startedDateTime", "")))
    except ValueError:
        return None
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000) if at.year >= 1990 else None


def _digest(path: Path) -> str:
    size = path.stat().st_size
    if not path.is_file():
        raise BadInput("not a regular file", file=path)
    if size > MAX_BYTES:
        raise BadInput(f"more than {MAX_BYTES} bytes", file=path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _located(path: Path, field: str, problem: str = "unusable entry") -> Iterator[None]:
    """Whatever is wrong inside with the archive is a BadInput that says where."""
    try:
        yield
    except BadInput:
        raise
    except OSError as error:
        raise BadInput(str(error), file=path, field=field) from error
    except Exception as error:  # strangers' JSON may hold anything anywhere
        raise BadInput(f"{problem}: {error!r}", file=path, field=field) from error


def _navigations(entries: Sequence[JsonObject], path: Path) -> list[tuple[str, str]]:
    asked = sorted(enumerate(entries), key=lambda one: str(one[1].get("startedDateTime", "")))
    found: list[tuple[str, str]] = []
    frames: dict[str, str] = {}
    led_to: str | None = None
    for position, entry in asked:
        with _located(path, f"log.entries.{position}"):
            request, response = entry["request"], entry["response"]
            if int(response["status"]) <= 0 or not request["url"].startswith(("http://", "https://")):
                continue
            if not _is_document(entry) or _in_frame(entry, frames):
                continue
            if request["url"] != led_to:
                found.append((str(request["method"]).upper(), str(request["url"])))
            target = response.get("redirectURL") if 300 <= int(response["status"]) < 400 else ""
            led_to = urljoin(request["url"], target) if target else None
    return found


def _is_document(entry: JsonObject) -> bool:
    """Whether a tab asked for it: said by the browser, by the recorder, or told from what came back."""
    headers = {str(header["name"]).lower(): header["value"] for header in entry["request"].get("headers", ())}
    if "sec-fetch-dest" in headers:
        return bool(headers["sec-fetch-dest"] == "document")
    if "_resourceType" in entry:
        return bool(entry["_resourceType"] == "document")
    kind = str((entry["response"].get("content") or {}).get("mimeType", ""))
    return "html" in kind and "x-requested-with" not in headers


def _in_frame(entry: JsonObject, frames: dict[str, str]) -> bool:
    """Playwright says which frame asked: a page's first one is the page's own."""
    frame = entry.get("_frameref")
    return frame is not None and frames.setdefault(str(entry.get("pageref")), str(frame)) != frame


def _target(url: str, answer: Answer | None) -> str | None:
    """Where a redirect leads."""
    if answer is None or answer.status not in (301, 302, 303, 307, 308):
        return None
    location = next((value for name, value in answer.headers if name.lower() == "location"), None)
    return urljoin(url, location) if location else None


def _keys(method: str, url: str, body: bytes) -> list[str]:
    """Under which a request is found: the first is what it was recorded as with this body.

    The second is that of a record that does not say what was posted: any body may be meant by it.
    """
    plain = f"{method.upper()} {url.partition('#')[0]}"
    if not body:
        return [plain]
    return [f"{plain} {hashlib.sha256(_without_boundary(body)).hexdigest()}", plain]


def _without_boundary(body: bytes) -> bytes:
    """A form in parts, without the separator that browsers draw anew each time."""
    line = body.partition(b"\r\n")[0]
    if len(line) > 2 and line.startswith(b"--") and body.rstrip(b"\r\n").endswith(b"\r\n" + line + b"--"):
        return body.replace(line, b"--")
    return body


def _version(path: str) -> tuple[int, int]:
    file = Path(path).stat()
    return file.st_mtime_ns, file.st_size


_kept: OrderedDict[str, tuple[tuple[int, int], Archive]] = OrderedDict()
_keeping = Lock()


def read_archive(path: str) -> Archive:
    """The archive at ``path``; a few are kept in memory until their files change.

    Raises:
        BadInput: no archive, a broken one, or one of more than :data:`MAX_BYTES`.
    """
    with _located(Path(path), "log.entries"):
        version = _version(path)
    known = _known(path, version)
    if known is not None:
        return known
    archive = Archive(Path(path))
    with _keeping:
        _kept[path] = (version, archive)
        _kept.move_to_end(path)
        while len(_kept) > _MAX_KEPT or sum(one.size for _, one in _kept.values()) > MAX_BYTES:
            _kept.popitem(last=False)
    return archive


def _known(path: str, version: tuple[int, int]) -> Archive | None:
    with _keeping:
        known = _kept.get(path)
        if known is None or known[0] != version:
            return None
        _kept.move_to_end(path)
        return known[1]


def find_archive(stored: str, digest: str, folders: Sequence[Path] = ()) -> Archive:
    """The archive with that digest: at the stored path, or by its name in the working folder or one of ``folders``.

    A file with another digest is not read further, whatever it is.

    Args:
        stored: where it was when the task was made, maybe on another machine.
        digest: SHA-256 of the file, hexadecimal.
        folders: where else to look.

    Raises:
        NotRestorable: it is at none of these places (``no_archive``), or only other files of its name are
            (``other_archive``).
        BadInput: it is broken.
    """
    name = stored.replace("\\", "/").rpartition("/")[2]
    others: list[str] = []
    for path in dict.fromkeys([Path(stored), *(folder.resolve() / name for folder in (Path(), *folders))]):
        try:
            known = _known(str(path), _version(str(path)))
            found = known.digest if known is not None else _digest(path)
        except (OSError, ValueError, BadInput):
            continue
        if found == digest:
            return read_archive(str(path))
        others.append(str(path))
    if others:
        raise NotRestorable("other_archive", f"not the archive that was recorded with (sha256 {digest}): {others}")
    raise NotRestorable("no_archive", f"{name} is neither at {stored} nor in the working folder")


class RecordedSite:
    """Answers from an archive; its state is how often each request was made."""

    intercepts = True

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._asked: dict[str, int] = {}

    def handle(self, request: Request) -> Answer | None:
        """The recorded response, or None."""
        url = f"{request.scheme}://{request.host}{request.port}{request.path}"
        url += f"?{request.query}" if request.query else ""
        found = self._recorded(request.method, url, request.body)
        if found is None and _keys(request.method, url, b"")[0] in self._archive.failed:
            return Answer(502)
        target = _target(url, found)
        if found is None or target is None:
            return found
        # What a redirect leads to is asked for behind the interceptor's back. So a document goes there by itself, and
        # everything else is given what lies there.
        kept = [(name, value) for name, value in found.headers if name.lower() not in ("location", "content-type")]
        if "text/html" in request.headers.get("accept", ""):
            spelled = json.dumps(target).replace("<", "\\u003c")
            script = f"<script>location.replace({spelled})</script>"
            return Answer(200, [*kept, ("Content-Type", "text/html; charset=utf-8")], script.encode())
        for _ in range(_MAX_REDIRECTS):
            keeps = found.status in (307, 308)
            method, body = (request.method, request.body) if keeps else ("GET", b"")
            url, found = target, self._recorded(method, target, body)
            target = _target(url, found)
            if found is None or target is None:
                return found
        return None

    def _recorded(self, method: str, url: str, body: bytes) -> Answer | None:
        for key in _keys(method, url, body):
            found = self._archive.answers.get(key)
            if found:
                asked = self._asked.get(key, 0)
                self._asked[key] = asked + 1
                return found[min(asked, len(found) - 1)]
        return None

    def save(self) -> bytes:
        """How often each request was made."""
        return json.dumps(self._asked, sort_keys=True).encode()

    def load(self, state: bytes) -> None:
        """Goes back to a saved state."""
        self._asked = json.loads(state)

    def facts(self, state: bytes) -> dict[str, Any]:
        """Nothing: what was asked how often is no property of a page."""
        return {}

    def close(self) -> None:
        """Nothing."""


class RecordedSites(TaskSet):
    """Sessions on recorded sites: they can be restored and compared; their goal nobody knows."""

    name: ClassVar[str] = "recorded"
    archived: ClassVar[bool] = True
    folders: ClassVar[list[Path]] = []
    """Where archives are looked for beside their old place and the working folder: the trajectories' folders, say."""

    def tasks(self) -> Sequence[Task]:
        """None: they come with their recordings."""
        return []

    def open(self, task: Task, spec: BrowserTask) -> Site:
        """Serves the archive."""
        path, digest = spec.definition.get("har"), spec.definition.get("sha256")
        if not isinstance(path, str):
            raise NotRestorable("bad_task", f"task {task.id} names no HAR archive (data.definition.har)")
        if not isinstance(digest, str):  # without one a stranger's task could have any file read
            raise NotRestorable("bad_task", f"task {task.id} has no digest of its archive (data.definition.sha256)")
        return RecordedSite(find_archive(path, digest, self.folders))

    def goal(self, task: Task, final: Final) -> Verdict:
        """Raises NoGoal."""
        raise NoGoal(f"task {task.id} comes from a recording, which does not say what its goal is")


def har_task(path: str | Path, url: str | None = None, *, goal: str | None = None, **fields: Any) -> Task:
    """A task on the sites of a HAR archive.

    Args:
        path: the archive.
        url: where to start; by default the first page in it.
        goal: what the user asks.
        fields: more of :class:`BrowserTask`'s; the pages' clock is the archive's unless it is among them.

    Raises:
        BadInput: no archive, or one without a page.
    """
    archive = read_archive(str(path))
    start = url or archive.first_page
    if start is None:
        raise BadInput("the archive holds no page", file=path, field="log.entries")
    if archive.started is not None:
        fields.setdefault("clock", archive.started)
    definition = {"har": str(Path(path).resolve()), "sha256": archive.digest}
    spec = BrowserTask(
        set="recorded", name=urlsplit(start).netloc, url=start, goal=goal, definition=definition, **fields
    )
    return spec.task(f"recorded.{Path(path).stem}")
