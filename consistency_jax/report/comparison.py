"""What `compare` found, as a table for the terminal, markdown, and a self-contained page with a picture."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from consistency_jax.report.charts import verdict
from consistency_jax.report.html import template
from consistency_jax.report.names import language_name
from consistency_jax.report.plots import Mark, forest
from consistency_jax.report.terminal import text_console
from consistency_jax.runtime.files import write_text

# Key of compare.json, what tables call it, whether more is better (None: neither).
FIGURES = (
    ("clc_all", "CLC", True),
    ("clc_en", "CLC with {anchor}", True),
    ("accuracy_en", "Accuracy, {anchor}", True),
    ("accuracy_non_en", "Accuracy, others", True),
    ("accuracy_low", "Accuracy, low-resource", True),
    ("changed_en", "{anchor} drift", None),
)


def labels(comparison: Mapping[str, Any]) -> dict[str, str]:
    """Key -> name of each figure."""
    anchor = language_name(comparison["settings"]["anchor"])
    return {key: name.format(anchor=anchor) for key, name, _ in FIGURES}


def explained(comparison: Mapping[str, Any], split: str, against: str) -> str:
    """What the cells of a split's table mean."""
    settings = comparison["settings"]
    low = settings["splits"][split]["low_resource"]
    other = "the base model" if against == "base" else settings["first"]
    seeds = max(len(method["seeds"]) for method in comparison["methods"])
    spread = f" Means of up to {seeds} seeds, ± their standard deviation." if seeds > 1 else ""
    drift = f"{language_name(settings['anchor'])} drift: answers that are no longer the base model's."
    return (
        f"Changes are against {other}; * where the {100 * settings['confidence']:g}% interval (paired bootstrap over "
        f"questions) excludes 0.{spread} Low-resource: languages whose base accuracy is below the median "
        f"({', '.join(low) or 'none'}). {drift}"
    )


# ------------------------------------------------------------------------------------------------------------- terminal
def terminal_comparison(
    comparison: Mapping[str, Any], *, against: str = "base", width: int = 110, color: bool | None = None
) -> str:
    """A table a split: one row a method, each cell the figure above its change.

    Args:
      comparison: what `compare` returned.
      against: "base" or "first".
      width: columns of the terminal.
      color: with ANSI colours; by default where standard output is a terminal and NO_COLOR is not set.
    """
    console = text_console(width, color)
    for split, rows in comparison["splits"].items():
        about = comparison["settings"]["splits"][split]
        table = RichTable(
            title=f"{split}: {about['items']:,} questions in {len(about['languages'])} languages",
            box=box.ROUNDED,
            title_style="bold",
            title_justify="left",
        )
        table.add_column("")
        for name in labels(comparison).values():
            table.add_column(name, justify="right")
        table.add_column("items/s", justify="right")
        speeds = _speeds(comparison)
        for method, row in rows.items():
            cells = [_terminal_cell(row, key, better, against) for key, _, better in FIGURES]
            table.add_row(Text(method), *cells, speeds.get(method, ""))
        console.print(table)
        console.print(explained(comparison, split, against), style="dim")
    return console.file.getvalue().rstrip("\n")


def _terminal_cell(row: Mapping[str, Any], key: str, better: bool | None, against: str) -> Text:
    figure, change = row["figures"][key], row[f"against_{against}"][key]
    if figure["mean"] is None:
        return Text("-")
    text = Text(_spread(f"{figure['mean']:.1f}", figure["sd"]))
    tone = _verdict(change)
    if change["mean"] is not None and any(change[name] for name in ("mean", "low", "high")):
        style = {"up": "green", "down": "red", "even": ""}[tone] if better else ""
        text.append(f"\n{_change(change)}", style=style)
    return text


def _change(change: Mapping[str, Any]) -> str:
    return _spread(f"{change['mean']:+.1f}{'' if _verdict(change) == 'even' else '*'}", change["sd"])


