"""The shop with all its pages."""

from __future__ import annotations

from pivotgym.envs.browser.apps.shop import account, cart, catalogue, orders
from pivotgym.envs.browser.apps.shop.site import Shop

__all__ = ["Shop", "account", "cart", "catalogue", "orders"]
