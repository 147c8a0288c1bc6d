"""Where a shell command's output comes from, as far as its text tells: words of its own, or something it reads."""

from __future__ import annotations

import re

from pivotgym.verifiers.terminal_commands import calls_of
from pivotgym.verifiers.terminal_text import Asked, Shown, facts

_SAYING = frozenset(
    {"echo", "printf", "true", "false", ":", "cd", "sleep", "exit", "return", "set", "export", "local", "declare"}
    | {"unset", "let", "shift", "readonly", "seq", "expr", "yes", "bc", "dc", "factor", "tee", "wait", "touch", "mkdir"}
    | {"read", "mapfile", "tr", "in", "eval"}
)
"""Programs that tell nothing but what stands in the command."""
_FILTERS = frozenset(
    {"cat", "base64", "base32", "rev", "tac", "sort", "uniq", "nl", "wc", "head", "tail", "paste", "xxd", "od", "fold"}
    | {"hexdump", "md5sum", "sha1sum", "sha256sum", "column", "cut", "gunzip", "zcat", "gzip", "bunzip2", "xz", "fmt"}
)
"""Programs that read what their operands name, or else what is written into them."""
_SCRIPTED = frozenset({"sed", "awk", "gawk", "mawk", "grep", "egrep", "fgrep", "jq"})
"""The same, but the first operand is a script or pattern."""
_INTERPRETERS = re.compile(r"(?:python[\d.]*|perl|ruby|node|php)")
_READING_CODE = re.compile(
    r"open|read|Path|environ|listdir|scandir|glob|walk|getcwd|subprocess|system|popen|sqlite|socket|urllib|getuid|"
    r"ENV\b|\bos\.|uname|platform|fetch|require|File\b|Dir\b"
)
_INNOCENT_MODULES = frozenset(
    {"base64", "sys", "math", "string", "json", "textwrap", "codecs", "binascii", "itertools", "functools", "zlib"}
)
_HEREDOC = re.compile(
    r"<<-?[ \t]*(?P<quote>['\"\\]?)(?P<mark>\w+)['\"]?(?P<rest>[^\n]*)\n(?P<body>.*?)\n?^\s*(?P=mark)$", re.S | re.M
)
_UNHEARD = re.compile(r"(?:^|(?<=[;\n]))[^;&|\n()'\"]*(?<![\d&])>\s*/dev/null(?:\s*2>&1)?\s*(?:;|\n)")
_SUBSTITUTION = re.compile(r"\$\(((?:[^()]|\([^()]*\))*)\)|`([^`]*)`")
_FILE_TESTS = frozenset({"-e", "-f", "-d", "-s", "-r", "-w", "-x", "-L", "-h", "-nt", "-ot", "-v", "-O", "-G"})
_EXISTENCE = ({"-e", "-f", "-r"}, {"-e", "-d"}, {"-L", "-h"})


def only_words(source: str) -> bool:
    """Whether a command can tell nothing but its own words, however it puts them together.

    Calculations, encodings and pieces in variables are its own words too; files, globs, variables that were set
    before, other programs and substitutions that read are not.
    """
    text, bodies = _without_documents(source)
    text = _UNHEARD.sub("", text + "\n")
    text = re.sub(r"(?<!\\)'[^']*'", lambda found: found.group().replace("$", "").replace("`", ""), text)
    known = set(re.findall(r"(?:^|[\s;&|({])(\w+)\+?=", text)) | set(re.findall(r"\bfor\s+(\w+)\s+in\b", text))
    known |= set(re.findall(r"\b(?:read|mapfile)\b(?:\s+-\w+)*\s+(\w+)", text))
    for part in (text, *bodies):
        part, names = _arithmetic(part)
        if any(not only_words(one or other) for one, other in _SUBSTITUTION.findall(part)):
            return False
        part = _SUBSTITUTION.sub("", part)
        names |= set(re.findall(r"\$\{?[#!]?([A-Za-z_]\w*)", part))
        if names - known or re.search(r"\$[$!@*]", part):
            return False
    text = _SUBSTITUTION.sub("", _arithmetic(text)[0])
    if re.search(r"[<>]\(|(?<!<)<(?![<&(])\s*[\w./~\"'$]", _unquoted(text)) or _globs(_unquoted(text)):
        return False
    defined = set(re.findall(r"(?:function\s+)?(\w+)\s*\(\s*\)", text))
    return all(name in defined or not _reads(name, words, bodies) for name, words in calls_of(text))


def computes(source: str) -> bool:
    """Whether a command writes into a file, or assigns, what it computed: not only words of its own."""
    text = _without_documents(source)[0]
    bare = _unquoted(text)
    written = re.search(r"(?<![<\-=\d])[\d&]?>{1,2}\|?\s*(?!&|/dev/)[^\s>]|\btee\b|\bsort\b[^|;&]*\s-o", bare)
    assigned = re.search(r"(?:^|[\s;&|({])\w+=\(?[\"']?(?:\$\((?!\()|`)", text)
    return bool(written or assigned) and not only_words(source)


def own_words_only(shown: Shown, asked: Asked) -> bool:
    """Whether the demonstration showed nothing that does not stand in its own command (``test -f x && echo yes``)."""
    said = set(words_of(asked.demonstrated)) | asked.volatile
    return bool(shown.lines) and all(fact in said for line in shown.lines for fact in facts(line))


