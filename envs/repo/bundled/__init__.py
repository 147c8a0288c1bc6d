"""PivotGym's own repository tasks, the embedded default of ``pivotgym/Repo-v0``.

Small Python projects of different domains and styles, each with one bug of a kind that people make, an issue, hidden
tests, a reference change and a scripted expert whose recorded trajectories ship with the package. A seed makes an
instance of a project: it chooses names for what the project may call otherwise, writes a git history and words the
instruction.
"""

from __future__ import annotations

import difflib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files as resources
from typing import ClassVar

from pivotgym.envs.errors import BadInput, NotRestorable
from pivotgym.envs.formats.packed import unpack
from pivotgym.envs.repo.bundled.history import BRANCH, History, make_history
from pivotgym.envs.repo.bundled.project import Project, choose, load_projects, rename
from pivotgym.envs.repo.prompts import MARKER
from pivotgym.envs.repo.tasks import RepoTask, RepoTaskSet, Tests
from pivotgym.envs.sandbox import Limits
from pivotgym.envs.terminal.tasks import Setup
from pivotgym.envs.trajectory import Task, Trajectory

__all__ = [
    "GENERATOR",
    "SEEDS",
    "SPLITS",
    "WORKDIR",
    "BundledRepos",
    "Instance",
    "build",
    "bundled_trajectories",
    "load_projects",
    "make_task",
    "split",
]

SEEDS = 3
"""Instances of every project that :meth:`BundledRepos.tasks` lists."""

GENERATOR = 1
"""Version of projects and generator; part of every task, so that other versions are other tasks."""

SPLITS = ("train", "heldout")
WORKDIR = "/testbed"
"""Where the repository stands."""

# Byte code and caches hold the time of their source: without them, equal work leaves equal files.
_ENV = {
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "PAGER": "cat",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTEST_ADDOPTS": "-p no:cacheprovider",
}
_LIMITS = Limits(memory_bytes=512 << 20, processes=64, cpu_seconds=60, disk_bytes=128 << 20, file_bytes=64 << 20)
_STREAM = "/.history"
_OPENINGS = (
    "The git repository of {name}, a small Python project, is in {workdir}. This was reported:",
    "You are in {workdir}, the git repository of the Python project {name}. A user reports:",
    "{workdir} holds the git repository of {name}, a Python project. Please solve this issue:",
)
_CLOSINGS = (
    "Find the cause and repair it in the project's code; everything else has to go on working.",
    "Repair the cause in the code, not only the case that is named, and break nothing else.",
    "Please change the code so that this is solved for good, and nothing else is broken.",
)
_HAND_IN = {
    "tools": "Call `submit` when you are done.",
    "bash": f"When you are done, run `echo {MARKER} && git diff`.",
}


@dataclass(frozen=True)
class Instance:
    """A project for one seed.

    Attributes:
        project: with the names the seed chose.
        history: of its repository.
        instruction: what the agent is asked.
        reference: the fix as a unified diff.
    """

    project: Project
    history: History
    instruction: str
    reference: str


class BundledRepos(RepoTaskSet):
    """The tasks as a task set (``bundled-repos``)."""

    name: ClassVar[str] = "bundled-repos"

    def tasks(self, split: str | None = None) -> Sequence[Task]:
        """The instances of ``train`` (four projects of five) or ``heldout``, or all, always in the same order."""
        return _tasks(split)


def make_task(name: str, seed: int) -> Task:
    """An instance of a project as a task; other seeds than those listed give further ones.

    Raises:
        NotRestorable: there is no such project.
        BadInput: the project's files cannot be used.
    """
    instance = build(name, seed)
    project, history = instance.project, instance.history
    return RepoTask(
        set=BundledRepos.name,
        instruction=instance.instruction,
        workdir=WORKDIR,
        env=_ENV,
        limits=_LIMITS,
        setup=Setup(files={_STREAM: history.stream}, script=_script(history)),
        interface=project.spec.interface,
        tests=Tests(
            files=dict(project.hidden),
            fail_to_pass=project.spec.fail_to_pass,
            pass_to_pass=project.pass_to_pass,
            timeout=60.0,
        ),
        reference=instance.reference,
        pytest=True,
        definition={
            "project": name,
            "seed": seed,
            "kind": project.spec.kind,
            "generator": GENERATOR,
            "split": split(name),
        },
    ).task(f"{name}-{seed}")


