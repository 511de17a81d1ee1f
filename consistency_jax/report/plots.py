"""Pictures that stand alone: SVG files with their own colours, which are a page's where they stand in one."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from importlib.resources import files
from typing import NamedTuple

from markupsafe import Markup, escape

# Colours are variables of report/style.css, with their light values for an SVG alone.
_STYLE = """
text { font: 12px system-ui, sans-serif; fill: var(--text, #18212a); }
.soft { fill: var(--soft, #5b6873); } .title { font-weight: 650; }
.right { text-anchor: end; } .middle { text-anchor: middle; }
.back { fill: var(--card, #ffffff); } .band { fill: var(--track, #eef1f2); }
.grid { stroke: var(--line, #e3e7e9); } .zero { stroke: var(--soft, #5b6873); }
.up { color: var(--up, #0f766e); } .down { color: var(--down, #b4430c); } .even { color: var(--even, #5b6873); }
.whisker { stroke: currentColor; stroke-width: 2.5; } .dot { fill: currentColor; }
.path { fill: none; stroke: currentColor; stroke-width: 1.5; opacity: .45; }
"""


class Mark(NamedTuple):
    """A value with its interval; tone: up, down or even (its colour)."""

    value: float
    low: float
    high: float
    tone: str = "even"


def forest(rows: Sequence[str], panels: Sequence[tuple[str, Sequence[Mark | None]]]) -> Markup:
    """Values with intervals around a line at 0: a row a name, a panel a figure, each panel on a scale of its own.

    Args:
      rows: R names.
      panels: (title, R marks; None where there is none).
    """
    names, wide, high, top = 20 + 7 * max(map(len, rows), default=0), 170, 26, 34
    width, height = names + len(panels) * wide + 10, top + len(rows) * high + 26
    parts = _begin(width, height)
    for r, name in enumerate(rows):
        y = top + r * high
        if r % 2 == 0:
            parts.append(f'<rect class="band" x="0" y="{y}" width="{width}" height="{high}"/>')
        parts.append(f'<text class="right" x="{names - 10}" y="{y + 17}">{escape(name)}</text>')
    for p, (title, marks) in enumerate(panels):
        left, right = names + p * wide + 10, names + (p + 1) * wide - 10
        low, up = span([0.0, *(end for mark in marks if mark for end in mark[1:3])])
        place = scale(low, up, left, right)
        bottom = top + len(rows) * high
        parts.append(f'<text class="title middle" x="{(left + right) / 2:g}" y="20">{escape(title)}</text>')
        for tick in ticks(low, up):
            x, style = place(tick), "grid" if tick else "zero"
            parts.append(f'<line class="{style}" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>')
            parts.append(f'<text class="soft middle" x="{x:.1f}" y="{bottom + 16}">{short(tick, "+")}</text>')
        for r, mark in enumerate(marks):
            if mark is not None:
                parts.append(_whisker(mark, place, top + (r + 0.5) * high, across=True))
    return Markup("".join([*parts, "</svg>"]))


def trend(
    title: str, x_title: str, x: Sequence[float], lines: Sequence[tuple[str, Sequence[Mark]]]
) -> Markup:
    """Values with intervals over a logarithmic axis, a panel a line.

    Args:
      x: positive; each is labelled.
      lines: (title of the panel, a mark for each x).
    """
    wide, top, bottom = 300, 62, 250
    width = 20 + len(lines) * (wide + 40)
    parts = _begin(width, bottom + 50)
    parts.append(f'<text class="title" x="20" y="22">{escape(title)}</text>')
    for n, (name, marks) in enumerate(lines):
        left = 60 + n * (wide + 40)
        low, up = span([0.0, *(end for mark in marks for end in mark[1:3])])
        height = scale(low, up, bottom, top)
        place = scale(math.log(min(x)), math.log(max(x)), left + 15, left + wide - 30)
        parts.append(f'<text class="title" x="{left}" y="48">{escape(name)}</text>')
        for tick in ticks(low, up):
            y, style = height(tick), "grid" if tick else "zero"
            parts.append(
                f'<line class="{style}" x1="{left}" x2="{left + wide - 15}" y1="{y:.1f}" y2="{y:.1f}"/>'
                f'<text class="soft right" x="{left - 6}" y="{y + 4:.1f}">{short(tick, "+")}</text>'
            )
        points = " ".join(
            f"{place(math.log(value)):.1f},{height(mark.value):.1f}"
            for value, mark in zip(x, marks, strict=True)
        )
        parts.append(f'<g class="even"><polyline class="path" points="{points}"/></g>')
        for value, mark in zip(x, marks, strict=True):
            across = place(math.log(value))
            parts.append(
                f'<text class="soft middle" x="{across:.1f}" y="{bottom + 18}">{value:g}</text>'
                + _whisker(mark, height, across, across=False)
            )
        parts.append(
            f'<text class="soft middle" x="{left + wide / 2:g}" y="{bottom + 38}">{escape(x_title)}</text>'
        )
    return Markup("".join([*parts, "</svg>"]))


def grid(panels: Iterable[tuple[str, Markup]], columns: int = 3) -> Markup:
    """Charts of a report's page as one picture, for a notebook or a file, in the page's light colours.

    Args:
      panels: (title, a chart of charts.py or diagrams.py that has a viewBox), say the maps of `views.split_view`.
      columns: as many stand side by side.
    """
    panels, gap, top = list(panels), 24, 30
    sizes = [re.search(r'viewBox="0 0 (\S+) (\S+)"', chart).groups() for _, chart in panels]
    wide, high = (max(map(float, ends)) for ends in zip(*sizes, strict=True))
    parts = []
    for n, ((title, chart), size) in enumerate(zip(panels, sizes, strict=True)):
        left, y = n % columns * (wide + gap), n // columns * (high + top)
        place = f'<svg x="{left:g}" y="{y + top:g}" width="{size[0]}" height="{size[1]}" '
        parts.append(f'<text class="title" x="{left + 14:g}" y="{y + 20:g}">{escape(title)}</text>')
        parts.append(str(chart).replace("<svg ", place, 1))  # of Markup, replace would escape it
    across, down = min(columns, len(panels)), -(-len(panels) // columns)
    begin = _begin(across * (wide + gap) - gap, down * (high + top))
    return Markup("".join([*begin, f"<style>{_page_style()}</style>", *parts, "</svg>"]))


def _page_style() -> str:
    """What report/style.css says of charts: the light variables, and the rules of what is inside of one."""
    page = files(__package__).joinpath("style.css").read_text("utf-8")
    rules = [line for line in page.splitlines() if re.match(r"\.(heat|curves|chart) ", line)]
    # not the size of the whole, which is the page's own
    inside = (rule for rule in rules if not re.match(r"\.\w+ {", rule))
    return "\n".join([page[: page.index("@media")], *inside])


def _begin(width: float, height: float) -> list[str]:
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="plot marks" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" role="group"><style>{_STYLE}</style>',
        '<rect class="back" width="100%" height="100%"/>',
    ]


def _whisker(mark: Mark, place, other: float, across: bool) -> str:
    ends = [place(mark.low), place(mark.high), place(mark.value)]
    title = f"<title>{mark.value:+.2f}, interval {mark.low:+.2f} to {mark.high:+.2f}</title>"
    if across:
        line = f'x1="{ends[0]:.1f}" x2="{ends[1]:.1f}" y1="{other:.1f}" y2="{other:.1f}"'
        dot = f'cx="{ends[2]:.1f}" cy="{other:.1f}"'
    else:
        line = f'x1="{other:.1f}" x2="{other:.1f}" y1="{ends[0]:.1f}" y2="{ends[1]:.1f}"'
        dot = f'cx="{other:.1f}" cy="{ends[2]:.1f}"'
    return (
        f'<g class="{mark.tone}">{title}<line class="whisker" {line}/><circle class="dot" {dot} r="4"/></g>'
    )


def scale(low: float, high: float, start: float, stop: float) -> Callable[[float], float]:
    """Where a value stands between `start` and `stop`."""

    def place(value: float) -> float:
        return start + (stop - start) * (value - low) / (high - low) if high > low else (start + stop) / 2

    return place


def span(values: Sequence[float]) -> tuple[float, float]:
    """The ends of a scale that holds them with a margin, never empty."""
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 1.0
    return low - margin, high + margin


def ticks(low: float, high: float) -> list[float]:
    """Two to six round numbers of a scale; 0 is one where the scale holds it."""
    base = 10 ** math.floor(math.log10((high - low) / 2))
    step = next(base * factor for factor in (1, 2, 5, 10) if (high - low) / (base * factor) <= 5)
    return [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def short(value: float, sign: str = "") -> str:
    return f"{value + 0.0:{sign if value else ''}.4g}".replace("-", "\u2212")
