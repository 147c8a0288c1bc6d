"""Order tasks by what they need."""

from .cycles import CycleError, find_cycle
from .graph import TaskGraph
from .load import LoadError, load
from .plan import Plan, make_plan

__all__ = ["CycleError", "LoadError", "Plan", "TaskGraph", "find_cycle", "load", "make_plan"]
