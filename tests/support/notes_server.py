"""A small stateful MCP server for the tests: notes in SQLite, one database a session.

``python notes_server.py [crash]`` serves over stdio; ``crash`` adds a tool that ends the process.
``python notes_server.py http PORT [shared]`` serves streamable HTTP; ``shared`` keeps one database for everybody, which
is what a server must not do if forks are to be isolated.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("notes")
shared = "shared" in sys.argv
databases: dict[str, sqlite3.Connection] = {}


def database(context: Context[Any, Any]) -> sqlite3.Connection:
    request = context.request_context.request
    session = "" if shared or request is None else request.headers.get("mcp-session-id", "")
    if session not in databases:
        databases[session] = sqlite3.connect(":memory:", check_same_thread=False)
        databases[session].execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, title TEXT, text TEXT)")
        databases[session].execute("INSERT INTO notes VALUES (1, 'welcome', 'hello')")
    return databases[session]


def _note(db: sqlite3.Connection, number: int) -> tuple[int, str, str]:
    row = db.execute("SELECT * FROM notes WHERE id = ?", (number,)).fetchone()
    if row is None:
        raise ToolError(f"there is no note {number}")
    return row


@server.tool()
def add_note(title: str, text: str, context: Context[Any, Any]) -> str:
    """Adds a note and says its number."""
    number = database(context).execute("INSERT INTO notes (title, text) VALUES (?, ?)", (title, text)).lastrowid
    return f"note {number} added"


@server.tool()
def append(number: int, text: str, context: Context[Any, Any]) -> str:
    """Adds text to a note and shows it."""
    db = database(context)
    _note(db, number)
    db.execute("UPDATE notes SET text = text || ' ' || ? WHERE id = ?", (text, number))
    return _note(db, number)[2]


@server.tool()
def read_note(number: int, context: Context[Any, Any]) -> str:
    """Shows a note."""
    return _note(database(context), number)[2]


@server.tool()
def delete_note(number: int, context: Context[Any, Any]) -> str:
    """Deletes a note."""
    db = database(context)
    _note(db, number)
    db.execute("DELETE FROM notes WHERE id = ?", (number,))
    return f"note {number} deleted"


@server.tool()
def list_notes(context: Context[Any, Any]) -> str:
    """Lists numbers and titles."""
    return "; ".join(f"{row[0]} {row[1]}" for row in database(context).execute("SELECT * FROM notes ORDER BY id"))


def crash() -> str:
    """Ends the server at once."""
    print("the notes server fell over", file=sys.stderr, flush=True)
    os._exit(3)


if "crash" in sys.argv:
    server.tool()(crash)

if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] == "http":
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[2]))
    else:
        server.run()
