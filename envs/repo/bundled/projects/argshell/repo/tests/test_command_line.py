import pytest
from argshell import run


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return str(path)


def test_number(tmp_path, capsys):
    assert run(["number", "--start", "5", "--sep", ") ", write(tmp_path, "a.txt", "x\ny\n")]) == 0
    assert capsys.readouterr().out == "5) x\n6) y\n"


def test_switch(tmp_path, capsys):
    assert run(["stats", "--words-only", "--total", write(tmp_path, "a.txt", "x y\n")]) == 0
    assert capsys.readouterr().out == "a.txt 2\ntotal 2\n"


def test_settings_file(tmp_path, capsys):
    config = write(tmp_path, "my.ini", "[all]\nwidth = 60\n[number]\nstart = 7\n")
    assert run(["number", "--config", config, write(tmp_path, "a.txt", "x\n")]) == 0
    assert capsys.readouterr().out == "7: x\n"


def test_command_line_wins(tmp_path, capsys):
    config = write(tmp_path, "my.ini", "[wrap]\nwidth = 60\n")
    assert run(["wrap", "--config", config, "--width", "50", "--show-settings"]) == 0
    assert capsys.readouterr().out == "keep_indent = True\nwidth = 50\n"


def test_built_in_defaults(capsys):
    assert run(["number", "--show-settings"]) == 0
    assert capsys.readouterr().out == "blank = False\nsep = ': '\nstart = 1\n"


def test_errors_in_the_settings_file(tmp_path, capsys):
    for text in ("[wrap]\nwdth = 60\n", "[wrap]\nwidth = wide\n", "[all]\nnothing = 1\n", "[wrap]\nkeep-indent = 7\n"):
        assert run(["wrap", "--config", write(tmp_path, "my.ini", text), "--show-settings"]) == 2
    assert "yes or no" in capsys.readouterr().err


def test_unknown_command():
    with pytest.raises(SystemExit):
        run(["sort"])
