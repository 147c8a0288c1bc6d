from eventbus import DeliveryError, EventBus, Recorder


def noting(heard, name):
    return lambda event: heard.append(name)


def test_once_does_not_hide_the_next_handler():
    bus, heard = EventBus(), []
    bus.subscribe("a", noting(heard, "one"), once=True)
    bus.subscribe("a", noting(heard, "two"))
    bus.subscribe("*", noting(heard, "three"), once=True)
    bus.subscribe("a", noting(heard, "four"), once=True)
    bus.subscribe("**", noting(heard, "five"))
    assert bus.publish("a") == 5
    assert bus.publish("a") == 2
    assert heard == ["one", "two", "three", "four", "five", "two", "five"]


def test_handler_that_unsubscribes_itself():
    bus, heard = EventBus(), []

    def leaving(event):
        heard.append("leaving")
        bus.unsubscribe(leaving)

    bus.subscribe("a", leaving)
    bus.subscribe("a", noting(heard, "staying"))
    assert [bus.publish("a"), bus.publish("a")] == [2, 1]
    assert heard == ["leaving", "staying", "staying"]


def test_unsubscribed_handler_is_not_called_any_more():
    bus, heard = EventBus(), []
    bus.subscribe("a", lambda event: later.cancel())
    later = bus.subscribe("a", noting(heard, "later"))
    bus.subscribe("a", noting(heard, "last"))
    assert bus.publish("a") == 2
    assert heard == ["last"]


def test_unsubscribing_an_earlier_handler_hides_nobody():
    bus, heard = EventBus(), []
    early = bus.subscribe("a", noting(heard, "early"))
    bus.subscribe("a", lambda event: early.cancel())
    bus.subscribe("a", noting(heard, "late"))
    assert [bus.publish("a"), bus.publish("a")] == [3, 2]
    assert heard == ["early", "late", "late"]


def test_new_handler_waits_for_the_next_event():
    for priority in (-1, 0, 1):
        bus, heard = EventBus(), []

        def starting(event, bus=bus, heard=heard, priority=priority):
            if event.data == "start":
                bus.subscribe("a", lambda event: heard.append(event.data), priority=priority)

        bus.subscribe("a", starting)
        assert bus.publish("a", "start") == 1
        assert bus.publish("a", "next") == 2
        assert heard == ["next"]


def test_new_handler_of_high_priority_repeats_nobody():
    bus, heard = EventBus(), []

    @bus.on("a", once=True)
    def starting(event):
        bus.subscribe("a", noting(heard, "urgent"), priority=9)
        bus.subscribe("a", noting(heard, "more urgent"), priority=10)

    bus.subscribe("a", noting(heard, "plain"))
    assert bus.publish("a") == 2
    assert heard == ["plain"]
    assert bus.publish("a") == 3
    assert heard == ["plain", "more urgent", "urgent", "plain"]


def test_new_handler_hears_of_an_inner_event():
    bus, heard = EventBus(), []

    @bus.on("a", once=True)
    def starting(event):
        bus.subscribe("a", lambda event: heard.append(event.data))
        heard.append(bus.publish("a", "inner"))

    assert bus.publish("a", "outer") == 1
    assert heard == ["inner", 1]


def test_once_is_called_once_although_an_inner_event_comes_first():
    bus, heard = EventBus(), []

    @bus.on("a", once=True)
    def again(event):
        heard.append(("again", event.data))
        bus.publish("a", "inner")

    bus.subscribe("a", lambda event: heard.append(("single", event.data)), once=True)
    assert bus.publish("a", "outer") == 1
    assert heard == [("again", "outer"), ("single", "inner")]
    assert len(bus) == 0


def test_failing_once_handler():
    bus, heard = EventBus(), []

    @bus.on("a", once=True)
    def broken(event):
        raise ValueError("broken")

    bus.subscribe("a", noting(heard, "next"))
    try:
        bus.publish("a")
    except DeliveryError as error:
        heard.append([str(problem) for problem in error.problems])
    assert heard == ["next", ["broken"]]
    assert bus.publish("a") == 1


def test_recorder_that_is_stopped_by_a_handler():
    bus = EventBus()
    recorder = Recorder(bus)
    bus.subscribe("stop", lambda event: recorder.stop())
    heard = []
    bus.subscribe("**", lambda event: heard.append(event.topic))
    assert [bus.publish(topic) for topic in ("go", "stop", "on")] == [2, 3, 1]
    assert (recorder.topics(), heard) == (["go", "stop"], ["go", "stop", "on"])


def test_order_without_changes():
    bus, heard = EventBus(), []
    bus.subscribe("x.y", noting(heard, "low"), priority=-3)
    bus.subscribe("x.*", noting(heard, "first"))
    bus.subscribe("x.**", noting(heard, "second"))
    bus.subscribe("x.y", noting(heard, "high"), priority=3)
    bus.subscribe("x.z", noting(heard, "other"))
    assert bus.publish("x.y") == 4
    assert heard == ["high", "first", "second", "low"]


def test_cancelling_twice():
    bus = EventBus()
    entry = bus.subscribe("a", print)
    entry.cancel()
    entry.cancel()
    assert (entry.active, len(bus), bus.publish("a"), bus.unsubscribe(print)) == (False, 0, 0, 0)


def test_replay_on_another_bus():
    bus, other, heard = EventBus(), EventBus(), []
    recorder = Recorder(bus)
    bus.publish("a", 1)
    bus.publish("b.c", 2)
    other.subscribe("**", lambda event: heard.append(tuple(event)))
    recorder.replay(other)
    assert heard == [("a", 1), ("b.c", 2)]
