"""Rate limiters with a clock that is passed in."""

from .bucket import TokenBucket
from .clock import ManualClock
from .decision import Decision
from .keyed import PerKey
from .rolling import RollingLimiter

__all__ = ["Decision", "ManualClock", "PerKey", "RollingLimiter", "TokenBucket"]
