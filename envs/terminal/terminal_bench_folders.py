"""A Terminal-Bench task folder, of either generation, as one description.

1.x: ``task.yaml``, ``Dockerfile`` or ``docker-compose.yaml``, ``run-tests.sh``, ``tests/``, ``solution.sh`` or
``solution.yaml``. 2.x (Harbor): ``task.toml``, ``instruction.md``, ``environment/``, ``tests/test.sh``,
``solution/solve.sh``.
"""

from __future__ import annotations

import base64
import io
import os
import re
import tarfile
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pivotgym.envs.errors import BadInput, MissingExtra
from pivotgym.envs.formats.rows import validate
from pivotgym.envs.trajectory import JsonObject

PARSERS = ("pytest",)
_SIZES = {"": 1 << 20, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
TASK_ENV = "PIVOTGYM_TASK_ENV"
"""Names, with commas between, of the variables of this machine's environment that tasks may read."""
_HOST_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


class Plan(BaseModel):
    """How an episode of a task is judged, and how it is solved (``TerminalTask.definition``).

    Attributes:
        generation: of Terminal-Bench.
        tests: tar archive of ``/tests`` as base64 text.
        test_seconds: what the tests may take.
        test_env: variables they get.
        parser: of their output (1.x).
        solution: tar archive of the reference solution's folder as base64 text; empty without one.
        keys: the reference solution where it is keys for a terminal (``solution.yaml``).
        agent_seconds: what an agent may take for the whole task.
        solution_env: variables the solution gets.
        base: the image the task's Dockerfile stands on.
        metadata: difficulty, category, tags and the like.
    """

    model_config = ConfigDict(extra="forbid")

    generation: Literal[1, 2]
    tests: str
    test_seconds: float
    test_env: dict[str, str] = Field(default_factory=dict)
    parser: str = "pytest"
    solution: str = ""
    keys: list[JsonObject] = Field(default_factory=list)
    agent_seconds: float = 0.0
    solution_env: dict[str, str] = Field(default_factory=dict)
    base: str = ""
    metadata: JsonObject = Field(default_factory=dict)


@dataclass
class Folder:
    """What a task folder says.

    Attributes:
        path: of the folder.
        instruction: for the agent.
        plan: see :class:`Plan`.
        dockerfile: of the image; None where an image is named instead.
        context: what the Dockerfile copies from.
        hidden: what must never get into the sandbox.
        image: a ready image.
        build_args: of the Dockerfile.
        env: variables of the container.
        workdir: of the container, over the image's.
        user: the agent, over the image's.
        memory_bytes: limit, or None.
        disk_bytes: limit, or None.
    """

    path: Path
    instruction: str
    plan: Plan
    dockerfile: Path | None
    context: Path
    hidden: list[Path] = field(default_factory=list)
    image: str | None = None
    build_args: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    workdir: str | None = None
    user: str | int | None = None
    memory_bytes: int | None = None
    disk_bytes: int | None = None


def _within(root: Path, path: Path, file: Path | None = None, field: str | None = None) -> Path:
    """``path``, unless it leads out of the task folder. Raises BadInput."""
    if not path.resolve().is_relative_to(root.resolve()):
        raise BadInput(f"{path} leads out of the task folder", file=file or path, field=field)
    return path


def is_task_folder(path: Path) -> bool:
    """Whether a folder is a task of either generation."""
    return (path / "task.yaml").is_file() or (path / "task.toml").is_file()


def read_folder(path: Path) -> Folder:
    """Reads a task folder, and nothing outside of it.

    Raises:
        BadInput: with file and field, also for what is not supported and for a path or link that leads out.
    """
    return _read_second(path) if (path / "task.toml").is_file() else _read_first(path)


# ------------------------------------------------------------------------------------------------------------ 1.x


class _FirstTask(BaseModel):
    instruction: str
    difficulty: str | None = None
    parser_name: str = "pytest"
    max_agent_timeout_sec: float = Field(default=360.0, gt=0)
    max_test_timeout_sec: float = Field(default=60.0, gt=0)
    run_tests_in_same_shell: bool = False


def _read_first(path: Path) -> Folder:
    file = _within(path, path / "task.yaml")
    raw = _yaml(file)
    if "instruction" not in raw and isinstance(raw.get("descriptions"), list):  # as the first tasks had it
        texts = {one.get("key"): one.get("description") for one in raw["descriptions"] if isinstance(one, dict)}
        raw["instruction"] = texts.get("base", next(iter(texts.values()), None))
    task = validate(_FirstTask, raw, file=file, line=None)
    if task.parser_name not in PARSERS:
        raise BadInput(f"parser {task.parser_name!r} is not supported", file=file, field="parser_name")
    if task.run_tests_in_same_shell:
        raise BadInput("tests in the agent's own shell are not supported", file=file, field="run_tests_in_same_shell")
    script, tests, solution = (_within(path, path / name) for name in ("run-tests.sh", "tests", "solution.sh"))
    if not script.is_file():
        raise BadInput("missing", file=script)
    keys = _keys(_within(path, path / "solution.yaml")) if not solution.is_file() else []
    build = _compose(path / "docker-compose.yaml", path)
    metadata = {key: one for key, one in raw.items() if key not in ("instruction", "parser_name")}
    folder = Folder(
        path,
        task.instruction.strip(),
        Plan(
            generation=1,
            tests=pack([(script, "run-tests.sh"), *_inside(tests, path)]),
            test_seconds=task.max_test_timeout_sec,
            test_env={"TEST_DIR": "/tests"},
            solution=pack([(solution, "solution.sh")]) if solution.is_file() else "",
            keys=keys,
            agent_seconds=task.max_agent_timeout_sec,
            metadata=_plain_json(metadata),
        ),
        dockerfile=build.dockerfile,
        context=build.context,
        hidden=[file, script, tests, solution, path / "solution.yaml", path / "docker-compose.yaml"],
        image=build.image,
        build_args=build.args,
        env=build.env,
    )
    if folder.dockerfile is None and folder.image is None:
        raise BadInput("missing", file=path / "Dockerfile")
    return folder


def _keys(file: Path) -> list[JsonObject]:
    if not file.is_file():
        return []
    rows = _yaml(file, list)
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or not isinstance(row.get("command"), str):
            raise BadInput("a step has a command", file=file, field=str(number))
    return list(rows)


@dataclass
class _Build:
    dockerfile: Path | None
    context: Path
    image: str | None = None
    args: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)


