"""Whether a command finds out what it shows: it is run again where the files hold something else.

An output can hold the demonstrated words by accident: a list of all names holds the one that was searched for, a size
equals a count, a guess was lucky. Such an output stays the same where the answer becomes another. So both commands run
once more in forks whose data was varied; a world in which the demonstration fails says nothing.
"""

from __future__ import annotations

import contextlib
import shlex
import sqlite3

from pivotgym.envs.sandbox import Sandbox, SandboxFileError

MORE, LESS, MIXED, SPOILED, GONE = "more", "less", "mixed", "spoiled", "gone"
WORLDS = (MORE, LESS, MIXED)
"""How text files and SQLite tables below the working directory, and those named by their paths, are varied.

``more``: lines stand there several times, but for the first of several, in each file another number of times, each
file has a copy beside it, and tables have their rows several times, each table another number. ``less``: only the first
lines and rows are left, of each file and table another number of them, and all files have one mode. ``mixed``: columns
of tables (in files with equally many fields in each line, too) are rotated against each other, other files have their
lines but the first reversed, files of a kind in one folder exchange their contents, and a git repository has
everything committed, on a new branch.
"""
ASKED = (SPOILED, GONE)
"""What becomes of the paths that a command names: files hold what no program can read; nothing is there."""

_SOURCES = ("py", "sh", "bash", "js", "ts", "pl", "rb", "php", "mk", "toml", "cfg")
_MAX_FILES = 100
_MAX_DATABASE = 4 << 20
_AWK = r"""
function read_lines(name,  line) {
  count = 0
  while ((getline line < name) > 0) lines[++count] = line
  close(name)
}
function write_lines(name, times, most,  i, k) {
  printf "" > name
  for (i = 1; i <= count && i <= most; i++)
    for (k = 1; k <= ((i > 1 || count == 1) ? times : 1); k++) print lines[i] > name
  close(name)
}
function turn(  c, s, k, ok, i, j, f, v, row, old) {
  for (c = 1; c <= 4 && !ok; c++) {
    s = substr("\t,| ", c, 1); k = split(lines[1], f, s); ok = k > 1 && count > 3
    for (i = 1; i <= count && ok; i++) {
      if (split(lines[i], f, s) != k) ok = 0
      for (j = 1; j <= k; j++) v[i, j] = f[j]
    }
  }
  for (i = 2; i <= count; i++) old[i] = lines[i]
  for (i = 2; i <= count; i++) {
    row = old[count + 2 - i]
    if (ok) for (j = 1; j <= k; j++) row = (j > 1 ? row s : "") v[2 + (i - 2 + j) % (count - 1), j]
    lines[i] = row
  }
}
function folder(name) { sub(/[^\/]*$/, "", name); return name }
function ending(name) { sub(/.*\//, "", name); return (name ~ /\./) ? substr(name, match(name, /[^.]*$/)) : "" }
function stem(name) { sub(/.*\//, "", name); sub(/\.[^.]*$/, "", name); return name }
{ names[NR] = $0; kinds[NR] = folder($0) "\t" ending($0) }
END {
  for (n = 1; n <= NR; n++) {
    read_lines(names[n])
    if (world == "more") {
      write_lines(names[n], 2 + n % 7, count)
      suffix = ending(names[n]) == "" ? "" : "." ending(names[n])
      write_lines(folder(names[n]) stem(names[n]) "-copy" suffix, 2 + n % 7, count)
    }
    if (world == "less") write_lines(names[n], 1, 1 + n % 5)
    if (world == "mixed") {
      turn()
      for (i = 1; i <= count; i++) kept[n, i] = lines[i]
      kept[n] = count
    }
  }
  for (n = 1; world == "mixed" && n <= NR; n++) {
    source = 0  # the next file of this kind, round to the first
    for (m = n + 1; m <= NR && !source; m++) if (kinds[m] == kinds[n]) source = m
    for (m = 1; m <= n && !source; m++) if (kinds[m] == kinds[n]) source = m
    count = kept[source]
    for (i = 1; i <= count; i++) lines[i] = kept[source, i]
    write_lines(names[n], 1, count)
  }
}
"""
_SCRIPT = f"""
LC_ALL=C; export LC_ALL; t=$(mktemp) || exit 1
find "$@" -xdev -type f -size -256k -not -path '*/.git/*' -not -path '*/__pycache__/*' SPARED \\
  2>/dev/null | sort | head -n {_MAX_FILES} | tr '\\n' '\\0' | xargs -0 grep -Il '' 2>/dev/null > "$t"
[ "$world" = less ] && tr '\\n' '\\0' < "$t" | xargs -0 chmod 640 2>/dev/null
awk -v world="$world" "$program" "$t"; rm -f "$t"
if [ "$world" = mixed ] && cd "$1" 2>/dev/null && git rev-parse -q --git-dir >/dev/null 2>&1; then
  git checkout -q -b varied-branch >/dev/null 2>&1
  git add -A >/dev/null 2>&1
  git -c user.name=x -c user.email=x@example.org -c core.hooksPath=/dev/null commit -qm varied >/dev/null 2>&1
fi
find "$@" -xdev -type f -size -{_MAX_DATABASE // 1024}k \\( -name '*.db' -o -name '*.sqlite*' \\) 2>/dev/null |
  head -n 8
exit 0
"""


