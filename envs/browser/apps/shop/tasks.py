"""The shop's tasks as the task set ``shop``."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import ClassVar

from pivotgym.envs.browser.apps.shop import after, asking, buying
from pivotgym.envs.browser.apps.shop.app import Shop
from pivotgym.envs.browser.apps.shop.world import CUSTOMER, shop_world
from pivotgym.envs.browser.apps.spec import Builder
from pivotgym.envs.browser.apps.taskset import AppTasks

_BUILDERS: list[Builder] = [
    buying.buy_article,
    buying.cheapest_rated,
    buying.send_gift,
    buying.order_to_new_address,
    buying.use_voucher,
    buying.tidy_cart,
    buying.order_again,
    after.cancel_order,
    after.redirect_order,
    after.return_article,
    after.write_review,
    after.lower_rating,
    after.move_house,
    after.swap_default,
    after.sign_in_and_update,
    asking.weigh,
    asking.open_orders_total,
    asking.critic,
    asking.wish_best_rated,
    asking.affordable_wishes,
]


class ShopTasks(AppTasks):
    """Twenty kinds of tasks in the shop."""

    name = "shop"
    app = Shop
    user = CUSTOMER
    builders: ClassVar[Mapping[str, Builder]] = {builder.__name__: builder for builder in _BUILDERS}

    @classmethod
    def world(cls, seed: str) -> sqlite3.Connection:
        """A shop for a seed."""
        return shop_world(seed)
