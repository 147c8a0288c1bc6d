"""A small stock book."""

from stocktake.book import changes, open_book
from stocktake.errors import OutOfStock, StockError, UnknownOrder, UnknownPlace
from stocktake.orders import create_order, open_orders, order_state, ship
from stocktake.stock import issue_item, journal, move, on_hand, receive, totals

__all__ = [
    "OutOfStock",
    "StockError",
    "UnknownOrder",
    "UnknownPlace",
    "changes",
    "create_order",
    "issue_item",
    "journal",
    "move",
    "on_hand",
    "open_book",
    "open_orders",
    "order_state",
    "receive",
    "ship",
    "totals",
]