@lru_cache(maxsize=512)
def build(name: str, seed: int) -> Instance:
    """Names, history, instruction and reference of an instance; see :func:`make_task` for what it raises."""
    projects = load_projects()
    if name not in projects:
        raise NotRestorable("unknown_task", f"no bundled repository {name!r}")
    # Seeds that follow each other share a draw and take different choices of it, so that they differ in every name.
    names = choose(projects[name].spec, random.Random(f"{name} names {seed // SEEDS}"), seed % SEEDS)
    project = rename(projects[name], names)
    rng = random.Random(f"{name} {seed}")
    history = make_history(project.repo, rng)
    opening = rng.choice(_OPENINGS).format(name=_title(project), workdir=WORKDIR)
    closing = f"{rng.choice(_CLOSINGS)} {_HAND_IN[project.spec.interface]}"
    instruction = f"{opening}\n\n<issue>\n{project.issue}\n</issue>\n\n{closing}"
    return Instance(project, history, instruction, unified_diff(project.repo, project.fix))


def split(name: str) -> str:
    """``train`` or ``heldout``: every fifth project is held out with all its instances."""
    return "heldout" if list(load_projects()).index(name) % 5 == 4 else "train"


def bundled_trajectories(split: str | None = "train") -> list[Trajectory]:
    """The recorded expert trajectories that ship with the package; ``None`` gives those of both splits.

    Raises:
        BadInput: there is no such split.
    """
    _check_split(split)
    packed = resources(__package__).joinpath("trajectories.jsonl.gz").read_bytes()
    rows = unpack(packed)
    return [row for row in rows if split is None or (row.task is not None and _split_of(row.task) == split)]


def unified_diff(before: Mapping[str, str], changed: Mapping[str, str]) -> str:
    """What brings the files of ``changed`` in place of those of ``before``, for ``git apply``."""
    parts = []
    for path, text in sorted(changed.items()):
        parts.append(f"diff --git a/{path} b/{path}\n")
        if path not in before:
            parts.append("new file mode 100644\n")
        parts += difflib.unified_diff(
            _lines(before.get(path, "")),
            _lines(text),
            f"a/{path}" if path in before else "/dev/null",
            f"b/{path}",
        )
    return "".join(parts)


def _lines(text: str) -> list[str]:
    """Lines as git has them: only a line feed ends one."""
    return [f"{line}\n" for line in text.split("\n")[:-1]]


def _script(history: History) -> str:
    """Makes the repository: loose objects and one branch, no reflog, no hooks, equal times of all files."""
    name, address = history.author
    return f"""set -e
umask 022
export LC_ALL=C.UTF-8 TZ=UTC GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
mkdir -p {WORKDIR}
cd {WORKDIR}
git init -q --template= -b {BRANCH}
git -c core.logAllRefUpdates=false -c fastimport.unpackLimit=10000 fast-import --quiet < {_STREAM}
rm {_STREAM}
git read-tree --reset -u HEAD
git config user.name '{name}'
git config user.email '{address}'
find . -path ./.git -prune -o -exec touch -d '{history.when:%Y-%m-%d %H:%M:%S}' {{}} +
git update-index -q --refresh
"""


def _title(project: Project) -> str:
    """What the README's first line calls it, else the project's folder."""
    for path, text in project.repo.items():
        if path.lower().startswith("readme"):
            title = text.split("\n", 1)[0].strip("# `=").partition(" - ")[0].partition(":")[0].strip()
            if title and len(title) <= 40:
                return title
    return project.name


@lru_cache
def _tasks(split_name: str | None) -> tuple[Task, ...]:
    _check_split(split_name)
    names = [name for name in load_projects() if split_name is None or split(name) == split_name]
    return tuple(make_task(name, seed) for name in names for seed in range(SEEDS))


def _split_of(task: Task) -> str:
    return str(task.data["definition"]["split"])


def _check_split(split_name: str | None) -> None:
    if split_name is not None and split_name not in SPLITS:
        raise BadInput(f"no split {split_name!r}; there are {', '.join(SPLITS)}", field="split")
