"""Evaluation: suites as data, pictures judged by the paper's metrics and by the drawn world's, a report.

Listing suites needs no torch, so every name is imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfusion_registry.lazy import lazy_exports

if TYPE_CHECKING:
    from perfusion_registry.evaluate.budget import Budget as Budget
    from perfusion_registry.evaluate.preparing import Workplace as Workplace
    from perfusion_registry.evaluate.report import write_report as write_report
    from perfusion_registry.evaluate.results import Results as Results
    from perfusion_registry.evaluate.results import read_results as read_results
    from perfusion_registry.evaluate.runner import evaluate as evaluate
    from perfusion_registry.evaluate.suite import Suite as Suite
    from perfusion_registry.evaluate.suite import find_suite as find_suite
    from perfusion_registry.evaluate.suite import read_suite as read_suite
    from perfusion_registry.evaluate.suite import shipped_suites as shipped_suites

_HOME = {
    "Budget": "budget",
    "Results": "results",
    "Suite": "suite",
    "Workplace": "preparing",
    "evaluate": "runner",
    "find_suite": "suite",
    "read_results": "results",
    "read_suite": "suite",
    "shipped_suites": "suite",
    "write_report": "report",
}

__all__ = sorted(_HOME)

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__, _HOME)
