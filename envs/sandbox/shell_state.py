"""The state of a bash process as text: printed by bash itself, compared here, and put back into another one.

Bash prints what it holds (``declare -p`` and its kin) in sections separated by NUL characters, which cannot be part of
any of them. What a process holds beside that, open files, limits and children, is no text and does not travel.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from functools import lru_cache

from pivotgym.envs.sandbox.base import ShellState
from pivotgym.envs.trajectory import JsonObject

SECTIONS = (
    "variables",
    "functions",
    "exported",
    "aliases",
    "shopt",
    "options",
    "umask",
    "traps",
    "status",
    "positional",
    "disabled",
    "hashed",
    "directories",
)

PRINT = (
    "builtin declare -p; builtin printf '\\0'; builtin declare -f; builtin printf '\\0'; builtin declare -F; "
    "builtin printf '\\0'; builtin alias -p; builtin printf '\\0'; builtin shopt -p; builtin printf '\\0'; "
    "builtin set +o; builtin printf '\\0'; builtin umask -p; builtin printf '\\0'; builtin trap -p; "
    "builtin printf '\\0'; builtin printf '%s' \"$__pg_status\"; builtin printf '\\0'; "
    "builtin printf '%s ' \"${@@Q}\"; builtin printf '\\0'; builtin enable -n; builtin printf '\\0'; "
    "builtin hash -l; builtin printf '\\0'; builtin dirs -l -p"
)
"""Bash source that prints the sections of :data:`SECTIONS` in order, NUL between them."""

_OWN = re.compile(
    r"__pg_\w*|_|BASH(?!_(?:REMATCH|ENV)$)\w*|EUID|UID|PPID|SHELLOPTS|DIRSTACK|FUNCNAME|GROUPS|HISTCMD|LINENO|PIPESTATUS|RANDOM|SRANDOM|"
    r"SECONDS|EPOCH\w+|COMP_\w+|PWD|SHLVL"
)
"""Variables that bash sets itself or does not let be set; the working directory travels on its own."""

_COUNTERS = frozenset({"OLDPWD", "OPTIND", "OPTERR", "PS4", "IFS", "HOSTTYPE", "MACHTYPE", "OSTYPE", "HOSTNAME"})
"""Set by bash in every process, so never unset when a state is put back."""

_STANDARD = ("HOME", "PATH", "USER", "LOGNAME", "LANG", "TERM", "SHELL", "LC_ALL", "OLDPWD")
"""In every fresh shell's environment: to be unset where the state does not have them."""

_OWN_FUNCTION = re.compile(r"^__pg_\w* \(\) *\n\{.*?^\}\n?", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"declare (-\S+) ([A-Za-z_]\w*)(=?)")


def sections(state: ShellState) -> dict[str, str]:
    """The printed sections by name; all empty for a fresh shell."""
    parts = state.text.split("\0") if state.text else []
    return dict(zip(SECTIONS, [*parts, *[""] * (len(SECTIONS) - len(parts))], strict=False))


def variables(state: ShellState) -> dict[str, str]:
    """By name the printed declaration of each variable that is the shell's user's: ``-x PATH="…"``."""
    return _variables(sections(state)["variables"])


