"""Effects for repositories: the same tree, or the same tests that pass; for a look, the same lines shown."""

from __future__ import annotations

from collections.abc import Mapping

from pivotgym.envs.core import AgentEnv
from pivotgym.envs.errors import BadInput
from pivotgym.envs.repo.env import RepoEnv
from pivotgym.envs.repo.patches import patch_paths
from pivotgym.envs.repo.rules import HARMLESS, TEST, Rules
from pivotgym.envs.repo.tasks import Tests
from pivotgym.envs.sandbox import SandboxFileError
from pivotgym.envs.trajectory import JsonObject, Message
from pivotgym.verifiers.arguments import inadmissible
from pivotgym.verifiers.base import Verdict, Verifier, pivot_of
from pivotgym.verifiers.repo_actions import as_commands, only_looks
from pivotgym.verifiers.terminal import TerminalEffects, fails, same_calls
from pivotgym.verifiers.terminal_answers import judge_answer
from pivotgym.verifiers.terminal_changes import compare, place, settle
from pivotgym.verifiers.terminal_outcomes import Outcome, Outcomes, source_of


class RepoEffects(Verifier):
    """Right is an action after which the repository is worth what it is worth after the demonstrated one.

    - **Edits.** The same change of files, shell and git's state is right, whatever made it. So is another change of
      the repository's sources after which every hidden test passes that passes after the demonstrated edit, where
      that edit makes at least one pass that did not before; it must not delete what the demonstration keeps, nor
      take most of it away, nor bring what no test run may see (modules in another's place, configuration), nor change
      tests that are there or what configures them, nor change anything outside of the repository. An edit
      that makes no test pass (a script that reproduces the issue, the first half of a change) can only be compared
      by what it changes.
    - **Looks.** Where the demonstration changes nothing, :class:`TerminalEffects` compares: what was shown must be
      shown, found and not made up. Viewers and searches are compared as the commands that show the same, so ``sed``,
      ``cat`` and a viewer are each other's equals.
    - **The end.** Where the demonstration hands in, so must the action, with no other change; what a closing text
      says is judged as any answer.

    A test counts as passed only where :func:`pivotgym.envs.repo.grading.run_names` believes it.
    """

    name = "repo_effects"
    cost = 800.0

    def __init__(self, terminal: TerminalEffects | None = None) -> None:
        self.terminal = terminal or TerminalEffects()

    def verify(self, env: AgentEnv, action: Message) -> Verdict:
        """1 or 0 by rule ``repo_effects`` (``terminal_effects`` for a look, ``terminal_answer`` for a text).

        Raises:
            BadInput: ``env`` is no :class:`RepoEnv`, or does not stand at a turn of a recording.
            InfrastructureError: the sandbox broke.
        """
        if not isinstance(env, RepoEnv):
            raise BadInput(f"{type(env).__qualname__} is no repository: take the verifier effects", field="verifier")
        pivot = pivot_of(env)
        demonstration = pivot.demonstration
        if not demonstration.tool_calls and not action.tool_calls:
            return judge_answer(self.terminal.talk, env, demonstration.text, action)
        problem = inadmissible(env.tools, demonstration.tool_calls, action.tool_calls, self.terminal.max_extra_calls)
        if problem is not None:
            return self._wrong(problem)
        if demonstration.tool_calls and same_calls(env, demonstration, action):
            return Verdict(reward=1.0, rule=self.name, reason="the demonstrated calls")
        runs = Outcomes(env, pivot, self.terminal.incidental)
        wanted = runs.demonstrated()
        given = runs.run(action) if wanted.known else wanted
        if not (wanted.known and given.known):
            return self._wrong("not the demonstrated calls, and what runs in this state cannot be compared")
        if wanted.done != given.done:
            return self._wrong("ends the episode" if given.done else "does not end the episode")
        if wanted.changes or wanted.done:
            return self._edit(env, runs, wanted, given, action)
        return self._look(env, runs, wanted, given, action)

    def _look(self, env: RepoEnv, runs: Outcomes, wanted: Outcome, given: Outcome, action: Message) -> Verdict:
        if given.changes:
            changed = ", ".join(place(row) for row in given.changes[:3])
            return self._wrong(f"changes {changed} where the demonstration only looks")
        demonstration = as_commands(env, runs.demonstration, _texts(env, runs.demonstration), numbered=False)
        looked = as_commands(env, action, _texts(env, action), numbered=True)
        if demonstration is None or looked is None:
            return self._wrong("a call that does nothing here")
        if all(only_looks(call) for call in action.tool_calls) and not given.shown.lines:
            return self._wrong("shows nothing")
        return self.terminal.compare(env, Outcomes(env, runs.pivot, runs.incidental, demonstration), looked)

    def _edit(self, env: RepoEnv, runs: Outcomes, wanted: Outcome, given: Outcome, action: Message) -> Verdict:
        missing, extra = compare(wanted.changes, given.changes)
        if missing and extra:
            again = runs.run(runs.demonstration)
            missing, extra = settle(missing, extra, wanted.change, again.change, given.change)
        if not missing and not extra:
            if fails(given.shown, source_of(action)) and not fails(wanted.shown, runs.source):
                return self._wrong(f"fails with status {given.shown.status}")
            reason = "hands in" if wanted.done else "the same change"
            return Verdict(reward=1.0, rule=self.name, reason=reason, evidence={"changes": given.changes[:20]})
        evidence: JsonObject = {"missing": missing[:20], "extra": extra[:20]}
        if env.spec_of_task.tests is None:
            return self._wrong("another change, and no tests are known that could compare them", evidence)
        problem = _beyond(env, _rules_of(env.spec_of_task.tests), missing, extra)
        if problem is not None:
            return self._wrong(problem, evidence)
        return self._by_tests(env, runs, action, evidence)

    def _by_tests(self, env: RepoEnv, runs: Outcomes, action: Message, evidence: JsonObject) -> Verdict:
        cache = runs.pivot.cache
        if "repo tests" not in cache:
            cache["repo tests"] = (env.passing(), env.passing(runs.demonstration))
        before, after = cache["repo tests"]
        gained = [name for name in after.names if name not in before.names]
        if not gained:
            return self._wrong(
                "another change, and the demonstrated one makes no test pass by which to judge", evidence
            )
        now = env.passing(action, after.names)
        lost = [name for name in after.names if name not in now.names]
        found = {**evidence, "gained": gained[:50], "lost": lost[:50], "violations": now.violations[:10]}
        if now.violations:
            return self._wrong(f"tampers with the tests: {now.violations[0]}", found)
        brought = [path for path in now.left_out if path not in after.left_out and now.left_out[path] not in HARMLESS]
        if brought:
            return self._wrong(f"brings {brought[0]} ({now.left_out[brought[0]]})", found)
        if lost:
            return self._wrong(
                f"{len(lost)} of {len(after.names)} tests do not pass that pass after the demonstration", found
            )
        reason = f"another change, after which the same {len(after.names)} tests pass ({len(gained)} of them newly)"
        return Verdict(reward=1.0, rule=self.name, reason=reason, evidence=found)

    def _wrong(self, reason: str, evidence: JsonObject | None = None) -> Verdict:
        return Verdict(reward=0.0, rule=self.name, reason=reason, evidence=evidence or {})


