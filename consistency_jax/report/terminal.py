"""The report on a terminal: one table a split, and one for each set of answers that the model wrote."""

import io
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from consistency_jax.report.columns import LANGUAGES, PAIRS, SINGLE, Figure
from consistency_jax.report.figures import ANCHOR, FREE_TEXT, SAFETY, figures_of
from consistency_jax.report.names import language_name
from consistency_jax.report.views import Row, few, parts_of, row_of

# By what columns stand for: what lines say, by the end of their key, the most important one first.
_LINES = {
    LANGUAGES: {"_non_en": f"mean without {language_name(ANCHOR)}"},
    PAIRS: {"_all": "all language pairs", "_en": f"pairs with {language_name(ANCHOR)}"},
    SINGLE: {"": "all questions"},
}
_WIDTH = 88  # columns
STYLES = {"up": "green", "down": "red", "even": ""}


def terminal_table(summary: dict[str, Any], *, color: bool | None = None) -> str:
    """What `summarise` found, as text: before, after, delta and its interval, or of one model figures and intervals.

    Args:
      summary: as `summarise` returns it, with what `free_text_figures` found beside where there is such.
      color: with ANSI colours; by default where standard output is a terminal and NO_COLOR is not set.
    """
    console = text_console(_WIDTH, color)
    for split in summary["base"]:
        console.print(_split_table(summary, split))
    for figures, what in ((FREE_TEXT, "generation"), (SAFETY, "safety")):
        for name, parts in summary.get(what, {}).items():
            console.print(_written_table(name, parts, figures, summary["settings"]["confidence"]))
    return console.file.getvalue().rstrip("\n")


def text_console(width: int, color: bool | None) -> Console:
    """A console that writes into its `file`, a StringIO; `color` as of `terminal_table`."""
    if color is None:
        color = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    return Console(
        file=io.StringIO(),
        width=width,
        force_terminal=color,
        force_jupyter=False,  # in a notebook it would show the table itself and leave the file empty
        color_system="standard" if color else None,
    )


def _split_table(summary: dict[str, Any], split: str) -> RichTable:
    settings, parts = summary["settings"], parts_of(summary, split)
    about, alone = settings["splits"][split], "final" not in parts
    labelled = (
        "" if about["labelled_items"] in (0, about["items"]) else f" ({about['labelled_items']:,} labelled)"
    )
    fewer = ", ".join(f"{language} {count:,}" for language, count in about.get("lacking", {}).items())
    title = f"{split}: {about['items']:,} questions{labelled} in {len(about['languages'])} languages"
    title += f"; not asked in: {fewer}" if fewer else ""
    table = _table(title, parts, figures_of(alone), about["languages"], settings["confidence"])
    if told := few(parts, about):
        table.caption, table.caption_justify = Text(told), "left"
    return table


def _written_table(
    name: str, parts: Mapping[str, Any], figures: Sequence[Figure], confidence: float
) -> RichTable:
    settings = parts["settings"]
    asked = f"{settings['items']:,} {'prompts' if figures is SAFETY else 'questions'}"
    title = f"{name}: what the model writes to {asked} in {len(settings['languages'])} languages"
    return _table(title, parts, figures, settings["languages"], confidence)


def _table(
    title: str,
    parts: Mapping[str, Any],
    figures: Iterable[Figure],
    languages: Sequence[str],
    confidence: float,
) -> RichTable:
    alone = "final" not in parts
    table = RichTable(
        title=Text(title),  # not markup
        box=box.ROUNDED,
        title_style="bold",
        title_justify="left",
        min_width=64,
    )
    table.add_column("")
    for name in ("value",) if alone else ("before", "after", "delta"):
        table.add_column(name, justify="right")
    table.add_column(f"{100 * confidence:g}% interval", justify="right")
    # Languages first: they are what one looks for, and what there are most of.
    told = (figure for figure in figures if figure.terminal)
    for figure in sorted(told, key=lambda figure: figure.block is not LANGUAGES):
        rows = []
        if figure.block is LANGUAGES:
            for code in languages:
                label = f"{code}  {language_name(code)}"
                rows.append((row_of(parts, figure.name, code, label=label, better=figure.better), ""))
        for end, label in _LINES[figure.block].items():
            if end != "_en" or ANCHOR in languages:
                label = label if end != "_non_en" or ANCHOR in languages else "mean of the languages"
                row = row_of(parts, figure.name + end, label=label, better=figure.better)
                rows.append((row, "" if end == "_en" else "bold"))
        if any(row.after is not None for row, _ in rows):
            table.add_section()
            table.add_row(Text(figure.terminal, style="bold"))
            for row, style in rows:
                table.add_row(Text(f"  {row.label}", style=style), *_cells(row, alone))
    return table


def _cells(row: Row, alone: bool) -> list[Text]:
    sign = "" if alone else "+"

    def number(value: float | None, sign: str = "") -> str:
        return "-" if value is None else f"{value:{sign}.1f}"

    bounds = "-" if None in row.bounds else f"[{row.bounds[0]:{sign}.1f}, {row.bounds[1]:{sign}.1f}]"
    if alone:
        return [Text(number(row.after)), Text(bounds)]
    change = Text(number(row.delta, "+"), style=STYLES[row.tone])
    return [Text(number(row.before)), Text(number(row.after)), change, Text(bounds)]
