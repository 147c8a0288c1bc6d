r"""How InterCode ran a command, as a program for :attr:`TerminalTask.shell`, and how it made its file systems.

InterCode hands ``/bin/bash -c "<action>"`` to Docker's client as one text. The client splits it into words the way a
shell would, so double quotes inside the action end the quotation: of ``echo "a b"`` bash gets ``echo a`` as its
command and ``b`` as its name. Each action is a process of its own. An action that begins with ``cd`` has its rest taken
for a path, simplified as text, and run in ``/``; if it succeeds, later actions run in that directory. Output that
is no UTF-8, and quotes that stay open, give ``Malformed command``; ten seconds give ``Command timed out``.

The file system was a git repository at ``/``, and every session began with ``git reset --hard; git clean -fd``: git
knows no empty directories, so those outside the ignored folders were gone, ``/tmp`` and ``/mnt`` among them.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable

SECONDS = 10
"""What an action may take."""
STATE = "/var/lib/intercode"
"""Folder for the tracked working directory: git ignored ``/var``."""
IGNORED = frozenset(
    {"bin", "boot", "dev", "etc", "home", "lib", "media", "opt", "proc", "root", "run", "sbin", "srv", "sys", "usr"}
    | {"var", ".dockerenv"}
)
"""Names that the image's ``.gitignore`` listed. It ignored them at any depth."""
_LIMIT = 4 << 20
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MALFORMED, TIMED_OUT = "Malformed command", "Command timed out"

# Arguments: the file system's number, the action. Only bash itself decides here, byte by byte; `iconv` and `timeout`
# come with every system that has bash.
_SCRIPT = r"""
LC_ALL=C
number=$1 action=$2 state=STATE workdir=/ moved=
malformed() { printf 'MALFORMED'; exit 1; }
strip() { reply=${1#"${1%%[![:space:]]*}"}; reply=${reply%"${reply##*[![:space:]]}"}; }
[ -f $state/workdir ] && workdir=$(<$state/workdir)
if [[ $action == cd* ]]; then
  [[ $action == *"cd "* ]] || malformed
  strip "${action#*cd }"
  moved=$workdir rest=$reply parts=()
  if [ -n "$rest" ]; then
    [[ $rest == /* ]] || rest=$workdir/$rest
    rest=$rest/ moved=
    while [ -n "$rest" ]; do
      part=${rest%%/*} rest=${rest#*/}
      case $part in
        ..) [ ${#parts[@]} -gt 0 ] && unset 'parts[-1]' ;;
        '' | .) ;;
        *) parts+=("$part") ;;
      esac
    done
    for part in "${parts[@]}"; do moved+=/$part; done
    moved=${moved:-/}
  fi
  action="cd $moved" workdir=/
fi
strip "$action"
line=\"$reply\"
words=() word= quoted= within= i=0 n=${#line}
while [ $i -lt $n ]; do
  c=${line:i:1} i=$((i + 1))
  if [ "$within" = "'" ]; then
    if [ "$c" = "'" ]; then within=; else word+=$c; fi
  elif [ "$c" = \\ ]; then
    [ $i -lt $n ] || malformed
    c=${line:i:1} i=$((i + 1)) quoted=1
    [ -n "$within" ] && [ "$c" != \\ ] && [ "$c" != '"' ] && word+=\\
    word+=$c
  elif [ "$within" = '"' ]; then
    if [ "$c" = '"' ]; then within=; else word+=$c; fi
  else
    case $c in
      [$' \t\r\n']) [ -n "$word$quoted" ] && words+=("$word"); word= quoted= ;;
      [\"\']) within=$c quoted=1 ;;
      *) word+=$c ;;
    esac
  fi
done
[ -z "$within" ] || malformed
[ -n "$word$quoted" ] && words+=("$word")
if ! cd "$workdir" 2>/dev/null; then
  printf 'OCI runtime exec failed: exec failed: unable to start container process: chdir to cwd ("%s") ' "$workdir"
  printf 'set in config.json failed: no such file or directory: unknown'
  exit 126
fi
# Since 5.2 bash leaves `.` and `..` out of what `.*` matches; the recorded one did not.
shopt -q globskipdots 2>/dev/null && options=(+O globskipdots) || options=()
mkdir -p $state
output=$(mktemp -p /dev/shm 2>/dev/null || mktemp -p $state)
# The reader takes the beginning of an endless output and swallows the rest, and does not wait for background processes.
env -i PATH=SEARCHED HOSTNAME="$HOSTNAME" \
  file_system_version=$number script=setup_nl2b_fs_$number.sh HOME=/root \
  timeout -k 1 SECONDS /bin/bash "${options[@]}" -c "${words[@]}" 2>&1 </dev/null |
  timeout -k 1 $((SECONDS + 1)) /bin/bash -c 'head -c LIMIT >"$0"; cat >/dev/null' "$output"
statuses=("${PIPESTATUS[@]}")
status=${statuses[0]}
if [ $status = 124 ] || [ "${statuses[1]}" = 124 ]; then printf 'TIMED_OUT'; status=124
elif iconv -f UTF-8 -t UTF-8 "$output" >/dev/null 2>&1; then cat "$output"
else printf 'MALFORMED'; status=1
fi
rm -f "$output"
[ -n "$moved" ] && [ $status = 0 ] && printf %s "$moved" >$state/workdir
exit $status
"""
_SCRIPT = (
    _SCRIPT.replace("STATE", STATE)
    .replace("SECONDS", str(SECONDS))
    .replace("SEARCHED", _PATH)
    .replace("LIMIT", str(_LIMIT))
)
_SCRIPT = _SCRIPT.replace("MALFORMED", MALFORMED).replace("TIMED_OUT", TIMED_OUT)


def shell(number: str) -> list[str]:
    """The program that runs an action, which becomes its last argument.

    Args:
        number: of the file system (``1``), which the image has in its environment.
    """
    return ["/bin/bash", "-c", _SCRIPT, "intercode", number]


def setup_script(folders: Iterable[str], missing: Iterable[str] = ()) -> str:
    """Bash source that makes the unpacked archive what a session began with.

    Args:
        folders: of the archive, at the root; their empty directories go, as ``git clean`` removes them.
        missing: programs that the recorded image did not have.
    """
    lines = [f"mkdir -p {STATE} /boot /media", "rmdir /tmp /mnt 2>/dev/null"]
    for name in sorted({*folders} - IGNORED):
        # A folder that loses an entry keeps the time it had: the file system is the same whenever it is built.
        place = shlex.quote(f"/{name}")
        lines += [
            f"find {place} -type d -printf '%T@ %p\\0' >{STATE}/times",
            f"find {place} -mindepth 1 -depth -type d -empty -delete",
            'while read -r -d "" time path; do [ -d "$path" ] && touch -d "@$time" "$path"; done '
            f"<{STATE}/times; rm {STATE}/times",
        ]
    # Docker writes the container's own name and address.
    hosts = r"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n"
    hosts += r"ff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n172.17.0.2\t%s\n"
    lines.append(f"""printf '{hosts}' "$HOSTNAME" >/etc/hosts""")
    programs = " ".join(f"$d/{shlex.quote(name)}" for name in sorted(missing))
    if programs:
        lines.append(
            f"for d in /usr/local/sbin /usr/local/bin /usr/sbin /usr/bin /sbin /bin; do rm -f {programs}; done"
        )
    return "\n".join([*lines, "exit 0"])
