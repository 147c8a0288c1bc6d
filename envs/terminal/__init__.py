"""The terminal domain: ``pivotgym/Terminal-v0``."""
