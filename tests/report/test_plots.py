"""Pictures that stand alone, and the scales they are drawn on."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from consistency_jax.report.charts import heat_map
from consistency_jax.report.plots import Mark, grid, scale, short, span, ticks, trend


def test_a_grid_of_charts_is_one_picture_that_stands_alone():
    charts = [(f"map {n} & more", heat_map([[0, 50], [50, 0]], ("en", "sw"), 0, 100)) for n in range(3)]
    picture = ET.fromstring(grid(charts, columns=2))
    space = "{http://www.w3.org/2000/svg}"
    places = [(float(svg.get("x")), float(svg.get("y"))) for svg in picture.findall(f"{space}svg")]
    assert places[0][1] == places[1][1] < places[2][1]
    assert places[0][0] == places[2][0] < places[1][0]
    assert [text.text for text in picture.findall(f"{space}text")] == [title for title, _ in charts]
    styles = " ".join(style.text for style in picture.findall(f"{space}style"))
    for needed in ("--hot:", ".heat .level rect"):
        assert needed in styles
    assert float(picture.get("width")) >= places[1][0] + float(picture.findall(f"{space}svg")[1].get("width"))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 100, [0, 20, 40, 60, 80, 100]),
        (-3.2, 7.9, [0, 5]),
        (0.01, 0.035, [0.01, 0.02, 0.03]),
    ],
)
def test_ticks_are_two_to_six_round_numbers(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


def test_ticks_lie_on_the_scale_and_zero_is_one():
    rng = np.random.default_rng(0)
    for low, high in np.sort(rng.normal(size=(300, 2)) * 10 ** rng.uniform(-3, 3, (300, 1)), axis=1):
        found = ticks(low, high)
        assert 2 <= len(found) <= 6
        assert low - 1e-9 <= min(found) <= max(found) <= high + 1e-9
        assert (0 in found) == (low <= 0 <= high)


def test_a_scale_holds_its_values_with_a_margin_and_is_never_empty():
    low, high = span([2.0, 4.0])
    assert low < 2.0 < 4.0 < high
    place = scale(low, high, 300, 100)
    assert (place(low), place(high), place(3.0)) == pytest.approx((300, 100, 200))
    assert span([5.0]) == (4.0, 6.0)
    assert scale(5.0, 5.0, 0, 10)(5.0) == 5.0


def test_numbers_are_short_with_a_true_minus_and_zero_without_a_sign():
    assert [short(x, "+") for x in (-1.25, 0.0, -0.0, 20.0)] == ["\u22121.25", "0", "0", "+20"]


def test_a_trend_runs_over_a_logarithmic_axis():
    marks = [Mark(value, value - 1, value + 1, "up") for value in (1.0, 2.0, 3.0)]
    picture = ET.fromstring(trend("t", "weight", [0.25, 1.0, 4.0], [("CLC", marks)]))
    space = "{http://www.w3.org/2000/svg}"
    points = picture.find(f".//{space}polyline").get("points").split()
    across, down = zip(*(map(float, point.split(",")) for point in points), strict=True)
    assert across[1] - across[0] == pytest.approx(across[2] - across[1], abs=0.2)  # 0.25, 1, 4: equal steps
    assert down[0] > down[1] > down[2]
