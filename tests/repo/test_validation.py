"""A task is checked with its own solution before agents play it."""

from __future__ import annotations

import pytest
from needs import missing
from sandboxes import taken
from slugs import HIDDEN, NAMES, REFERENCE, slug_task

from pivotgym.envs.errors import BadInput
from pivotgym.envs.repo.validation import validate
from pivotgym.envs.sandbox import SandboxUnavailable, get_backend
from pivotgym.envs.terminal.prepare import prepare
from pivotgym.envs.validation import Validation

CONFTEST = """--- a/tests/conftest.py
+++ b/tests/conftest.py
@@ -1,1 +1,1 @@
-import pytest
+import pytest  # again
"""
MADE = """
def making(text, slug):
    def inner():
        assert slugify(text) == slug
    return inner


test_made = making("a b", "a-b")
"""


def test_a_tasks_own_solution_shows_what_is_wrong_with_the_task() -> None:
    """A test that nothing can be planted in, one that passes anyway, and a file that may not change."""
    backend = get_backend("bubblewrap")
    try:
        box = prepare(backend, slug_task(), "host")
    except SandboxUnavailable as error:
        missing(str(error))
    pristine = taken(box)
    box.stop()
    path, text = HIDDEN["pytest"]
    named = [*NAMES["pytest"][0], f"{path}::test_made", f"{path}::test_simple"]
    reference = f"{REFERENCE}{CONFTEST}"
    task = slug_task(files={path: text + MADE}, fail_to_pass=named, pass_to_pass=[])
    assert validate(backend, slug_task(), pristine) == Validation()
    found = validate(backend, task.model_copy(update={"reference": reference}), pristine)
    assert found.problems[f"{path}::test_simple"] == "passes without the solution" and not found.usable
    assert set(found.left_out) == {"tests/conftest.py"}
    # Marks in functions that make tests would be as well; then it is believed, and is right before, too.
    assert found.problems[f"{path}::test_made"].startswith(("unbelieved with the solution: ", "passes without"))
    assert set(found.problems) == {f"{path}::test_simple", f"{path}::test_made"}
    with pytest.raises(BadInput, match="field reference"):
        validate(backend, task.model_copy(update={"reference": ""}), pristine)
    backend.close(pristine)
