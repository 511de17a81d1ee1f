"""What figures are made of fits what their columns stand for."""

import numpy as np
import pytest

from consistency_jax.report.columns import LANGUAGES, ORDERED, PAIRS, SINGLE, Figure, columns_of, tells


@pytest.mark.parametrize(
    ("block", "shape", "there"),
    [
        (PAIRS, (5, 4), "4 columns .4 of weights., but with 4 languages there are 6 of pairs of languages"),
        (LANGUAGES, (5, 6), "6 columns .* there are 4 of languages"),
        (ORDERED, (5, 4), "4 columns .* there are 16 of ordered pairs"),
        (SINGLE, (5, 4), "4 columns .* there are 1 of one value a question"),
    ],
)
def test_another_number_of_columns_than_the_block_has_is_an_error(block, shape, there):
    with pytest.raises(ValueError, match=f"the figure 'x' has {there}"):
        columns_of({Figure("x", block): np.zeros(shape)}, 4)
    columns_of({Figure("x", block): np.zeros((5, block.size(4)))}, 4)


def test_two_figures_of_one_name_are_an_error():
    with pytest.raises(ValueError, match="two figures have one name: x, x"):
        columns_of({Figure("x", SINGLE): np.zeros(5), Figure("x", PAIRS): np.zeros((5, 6))}, 4)


def test_figures_of_statistics_have_so_many_of_each_column():
    kappa = Figure("x", PAIRS, of_means=lambda means: means[..., 0, :])
    (columns,) = columns_of({kappa: np.zeros((5, 3, 6))}, 4).values()
    assert columns[0].shape == (5, 18)
    with pytest.raises(ValueError, match="has 5 columns .5 of weights. for each of its 3 statistics, but"):
        columns_of({kappa: np.zeros((5, 3, 5))}, 4)


def test_what_tells_more_tells_enough():
    figures = {needs: Figure("x", SINGLE, needs=needs) for needs in ("scores", "answers", "texts")}
    assert [tells("scores", figure) for figure in figures.values()] == [True, True, True]
    assert [tells("answers", figure) for figure in figures.values()] == [False, True, True]
    assert [tells("texts", figure) for figure in figures.values()] == [False, False, True]
