from pathglob import RULE_FILE, SkipRules, kept_files, rules_for
from pathglob.__main__ import main


def build(top, files):
    for name, text in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return top


def skipped(text, *paths):
    rules = SkipRules.from_text(text)
    return [path for path in paths if rules.skips(path)]


def test_leaving_out_after_taking_in():
    text = "*.log\n!keep.log\n/archive/keep.log\n"
    assert skipped(text, "a.log", "keep.log", "archive/keep.log") == ["a.log", "archive/keep.log"]


def test_last_rule_of_many():
    assert skipped("a\n!a\na\n!a\n", "a") == []
    assert skipped("a\n!a\na\n!a\na\n", "a", "d/a") == ["a", "d/a"]


def test_negation_in_front_says_nothing():
    assert skipped("!*.txt\n*.txt\n", "a.txt") == ["a.txt"]
    assert skipped("!a\n", "a", "b") == []


def test_negation_last():
    assert skipped("*\n!*.py\n", "a.py", "b.txt", "d/c.py") == ["b.txt"]


def test_rule_that_decides():
    rules = SkipRules.from_text("*.log\n!keep.*\nkeep.log\n")
    assert [rules.deciding(path).text for path in ("a.log", "keep.txt", "keep.log")] == ["*.log", "!keep.*", "keep.log"]
    assert rules.deciding("other") is None


def test_directory_rules_in_the_order():
    rules = SkipRules.from_text("build\n!build/\nold/build/\n")
    assert [rules.skips("build", True), rules.skips("build"), rules.skips("old/build", True)] == [False, True, True]


def test_subdirectory_leaves_out_again(tmp_path):
    top = build(
        tmp_path,
        {
            RULE_FILE: ".skiprules\n*.log\n!keep.log\n",
            "d/.skiprules": "keep.log\n",
            "keep.log": "",
            "d/keep.log": "",
            "e/keep.log": "",
        },
    )
    assert kept_files(top) == ["e/keep.log", "keep.log"]


def test_subdirectory_takes_in(tmp_path):
    top = build(
        tmp_path,
        {RULE_FILE: ".skiprules\n*.log\n", "d/.skiprules": "!*.log\n", "a.log": "", "d/b.log": "", "d/e/c.log": ""},
    )
    assert kept_files(top) == ["d/b.log", "d/e/c.log"]


def test_three_levels(tmp_path):
    top = build(
        tmp_path,
        {
            RULE_FILE: "*.dat\n.skiprules\n",
            "a/.skiprules": "!*.dat\n",
            "a/b/.skiprules": "*.dat\n!/x.dat\n",
            "1.dat": "",
            "a/2.dat": "",
            "a/b/3.dat": "",
            "a/b/x.dat": "",
            "a/b/c/x.dat": "",
            "z/4.dat": "",
        },
    )
    assert kept_files(top) == ["a/2.dat", "a/b/x.dat"]


def test_left_out_directory_is_not_entered(tmp_path):
    top = build(tmp_path, {RULE_FILE: ".skiprules\n/d/\n", "d/.skiprules": "!*\n", "d/a": "", "b": ""})
    assert kept_files(top) == ["b"]


def test_rules_for_a_path(tmp_path):
    top = build(tmp_path, {RULE_FILE: "!x\n", "d/.skiprules": "x\n", "d/e/f": "", "d/x": "", "x": ""})
    assert [rules_for(top, path).skips(path) for path in ("x", "d/x", "d/e/x")] == [False, True, True]
    assert [len(rules_for(top, path)) for path in ("x", "d/x", "d/e/x")] == [1, 2, 2]


def test_why(tmp_path, capsys):
    top = build(
        tmp_path, {RULE_FILE: "*.log\n!keep.log\n", "d/.skiprules": "/keep.log\n", "d/keep.log": "", "keep.log": ""}
    )
    for path in ("keep.log", "d/keep.log", "other"):
        assert main(["why", str(top), path]) == 0
    assert capsys.readouterr().out == ".: !keep.log\nd: /keep.log\nno rule\n"


def test_rules_of_a_sibling_do_not_hold(tmp_path):
    top = build(tmp_path, {"a/.skiprules": "x\n.skiprules\n", "a/x": "", "ab/x": "", "b/x": ""})
    assert kept_files(top) == ["ab/x", "b/x"]
