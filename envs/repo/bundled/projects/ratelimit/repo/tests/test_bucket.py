from turnstile import Decision, ManualClock, TokenBucket


def test_starts_full():
    bucket = TokenBucket(3, 1.0, ManualClock())
    assert bucket.idle()
    assert bucket.admit(3) == Decision(True, 0)


def test_refills_over_time():
    clock = ManualClock()
    bucket = TokenBucket(4, 0.5, clock)
    bucket.admit(4)
    clock.advance(2.0)
    assert bucket.admit(2) == Decision(False, 1, 2.0)
    assert bucket.admit() == Decision(True, 0)


def test_never_overflows():
    clock = ManualClock()
    bucket = TokenBucket(2, 1.0, clock)
    clock.advance(100.0)
    assert bucket.admit() == Decision(True, 1)
