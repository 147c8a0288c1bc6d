from tmpl import Markup, Template, escape


def test_escape_only_once():
    assert escape(escape("<&>")) == "&lt;&amp;&gt;"


def test_adding_escapes():
    assert Markup("<b>") + "1 < 2" == "<b>1 &lt; 2"


def test_upper_leaves_entities_alone():
    assert Markup("a &amp; <i>b</i>").upper() == "A &amp; <i>B</i>"


def test_strong():
    assert Template("{{ x | strong }}").render(x="a&b") == "<b>a&amp;b</b>"


def test_raw():
    assert Template("{{ x | raw }}").render(x="<hr>") == "<hr>"


def test_default():
    assert Template('{{ x | default("<i>none</i>") }}').render(x="") == "<i>none</i>"


def test_join():
    assert Template('{{ tags | join(", ") }}').render(tags=["a", "b"]) == "a, b"


def test_bullets():
    assert Template("{{ tags | bullets }}").render(tags=["a", "b"]) == "<ul><li>a</li><li>b</li></ul>"


def test_lines():
    assert Template("{{ text | lines }}").render(text="one\ntwo") == "one<br>two"
