"""Keystroke mode: a terminal screen inside the sandbox, kept by a tmux server of its own.

A screen is a live process, so a snapshot of the sandbox cannot hold it: states come back by replay. What a screen
shows depends on when it is looked at; a replay therefore waits until it shows what the recording saw, for a while.
"""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Sequence

from pivotgym.envs.errors import NotRestorable
from pivotgym.envs.sandbox import CommandResult, Sandbox, SandboxError

COLUMNS, ROWS = 160, 40
QUIET = 0.2
"""Seconds a screen must not change until it is read, where the shell waits at its prompt."""
PATIENCE = 5.0
"""Seconds a replay waits for the screen that was recorded, beyond the wait that the action names."""
_TMUX = "tmux -u -L terminal -f /dev/null"
_NAMED = (
    "Enter|Escape|Tab|BTab|Space|BSpace|Up|Down|Left|Right|Home|End|PageUp|PageDown|PgUp|PgDn|PPage|NPage|IC|DC|"
    r"Insert|Delete|F(?:[1-9]|1[0-9]|20)"
)
_KEY = re.compile(rf"(?:[CMS]-)*(?:{_NAMED})|(?:[CM]-)+\S|(?:[CMS]-)+S-\S|\^[A-Za-z@\[\]\\^_?]")
_TMUX_NAMES = {"Insert": "IC", "Delete": "DC", "PageUp": "PPage", "PageDown": "NPage"}
_SENT_AT_ONCE = 1000
"""Characters of one send-keys command."""
GONE = "[the terminal was gone; a new one was started]"
DEAD = "[the terminal cannot be started again]"


def is_key(item: str) -> bool:
    """Whether an item of ``keys`` names one key (``Enter``, ``C-c``, ``^C``, ``M-x``, ``F1``); else it is text."""
    return _KEY.fullmatch(item) is not None


def send_commands(keys: Sequence[str]) -> list[str]:
    """The tmux commands that send ``keys``; a line feed inside text is the Enter key."""
    commands: list[str] = []
    for item in keys:
        if is_key(item):
            commands.append(f"send-keys -t terminal {shlex.quote(_tmux_name(item))}")
            continue
        for position, line in enumerate(item.replace("\r\n", "\n").replace("\0", "").split("\n")):
            if position:
                commands.append("send-keys -t terminal Enter")
            for start in range(0, len(line), _SENT_AT_ONCE):
                text = line[start : start + _SENT_AT_ONCE]
                # tmux takes a semicolon at the end of an argument for the end of the command.
                text = f"{text[:-1]}\\;" if text.endswith(";") else text
                commands.append(f"send-keys -t terminal -l -- {shlex.quote(text)}")
    return commands


def _tmux_name(key: str) -> str:
    if key.startswith("^"):
        return f"C-{key[1:].lower()}"
    modifiers, name = re.fullmatch(r"((?:[CMS]-)*)(.+)", key, re.DOTALL).groups()  # type: ignore[union-attr]
    return modifiers + _TMUX_NAMES.get(name, name)


class Screen:
    """The screen of one sandbox.

    Args:
        sandbox: the terminal's shell starts in the directory and environment of its session.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def start(self) -> None:
        """Starts the terminal.

        Raises:
            NotRestorable: there is no tmux in the sandbox.
            SandboxError: tmux does not start.
        """
        if self._run("command -v tmux").status != 0:
            raise NotRestorable("no_tmux", "the sandbox's image has no tmux, which the screen mode needs")
        started = self._begin()
        if started.status != 0:
            raise SandboxError(f"tmux does not start: {started.output[-500:]}")
        if self._look(5.0) is None:
            raise SandboxError("the terminal's screen cannot be read")

    def _begin(self) -> CommandResult:
        # The shell reads no start-up files and keeps no history file, so that it is the same on every image.
        shell = r"env -u HISTFILE -u TMUX PS1='\u@\h:\w\$ ' HISTFILE= bash --norc --noprofile"
        options = "set-option -g status off ';' set-option -g escape-time 0 ';' set-option -g history-limit 2000"
        session = f"new-session -d -s terminal -x {COLUMNS} -y {ROWS} {shlex.quote(shell)}"
        return self._run(f"{_TMUX} start-server ';' {options} ';' {session}")

    def press(self, keys: Sequence[str], wait: float, until: Callable[[str], bool] | None = None) -> str:
        """Sends keys and reads the screen.

        Args:
            keys: texts and key names.
            wait: seconds a program in the foreground is given. The screen is read sooner where the shell is back at
                its prompt and nothing has changed for :data:`QUIET` seconds.
            until: says that a screen is the one a replay waits for; it waits for up to :data:`PATIENCE` seconds more.

        Returns:
            The screen's rows, without empty rows at its end.
        """
        commands = send_commands(keys)
        for start in range(0, len(commands), 50):
            batch = " ';' ".join(commands[start : start + 50])
            if self._run(f"{_TMUX} {batch}").status != 0:
                return self._again()
        if until is None:
            return self.settle(wait)
        shown, deadline = self.settle(wait), time.monotonic() + PATIENCE
        while not until(shown) and time.monotonic() < deadline:
            shown = self.settle(QUIET)
        return shown

    def settle(self, wait: float) -> str:
        """The screen after ``wait`` seconds at most, see :meth:`press`."""
        shown = self._look(wait)
        return self._again() if shown is None else shown

    def _look(self, wait: float) -> str | None:
        result = self._run(_SETTLE.format(tmux=_TMUX, wait=f"{wait:.3f}", quiet=f"{QUIET:.3f}"), timeout=wait + 30.0)
        return result.output.rstrip("\n") if result.status == 0 else None

    def _again(self) -> str:
        # The image could start it once: if it no longer can, that is the agent's doing, and its episode goes on.
        self._run(f"{_TMUX} kill-server 2>/dev/null")
        shown = self._look(5.0) if self._begin().status == 0 else None
        return DEAD if shown is None else f"{GONE}\n{shown}"

    def _run(self, command: str, timeout: float = 30.0) -> CommandResult:
        # In a subshell: nothing of this may be seen in the session's own shell.
        return self._sandbox.run(f"( {command} ) 2>&1", timeout=timeout)


# Watches from inside: a look from outside costs a round trip. Times in microseconds.
_SETTLE = """
us() {{ local t=${{EPOCHREALTIME/[.,]/}}; echo "$t"; }}
span() {{ local s=$1; echo $(( ${{s%.*}} * 1000000 + 10#${{s#*.}} * 1000 )); }}
begin=$(us); end=$((begin + $(span {wait}))); quiet=$(span {quiet}); since=$begin; last=
while :; do
  now=$(us)
  shown=$({tmux} capture-pane -p -t terminal) || exit 3
  front=$({tmux} display-message -p -t terminal '#{{pane_current_command}}') || exit 3
  if [ "$shown" != "$last" ]; then last=$shown; since=$now; fi
  if [ "$front" = bash ] && [ $((now - since)) -ge "$quiet" ]; then break; fi
  if [ "$now" -ge "$end" ]; then break; fi
  sleep 0.03
done
printf '%s\\n' "$last"
"""
