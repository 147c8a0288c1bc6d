"""The README's code runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_twenty_lines(shared_data: Path) -> None:
    code = BLOCKS[0].replace("results/gpt-4.1_airline.json", str(shared_data / "tau2" / "gpt-4.1_airline.json"))
    lines = run(code).splitlines()
    assert lines[0].startswith("1.0 ")
    assert '"reservation_id\\": \\"XEWRD9' in lines[1]
    assert lines[2].startswith("0.0 ")


def test_a_terminal() -> None:
    fidelity, changes, reward = run(BLOCKS[1]).splitlines()
    assert (fidelity, reward) == ("1.0", "1.0")
    assert "'path': '" in changes and "note'" in changes and "{'shell': 'cwd', 'value': '/tmp'}" in changes


def test_a_repository() -> None:
    shown = run(BLOCKS[2])
    assert re.search(r"^[0-9a-f]{7,} \S", shown, re.MULTILINE)
    assert "reward=1.0" in shown  # the expert has repaired it by then


def test_adding_a_domain() -> None:
    check = """
from pivotgym.envs.check import check_env_laws
report = check_env_laws("yours/Library-v0", resets=10)
print(report.broken, len(report.results))
env = gym.make("yours/Library-v0").unwrapped
env.reset(options={"task": "Dune"})
env.step('<tool_call>{"name": "lend_book", "arguments": {"title": "Dune", "reader": "Ada"}}</tool_call>')
print(env.score().reward)
"""
    broken, reward = run(BLOCKS[3] + check).splitlines()
    assert broken == "[] 9"
    assert reward == "1.0"


def test_every_command_of_the_table_exists() -> None:
    listed = set(re.findall(r"`pivotgym ([a-z-]+)", README.read_text(encoding="utf-8")))
    shown = run("from pivotgym.harness.cli import main; main(['--help'])")
    commands = re.search(r"\{([a-z,-]+)\}", shown)
    assert commands is not None
    assert listed - set(commands[1].split(",")) == set()
