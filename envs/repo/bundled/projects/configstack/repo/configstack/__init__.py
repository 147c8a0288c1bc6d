"""Settings from several layers."""

from .defaults import DEFAULTS
from .merging import MISSING, lookup, merge
from .sources import SourceError, from_assignments, from_environ, from_file
from .stack import ConfigStack, standard_stack

__all__ = [
    "DEFAULTS",
    "MISSING",
    "ConfigStack",
    "SourceError",
    "from_assignments",
    "from_environ",
    "from_file",
    "lookup",
    "merge",
    "standard_stack",
]
