"""A Dockerfile without Docker: its instructions as the set-up of a sandbox that stands on another base.

Read are ``FROM`` (also of a stage before), ``RUN``, ``COPY``, ``ADD`` of local files, ``ENV``, ``ARG``, ``WORKDIR``,
``USER``, ``SHELL`` and heredocs; what only describes the image is passed over. There is no network while a sandbox is
set up: a ``RUN`` that needs it fails, and the error names the line. Installing what the base has takes no network.
"""

from __future__ import annotations

import base64
import io
import json
import re
import shlex
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pivotgym.envs.errors import BadInput
from pivotgym.envs.terminal.tasks import Setup

_STAGE = "/.build"
_PASSED_OVER = frozenset(
    ("CMD", "ENTRYPOINT", "EXPOSE", "LABEL", "VOLUME", "HEALTHCHECK", "STOPSIGNAL", "MAINTAINER", "ONBUILD")
)
_KNOWN = frozenset(("FROM", "RUN", "COPY", "ADD", "ENV", "ARG", "WORKDIR", "USER", "SHELL")) | _PASSED_OVER
_COMMON = re.compile(r"(?:debian|ubuntu|python|buildpack-deps|pivotgym-base|ubuntu-\d+-\d+|python-\d+-\d+)(?:[:@].*)?$")
"""Images that another Debian userland can stand in for, by the last part of their name."""
_NETWORK = re.compile(
    r"\bapt(?:-get)?\s+(?:-\S+\s+)*(?:update|install|upgrade)|\b(?:pip3?|uv|conda|npm|yarn|gem|cargo|go)\s+(?:\S+\s+)?"
    r"(?:install|add|get|sync|download)|\b(?:curl|wget)\b|\bgit\s+clone\b|\bapk\s+add|https?://"
)
_ONLY_APT = re.compile(
    r"(?:apt(?:-get)?(?: -\S+)* update ?(?:&&|;) ?)?apt(?:-get)?(?: -\S+)* install(?P<words>(?: [\w.+:=-]+)+)"
    r"(?: ?(?:&&|;) ?(?:apt(?:-get)?(?: -\S+)* (?:clean|autoremove)|rm -rf? /var/lib/apt/lists/\*?))*"
)
_HEREDOC = re.compile(r"<<(-?)([\"']?)([A-Za-z_]\w*)\2")
_VARIABLE = re.compile(r"\\(.)|\$(?:(\w+)|\{(\w+)(?::([-+])([^}]*))?\})", re.DOTALL)
_GLOBS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
_FIXED_TIME = 1704067200
"""Of copied files, in seconds since 1970: the same task gives the same archive."""


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
        line: on which it begins, from 1.
        name: in capitals.
        text: what follows, continued lines joined.
        flags: ``--from=…`` and the like.
        heredocs: name, whether variables are replaced in it, and content.
    """

    line: int
    name: str
    text: str
    flags: dict[str, str] = field(default_factory=dict)
    heredocs: tuple[tuple[str, bool, str], ...] = ()


@dataclass(frozen=True)
class Recipe:
    """What a Dockerfile comes to.

    Attributes:
        base: the image it stands on.
        setup: makes of a sandbox on that base (or one that can stand in for it) what the image would be.
        env: variables of the finished image.
        workdir: its working directory.
        user: its user.
    """

    base: str
    setup: Setup
    env: dict[str, str]
    workdir: str
    user: str


def parse_dockerfile(path: Path) -> list[Instruction]:
    """The instructions of a file. Raises BadInput with file and line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot be read: {error}", file=path) from error
    escape = "\\"
    instructions: list[Instruction] = []
    at = 0
    while at < len(lines):
        line = lines[at].strip()
        directive = re.fullmatch(r"#\s*escape\s*=\s*(\S)", line, re.IGNORECASE)
        if directive and not instructions:
            escape = directive[1]
        if not line or line.startswith("#"):
            at += 1
            continue
        begin, parts = at, []
        while True:
            part = lines[at].rstrip()
            at += 1
            goes_on = part.endswith(escape)
            parts.append(part[:-1] if goes_on else part)
            while goes_on and at < len(lines) and (lines[at].lstrip().startswith("#") or not lines[at].strip()):
                at += 1
            if not goes_on or at >= len(lines):
                break
        name, _, text = "".join(parts).strip().partition(" ")
        name, text = name.upper(), text.strip()
        if name not in _KNOWN:
            raise BadInput(f"unknown instruction {name}", file=path, line=begin + 1)
        heredocs = []
        for match in _HEREDOC.finditer(text) if name in ("RUN", "COPY", "ADD") else ():
            body = []
            while at < len(lines) and (lines[at].lstrip("\t") if match[1] else lines[at]) != match[3]:
                body.append(lines[at].lstrip("\t") if match[1] else lines[at])
                at += 1
            if at >= len(lines):
                raise BadInput(f"heredoc {match[3]} does not end", file=path, line=begin + 1)
            at += 1
            heredocs.append((match[3], not match[2], "".join(f"{one}\n" for one in body)))
        flags = {}
        while found := re.match(r"--([\w-]+)(?:=(\S+))?\s+", text):
            flags[found[1]] = found[2] or ""
            text = text[found.end() :]
        instructions.append(Instruction(begin + 1, name, text, flags, tuple(heredocs)))
    return instructions


