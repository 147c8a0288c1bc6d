"""Runs tests inside a fresh sandbox so that the code under test cannot fake their outcome.

A supervisor in the sandbox forks test processes before it knows anything worth knowing, gives each the tests in memory,
and reads what they say until they are dead. One of them runs the tests as they are. The others, *twins* that look the
same, run them with errors planted in their assertions: code that makes tests pass without being right makes those pass
too, and is not believed. See :mod:`.inside.planting`, :mod:`.inside.audit` and :mod:`.belief`.
"""

from __future__ import annotations

from pivotgym.envs.repo.runner.execution import run_tests
from pivotgym.envs.repo.runner.results import Outcome, Report, TestResult
from pivotgym.envs.repo.runner.toolkit import INSTALL, TOOLKIT, toolkit_archive

__all__ = ["INSTALL", "TOOLKIT", "Outcome", "Report", "TestResult", "run_tests", "toolkit_archive"]
