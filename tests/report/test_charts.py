"""Charts as SVG: what they draw is what they are given, and what is unknown is blank."""

import re

from consistency_jax.report import charts


def test_heat_maps_leave_the_diagonal_and_the_unknown_blank():
    svg = str(charts.heat_map([[100, 40, None], [40, 100, 60], [None, 60, 100]], ("en", "sw", "ar"), 40, 60))
    assert svg.count('class="blank"') == 5
    assert "English and Swahili: 40.00" in svg
    assert svg.count("--p:100%") == 2
    assert svg.count("--p:0%") == 2


def test_maps_of_change_are_painted_by_what_is_better():
    sure = [[[None, None], [1.0, 2.0]], [[-3.0, -1.0], [None, None]]]
    for better, tones in ((True, ["better", "worse"]), (False, ["worse", "better"]), (None, ["even"] * 2)):
        svg = str(charts.delta_map([[0, 1.5], [-2.0, 0]], sure, ("en", "sw"), 10, better=better))
        assert re.findall(r'<g class="(\w+)"', svg) == tones


def test_verdicts_follow_the_interval():
    assert charts.verdict(1.0, [0.5, 1.5]) == "up"
    assert charts.verdict(-1.0, [-1.5, -0.5]) == "down"
    assert charts.verdict(1.0, [-0.5, 1.5]) == "even"
    assert charts.verdict(None, [None, None]) == "even"


def test_charts_of_curves_and_stacks():
    svg = str(charts.curves([0.0, 0.5, 1.0], [("a", "A", [0, None, 100])], "x", "y"))
    points = re.search(r'points="([^"]*)"', svg)[1].split()
    assert len(points) == svg.count("<circle") == 2
    (x0, y0), (x1, y1) = (map(float, point.split(",")) for point in points)
    assert x0 < x1
    assert y0 > y1
    assert "A, 1.000: 100.0 y" in svg
    stack = str(charts.stack([("up", "<one>", 30.0), ("down", "two", None), ("even", "three", 90.0)]))
    assert re.findall(r'x="([\d.]+)%" width="([\d.]+)%"', stack) == [("0.00", "30.00"), ("30.00", "70.00")]
    assert "&lt;one&gt;: 30.00" in stack
