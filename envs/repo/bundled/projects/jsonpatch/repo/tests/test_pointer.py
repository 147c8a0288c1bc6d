import unittest

from docpatch import Pointer, PointerError, get

DOCUMENT = {"a": [10, {"b": None}], "c/d": 1, "m~n": 2, "": 3, "0": 4}


class Getting(unittest.TestCase):
    def test_keys_and_indexes(self):
        self.assertEqual(get(DOCUMENT, "/a/0"), 10)
        self.assertIsNone(get(DOCUMENT, "/a/1/b"))
        self.assertEqual(get(DOCUMENT, "/0"), 4)

    def test_whole_document_and_empty_key(self):
        self.assertEqual(get(DOCUMENT, ""), DOCUMENT)
        self.assertEqual(get(DOCUMENT, "/"), 3)

    def test_escaped_keys(self):
        self.assertEqual(get(DOCUMENT, "/c~1d"), 1)
        self.assertEqual(get(DOCUMENT, "/m~0n"), 2)

    def test_wrong_ways(self):
        for pointer in ("a", "/x", "/a/2", "/a/-", "/a/00", "/a/0/x", "/~2"):
            with self.assertRaises(PointerError):
                get(DOCUMENT, pointer)

    def test_text_and_back(self):
        for keys in (("a", "b"), ("c/d",), ("m~n", "")):
            self.assertEqual(Pointer.parse(str(Pointer(keys))).keys, keys)
