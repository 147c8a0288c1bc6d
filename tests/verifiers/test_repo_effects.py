"""The effects verifier for repositories: labelled actions at the turns of a bundled expert, judged by execution."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from needs import missing

from pivotgym.envs.repo.bundled.generate import record
from pivotgym.envs.repo.env import RepoEnv
from pivotgym.envs.sandbox import SandboxUnavailable, get_backend
from pivotgym.envs.snapshots import SnapshotStore
from pivotgym.envs.terminal.env import TerminalEnv
from pivotgym.envs.trajectory import JsonObject, Message, ToolCall, Trajectory
from pivotgym.envs.verdict import Verdict
from pivotgym.verifiers import make, verify_completion

try:
    get_backend("bubblewrap")
except SandboxUnavailable as error:
    missing(str(error))

LIST, SEARCH, VIEW, TRY, REPAIR, CHECK, NOTE, TESTS, HAND_IN = range(9)
MONEY = "/testbed/ledger/money.py"
BROKEN = "    return (2 * top + bottom) // (2 * bottom)\n"
BEFORE = "    top, bottom = exact.numerator, exact.denominator\n" + BROKEN
OTHER_WAY = "    half = Fraction(1, 2)\n    return int(exact + half) if exact >= 0 else -int(half - exact)\n"
"""Right, by other means than the demonstration."""
TOWARDS_ZERO = "    return int(exact)\n"
CUT_HALF = "    return -((-2 * top + bottom) // (2 * bottom)) if exact < 0 else (2 * top) // (2 * bottom)\n"


@pytest.fixture(scope="module")
def env() -> Iterator[RepoEnv]:
    with closing(RepoEnv(tasks="bundled", snapshots=SnapshotStore())) as made:
        yield made


@pytest.fixture(scope="module")
def recording(env: RepoEnv) -> Trajectory:
    """The ledger's expert, under the names its files have."""
    for seed in range(20):
        found = record("ledger", seed, env)
        if "/testbed/ledger/money.py" in found.model_dump_json():
            return found
    raise AssertionError("no instance keeps the names")


def bash(command: str) -> Message:
    return Message(role="assistant", tool_calls=[ToolCall(name="bash", arguments={"command": command}, id="c")])


def edit(**arguments: object) -> Message:
    call = ToolCall(name="str_replace_editor", arguments=dict(arguments), id="c")
    return Message(role="assistant", tool_calls=[call])


def replaced(new: str, old: str = BEFORE, path: str = MONEY) -> Message:
    return edit(command="str_replace", path=path, old_str=old, new_str=new)


def python(new: str, old: str = BROKEN, then: str = "") -> Message:
    source = f"p = {MONEY!r}; t = open(p).read(); open(p, 'w').write(t.replace({old!r}, {new!r}))"
    return bash(f"python3 - <<'END'\n{source}\nEND\n{then}")


def judged(env: RepoEnv, recording: Trajectory, turn: int, action: Message) -> Verdict:
    if env.pivot is None or env.pivot.turn != turn:
        env.reset(options={"trajectory": recording, "turn": turn})
    return verify_completion(make("repo_effects"), env, action, None)


LOOKS: list[tuple[int, str, Message, bool]] = [
    (LIST, "two calls for one", bash("git ls-files; cat README.md"), True),
    (LIST, "half of it", bash("cat README.md"), False),
    (SEARCH, "a word less", bash("grep -rn share_of ledger"), False),
    (VIEW, "sed", bash(f"sed -n '34,54p' {MONEY}"), True),
    (VIEW, "the whole file", bash(f"cat {MONEY}"), True),
    (VIEW, "the viewer without a range", edit(command="view", path=MONEY), True),
    (VIEW, "a wider range", edit(command="view", path=MONEY, view_range=[30, -1]), True),
    (VIEW, "with numbers", bash(f"cat -n {MONEY} | sed -n '34,54p'"), True),
    (VIEW, "too few lines", edit(command="view", path=MONEY, view_range=[34, 50]), False),
    (VIEW, "other lines", edit(command="view", path=MONEY, view_range=[1, 21]), False),
    (VIEW, "another file", edit(command="view", path="/testbed/ledger/__init__.py"), False),
    (VIEW, "the folder", edit(command="view", path="/testbed/ledger"), False),
    (VIEW, "nothing", bash("true"), False),
    (VIEW, "an unknown file", edit(command="view", path="/testbed/ledger/mony.py"), False),
    (VIEW, "everything there is", bash("cat $(git ls-files) $(git ls-files) $(git ls-files); git log -p"), False),
    (VIEW, "a look that also deletes", bash(f"cat {MONEY}; rm README.md"), False),
    (VIEW, "the repair instead of a look", python(OTHER_WAY), False),
    (VIEW, "handing in", Message(role="assistant", tool_calls=[ToolCall(name="submit", arguments={}, id="c")]), False),
]
EDITS: list[tuple[str, Message, bool]] = [
    ("another right way", replaced(OTHER_WAY), True),
    ("another right way, by a script", python(OTHER_WAY), True),
    ("with a test of its own beside it", python(OTHER_WAY, then="echo 'def test_x(): pass' > tests/test_x.py"), True),
    ("with a test made harmless", python(OTHER_WAY, then="echo 'def test_x(): pass' > tests/test_money.py"), False),
    ("rounds towards zero", replaced(TOWARDS_ZERO), False),
    ("cuts halves off", python(CUT_HALF), False),
    ("no change of substance", replaced(BEFORE.replace("top, bottom", "top, bottom  ")), False),
    ("an edit that does not apply", replaced("x", old="not there"), False),
    ("breaks the module", replaced("    return (\n"), False),
    ("right, but the README is gone", python(OTHER_WAY, then="rm README.md"), False),
    ("right, but the README is empty", python(OTHER_WAY, then=": > README.md"), False),
    ("right, but a module nobody tests ends at once", python(OTHER_WAY, then="echo 1/0 > ledger/__main__.py"), False),
    ("right, but a module in another's place", python(OTHER_WAY, then="echo boom > json.py"), False),
    ("right, and a line in the README", python(OTHER_WAY, then="echo Mended. >> README.md"), True),
    ("right, but a file outside too", python(OTHER_WAY, then="touch /etc/mark"), False),
    ("right, but tests are configured", python(OTHER_WAY, then="printf '[pytest]\\n' > pytest.ini"), False),
    ("only looks", bash(f"cat {MONEY}"), False),
    ("fakes what tests see", python(BROKEN + "import builtins\nbuiltins.AssertionError = ValueError\n"), False),
]


