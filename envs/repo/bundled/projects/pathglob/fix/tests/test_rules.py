from pathglob import RULE_FILE, SkipRules, kept_files, read_rules
from pathglob.__main__ import main


def build(top, files):
    for name, text in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_reading():
    assert [(rule.glob, rule.negated, rule.directories) for rule in read_rules("# x\n\n*.log\n!/a/b\ntmp/\n")] == [
        ("**/*.log", False, False),
        ("a/b", True, False),
        ("**/tmp", False, True),
    ]


def test_names_and_paths():
    rules = SkipRules.from_text("*.log\n/build\ndocs/*.pdf\n")
    skipped = [
        path for path in ("a.log", "d/a.log", "build", "d/build", "docs/a.pdf", "d/docs/a.pdf") if rules.skips(path)
    ]
    assert skipped == ["a.log", "d/a.log", "build", "docs/a.pdf"]


def test_directories_only():
    rules = SkipRules.from_text("tmp/")
    assert rules.skips("d/tmp", directory=True)
    assert not rules.skips("d/tmp")


def test_taking_back_in():
    rules = SkipRules.from_text("*.log\n!keep.log\n")
    assert rules.skips("a.log")
    assert not rules.skips("keep.log")


def test_walk(tmp_path):
    build(tmp_path, {RULE_FILE: "*.log\ntmp/\n.skiprules\n", "a.txt": "", "b.log": "", "tmp/c": "", "d/e.txt": ""})
    assert kept_files(tmp_path) == ["a.txt", "d/e.txt"]


def test_rules_of_a_subdirectory(tmp_path):
    build(
        tmp_path,
        {RULE_FILE: "*.log\n.skiprules\n", "d/.skiprules": "!e.log\n", "e.log": "", "d/e.log": "", "d/f.log": ""},
    )
    assert kept_files(tmp_path) == ["d/e.log"]


def test_command_line(tmp_path, capsys):
    build(tmp_path, {RULE_FILE: "*.log\n", "d/.skiprules": "x\n", "d/a.log": "", "d/x": ""})
    assert main(["why", str(tmp_path), "d/x"]) == 0
    assert main(["why", str(tmp_path), "d/a.log"]) == 0
    assert main(["why", str(tmp_path), "d"]) == 0
    assert capsys.readouterr().out == "d: x\n.: *.log\nno rule\n"


def test_leaving_out_again():
    rules = SkipRules.from_text("*.log\n!keep.log\n/archive/keep.log\n")
    assert rules.skips("archive/keep.log")
    assert not rules.skips("keep.log")


def test_subdirectory_leaves_out_again(tmp_path):
    build(tmp_path, {RULE_FILE: ".skiprules\n!a\n", "d/.skiprules": "a\n", "a": "", "d/a": ""})
    assert kept_files(tmp_path) == ["a"]
