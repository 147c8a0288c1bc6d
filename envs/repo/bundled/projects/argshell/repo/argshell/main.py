"""The command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .jobs import JOBS
from .options import COMMANDS, Option
from .settings import SettingsError, settle


def add_option(parser: argparse.ArgumentParser, option: Option) -> None:
    """Add an option to the parser of its command."""
    shown = f"{option.help} ({('off', 'on')[option.default] if option.is_switch else option.default})"
    if option.is_switch:
        parser.add_argument(
            option.flag, dest=option.name, action=argparse.BooleanOptionalAction, default=option.default, help=shown
        )
    else:
        parser.add_argument(option.flag, dest=option.name, type=type(option.default), help=shown)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="argshell", description="Small jobs on text files.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, options in COMMANDS.items():
        command = commands.add_parser(name, help=JOBS[name].__doc__)
        for option in options:
            add_option(command, option)
        command.add_argument("--config", metavar="FILE", help="settings file")
        command.add_argument("--show-settings", action="store_true", help="print the settings and stop")
        command.add_argument("files", nargs="*", metavar="FILE")
    return parser


def read_texts(files: Sequence[str]) -> dict[str, str]:
    """Return the texts of the files by their names; standard input is ``-``."""
    if not files:
        return {"-": sys.stdin.read()}
    return {Path(name).name: Path(name).read_text(encoding="utf-8") for name in files}


def run(argv: Sequence[str]) -> int:
    """Do what the command line says and return the exit status."""
    given = build_parser().parse_args(argv)
    try:
        settings = settle(given.command, given)
        if given.show_settings:
            for name, value in sorted(settings.items()):
                print(f"{name} = {value!r}")
            return 0
        output = JOBS[given.command](read_texts(given.files), **settings)
    except (SettingsError, OSError) as error:
        print(f"argshell: {error}", file=sys.stderr)
        return 2
    sys.stdout.write(output)
    return 0
