"""Packing bytes with a canonical Huffman code."""

from .archive import ArchiveError, pack, unpack
from .codes import canonical_codes, code_lengths

__all__ = ["ArchiveError", "canonical_codes", "code_lengths", "pack", "unpack"]
