"""Charts as SVG, drawn by hand: small, sharp in print, and coloured by the page's light or dark theme.

Colours are mixed in CSS between variables of the page (`--cold`, `--hot`, ...), so that one drawing serves
both themes. Every mark carries a <title> with its numbers; report.js shows it under the pointer, and lets the marks of
a chart of class "marks" be walked with the arrow keys.
"""

from collections.abc import Callable, Sequence
from typing import Any

from markupsafe import Markup, escape

from consistency_jax.report.names import language_name
from consistency_jax.report.plots import scale, short

# Above this many languages numbers in the cells are too small to read: the titles still tell them.
_MOST_WITH_NUMBERS = 18
_CELL = 34


def heat_map(
    matrix: Sequence[Sequence[float | None]],
    languages: Sequence[str],
    low: float,
    high: float,
    decimals: int | None = None,
    label: str = "",
    tell: Callable[[int, int, float], str] | None = None,
) -> Markup:
    """A language x language map of values; `low` gets the palest colour and `high` the fullest.

    `decimals` of the numbers in the cells: as many as there is room for, by default. `tell` says what cell (row,
    column, value) stands for.
    """

    def paint(value: float) -> tuple[str, float]:
        return "level", 0.5 if high <= low else min(1.0, max(0.0, (value - low) / (high - low)))

    def named(i: int, j: int, value: float) -> str:
        return f"{language_name(languages[i])} and {language_name(languages[j])}: {value:.2f}"

    return _matrix(matrix, languages, paint, "", tell or named, decimals=decimals, label=label)


def delta_map(
    matrix: Sequence[Sequence[float | None]],
    bounds: Sequence[Sequence[Sequence[float | None]]],
    languages: Sequence[str],
    reach: float,
    label: str = "",
    better: bool | None = True,
) -> Markup:
    """The same for differences: -reach, 0 and +reach are the ends and the middle of a diverging scale.

    Differences whose interval holds 0 are written in a fainter hand. `better` as in `verdict`.
    """

    def paint(value: float) -> tuple[str, float]:
        tone = "even" if better is None else "better" if (value >= 0) == better else "worse"
        return tone, min(1.0, abs(value) / reach) if reach > 0 else 0.0

    def tell(i: int, j: int, value: float) -> str:
        title = f"{language_name(languages[i])} and {language_name(languages[j])}: {value:+.2f}"
        return title if None in bounds[i][j] else f"{title} {interval_text(bounds[i][j])}"

    def faint(i: int, j: int) -> bool:
        return None not in bounds[i][j] and bounds[i][j][0] <= 0 <= bounds[i][j][1]

    return _matrix(matrix, languages, paint, "+", tell, faint, label=label)


def interval_text(bounds: Sequence[float], sign: str = "+") -> str:
    return f"(interval {bounds[0]:{sign}.2f} to {bounds[1]:{sign}.2f})"


def _matrix(
    matrix, languages, paint, sign, tell, faint=lambda i, j: False, decimals=None, label=""
) -> Markup:
    count = len(languages)
    margin = 14 + 8 * max((len(language) for language in languages), default=2)
    size = margin + count * _CELL
    digits, font = (1, 12) if count <= 8 else (0, 14)
    if decimals is not None:
        digits, font = decimals, 12
    parts = [
        f'<svg class="heat marks" viewBox="0 0 {size} {size}" role="group" aria-label="{escape(label)}">'
    ]
    long = any(len(language) > 4 for language in languages)  # eng_Latn: read upwards
    for i, language in enumerate(languages):
        middle, name = margin + (i + 0.5) * _CELL, escape(language_name(language))
        code = f"{escape(language)}<title>{name}</title>"
        place = f'x="{middle:g}" y="{margin - 8}" text-anchor="middle"'
        if long:
            turned = f"rotate(-90 {middle + 4:g} {margin - 8})"
            place = f'x="{middle + 4:g}" y="{margin - 8}" text-anchor="start" transform="{turned}"'
        parts.append(f'<text class="axis" {place}>{code}</text>')
        parts.append(
            f'<text class="axis" x="{margin - 8}" y="{middle + 4:g}" text-anchor="end">{code}</text>'
        )
    for i in range(count):
        for j in range(count):
            x, y = margin + j * _CELL, margin + i * _CELL
            box = f'x="{x + 1}" y="{y + 1}"'  # the rest is the page's: maps may hold thousands
            value = matrix[i][j]
            if i == j or value is None:
                parts.append(f'<rect {box} class="blank"/>')
                continue
            tone, share = paint(value)
            title = escape(tell(i, j, value))
            parts.append(
                f'<g class="{tone}"><title>{title}</title><rect {box} style="--p:{100 * share:.0f}%"/>'
            )
            if count <= _MOST_WITH_NUMBERS:
                # Where the darker or the lighter text stands out better, in both themes.
                tone = "pale" if share < 0.5 else "strong" if share > 0.74 else "middle"
                written = f"on-{tone}{' faint' if faint(i, j) else ''}"
                # "+ 0.0" rounds away the sign of -0.
                text = f"{round(value, digits) + 0.0:{sign}.{digits}f}"
                fit = round(min(font, 48 / len(text)), 1)  # so high that its cell holds it
                parts.append(
                    f'<text class="{written}" x="{x + _CELL / 2:g}" y="{y + _CELL / 2 + fit * 0.36:g}" '
                    f'font-size="{fit:g}" text-anchor="middle">{text}</text>'
                )
            parts.append("</g>")
    parts.append("</svg>")
    return Markup("".join(parts))


