"""JSON Pointer and JSON Patch."""

from .compare import make_patch
from .errors import PatchError, PointerError
from .patch import apply_patch
from .pointer import Pointer, get

__all__ = ["PatchError", "Pointer", "PointerError", "apply_patch", "get", "make_patch"]