def words_of(source: str) -> tuple[str, ...]:
    """The facts of a command's text."""
    return facts(re.sub(r"\\[nt]", " ", source.replace("\n", " ")))


def asks_alike(source: str, other: str) -> bool:
    """Whether ``other``, which says words of its own, says them on the condition that ``source`` does.

    It must name everything that ``source`` asks about, decide where ``source`` decides, and test what that tests.
    """
    conditional = re.compile(r"&&|\|\||\bif\b|\bwhile\b|\bcase\b|\$\?")
    if conditional.search(_unquoted(source)) and not conditional.search(_unquoted(other)):
        return False
    ours, theirs = calls_of(source), calls_of(other)
    subjects = {
        fact for name, words in ours if name not in _SAYING for word in _operands(words) for fact in facts(word)
    }
    if not subjects <= set(words_of(other)) | {"dev", "null"}:
        return False
    if _inverts(ours) != _inverts(theirs):
        return False
    wanted, given = _tests(ours), _tests(theirs)
    if not given:
        return wanted <= {"-e", "-f", "-d", "-r"}
    return all(test in given or any(test in kind and kind & given for kind in _EXISTENCE) for test in wanted)


def named_paths(source: str) -> list[str]:
    """Words of a command that may be paths, as they stand there."""
    found: list[str] = []
    for name, words in calls_of(_without_documents(source)[0]):
        for word in (*([name] if "/" in name else []), *words):
            word = re.sub(r"^\d*[<>]+", "", word)
            if re.fullmatch(r"[\w./~+@%,:-]+", word) and not word.startswith("-") and word not in found:
                found.append(word)
    return found[:50]


def absolute_paths(source: str) -> list[str]:
    """Absolute paths that a command names and that hold data rather than the system."""
    found = re.findall(r"(?<![\w./~$}-])(/[\w.+@%,-]+(?:/[\w.+@%,-]+)*)", source)
    system = re.compile(r"/(?:proc|sys|dev|usr|bin|sbin|lib\w*|run|boot)(?:/.*)?")
    return [path for path in dict.fromkeys(found) if not system.fullmatch(path) and path.count("/") > 1][:20]


def _without_documents(source: str) -> tuple[str, list[str]]:
    """The source without the bodies of here-documents, and those bodies that bash expands."""
    bodies = [found["body"] for found in _HEREDOC.finditer(source) if not found["quote"]]
    return _HEREDOC.sub(lambda found: f"<<X{found['rest']}", source), bodies


def _unquoted(text: str) -> str:
    return re.sub(r"'[^']*'|\"(?:[^\"\\]|\\.)*\"", "Q", text)


def _arithmetic(text: str) -> tuple[str, set[str]]:
    """Text with calculations as numbers, and the names in them."""
    names: set[str] = set()

    def number(found: re.Match[str]) -> str:
        names.update(re.findall(r"[A-Za-z_]\w*", found[1]))
        return "0"

    return re.sub(r"\$\(\((.*?)\)\)", number, text), names


def _globs(bare: str) -> bool:
    words = re.sub(r"\$[?*#]|\[\[?\s|\s\]\]?|\{[^}]*\}", " ", bare)
    return re.search(r"[\w./]\*|\*[\w./]|(?:^|\s)\*(?:\s|$)|[\w./]\?|\?[\w./]|\[[^\]\s]+\]", words) is not None


def _operands(words: tuple[str, ...]) -> list[str]:
    found, skipped = [], False
    for word in words:
        if skipped:
            skipped = False
        elif re.fullmatch(r"[\d&]*(?:>>?\|?|<<?<?-?)", word):
            skipped = True
        elif not re.match(r"-|[\d&]*[<>]", word) and word not in ("]", "]]"):
            found.append(word)
    return found


def _reads(name: str, words: tuple[str, ...], bodies: list[str]) -> bool:
    operands = _operands(words)
    if name in ("test", "[", "[["):
        return any(word in _FILE_TESTS for word in words)
    if name in _FILTERS:
        return any(re.search(r"[A-Za-z/~.]", word) for word in operands)
    if name in _SCRIPTED:
        return len(operands) > 1 or any(re.match(r"-[a-z]*[rfR]", word) for word in words)
    if _INTERPRETERS.fullmatch(name):
        code = " ".join(word for word in words if re.search(r"\W", word) or word in operands) + " ".join(bodies)
        modules = {
            module.split(".")[0]
            for found in re.findall(r"\b(?:import|from)\s+([\w., ]+)", code)
            for module in re.split(r"[,\s]+", found.split(" import")[0].strip())
            if module
        }
        inline = any(re.fullmatch(r"-\w*[cer]|-", word) for word in words) or not operands
        return not inline or bool(_READING_CODE.search(code)) or not modules <= _INNOCENT_MODULES
    return name not in _SAYING and not re.fullmatch(r"[\d.+*/%-]+|X|Q|then|do|fi|done", name)


def _inverts(calls: list[tuple[str, tuple[str, ...]]]) -> bool:
    """Whether a search asks for the lines without the pattern."""
    return any(
        "grep" in name and any(re.fullmatch(r"-[A-Za-z]*v[A-Za-z]*|--invert-match", w) for w in words)
        for name, words in calls
    )


def _tests(calls: list[tuple[str, tuple[str, ...]]]) -> set[str]:
    return {word for name, words in calls if name in ("test", "[", "[[") for word in words if word in _FILE_TESTS}
