"""The report on a terminal: one table a split."""

import io
import os
import sys
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from consistency_jax.report.names import language_name


def terminal_table(summary: dict[str, Any], *, width: int = 88, color: bool | None = None) -> str:
    """What `summarise` found, as text: accuracy per language and CLC, before, after, delta and its interval.

    Args:
      summary: as `summarise` returns it.
      width: columns of the terminal.
      color: with ANSI colours; by default where standard output is a terminal and NO_COLOR is not set.
    """
    console = text_console(width, color)
    for split in summary["base"]:
        console.print(_split_table(summary, split))
    return console.file.getvalue().rstrip("\n")


def audit_table(summary: dict[str, Any], *, width: int = 88) -> str:
    """What `audit` found, as text: accuracy per language and CLC with their intervals."""
    console = text_console(width, color=False)
    for split, figures in summary["base"].items():
        settings, sure = summary["settings"], summary["confidence"][split]
        about, anchor = settings["splits"][split], settings["anchor"]
        names = {
            ("clc_all",): "CLC (RankC x 100), all language pairs",
            ("top1_agreement_all",): "same first answer, all pairs",
        }
        if anchor in about["languages"]:
            names[("clc_en",)] = f"CLC (RankC x 100), pairs with {language_name(anchor)}"
        if about["labelled_items"]:
            names |= {("accuracy", l): f"accuracy, {l}  {language_name(l)}" for l in about["languages"]}
            names[("accuracy_non_en",)] = f"accuracy, mean without {language_name(anchor)}"
        table = RichTable(
            title=f"{split}: {about['items']:,} questions in {len(about['languages'])} languages",
            box=box.ROUNDED,
            title_justify="left",
        )
        table.add_column("")
        table.add_column("%", justify="right")
        table.add_column(f"{100 * settings['confidence']:g}% interval", justify="right")
        for path, label in names.items():
            value, bounds = _at(figures, path), _at(sure, path)
            if value is not None:
                table.add_row(label, f"{value:.1f}", f"[{bounds[0]:.1f}, {bounds[1]:.1f}]")
        console.print(table)
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
    settings = summary["settings"]
    about, anchor = settings["splits"][split], settings["anchor"]
    labelled = (
        "" if about["labelled_items"] in (0, about["items"]) else f" ({about['labelled_items']:,} labelled)"
    )
    table = RichTable(
        title=f"{split}: {about['items']:,} questions{labelled} in {len(about['languages'])} languages",
        box=box.ROUNDED,
        title_style="bold",
        title_justify="left",
        min_width=64,
    )
    table.add_column("")
    for name in ("before", "after", "delta"):
        table.add_column(name, justify="right")
    table.add_column(f"{100 * settings['confidence']:g}% interval", justify="right")

    def section(title: str) -> None:
        table.add_section()
        table.add_row(Text(title, style="bold"), "", "", "", "")

    def row(label: str, *path: str, style: str = "") -> None:
        values = [_at(summary[part][split], path) for part in ("base", "final", "delta", "confidence")]
        table.add_row(Text(label, style=style), *_cells(*values))

    if about["labelled_items"]:
        section("Accuracy, %")
        for language in about["languages"]:
            row(f"  {language}  {language_name(language)}", "accuracy", language)
        if anchor in about["languages"]:
            row(f"  mean without {language_name(anchor)}", "accuracy_non_en", style="bold")
    section("CLC (RankC x 100)")
    row("  all language pairs", "clc_all", style="bold")
    if anchor in about["languages"]:
        row(f"  pairs with {language_name(anchor)}", "clc_en")
    return table


def _at(figures: dict[str, Any], path: tuple[str, ...]) -> Any:
    for key in path:
        figures = figures[key]
    return figures


def _cells(before, after, delta, bounds) -> list[Text]:
    def number(value: float | None, sign: str = "") -> str:
        return "-" if value is None else f"{value:{sign}.1f}"

    style = ""
    if delta is not None and None not in bounds and (bounds[0] > 0 or bounds[1] < 0):
        style = "green" if delta > 0 else "red"
    interval = "-" if None in bounds else f"[{bounds[0]:+.1f}, {bounds[1]:+.1f}]"
    return [Text(number(before)), Text(number(after)), Text(number(delta, "+"), style=style), Text(interval)]
