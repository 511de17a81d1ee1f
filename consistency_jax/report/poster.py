"""One run as a picture of 1200 x 630 that stands alone, for a paper, a post or a model's page: SVG."""

from collections.abc import Mapping, Sequence
from typing import Any
from unicodedata import east_asian_width

from markupsafe import Markup, escape

from consistency_jax.report.charts import verdict
from consistency_jax.report.figures import leading
from consistency_jax.report.html import number
from consistency_jax.report.views import parts_of

WIDTH, HEIGHT = 1200, 630
_MAP = 400  # of the heat map
_PALE, _FULL, _BLANK = (0xEA, 0xF3, 0xF3), (0x0A, 0x59, 0x63), "#edf0f1"
_TONES = {"up": "#0f766e", "down": "#b4430c", "even": "#5b6873"}
_MOST = 12  # languages whose cells have room for numbers
LEADING = {"clc_all": "Consistency (CLC)", "top1_agreement_all": "Same first answer, %"}
FIGURES = {
    "accuracy_en": "English, % right",
    "accuracy_non_en": "Other languages, % right",
}


def poster(summary: Mapping[str, Any], title: str, about: Sequence[str], split: str = "") -> Markup:
    """The figures of a split, before and after or of a model alone, and the map of its consistency.

    Args:
      summary: what report.json holds.
      title: which model, and what was done to it.
      about: short lines, which are parted by dots.
      split: which; "": the first.

    Raises:
      KeyError: no such split.
    """
    split = split or next(iter(summary["base"]))
    parts, settings = parts_of(summary, split), summary["settings"]["splits"][split]
    languages, final = settings["languages"], parts.get("final")
    part = "" if split == "every" else f" of {split}"
    counts = f"{settings['items']:,} questions{part} in {len(languages)} languages"
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="Helvetica, Arial, DejaVu Sans, sans-serif" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#f7f8f8"/>',
        _text(60, 92, title, 46, 1080, weight=700),
        _text(60, 136, " · ".join([counts, *about]), 22, 1080, fill="#5b6873"),
    ]
    y, lead = 232, leading(parts["base"])
    first = f"{lead.name}_all"
    for key, name in ({first: LEADING[first]} | FIGURES).items():
        if parts["base"].get(key) is None:
            continue
        if key == "accuracy_non_en" and parts["base"].get("accuracy_en") is None:
            name = "Mean of the languages, % right"
        bounds = parts["confidence"][key]
        told = f"{parts['base'][key]:.1f}"
        out.append(_text(60, y - 52, name, 24, 600, fill="#5b6873"))
        if final is None:
            out.append(_text(60, y + 8, told, 58, 600, weight=700))
            change, tone = _between(bounds, ""), "even"
        else:
            told = f"{told} → {final[key]:.1f}"
            out.append(_text(60, y + 8, told, 58, 600, weight=700))
            delta = parts["delta"][key]
            change, tone = f"{number(delta, sign='+')} {_between(bounds, '+')}", verdict(delta, bounds)
        out.append(_text(60, y + 44, change, 26, 600, fill=_TONES[tone]))
        y += 140
    matrix = (final or parts["base"])[f"{lead.name}_matrix"]
    out += _map(matrix, lead.label, languages, final is not None)
    out.append(_text(60, HEIGHT - 26, "made with consistency_jax", 18, 500, fill="#5b6873"))
    return Markup("".join([*out, "</svg>"]))


def _map(
    matrix: Sequence[Sequence[float | None]], what: str, languages: Sequence[str], after: bool
) -> list[str]:
    left, top, size = 740, 196, _MAP / max(1, len(languages))
    name = f"{what} of each two languages{', after' if after else ''}"
    out = [_text(left, 174, name, 24, _MAP, fill="#5b6873")]
    for i, row in enumerate(matrix):
        label = min(20.0, 0.8 * size, 60 / (0.62 * max(map(len, languages))))
        out.append(
            _text(left - 10, top + (i + 0.5) * size + label * 0.36, languages[i], label, 60, anchor="end")
        )
        for j, value in enumerate(row):
            place = f'x="{left + j * size + 1:.1f}" y="{top + i * size + 1:.1f}"'
            box = f'{place} width="{size - 2:.1f}" height="{size - 2:.1f}" rx="{size / 10:.1f}"'
            if i == j or value is None:
                out.append(f'<rect {box} fill="{_BLANK}"/>')
                continue
            share = min(1.0, max(0.0, value / 100))
            out.append(f'<rect {box} fill="{_mixed(share)}"/>')
            if len(languages) <= _MOST:
                x, y = left + (j + 0.5) * size, top + (i + 0.5) * size
                fill = "#ffffff" if share > 0.55 else "#18212a"
                font = min(20.0, size * 0.42)
                out.append(_text(x, y + font * 0.36, f"{value:.0f}", font, size, fill=fill, anchor="middle"))
    return out


def _mixed(share: float) -> str:
    return "#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in zip(_PALE, _FULL, strict=True))


def _text(
    x: float,
    y: float,
    text: str,
    size: float,
    room: float,
    *,
    fill: str = "#18212a",
    weight: int = 400,
    anchor: str = "start",
) -> str:
    """A line of text, smaller where it would be wider than its room, as wide as its letters are about."""
    wide = sum(
        1.0 if east_asian_width(letter) in "WF" else 0.72 if letter.isupper() else 0.56 for letter in text
    )
    size = min(size, room / max(1.0, wide))
    style = f'font-size="{size:.1f}" fill="{fill}" font-weight="{weight}" text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'


def _between(bounds: Sequence[float | None], sign: str) -> str:
    """[low, high]; "" where they are not known."""
    if None in bounds:
        return ""
    return f"[{number(bounds[0], sign=sign)}, {number(bounds[1], sign=sign)}]"
