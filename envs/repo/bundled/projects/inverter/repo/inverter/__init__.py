"""An in-memory text index."""

from .index import TextIndex
from .show import highlight, snippet
from .words import Word, fold, words_of

__all__ = ["TextIndex", "Word", "fold", "highlight", "snippet", "words_of"]
