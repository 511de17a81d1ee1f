"""What metrics take and give: scores that are checked, and means over what is known."""

import numpy as np
import pytest

from consistency_jax.metrics.arrays import checked_scores, mean_known, variance_known

NAN = np.nan


def test_scores_without_a_mask_are_all_there():
    scores, mask = checked_scores([[[1, 2], [3, 4]]], None)
    assert scores.dtype == np.float64
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, np.ones((1, 2, 2), bool))


@pytest.mark.parametrize(
    ("scores", "mask", "message"),
    [
        (np.zeros((2, 3)), None, r"\[items, languages, candidates\], not \[2, 3\]"),
        (np.zeros((1, 2, 3)), np.ones((1, 2, 2), bool), r"shape \[1, 2, 3\], not \[1, 2, 2\]"),
        ([[[0.0, NAN, NAN]]], [[[True, True, False]]], r"1 scores are NaN, .* = \[0, 0, 1\]"),
    ],
)
def test_what_is_no_table_of_scores_is_told(scores, mask, message):
    with pytest.raises(ValueError, match=message):
        checked_scores(scores, mask)


def test_unknown_values_take_no_part_in_means_and_variances():
    values = np.array([[1.0, 3.0, NAN, 8.0], [NAN, 5.0, NAN, NAN], [NAN, NAN, NAN, NAN]])
    np.testing.assert_array_equal(mean_known(values, axis=1), [4.0, 5.0, NAN])
    np.testing.assert_array_equal(mean_known(values, axis=0), [1.0, 4.0, NAN, 8.0])
    np.testing.assert_allclose(variance_known(values), [np.var([1, 3, 8]), 0.0, NAN])
