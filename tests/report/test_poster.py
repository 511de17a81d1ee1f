"""A run as a picture: its figures are there, of a trained run and of a model alone, and no text leaves it."""

import re
import xml.etree.ElementTree as ET

import pytest
from made import make_table

from consistency_jax.report import summarise
from consistency_jax.report.poster import HEIGHT, WIDTH, poster

SVG = "{http://www.w3.org/2000/svg}"


def texts(picture: str) -> list[str]:
    return [element.text for element in ET.fromstring(picture).iter(f"{SVG}text")]


def test_it_tells_what_report_json_holds(summary):
    told = texts(poster(summary, "a <model>, before and after DCO", ["bmlama17"]))
    base, final, delta = (summary[part]["test"]["clc_all"] for part in ("base", "final", "delta"))
    assert told[0] == "a <model>, before and after DCO"
    assert told[1].endswith("questions of test in 4 languages · bmlama17")
    assert f"{base:.1f} → {final:.1f}" in told
    change = next(text for text in told if text.startswith(f"{delta:+.1f}".replace("-", "−")))
    low, high = summary["confidence"]["test"]["clc_all"]
    assert change.endswith(f"[{low:+.1f}, {high:+.1f}]".replace("-", "−"))
    matrix = summary["final"]["test"]["clc_matrix"]
    assert told.count(f"{matrix[0][1]:.0f}") >= 2  # the map is of both triangles
    other = texts(poster(summary, "x", [], "test_unseen"))
    assert other[1] == "30 questions of test_unseen in 4 languages"
    with pytest.raises(KeyError):
        poster(summary, "x", [], "nowhere")


def test_a_model_alone_has_no_change():
    alone = summarise(make_table(0), resamples=20)
    told = texts(poster(alone, "a model: how alike it answers", []))
    assert f"{alone['base']['test']['clc_all']:.1f}" in told
    assert "→" not in "".join(told)


def test_texts_stay_inside(summary):
    """Of letters as wide as they are high, too, as those of Chinese."""
    picture = poster(summary, "\u4e00" * 120, ["data" * 30])
    for found in ET.fromstring(picture).iter(f"{SVG}text"):
        x, size = float(found.get("x")), float(found.get("font-size"))
        width = size * sum(1 if letter == "\u4e00" else 0.56 for letter in found.text)
        left = x - width * {"start": 0, "middle": 0.5, "end": 1}[found.get("text-anchor")]
        assert left >= -1
        assert left + width <= WIDTH + 1
        assert 0 < float(found.get("y")) < HEIGHT
    assert not re.search("https?:(?!//www.w3.org/2000/svg)|var\\(", picture)
