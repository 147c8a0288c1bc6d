"""Settings of a command: the command line over the file over the built-in defaults."""

from __future__ import annotations

import argparse
import configparser
from pathlib import Path

from .options import COMMANDS, Option

Value = int | str | bool


class SettingsError(ValueError):
    """The settings file says something that makes no sense."""


def read_file(path: str, command: str) -> dict[str, Value]:
    """Return what the settings file says for ``command``."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(Path(path).read_text(encoding="utf-8"), source=path)
    except (OSError, configparser.Error) as error:
        raise SettingsError(f"cannot read {path}: {error}") from error
    found: dict[str, Value] = {}
    known = {option.name: option for option in COMMANDS[command]}
    everywhere = {option.name for options in COMMANDS.values() for option in options}
    for section in ("all", command):
        if not parser.has_section(section):
            continue
        for key, text in parser.items(section):
            name = key.replace("-", "_")
            if name in known:
                found[name] = convert(known[name], text, f"{path}: [{section}] {key}")
            elif section != "all" or name not in everywhere:
                raise SettingsError(f"{path}: [{section}] unknown option {key}")
    return found


def convert(option: Option, text: str, where: str) -> Value:
    """Return the text of a setting as a value of the option's type."""
    if option.is_switch:
        states = configparser.ConfigParser.BOOLEAN_STATES
        if text.lower() not in states:
            raise SettingsError(f"{where}: yes or no, not {text!r}")
        return states[text.lower()]
    if isinstance(option.default, int):
        try:
            return int(text)
        except ValueError as error:
            raise SettingsError(f"{where}: a number, not {text!r}") from error
    return text.strip('"')


def settle(command: str, given: argparse.Namespace) -> dict[str, Value]:
    """Return the settings for a run: ``given`` holds None for what the command line leaves open."""
    settings: dict[str, Value] = {option.name: option.default for option in COMMANDS[command]}
    if given.config is not None:
        settings.update(read_file(given.config, command))
    for name in settings:
        value = getattr(given, name)
        if value is not None:
            settings[name] = value
    return settings
