"""Report: two tables, before and after, or one alone -> report.json, report.html, and a table for the terminal."""

from consistency_jax.report.html import write_audit, write_report
from consistency_jax.report.summary import audit, summarise
from consistency_jax.report.terminal import audit_table, terminal_table

__all__ = ["audit", "audit_table", "summarise", "terminal_table", "write_audit", "write_report"]
