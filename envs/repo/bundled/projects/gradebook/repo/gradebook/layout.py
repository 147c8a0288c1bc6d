"""Reports as text."""

from __future__ import annotations

from .reports import CourseSummary, Place


def summary_text(summaries: list[CourseSummary]) -> str:
    """A table of course summaries."""
    lines = [f"{'course':<10}{'n':>3}{'mean':>7}{'low':>7}{'high':>7}{'passed':>8}"]
    for item in summaries:
        f = item.figures
        lines.append(f"{item.course:<10}{f.count:>3}{f.mean:>7.1f}{f.low:>7.1f}{f.high:>7.1f}{item.passed:>8}")
    return "\n".join(lines)


def ranking_text(places: list[Place]) -> str:
    """A ranking, one student a line."""
    return "\n".join(f"{item.place:>3}. {item.student:<12}{item.mean:>6.1f}" for item in places)
