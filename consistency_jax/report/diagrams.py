"""Larger charts of the page: before and after as slopes, the direction of a change, and what intervals cover.

As in charts.py: SVG in the page's colours, every mark with a <title> that tells its numbers.
"""

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from consistency_jax.data.examples import ANCHOR
from consistency_jax.report.charts import interval_text
from consistency_jax.report.names import language_name
from consistency_jax.report.plots import scale, short, span, ticks

_APART = 15  # between two labels, so that none covers another


class Slope(NamedTuple):
    """A figure of one language before and after; tone: up, down or even."""

    language: str
    before: float
    after: float
    bounds: Sequence[float | None]
    tone: str


def slopes(rows: Sequence[Slope], label: str) -> Markup:
    """One line a language, from its figure before to its figure after."""
    width, left, right, top = 420, 130, 290, 34
    height = top + max(230, _APART * len(rows)) + 12
    low, up = span([value for row in rows for value in (row.before, row.after)] or [0.0])
    place = scale(low, up, height - 12, top)
    starts, ends = (_spread([place(row[k]) for row in rows], top, height - 12) for k in (1, 2))
    parts = [_begin(width, height, label)]
    for x, head in ((left, "before"), (right, "after")):
        parts.append(f'<text class="soft middle" x="{x}" y="14">{head}</text>')
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{top - 10}" y2="{height - 6}"/>')
    for row, start, end in zip(rows, starts, ends):
        y1, y2 = place(row.before), place(row.after)
        change = row.after - row.before
        title = f"{language_name(row.language)}: {row.before:.2f} to {row.after:.2f}, {change:+.2f}"
        title += "" if None in row.bounds else f" {interval_text(row.bounds)}"
        parts.append(
            f'<g class="{_tone(row)}"><title>{escape(title)}</title>'
            f'<line class="slope" x1="{left}" x2="{right}" y1="{y1:.1f}" y2="{y2:.1f}"/>'
            f'<circle cx="{left}" cy="{y1:.1f}" r="3.5"/><circle cx="{right}" cy="{y2:.1f}" r="3.5"/>'
            f'<path class="leader" d="M{left - 6} {y1:.1f}L{left - 20} {start:.1f}M{right + 6} {y2:.1f}'
            f'L{right + 20} {end:.1f}"/>'
            f'<text class="right" x="{left - 24}" y="{start + 4:.1f}">{escape(row.language)} {row.before:.1f}</text>'
            f'<text x="{right + 24}" y="{end + 4:.1f}">{row.after:.1f} {escape(row.language)}</text></g>'
        )
    return Markup("".join([*parts, "</svg>"]))


class Spot(NamedTuple):
    """A point of one language with an interval in both directions."""

    language: str
    x: float
    y: float
    x_bounds: Sequence[float | None]
    y_bounds: Sequence[float | None]
    tone: str


