"""What a shell command's text tells about what it asks: its programs, loop variables, whether order means anything."""

from __future__ import annotations

import re
import shlex
from functools import lru_cache

_KEYWORDS = frozenset({"do", "done", "then", "else", "elif", "if", "fi", "while", "until", "time", "esac"})
_WRAPPERS = frozenset({"sudo", "env", "command", "builtin", "exec", "nice", "nohup", "timeout", "xargs", "stdbuf"})

_WITH_VALUE = frozenset({"-u", "-n", "-I", "-L", "-P", "-k", "-s", "-d"})
"""Options of wrappers whose value follows as a word of its own."""

ANSWERING = frozenset(
    {"grep", "egrep", "fgrep", "zgrep", "rg", "diff", "cmp", "test", "[", "[[", "pgrep", "which", "command", "expr"}
    | {"find", "du"}
)
"""Programs whose status 1 is an answer (nothing found, not equal), or says that part could not be read; no failure."""
_SPEAKING = frozenset({"echo", "printf", "true", ":", "cd", "sleep"})
_INTERPRETERS = re.compile(r"python[\d.]*|pypy\d*|bash|sh|dash|zsh|node|perl|ruby|php|make|pytest|source|\.")

_REPORTING = frozenset(
    {"cp", "mv", "rm", "mkdir", "rmdir", "ln", "chmod", "chown", "touch", "install", "tar", "zip", "unzip", "gzip"}
    | {"gunzip", "bzip2", "bunzip2", "xz", "unxz", "kill", "pkill", "cd", "pushd", "popd", "truncate", "patch", "true"}
)
_REPORTING_GIT = frozenset(
    {"add", "commit", "checkout", "switch", "restore", "reset", "merge", "stash", "init", "branch", "tag", "rm", "mv"}
    | {"rebase", "cherry-pick", "revert", "clean", "config", "am", "apply", "clone"}
)

_ORDERING = frozenset({"sort", "head", "tail", "tac", "nl", "shuf"})
_LISTING = frozenset(
    {"find", "ls", "du", "df", "env", "printenv", "set", "declare", "alias", "ps", "pgrep", "tree", "stat", "file"}
    | {"wc", "md5sum", "sha256sum", "compgen", "getfacl", "lsattr", "locate", "xargs", "zipinfo"}
)
_FAMILIES = (
    frozenset({"grep", "egrep", "fgrep", "zgrep", "rg", "awk", "sed", "perl"}),
    frozenset({"diff", "cmp", "comm"}),
    frozenset({"test", "[", "[["}),
    frozenset({"find", "ls", "tree"}),
    frozenset({"sqlite3", "python3", "python"}),
)


@lru_cache(maxsize=1024)
def simple_commands(source: str) -> tuple[tuple[str, ...], ...]:
    """The simple commands of bash source as their words, quotes removed where they enclose a word; roughly.

    Bodies of here-documents and quoting that does not end are taken as words: this reads for hints, never to run.
    """
    source = re.sub(r"\\\n", " ", source)
    source = re.sub(r"(?m)^\s*#.*$|\s#[^'\"\n]*$", "", source)
    lexer = shlex.shlex(source, posix=True, punctuation_chars=";|&()\n")
    lexer.whitespace = " \t\r"
    lexer.whitespace_split = True
    lexer.commenters = ""
    commands: list[tuple[str, ...]] = []
    words: list[str] = []
    try:
        for word in lexer:
            if word and all(character in ";|&()\n{}!" for character in word):
                commands.append(tuple(words))
                words = []
            elif words or word not in _KEYWORDS:
                words.append(word)
    except ValueError:  # no closing quotation
        words += source.split()
    commands.append(tuple(words))
    return tuple(command for command in commands if command)


def programs(source: str) -> list[str]:
    """Names of the programs that bash source calls, in order, wrappers (``sudo``, ``xargs``) left out."""
    return [name for name, _ in _calls(source)]


def calls_of(source: str) -> list[tuple[str, tuple[str, ...]]]:
    """The programs that bash source calls with their words; what ``bash -c`` and ``eval`` run in place of those."""
    found: list[tuple[str, tuple[str, ...]]] = []
    for name, words in _calls(source):
        script = None
        if name in ("bash", "sh", "dash") and "-c" in words[:-1]:
            script = words[words.index("-c") + 1]
        elif name == "eval":
            script = " ".join(words)
        found += calls_of(script) if script is not None and script != source else [(name, words)]
    return found


def _calls(source: str) -> list[tuple[str, tuple[str, ...]]]:
    found = []
    for words in simple_commands(source):
        rest = list(words)
        while rest and (re.fullmatch(r"\w+=.*", rest[0], re.DOTALL) or _is_wrapper(rest)):
            wrapped = rest.pop(0) in _WRAPPERS
            while wrapped and rest and (rest[0].startswith("-") or re.fullmatch(r"[\d.]+[smh]?", rest[0])):
                if rest.pop(0) in _WITH_VALUE and len(rest) > 1:
                    rest.pop(0)
        if rest:
            found.append((rest[0].rsplit("/", 1)[-1], tuple(rest[1:])))
    return found


def _is_wrapper(words: list[str]) -> bool:
    return words[0] in _WRAPPERS and len(words) > 1


def spelling(source: str) -> str:
    """Equal for commands that differ in the number of blanks between words only, and so mean the same.

    Where blanks may be part of a word, and where lines are, the source itself.
    """
    if re.search(r"<<|[\\\n`]|\$\{|'[^']*\s|\"[^\"]*\s", source):
        return source
    text = re.sub(r"[ \t]+", " ", source).strip(" ")
    return re.sub(r"(?<=[\w.)])\s*;$", "", text)


