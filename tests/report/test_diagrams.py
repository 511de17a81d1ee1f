"""Larger charts: labels that stand apart, points with and without an interval."""

import re

import numpy as np

from consistency_jax.report import diagrams


def test_labels_of_slopes_stand_apart_and_in_order():
    values = [50.0, 50.1, 50.2, 90.0, 10.0]
    rows = [diagrams.Slope(f"l{n}", value, 50.0, (None, None), "even") for n, value in enumerate(values)]
    svg = str(diagrams.slopes(rows, "<label>"))
    assert 'aria-label="&lt;label&gt;"' in svg
    for side in ('class="right" x', "text x"):
        places = [float(y) for y in re.findall(rf'{side}="[\d.]+" y="([\d.]+)">[^<]*l\d', svg)]
        assert len(places) == 5
        assert np.diff(sorted(places)).min() >= 14.9
    left = [float(y) for y in re.findall(r'class="right" x="[\d.]+" y="([\d.]+)">', svg)]
    assert np.argsort(left).tolist() == [3, 2, 1, 0, 4]  # the highest on top


def test_points_without_an_interval_are_drawn_without_one():
    spot = diagrams.Spot("sw", 20.0, -1.5, (None, None), (-3.0, 0.5), "even")
    svg = str(diagrams.scatter([spot], "% changed", "points", "who"))
    assert svg.count('class="bar"') == 1
    assert "Swahili: 20.00 % changed; -1.50 points (interval -3.00 to +0.50)" in svg
    assert "<circle" not in str(diagrams.scatter([], "x", "y", "none"))
