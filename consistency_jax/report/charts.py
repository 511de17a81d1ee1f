"""Charts as SVG, drawn by hand: small, sharp in print, and coloured by the page's light or dark theme.

Colours are mixed in CSS between variables of the page (`--cold`, `--hot`, ...), so that one drawing serves
both themes. Every mark carries a <title>, which a browser shows when the pointer rests on it.
"""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup, escape

from consistency_jax.report.names import language_name

# Above this many languages numbers in the cells are too small to read: the titles still tell them.
_MOST_WITH_NUMBERS = 18
_CELL = 34


def heat_map(
    matrix: Sequence[Sequence[float | None]], languages: Sequence[str], low: float, high: float
) -> Markup:
    """A language x language map of values; `low` gets the palest colour and `high` the fullest."""

    def paint(value: float) -> tuple[str, bool]:
        share = 0.5 if high <= low else min(1.0, max(0.0, (value - low) / (high - low)))
        return f"color-mix(in oklab, var(--hot) {100 * share:.1f}%, var(--cold))", share > 0.55

    return _matrix(matrix, languages, paint, sign="", notes=None)


def delta_map(
    matrix: Sequence[Sequence[float | None]],
    bounds: Sequence[Sequence[Sequence[float | None]]],
    languages: Sequence[str],
    reach: float,
) -> Markup:
    """The same for differences: -reach, 0 and +reach are the ends and the middle of a diverging scale.

    Differences whose interval holds 0 are written in a fainter hand.
    """

    def paint(value: float) -> tuple[str, bool]:
        share = min(1.0, abs(value) / reach) if reach > 0 else 0.0
        end = "better" if value >= 0 else "worse"
        return f"color-mix(in oklab, var(--{end}) {100 * share:.1f}%, var(--zero))", share > 0.55

    return _matrix(matrix, languages, paint, sign="+", notes=bounds)


def _matrix(matrix, languages, paint, sign, notes) -> Markup:
    count = len(languages)
    margin = 14 + 8 * max((len(language) for language in languages), default=2)
    size = margin + count * _CELL
    digits, font = (1, 12) if count <= 8 else (0, 14)
    parts = [f'<svg class="heat" viewBox="0 0 {size} {size}" role="img">']
    for i, language in enumerate(languages):
        middle, name = margin + (i + 0.5) * _CELL, escape(language_name(language))
        label = f"{escape(language)}<title>{name}</title>"
        parts.append(
            f'<text class="axis" x="{middle:g}" y="{margin - 8}" text-anchor="middle">{label}</text>'
        )
        parts.append(
            f'<text class="axis" x="{margin - 8}" y="{middle + 4:g}" text-anchor="end">{label}</text>'
        )
    for i in range(count):
        for j in range(count):
            x, y = margin + j * _CELL, margin + i * _CELL
            box = f'x="{x + 1}" y="{y + 1}" width="{_CELL - 2}" height="{_CELL - 2}" rx="4"'
            value = matrix[i][j]
            if i == j or value is None:
                parts.append(f'<rect {box} class="blank"/>')
                continue
            color, strong = paint(value)
            title = f"{language_name(languages[i])} and {language_name(languages[j])}: {value:{sign}.2f}"
            faint = ""
            if notes is not None and None not in notes[i][j]:
                lower, upper = notes[i][j]
                title += f" (interval {lower:+.2f} to {upper:+.2f})"
                faint = " faint" if lower <= 0 <= upper else ""
            parts.append(f'<g><title>{escape(title)}</title><rect {box} style="fill:{color}"/>')
            if count <= _MOST_WITH_NUMBERS:
                tone = "on-strong" if strong else "on-pale"
                # "+ 0.0" rounds away the sign of -0.
                text = f"{round(value, digits) + 0.0:{sign}.{digits}f}"
                parts.append(
                    f'<text class="{tone}{faint}" x="{x + _CELL / 2:g}" y="{y + _CELL / 2 + font * 0.36:g}" '
                    f'font-size="{font}" text-anchor="middle">{text}</text>'
                )
            parts.append("</g>")
    parts.append("</svg>")
    return Markup("".join(parts))


def bars(before: float | None, after: float | None) -> Markup:
    """Two bars on a scale of 0 to 100, before above after."""
    parts = [
        '<svg class="bars" width="100%" height="24" role="img">',
        '<rect class="track" y="2" width="100%" height="20" rx="3"/>',
    ]
    for name, value, y in (("before", before, 4), ("after", after, 13)):
        if value is not None:
            parts.append(
                f'<rect class="{name}" y="{y}" width="{max(0.0, min(100.0, value)):.2f}%" height="7" rx="2">'
                f"<title>{name}: {value:.2f}</title></rect>"
            )
    return Markup("".join([*parts, "</svg>"]))


def whisker(
    delta: float | None, bounds: Sequence[float | None], scale: tuple[float, float], tone: str
) -> Markup:
    """A difference with its interval, between the ends of `scale`, which holds 0, with a line at 0."""
    low, high = scale

    def place(value: float) -> str:
        return f"{4 + 92 * (value - low) / (high - low) if high > low else 50:.2f}%"

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


def verdict(delta: float | None, bounds: Any) -> str:
    """ "up", "down", or "even" where the interval of the difference holds 0 or is not known."""
    if delta is None or bounds is None or None in bounds or bounds[0] <= 0 <= bounds[1]:
        return "even"
    return "up" if delta > 0 else "down"
