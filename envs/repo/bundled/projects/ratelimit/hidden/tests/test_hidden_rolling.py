from turnstile import Decision, ManualClock, PerKey, RollingLimiter, TokenBucket


def test_waiting_as_told_is_enough():
    clock = ManualClock()
    limiter = RollingLimiter(1, 10.0, clock)
    limiter.admit()
    clock.advance(4.0)
    refused = limiter.admit()
    assert refused == Decision(False, 0, 6.0)
    clock.advance(refused.wait)
    assert limiter.admit() == Decision(True, 0)


def test_just_before_the_boundary_is_refused():
    clock = ManualClock()
    limiter = RollingLimiter(2, 8.0, clock)
    limiter.admit(2)
    clock.advance(7.75)
    assert limiter.remaining() == 0
    assert limiter.admit() == Decision(False, 0, 0.25)


def test_burst_leaves_the_window_at_once():
    clock = ManualClock(100.0)
    limiter = RollingLimiter(3, 2.0, clock)
    limiter.admit(3)
    clock.advance(2.0)
    assert limiter.remaining() == 3
    assert limiter.idle() is True
    assert limiter.admit(3) == Decision(True, 0)


def test_wait_for_several_units():
    clock = ManualClock()
    limiter = RollingLimiter(4, 16.0, clock)
    limiter.admit(1)
    clock.advance(2.0)
    limiter.admit(2)
    clock.advance(2.0)
    limiter.admit(1)
    assert limiter.admit(1) == Decision(False, 0, 12.0)
    assert limiter.admit(3) == Decision(False, 0, 14.0)
    assert limiter.admit(4) == Decision(False, 0, 16.0)


def test_wait_is_told_from_live_units_only():
    clock = ManualClock()
    limiter = RollingLimiter(2, 10.0, clock)
    limiter.admit()
    clock.advance(5.0)
    limiter.admit()
    clock.advance(5.0)
    assert limiter.admit(2) == Decision(False, 1, 5.0)


def test_steady_caller_is_never_refused():
    clock = ManualClock()
    limiter = RollingLimiter(2, 1.0, clock)
    seen = []
    for _ in range(20):
        seen.append(limiter.admit())
        clock.advance(0.5)
    assert seen == [Decision(True, 1)] + [Decision(True, 0)] * 19


def test_no_window_holds_more_than_the_limit():
    clock = ManualClock()
    limiter = RollingLimiter(3, 4.0, clock)
    taken = []
    for step in range(64):
        if limiter.admit().allowed:
            taken.append(step * 0.25)
        clock.advance(0.25)
    assert max(sum(1 for t in taken if end - 4.0 < t <= end) for end in taken) == 3


def test_refused_requests_cost_nothing():
    clock = ManualClock()
    limiter = RollingLimiter(1, 10.0, clock)
    limiter.admit()
    for _ in range(5):
        clock.advance(1.0)
        assert limiter.admit().allowed is False
    assert limiter.admit() == Decision(False, 0, 5.0)


def test_caller_is_idle_at_the_boundary():
    clock = ManualClock()
    gate = PerKey(lambda: RollingLimiter(2, 5.0, clock))
    gate.admit("ann")
    clock.advance(1.0)
    gate.admit("bob")
    clock.advance(4.0)
    assert gate.sweep() == ["ann"]
    assert gate.keys() == ["bob"]


def test_trim_changes_no_decision():
    clock = ManualClock()
    limiter = RollingLimiter(2, 10.0, clock)
    limiter.admit()
    clock.advance(10.0)
    limiter.admit()
    assert limiter.remaining() == 1
    assert limiter.trim() == 1
    assert limiter.remaining() == 1


def test_bucket_wait_is_enough():
    clock = ManualClock()
    bucket = TokenBucket(2, 0.25, clock)
    bucket.admit(2)
    refused = bucket.admit()
    assert refused == Decision(False, 0, 4.0)
    clock.advance(refused.wait)
    assert bucket.admit() == Decision(True, 0)
