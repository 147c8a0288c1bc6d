"""BrowserGym's MiniWoB tasks, driven from outside: the other side of ``pivotgym bench browser``.

Run by a Python that has ``browsergym-miniwob`` installed, not by ours: that package pins another Playwright. It reads a
JSON object a line (``{"do": "hello"}``, ``{"do": "reset", "task": ..., "seed": ...}``, ``{"do": "step", "move":
[...]}``) and answers each with one; what it imports comes from that Python alone.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

_MISSING = re.compile(r"Executable doesn't exist at (\S+)")
_WRAPPER = '#!/bin/sh\nexec "{}" --no-sandbox "$@"\n'


def main(pages: str, chromium: str) -> None:
    """Answers until its input ends.

    Args:
        pages: the folder of MiniWoB++'s pages.
        chromium: the Chromium to run.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    with tempfile.TemporaryDirectory(prefix="pivotgym-peer-") as folder:
        os.environ["PLAYWRIGHT_BROWSERS_PATH"] = folder
        os.environ["MINIWOB_URL"] = f"{Path(pages).as_uri()}/"
        _provide(chromium)
        import_module("browsergym.miniwob")
        gym, observing = import_module("gymnasium"), import_module("browsergym.utils.obs")
        env: Any = None
        name = ""
        text = ""
        for line in sys.stdin:
            wanted = json.loads(line)
            answer: dict[str, Any] = {}
            if wanted["do"] == "hello":
                print(json.dumps({"seconds": 0.0, "error": ""}), file=answers, flush=True)
                continue
            if wanted["do"] == "reset":
                began = time.perf_counter()
                if wanted["task"] != name:  # an environment of its has one task
                    if env is not None:
                        env.close()
                    name = wanted["task"]
                    env = gym.make(f"browsergym/miniwob.{name}")
                    began = time.perf_counter()
                seen, _ = env.reset(seed=wanted["seed"])
            else:
                began = time.perf_counter()
                seen = env.step(_action(text, wanted["move"]))[0]
            text = observing.flatten_axtree_to_str(seen["axtree_object"], seen["extra_element_properties"])
            answer["seconds"] = time.perf_counter() - began
            answer["error"] = str(seen["last_action_error"])
            print(json.dumps(answer), file=answers, flush=True)
        if env is not None:
            env.close()


def _action(text: str, move: list[Any]) -> str:
    verb, role, position, *rest = move
    found = re.findall(rf"\[(\w+)\] {role}\b", text)
    return f"{verb}({', '.join(repr(part) for part in (found[position % len(found)], *rest))})"


def _provide(chromium: str) -> None:
    """Puts a Chromium where Playwright looks for its own; where that is, its message says."""
    playwright = import_module("playwright.sync_api").sync_playwright().start()
    try:
        for _ in range(3):
            try:
                playwright.chromium.launch().close()
                return
            except Exception as error:
                missing = _MISSING.search(str(error))
                if missing is None:
                    raise
                path = Path(missing[1])
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(_WRAPPER.format(chromium))
                path.chmod(0o755)
    finally:
        playwright.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
