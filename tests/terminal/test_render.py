"""How results of commands are shown to the agent."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pivotgym.envs.errors import NotRestorable
from pivotgym.envs.sandbox import CommandResult
from pivotgym.envs.terminal.render import render, submission
from pivotgym.envs.terminal.tasks import TerminalTask

PLAIN = TerminalTask(timeout=2.5)


@pytest.mark.parametrize(
    ("result", "shown"),
    [
        (CommandResult("a\nb\n", 0), "a\nb\n"),
        (CommandResult("no newline", 0), "no newline"),
        (CommandResult("", 0), "(no output)"),
        (CommandResult("", 1), "[exit status 1]"),
        (CommandResult("oops\n", 2), "oops\n[exit status 2]"),
        (CommandResult("oops", 2), "oops\n[exit status 2]"),
        (CommandResult("part", None, "timeout"), "part\n[killed: it ran for more than 2.5 s]"),
        (CommandResult("", None, "idle"), "[killed: no output for 4 s]"),
        (CommandResult("", None, "memory"), "[killed: over the memory limit]"),
        (CommandResult("", None, "disk"), "[killed: over the disk limit]"),
        (CommandResult("bye\n", 3, "shell_exit"), "bye\n[the shell exited with status 3; a new one was started]"),
        (CommandResult("", None, "shell_killed"), "[the shell was killed; a new one was started]"),
    ],
)
def test_plain(result: CommandResult, shown: str) -> None:
    assert render(result, PLAIN, 4.0) == shown


def test_raw_is_the_output_alone() -> None:
    assert render(CommandResult("x\n", 1), TerminalTask(observation="raw")) == "x\n"
    assert render(CommandResult("", 1), TerminalTask(observation="raw")) == ""


def template_of(data: dict[str, Any]) -> str:
    """The observation template that a recorded run of mini-swe-agent names."""
    found: list[str] = []

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                if key in ("observation_template", "action_observation_template") and isinstance(item, str):
                    found.append(item)
                walk(item)

    walk(data)
    assert found
    return found[0]


@pytest.mark.parametrize(
    "template",
    [
        "<returncode>{{ output.returncode }}</returncode>\n<output>\n{{ output.output -}}\n</output>",
        "<returncode>{{ returncode }}</returncode>\n<output>\n{{ output -}}\n</output>",
    ],
    ids=["object", "text"],
)
def test_a_template_sees_the_output_as_text_and_as_object(template: str) -> None:
    task = TerminalTask(observation="template", observation_template=template)
    ran = subprocess.run(["bash", "-c", "echo one; ls /nowhere-at-all"], capture_output=True, text=True, check=False)
    shown = render(CommandResult(ran.stdout, ran.returncode), task)
    assert shown == "<returncode>2</returncode>\n<output>\none\n</output>"


def test_a_template_is_told_of_a_kill() -> None:
    template = "{{ output | length }} {{ returncode }}{% if exception_info %} {{ exception_info }}{% endif %}"
    task = TerminalTask(observation="template", observation_template=template, timeout=3)
    assert render(CommandResult("four", 0), task) == "4 0"
    assert render(CommandResult("four", None, "timeout"), task) == "4 -1 [killed: it ran for more than 3 s]"


@pytest.mark.parametrize(
    "template",
    ["{{ outputs }}", "{% if %}", "{{ output.__class__.__mro__ }}", "{{ ''.__class__.__base__.__subclasses__() }}"],
)
def test_an_unusable_or_hostile_template_is_refused(template: str) -> None:
    task = TerminalTask(observation="template", observation_template=template)
    with pytest.raises(NotRestorable, match="bad_template"):
        render(CommandResult("x", 0), task)


def test_the_recorded_observations_of_mini_swe_agent_come_out_letter_for_letter(shared_data: Path) -> None:
    data = json.loads((shared_data / "swe" / "local.traj.json").read_text())
    if isinstance(data, list):
        messages, template = data, None
    else:
        messages, template = data["messages"], template_of(data)
    if template is None:
        template = "<returncode>{{output.returncode}}</returncode>\n<output>\n{{output.output -}}\n</output>"
    task = TerminalTask(observation="template", observation_template=template)
    compared = 0
    for message in messages:
        text = message.get("content")
        if message.get("role") not in ("user", "tool") or not isinstance(text, str):
            continue
        if not text.startswith("<returncode>") or "<output>\n" not in text:
            continue
        status = int(text.split("<returncode>")[1].split("<")[0])
        output = text.split("<output>\n", 1)[1].rsplit("</output>", 1)[0]
        assert render(CommandResult(output, status), task) == text
        compared += 1
    assert compared


@pytest.mark.parametrize(
    ("output", "handed_in"),
    [
        ("DONE\nthe answer\nof two lines\n", "the answer\nof two lines\n"),
        ("\n  DONE  \nx", "x"),
        ("DONE", ""),
        ("not DONE\nx", None),
        ("x\nDONE\n", None),
        ("", None),
    ],
)
def test_what_is_handed_in(output: str, handed_in: str | None) -> None:
    assert submission(CommandResult(output, 0), "DONE") == handed_in
    assert submission(CommandResult(output, 0), None) is None