def _texts(env: RepoEnv, action: Message) -> list[str]:
    """What each call shows now."""
    fork = env.fork()
    try:
        return [message.text for message in fork.respond(action, recorded=()).messages if message.role == "tool"]
    finally:
        fork.close()


def _rules_of(tests: Tests) -> Rules:
    named = {name.partition("::")[0] for name in (*tests.fail_to_pass, *tests.pass_to_pass) if ".py::" in name}
    return Rules.of({*tests.files, *patch_paths(tests.patch, field="tests.patch"), *named})


def _beyond(env: RepoEnv, rules: Rules, missing: list[JsonObject], extra: list[JsonObject]) -> str | None:
    """Says which difference is none that tests could judge."""
    top = env.spec_of_task.workdir.rstrip("/") + "/"
    for row in [*missing, *extra]:
        if "path" not in row or not str(row["path"]).startswith(top):
            how = "does not change" if row in missing else "also changes"
            return f"{how} {place(row)}, as the demonstration does not" if row in extra else f"{how} {place(row)}"
    wanted: Mapping[str, JsonObject] = {place(row): row for row in missing}
    for row in extra:
        path = str(row["path"])
        if row.get("kind") == "absent" and wanted.get(path, {}).get("kind") != "absent":
            return f"deletes {path}, which the demonstration keeps"
        if path not in wanted and _is_gutted(env, path, row):
            return f"takes most of {path} away, which the demonstration leaves as it is"
        refused = rules.refusal(path.removeprefix(top))
        # A test or a folder more, beside those that are there, breaks nothing.
        if refused is not None and not (refused[1] == TEST and not _stands(env, path)):
            return f"changes {path} ({refused[1]})"
    return None


def _is_gutted(env: RepoEnv, path: str, row: JsonObject) -> bool:
    """Whether a file loses more than half of itself: tests may not reach what it was for."""
    if row.get("kind") != "file":
        return _stands(env, path)
    try:
        before = len(env.sandbox.read_file(path))
    except SandboxFileError:
        return False
    return int(row.get("size") or 0) * 2 < before


def _stands(env: RepoEnv, path: str) -> bool:
    """Whether there is anything at a path before the action."""
    folder, _, name = path.rpartition("/")
    try:
        return name in env.sandbox.tree(folder)
    except SandboxFileError:
        return False
