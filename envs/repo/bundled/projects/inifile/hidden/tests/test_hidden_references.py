import pytest

from inifile import IniError, parse
from inifile.__main__ import main


def test_comment_of_a_referenced_value():
    doc = parse("[common]\nroot = /srv   ; here\n[web]\nlogs = ${root}/log\n")
    assert doc.get("web", "logs") == "/srv/log"
    assert doc.get("web", "root") == "/srv"


def test_comments_at_every_level():
    doc = parse("[a]\nx = 1 # one\ny = ${x}2 ; two\nz = ${y}3 # three\n[b]\nw = (${a:z}) ; all\n")
    assert doc.get("b", "w") == "(123)"


def test_quotes_of_a_referenced_value():
    doc = parse("[theme]\nmain = \"#336699\"\n[web]\nborder = 1px ${theme:main}\nonly = ${theme:main}\n")
    assert doc.get("web", "border") == "1px #336699"
    assert doc.get("web", "only") == "#336699"


def test_protected_signs_survive_references():
    doc = parse("[a]\nmotd = \"all ; fine # now\"\nlong = ${motd}!\nlonger = <${long}> ; twice\n")
    assert doc.get("a", "motd") == "all ; fine # now"
    assert doc.get("a", "long") == "all ; fine # now!"
    assert doc.get("a", "longer") == "<all ; fine # now!>"


def test_reference_inside_a_comment_is_not_looked_up():
    doc = parse("[a]\npath = /new ; was ${old_path}\nsub = ${path}/x\n")
    assert doc.get("a", "path") == "/new"
    assert doc.get("a", "sub") == "/new/x"


def test_comment_may_name_its_own_key():
    doc = parse("[a]\nx = 7 ; see ${x}\n")
    assert doc.get_int("a", "x") == 7


def test_references_inside_quotes():
    doc = parse("[a]\nname = 'Ann'\ngreeting = \"Hello; ${name}\" # polite\n")
    assert doc.get("a", "greeting") == "Hello; Ann"


def test_value_in_quotes_alone():
    doc = parse("[a]\ncolour = '#fff' ; white\nplain = x ; y\n")
    assert doc.get("a", "colour") == "#fff"
    assert doc.get("a", "plain") == "x"


def test_sections_in_which_references_are_looked_up():
    doc = parse("[a]\nname = outer\nx = ${b:y}\n[b]\nname = inner\ny = ${name}\n")
    assert doc.get("a", "x") == "inner"
    doc = parse("[common]\nfile = ${dir}/app.log\ndir = /var\n[web]\ndir = /web\n")
    assert doc.get("web", "file") == "/web/app.log"
    assert doc.get("common", "file") == "/var/app.log"


def test_circles_are_still_found():
    doc = parse("[a]\nx = ${b:x} ; there\n[b]\nx = ${a:x} ; and back\n")
    with pytest.raises(IniError):
        doc.get("a", "x")


def test_dump_keeps_what_was_written():
    text = "[a]\nx = \"1;2\" ; one\ny = ${x} # two\n"
    doc = parse(text)
    assert doc.dump() == text
    doc.set("a", "y", "9")
    assert doc.dump() == "[a]\nx = \"1;2\" ; one\ny = 9 # two\n"
    doc.set("a", "x", "8")
    assert doc.get("a", "y") == "9"
    assert doc.dump() == "[a]\nx = 8 ; one\ny = 9 # two\n"
    doc = parse("[a]\nx = \"1;2\" ; one\ny = ${x} # two\n")
    assert doc.get("a", "y") == "1;2"
    assert doc.written("a", "y") == "${x} # two"
    assert doc.written("a", "x") == "\"1;2\" ; one"


def test_command_line(tmp_path, capsys):
    path = tmp_path / "site.ini"
    path.write_text("[common]\nroot = /srv ; disk\n[web]\nlogs = ${root}/log\n", encoding="utf-8")
    assert main([str(path), "web", "logs"]) == 0
    assert capsys.readouterr().out == "/srv/log\n"
