"""What `compare` found, as a table for the terminal, markdown, and a self-contained page with a picture."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from consistency_jax.report.charts import verdict
from consistency_jax.report.figures import CLC, FIGURES, TOP1, leading
from consistency_jax.report.html import number, template
from consistency_jax.report.plots import Mark, forest
from consistency_jax.report.terminal import STYLES, text_console
from consistency_jax.runtime.files import write_text
from consistency_jax.runtime.progress import readable


def columns(comparison: Mapping[str, Any] | None = None) -> dict[str, tuple[str, bool | None]]:
    """Key of compare.json -> what tables call it, and whether more is better (None: neither); the same first answer
    in the place of CLC where nothing else is known of the models."""
    rows = [row for split in (comparison or {}).get("splits", {}).values() for row in split.values()]
    known = {
        key: each["mean"] for row in rows for key, each in row["figures"].items() if each["mean"] is not None
    }
    left_out = CLC if leading(known) is TOP1 else TOP1
    shown = [figure for figure in FIGURES if figure is not left_out]
    return {key: (figure.labels[key], figure.tone(key)) for figure in shown for key in figure.compare}


def _cells(
    comparison: Mapping[str, Any], row: Mapping[str, Any], against: str
) -> list[tuple[Mapping[str, Any], Mapping[str, Any], str]]:
    """(figure, its change, the tone of that) of each column."""
    changes = row[f"against_{against}"]
    return [
        (row["figures"][key], changes[key], _verdict(changes[key], better))
        for key, (_, better) in columns(comparison).items()
    ]


def explained(comparison: Mapping[str, Any], split: str, against: str) -> str:
    """What the cells of a split's table mean."""
    settings = comparison["settings"]
    low = settings["splits"][split]["low_resource"]
    other = "the base model" if against == "base" else settings["first"]
    whose = f"the answers of {other}" if settings.get("alone") else "the base model's"
    skill = "accuracy, mean over the models," if settings.get("alone") else "base accuracy"
    seeds = max(len(method["seeds"]) for method in comparison["methods"])
    spread = f" Means of up to {seeds} seeds, ± their standard deviation." if seeds > 1 else ""
    return (
        f"Changes are against {other}; * where the {100 * settings['confidence']:g}% interval (paired bootstrap over "
        f"questions) excludes 0.{spread} Low-resource: languages whose {skill} is below the median "
        f"({', '.join(low) or 'none'}). Answers changed: they are not {whose}."
    )


def lead(comparison: Mapping[str, Any], against: str) -> str:
    """A sentence: which method gains most consistency on the first split, and what it does to accuracy."""
    split, rows = next(iter(comparison["splits"].items()))
    apart = ("base", comparison["settings"]["first"] if against == "first" else "base")
    changes = {name: row[f"against_{against}"] for name, row in rows.items() if name not in apart}
    figure = TOP1 if "top1_agreement_all" in columns(comparison) else CLC
    key, what = f"{figure.name}_all", figure.label if figure is CLC else "agreement of first answers, %,"
    known = {name: own for name, own in changes.items() if own[key]["mean"] is not None}
    if not known:
        return ""
    best = max(known, key=lambda name: known[name][key]["mean"])
    change = known[best][key]
    sure = change["low"] is not None and change["low"] > 0
    told = f"On the {comparison['settings']['splits'][split]['items']:,} questions of {split}, "
    if comparison["settings"].get("alone"):
        more = f"{best} is more consistent" if sure else "no model is measurably more consistent"
        told += f"{more} between languages than {apart[1]}"
        told += f": {what} {_told(change)}" if sure else f"; the best is {best}, {what} {_told(change)}"
    else:
        told += (
            f"{best} gains most consistency between languages: {what} {_told(change)}"
            if sure
            else f"no method measurably gains consistency; the best is {best}, {what} {_told(change)}"
        )
    english = known[best].get("accuracy_en", {}).get("mean") is not None
    others = "accuracy in the other languages" if english else "mean accuracy"
    accuracies = {"English accuracy": "accuracy_en", others: "accuracy_non_en"}
    also = [
        f"{name} {_told(known[best][key])}"
        for name, key in accuracies.items()
        if known[best].get(key, {}).get("mean") is not None
    ]
    return f"{told}{''.join(f', {each}' for each in also)}."


def _told(change: Mapping[str, Any]) -> str:
    text = number(change["mean"], sign="+")
    if change["low"] is not None:
        text += f" [{number(change['low'], sign='+')}, {number(change['high'], sign='+')}]"
    return text