def _compose(file: Path, root: Path) -> _Build:
    """What the compose file says of the agent's machine; without one its Dockerfile stands beside."""
    folder = _within(root, file).parent
    dockerfile = _within(root, folder / "Dockerfile")
    if not file.is_file():
        return _Build(dockerfile if dockerfile.is_file() else None, folder)
    services = _yaml(file).get("services")
    if not isinstance(services, dict) or not services:
        raise BadInput("no services", file=file, field="services")
    if len(services) > 1:
        names = ", ".join(map(str, services))
        raise BadInput(f"several machines ({names}); a sandbox is one", file=file, field="services")
    client = next(iter(services.values()))
    build = client.get("build") if isinstance(client, dict) else None
    build = {"context": build} if isinstance(build, str) else build
    env = {key: one for key, one in _pairs(client.get("environment")).items() if "T_BENCH_" not in one}
    if not isinstance(build, dict):
        image = client.get("image")
        return _Build(None, folder, image if isinstance(image, str) and "${" not in image else None, env=env)
    service = f"services.{next(iter(services))}.build"
    context = _within(root, folder / str(build.get("context", ".")), file, f"{service}.context")
    path = _within(root, context / str(build.get("dockerfile", "Dockerfile")), file, f"{service}.dockerfile")
    if not path.is_file():
        raise BadInput("missing", file=path)
    return _Build(path, context, args=_pairs(build.get("args")), env=env)


def _pairs(value: Any) -> dict[str, str]:
    if isinstance(value, list):
        parts = [str(one).partition("=") for one in value]
        return {key: one for key, _, one in parts}
    return {str(key): "" if one is None else str(one) for key, one in value.items()} if isinstance(value, dict) else {}


def _yaml(file: Path, kind: type = dict) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise MissingExtra("PyYAML", "terminal-bench") from error
    try:
        value = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot be read: {error}", file=file) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        raise BadInput(f"not valid YAML: {problem}", file=file, line=mark.line + 1 if mark else None) from error
    if not isinstance(value, kind):
        raise BadInput(f"expected {'an object' if kind is dict else 'an array'}", file=file)
    return value


# ------------------------------------------------------------------------------------------------------------ 2.x


class _Section(BaseModel):
    timeout_sec: float | None = None
    user: str | int | None = None
    env: dict[str, str] = Field(default_factory=dict)


class _Environment(BaseModel):
    docker_image: str | None = None
    workdir: str | None = None
    env: dict[str, str] = Field(default_factory=dict)
    memory_mb: int | None = None
    storage_mb: int | None = None
    memory: str | None = None
    storage: str | None = None


class _SecondTask(BaseModel):
    metadata: JsonObject = Field(default_factory=dict)
    agent: _Section = _Section()
    verifier: _Section = _Section()
    solution: _Section = _Section()
    environment: _Environment = _Environment()
    steps: list[JsonObject] | None = None