def loop_variables(source: str) -> set[str]:
    """Names that only count through a loop: what is left in them afterwards matters to nobody."""
    names = set(re.findall(r"\b(?:for|select)\s+([A-Za-z_]\w*)\s+in\b", source))
    for words in re.findall(r"\bwhile\s+(?:\w+=\S*\s+)*read\b([^;\n|&]*)", source):
        names |= {word for word in words.split() if re.fullmatch(r"[A-Za-z_]\w*", word)}
    return names


def answers_by_status(source: str) -> bool:
    """Whether status 1 is an answer: of the last program called, or of a test before it."""
    calls = _calls(source)
    if not calls:
        return False
    name, arguments = calls[-1]
    guarded = "&&" in source and any(tested in ("test", "[", "[[") for tested, _ in calls)
    return guarded or name in ANSWERING or (name == "git" and arguments[:1] == ("diff",))


def only_reports(source: str) -> bool:
    """Whether every program called is there to change something, and its output only reports what it changed."""
    calls = _calls(source)
    return bool(calls) and all(
        name in _REPORTING or (name == "git" and bool(_REPORTING_GIT & set(arguments))) for name, arguments in calls
    )


def orders(source: str) -> bool:
    """Whether the order of what is printed may mean something."""
    calls = _calls(source)
    if any(name in _ORDERING for name, _ in calls):
        return True
    if re.search(r"\bfor\s*\(\s*\w+\s+in\b", source) or (
        re.search(r"\bselect\b", source, re.I) and not re.search(r"\border\s+by\b", source, re.I)
    ):
        return False
    if not calls:
        return True
    for name, arguments in calls:
        flags = "".join(word[1:] for word in arguments if re.fullmatch(r"-[A-Za-z0-9]+", word))
        if name == "ls":
            if set(flags) & set("tSrXv") or any(word.startswith("--sort") for word in arguments):
                return True
        elif name in ("grep", "egrep", "fgrep", "zgrep"):
            if not set(flags) & set("rRlL"):
                return True
        elif name == "git":
            if arguments[:1] and arguments[0] not in ("status", "branch", "tag", "config", "ls-files", "remote"):
                return True
        elif name not in _LISTING and name not in ("cd", "tar", "unzip", "uniq", "tr", "cut"):
            return True
    return False


def selects_by_rank(source: str) -> tuple[int, bool] | None:
    """Whether a command shows the first or last of something it has ordered (``ls -S | head -1``).

    Returns:
        How many, and whether the first ones in the order printed; None for any other command.
    """
    calls = _calls(source)
    if len(calls) < 2 or calls[-1][0] not in ("head", "tail", "sed"):
        return None
    ordered = any(name == "sort" or (name == "ls" and re.search(r"-\w*[tS]", " ".join(a))) for name, a in calls[:-1])
    number = re.search(r"(?:^|\s)-(?:n\s*)?(\d+)(?:\s|$)", " ".join(calls[-1][1]))
    if not ordered or calls[-1][0] == "sed":
        return None
    return (int(number.group(1)) if number else 10), calls[-1][0] == "head"


def chooses_by_place(source: str) -> bool:
    """Whether a command shows what stands first, last or in lines of a number, in data it did not order."""
    calls = _calls(source)
    if not calls or selects_by_rank(source) is not None:
        return False
    if calls[-1][0] == "git" and any(re.fullmatch(r"-\d+|-n\d*|--max-count.*", word) for word in calls[-1][1]):
        return True
    script = " ".join(calls[-1][1])
    numbered = re.search(r"-n\S*\s+[\"']?\d|\bNR\s*(?:==|<)", script) if calls[-1][0] in ("sed", "awk") else None
    return calls[-1][0] in ("head", "tail") or numbered is not None


def shows_whole(source: str) -> bool:
    """Whether a command shows files as they are, from their beginning or to their end."""
    return set(programs(source)) <= {"cat", "nl", "head", "tail", "less", "more"}


def joins(source: str) -> bool:
    """Whether lines are joined, so that order within a line is that of lines."""
    return any(name in ("paste", "tr", "xargs", "join") for name in programs(source)) or ".join(" in source


def compares(source: str) -> bool:
    """Whether the signs before lines (``<``, ``+``) say which side they are on."""
    return any(name in ("diff", "cmp", "comm") or (name == "git" and "diff" in a[:1]) for name, a in _calls(source))


def same_question(source: str, other: str) -> bool:
    """Whether two commands ask about the same things with programs of one kind.

    Where the answer is silence, nothing else tells what was asked.
    """
    ours, theirs = programs(source), set(programs(other))
    kin = {name for family in _FAMILIES if family & set(ours) for name in family}
    if not theirs & (kin | set(ours)):
        return False
    operands = {word for _, words in _calls(source) for word in words if not word.startswith(("-", ">", "<"))}
    mentioned = {word for _, words in _calls(other) for word in words}
    return operands - {"]", "]]", "/dev/null", "2>/dev/null"} <= mentioned


def only_speaks(source: str) -> bool:
    """Whether a command can show nothing but its own words."""
    return not re.search(r"[$`*?<\[]", source) and all(name in _SPEAKING for name in programs(source))


def runs_files(source: str) -> bool:
    """Whether a command runs programs that are files of the task, as far as its text tells."""
    words = simple_commands(source)
    return any(_INTERPRETERS.fullmatch(name) for name in programs(source)) or any("/" in one[0] for one in words)


def speaks(source: str) -> bool:
    """Whether a command prints words of its own: ``echo``, ``printf``, a here-document, ``print`` in a script."""
    return bool(re.search(r"\b(?:echo|printf|print|puts|write)\b|<<", source))
