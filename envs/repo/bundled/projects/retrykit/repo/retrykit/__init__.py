"""Call something again when it fails."""

from retrykit.backoff import Backoff, Constant, Exponential, Schedule
from retrykit.errors import GaveUp
from retrykit.policy import Policy
from retrykit.retrier import Retrier, retrying

__all__ = ["Backoff", "Constant", "Exponential", "GaveUp", "Policy", "Retrier", "Schedule", "retrying"]
