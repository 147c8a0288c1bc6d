"""The paper's reward of InterCode's bash tasks: changes as git sees them, and the likeness of two outputs."""

from __future__ import annotations

import hashlib
import io
import math
import re
import tarfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from pivotgym.envs.errors import BadInput
from pivotgym.envs.sandbox import FileChange
from pivotgym.envs.terminal.intercode_shell import IGNORED
from pivotgym.envs.trajectory import JsonObject

_WORD = re.compile(r"\b\w\w+\b")


@dataclass(frozen=True)
class Node:
    """What git knows of a path: ``file``, ``link`` or ``directory``, content (of a link its target), executable."""

    kind: str
    content: str = ""
    executable: bool = False


def archive_nodes(archive: bytes) -> dict[str, Node]:
    """The members of a tar archive by path, without a leading ``./`` or ``/``. Raises BadInput."""
    nodes: dict[str, Node] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            for member in tar:
                path = str(PurePosixPath("/", member.name))[1:]
                if member.isdir():
                    nodes[path] = Node("directory")
                elif member.issym():
                    nodes[path] = Node("link", member.linkname)
                elif (source := tar.extractfile(member)) is not None:
                    content = hashlib.sha256(source.read()).hexdigest()
                    nodes[path] = Node("file", content, bool(member.mode & 0o100))
    except (tarfile.TarError, OSError, EOFError) as error:
        raise BadInput(f"no tar archive: {error}", field="setup.archives") from error
    nodes.pop("", None)
    return nodes


@dataclass(frozen=True)
class Score:
    """The parts of the paper's reward.

    Attributes:
        missing: changes of the reference that the agent did not make, as ``status path``.
        extra: changes that only the agent made.
        wrong: paths both changed, with different content.
        file_diff: 0 to 0.33.
        file_changes: 0 to 0.33.
        similarity: of the outputs, 0 to 1.
    """

    missing: tuple[str, ...]
    extra: tuple[str, ...]
    wrong: tuple[str, ...]
    file_diff: float
    file_changes: float
    similarity: float

    @property
    def reward(self) -> float:
        """The paper's."""
        return 0.01 + self.file_diff + self.file_changes + round(0.33 * self.similarity, 2)

    @property
    def reached(self) -> bool:
        """Whether it is the full reward, and changed files have the reference's content."""
        return math.isclose(self.reward, 1.0) and not self.wrong

    @property
    def reason(self) -> str:
        """One sentence."""
        if self.reached:
            return "the same files and the same output as the reference command"
        if self.missing or self.extra or self.wrong:
            return "the files are not those the reference command leaves"
        return "the last command's output is not the reference command's"

    def beside(self, repeated: Score) -> Score:
        """The same without what the reference does not repeat, given the comparison of two runs of it."""
        wrong = tuple(path for path in self.wrong if path not in repeated.wrong)
        lost = round(0.33 - self.file_changes, 2)
        return replace(
            self,
            wrong=wrong,
            file_changes=round(0.33 - (lost * len(wrong) / len(self.wrong) if self.wrong else lost), 2),
            similarity=min(self.similarity / repeated.similarity, 1.0) if repeated.similarity else self.similarity,
        )

    def evidence(self) -> JsonObject:
        """Everything, with the paper's reward."""
        lists = {key: list(value) for key, value in vars(self).items() if isinstance(value, tuple)}
        parts = {key: value for key, value in vars(self).items() if isinstance(value, float)}
        return {"paper_reward": round(self.reward, 4), **parts, **lists}


Status = dict[str, tuple[str, object]]
"""Path to status (``M``, ``D``, ``??``) and content."""


def status_of(changes: Iterable[FileChange], tracked: Mapping[str, Node]) -> Status:
    """What ``git status --short`` would say, and the content behind it.

    Args:
        changes: against the initial state.
        tracked: the initial state's files.
    """
    status: Status = {}
    new: dict[str, dict[str, Node]] = {}
    folders = {str(parent) for path in tracked for parent in PurePosixPath(path).parents}
    for change in changes:
        path = change.path.lstrip("/")
        node = Node(change.kind, change.digest or change.target or "", bool(int(change.mode or "0", 8) & 0o100))
        if change.before == "directory" and change.kind != "directory":  # its content is gone with it
            status |= {below: ("D", None) for below in tracked if below.startswith(f"{path}/")}
        if path in tracked:
            if change.kind in ("absent", "directory"):
                status[path] = ("D", None)
            elif node != tracked[path]:
                status[path] = ("M", node)
        elif change.kind in ("file", "link") and not IGNORED.intersection(PurePosixPath(path).parts):
            # A folder without tracked files is one entry, the outermost of such folders.
            inside = [str(parent) for parent in PurePosixPath(path).parents if str(parent) not in {*folders, "."}]
            new.setdefault(f"{inside[-1]}/" if inside else path, {})[path] = node
    return status | {path: ("??", nodes) for path, nodes in new.items()}


def compare_states(agent: Status, reference: Status, answer: str, output: str) -> Score:
    """The paper's comparison of two end states.

    Args:
        agent: its changes.
        reference: the reference command's.
        answer: the output of the agent's last command.
        output: the reference command's.
    """
    ours, theirs = ({(path, status) for path, (status, _) in state.items()} for state in (agent, reference))
    missing, extra = (tuple(sorted(f"{s} {p}" for p, s in paths)) for paths in (theirs - ours, ours - theirs))
    both = sorted(ours & theirs)
    wrong = tuple(path for path, _ in both if agent[path] != reference[path])
    added = [path for path, status in both if status == "??"]
    share = 1 - sum(path in wrong for path in added) / len(added) if added else 1.0
    return Score(
        missing,
        extra,
        wrong,
        round(0.33 * (1 - math.erf(len(missing) + len(extra))), 2),
        round(0.33 * share, 2),
        similarity(answer, output),
    )


def similarity(one: str, other: str) -> float:
    """Cosine of the TF-IDF vectors of two texts, 0 to 1; words are two or more letters or digits, case is ignored.

    Smoothed document frequencies over the two texts alone. Without any word: whether the texts are equal.
    """
    counts = [Counter(_WORD.findall(text.lower())) for text in (one, other)]
    if not counts[0] and not counts[1]:
        return float(one == other)
    weights = {word: 1.0 + math.log(3 / (1 + sum(word in c for c in counts))) for word in counts[0] | counts[1]}
    vectors = [{word: n * weights[word] for word, n in c.items()} for c in counts]
    lengths = [math.sqrt(sum(value * value for value in vector.values())) for vector in vectors]
    if not all(lengths):
        return 0.0
    product = sum(value * vectors[1].get(word, 0.0) for word, value in vectors[0].items())
    return min(product / (lengths[0] * lengths[1]), 1.0)
