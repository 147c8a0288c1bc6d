"""Search as a tool domain: opening, calls, state, and the goal: a right answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pivotgym.envs.core import Opening
from pivotgym.envs.errors import BadInput, InfrastructureError
from pivotgym.envs.search.engine import Engine, NotRecorded
from pivotgym.envs.search.grading import grade
from pivotgym.envs.search.questions import expected_of, question_of
from pivotgym.envs.search.tools import FUNCTIONS
from pivotgym.envs.search.view import Session, Shown, View, differences
from pivotgym.envs.snapshots import State
from pivotgym.envs.tools.domain import ToolDomain
from pivotgym.envs.tools.functions import ToolBug
from pivotgym.envs.tools.schema import ToolError, signature_of, tool_schema, validate_arguments
from pivotgym.envs.trajectory import JsonObject, Message, Task, ToolCall
from pivotgym.envs.verdict import Verdict

POLICY = """\
You answer a question from a collection of documents that you search and read.
- search finds documents by words, open shows a page of one, find looks for a text in the open one.
- The answer is rarely in one document: find out one thing, then search for the next.
- Rely on what the documents say. When you know the answer, give it with the tool answer, as short as possible."""

NOT_RECORDED = "Error: not in the record of this session"
"""How a restore's observation begins where the record lacks a request; such a divergence has the kind
``not_recorded``."""

Grader = Callable[[str, str, Sequence[str]], Verdict]
"""``grader(question, given, expected)``: judges a final answer."""


class SearchDomain(ToolDomain):
    """The tools over one engine.

    Args:
        engine: what is searched.
        tasks: the questions.
        grader: default: :func:`pivotgym.envs.search.grading.grade`, a normalised match.
    """

    name = "search"

    def __init__(self, engine: Engine, tasks: Sequence[Task] = (), grader: Grader | None = None) -> None:
        self.engine = engine
        self._tasks = tuple(tasks)
        self._grader = grader
        self._signatures = {function.__name__: signature_of(function) for function in FUNCTIONS}

    def tasks(self) -> Sequence[Task]:
        """The questions."""
        return self._tasks

    def opening(self, task: Task) -> Opening:
        """The rules and the question."""
        messages = [Message(role="system", content=POLICY), Message(role="user", content=question_of(task))]
        return Opening(messages, [tool_schema(function) for function in FUNCTIONS])

    def open(self, task: Task) -> Session:
        """A session that has seen nothing. Raises NotRestorable for a task without a question."""
        question_of(task)
        return Session(self.engine)

    def call(self, session: Session, call: ToolCall, requestor: str = "assistant") -> str:
        """Runs one tool; a call that fails leaves the state as it was.

        Raises:
            NotRecorded: the record of a live session lacks the request, outside of a restore.
            InfrastructureError: the engine failed.
        """
        signature = self._signatures.get(call.name)
        if signature is None or requestor != "assistant":
            return f"Error: unknown tool {call.name}"
        try:
            arguments = validate_arguments(signature.function, call.arguments)
            return str(signature.function(session, **arguments))
        except ToolError as error:
            return f"Error: {error}"
        except NotRecorded as error:
            if session.replaying:
                return f"{NOT_RECORDED}: {error}"
            raise
        except (InfrastructureError, BadInput):
            raise
        except Exception as error:
            raise ToolBug(f"tool {call.name} of domain {self.name!r}: {type(error).__name__}: {error}") from error

    def save(self, session: Session) -> State:
        """The view: one reference."""
        view = session.view
        return State(view, 300 + 120 * (len(view.hits) + len(view.read) + len(view.results)))

    def load(self, task: Task, state: State) -> Session:
        """A new session at that view."""
        view = state.payload
        assert isinstance(view, View)
        return Session(self.engine, view)

    def diff(self, before: State, after: State) -> list[JsonObject]:
        """The parts of the view that differ."""
        return differences(before.payload, after.payload)

    def finished(self, task: Task, action: Message) -> str | None:
        """``answered`` for a valid call of ``answer`` and for a text without calls."""
        return "answered" if final_answer(action) is not None else None

    def goal(self, task: Task, session: Session, messages: Sequence[Message]) -> Verdict:
        """1 for a right answer, else 0.

        Raises:
            BadInput: the task names no right answer.
        """
        expected = expected_of(task)
        if not expected:
            raise BadInput(f"task {task.id!r} names no right answer", field="task.data.expected")
        given = session.view.answer
        if given is None:
            last = messages[-1] if messages else None
            given = final_answer(last) if last is not None and last.role == "assistant" else None
        if given is None:
            return Verdict(reward=0.0, rule="goal", reason="no answer was given")
        return self.judge(question_of(task), given, expected)

    def judge(self, question: str, given: str, expected: Sequence[str]) -> Verdict:
        """Whether an answer is right, by the grader."""
        return (self._grader or grade)(question, given, expected)

    def explain(self, action: Message, replayed: Message | None, recorded: Message | None) -> str | None:
        """``not_recorded`` where the record of a live session lacks what was asked."""
        return "not_recorded" if replayed is not None and replayed.text.startswith(NOT_RECORDED) else None

    def shown(self, session: Session, calls: Sequence[ToolCall]) -> tuple[Shown, list[str]]:
        """What calls show when they are made one after the other in a copy of ``session``, and their texts."""
        copy = Session(self.engine, session.view)
        texts = [self.call(copy, call) for call in calls]
        return copy.shown, texts


def final_answer(action: Message) -> str | None:
    """What an action gives as the final answer: a valid call of ``answer``, or its text where it calls nothing."""
    for call in action.tool_calls:
        if call.name != "answer":
            continue
        try:
            text = str(validate_arguments(FUNCTIONS[-1], call.arguments)["text"])
        except ToolError:
            continue
        if text.strip():
            return text
    return None if action.tool_calls else action.text
