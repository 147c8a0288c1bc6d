"""The life of an order."""

from .machine import Machine, Move, Refused
from .order import Entry, Order
from .shop import shop

__all__ = ["Entry", "Machine", "Move", "Order", "Refused", "shop"]