def _read_second(path: Path) -> Folder:
    file = _within(path, path / "task.toml")
    try:
        raw = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot be read: {error}", file=file) from error
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"not valid TOML: {error}", file=file) from error
    task = validate(_SecondTask, raw, file=file, line=None)
    if task.steps:
        raise BadInput("a task of several steps is not supported", file=file, field="steps")
    try:
        instruction = _within(path, path / "instruction.md").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot be read: {error}", file=path / "instruction.md") from error
    if not _within(path, path / "tests" / "test.sh").is_file():
        raise BadInput("missing", file=path / "tests" / "test.sh")
    context = _within(path, path / "environment")
    if (context / "docker-compose.yaml").is_file():
        _compose(context / "docker-compose.yaml", path)  # several machines are refused
    dockerfile = _within(path, context / "Dockerfile")
    environment = task.environment
    solution = _within(path, path / "solution")
    if not dockerfile.is_file() and environment.docker_image is None:
        raise BadInput("missing", file=dockerfile)
    return Folder(
        path,
        instruction,
        Plan(
            generation=2,
            tests=pack(_inside(path / "tests", path)),
            test_seconds=task.verifier.timeout_sec or 600.0,
            test_env=_from_host(task.verifier.env, file, "verifier.env"),
            solution=pack(_inside(solution, path)) if (solution / "solve.sh").is_file() else "",
            solution_env=_from_host(task.solution.env, file, "solution.env"),
            agent_seconds=task.agent.timeout_sec or 0.0,
            metadata=_plain_json(task.metadata),
        ),
        dockerfile=dockerfile if dockerfile.is_file() else None,
        context=context,
        hidden=[path / "tests", solution],
        image=environment.docker_image,
        env=_from_host(environment.env, file, "environment.env"),
        workdir=environment.workdir,
        user=task.agent.user,
        memory_bytes=_bytes(environment.memory_mb, environment.memory, file, "environment.memory"),
        disk_bytes=_bytes(environment.storage_mb, environment.storage, file, "environment.storage"),
    )


def _from_host(env: dict[str, str], file: Path, field: str) -> dict[str, str]:
    """Variables with ``${NAME}`` and ``${NAME:-default}`` filled in.

    This machine's environment is read for the names only that its owner lists in :data:`TASK_ENV`: what a task is given
    gets into the agent's sandbox.
    """
    allowed = {name.strip() for name in os.environ.get(TASK_ENV, "").split(",")}

    def filled(text: str, name: str) -> str:
        def value(match: re.Match[str]) -> str:
            found: str | None = os.environ.get(match[1], match[2]) if match[1] in allowed else match[2]
            if found is None:
                problem = "is not set" if match[1] in allowed else f"is not for tasks: list it in {TASK_ENV} if it is"
                raise BadInput(f"the environment variable {match[1]} {problem}", file=file, field=f"{field}.{name}")
            return found

        return _HOST_VARIABLE.sub(value, text)

    return {name: filled(text, name) for name, text in env.items()}


def _bytes(megabytes: int | None, text: str | None, file: Path, where: str) -> int | None:
    if megabytes is not None:
        return megabytes << 20
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([BKMGT]?)i?B?", text.strip().upper())
    if match is None:
        raise BadInput(f"no size: {text!r}", file=file, field=where)
    return int(float(match[1]) * _SIZES[match[2]])


# -------------------------------------------------------------------------------------------------------- archives


def _inside(folder: Path, root: Path) -> list[tuple[Path, str]]:
    every = sorted(_within(root, folder).rglob("*")) if folder.is_dir() else []
    found = [path for path in every if _within(root, path, field=folder.name).is_file()]
    return [(path, path.relative_to(folder).as_posix()) for path in found]


def pack(files: Iterable[tuple[Path, str]]) -> str:
    """Files under their names in a gzipped tar archive, as base64 text; the same files give the same text."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path, name in files:
            data = path.read_bytes()
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o755 if path.stat().st_mode & 0o100 else 0o644
            archive.addfile(info, io.BytesIO(data))
    data = buffer.getvalue()
    return base64.b64encode(data[:4] + b"\0\0\0\0" + data[8:]).decode()  # without the moment it was made


def unpack(text: str) -> list[tuple[str, bytes, int]]:
    """Names, contents and modes of what :func:`pack` packed."""
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(text)), mode="r:gz") as archive:
        members = [(info, archive.extractfile(info)) for info in archive]
        return [(info.name, file.read(), info.mode) for info, file in members if file is not None]


def _plain_json(value: Any) -> JsonObject:
    """YAML and TOML values as JSON: dates become text."""
    if isinstance(value, dict):
        return {str(key): _plain_json(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain_json(one) for one in value]  # type: ignore[return-value]
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)  # type: ignore[return-value]
