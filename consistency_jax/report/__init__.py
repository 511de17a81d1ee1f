"""Report: tables, before and after or of one model -> report.json, report.html, and a table for the terminal."""

from consistency_jax.report.html import write_report
from consistency_jax.report.summary import summarise
from consistency_jax.report.terminal import terminal_table

__all__ = ["summarise", "terminal_table", "write_report"]
