"""Northgate Home: a small shop for the house, with a catalogue, a cart, a checkout and customer accounts."""

from pivotgym.envs.browser.apps.shop.tasks import ShopTasks

__all__ = ["ShopTasks"]
