"""Reports of a test run, from tables and arrays alone."""

from kmunet.report.examples import choose_examples
from kmunet.report.facts import run_facts
from kmunet.report.page import Example, Report, write_report
from kmunet.report.sweep_page import SweepReport, write_sweep_report
from kmunet.report.tables import write_metrics

__all__ = [
    "Example",
    "Report",
    "SweepReport",
    "choose_examples",
    "run_facts",
    "write_metrics",
    "write_report",
    "write_sweep_report",
]