# ------------------------------------------------------------------------------------------------------------- terminal
def terminal_comparison(
    comparison: Mapping[str, Any], *, against: str = "base", color: bool | None = None
) -> str:
    """A table a split: one row a method, each cell the figure above its change.

    Args:
      comparison: what `compare` returned.
      against: "base" or "first".
      color: with ANSI colours; by default where standard output is a terminal and NO_COLOR is not set.
    """
    console = text_console(26 + 14 * len(columns(comparison)), color)
    for split, rows in comparison["splits"].items():
        about = comparison["settings"]["splits"][split]
        table = RichTable(
            title=Text(f"{split}: {about['items']:,} questions in {len(about['languages'])} languages"),
            box=box.ROUNDED,
            title_style="bold",
            title_justify="left",
        )
        table.add_column("")
        for name, _ in columns(comparison).values():
            table.add_column(name, justify="right")
        speeds = _speeds(comparison)
        if speeds:
            table.add_column("items/s", justify="right")
        for method, row in rows.items():
            cells = [_terminal_cell(*cell) for cell in _cells(comparison, row, against)]
            table.add_row(Text(method), *cells, *([speeds.get(method, "")] if speeds else []))
        console.print(table)
        console.print(Text(explained(comparison, split, against)), style="dim")
    return console.file.getvalue().rstrip("\n")


def _terminal_cell(figure: Mapping[str, Any], change: Mapping[str, Any], tone: str) -> Text:
    if figure["mean"] is None:
        return Text("-")
    text = Text(_spread(f"{figure['mean']:.1f}", figure["sd"]))
    if _moved(change):
        text.append(f"\n{_change(change)}", style=STYLES[tone])
    return text


def _moved(change: Mapping[str, Any]) -> bool:
    return change["mean"] is not None and any(change[name] for name in ("mean", "low", "high"))


def _change(change: Mapping[str, Any]) -> str:
    return _spread(f"{change['mean']:+.1f}{'' if _verdict(change) == 'even' else '*'}", change["sd"])


def _verdict(change: Mapping[str, Any], better: bool | None = True) -> str:
    return verdict(change["mean"], (change["low"], change["high"]), better)


def _spread(text: str, sd: float | None) -> str:
    return text if sd is None else f"{text} ±{sd:.1f}"


def _speeds(comparison: Mapping[str, Any]) -> dict[str, str]:
    speeds = {method["name"]: method["items_per_s"] for method in comparison["methods"]}
    return {name: readable(speed) for name, speed in speeds.items() if speed is not None}


# ------------------------------------------------------------------------------------------------------------- markdown
def markdown_comparison(comparison: Mapping[str, Any], *, against: str = "base") -> str:
    """The same tables as markdown, with intervals."""
    names, speeds, lines = [name for name, _ in columns(comparison).values()], _speeds(comparison), []
    for split, rows in comparison["splits"].items():
        lines += [
            f"`{split}`, {comparison['settings']['splits'][split]['items']:,} questions:",
            "",
            f"| method | {' | '.join(names + ['items/s'] * bool(speeds))} |",
            "|---|" + "---|" * (len(names) + bool(speeds)),
        ]
        for method, row in rows.items():
            cells = []
            for figure, change, _ in _cells(comparison, row, against):
                if figure["mean"] is None:
                    cells.append("–")
                    continue
                cell = _spread(f"{figure['mean']:.1f}", figure["sd"])
                if _moved(change):
                    cell += f" ({_change(change)} [{change['low']:+.1f}, {change['high']:+.1f}])"
                cells.append(cell.replace("-", "−"))
            cells += [speeds.get(method, "")] if speeds else []
            lines.append(f"| {method} | {' | '.join(cells)} |")
        lines += ["", explained(comparison, split, against), ""]
    return "\n".join(lines)


# ----------------------------------------------------------------------------------------------------------------- page
def picture(comparison: Mapping[str, Any], split: str, *, against: str = "base") -> str:
    """The changes of a split with their intervals, as an SVG image that needs no page."""
    rows = comparison["splits"][split]
    shown = [name for name in rows if name != "base"]
    marks = zip(
        *([_mark(*cell[1:]) for cell in _cells(comparison, rows[method], against)] for method in shown)
    )
    return forest(shown, list(zip([name for name, _ in columns(comparison).values()], marks)))


def _mark(change: Mapping[str, Any], tone: str) -> Mark | None:
    known = change["mean"] is not None and change["low"] is not None
    return Mark(change["mean"], change["low"], change["high"], tone) if known else None


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
        compared=f"{len(comparison['methods'])} {'models' if comparison['settings'].get('alone') else 'methods'}",
        methods=comparison["methods"],
        columns=[name for name, _ in columns(comparison).values()],
        speeds=_speeds(comparison),
        splits=[_split_view(comparison, split, against) for split in comparison["splits"]],
        lead=lead(comparison, against),
        models=list(dict.fromkeys(method["model"] for method in comparison["methods"])),
        command=command,
    )
    write_text(folder / "compare.html", page)
    return folder / "compare.html"


def _split_view(comparison: Mapping[str, Any], split: str, against: str) -> dict[str, Any]:
    rows = [
        {
            "name": method,
            "cells": [
                figure | {"change": change, "tone": tone, "moved": _moved(change)}
                for figure, change, tone in _cells(comparison, row, against)
            ],
        }
        for method, row in comparison["splits"][split].items()
    ]
    return {
        "name": split,
        "about": comparison["settings"]["splits"][split],
        "rows": rows,
        "note": explained(comparison, split, against),
        "picture": picture(comparison, split, against=against),
    }