def scatter(spots: Sequence[Spot], x_name: str, y_name: str, label: str) -> Markup:
    """Points with their intervals over two scales, with a line at y = 0; x begins at 0."""
    width, height, left, bottom = 640, 380, 58, 332
    ends = [[s.x, *_known(s.x_bounds)] for s in spots], [[s.y, *_known(s.y_bounds)] for s in spots]
    far = max((value for own in ends[0] for value in own), default=1.0) or 1.0
    low, up = span([0.0, *(value for own in ends[1] for value in own)])
    across, high = scale(0.0, 1.04 * far, left, width - 20), scale(low, up, bottom, 14)
    parts = [_begin(width, height, label)]
    for tick in ticks(low, up):
        y = high(tick)
        parts.append(
            f'<line class="{"grid" if tick else "zero"}" x1="{left}" x2="{width - 20}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="soft right" x="{left - 8}" y="{y + 4:.1f}">{short(tick, "+")}</text>'
        )
    for tick in ticks(0.0, 1.04 * far):
        parts.append(
            f'<text class="soft middle" x="{across(tick):.1f}" y="{bottom + 18}">{short(tick)}</text>'
        )
    parts.append(
        f'<text class="soft middle" x="{(left + width) / 2:g}" y="{height - 8}">{escape(x_name)}</text>'
        f'<text class="soft middle" transform="translate(17 {(bottom + 14) / 2:g}) rotate(-90)">{escape(y_name)}</text>'
    )
    taken = [(across(s.x) - 8, high(s.y) - 8, across(s.x) + 8, high(s.y) + 8) for s in spots]
    for spot in spots:
        x, y = across(spot.x), high(spot.y)
        title = f"{language_name(spot.language)}: {spot.x:.2f} {x_name}"
        title += "" if None in spot.x_bounds else f" {interval_text(spot.x_bounds, '')}"
        title += f"; {spot.y:+.2f} {y_name}"
        title += "" if None in spot.y_bounds else f" {interval_text(spot.y_bounds)}"
        bars = []
        if _known(spot.x_bounds):
            one, other = (across(value) for value in spot.x_bounds)
            bars.append(f'<line class="bar" x1="{one:.1f}" x2="{other:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        if _known(spot.y_bounds):
            one, other = (high(value) for value in spot.y_bounds)
            bars.append(f'<line class="bar" x1="{x:.1f}" x2="{x:.1f}" y1="{one:.1f}" y2="{other:.1f}"/>')
        at = _free(x, y, 8 * len(spot.language) + 2, taken)
        parts.append(
            f'<g class="{_tone(spot)}"><title>{escape(title)}</title>{"".join(bars)}'
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
            f'<text x="{at[0]:.1f}" y="{at[1]:.1f}">{escape(spot.language)}</text></g>'
        )
    return Markup("".join([*parts, "</svg>"]))


def calibration(
    lines: Sequence[tuple[str, str, Sequence[float | None]]],
    levels: Sequence[float],
    strips: Sequence[tuple[str, Sequence[tuple[str, float]]]],
    nominal: float,
    noise: float,
    label: str,
) -> Markup:
    """Levels promised against levels held, and at one level every figure by itself.

    Args:
      lines: (class, name, mean coverage at each of `levels`), all in %.
      strips: (name, (figure, its coverage in %) ...): one row each.
      nominal: the level of the strips, %.
      noise: what their coverage may be off by chance, percentage points either way: the grey band.
    """
    width, height, top, bottom = 800, 300, 34, 250
    parts = [_begin(width, height, label)]
    low = min([*levels, *(v for _, _, values in lines for v in values if v is not None)], default=50) - 4
    across, high = scale(low, 100, 46, 300), scale(low, 100, bottom, top)
    parts.append('<text class="title" x="46" y="16">promised, % → held, %</text>')
    for tick in ticks(low, 100):
        parts.append(
            f'<line class="grid" x1="46" x2="300" y1="{high(tick):.1f}" y2="{high(tick):.1f}"/>'
            f'<text class="soft right" x="38" y="{high(tick) + 4:.1f}">{short(tick)}</text>'
            f'<text class="soft middle" x="{across(tick):.1f}" y="{bottom + 18}">{short(tick)}</text>'
        )
    parts.append(f'<line class="zero dashed" x1="46" y1="{bottom}" x2="300" y2="{top}"/>')
    for tone, name, values in lines:
        points = [(level, value) for level, value in zip(levels, values) if value is not None]
        path = " ".join(f"{across(level):.1f},{high(value):.1f}" for level, value in points)
        parts.append(f'<g class="line {tone}"><polyline points="{path}"/></g>')
        for level, value in points:
            title = escape(f"{name}: intervals of {level:g}% held the true change in {value:.1f}%")
            parts.append(
                f'<g class="line {tone}"><title>{title}</title>'
                f'<circle cx="{across(level):.1f}" cy="{high(value):.1f}" r="4"/></g>'
            )
    found = [value for _, values in strips for _, value in values]
    left, right = 490, width - 16
    begin = min([nominal - 2 * noise, *found]) - 1
    place = scale(begin, 100.5, left, right)
    parts.append(f'<text class="title" x="{left}" y="16">each figure at {nominal:g}%, held, %</text>')
    one, other = (max(begin, min(100.0, nominal + sign * noise)) for sign in (-1, 1))
    parts.append(
        f'<rect class="band" x="{place(one):.1f}" width="{place(other) - place(one):.1f}" y="{top}" '
        f'height="{bottom - top}"/>'
        f'<line class="zero" x1="{place(nominal):.1f}" x2="{place(nominal):.1f}" y1="{top}" y2="{bottom}"/>'
    )
    for tick in ticks(begin, 100.5):
        parts.append(
            f'<text class="soft middle" x="{place(tick):.1f}" y="{bottom + 18}">{short(tick)}</text>'
        )
    step = (bottom - top) / max(1, len(strips))
    for row, (name, values) in enumerate(strips):
        middle = top + (row + 0.5) * step
        parts.append(f'<text class="right" x="{left - 10}" y="{middle + 4:.1f}">{escape(name)}</text>')
        for n, (figure, value) in enumerate(values):
            y = middle + (step - 20) * ((n * 0.618) % 1 - 0.5) * (len(values) > 1)
            title = escape(f"{figure}: {value:.1f}% of the intervals held the true change")
            tone = "even" if abs(value - nominal) <= noise else "down" if value < nominal else "up"
            parts.append(
                f'<g class="{tone}"><title>{title}</title>'
                f'<circle class="dot" cx="{place(value):.1f}" cy="{y:.1f}" r="4"/></g>'
            )
    return Markup("".join([*parts, "</svg>"]))


def _tone(mark: Slope | Spot) -> str:
    """Its colour, and whether it stands out."""
    return f"{mark.tone} strong" if mark.language == ANCHOR else mark.tone


def _begin(width: float, height: float, label: str) -> str:
    return f'<svg class="chart marks" viewBox="0 0 {width:g} {height:g}" role="group" aria-label="{escape(label)}">'


def _known(bounds: Sequence[float | None]) -> list[float]:
    return [] if None in bounds else list(bounds)


def _spread(wanted: Sequence[float], top: float, bottom: float) -> list[float]:
    """Places near the wanted ones, in their order, at least `_APART` from each other, between top and bottom."""
    order = sorted(range(len(wanted)), key=lambda n: wanted[n])
    places = list(wanted)
    floor = top
    for n in order:  # down, each below the last one
        places[n] = floor = max(floor, places[n])
        floor += _APART
    ceiling = bottom
    for n in reversed(order):  # and up again, where that went too far
        places[n] = ceiling = min(ceiling, places[n])
        ceiling -= _APART
    return places


def _free(x: float, y: float, width: float, taken: list) -> tuple[float, float]:
    """Where a text beside a point covers least of what is there; it is added to `taken`."""
    choices = [(x + 9, y - 8), (x + 9, y + 15), (x - 9 - width, y - 8), (x - 9 - width, y + 15)]

    def box(at: tuple[float, float]) -> tuple[float, float, float, float]:
        return at[0], at[1] - 11, at[0] + width, at[1] + 3

    def covered(own: tuple[float, float, float, float]) -> float:
        return sum(
            max(0.0, min(own[2], b[2]) - max(own[0], b[0])) * max(0.0, min(own[3], b[3]) - max(own[1], b[1]))
            for b in taken
        )

    best = min(choices, key=lambda at: covered(box(at)))
    taken.append(box(best))
    return best
