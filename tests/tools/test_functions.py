"""Typed functions as a domain: schemas, validation, both kinds of state, goals, and the whole environment over them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Any, Literal

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from pivotgym.envs.errors import BadInput, NotRestorable
from pivotgym.envs.tools import functions as f
from pivotgym.envs.tools.domain import ToolDomain, register_domain
from pivotgym.envs.tools.env import ToolsEnv
from pivotgym.envs.tools.sqlite_state import SqliteState
from pivotgym.envs.trajectory import Message, Task, ToolCall, Trajectory


class Colour(Enum):
    red = "red"
    blue = "blue"


class Size(BaseModel):
    width: int
    height: float = 1.0


class Shelf(BaseModel):
    books: dict[str, str] = {}
    log: list[str] = []


def everything(
    db: Shelf,
    title: str,
    copies: int,
    size: Size,
    price: float = 1.5,
    cover: Literal["hard", "soft"] = "soft",
    colour: Colour | None = None,
    tags: list[str] | None = None,
    extra: dict[str, int] | None = None,
) -> str:
    """Shelves a book.

    Stays there.

    Args:
        title: what is on the cover.
        copies: how many.
    """
    return f"{title} {copies} {size.width}x{size.height} {price} {cover} {colour} {tags} {extra}"


def test_schema_from_signature_and_docstring() -> None:
    schema = f.tool_schema(everything)["function"]
    parameters = schema["parameters"]
    Draft202012Validator.check_schema(parameters)
    assert schema["name"] == "everything"
    assert schema["description"] == "Shelves a book.\nStays there."
    assert list(parameters["properties"])[:3] == ["title", "copies", "size"]
    assert parameters["required"] == ["title", "copies", "size"]
    assert parameters["additionalProperties"] is False
    assert parameters["properties"]["title"] == {"type": "string", "description": "what is on the cover."}
    assert parameters["properties"]["cover"]["enum"] == ["hard", "soft"]
    assert "db" not in parameters["properties"]
    assert "'title': '" not in str(parameters["properties"]["copies"])


GOOD = {"title": "Ulysses", "copies": 2, "size": {"width": 3}}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, None),
        ({"copies": 2.0}, None),
        ({"price": 3}, None),
        ({"colour": "red", "tags": ["a"], "extra": {"b": 1}}, None),
        ({"copies": "2"}, "copies: "),
        ({"copies": 2.5}, "copies: "),
        ({"copies": True}, "copies: "),
        ({"title": 7}, "title: "),
        ({"price": "3"}, "price: "),
        ({"cover": "leather"}, "cover: "),
        ({"colour": "green"}, "colour: "),
        ({"size": {"height": 2}}, "missing argument size.width"),
        ({"colour": None, "tags": "a"}, "tags: "),
        ({"pages": 9}, "unknown argument pages"),
    ],
)
def test_validation_agrees_with_the_json_schema(change: dict[str, Any], problem: str | None) -> None:
    arguments = {**GOOD, **change}
    peer_accepts = Draft202012Validator(f.tool_schema(everything)["function"]["parameters"]).is_valid(arguments)
    assert peer_accepts is (problem is None)
    if problem is None:
        kwargs = f.validate_arguments(everything, arguments)
        assert kwargs["size"] == Size(width=3)
        assert isinstance(kwargs["price"], float)
        assert isinstance(kwargs["copies"], int)
        assert f.validate_arguments(f.tool_schema(everything), arguments) == arguments
    else:
        with pytest.raises(f.ToolError, match=problem):
            f.validate_arguments(everything, arguments)
        with pytest.raises(f.ToolError):
            f.validate_arguments(f.tool_schema(everything), arguments)


def test_arguments_that_are_no_object_or_missing() -> None:
    with pytest.raises(f.ToolError, match="must be a JSON object"):
        f.validate_arguments(everything, "[1, 2")
    with pytest.raises(f.ToolError, match="missing argument copies"):
        f.validate_arguments(everything, {"title": "x", "size": {"width": 1}})


def test_functions_no_schema_can_be_made_of() -> None:
    def untyped(db: Shelf, book) -> str:  # type: ignore[no-untyped-def]
        return ""

    def starred(db: Shelf, *books: str) -> str:
        return ""

    for function in (untyped, starred):
        with pytest.raises(BadInput):
            f.tool_schema(function)


# Two domains over the same tasks, one for each kind of state ---------------------------------------------------


def put(db: Shelf, book: str, title: str) -> dict[str, str]:
    """Puts a book on the shelf."""
    db.log.append(f"put {book}")
    if book in db.books:
        raise f.ToolError(f"{book} is taken")
    db.books[book] = title
    return {"book": book}


def crash(db: Shelf) -> None:
    """Has a bug."""
    db.books.clear()
    raise KeyError("bug")


def sql_put(db: sqlite3.Connection, book: str, title: str) -> dict[str, str]:
    """Puts a book on the shelf."""
    db.execute("INSERT INTO log (text) VALUES (?)", (f"put {book}",))
    try:
        db.execute("INSERT INTO books VALUES (?, ?)", (book, title))
    except sqlite3.IntegrityError:
        raise f.ToolError(f"{book} is taken") from None
    return {"book": book}


def sql_crash(db: sqlite3.Connection) -> None:
    """Has a bug."""
    db.execute("DELETE FROM books")
    raise KeyError("bug")


sql_put.__name__, sql_crash.__name__ = "put", "crash"


class Polite:
    def reply(self, task: Task, messages: Sequence[Message]) -> Message | None:
        return None if "B2" in messages[-1].text else Message(role="user", content="Where is it?")


class Library(f.FunctionDomain):
    name = "test/library"
    policy = "You shelve books."
    functions = (put, crash)

    def tasks(self) -> Sequence[Task]:
        return [Task(env="pivotgym/Tools-v0", id="t0", data={"domain": self.name})]

    def initial(self, task: Task) -> BaseModel | sqlite3.Connection:
        if task.id != "t0":
            raise NotRestorable("unknown_task", task.id)
        return Shelf(books={"B1": "Emma"})

    def first_message(self, task: Task) -> str:
        return "Please shelve Ulysses."

    def reference(self, task: Task) -> Sequence[ToolCall]:
        return [ToolCall(name="put", arguments={"book": "B2", "title": "Ulysses"})]

    def facts(self, task: Task) -> Sequence[f.Fact]:
        return ["B2", ("yes", "done")]

    def user(self, task: Task) -> Polite:
        return Polite()


class SqlLibrary(Library):
    name = "test/sql-library"
    functions = (sql_put, sql_crash)

    def initial(self, task: Task) -> BaseModel | sqlite3.Connection:
        super().initial(task)
        db = f.memory_database("CREATE TABLE books (book TEXT PRIMARY KEY, title TEXT); CREATE TABLE log (text TEXT)")
        db.execute("INSERT INTO books VALUES ('B1', 'Emma')")
        return db


@pytest.fixture(params=[Library, SqlLibrary])
def domain(request: pytest.FixtureRequest) -> Iterator[ToolDomain]:
    kind: type[Library] = request.param
    register_domain(kind.name, kind)
    yield kind()


def ask(book: str, title: str = "Ulysses") -> ToolCall:
    return ToolCall(name="put", arguments={"book": book, "title": title})


def test_calls_errors_and_rollback(domain: ToolDomain) -> None:
    (task,) = domain.tasks()
    session = domain.open(task)
    before = domain.save(session)
    assert domain.call(session, ask("B1")) == "Error: B1 is taken"
    assert domain.diff(before, domain.save(session)) == []  # the log entry of the failed call is gone
    assert domain.call(session, ToolCall(name="burn")) == "Error: unknown tool burn"
    assert domain.call(session, ToolCall(name="put", arguments="nonsense")).startswith("Error: ")
    with pytest.raises(f.ToolBug, match="KeyError"):
        domain.call(session, ToolCall(name="crash"))
    assert domain.diff(before, domain.save(session)) == []
    assert domain.call(session, ask("B2")) == '{"book": "B2"}'
    changes = domain.diff(before, domain.save(session))
    assert len(changes) == 2
    assert "Ulysses" in str(changes) and "Emma" not in str(changes)
    assert domain.call(session, ask("B2")) == "Error: B2 is taken"
    domain.close(session)


def test_saved_states_are_independent(domain: ToolDomain) -> None:
    (task,) = domain.tasks()
    session = domain.open(task)
    state = domain.save(session)
    one, two = domain.load(task, state), domain.load(task, state)
    domain.call(one, ask("B2"))
    assert domain.diff(state, domain.save(two)) == []
    assert domain.diff(state, domain.save(session)) == []
    assert domain.call(two, ask("B2", "Other")) == '{"book": "B2"}'
    assert domain.diff(domain.save(one), domain.save(two)) != []
    three = domain.load(task, domain.save(one))
    assert domain.diff(domain.save(one), domain.save(three)) == []


def test_goal_needs_state_and_facts(domain: ToolDomain) -> None:
    env = ToolsEnv(domain=domain.name)
    do = Message(role="assistant", tool_calls=[ask("B2")])
    wrong = Message(role="assistant", tool_calls=[ask("B3")])
    tell = Message(role="assistant", content="Done, it is B2.")
    vague = Message(role="assistant", content="It is in B2")
    for actions, expected in [([do, tell], 1.0), ([do, vague], 0.0), ([tell], 0.0), ([wrong, tell], 0.0)]:
        env.reset(options={"task": "t0"})
        for action in actions:
            _, reward, terminated, _, info = env.step(action)
        assert terminated and reward == expected, info
    assert info["verdict"]["evidence"]["state"]
    env.close()


def test_restore_and_forks(domain: ToolDomain) -> None:
    env = ToolsEnv(domain=domain.name)
    env.reset(options={"task": "t0"})
    for action in ([ask("B1")], [ask("B2")], "Done, B2."):
        env.step(
            Message(role="assistant", **({"tool_calls": action} if isinstance(action, list) else {"content": action}))
        )
    recorded = Trajectory(id="r", task=env.task, tools=env.tools, messages=env.messages)
    for turn in recorded.turns[: len(recorded.turns)]:
        index = recorded.turns.index(turn)
        _, info = env.reset(options={"trajectory": recorded, "turn": index, "strict": True})
        assert info["restore"].fidelity == 1.0
    env.reset(options={"trajectory": recorded, "turn": 1})
    effect = env.effect(recorded.action(1))
    assert "Ulysses" in str(effect.changes)
    assert env.effect(recorded.action(1)).changes == effect.changes
    env.close()


def test_unknown_task_is_not_restorable(domain: ToolDomain) -> None:
    with pytest.raises(NotRestorable):
        domain.open(Task(env="pivotgym/Tools-v0", id="t9"))


# SQLite comparison against plain Python -------------------------------------------------------------------------


def test_sqlite_diff_sees_case_types_blobs_and_definitions() -> None:
    kind = SqliteState()
    db = f.memory_database(
        "CREATE TABLE a (k TEXT COLLATE NOCASE, n INTEGER, v TEXT COLLATE NOCASE, b BLOB, PRIMARY KEY (k, n));"
        "CREATE TABLE plain (x);"
    )
    db.execute("INSERT INTO a VALUES ('x', 1, 'hello', X'00ff'), ('x', 2, NULL, NULL)")
    db.execute("INSERT INTO plain VALUES (1), (1)")
    before = kind.save(db)
    db.execute("UPDATE a SET v = 'HELLO' WHERE n = 1")
    db.execute("UPDATE a SET b = X'01' WHERE n = 2")
    db.execute("INSERT INTO a VALUES ('y', 1, 'new', NULL)")
    db.execute("DELETE FROM plain WHERE rowid = 2")
    db.execute("CREATE TABLE late (x)")
    assert kind.diff(before, kind.save(db)) == [
        {"table": "a", "key": {"k": "x", "n": 1}, "before": {"v": "hello"}, "after": {"v": "HELLO"}},
        {"table": "a", "key": {"k": "x", "n": 2}, "before": {"b": None}, "after": {"b": "01"}},
        {"table": "a", "key": {"k": "y", "n": 1}, "before": None, "after": {"k": "y", "n": 1, "v": "new", "b": None}},
        {"table": "late", "key": None, "before": None, "after": "CREATE TABLE late (x)"},
        {"table": "plain", "key": {"rowid": 2}, "before": {"rowid": 2, "x": 1}, "after": None},
    ]
    db.close()


def test_a_large_database_can_grow_after_loading() -> None:
    kind = SqliteState()
    db = f.memory_database("CREATE TABLE t (x TEXT)")
    again = kind.load(kind.save(db))
    again.execute("INSERT INTO t VALUES (?)", ("y" * 300_000,))
    assert again.execute("SELECT length(x) FROM t").fetchone()[0] == 300_000


@pytest.mark.parametrize(
    ("fact", "text", "told"),
    [
        ("40", "Refunded $40.00.", True),
        ("40", "Refunded 140.", False),
        ("40", "Refunded 40.5", False),
        ("1240", "That is 1,240 in all.", True),
        ("O57", "order o57 is done", True),
        ("O5", "order O57 is done", False),
        ("2026-03-14", "on 2026-03-14.", True),
        ("no", "nothing to do", False),
        ("2.5", "It is 2.5.", True),
    ],
)
def test_facts(fact: str, text: str, told: bool) -> None:
    assert (f.missing_facts([fact], [Message(role="assistant", content=text)]) == []) is told


def test_facts_told_before_the_last_call_do_not_count() -> None:
    said = Message(role="assistant", content="done: 40")
    called = Message(role="assistant", tool_calls=[ToolCall(name="x")])
    assert f.missing_facts(["40"], [said, called]) == ["40"]
    assert f.missing_facts(["40"], [called, said]) == []
