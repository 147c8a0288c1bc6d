"""Recordings made by running the mini-swe-agent package itself, with its scripted models and local environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from needs import require

FORMS = ("text", "toolcall", "response")
#: A dozen and more commands of many kinds; the agent's shell is a new one for each.
COMMANDS = [
    "pwd && ls -A",
    "mkdir -p src/deep && cd src && pwd",
    "cat > src/count.py <<'EOF'\nimport sys\n\nfor n, line in enumerate(sys.stdin):\n    print(n, line.strip())\nEOF",
    "printf 'b\\na\\n\\nc\\n' > words.txt; sort words.txt",
    "python3 src/count.py < words.txt",
    "(cd src/deep && echo inner > here.txt && ls) && ls src",
    "cat missing.txt",
    "echo out; echo err >&2; exit 3",
    "true",
    "sed -i 's/a/ä & <tag>/' words.txt && cat words.txt",
    "no_such_program --flag",
    "cd src",
    "find . -type f | sort",
    "printf 'no newline at the end'",
    "python3 -c \"import sys; sys.stdout.write('x' * 12000)\"",
    "rm words.txt && git --version >/dev/null 2>&1; test -e words.txt || echo gone",
    'echo "$GREETING in $PWD"',
    "printf '\\033[31mred\\033[0m\\ttab\\r\\nend\\n'",
]
FINISH = "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT && (cat src/deep/here.txt 2>/dev/null || true)"

_RUNNER = """
import json, sys
from pathlib import Path
from minisweagent.agents.default import DefaultAgent
from minisweagent.environments.local import LocalEnvironment
from minisweagent.models import test_models as models

form, commands, cwd, template, out = json.loads(sys.stdin.read())
outputs = []
for number, group in enumerate(commands):
    arguments = lambda command: json.dumps({"command": command})
    group = [group] if isinstance(group, str) else group
    ids = [f"call_{number}_{n}" for n in range(len(group))]
    if form == "text":
        text = f"Step {number}.\\n\\n```mswea_bash_command\\n{group[0]}\\n```"
        outputs.append(models.make_output(text, [{"command": one} for one in group]))
    else:
        actions = [{"command": one, "tool_call_id": name} for one, name in zip(group, ids)]
        if form == "toolcall":
            calls = [
                {"id": name, "type": "function", "function": {"name": "bash", "arguments": arguments(one)}}
                for one, name in zip(group, ids)
            ]
            outputs.append(models.make_toolcall_output(f"Step {number}.", calls, actions))
        else:
            output = models.make_response_api_output(f"Step {number}.", actions)
            items = [item for item in output["output"] if item["type"] == "function_call"]
            for item, one in zip(items, group):  # the package's helper writes no valid JSON for a command with quotes
                item["arguments"] = arguments(one)
            outputs.append(output)
kinds = {
    "text": models.DeterministicModel,
    "toolcall": models.DeterministicToolcallModel,
    "response": models.DeterministicResponseAPIToolcallModel,
}
settings = {"outputs": outputs} | ({"observation_template": template} if template else {})
agent = DefaultAgent(
    kinds[form](**settings),
    LocalEnvironment(cwd=cwd, env={"GREETING": "hello", "PAGER": "cat"}, timeout=20),
    system_template="You work in a shell.",
    instance_template="Task: {{task}}",
    cost_limit=0,
    output_path=Path(out),
)
agent.run("try some commands")
"""


def record(
    form: str, folder: Path, work: Path, *, commands: list[Any] | None = None, template: str | None = None
) -> Path:
    """Runs the agent in ``work`` (made empty) and returns the trajectory file it wrote."""
    require("minisweagent", "dev")
    out = folder / f"{form}.traj.json"
    work.mkdir(parents=True, exist_ok=True)
    given = [form, [*(commands or COMMANDS), FINISH], str(work), template, str(out)]
    env = {
        **os.environ,
        "MSWEA_SILENT_STARTUP": "1",
        "MSWEA_GLOBAL_CONFIG_DIR": str(folder / "config"),
        "LC_ALL": "C.UTF-8",
    }
    program = [sys.executable, "-c", _RUNNER]
    subprocess.run(program, input=json.dumps(given), text=True, env=env, cwd=folder, check=True, timeout=300)
    return out
