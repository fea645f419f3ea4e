"""The report of an evaluation: one self-contained HTML file that a person wants to read."""

from perfusion_registry.evaluate.report.page import REPORT as REPORT
from perfusion_registry.evaluate.report.page import write_report as write_report

__all__ = ["REPORT", "write_report"]
