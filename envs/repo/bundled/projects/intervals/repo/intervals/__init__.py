"""Sets of whole numbers as sorted half-open intervals."""

from .parsing import SpanError
from .rooms import Booked, Room
from .spans import Spans

__all__ = ["Booked", "Room", "SpanError", "Spans"]
