from linediff import edits


def marks(old, new):
    return "".join(edit.mark for edit in edits(list(old), list(new)))


def test_equal_texts_are_kept():
    assert marks("abc", "abc") == "   "


def test_lines_go_before_others_come():
    assert marks("axc", "ayc") == " -+ "


def test_edits_are_as_few_as_can_be():
    found = marks("abcabba", "cbabac")
    assert found.count("-") + found.count("+") == 5


def test_positions_count_in_both_texts():
    assert [(edit.mark, edit.old, edit.new, edit.line) for edit in edits(["a", "b"], ["b", "c"])] == [
        ("-", 0, 0, "a"),
        (" ", 1, 0, "b"),
        ("+", 2, 1, "c"),
    ]
