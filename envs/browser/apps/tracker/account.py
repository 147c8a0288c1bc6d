"""Signing in and out, and the user's own settings."""

from __future__ import annotations

from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

from pivotgym.envs.browser.apps.tracker.site import Visit, routes
from pivotgym.envs.browser.apps.tracker.world import NOTIFY


@routes.get("/signin")
def signin(visit: Visit) -> Response:
    """The sign-in page."""
    return visit.page("signin.html.jinja", next=visit.local(visit.arg("next"), "/"), errors={}, sent=visit.form)


@routes.post("/signin")
def check_in(visit: Visit) -> Response:
    """Checks user name and password."""
    form = visit.form
    username, password = form.text("username", "your user name"), form.text("password", "your password")
    next_url = visit.local(form.raw("next"), "/")
    user = visit.one("SELECT * FROM users WHERE username = ? AND password = ?", username.lower(), password)
    if not form.errors and user is None:
        form.errors["password"] = "User name and password do not match."
    if user is None:
        return visit.page("signin.html.jinja", 422, next=next_url, errors=form.errors, sent=form)
    return visit.sign_in(user["id"], next_url)


@routes.get("/link/<key>")
def link(visit: Visit, key: str) -> Response:
    """A sign-in link, as it is sent by mail."""
    for row in visit.all("SELECT id FROM users"):
        if visit.app.seal(f"link {row['id']}") == key:
            return visit.sign_in(row["id"], "/")
    raise NotFound("This sign-in link is not valid any more.")


@routes.post("/signout")
def signout(visit: Visit) -> Response:
    """Ends the session."""
    return visit.sign_out("/signin?notice=out")


@routes.get("/settings")
def settings(visit: Visit) -> Response:
    """The user's settings."""
    return _show(visit, {}, 200)


def _show(visit: Visit, errors: dict[str, str], status: int) -> Response:
    others = visit.all("SELECT * FROM users WHERE id <> ? ORDER BY name", visit.require_user()["id"])
    return visit.page("settings.html.jinja", status, people=others, notify=NOTIFY, errors=errors, sent=visit.form)


@routes.post("/settings")
def save(visit: Visit) -> Response:
    """Changes the settings."""
    user, form = visit.require_user(), visit.form
    notify = form.choice("notify", "what to be told about", NOTIFY)
    away = form.text("away", "the note", required=False, longest=120)
    others = [row["id"] for row in visit.all("SELECT id FROM users WHERE id <> ?", user["id"])]
    deputy = form.choice("deputy", "a deputy", others, required=False)
    if away and not deputy:
        form.errors["deputy"] = "Choose who stands in for you."
    if form.errors:
        return _show(visit, form.errors, 422)
    query = "UPDATE users SET notify = ?, away = ?, deputy_id = ? WHERE id = ?"
    visit.run(query, notify, away, int(deputy) if deputy else None, user["id"])
    return visit.redirect("/settings", "settings")
