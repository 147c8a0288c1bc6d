"""Routing of URL paths."""

from .pattern import Pattern
from .router import Found, NotFound, Redirect, Router

__all__ = ["Found", "NotFound", "Pattern", "Redirect", "Router"]
