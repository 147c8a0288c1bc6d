"""Text tables for terminals."""

from .cells import clip, pad
from .columns import Column
from .table import Table
from .width import display_width

__all__ = ["Column", "Table", "clip", "display_width", "pad"]
