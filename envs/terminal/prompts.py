"""System messages and tools of the terminal environment."""

from __future__ import annotations

from pivotgym.envs.trajectory import JsonObject

COMMANDS = """You work in a Linux terminal. Run commands with the `bash` tool: one shell keeps its directory, \
variables and functions from one call to the next. There is nobody to ask and no network, so decide for yourself. \
Programs that wait for keys do not work here; use their options for scripts instead.
When the task is done, reply without a tool call. If the task asks a question, that reply is your answer."""

COMMANDS_APART = """You work in a Linux terminal. Run commands with the `bash` tool: every call is a shell of its own, \
which starts in the same directory; files stay, variables and `cd` do not. There is nobody to ask and no network, so \
decide for yourself.
When the task is done, reply without a tool call. If the task asks a question, that reply is your answer."""

SCREEN = """You work at a Linux terminal of 160 columns and 40 rows. Send keys with the `keystrokes` tool; you are \
shown the screen afterwards. Each item of `keys` is either text, typed as it is, or one key by its tmux name: Enter, \
Escape, Tab, BSpace, Up, Down, Left, Right, PageUp, Home, F1, C-c (Control and c), M-x (Alt and x). A command runs \
only once you send Enter.
When the task is done, reply without a tool call. If the task asks a question, that reply is your answer."""

BASH_TOOL: JsonObject = {
    "type": "function",
    "function": {
        "name": "bash",
        "description": "Runs a command in the terminal's bash shell and shows what it prints.",
        "parameters": {
            "type": "object",
            "properties": {"command": {"type": "string", "description": "Bash source, any number of lines."}},
            "required": ["command"],
            "additionalProperties": False,
        },
    },
}

KEYSTROKES_TOOL: JsonObject = {
    "type": "function",
    "function": {
        "name": "keystrokes",
        "description": "Sends keys to the terminal and shows its screen.",
        "parameters": {
            "type": "object",
            "properties": {
                "keys": {
                    "type": "array",
                    "items": {"type": "string"},
                    "description": "Texts and key names, in order; an empty list only looks at the screen.",
                },
                "wait": {
                    "type": "number",
                    "minimum": 0,
                    "maximum": 60,
                    "default": 1.0,
                    "description": "Seconds a program in the foreground may take before the screen is read.",
                },
            },
            "required": ["keys"],
            "additionalProperties": False,
        },
    },
}
