"""The shop as an application: its visitors, what all its pages show, its notices."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from jinja2 import Environment

from pivotgym.envs.browser.apps.web import Routes, Visit, WebApp

__all__ = ["Shop", "Visit", "money", "routes"]

routes = Routes()


def money(cents: int) -> str:
    """An amount as the shop writes it."""
    return f"€{cents // 100:,}.{cents % 100:02d}"


class Shop(WebApp):
    """Northgate Home."""

    name = "shop"
    folder = Path(__file__).parent
    rules = routes.rules
    user_query = "SELECT c.* FROM sessions s JOIN customers c ON c.id = s.user_id WHERE s.sid = ?"
    notices: ClassVar[dict[str, str]] = {
        "added": "Added to your cart.",
        "updated": "Your cart has been updated.",
        "removed": "The item has been removed from your cart.",
        "coupon": "The voucher will be applied to your order.",
        "review": "Thank you, your review has been published.",
        "review-deleted": "Your review has been deleted.",
        "wished": "Saved to your wish list.",
        "unwished": "Removed from your wish list.",
        "placed": "Thank you, your order has been placed.",
        "cancelled": "The order has been cancelled.",
        "delivery": "The delivery address has been changed.",
        "returned": "Your return has been registered.",
        "again": "The items of the order are in your cart.",
        "again-some": "Some items of the order are sold out; the others are in your cart.",
        "address": "The address has been saved.",
        "address-deleted": "The address has been deleted.",
        "profile": "Your details have been saved.",
        "out": "You are signed out.",
        "welcome": "You are signed in.",
    }

    def shared(self, visit: Visit) -> dict[str, Any]:
        """The number of articles in the cart."""
        count = 0
        if visit.user is not None:
            query = "SELECT coalesce(sum(quantity), 0) FROM cart_lines WHERE customer_id = ?"
            count = visit.value(query, visit.user["id"])
        return {"cart_count": count}

    @classmethod
    def prepare(cls, environment: Environment) -> None:
        """Amounts of money in templates."""
        environment.filters.update(money=money)
