"""A browser without scripts for the applications: HTML forms, links, cookies; elements by role and accessible name."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlencode, urljoin, urlsplit

from bs4 import BeautifulSoup, Tag

from pivotgym.envs.browser.apps.spec import Step
from pivotgym.envs.browser.tasks import Answer, Request, Site

_ROLES = {
    "link": "a[href]",
    "button": "button",
    "textbox": "textarea, input:not([type]), input[type=text], input[type=email], input[type=tel], "
    "input[type=password]",
    "searchbox": "input[type=search]",
    "spinbutton": "input[type=number]",
    "combobox": "select",
    "radio": "input[type=radio]",
    "checkbox": "input[type=checkbox]",
}


class Client:
    """One tab on one site."""

    def __init__(self, site: Site, url: str) -> None:
        self.site, self.url, self.cookies = site, url, dict[str, str]()
        self.status, self.said = 0, list[str]()
        self.soup = BeautifulSoup("", "html.parser")
        self.open(url)

    def request(self, method: str, url: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Answer:
        parts = urlsplit(url)
        sent = {"cookie": "; ".join(f"{key}={value}" for key, value in self.cookies.items()), **(headers or {})}
        if method == "POST":
            sent["content-type"] = "application/x-www-form-urlencoded"
        host = parts.hostname or ""
        answer = self.site.handle(Request(method, host, parts.path or "/", parts.query, sent, body))
        assert answer is not None, f"nobody serves {url}"
        for name, value in answer.headers:
            if name.lower() == "set-cookie":
                pair = value.split(";")[0]
                key, _, text = pair.partition("=")
                self.cookies[key] = text
                if "Max-Age=0" in value:
                    del self.cookies[key]
        return answer

    def open(self, url: str, method: str = "GET", body: bytes = b"") -> None:
        for _ in range(5):
            self.url = urljoin(self.url, url)
            answer = self.request(method, self.url, body)
            self.status = answer.status
            if answer.status not in {301, 302, 303, 307, 308}:
                break
            url, method, body = dict(answer.headers)["Location"], "GET", b""
        self.soup = BeautifulSoup(answer.body.decode(), "html.parser")

    @property
    def text(self) -> str:
        return " ".join(self.soup.get_text(" ").split())

    def names(self, role: str) -> list[str]:
        return [self._name(tag) for tag in self._tags(role)]

    def find(self, role: str, name: str) -> Tag:
        found = [tag for tag in self._tags(role) if self._name(tag) == name]
        assert len(found) == 1, f"{len(found)} × {role} {name!r} on {self.url}; there are {self.names(role)}"
        return found[0]

    def do(self, step: Step) -> None:
        if step.action == "send_msg_to_user":
            self.said.append(step.value)
            return
        tag = self.find(step.role, step.name)
        if step.action == "fill":
            if tag.name == "textarea":
                tag.string = step.value
            else:
                tag["value"] = step.value
        elif step.action == "select_option":
            options = [option for option in tag.select("option") if option.get_text().strip() == step.value]
            assert len(options) == 1, f"{step.value!r} is no option of {step.name!r} on {self.url}"
            for option in tag.select("option"):
                del option["selected"]
            options[0]["selected"] = ""
        elif step.role == "link":
            self.open(str(tag["href"]))
        elif step.role == "radio":
            for other in self.soup.select(f"input[type=radio][name='{tag['name']}']"):
                del other["checked"]
            tag["checked"] = ""
        elif step.role == "checkbox":
            if tag.has_attr("checked"):
                del tag["checked"]
            else:
                tag["checked"] = ""
        else:
            self._submit(tag)

    def run(self, steps: Iterable[Step]) -> None:
        for step in steps:
            self.do(step)
            assert self.status < 500

    def _tags(self, role: str) -> list[Tag]:
        return [tag for tag in self.soup.select(_ROLES[role]) if tag.find_parent("dialog") is None]

    def _name(self, tag: Tag) -> str:
        if tag.get("aria-label"):
            return str(tag["aria-label"])
        if tag.name in {"a", "button"}:
            return " ".join(tag.get_text().split())
        label = self.soup.select_one(f"label[for='{tag.get('id')}']")
        return " ".join(label.get_text().split()) if label else ""

    def _submit(self, button: Tag) -> None:
        form = self.soup.select_one(f"form#{button['form']}") if button.get("form") else button.find_parent("form")
        assert form is not None, "a button without a form"
        fields = [(str(tag["name"]), value) for tag in self._owned(form) for value in _values(tag)]
        if button.get("name"):
            fields.append((str(button["name"]), str(button.get("value", ""))))
        action = str(form.get("action") or self.url)
        if str(form.get("method", "get")).lower() == "post":
            self.open(action, "POST", urlencode(fields).encode())
        else:
            self.open(action.split("?")[0] + "?" + urlencode(fields))

    def _owned(self, form: Tag) -> list[Tag]:
        own = []
        for tag in self.soup.select("input[name], select[name], textarea[name]"):
            owner = tag["form"] if tag.get("form") else None
            if owner == form.get("id") if owner else tag.find_parent("form") is form:
                own.append(tag)
        return own


def _values(tag: Tag) -> list[str]:
    if tag.name == "select":
        options = tag.select("option")
        chosen = [option for option in options if option.has_attr("selected")] or options[:1]
        return [str(option.get("value", option.get_text())) for option in chosen]
    if tag.name == "textarea":
        return [tag.get_text()]
    if tag.get("type") in {"radio", "checkbox"} and not tag.has_attr("checked"):
        return []
    return [str(tag.get("value", ""))]