def _verdict(change: Mapping[str, Any]) -> str:
    return verdict(change["mean"], (change["low"], change["high"]))


def _spread(text: str, sd: float | None) -> str:
    return text if sd is None else f"{text} ±{sd:.1f}"


def _speeds(comparison: Mapping[str, Any]) -> dict[str, str]:
    speeds = {method["name"]: method["items_per_s"] for method in comparison["methods"]}
    return {name: f"{speed:.0f}" for name, speed in speeds.items() if speed is not None}


# ------------------------------------------------------------------------------------------------------------- markdown
def markdown_comparison(comparison: Mapping[str, Any], *, against: str = "base") -> str:
    """The same tables as markdown, with intervals."""
    names, speeds, lines = labels(comparison), _speeds(comparison), []
    for split, rows in comparison["splits"].items():
        lines += [
            f"`{split}`, {comparison['settings']['splits'][split]['items']:,} questions:",
            "",
            f"| method | {' | '.join(names.values())} | items/s |",
            "|---|" + "---|" * (len(names) + 1),
        ]
        for method, row in rows.items():
            cells = []
            for key in names:
                figure, change = row["figures"][key], row[f"against_{against}"][key]
                if figure["mean"] is None:
                    cells.append("–")
                    continue
                cell = _spread(f"{figure['mean']:.1f}", figure["sd"])
                if change["mean"] is not None and any(change[name] for name in ("mean", "low", "high")):
                    cell += f" ({_change(change)} [{change['low']:+.1f}, {change['high']:+.1f}])"
                cells.append(cell.replace("-", "−"))
            lines.append(f"| {method} | {' | '.join(cells)} | {speeds.get(method, '')} |")
        lines += ["", explained(comparison, split, against), ""]
    return "\n".join(lines)


# ----------------------------------------------------------------------------------------------------------------- page
def picture(comparison: Mapping[str, Any], split: str, *, against: str = "base") -> str:
    """The changes of a split with their intervals, as an SVG image that needs no page."""
    rows = comparison["splits"][split]
    shown = [name for name in rows if name != "base"]
    panels = [
        (name, [_mark(rows[method][f"against_{against}"][key], better) for method in shown])
        for (key, _, better), name in zip(FIGURES, labels(comparison).values(), strict=True)
    ]
    return forest(shown, panels)


def _mark(change: Mapping[str, Any], better: bool | None) -> Mark | None:
    if change["mean"] is None or change["low"] is None:
        return None
    tone = _verdict(change) if better else "even"
    return Mark(change["mean"], change["low"], change["high"], tone)


def write_comparison(
    folder: str | Path, comparison: Mapping[str, Any], *, against: str = "base", command: str | None = None
) -> Path:
    """Writes compare.json and compare.html into a folder; returns the path of the page.

    Args:
      against: what the page's changes are measured against: "base" or "first".
      command: the command line, shown as it is.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(comparison, indent=1, ensure_ascii=False, allow_nan=False)
    write_text(folder / "compare.json", text + "\n")
    page = template("compare.html.j2").render(
        settings=comparison["settings"],
        methods=comparison["methods"],
        columns=list(labels(comparison).items()),
        speeds=_speeds(comparison),
        splits=[_split_view(comparison, split, against) for split in comparison["splits"]],
        command=command,
    )
    write_text(folder / "compare.html", page)
    return folder / "compare.html"


def _split_view(comparison: Mapping[str, Any], split: str, against: str) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    better = {key: good for key, _, good in FIGURES}
    for method, row in comparison["splits"][split].items():
        cells: Sequence[dict[str, Any]] = [
            {
                **row["figures"][key],
                "change": row[f"against_{against}"][key],
                "tone": _verdict(row[f"against_{against}"][key]) if better[key] else "even",
            }
            for key in better
        ]
        rows.append({"name": method, "cells": cells})
    return {
        "name": split,
        "about": comparison["settings"]["splits"][split],
        "rows": rows,
        "note": explained(comparison, split, against),
        "picture": picture(comparison, split, against=against),
    }
