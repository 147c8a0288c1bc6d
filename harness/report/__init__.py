"""The report on a run: a page, tables in the terminal, and the same figures as JSON."""

from __future__ import annotations

from pivotgym.harness.report.figures import report_figures
from pivotgym.harness.report.page import build_report
from pivotgym.harness.report.terminal import print_run_summary

__all__ = ["build_report", "print_run_summary", "report_figures"]
