"""Figures of free-text answers and of verdicts: counted by hand, with what is not there left out."""

import numpy as np
import pytest

from consistency_jax.metrics.generation import Matches
from consistency_jax.report.free_text import generation_figures, safety_figures
from consistency_jax.report.paired import Design

DESIGN = Design(("en", "sw"), resamples=50)


def matches(places: list[list[int | None]]) -> Matches:
    """Of each item and language the candidate of three that was written: -1 for none of them, None for no answer."""
    answered = np.array([[place is not None for place in row] for row in places])
    found = np.array([[-1 if place is None else place for place in row] for row in places])
    scores = (found[..., None] == np.arange(3)).astype(float)
    matched = found >= 0
    return Matches(scores, np.repeat(matched[..., None], 3, axis=2), answered, matched)


def test_answers_are_counted_as_they_were_written():
    before = matches([[0, 0], [1, 2], [2, -1], [-1, None]])
    after = matches([[0, 0], [1, 1], [2, 2], [0, 0]])
    found = generation_figures([before, after], [0, 1, 2, -1], DESIGN, {"max_tokens": 12})
    base, final = found["base"], found["final"]
    assert base["matched"] == {"en": 75.0, "sw": pytest.approx(200 / 3, abs=1e-5)}  # of three answers two
    assert base["right"] == {"en": 100.0, "sw": pytest.approx(100 / 3, abs=1e-5)}  # of labelled ones
    assert (base["agreement_all"], base["agreement_strict_all"]) == (50.0, pytest.approx(100 / 3, abs=1e-5))
    assert final["right"] == {"en": 100.0, "sw": 100.0}
    assert (final["agreement_all"], final["agreement_strict_all"]) == (100.0, 100.0)
    assert found["delta"]["agreement_all"] == 50.0
    assert found["settings"] == {"items": 4, "max_tokens": 12, "languages": ["en", "sw"]}


def test_verdicts_of_one_model_are_shares_with_intervals():
    verdicts = np.array([[1, 1], [1, 0], [0, 0], [1, np.nan]], float)
    found = safety_figures([verdicts], DESIGN, {"kind": "harmful"})
    assert set(found) == {"base", "confidence", "settings"}
    assert found["base"]["refused"] == {"en": 75.0, "sw": pytest.approx(100 / 3, abs=1e-5)}
    assert found["base"]["refused_variance"] == pytest.approx(((75 - 100 / 3) / 2) ** 2, abs=1e-4)
    assert found["base"]["pag_all"] == pytest.approx(200 / 3, abs=1e-5)  # of three pairs two agree
    low, high = found["confidence"]["refused"]["en"]
    assert 0 <= low < 75 < high <= 100
