from turnstile import ManualClock, PerKey, RollingLimiter


def test_callers_do_not_share():
    clock = ManualClock()
    gate = PerKey(lambda: RollingLimiter(1, 5.0, clock))
    assert gate.admit("ann").allowed
    assert gate.admit("bob").allowed
    assert not gate.admit("ann").allowed


def test_sweep_forgets_idle_callers():
    clock = ManualClock()
    gate = PerKey(lambda: RollingLimiter(1, 5.0, clock))
    gate.admit("ann")
    clock.advance(4.0)
    gate.admit("bob")
    clock.advance(3.0)
    assert gate.sweep() == ["ann"]
    assert gate.keys() == ["bob"]
