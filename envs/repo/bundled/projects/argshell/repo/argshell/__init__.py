"""Small jobs on text files, from the command line."""

from .main import run

__all__ = ["run"]
