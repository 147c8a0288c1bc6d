"""The ``pivotgym`` command: parses options, runs one command, gives an honest exit status.

Options may also come from a TOML file (``--config FILE``): its keys are option names, nested tables are dotted
options, and what is given on the command line wins.
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Union

import tyro
from pydantic import ValidationError
from rich.console import Console
from tyro.conf import subcommand

from pivotgym.envs.errors import BadInput, PivotGymError
from pivotgym.harness.commands import Command, Filter, Profile, Train
from pivotgym.harness.commands_data import Check, Convert, Restore, Shell
from pivotgym.harness.commands_forget import Forget
from pivotgym.harness.commands_loop import Bench, Compare, Demo, Evaluate, Report, WarmStart
from pivotgym.harness.commands_sandbox import Clean, Validate

COMMANDS = (
    Demo,
    Convert,
    Restore,
    Shell,
    Profile,
    Filter,
    Train,
    Evaluate,
    Forget,
    Compare,
    Report,
    Check,
    Bench,
    Validate,
    Clean,
    WarmStart,
)


def _command_name(kind: type) -> str:
    """``WarmStart`` is called ``warm-start``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", kind.__name__).lower()


# Built at run time, so to the type checker it is Any.
_UNION: Any = Union[tuple(Annotated[kind, subcommand(_command_name(kind))] for kind in COMMANDS)]  # noqa: UP007


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point. Exit status: 0 done, 1 the command failed or found a failure, 2 unusable input or options."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    console = Console(stderr=True)
    _quiet_libraries()
    try:
        command: Command = tyro.cli(
            _UNION,
            prog="pivotgym",
            description="Turn-level reinforcement learning for LLM agents.",
            args=with_config(arguments),
        )
        sys.exit(0 if command.run() else 1)
    except BadInput as error:
        console.print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(2)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        console.print(f"error: option {where}: {first['msg']}", style="red", highlight=False, markup=False)
        sys.exit(2)
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): nothing left to say, and nobody to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        console.print(f"error: {error.filename or ''}: {error.strerror or error}", style="red", markup=False)
        sys.exit(2)
    except PivotGymError as error:
        console.print(f"{type(error).__name__}: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("stopped; what was finished is kept, the same command goes on", highlight=False)
        sys.exit(130)


def _quiet_libraries() -> None:
    # Our own progress says how far things are; bars and notices of libraries in between only break it up.
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def with_config(arguments: Sequence[str]) -> list[str]:
    """Replaces ``--config FILE`` by the options in that file which the command line does not give itself.

    Raises:
        BadInput: the file is missing or no TOML (with the line), or a value is no scalar, list or table.
    """
    rest = list(arguments)
    for position, argument in enumerate(rest):
        name, equals, value = argument.partition("=")
        if name != "--config":
            continue
        if not equals and position + 1 >= len(rest):
            raise BadInput("--config needs a file")
        path = Path(value if equals else rest[position + 1])
        del rest[position : position + (1 if equals else 2)]
        given = {_spelled(option.partition("=")[0]) for option in rest if option.startswith("--")}
        given |= {f"--{option.removeprefix('--no-')}" for option in given if option.startswith("--no-")}
        extra: list[str] = []
        for option, words in _options(_read_toml(path), path):
            if option not in given:
                extra += words
        # Behind everything else: an option that takes a list would swallow a positional argument that follows it.
        return [*rest, *extra]
    return rest


def _spelled(option: str) -> str:
    return option.replace("_", "-")


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(error.strerror or str(error), file=path) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"no TOML: {error}", file=path) from error


def _options(table: dict[str, Any], path: Path, prefix: str = "") -> list[tuple[str, list[str]]]:
    found: list[tuple[str, list[str]]] = []
    for key, value in table.items():
        name = _spelled(f"{prefix}{key}")
        option = f"--{name}"
        if isinstance(value, dict):
            found += _options(value, path, f"{prefix}{key}.")
        elif isinstance(value, bool):
            head, dot, last = name.rpartition(".")
            found.append((option, [option if value else f"--{head}{dot}no-{last}"]))
        elif isinstance(value, list):
            found.append((option, [option, *map(str, value)]))
        elif isinstance(value, str | int | float):
            found.append((option, [option, str(value)]))
        else:
            raise BadInput(f"a {type(value).__name__} is no option value", file=path, field=f"{prefix}{key}")
    return found


if __name__ == "__main__":
    main()