def bars(before: float | None, after: float | None) -> Markup:
    """Two bars on a scale of 0 to 100, before above after; one for a model alone."""
    parts = [
        '<svg class="bars" width="100%" height="24" role="img">',
        '<rect class="track" y="2" width="100%" height="20" rx="3"/>',
    ]
    for name, value, y in (("before", before, 4), ("after", after, 13)):
        if value is not None:
            title = f"{value:.2f}" if before is None else f"{name}: {value:.2f}"
            parts.append(
                f'<rect class="{name}" y="{y}" width="{max(0.0, min(100.0, value)):.2f}%" height="7" rx="2">'
                f"<title>{title}</title></rect>"
            )
    return Markup("".join([*parts, "</svg>"]))


def stack(parts: Sequence[tuple[str, str, float | None]]) -> Markup:
    """One bar on a scale of 0 to 100 of parts (class, name, value) side by side."""
    out = [
        '<svg class="bars" width="100%" height="16" role="img">',
        '<rect class="track" width="100%" height="16" rx="3"/>',
    ]
    start = 0.0
    for tone, name, value in parts:
        if value:
            width = max(0.0, min(100.0 - start, value))
            out.append(
                f'<rect class="{tone}" x="{start:.2f}%" width="{width:.2f}%" height="16">'
                f"<title>{escape(name)}: {value:.2f}</title></rect>"
            )
            start += width
    return Markup("".join([*out, "</svg>"]))


_WIDE, _HIGH, _LEFT, _BELOW = 640, 260, 44, 40


def curves(
    x: Sequence[float], lines: Sequence[tuple[str, str, Sequence[float | None]]], x_name: str, y_name: str
) -> Markup:
    """Lines (class, name, values 0..100) over x, which rises from 0; every point tells its figures."""
    far = max(x, default=0.0) or 1.0
    across, down = scale(0.0, far, _LEFT, _WIDE - 20), scale(0.0, 100.0, _HIGH - _BELOW, 10)
    parts = [
        f'<svg class="curves marks" viewBox="0 0 {_WIDE} {_HIGH}" role="group" aria-label="{escape(y_name)}">'
    ]
    for tick in (0, 25, 50, 75, 100):
        y = down(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDE - 20}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="axis" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick}</text>')
    for tick in (far * n / 5 for n in range(6)):
        place = f'x="{across(tick):.1f}" y="{down(0) + 17:.1f}" text-anchor="middle"'
        parts.append(f'<text class="axis" {place}>{short(round(tick, 2))}</text>')
    parts.append(
        f'<text class="axis" x="{(_LEFT + _WIDE) / 2}" y="{_HIGH - 5}" text-anchor="middle">{escape(x_name)}</text>'
    )
    for tone, name, values in lines:
        points = [(at, value) for at, value in zip(x, values) if value is not None]
        path = " ".join(f"{across(at):.1f},{down(value):.1f}" for at, value in points)
        parts.append(f'<g class="{tone}"><polyline points="{path}"/>')
        for at, value in points:
            title = escape(f"{name}, {at:.3f}: {value:.1f} {y_name}")
            place = f'cx="{across(at):.1f}" cy="{down(value):.1f}"'
            parts.append(f'<circle {place} r="5"><title>{title}</title></circle>')
        parts.append("</g>")
    return Markup("".join([*parts, "</svg>"]))


def whisker(
    delta: float | None, bounds: Sequence[float | None], ends: tuple[float, float], tone: str
) -> Markup:
    """A difference with its interval, between the ends of a scale, which holds 0, with a line at 0."""
    across = scale(*ends, 4, 96)

    def place(value: float) -> str:
        return f"{across(value):.2f}%"

    zero = place(0.0)
    parts = [
        '<svg class="whisker" width="100%" height="18" role="img">',
        f'<line class="zero" x1="{zero}" x2="{zero}" y1="0" y2="18"/>',
    ]
    if delta is not None and None not in bounds:
        parts.append(
            f'<g class="{tone}"><title>{delta:+.2f}, interval {bounds[0]:+.2f} to {bounds[1]:+.2f}</title>'
            f'<line x1="{place(bounds[0])}" x2="{place(bounds[1])}" y1="9" y2="9"/>'
            f'<circle cx="{place(delta)}" cy="9" r="4"/></g>'
        )
    return Markup("".join([*parts, "</svg>"]))


def verdict(delta: float | None, bounds: Any, better: bool | None = True) -> str:
    """ "up" (to the better), "down", or "even" where the interval of the difference holds 0 or is not known.

    `better`: whether more is better; None: neither, it is always "even".
    """
    if better is None or delta is None or bounds is None or None in bounds or bounds[0] <= 0 <= bounds[1]:
        return "even"
    return "up" if (delta > 0) == better else "down"
