import pytest

from turnstile import Decision, ManualClock, RollingLimiter


def test_allows_up_to_the_limit():
    limiter = RollingLimiter(2, 10.0, ManualClock())
    assert limiter.admit() == Decision(True, 1)
    assert limiter.admit() == Decision(True, 0)
    assert limiter.admit().allowed is False


def test_refusal_says_how_long_to_wait():
    clock = ManualClock()
    limiter = RollingLimiter(1, 10.0, clock)
    limiter.admit()
    clock.advance(4.0)
    assert limiter.admit() == Decision(False, 0, 6.0)


def test_old_units_leave_the_window():
    clock = ManualClock()
    limiter = RollingLimiter(2, 10.0, clock)
    limiter.admit()
    clock.advance(6.0)
    limiter.admit()
    clock.advance(5.0)
    assert limiter.remaining() == 1
    assert limiter.admit() == Decision(True, 0)


def test_cost_above_the_limit_is_an_error():
    limiter = RollingLimiter(2, 10.0, ManualClock())
    with pytest.raises(ValueError):
        limiter.admit(3)


def test_trim_drops_only_the_past():
    clock = ManualClock()
    limiter = RollingLimiter(3, 10.0, clock)
    limiter.admit(2)
    clock.advance(11.0)
    limiter.admit()
    assert limiter.trim() == 2
    assert limiter.remaining() == 2
