"""The client side of MCP for :mod:`pivotgym.envs.tools.mcp`: server configurations and live sessions.

The ``mcp`` package is asynchronous and wants a connection opened and closed by one task, environments are not; each
session therefore has an event loop in a thread of its own.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import tempfile
import threading
import weakref
from collections.abc import Coroutine, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pivotgym.envs.errors import BadInput, MissingExtra, ToolServerError
from pivotgym.envs.trajectory import JsonObject, canonical_json

if TYPE_CHECKING:
    from mcp import Client


class McpServer(BaseModel):
    """How to reach one server: a command to start (stdio) or the URL of a running one (streamable HTTP).

    The fields are those of the ``mcpServers`` files that other MCP clients read; keys unknown here are ignored.

    Attributes:
        command: what to start, with ``args``, in ``cwd``, with ``env`` added to a minimal environment.
        url: the endpoint of a running server, asked with ``headers``. Each session of an environment is one session
            of the server: it must keep its state by session, else forks are not isolated.
        timeout: seconds for connecting and for one call.
        mode: protocol negotiation of the ``mcp`` package. ``legacy`` does the initialize handshake, which is what
            gives an HTTP connection a session of its own.
        disabled: leaves the server out.
    """

    model_config = ConfigDict(extra="ignore")

    command: str | None = None
    args: list[str] = Field(default_factory=list)
    env: dict[str, str] = Field(default_factory=dict)
    cwd: str | None = None
    url: str | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    timeout: float = Field(default=60.0, gt=0)
    mode: Literal["legacy", "auto"] = "legacy"
    disabled: bool = False

    @model_validator(mode="after")
    def _one_way(self) -> McpServer:
        if (self.command is None) == (self.url is None):
            raise ValueError("give either command or url")
        return self


def read_servers(config: Mapping[str, Any] | str | os.PathLike[str]) -> dict[str, McpServer]:
    """Reads server configurations.

    Args:
        config: ``{"mcpServers": {name: server}}``, the inner mapping alone, or the path of a JSON file with either.

    Returns:
        The enabled servers by name.

    Raises:
        BadInput: the file or an entry cannot be used.
    """
    file: Path | None = None
    if not isinstance(config, Mapping):
        file = Path(config)
        try:
            config = json.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise BadInput(error.strerror or str(error), file=file) from error
        except ValueError as error:
            raise BadInput(f"no JSON: {error}", file=file) from error
    entries = config.get("mcpServers", config) if isinstance(config, Mapping) else None
    if not isinstance(entries, Mapping) or not entries:
        raise BadInput("must be a JSON object that names at least one server", file=file, field="mcpServers")
    servers = {}
    for name, entry in entries.items():
        try:
            server = McpServer.model_validate(entry)
        except ValidationError as error:
            first = error.errors()[0]
            path = ".".join(map(str, ("mcpServers", name, *first["loc"])))
            raise BadInput(first["msg"], file=file, field=path) from error
        if not server.disabled:
            servers[name] = server
    return servers


class Answer(BaseModel):
    """A server's answer to one call: the text, and whether the tool called it an error."""

    text: str
    is_error: bool = False


_OPEN: weakref.WeakSet[McpSession] = weakref.WeakSet()


