"""What both applications stand on: routing, sessions, form tokens, pages, errors, one SQLite database.

Reading a page never writes (but for the link that signs in): every GET is a function of the database, the URL and the
cookie, so that reloading a page after a restore shows the same page. Notices after a redirect therefore travel as a
code in the URL (``?notice=added``). Time is the application's own: one minute passes with every form that is accepted.
"""

from __future__ import annotations

import hashlib
import hmac
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar, NoReturn
from urllib.parse import unquote_to_bytes, urlencode, urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from werkzeug.exceptions import Forbidden, HTTPException, NotFound
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request as HttpRequest
from werkzeug.wrappers import Response as HttpResponse

from pivotgym.envs.browser.apps.forms import Form
from pivotgym.envs.browser.apps.judge import rows
from pivotgym.envs.browser.tasks import Answer, Request
from pivotgym.envs.snapshots import State
from pivotgym.envs.tools.sqlite_state import SqliteState

HERE = Path(__file__).parent
COOKIE = "sid"
MINUTE = "%Y-%m-%d %H:%M"
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}

Row = sqlite3.Row
View = Callable[..., HttpResponse]


class Routes:
    """The views of an application by URL and method."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []

    def get(self, url: str) -> Callable[[View], View]:
        """Registers a view that reads."""
        return self._add(url, "GET")

    def post(self, url: str) -> Callable[[View], View]:
        """Registers a view that takes a form."""
        return self._add(url, "POST")

    def _add(self, url: str, method: str) -> Callable[[View], View]:
        def register(view: View) -> View:
            self.rules.append(Rule(url, endpoint=view, methods=[method]))
            return view

        return register


class Visit:
    """One request: its parameters, who asks, and the ways to answer."""

    def __init__(self, app: WebApp, http: HttpRequest) -> None:
        self.app, self.http, self.db = app, http, app.db
        self.sid = http.cookies.get(COOKIE, "")
        self.user: Row | None = self.one(app.user_query, self.sid)
        if self.user is None:
            self.sid = ""

    # The database ---------------------------------------------------------------------------------------------

    def all(self, query: str, *values: object) -> list[Row]:
        """All rows of a query."""
        return self.db.execute(query, values).fetchall()

    def one(self, query: str, *values: object) -> Row | None:
        """The first row of a query, or None."""
        row: Row | None = self.db.execute(query, values).fetchone()
        return row

    def get(self, query: str, *values: object) -> Row:
        """The first row of a query; the page is not found where there is none."""
        row = self.one(query, *values)
        if row is None:
            raise NotFound()
        return row

    def value(self, query: str, *values: object) -> Any:
        """The first column of the first row."""
        return self.db.execute(query, values).fetchone()[0]

    def run(self, query: str, *values: object) -> int:
        """Executes a change and gives the id of the row it added."""
        return int(self.db.execute(query, values).lastrowid or 0)

    @property
    def now(self) -> str:
        """The application's time, to the minute."""
        return str(self.value("SELECT now FROM site"))

    # Parameters -----------------------------------------------------------------------------------------------

    def arg(self, name: str, default: str = "") -> str:
        """A query parameter."""
        return self.http.args.get(name, default).strip()

    def number(self, name: str, default: int) -> int:
        """A query parameter as a whole number; ``default`` where it is none."""
        text = self.arg(name)
        return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else default

    @property
    def form(self) -> Form:
        """The form that was sent, not yet checked."""
        return Form(self.http.form)

    def href(self, **changes: object) -> str:
        """This page's address with other query parameters; None removes one."""
        query = {key: value for key, value in self.http.args.items(multi=True) if key != "notice"}
        pairs = [(key, value) for key, value in self.http.args.items(multi=True) if key in query and key not in changes]
        pairs += [(key, str(value)) for key, value in changes.items() if value is not None]
        return self.http.path + ("?" + urlencode(pairs) if pairs else "")

    # Who asks -------------------------------------------------------------------------------------------------

    def require_user(self) -> Row:
        """The signed-in user; others are sent to the sign-in page."""
        if self.user is None:
            back = self.http.full_path.rstrip("?") if self.http.method == "GET" else self.http.path
            raise SignInFirst(back)
        return self.user

    @property
    def csrf(self) -> str:
        """The token every form of this visitor carries."""
        return self.app.seal(f"form {self.sid}")

    def sign_in(self, user_id: int, to: str) -> HttpResponse:
        """Starts a session and goes on to ``to``."""
        count = self.value("SELECT count(*) FROM sessions")
        sid = self.app.seal(f"session {count} {user_id}")
        self.run("INSERT INTO sessions (sid, user_id) VALUES (?, ?)", sid, user_id)
        response = self.redirect(to)
        response.set_cookie(COOKIE, sid, httponly=True, samesite="Lax", path="/")
        return response

    def sign_out(self, to: str) -> HttpResponse:
        """Ends the session."""
        self.run("UPDATE sessions SET user_id = NULL WHERE sid = ?", self.sid)
        response = self.redirect(to)
        response.delete_cookie(COOKIE, path="/")
        return response

    # Answers --------------------------------------------------------------------------------------------------

    def page(self, template: str, status: int = 200, /, **values: object) -> HttpResponse:
        """A rendered page."""
        code = self.http.args.get("notice", "")
        shared = {"visit": self, "user": self.user, "csrf": self.csrf, "notice": self.app.notices.get(code)}
        text = self.app.templates().get_template(template).render(**shared, **self.app.shared(self), **values)
        return HttpResponse(text, status, mimetype="text/html")

    def redirect(self, url: str, notice: str | None = None) -> HttpResponse:
        """See other, with the code of a notice to show there."""
        if notice is not None:
            url += ("&" if "?" in url else "?") + urlencode({"notice": notice})
        response = HttpResponse(status=303)
        response.headers["Location"] = url
        return response

    def forbid(self, why: str) -> NoReturn:
        """Refuses the request, with a sentence for the visitor."""
        raise Forbidden(why)

    def local(self, url: str, default: str) -> str:
        """``url`` where it is a path of this application, else ``default``: no redirects to elsewhere."""
        parts = urlsplit(url)
        inside = not parts.scheme and not parts.netloc and url.startswith("/") and "\\" not in url
        return url if inside and not url.startswith("//") else default


