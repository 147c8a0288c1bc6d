from tmpl import Markup, Template, escape


def test_joined_values_are_escaped():
    page = Template('<p>{{ tags | join(", ") }}</p>')
    assert page.render(tags=["news", "<script>", "r&d"]) == "<p>news, &lt;script&gt;, r&amp;d</p>"


def test_the_glue_stays_markup():
    assert Template('{{ tags | join("<br>") }}').render(tags=["<a>", "b"]) == "&lt;a&gt;<br>b"


def test_glue_from_a_variable_is_escaped():
    assert Template("{{ tags | join(glue) }}").render(tags=["a", "<b>"], glue="<br>") == "a&lt;br&gt;&lt;b&gt;"


def test_join_without_glue():
    assert Template("{{ tags | join }}").render(tags=["<", "&"]) == "&lt;&amp;"


def test_markup_is_joined_as_it_is():
    page = Template('{{ tags | join(", ") }}')
    assert page.render(tags=[Markup("<b>x</b>"), escape("a & b"), "a & b"]) == "<b>x</b>, a &amp; b, a &amp; b"


def test_numbers_can_be_joined():
    assert Template('{{ sizes | join("/") }}').render(sizes=[1, 2.5]) == "1/2.5"


def test_bullets_are_escaped():
    page = Template("{{ tags | bullets }}")
    assert page.render(tags=["<i>", Markup("<i>x</i>")]) == "<ul><li>&lt;i&gt;</li><li><i>x</i></li></ul>"
    assert page.render(tags=[]) == ""


def test_lines_are_escaped():
    page = Template("{{ text | lines }}")
    assert page.render(text="a < b\nb > a") == "a &lt; b<br>b &gt; a"


def test_lines_of_markup_stay():
    page = Template("{{ text | lines }}")
    assert page.render(text=Markup("<b>a</b>\n&amp;")) == "<b>a</b><br>&amp;"


def test_escaped_once_through_several_filters():
    page = Template('{{ tags | join(" & ") | upper | strong }}')
    assert page.render(tags=["a<b", "c"]) == "<b>A&lt;B & C</b>"


def test_result_of_join_is_markup():
    joined = Markup("<br>").join(["a", Markup("<hr>")])
    assert isinstance(joined, Markup)
    assert Markup("<p>") + joined == "<p>a<br><hr>"
    assert Markup("-").join([]) == ""


def test_format_and_plain_values_stay():
    assert Markup("<p>{}</p>{x}").format("<", x=Markup("<hr>")) == "<p>&lt;</p><hr>"
    assert Template("{{ a }}{{ b }}").render(a="'\"", b=Markup("<hr>")) == "&#39;&quot;<hr>"
