import pytest

from linediff import PatchError, apply_patch, make_hunks, unified

SHOPPING = ["milk", "eggs", "flour", "salt", "yeast", "sugar", "jam", "tea", "rice", "oats"]


def test_one_line_changes():
    new = ["milk", "eggs", "rye", *SHOPPING[3:]]
    assert unified(SHOPPING, new, context=1) == (
        "--- old\n+++ new\n@@ -2,3 +2,3 @@\n eggs\n-flour\n+rye\n salt\n"
    )


def test_equal_texts_have_no_difference():
    assert unified(SHOPPING, list(SHOPPING)) == ""


def test_a_length_of_one_is_left_out():
    assert unified(["a"], ["b"]).splitlines()[2] == "@@ -1 +1 @@"


def test_changes_far_apart_have_hunks_of_their_own():
    new = ["MILK", *SHOPPING[1:-1], "OATS"]
    assert [hunk.header() for hunk in make_hunks(SHOPPING, new, 2)] == ["@@ -1,3 +1,3 @@", "@@ -8,3 +8,3 @@"]


def test_changes_near_each_other_share_a_hunk():
    new = ["MILK", "eggs", "flour", "salt", "YEAST", *SHOPPING[5:]]
    assert len(make_hunks(SHOPPING, new, 2)) == 1


def test_applying_leads_to_the_new_text():
    new = ["bread", *SHOPPING[:4], "honey", *SHOPPING[6:]]
    assert apply_patch(SHOPPING, unified(SHOPPING, new)) == new


def test_applying_to_another_text_is_refused():
    text = unified(SHOPPING, ["bread", *SHOPPING])
    with pytest.raises(PatchError):
        apply_patch(["cheese"], text)


def test_a_text_that_is_no_difference_is_refused():
    with pytest.raises(PatchError):
        apply_patch(SHOPPING, "milk\neggs\n")
