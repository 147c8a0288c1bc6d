"""Judging an end state: every change that was asked for is there, and no other; the answer says what it should."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from pivotgym.envs.browser.apps.spec import Built, Change
from pivotgym.envs.snapshots import State
from pivotgym.envs.tools.sqlite_state import SqliteState
from pivotgym.envs.verdict import Verdict

TECHNICAL = frozenset({"sessions", "site", "events"})
"""Tables that follow from how somebody went about it."""
TIMES = frozenset({"created", "updated", "placed"})
"""Columns with the application's time, which depends on how many forms were sent before."""

Difference = dict[str, Any]


def judge(built: Built, before: bytes, after: bytes, answer: str | None) -> Verdict:
    """The verdict on an end state and on what the user was told."""
    found = differences(before, after)
    wrong = _unmet(built.changes, found) or (_misinformed(built, answer) if built.answer is not None else None)
    evidence = {"changes": found[:20], "answer": answer}
    if wrong is not None:
        return Verdict(reward=0.0, rule="goal", reason=wrong, evidence=evidence)
    return Verdict(reward=1.0, rule="goal", reason="everything is as it was asked for", evidence=evidence)


def differences(before: bytes, after: bytes) -> list[Difference]:
    """Rows that differ between two databases, technical tables and times left out."""
    rows = SqliteState().diff(State(before, len(before)), State(after, len(after)))
    kept = []
    for row in rows:
        if row["table"] in TECHNICAL:
            continue
        if row["before"] is not None and row["after"] is not None and row["key"] is not None:
            named = {column for column in row["after"] if column not in TIMES}
            if not named:
                continue
            row = {**row, **{side: {c: row[side][c] for c in sorted(named)} for side in ("before", "after")}}
        kept.append(row)
    return kept


@lru_cache(maxsize=8)
def rows(state: bytes) -> dict[str, Any]:
    """The rows of every table that is not technical, by table and primary key, without times. Not to be changed."""
    live = SqliteState().load(State(state, len(state)))
    try:
        found: dict[str, Any] = {}
        names = live.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
        for (table,) in names:
            if table in TECHNICAL or table.startswith("sqlite_"):
                continue
            keys = [row["name"] for row in live.execute(f'PRAGMA table_info("{table}")') if row["pk"]]
            found[table] = {
                "/".join(str(row[key]) for key in keys): {c: row[c] for c in row.keys() if c not in TIMES}  # noqa: SIM118
                for row in live.execute(f'SELECT * FROM "{table}"')
            }
        return found
    finally:
        live.close()


def _unmet(changes: Sequence[Change], found: Sequence[Difference]) -> str | None:
    """Why the differences are not those that were asked for, or None."""
    rest = list(found)
    for change in changes:
        match = next((row for row in rest if _fits(change, row)), None)
        if match is None:
            return f"{change.table}: nothing was {change.kind} as asked for"
        rest.remove(match)
    if rest:
        row = rest[0]
        kind = "added" if row["before"] is None else "removed" if row["after"] is None else "changed"
        return f"{row['table']} {row['key']}: {kind}, which nobody asked for"
    return None


def _fits(change: Change, row: Difference) -> bool:
    kind = "added" if row["before"] is None else "removed" if row["after"] is None else "changed"
    if row["table"] != change.table or kind != change.kind or row["key"] is None:
        return False
    if kind == "removed":
        return _has({**row["before"], **row["key"]}, change.where)
    if kind == "changed":
        return (
            _has(row["key"], change.where)
            and set(row["after"]) <= set(change.values)
            and all(column in row["after"] for column in change.values)
            and _has(row["after"], change.values)
        )
    return _has({**row["after"], **row["key"]}, change.values)


def _has(row: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    for column, value in wanted.items():
        if column not in row:
            return False
        if not (value(row[column]) if callable(value) else row[column] == value):
            return False
    return True


def _misinformed(built: Built, answer: str | None) -> str | None:
    """Why the message does not tell what was asked for, or None."""
    text = _plain(answer or "")
    if not text:
        return "the user was told nothing"
    if len(text) > 300:
        return "the message is too long for an answer"
    accepted = [_plain(way) for way in built.answer or ()]
    if not any(_says(text, way) for way in accepted):
        return "the message does not give the answer"
    for other in built.not_said:
        plain = _plain(other)
        if plain not in accepted and _says(text, plain):
            return f"the message gives several answers, {other!r} among them"
    asked = set(_numbers(_plain(built.instruction)))
    right = {number for way in accepted for number in _numbers(way)}
    if right and set(_numbers(text)) - right - asked:
        return "the message gives several numbers"
    return None


def _plain(text: str) -> str:
    text = text.casefold().replace("\u00a0", " ").replace("*", "").replace("`", "")
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
    return " ".join(text.split())


def _says(text: str, phrase: str) -> bool:
    return re.search(rf"(?<![\w.-]){re.escape(phrase)}(?![\w-])(?!\.\d)", text) is not None


def _numbers(text: str) -> list[str]:
    return re.findall(r"(?<![\w.-])\d+(?:\.\d+)?(?![\w-])", text)
