"""Publish and subscribe within one process."""

from .bus import DeliveryError, Event, EventBus
from .patterns import PatternError, matches
from .recorder import Recorder
from .registry import Subscription

__all__ = ["DeliveryError", "Event", "EventBus", "PatternError", "Recorder", "Subscription", "matches"]