@pytest.mark.parametrize(("turn", "what", "action", "right"), LOOKS, ids=[what for _, what, _, _ in LOOKS])
def test_looks(env: RepoEnv, recording: Trajectory, turn: int, what: str, action: Message, right: bool) -> None:
    verdict = judged(env, recording, turn, action)
    assert verdict.reward == float(right), verdict


def test_another_search_for_the_same(env: RepoEnv, recording: Trajectory) -> None:
    call = recording.action(SEARCH).tool_calls[0]
    assert isinstance(call.arguments, dict)
    pattern = call.arguments["command"].split("'")[3]
    assert judged(env, recording, SEARCH, bash(f"git grep -n '{pattern}' -- ledger | sort")).reward == 1.0
    assert judged(env, recording, SEARCH, bash(f"git grep -c '{pattern}' -- ledger | sort")).reward == 0.0


@pytest.mark.parametrize(("what", "action", "right"), EDITS, ids=[what for what, _, _ in EDITS])
def test_edits(env: RepoEnv, recording: Trajectory, what: str, action: Message, right: bool) -> None:
    verdict = judged(env, recording, REPAIR, action)
    assert verdict.reward == float(right), verdict


def test_the_same_tree_by_other_means_needs_no_tests(env: RepoEnv, recording: Trajectory) -> None:
    call = recording.action(REPAIR).tool_calls[0]
    assert isinstance(call.arguments, dict)
    old, new = call.arguments["old_str"], call.arguments["new_str"]
    verdict = judged(env, recording, REPAIR, python(new, old=old))
    assert (verdict.reward, verdict.reason) == (1.0, "the same change")


def test_a_difference_is_judged_by_the_tests_that_the_edit_makes_pass(env: RepoEnv, recording: Trajectory) -> None:
    verdict = judged(env, recording, REPAIR, replaced(OTHER_WAY))
    evidence: JsonObject = verdict.evidence
    tests = env.spec_of_task.tests
    assert tests is not None
    assert sorted(evidence["gained"]) == sorted(tests.fail_to_pass) and evidence["lost"] == []
    worse = judged(env, recording, REPAIR, replaced(TOWARDS_ZERO))
    assert worse.evidence["lost"] and set(worse.evidence["lost"]) <= {*tests.fail_to_pass, *tests.pass_to_pass}


def test_where_no_test_begins_to_pass_only_the_same_change_is_right(env: RepoEnv, recording: Trajectory) -> None:
    """The note is a visible test, which hidden ones do not see."""
    assert judged(env, recording, NOTE, recording.action(NOTE)).reward == 1.0
    verdict = judged(env, recording, NOTE, bash("echo '# more' >> README.md"))
    assert verdict.reward == 0.0 and "no test pass" in verdict.reason


def test_handing_in(env: RepoEnv, recording: Trajectory) -> None:
    submit = Message(role="assistant", tool_calls=[ToolCall(name="submit", arguments={}, id="c")])
    assert judged(env, recording, HAND_IN, submit).reward == 1.0
    assert judged(env, recording, HAND_IN, Message(role="assistant", content="Done, it is repaired.")).reward == 1.0
    assert judged(env, recording, HAND_IN, bash("git status")).reward == 0.0
    assert judged(env, recording, TESTS, submit).reward == 0.0


def test_every_demonstrated_action_is_right(env: RepoEnv, recording: Trajectory) -> None:
    for turn in range(len(recording.turns)):
        assert judged(env, recording, turn, recording.action(turn)).reward == 1.0


def test_goal_and_continuation(env: RepoEnv, recording: Trajectory) -> None:
    """The generic verifiers serve repositories too."""
    env.reset(options={"trajectory": recording, "turn": REPAIR})
    for spec in ("goal", "continuation"):
        verifier = make(spec)
        assert verify_completion(verifier, env, replaced(OTHER_WAY), None).reward == 1.0
        assert verify_completion(verifier, env, replaced(TOWARDS_ZERO), None).reward == 0.0
    assert "repo_effects" == RepoEnv.default_verifier != TerminalEnv.default_verifier