def interpret(path: Path, context: Path, args: dict[str, str] | None = None, hidden: Sequence[Path] = ()) -> Recipe:
    """A Dockerfile as a recipe for a sandbox.

    Args:
        path: the Dockerfile.
        context: the folder it copies from.
        args: values of its ``ARG``.
        hidden: files and folders that are never copied (a task's tests and solution).

    Raises:
        BadInput: it is not one; file and line are named.
    """
    return _Interpreter(path, context, dict(args or {}), hidden).run()


class _Interpreter:
    def __init__(self, path: Path, context: Path, given: dict[str, str], hidden: Sequence[Path]) -> None:
        self.path, self.context, self.given = path, context.resolve(), given
        self.hidden = {one.resolve() for one in hidden}
        self.ignored = _ignored(self.context)
        self.args: dict[str, str] = {}
        self.env: dict[str, str] = {}
        self.workdir, self.user = "/", "root"
        self.shell = ["/bin/sh", "-c"]
        self.script: list[str] = []
        self.staged = 0
        self.buffer = io.BytesIO()
        self.archive = tarfile.open(fileobj=self.buffer, mode="w:gz", compresslevel=6)  # noqa: SIM115

    def run(self) -> Recipe:
        base, instructions = self._last_stage(parse_dockerfile(self.path))
        if not _COMMON.search(base.rpartition("/")[2]):
            self._stop(instructions[0], f"{base} is no common Debian image, for which another base can stand in")
        for one in instructions[1:]:
            if one.name not in _PASSED_OVER:
                getattr(self, f"_{one.name.lower()}")(one)
        self.archive.close()
        script = ""
        if self.script:
            script = "\n".join([_PREAMBLE, *self.script, f"rm -rf {_STAGE}"]) + "\n"
        data = _without_time(self.buffer.getvalue())
        archives = [base64.b64encode(data).decode()] if self.staged else []
        return Recipe(base, Setup(archives=archives, script=script), self.env, self.workdir, self.user)

    def _last_stage(self, instructions: Sequence[Instruction]) -> tuple[str, list[Instruction]]:
        """Base and instructions of the last stage, with those of stages it continues; the first is its FROM."""
        stages: dict[str, tuple[str, list[Instruction]]] = {}
        base, current, count = "", list[Instruction](), 0
        for one in instructions:
            if one.name == "FROM":
                parts = one.text.split()
                if not parts:
                    raise BadInput("FROM what?", file=self.path, line=one.line)
                name = self._replace(parts[0])
                base, before = stages.get(name.lower(), (name, []))
                current = [*before, one] if not before else list(before)
                stages[str(count)] = (base, current)
                if len(parts) == 3 and parts[1].lower() == "as":
                    stages[parts[2].lower()] = (base, current)
                count += 1
            elif not base and one.name == "ARG":
                self._arg(one)
            elif not base:
                raise BadInput("the first instruction is FROM", file=self.path, line=one.line)
            else:
                current.append(one)
        if not base:
            raise BadInput("no FROM", file=self.path)
        return base, current

    # Instructions ---------------------------------------------------------------------------------------------

    def _from(self, one: Instruction) -> None:
        """Inside a stage: the stage it continues has been run."""

    def _arg(self, one: Instruction) -> None:
        for word in shlex.split(one.text):
            name, has_default, default = word.partition("=")
            value = self.given.get(name, self._replace(default) if has_default else self.args.get(name))
            if value is not None:
                self.args[name] = value
                self.script.append(f"export {name}={shlex.quote(value)}")

    def _env(self, one: Instruction) -> None:
        name, _, rest = one.text.partition(" ")
        words = [word.partition("=") for word in _words(one.text)]
        pairs = [(key, value) for key, _, value in words] if "=" in name else [(name, rest.strip())]
        for name, value in pairs:
            self.env[name] = self._replace(value)
            self.script.append(f"export {name}={shlex.quote(self.env[name])}")

    def _workdir(self, one: Instruction) -> None:
        self.workdir = self._path(self._replace(_unquoted(one.text)))
        self.script.append(f"mkdir -p {shlex.quote(self.workdir)} || failed {self._where(one)}")

    def _user(self, one: Instruction) -> None:
        self.user = self._replace(one.text).partition(":")[0] or "root"

    def _shell(self, one: Instruction) -> None:
        self.shell = _json_list(one.text) or self.shell

    def _run(self, one: Instruction) -> None:
        listed = _json_list(one.text)
        text = one.text
        if one.heredocs and _HEREDOC.fullmatch(text):
            text = one.heredocs[0][2]
        else:
            text += "".join(f"\n{body}{name}" for name, _, body in one.heredocs)
        command = listed or [*self.shell, text]
        words = " ".join(map(shlex.quote, command))
        if self.user not in ("root", "0"):
            user = shlex.quote(self.user)
            words = f'setpriv --reuid {user} --regid "$(id -g {user})" --init-groups {words}'
        hint = " 'it needs the network, and a sandbox has none'" if _NETWORK.search(text) else ""
        installs = _ONLY_APT.fullmatch(" ".join(text.split()))
        packages = [word for word in installs["words"].split() if not word.startswith("-")] if installs else []
        self.script.append(
            (f"have {' '.join(map(shlex.quote, packages))} || " if packages else "")
            + f"( cd {shlex.quote(self.workdir)} && exec {words} ) > {_STAGE}.log 2>&1 < /dev/null || "
            + f"failed {self._where(one)}{hint}"
        )

    def _copy(self, one: Instruction) -> None:
        self._place(one, unpack=False)

    def _add(self, one: Instruction) -> None:
        self._place(one, unpack=True)

    def _place(self, one: Instruction, unpack: bool) -> None:
        words = _json_list(one.text) or _words(one.text)
        words = [self._replace(word) for word in words]
        if len(words) < 2:
            raise BadInput(f"{one.name} needs a source and a destination", file=self.path, line=one.line)
        if "from" in one.flags:
            self._stop(one, "a file of another stage or image can be had from Docker only")
            return
        *sources, last = words
        target = self._path(last)
        folder = last.endswith("/") or last in (".", "..") or len(sources) > 1
        bodies = {f"<<{name}": (name, self._replace(body) if expand else body) for name, expand, body in one.heredocs}
        steps = [f"mkdir -p {shlex.quote(target if folder else str(PurePosixPath(target).parent))}"]
        for source in sources:
            here = re.sub(r"^<<-?[\"']?(\w+)[\"']?$", r"<<\1", source)
            if here in bodies:
                name, body = bodies[here]
                steps.append(f"cp -a {self._stage_text(name, body)} {shlex.quote(target)}")
            elif re.match(r"https?://|git@|ftp://", source):
                self._stop(one, "it needs the network, and a sandbox has none")
                return
            else:
                steps += self._stage_paths(one, source, target, unpack)
        for flag, program in (("chown", "chown -R"), ("chmod", "chmod -R")):
            if one.flags.get(flag):
                steps.append(f"{program} {shlex.quote(self._replace(one.flags[flag]))} {shlex.quote(target)}")
        self.script.append(f"{{ {' && '.join(steps)}; }} > {_STAGE}.log 2>&1 || failed {self._where(one)}")

    def _stage_paths(self, one: Instruction, source: str, target: str, unpack: bool) -> list[str]:
        pattern = source.lstrip("/").removeprefix("./").rstrip("/") or "."
        found = [self.context] if pattern == "." else sorted(self.context.glob(pattern))
        found = [path for path in found if path.resolve().is_relative_to(self.context) and self._copied(path)]
        if not found:
            raise BadInput(f"{one.name} {source}: no such file in {self.context}", file=self.path, line=one.line)
        steps = []
        for path in found:
            self.staged += 1
            staged = f"{_STAGE}/{self.staged}"
            if path.is_dir():
                self._archive_folder(path, staged.lstrip("/"))
                steps.append(f"mkdir -p {shlex.quote(target)} && cp -a {staged}/. {shlex.quote(target)}/")
                continue
            self.archive.add(path.resolve(), f"{staged.lstrip('/')}/{path.name}", filter=_plain)
            staged = shlex.quote(f"{staged}/{path.name}")
            if unpack and tarfile.is_tarfile(path):
                steps.append(f"mkdir -p {shlex.quote(target)} && tar -xf {staged} -C {shlex.quote(target)}")
            else:
                steps.append(f"cp -a {staged} {shlex.quote(target)}")
        return steps

    def _archive_folder(self, folder: Path, name: str) -> None:
        self.archive.add(folder, name, recursive=False, filter=_plain)
        for path in sorted(folder.iterdir()):
            if not self._copied(path):
                continue
            if path.is_dir() and not path.is_symlink():
                self._archive_folder(path, f"{name}/{path.name}")
            else:
                self.archive.add(path, f"{name}/{path.name}", filter=_plain)

    def _copied(self, path: Path) -> bool:
        """Neither hidden nor named by ``.dockerignore`` (of its patterns the last that fits decides)."""
        if path.resolve() in self.hidden:
            return False
        inside = path.relative_to(self.context).as_posix() if path != self.context else "."
        parts = [*(str(one) for one in PurePosixPath(inside).parents), inside]
        verdicts = [keep for keep, pattern in self.ignored if any(pattern.fullmatch(part) for part in parts)]
        return verdicts[-1] if verdicts else True

    def _stage_text(self, name: str, body: str) -> str:
        self.staged += 1
        staged = f"{_STAGE}/{self.staged}/{name}"
        info = tarfile.TarInfo(staged.lstrip("/"))
        info.size, info.mode, info.mtime = len(body.encode()), 0o644, _FIXED_TIME
        self.archive.addfile(info, io.BytesIO(body.encode()))
        return staged

    # Parts ----------------------------------------------------------------------------------------------------

    def _stop(self, one: Instruction, why: str) -> None:
        self.script.append(f"failed {self._where(one)} {shlex.quote(why)}")

    def _where(self, one: Instruction) -> str:
        shown = f"{one.name} {' '.join(one.text.split())}"
        shown = shown if len(shown) <= 120 else f"{shown[:119]}…"
        return shlex.quote(f"{self.path.name} line {one.line}, {shown}")

    def _path(self, text: str) -> str:
        joined = PurePosixPath("/", self.workdir, text)
        parts: list[str] = []
        for part in joined.parts[1:]:
            if part == "..":
                parts = parts[:-1]
            elif part != ".":
                parts.append(part)
        return "/" + "/".join(parts)

    def _replace(self, text: str) -> str:
        known = {**self.args, **self.env}

        def value(match: re.Match[str]) -> str:
            if match[1] is not None:
                return match[1] if match[1] in "$\\" else match[0]
            found = known.get(match[2] or match[3], "")
            if match[4] == "-":
                return found or self._replace(match[5])
            if match[4] == "+":
                return self._replace(match[5]) if found else ""
            return found

        return _VARIABLE.sub(value, text)


