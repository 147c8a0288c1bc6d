"""Tasks from rows in SWE-bench's form: SWE-bench itself (Lite, Verified), SWE-Gym, SWE-smith, SWE-rebench, NeMo Gym.

Fields are looked for in the row, then in what some sets wrap it in (``instance``, ``instance_dict``, ``metadata``,
``responses_create_params.metadata``), each as an object or as JSON text. The whole row stays in the task's
``definition["row"]``, so nothing is lost.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ValidationError

from pivotgym.envs.errors import BadInput
from pivotgym.envs.repo.git_sources import local_source
from pivotgym.envs.repo.swebench_rows import Row, raw_rows
from pivotgym.envs.repo.swebench_specs import ACTIVATE, IMAGE_PYTHON, commands_of, is_node_id
from pivotgym.envs.repo.tasks import Repository, RepoTask, RepoTaskSet, Tests
from pivotgym.envs.sandbox import Limits
from pivotgym.envs.terminal.tasks import Setup
from pivotgym.envs.trajectory import JsonObject, Task

SET = "swe-bench"
IMAGE = "swebench/sweb.eval.x86_64.{id_1776}:latest"
"""How SWE-bench names the image of a row that names none. SWE-Gym: ``xingyaoww/sweb.eval.x86_64.{id_s}``."""
TESTS_SECONDS = 1800.0
"""What all tests of a row may take, as in SWE-bench."""
IMAGE_LIMITS = Limits(memory_bytes=4 << 30, disk_bytes=8 << 30, processes=1024, cpu_seconds=3600)
"""What a sandbox of a ready image may use: projects of any size."""

_PREPARED = re.compile(r"sweb\.eval|swesmith|swe-?smith|xingyaoww", re.IGNORECASE)
_ID = re.compile(r"(?P<owner>[\w.-]+?)__(?P<name>[\w.-]+?)-(?:\d+|[0-9a-f]{7,40})")
_SMITH = re.compile(r"(?P<owner>[\w.-]+?)__(?P<name>[\w.-]+)\.(?P<commit>[0-9a-f]{7,40})")
_REPO = re.compile(r"[A-Za-z0-9_.][\w.-]*/[A-Za-z0-9_.][\w.-]*")
_PLACE = re.compile(r"\w+://|[\w.-]+@[\w.-]+:")


class _Fields:
    """A row's fields, wherever they stand in it."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.places: list[tuple[str, Mapping[str, Any]]] = []
        self._add("", row.data)

    def _add(self, path: str, place: Mapping[str, Any]) -> None:
        self.places.append((path, place))
        for name in ("instance", "instance_dict", "metadata"):
            value = place.get(name)
            if isinstance(value, str) and value.lstrip().startswith("{"):
                try:
                    value = json.loads(value)
                except ValueError as error:
                    raise self.row.bad(f"no JSON: {error}", path + name) from error
            if isinstance(value, dict):
                self._add(f"{path}{name}.", value)
        value = place.get("responses_create_params")
        if isinstance(value, dict) and isinstance(value.get("metadata"), dict):
            self._add(f"{path}responses_create_params.metadata.", value["metadata"])

    def find(self, *names: str) -> tuple[Any, str]:
        """The first of these fields that is there and not null, and its path; else None and the first name."""
        for path, place in self.places:
            for name in names:
                if place.get(name) is not None:
                    return place[name], path + name
        return None, names[0]

    def text(self, *names: str) -> str:
        """A text; empty where it is missing. Raises BadInput."""
        value, path = self.find(*names)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self.row.bad(f"no text but {type(value).__name__}", path)
        return value

    def names(self, name: str) -> list[str]:
        """A list of tests, as a list or as text of one. Raises BadInput."""
        value, path = self.find(name, name.lower())
        if value is None:
            return self._reported(name)
        if isinstance(value, str):
            value = _literal(value)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.row.bad("neither a list of texts nor JSON text of one", path)
        return value

    def _reported(self, name: str) -> list[str]:
        """From the report of an evaluation, which parts the tests by their outcome."""
        report = self.report.get("tests_status", {}).get(name, {})
        found: list[str] = []
        for outcome in ("success", "failure"):
            items = report.get(outcome, [])
            if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
                raise self.row.bad("no list of texts", f"metadata.eval_report.….tests_status.{name}.{outcome}")
            found += items
        return found

    @property
    def report(self) -> JsonObject:
        """The report of an evaluation, of rows that are rollouts."""
        value, _ = self.find("eval_report")
        if not isinstance(value, dict):
            return {}
        inner = next((item for item in value.values() if isinstance(item, dict) and "tests_status" in item), value)
        status = inner.get("tests_status")
        well_formed = isinstance(status, dict) and all(isinstance(item, dict) for item in status.values())
        return inner if well_formed else {}

    def all(self) -> JsonObject:
        """Every field by its name, the outermost first."""
        merged: JsonObject = {}
        for _, place in reversed(self.places):
            merged.update({key: value for key, value in place.items() if value is not None})
        config = merged.get("install_config")
        if isinstance(config, str):
            merged["install_config"] = _literal(config)
        if not isinstance(merged.get("install_config", {}), dict):
            raise self.row.bad("no object", "install_config")
        return merged


