from types import SimpleNamespace

import pytest
from tmpl import Template, TemplateError


def test_value_is_escaped():
    assert Template("<p>{{ text }}</p>").render(text="a < b") == "<p>a &lt; b</p>"


def test_lookup():
    page = Template("{{ user.name }} {{ shop.town }}")
    assert page.render(user={"name": "Ann"}, shop=SimpleNamespace(town="Ulm")) == "Ann Ulm"


def test_missing_is_empty():
    assert Template("[{{ nothing }}]").render() == "[]"


def test_if_else():
    page = Template("{% if ok %}yes{% else %}no{% end %}")
    assert (page.render(ok=True), page.render(ok=False)) == ("yes", "no")


def test_loop():
    page = Template("{% for tag in tags %}<i>{{ tag | upper }}</i>{% end %}")
    assert page.render(tags=["news", "r&d"]) == "<i>NEWS</i><i>R&amp;D</i>"


def test_unknown_filter():
    with pytest.raises(TemplateError, match="line 2"):
        Template("a\n{{ x | shout }}")


def test_no_end():
    with pytest.raises(TemplateError, match="no end"):
        Template("{% if x %}a")