_ASKED_SCRIPT = """
cd "$1" || exit 1; here=$(pwd -P); shift
for path do
  case $path in '~'/*) path=$HOME/${path#'~'/} ;; esac
  [ -e "$path" ] || continue
  full=$(readlink -f -- "$path") || continue
  case $here/ in "$full"/*) continue ;; esac
  case $full in /usr/*|/bin/*|/sbin/*|/lib*|/proc/*|/sys/*|/dev/*) continue ;; /*/*) ;; *) continue ;; esac
  if [ "$world" = gone ]; then rm -rf -- "$path"; elif [ -f "$path" ]; then printf ')(\\n\\377{' > "$path"; fi
done
exit 0
"""


def take_away(sandbox: Sandbox, world: str, folder: str, paths: list[str]) -> bool:
    """Spoils or removes what a command names (:data:`ASKED`); False where that cannot be done.

    Args:
        sandbox: a fork that is thrown away afterwards.
        world: ``spoiled`` or ``gone``.
        folder: absolute; what relative paths are relative to. It stays, and so do the folders it is in.
        paths: words that may be paths.
    """
    script = f"world={world}\nset -- {shlex.join([folder, *paths])}\n{_ASKED_SCRIPT}"
    return sandbox.run(script, timeout=20.0, shell=("/bin/sh", "-c")).status == 0


def vary(sandbox: Sandbox, world: str, folders: list[str], *, programs: bool = True) -> bool:
    """Changes the data in ``folders`` of a sandbox as ``world`` says; False where that cannot be done there.

    Args:
        sandbox: a fork that is thrown away afterwards; its session's shell is not touched.
        world: one of :data:`WORLDS`.
        folders: absolute paths of folders or files.
        programs: vary source files too.
    """
    spared = "" if programs else " ".join(["-not -perm -100", *(f"-not -name '*.{ending}'" for ending in _SOURCES)])
    script = f"set -- {shlex.join(folders)}\nworld={world}\nprogram={shlex.quote(_AWK)}\n"
    script += _SCRIPT.replace("SPARED", spared)
    result = sandbox.run(script, timeout=20.0, shell=("/bin/sh", "-c"))
    for path in result.output.splitlines():
        _vary_database(sandbox, path, world)
    return result.status == 0


def _vary_database(sandbox: Sandbox, path: str, world: str) -> None:
    # What is no database, or none that can be written, stays as it is.
    with contextlib.suppress(SandboxFileError, sqlite3.Error):
        data = sandbox.read_file(path, max_bytes=_MAX_DATABASE)
        sandbox.write_file(path, varied_database(data, world))


def varied_database(data: bytes, world: str) -> bytes:
    """A SQLite database with its tables varied; what their constraints forbid stays as it is. Raises sqlite3.Error."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        connection.deserialize(data[:18] + b"\x01\x01" + data[20:])
        connection.execute("pragma trusted_schema = off")
        steps = iter(range(1000))
        connection.set_progress_handler(lambda: 1 if next(steps, None) is None else 0, 10_000)
        tables = connection.execute(
            "select name from sqlite_master "
            "where type = 'table' and name not like 'sqlite_%' and sql not like '%virtual%'"
        ).fetchall()
        for number, (table,) in enumerate(tables):
            _vary_table(connection, _quoted(table), world, 1 + number)
        return connection.serialize()
    finally:
        connection.close()


def _vary_table(connection: sqlite3.Connection, table: str, world: str, amount: int) -> None:
    columns = connection.execute(f"pragma table_info({table})").fetchall()
    keys = [name for _, name, _, _, _, key in columns if key]
    others = [name for _, name, _, _, _, key in columns if not key]
    rows = connection.execute(f"select {', '.join(map(_quoted, others)) or 'null'} from {table} limit 2000").fetchall()
    if not others or not rows:
        return
    if world == LESS:
        _try(
            connection,
            f"delete from {table} where rowid not in (select rowid from {table} order by rowid limit ?)",
            (amount,),
        )
        return
    if world == MORE:
        kind = next((kind for _, name, kind, _, _, key in columns if key), "")
        if len(keys) > 1 or (keys and kind.upper() != "INTEGER"):
            return
        names, marks = ", ".join(map(_quoted, others)), ", ".join("?" * len(others))
        for row in rows * amount:
            _try(connection, f"insert into {table} ({names}) values ({marks})", row)
        return
    numbers = [number for (number,) in connection.execute(f"select rowid from {table} limit 2000")]
    # Every column is rotated by another number of rows, so that no two values stay together.
    for shift, name in enumerate(others, 1):
        values = [row[shift - 1] for row in rows]
        values = values[shift % len(values) :] + values[: shift % len(values)]
        for number, value in zip(numbers, values, strict=True):
            _try(connection, f"update {table} set {_quoted(name)} = ? where rowid = ?", (value, number))


def _try(connection: sqlite3.Connection, statement: str, values: tuple[object, ...]) -> None:
    try:
        connection.execute(statement, values)
    except sqlite3.IntegrityError:
        return


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
