import argparse

import pytest
from argshell import run
from argshell.main import build_parser
from argshell.settings import settle


def settings(tmp_path, capsys, text, *argv):
    """What --show-settings prints, as a dictionary of texts."""
    path = tmp_path / "my.ini"
    path.write_text(text)
    command, *rest = argv
    assert run([command, "--config", str(path), *rest, "--show-settings"]) == 0
    return dict(line.split(" = ") for line in capsys.readouterr().out.splitlines())


def test_switch_on_in_the_file(tmp_path, capsys):
    found = settings(tmp_path, capsys, "[number]\nstart = 0\nblank = yes\n", "number")
    assert found == {"blank": "True", "sep": "': '", "start": "0"}


def test_switch_off_in_the_file(tmp_path, capsys):
    found = settings(tmp_path, capsys, "[wrap]\nkeep-indent = no\n", "wrap")
    assert found == {"keep_indent": "False", "width": "72"}


def test_switch_for_all_commands(tmp_path, capsys):
    text = "[all]\ntotal = on\nkeep_indent = off\n"
    assert settings(tmp_path, capsys, text, "stats") == {"total": "True", "words_only": "False"}
    assert settings(tmp_path, capsys, text, "wrap") == {"keep_indent": "False", "width": "72"}


def test_section_wins_over_all(tmp_path, capsys):
    text = "[all]\ntotal = yes\nwords-only = yes\n[stats]\ntotal = no\n"
    assert settings(tmp_path, capsys, text, "stats") == {"total": "False", "words_only": "True"}


def test_command_line_switches_off_what_the_file_switches_on(tmp_path, capsys):
    text = "[number]\nblank = yes\n[wrap]\nkeep-indent = no\n"
    assert settings(tmp_path, capsys, text, "number", "--no-blank")["blank"] == "False"
    assert settings(tmp_path, capsys, text, "wrap", "--keep-indent")["keep_indent"] == "True"


def test_command_line_switches_on(tmp_path, capsys):
    text = "[stats]\ntotal = no\nwords-only = yes\n"
    assert settings(tmp_path, capsys, text, "stats", "--total") == {"total": "True", "words_only": "True"}


def test_built_in_defaults_of_switches(tmp_path, capsys):
    assert settings(tmp_path, capsys, "", "wrap") == {"keep_indent": "True", "width": "72"}
    assert settings(tmp_path, capsys, "[wrap]\nwidth = 9\n", "stats") == {"total": "False", "words_only": "False"}


def test_job_runs_with_the_switch_of_the_file(tmp_path, capsys):
    (tmp_path / "my.ini").write_text("[number]\nblank = 1\n")
    (tmp_path / "a.txt").write_text("x\n\ny\n")
    assert run(["number", "--config", str(tmp_path / "my.ini"), str(tmp_path / "a.txt")]) == 0
    assert capsys.readouterr().out == "1: x\n2: \n3: y\n"


def test_job_runs_without_a_file(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("x\n\ny\n")
    assert run(["number", str(tmp_path / "a.txt")]) == 0
    assert run(["number", "--blank", str(tmp_path / "a.txt")]) == 0
    assert capsys.readouterr().out == "1: x\n\n2: y\n1: x\n2: \n3: y\n"


def test_values_on_the_command_line_win(tmp_path, capsys):
    text = '[number]\nstart = 5\nsep = "> "\n'
    assert settings(tmp_path, capsys, text, "number", "--start", "0", "--sep", "")["start"] == "0"
    assert settings(tmp_path, capsys, text, "number", "--sep", "")["sep"] == "''"


def test_what_settle_gives_without_a_file():
    given = build_parser().parse_args(["stats", "--total"])
    assert isinstance(given, argparse.Namespace)
    assert settle("stats", given) == {"total": True, "words_only": False}


def test_bad_switch_in_the_file(tmp_path, capsys):
    (tmp_path / "my.ini").write_text("[stats]\ntotal = maybe\n")
    assert run(["stats", "--config", str(tmp_path / "my.ini"), "--show-settings"]) == 2
    assert "[stats] total: yes or no, not 'maybe'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(["stats", "--total", "--no-such-switch"])