@lru_cache(maxsize=256)
def _variables(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    position = 0
    while match := _NAME.match(text, position):
        end = _end_of_value(text, match.end()) if match.group(3) else match.end()
        name = match.group(2)
        if not _OWN.fullmatch(name):
            found[name] = text[match.start() + len("declare ") : end]
        position = text.find("\n", end)
        if position < 0:
            break
        position += 1
    return found


def _end_of_value(text: str, position: int) -> int:
    """The index behind a value as ``declare -p`` prints it: ``"…"``, ``$'…'``, ``(…)`` or a bare word."""
    depth = 0
    while position < len(text):
        character = text[position]
        if character == '"':
            position += 1
            while position < len(text) and text[position] != '"':
                position += 2 if text[position] == "\\" else 1
        elif text.startswith("$'", position) or character == "'":
            # Only inside $'…' does a backslash escape the closing quote.
            ansi = character == "$"
            position += 2 if ansi else 1
            while position < len(text) and text[position] != "'":
                position += 2 if ansi and text[position] == "\\" else 1
        elif character == "\\":
            position += 1
        elif character == "(":
            depth += 1
        elif character == ")":
            depth -= 1
        elif character == "\n" and not depth:
            return position
        position += 1
    return len(text)


def script(state: ShellState, inherited: Iterable[str] = ()) -> str:
    """Bash source that puts the state into a fresh shell; empty for the state of a fresh one.

    Args:
        state: the state.
        inherited: names of variables in a fresh shell's environment, beside the standard ones.

    Options come last: ``set -e`` would end the shell at the first thing it cannot set, ``set -x`` would show it.
    """
    if not state.text:
        return f"cd -- {shlex.quote(state.cwd)}" if state.cwd != "/" else ""
    found, held = sections(state), variables(state)
    lines = [f"unset {name}" for name in (*_STANDARD, *inherited) if name not in held and name not in _COUNTERS]
    lines += [f"declare {printed}" for printed in held.values()]
    # `declare` adds attributes and takes none away: what a fresh shell exports would stay exported.
    private = [name for name, printed in held.items() if "x" not in printed.partition(" ")[0]]
    lines += [f"export -n {' '.join(private)}"] if private else []
    lines.append(_OWN_FUNCTION.sub("", found["functions"]))
    lines += [line for line in found["exported"].splitlines() if line.split()[1:2] not in (["-f"], [])]
    directories = found["directories"].splitlines()
    lines += [f"cd -- {shlex.quote(path)}" for path in directories[-1:]]
    lines += [f"pushd -- {shlex.quote(path)} >/dev/null" for path in reversed(directories[:-1])]
    lines.append(f"cd -- {shlex.quote(state.cwd)}")
    if "OLDPWD" in held:
        lines.append(f"declare {held['OLDPWD']}")
    else:
        lines.append("unset OLDPWD")
    lines += [f"set -- {found['positional']}"] if found["positional"].strip() else []
    lines += [line for line in found["disabled"].splitlines() if line.startswith("enable -n ")]
    lines += [line for line in found["hashed"].splitlines() if line.startswith("builtin hash -p ")]
    # Turning a compatibility level off that no shell begins with would set BASH_COMPAT, which `set` shows.
    shopt = "\n".join(line for line in found["shopt"].splitlines() if not line.startswith("shopt -u compat"))
    lines += [found["aliases"], found["umask"], shopt, found["traps"], found["options"]]
    # Last of all: it is what `$?` is. Where a failing command ends the shell, it was 0.
    if found["status"].isdecimal() and found["status"] != "0" and "set +o errexit" in found["options"]:
        lines.append(f"__pg_back {found['status']}")
    text = "\n".join(line for line in lines if line)
    return re.sub(r"^declare -\w+ __pg_\w+$\n?", "", text, flags=re.MULTILINE)


def differences(before: ShellState, after: ShellState) -> list[JsonObject]:
    """What differs between two shells, in canonical order, one row a thing.

    ``{"shell": "cwd", "value": "/tmp"}``, ``{"shell": "variable", "name": "x", "value": '-- x="1"'}`` (``value`` None:
    it is gone), ``function``, ``alias``, ``option``, ``umask``, ``trap``, ``directories``. Where one of the shells has
    run nothing yet, only the working directory is known, and what bash sets by itself is not compared.
    """
    rows: list[JsonObject] = []
    if before.cwd != after.cwd:
        rows.append({"shell": "cwd", "value": after.cwd})
    if not before.text or not after.text:
        return rows
    one, two = sections(before), sections(after)
    rows += _named("variable", _plain(variables(before)), _plain(variables(after)))
    rows += _named("function", _functions(one), _functions(two))
    for name, part in (("alias", "aliases"), ("option", "shopt"), ("option", "options"), ("trap", "traps")):
        gone = set(one[part].splitlines()) - set(two[part].splitlines())
        new = set(two[part].splitlines()) - set(one[part].splitlines())
        rows += [{"shell": name, "value": line} for line in sorted(new)]
        if name in ("alias", "trap"):  # an option that is gone shows as its opposite
            rows += [{"shell": name, "gone": line} for line in sorted(gone)]
    for name in ("umask", "positional", "disabled", "directories"):
        if one[name] != two[name] and not (name == "directories" and before.cwd != after.cwd):
            rows.append({"shell": name, "value": two[name].strip()})
    return rows


def _plain(held: dict[str, str]) -> dict[str, str]:
    return {name: printed for name, printed in held.items() if name not in ("OLDPWD", "OPTIND", "BASH_REMATCH")}


def _named(kind: str, one: dict[str, str], two: dict[str, str]) -> list[JsonObject]:
    changed = [name for name in sorted({*one, *two}) if one.get(name) != two.get(name)]
    return [{"shell": kind, "name": name, "value": two.get(name)} for name in changed]


def _functions(found: dict[str, str]) -> dict[str, str]:
    """Function bodies by name: each begins at column 0 with its name and ends with a lone brace."""
    bodies: dict[str, str] = {}
    name, lines = "", list[str]()
    for line in found["functions"].splitlines():
        start = re.fullmatch(r"(\S+) \(\) ", line) if not name else None
        if start:
            name, lines = start.group(1), []
        if name:
            lines.append(line)
        if line == "}":
            if not name.startswith("__pg_"):
                bodies[name] = "\n".join(lines)
            name = ""
    for line in found["exported"].splitlines():
        words = line.split()
        if len(words) == 3 and words[1] != "-f" and words[2] in bodies:
            bodies[words[2]] += f"\n{words[1]}"
    return bodies