class SignInFirst(Exception):
    """The page is for signed-in users."""

    def __init__(self, back: str) -> None:
        super().__init__(back)
        self.back = back


class WebApp:
    """A server-rendered application whose whole state is one in-memory SQLite database.

    Args:
        database: a serialised SQLite database.
    """

    name: ClassVar[str]
    folder: ClassVar[Path]
    rules: ClassVar[Sequence[Rule]]
    user_query: ClassVar[str]
    """Gives the user of a session id."""
    notices: ClassVar[Mapping[str, str]] = {}

    def __init__(self, database: bytes) -> None:
        self.db = SqliteState().load(State(database, len(database)))

    def save(self) -> bytes:
        """The whole state."""
        return self.db.serialize()

    def load(self, state: bytes) -> None:
        """Goes to a saved state."""
        self.db.close()
        self.db = SqliteState().load(State(state, len(state)))

    def facts(self, state: bytes) -> dict[str, Any]:
        """The rows of every table by their key, without the application's clock."""
        return rows(state)

    def close(self) -> None:
        """Frees the database."""
        self.db.close()

    def seal(self, text: str) -> str:
        """A token nobody can make without the database's secret; the same each time."""
        secret = str(self.db.execute("SELECT secret FROM site").fetchone()[0])
        return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()[:32]

    def shared(self, visit: Visit) -> dict[str, Any]:
        """What every page of the application shows."""
        return {}

    @classmethod
    @lru_cache
    def templates(cls) -> Environment:
        """The application's templates."""
        loader = FileSystemLoader([cls.folder / "templates", HERE / "templates"])
        environment = Environment(
            loader=loader,
            auto_reload=False,
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters.update(date=_date, zip=zip, labelled=_labelled)
        cls.prepare(environment)
        return environment

    @classmethod
    def prepare(cls, environment: Environment) -> None:
        """Adds the application's own filters."""

    @classmethod
    @lru_cache
    def _map(cls) -> Map:
        return Map([rule.empty() for rule in cls.rules])

    def handle(self, request: Request) -> Answer | None:
        """Answers a request; None where it is for another host."""
        if request.host != f"{self.name}.test":
            return None
        http = HttpRequest(_environ(request))
        response = self._static(http) or self._respond(http)
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Content-Type-Options"] = "nosniff"
        headers = [(name, value) for name, value in response.headers.items() if name != "Content-Length"]
        return Answer(response.status_code, headers, response.get_data())

    def _respond(self, http: HttpRequest) -> HttpResponse:
        try:
            view, args = self._map().bind_to_environ(http.environ).match()
            visit = Visit(self, http)
            if http.method in {"GET", "HEAD"}:
                return view(visit, **args)  # type: ignore[no-any-return]
            if not hmac.compare_digest(http.form.get("csrf", ""), visit.csrf):
                raise Forbidden("This form has expired. Go back, reload the page and try again.")
            return self._write(visit, view, args)
        except OverflowError:  # a number in the URL that is too large for the database
            return Visit(self, http).page("error.html.jinja", 404, error=NotFound())
        except SignInFirst as first:
            return Visit(self, http).redirect("/signin?" + urlencode({"next": first.back}))
        except HTTPException as error:
            if error.code in {301, 302, 307, 308}:
                return HttpResponse(status=error.code, headers=dict(error.get_headers(http.environ)))
            return Visit(self, http).page("error.html.jinja", error.code or 500, error=error)

    def _write(self, visit: Visit, view: View, args: Mapping[str, Any]) -> HttpResponse:
        """Runs a view that may write: a minute passes where its form was accepted, else nothing changes."""
        self.db.execute("BEGIN")
        try:
            later = datetime.strptime(visit.now, MINUTE) + timedelta(minutes=1)
            visit.run("UPDATE site SET now = ?", later.strftime(MINUTE))
            response = view(visit, **args)
        except BaseException:
            self.db.execute("ROLLBACK")
            raise
        self.db.execute("COMMIT" if response.status_code < 400 else "ROLLBACK")
        return response

    def _static(self, http: HttpRequest) -> HttpResponse | None:
        if not http.path.startswith("/static/") and http.path != "/favicon.ico":
            return None
        path = HERE / "static" / http.path.rsplit("/", 1)[-1]
        if path.suffix not in _TYPES or not path.is_file():
            return HttpResponse("not found", 404, mimetype="text/plain")
        return HttpResponse(path.read_bytes(), content_type=_TYPES[path.suffix])


def _environ(request: Request) -> dict[str, Any]:
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(request.path).decode("latin-1"),
        "QUERY_STRING": request.query.encode().decode("latin-1"),
        "SERVER_NAME": request.host,
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(request.body),
        "CONTENT_LENGTH": str(len(request.body)),
        "CONTENT_TYPE": request.headers.get("content-type", ""),
    }
    environ.update(
        {
            f"HTTP_{name.upper().replace('-', '_')}": value
            for name, value in request.headers.items()
            if name not in {"content-length", "content-type", "host"}
        }
    )
    return environ


def _date(text: str) -> str:
    """``2026-03-02 10:15`` as ``2 March 2026``."""
    day = datetime.strptime(text[:10], "%Y-%m-%d")
    return f"{day.day} {day:%B %Y}"


def _labelled(items: Iterable[tuple[str, Sequence[str]]]) -> list[tuple[str, str]]:
    """Options whose label is the first of several values."""
    return [(key, values[0]) for key, values in items]
