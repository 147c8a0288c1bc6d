import unittest
from pathlib import Path

from docpatch import PatchError, apply_patch, make_patch
from docpatch.__main__ import main


class Applying(unittest.TestCase):
    def test_add(self):
        patch = [{"op": "add", "path": "/a/-", "value": 3}, {"op": "add", "path": "/a/0", "value": 0}]
        self.assertEqual(apply_patch({"a": [1, 2]}, patch), {"a": [0, 1, 2, 3]})

    def test_remove_and_replace(self):
        patch = [{"op": "remove", "path": "/a/0"}, {"op": "replace", "path": "/b", "value": [1]}]
        self.assertEqual(apply_patch({"a": [1, 2], "b": 0}, patch), {"a": [2], "b": [1]})

    def test_move_and_copy(self):
        patch = [{"op": "move", "from": "/a", "path": "/b"}, {"op": "copy", "from": "/b", "path": "/c"}]
        self.assertEqual(apply_patch({"a": {"x": 1}}, patch), {"b": {"x": 1}, "c": {"x": 1}})

    def test_all_or_nothing(self):
        document = {"a": 1}
        with self.assertRaises(PatchError) as caught:
            apply_patch(document, [{"op": "remove", "path": "/a"}, {"op": "test", "path": "/a", "value": 1}])
        self.assertEqual(str(caught.exception), "1: no such key: a")
        self.assertEqual(document, {"a": 1})

    def test_truth_is_no_number(self):
        with self.assertRaises(PatchError):
            apply_patch({"a": 1}, [{"op": "test", "path": "/a", "value": True}])


class Making(unittest.TestCase):
    def test_there_and_back(self):
        old = {"a": [1, 2, 3], "b": {"x": 1}, "c/d": 1, "e~f": 0}
        new = {"a": [1, 5], "b": {"y": 1}, "c/d": 2, "g": None}
        self.assertEqual(apply_patch(old, make_patch(old, new)), new)

    def test_longer_list(self):
        self.assertEqual(make_patch([1], [1, 2]), [{"op": "add", "path": "/-", "value": 2}])


class CommandLine(unittest.TestCase):
    def test_example(self):
        folder = Path(__file__).parent.parent / "examples"
        self.assertEqual(main([str(folder / "document.json"), str(folder / "patch.json")]), 0)
