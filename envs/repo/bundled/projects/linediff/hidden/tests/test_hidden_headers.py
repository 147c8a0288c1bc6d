from linediff import apply_patch, make_hunks, parse_patch, unified
from linediff.__main__ import main

LINES = ["one", "two", "three", "four", "five", "six"]


def headers(old, new, context):
    return [line for line in unified(old, new, context=context).splitlines() if line.startswith("@@")]


def test_lines_added_in_the_middle_without_context():
    new = ["one", "two", "2a", "2b", "three", "four", "five", "six"]
    assert unified(LINES, new, context=0) == "--- old\n+++ new\n@@ -2,0 +3,2 @@\n+2a\n+2b\n"
    assert apply_patch(LINES, unified(LINES, new, context=0)) == new


def test_lines_taken_away_without_context():
    new = ["one", "four", "five", "six"]
    assert unified(LINES, new, context=0) == "--- old\n+++ new\n@@ -2,2 +1,0 @@\n-two\n-three\n"
    assert apply_patch(LINES, unified(LINES, new, context=0)) == new


def test_a_text_from_nothing():
    assert unified([], ["a", "b"]) == "--- old\n+++ new\n@@ -0,0 +1,2 @@\n+a\n+b\n"
    assert apply_patch([], unified([], ["a", "b"])) == ["a", "b"]


def test_a_text_to_nothing():
    assert unified(["a"], []) == "--- old\n+++ new\n@@ -1 +0,0 @@\n-a\n"
    assert unified(["a", "b"], [], context=0).splitlines()[2] == "@@ -1,2 +0,0 @@"


def test_a_line_at_the_top_and_one_at_the_bottom():
    new = ["zero", *LINES, "seven"]
    assert headers(LINES, new, 0) == ["@@ -0,0 +1 @@", "@@ -6,0 +8 @@"]
    assert apply_patch(LINES, unified(LINES, new, context=0)) == new


def test_later_hunks_count_what_came_before():
    new = ["one", "1a", "two", "four", "five", "5a", "six"]
    assert headers(LINES, new, 0) == ["@@ -1,0 +2 @@", "@@ -3 +3,0 @@", "@@ -5,0 +6 @@"]
    assert apply_patch(LINES, unified(LINES, new, context=0)) == new


def test_a_changed_line_without_context():
    new = ["one", "two", "THREE", "four", "five", "six"]
    assert headers(LINES, new, 0) == ["@@ -3 +3 @@"]


def test_ranges_with_context():
    new = ["one", "two", "2a", "three", "four", "five", "six"]
    assert headers(LINES, new, 1) == ["@@ -2,2 +2,3 @@"]
    assert headers(LINES, new, 9) == ["@@ -1,6 +1,7 @@"]


def test_starts_of_hunks_are_indexes():
    new = ["one", "two", "three", "FOUR", "five", "six"]
    (hunk,) = make_hunks(LINES, new, 1)
    assert (hunk.old_start, hunk.old_length, hunk.new_start, hunk.new_length) == (2, 3, 2, 3)


def test_what_other_tools_write_is_read():
    text = "--- a\n+++ b\n@@ -2,0 +3 @@\n+new\n@@ -5 +6,0 @@\n-five\n"
    assert parse_patch(text) == [(2, 0, ["+new"]), (4, 1, ["-five"])]
    assert apply_patch(LINES, text) == ["one", "two", "new", "three", "four", "six"]


def test_command_line(tmp_path, capsys):
    old, new = tmp_path / "old.txt", tmp_path / "new.txt"
    old.write_text("one\ntwo\n")
    new.write_text("one\n1a\ntwo\n")
    assert main(["-U", "0", str(old), str(new)]) == 1
    assert capsys.readouterr().out.splitlines()[2:] == ["@@ -1,0 +2 @@", "+1a"]
    assert main([str(old), str(old)]) == 0
    assert capsys.readouterr().out == ""