def _literal(text: str) -> Any:
    """JSON, or Python's way to write it; None for neither; no text is an empty list."""
    if not text.strip():
        return []
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def repo_task(
    row: Row, *, repositories: str | Path | None = None, image: str = IMAGE, tables: bool = False
) -> tuple[str, RepoTask]:
    """One row as its name and its task; arguments as in :func:`read_rows`.

    Raises:
        BadInput: a field that is missing or of another type, with file, line and field.
    """
    fields = _Fields(row)
    name = fields.text("instance_id")
    if not name:
        raise row.bad("missing or empty", "instance_id")
    commit, patch = fields.text("base_commit", "base_sha"), fields.text("patch", "golden_patch", "gold_patch")
    test_patch = fields.text("test_patch", "golden_test_patch")
    smith = _SMITH.match(name) if patch and not commit and not test_patch else None
    repo = _repo(fields, name, smith)
    named = fields.text("image_name", "docker_image", "image") or _formatted(fields, name)
    kind, source = _source(repo, named, repositories)
    if kind == "image":
        named = (
            named or image.format(id=name, id_1776=name.replace("__", "_1776_"), id_s=name.replace("__", "_s_")).lower()
        )
    prepared = kind == "image" and bool(_PREPARED.search(named))
    failing, passing = fields.names("FAIL_TO_PASS"), fields.names("PASS_TO_PASS")
    version, _ = fields.find("version")
    try:
        how = commands_of(
            repo,
            "" if version is None else str(version),
            fields.all(),
            [*failing, *passing],
            test_patch,
            activate=ACTIVATE if prepared else "",
            tables=tables,
        )
        tests = None
        # A report of an evaluation names the tests; what is in them only the row itself says.
        if (failing or passing) and not (fields.report and not test_patch):
            tests = Tests(
                patch=test_patch,
                fail_to_pass=failing,
                pass_to_pass=passing,
                runner="pytest" if how.runner == "pytest" else "command",
                command=how.command,
                parser=how.parser,
                python=IMAGE_PYTHON if prepared else "python3",
                prepare=fields.text("prepare"),
                timeout=TESTS_SECONDS,
            )
        task = RepoTask(
            set=SET,
            instruction=fields.text("problem_statement") or _asked(row.data),
            image=named if kind == "image" else None,
            workdir=fields.text("workdir") or "/testbed",
            limits=IMAGE_LIMITS if kind == "image" else Limits(),
            setup=Setup(start=ACTIVATE if prepared else ""),
            repository=Repository(
                kind=kind,
                source=source,
                commit=(smith["commit"] if kind == "clone" else "") if smith else commit,
                install=how.install if kind == "clone" else "",
                patch=patch if smith else "",
            ),
            tests=tests,
            reference=reversed_patch(patch) if smith else patch,
            definition={"row": row.data},
        )
    except BadInput as error:
        raise row.bad(error.problem, error.field) from error
    except ValidationError as error:
        first = error.errors()[0]
        raise row.bad(first["msg"], ".".join(map(str, first["loc"]))) from error
    return name, task


def _repo(fields: _Fields, name: str, smith: re.Match[str] | None) -> str:
    """``owner/name``, or the folder or URL that the row gives instead. Raises BadInput."""
    if smith is not None:
        return f"{smith['owner']}/{smith['name']}"
    repo = fields.text("repo", "repo_name").removesuffix(".git")
    if _PLACE.match(repo) or repo.startswith("/"):
        return repo
    if not repo:
        match = _ID.fullmatch(name)
        if match is None:
            raise fields.row.bad("missing, and instance_id does not tell", "repo")
        return f"{match['owner']}/{match['name']}"
    if not _REPO.fullmatch(repo) or ".." in repo.split("/"):
        raise fields.row.bad(f"neither owner/name nor a URL: {repo[:80]!r}", "repo")
    return repo


def _source(repo: str, image: str, repositories: str | Path | None) -> tuple[Any, str]:
    """Whether the repository is a clone or in an image, and where the clone is."""
    if _PLACE.match(repo) or repo.startswith("/"):
        return "clone", repo
    if repositories is None:
        return "image", ""
    place = str(repositories)
    if "{repo}" in place:
        return "clone", place.replace("{repo}", repo)
    if _PLACE.match(place) and not place.startswith("file://"):
        return "clone", f"{place.rstrip('/')}{'' if place.endswith(':') else '/'}{repo}"
    folder = Path(place.removeprefix("file://")).expanduser()
    if not folder.is_dir():
        raise BadInput(f"no folder of repositories: {folder}", field="repositories")
    found = local_source(folder, repo)
    if found is not None:
        return "clone", str(found.resolve())
    # Where the row names an image that has it; else restoring says which clone is missing.
    return ("image", "") if image else ("clone", str(folder.resolve() / repo.replace("/", "__")))


