"""INI files with references between values."""

from .document import Document
from .errors import IniError
from .reader import load, parse

__all__ = ["Document", "IniError", "load", "parse"]