class McpSession:
    """Connections to all servers of one episode.

    Attributes:
        tools: OpenAI schemas of every tool on offer. Where two servers name a tool alike, both are renamed to
            ``server__tool``.

    Raises:
        ToolServerError: a server cannot be started or reached, or does not speak the protocol.
        MissingExtra: the ``mcp`` package is not installed.
    """

    def __init__(self, servers: Mapping[str, McpServer]) -> None:
        try:
            import mcp  # noqa: F401
        except ImportError as error:
            raise MissingExtra("mcp", "mcp") from error
        self.servers = dict(servers)
        self.tools: list[JsonObject] = []
        self._routes: dict[str, tuple[str, str]] = {}
        self._clients: dict[str, Client] = {}
        self._logs: dict[str, IO[bytes]] = {}
        self._ready: Future[None] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="pivotgym-mcp", daemon=True)
        self._thread.start()
        _OPEN.add(self)
        try:
            self._ready.result()
        except Exception:
            self.close()
            raise

    def call(self, name: str, arguments: JsonObject) -> Answer:
        """Executes one tool. Raises ToolServerError when the server does not answer as the protocol says."""
        server, tool = self._routes[name]
        return self._await(self._call(server, tool, arguments), server)

    def schema(self, name: str) -> JsonObject | None:
        """The JSON schema of a tool's arguments, or None where there is no such tool."""
        for tool in self.tools:
            if tool["function"]["name"] == name:
                parameters: JsonObject = tool["function"]["parameters"]
                return parameters
        return None

    def close(self) -> None:
        """Ends the connections, and with them the processes that were started. May be called more than once."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            with suppress(RuntimeError):  # the loop ended by itself since
                self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread is not threading.current_thread():
            self._thread.join()
        for log in self._logs.values():
            log.close()
        self._logs.clear()
        _OPEN.discard(self)

    # In the session's thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.run(self._live())
        except BaseException as error:
            if not self._ready.done():
                self._ready.set_exception(self._failure("connecting", error))

    async def _live(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with AsyncExitStack() as stack:
            listed: list[tuple[str, JsonObject]] = []
            for name, server in self.servers.items():
                try:
                    async with asyncio.timeout(server.timeout):
                        self._clients[name] = await self._connect(stack, name, server)
                        listed += [(name, tool) for tool in await _list_tools(self._clients[name])]
                except Exception as error:
                    self._ready.set_exception(self._failure(name, error))
                    return
            self._offer(listed)
            self._ready.set_result(None)
            await self._stop.wait()

    async def _connect(self, stack: AsyncExitStack, name: str, server: McpServer) -> Client:
        from mcp import Client, StdioServerParameters
        from mcp.client.stdio import stdio_client
        from mcp.client.streamable_http import streamable_http_client

        transport: Any
        if server.command is not None:
            log = self._logs[name] = tempfile.TemporaryFile()  # noqa: SIM115 (closed in close())
            parameters = StdioServerParameters(
                command=server.command, args=server.args, env=server.env or None, cwd=server.cwd
            )
            transport = stdio_client(parameters, errlog=log)  # type: ignore[arg-type]  # only its fileno is used
        else:
            import httpx2

            http = httpx2.AsyncClient(headers=server.headers, timeout=server.timeout)
            transport = streamable_http_client(str(server.url), http_client=await stack.enter_async_context(http))
        client = Client(transport, mode=server.mode, read_timeout_seconds=server.timeout, cache=None)
        return await stack.enter_async_context(client)

    def _offer(self, listed: list[tuple[str, JsonObject]]) -> None:
        names = [tool["function"]["name"] for _, tool in listed]
        for server, tool in listed:
            own = tool["function"]["name"]
            shown = f"{server}__{own}" if names.count(own) > 1 else own
            self._routes[shown] = (server, own)
            self.tools.append({"type": "function", "function": {**tool["function"], "name": shown}})

    async def _call(self, server: str, tool: str, arguments: JsonObject) -> Answer:
        from mcp import MCPError

        try:
            async with asyncio.timeout(self.servers[server].timeout + 1.0):
                result = await self._clients[server].call_tool(tool, arguments)
        except MCPError as error:
            # These two are a server's word on the call itself; every other code says that the server is in trouble.
            if error.code in (_METHOD_NOT_FOUND, _INVALID_PARAMS):
                return Answer(text=error.message, is_error=True)
            raise
        return Answer(text=_text_of(result), is_error=bool(result.is_error))

    # In the caller's thread -----------------------------------------------------------------------------------

    def _await(self, work: Coroutine[Any, Any, Answer], server: str) -> Answer:
        if self._loop is None or not self._thread.is_alive():
            work.close()
            raise ToolServerError(f"MCP server {server!r}: the connection is closed")
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except (Exception, CancelledError) as error:
            raise self._failure(server, error) from error

    def _failure(self, server: str, error: BaseException) -> ToolServerError:
        while isinstance(error, BaseExceptionGroup) and error.exceptions:
            error = error.exceptions[0]
        problem = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return ToolServerError(f"MCP server {server!r}: {problem}{self._last_words(server)}")

    def _last_words(self, server: str) -> str:
        log = self._logs.get(server)
        if log is None or log.closed:
            return ""
        # A copy of the descriptor would share its offset with the running server: read by position instead.
        size = os.fstat(log.fileno()).st_size
        tail = os.pread(log.fileno(), 800, max(size - 800, 0)).decode("utf-8", "replace").strip()
        return f" (its last words: {tail})" if tail else ""


_METHOD_NOT_FOUND, _INVALID_PARAMS = -32601, -32602  # JSON-RPC 2.0


@atexit.register
def _close_all() -> None:
    for session in list(_OPEN):
        session.close()


async def _list_tools(client: Client) -> list[JsonObject]:
    tools: list[JsonObject] = []
    cursor: str | None = None
    while True:
        page = await client.list_tools(cursor=cursor)
        for tool in page.tools:
            function = {"name": tool.name, "description": tool.description or "", "parameters": tool.input_schema}
            tools.append({"type": "function", "function": function})
        cursor = page.next_cursor
        if not cursor:
            return tools


def _text_of(result: Any) -> str:
    """What a tool message says: text blocks joined by newlines, other blocks as JSON."""
    parts = [
        block.text if block.type == "text" else canonical_json(block.model_dump(mode="json", exclude_none=True))
        for block in result.content
    ]
    if not parts and result.structured_content is not None:
        return canonical_json(result.structured_content)
    return "\n".join(parts)
