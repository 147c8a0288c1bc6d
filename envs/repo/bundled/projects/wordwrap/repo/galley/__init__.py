"""Plain text in lines of a given width."""

from .blocks import Block, parse_blocks
from .lines import fill_lines
from .text import set_text

__all__ = ["Block", "fill_lines", "parse_blocks", "set_text"]