def _formatted(fields: _Fields, name: str) -> str:
    """NeMo Gym's pattern of image names."""
    value, _ = fields.find("container_formatter")
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, str):
        return ""
    return value.removeprefix("docker://").replace("{instance_id}", name.replace("__", "_1776_")).lower()


def _asked(row: JsonObject) -> str:
    """The first message of a rollout's user, where the row has no problem statement."""
    asked = row.get("responses_create_params")
    messages = asked.get("input") if isinstance(asked, dict) else None
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, dict) and message.get("role") == "user":
            content = message.get("content")
            if isinstance(content, list):
                content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
            return content if isinstance(content, str) else ""
    return messages if isinstance(messages, str) else ""


_HUNK = re.compile(r"@@ -(\S+) \+(\S+) @@(.*)", re.DOTALL)


def reversed_patch(patch: str) -> str:
    """A unified diff that takes back what ``patch`` does: SWE-smith's rows hold the patch that brings the bug."""
    out: list[str] = []
    left = right = 0
    swapped = {"old mode ": "new mode ", "new file mode ": "deleted file mode ", "rename from ": "rename to "}
    swapped |= {"copy from ": "copy to ", "new mode ": "old mode ", "deleted file mode ": "new file mode "}
    swapped |= {"rename to ": "rename from ", "copy to ": "copy from "}
    lines = patch.split("\n")
    for at, line in enumerate(lines):
        hunk = _HUNK.fullmatch(line) if left <= 0 and right <= 0 else None
        if hunk is not None:
            left, right = _length(hunk[1]), _length(hunk[2])
            out.append(f"@@ -{hunk[2]} +{hunk[1]} @@{hunk[3]}")
        elif left > 0 or right > 0:
            sign = line[:1]
            left -= sign != "+" and sign != "\\"
            right -= sign != "-" and sign != "\\"
            out.append({"+": "-", "-": "+"}.get(sign, sign) + line[1:])
        elif line.startswith("--- ") and at + 1 < len(lines) and lines[at + 1].startswith("+++ "):
            out.append(f"--- {_side(lines[at + 1][4:], 'a')}")
        elif line.startswith("+++ ") and at and lines[at - 1].startswith("--- "):
            out.append(f"+++ {_side(lines[at - 1][4:], 'b')}")
        elif match := re.fullmatch(r"index (\w+)\.\.(\w+)(.*)", line):
            out.append(f"index {match[2]}..{match[1]}{match[3]}")
        else:
            key = next((key for key in swapped if line.startswith(key)), None)
            out.append(line if key is None else swapped[key] + line[len(key) :])
    return "\n".join(out)


def _length(part: str) -> int:
    _, comma, count = part.partition(",")
    return int(count) if comma else 1


def _side(path: str, side: str) -> str:
    return f"{side}/{path[2:]}" if path[:2] in ("a/", "b/") else path


def read_rows(
    where: str | Path, *, repositories: str | Path | None = None, image: str = IMAGE, tables: bool = False
) -> Iterator[Task]:
    """Reads rows as tasks, one after the other.

    Args:
        where: a file, a folder of files, or a Hugging Face dataset, see
            :func:`pivotgym.envs.repo.swebench_rows.raw_rows`.
        repositories: where the repositories are: a folder of clones (``owner__name``, ``owner/name`` or ``name``), or a
            git URL that ``owner/name`` completes (``https://github.com``) or that has ``{repo}`` in it. None takes
            ready images. A row whose ``repo`` is a URL or an absolute path needs none.
        image: name of the image of rows that name none, with ``{id}``, ``{id_1776}`` or ``{id_s}``.
        tables: install clones as the ``swebench`` package's tables say where the row does not.

    Raises:
        BadInput: a row that cannot be read, with file, line and field.
        MissingExtra: a package is needed that is not installed.
    """
    for row in raw_rows(where):
        name, task = repo_task(row, repositories=repositories, image=image, tables=tables)
        yield task.task(name)


class SweBenchTasks(RepoTaskSet):
    """Rows in SWE-bench's form. Made without a place to read from it has no tasks.

    Args:
        where: see :func:`read_rows`, like the other arguments.
    """

    name: ClassVar[str] = SET

    def __init__(
        self,
        where: str | Path | None = None,
        *,
        repositories: str | Path | None = None,
        image: str = IMAGE,
        tables: bool = False,
    ) -> None:
        self._where, self._repositories, self._image, self._tables = where, repositories, image, tables
        self._read: list[Task] | None = None

    def tasks(self) -> Sequence[Task]:
        """All rows, in their order. Raises BadInput."""
        if self._read is None:
            rows: Iterator[Task] = iter(())
            if self._where is not None:
                rows = read_rows(self._where, repositories=self._repositories, image=self._image, tables=self._tables)
            self._read = list(rows)
        return self._read


__all__ = ["IMAGE", "SET", "SweBenchTasks", "is_node_id", "read_rows", "repo_task", "reversed_patch"]