def _ignored(context: Path) -> list[tuple[bool, re.Pattern[str]]]:
    """Patterns of ``.dockerignore``: whether what fits is kept, and the pattern."""
    try:
        lines = (context / ".dockerignore").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    rules = []
    for line in (one.strip() for one in lines):
        if line and not line.startswith("#"):
            body = line.removeprefix("!").strip("/").removeprefix("./")
            pattern = "".join(_GLOBS.get(part, re.escape(part)) for part in re.split(r"(\*\*/|\*\*|\*|\?)", body))
            rules.append((line.startswith("!"), re.compile(pattern)))
    return rules


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    info.mtime = _FIXED_TIME
    return info


def _without_time(data: bytes) -> bytes:
    """Gzip data without the moment it was made."""
    return data[:4] + b"\0\0\0\0" + data[8:]


def _json_list(text: str) -> list[str] | None:
    try:
        value = json.loads(text) if text.startswith("[") else None
    except ValueError:
        return None
    return value if isinstance(value, list) and value and all(isinstance(one, str) for one in value) else None


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text.replace("\\$", "\\\\$"))
    except ValueError:
        return text.split()


def _unquoted(text: str) -> str:
    words = _words(text)
    return words[0] if len(words) == 1 else text


_PREAMBLE = f"""export PATH="${{PATH:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}}"
failed() {{
  status=$?
  echo "$1: ${{2:-it ended with status $status}}"
  if [ -s {_STAGE}.log ]; then tail -c 500 {_STAGE}.log; fi
  exit 1
}}
# Packages that are there, or programs of their names, need not be installed.
have() {{
  for package in "$@"; do
    package=${{package%%=*}}
    dpkg -s "${{package}}" > /dev/null 2>&1 || command -v "${{package}}" > /dev/null || return
  done
}}
trap 'rm -rf {_STAGE}.log' EXIT
umask 022"""
