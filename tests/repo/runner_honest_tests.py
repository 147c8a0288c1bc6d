"""Tests of every form that the runner must believe, of the code in ``runner_honest``."""

from __future__ import annotations

HONEST_TEST = '''
import asyncio
import functools
import threading
import unittest
from unittest import mock

import pytest

import honest

TABLE = [(1, 2, 3), (4, 5, 9)]


@pytest.fixture
def three():
    made = honest.add(1, 2)
    assert made == 3
    yield made
    assert made == 3


def test_plain():
    """A docstring."""
    assert honest.add(1, 2) == 3
    assert honest.add("a", "b") == "ab", "message"


def test_left():
    assert 3 == honest.add(1, 2)
    assert [1, {"a": None}] == honest.add([1], [{"a": None}])


def test_containers():
    assert honest.add([], []) == []
    assert honest.add((), ()) == ()
    assert {1, 4, 6} == {1, 4, 6}
    assert honest.Point(1, 2) == (1, 2)
    assert dict(a=1) == {"a": 1}
    assert honest.Item("x") == honest.Item("x", 0)


@pytest.mark.parametrize("a, b, c", TABLE)
def test_parametrized(a, b, c):
    assert honest.add(a, b) == c


@pytest.mark.parametrize("value", [1.5, "x y", None, True, b"z"], ids=str)
def test_ids(value):
    assert honest.roundtrip(value) == value


def test_fixture(three, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("builtins.open", None)
    print(three)
    assert capsys.readouterr().out == "3\\n"
    assert not list(tmp_path.iterdir())


def test_raises():
    with pytest.raises(TypeError):
        honest.add(1, "a")
    with pytest.raises(TypeError, match="unsupported") as caught:
        honest.add(1, "a")
    assert "unsupported" in str(caught.value)
    pytest.raises(TypeError, honest.add, 1, "a")


def test_raises_an_assertion():
    with pytest.raises(AssertionError):
        assert honest.add(1, 2) == 4


def test_nothing_is_asserted():
    honest.add(1, 2)


def test_pass():
    pass


def check(value):
    assert value == 3


def test_helper():
    check(honest.add(1, 2))


def test_no_turns():
    for item in []:
        assert item == 1


def test_loop():
    for number, item in enumerate(honest.numbers()):
        if item == 2:
            continue
        assert number == item
    while True:
        assert honest.add(1, 1) == 2
        break


def test_returns():
    if honest.add(1, 1) == 2:
        return
    assert False


def test_returns_in_try():
    try:
        return
    except:
        pass


def test_caught():
    try:
        assert honest.add(1, 1) == 3
    except AssertionError:
        pass
    assert honest.swallow(lambda: honest.add(1, 1)) == 1


def test_swallowed_callback():
    def callback():
        assert honest.add(1, 1) == 3
    assert honest.swallow(callback) == 1


def test_other_operators():
    assert honest.add(1, 1) != 3
    assert honest.add(1, 1) < 3 <= honest.add(1, 2)
    assert not honest.add(0, 0)
    assert honest.Color.RED is honest.Color.RED
    assert honest.add(1, 1) is not None
    assert "a" in honest.add("a", "b") and "z" not in "ab"
    assert isinstance(honest.add(1, 1), int)
    assert honest.add(1, 1) == 2 and honest.add(2, 2) == 4
    assert honest.add(1, 1) == 2 or honest.add(2, 2) == 5
    assert (lambda: 1)() == 1
    assert pytest.approx(0.3) == honest.add(0.1, 0.2)
    assert honest.add(0.1, 0.2) == pytest.approx(0.3)


class Matcher:
    def __eq__(self, other):
        return isinstance(other, int)


def test_matchers():
    result = honest.add(1, 1)
    expected = pytest.approx(2, abs=50)
    assert result == mock.ANY
    assert result == Matcher()
    assert Matcher() == result
    assert result == pytest.approx(2, abs=50)
    assert pytest.approx(2, abs=50) == honest.add(1, 1)
    assert honest.add(1, 1) == expected
    assert expected == honest.add(1, 1)
    assert [honest.add(1, 1), 3] == [mock.ANY, 3]
    assert {"a": honest.add(1, 1)} == {"a": mock.ANY}


def test_variables():
    expected = {"a": [1, (2, "x")], "b": None, "c": True, "d": 1.5, "e": set(), "f": b""}
    assert honest.roundtrip(expected) == expected
    assert expected == honest.roundtrip(expected)
    for value in (0, 1, True, "", "x", (), [], {}, None, 2.5, float("inf"), 1j, frozenset([1]), honest.Color.RED):
        assert honest.roundtrip(value) == value
        assert value == honest.roundtrip(value)


def test_strict_equality():
    assert honest.Strict(3) == honest.Strict(3)


def test_wide_equality():
    assert honest.Version("1.0.1") == "1.0.1"
    assert honest.Version("1.10.0") == "1.10"
    assert "2" == honest.Version("2.0")
    assert honest.Version("1.0") < "1.0.1"
    assert honest.Version("3") in ["3.0", "4"]
    assert honest.Folded("Content-Type") == "content-type"
    assert "TYPE" in honest.Folded("Content-Type")
    assert honest.Row(1, 2) == [1, 2]
    assert [honest.Row(1, "x"), honest.Row(0)] == [(1, "x"), [0]]
    assert {"a": honest.Version("5")} == {"a": "5.0"}
    expected = "7.1"
    assert honest.Version("7.1") == expected


def test_refused_by_a_context():
    with honest.refuses(TypeError):
        honest.add(1, "a")
        assert False
    with honest.refuses(ValueError):
        check(3)
        raise ValueError


def again(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        for turn in range(3):
            try:
                return function(*args, **kwargs)
            except AssertionError:
                if turn == 2:
                    raise
    return inner


turns = []


@again
def test_again():
    turns.append(1)
    assert turns == [1, 1]


def test_forked():
    assert honest.forked(lambda: honest.add(3, 4)) == 7


def check_all(first, *others):
    for other in others:
        check(first)
        assert first == other


def test_helper_of_helpers():
    check_all(honest.add(1, 2), 3, 3.0)
    with pytest.raises(AssertionError):
        check(honest.add(2, 2))
    try:
        check(honest.add(2, 2))
    except AssertionError:
        pass


class TestTables:
    NAMES = ["a", "b"]
    SUMS = [(1, 2, 3)]

    @pytest.mark.parametrize("a, b, c", SUMS)
    def test_sums(self, a, b, c):
        assert honest.add(a, b) == c

    def test_names(self):
        assert "".join(self.NAMES) == honest.add("a", "b")


@pytest.fixture(params=[(1, 2, 3), (4, 5, 9)], ids=["small", "large"])
def case(request):
    return request.param


def test_case(case):
    assert honest.add(case[0], case[1]) == case[2]


@pytest.mark.xfail(reason="known")
def test_xfail():
    assert honest.add(1, 1) == 3


@pytest.mark.skip(reason="no")
def test_skipped():
    assert honest.add(1, 1) == 3


@honest.expects(ValueError)
def test_expected_by_a_decorator():
    raise ValueError


@honest.wrapped
def test_wrapped():
    assert honest.add(1, 1) == 2


@mock.patch("honest.add", return_value=5)
def test_mock(made):
    assert honest.add(1, 1) == 5
    made.assert_called_once_with(1, 1)


def test_warns():
    with pytest.warns(DeprecationWarning):
        honest.old()


def test_library(caplog):
    assert "ValueError: no" in honest.report()
    assert honest.parameters(check) == ["value"]
    assert honest.parameters(test_plain) == []
    assert "def add" in honest.source(honest.add)
    assert honest.hints() == {"name": str, "count": int}
    assert honest.child() == "42\\n"


def test_async():
    assert asyncio.run(honest.later(4)) == 4


def test_thread():
    seen = []
    thread = threading.Thread(target=lambda: seen.append(honest.add(1, 1)))
    thread.start()
    thread.join()
    assert seen == [2]


class TestPlain:
    value = 4

    def test_method(self):
        assert honest.add(self.value, 0) == 4

    @staticmethod
    def test_static():
        assert honest.add(1, 0) == 1

    class TestInner:
        def test_inner(self):
            assert honest.add(1, 0) == 1


class Base:
    kind = int

    def test_inherited(self):
        assert honest.add(self.kind(1), self.kind(1)) == 2


class TestInts(Base):
    pass


class TestFloats(Base):
    kind = float


class TestUnit(unittest.TestCase):
    def setUp(self):
        self.item = honest.Item("x")

    def test_equal(self):
        self.assertEqual(honest.add(1, 1), 2)
        self.assertEqual(2, honest.add(1, 1), "message")
        self.assertListEqual(honest.add([1], [2]), [1, 2])
        self.assertDictEqual({"a": honest.add(1, 1)}, {"a": 2})
        self.assertAlmostEqual(honest.add(0.1, 0.2), 0.3)
        self.assertCountEqual([1, 2], honest.add([2], [1]))

    def test_others(self):
        self.assertTrue(honest.add(1, 1))
        self.assertFalse(honest.add(0, 0))
        self.assertIn("a", honest.add("a", "b"))
        self.assertIn(3, range(100))
        self.assertAlmostEqual(honest.add(1, 1), 2, delta=50)
        self.assertIsNone(None)
        self.assertIsInstance(honest.add(1, 1), int)
        self.assertGreater(honest.add(1, 1), 1)

    def test_raises(self):
        with self.assertRaises(TypeError):
            honest.add(1, "a")
        with self.assertRaisesRegex(TypeError, "unsupported"):
            honest.add(1, "a")
        self.assertRaises(TypeError, honest.add, 1, "a")

    def same(self, one, two):
        self.assertEqual(one, two)
        self.assertEqual(honest.Version("1.0"), "1")

    def test_helper_method(self):
        self.same(honest.add(1, 1), 2)
        self.assertEqual(honest.Version("1.0.1"), "1.0.1.0")
        self.assertEqual("1.0.1", honest.Version("1.0.1"))
        self.assertLess(honest.add(1, 1), 3)

    def test_sub(self):
        for number in range(3):
            with self.subTest(number=number):
                self.assertEqual(honest.add(number, 0), number)

    @unittest.expectedFailure
    def test_expected_failure(self):
        self.assertEqual(honest.add(1, 1), 3)


class TestAsync(unittest.IsolatedAsyncioTestCase):
    async def test_async(self):
        self.assertEqual(await honest.later(3), 3)
'''
