"""Line by line differences in the unified format."""

from linediff.lcs import Edit, edits
from linediff.hunks import Hunk, make_hunks
from linediff.patch import PatchError, apply_patch, parse_patch
from linediff.unified import unified

__all__ = ["Edit", "Hunk", "PatchError", "apply_patch", "edits", "make_hunks", "parse_patch", "unified"]
