import pytest

from eventbus import DeliveryError, EventBus, PatternError, Recorder, matches


def test_patterns():
    assert matches("order.*", "order.paid")
    assert not matches("order.*", "order.paid.late")
    assert matches("order.**", "order.paid.late")
    assert not matches("order.**", "order")
    assert matches("*.paid", "order.paid")


def test_bad_patterns():
    for bad in ("", "a..b", "**.a", "A"):
        with pytest.raises(PatternError):
            EventBus().subscribe(bad, print)


def test_publish():
    bus, heard = EventBus(), []
    bus.subscribe("a.*", heard.append)
    assert bus.publish("a.b", 1) == 1
    assert bus.publish("b", 2) == 0
    assert [tuple(event) for event in heard] == [("a.b", 1)]


def test_priorities():
    bus, heard = EventBus(), []
    bus.subscribe("a", lambda event: heard.append("first"))
    bus.subscribe("*", lambda event: heard.append("high"), priority=5)
    bus.subscribe("**", lambda event: heard.append("second"))
    bus.publish("a")
    assert heard == ["high", "first", "second"]


def test_once():
    bus, heard = EventBus(), []
    bus.subscribe("a", heard.append, once=True)
    assert [bus.publish("a"), bus.publish("a")] == [1, 0]
    assert len(bus) == 0


def test_once_and_publishing_again():
    bus, heard = EventBus(), []

    @bus.on("a", once=True)
    def again(event):
        heard.append(event.data)
        bus.publish("a", "inner")

    bus.publish("a", "outer")
    assert heard == ["outer"]


def test_unsubscribe():
    bus, heard = EventBus(), []
    bus.subscribe("a", heard.append)
    bus.subscribe("b", heard.append)
    assert bus.unsubscribe(heard.append) == 2
    assert bus.publish("a") == 0


def test_failures_are_collected():
    bus, heard = EventBus(), []

    @bus.on("a")
    def broken(event):
        raise KeyError("x")

    bus.subscribe("a", heard.append)
    with pytest.raises(DeliveryError) as caught:
        bus.publish("a")
    assert [repr(problem) for problem in caught.value.problems] == ["KeyError('x')"]
    assert len(heard) == 1


def test_recorder():
    bus = EventBus()
    recorder = Recorder(bus, "a.*", limit=2)
    for topic in ("a.x", "b", "a.y", "a.z"):
        bus.publish(topic)
    recorder.stop()
    bus.publish("a.w")
    assert recorder.topics() == ["a.y", "a.z"]


def test_changes_during_a_delivery():
    bus, heard = EventBus(), []
    bus.subscribe("a", lambda event: heard.append("once"), once=True)
    bus.subscribe("a", lambda event: third.cancel())
    third = bus.subscribe("a", lambda event: heard.append("third"))
    bus.subscribe("a", lambda event: bus.subscribe("a", heard.append))
    assert bus.publish("a") == 3
    assert heard == ["once"]
