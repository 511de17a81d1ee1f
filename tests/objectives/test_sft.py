"""SFT: the same numbers and gradients as the sums written out in torch."""

from functools import partial

import jax
import numpy as np
import pytest
import torch

from consistency_jax.objectives import sft, sft_all


def problem() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shape = (5, 3, 4)
    mask = np.ones(shape, bool)
    mask[0, 1] = False  # a language is missing
    mask[1, :, 2:] = False  # two candidates only
    mask[2, 0, 3] = False  # the gold answer is missing in one language
    mask[4] = False  # no item
    return {
        "policy": rng.normal(-5, 2, shape).astype(np.float32),
        "length": rng.integers(1, 6, shape).astype(np.int32),
        "mask": mask,
        "gold": np.array([2, 1, 3, -1, 0], np.int32),
    }


def run(objective, given: dict[str, np.ndarray], normalization: str):
    given = dict(given)
    policy = given.pop("policy")
    if objective is sft_all:
        given.pop("gold")
    function = partial(objective, **given, normalization=normalization)
    return jax.jit(jax.value_and_grad(function, has_aux=True))(policy)


def cells_of(objective, given: dict[str, np.ndarray]) -> list[tuple[int, int, int]]:
    return [
        (b, l, k)
        for b, l, k in np.argwhere(given["mask"]).tolist()
        if objective is sft_all or k == given["gold"][b]
    ]


@pytest.mark.parametrize("objective", [sft, sft_all])
@pytest.mark.parametrize("normalization", ["mean", "sum"])
def test_loss_and_gradient_are_those_of_the_formula(objective, normalization):
    given = problem()
    (loss, metrics), gradient = run(objective, given, normalization)
    policy = torch.tensor(given["policy"], dtype=torch.float64, requires_grad=True)
    cells = cells_of(objective, given)
    nll = -torch.stack([policy[cell] for cell in cells]).sum()
    tokens, items = sum(given["length"][cell] for cell in cells), len({b for b, _, _ in cells})
    assert items == (4 if objective is sft_all else 3)
    expected = nll / (tokens if normalization == "mean" else items)
    expected.backward()
    assert float(loss) == pytest.approx(expected.item(), rel=1e-6)
    np.testing.assert_allclose(gradient, policy.grad, rtol=1e-6)
    assert int(metrics["items"]) == items
    assert float(metrics["weight"]) == (tokens if normalization == "mean" else items)


@pytest.mark.parametrize("objective", [sft, sft_all])
def test_cells_that_do_not_count_are_immaterial(objective):
    given = problem()
    counted = np.zeros(given["mask"].shape, bool)
    counted[tuple(np.array(cells_of(objective, given)).T)] = True
    plain, *others = (
        run(objective, given | {"policy": np.where(counted, given["policy"], np.float32(fill))}, "mean")
        for fill in (0.0, np.nan, -np.inf)
    )
    assert not np.asarray(plain[1])[~counted].any()
    for other in others:
        jax.tree.map(np.testing.assert_array_equal, other, plain)


def test_an_unknown_normalization_is_refused():
    given = problem()
    with pytest.raises(ValueError, match="^sft: normalization must be mean or sum, not 'bytes'"):
        sft(**given, normalization="bytes")
    given.pop("gold")
    with pytest.raises(ValueError, match="^sft_all: normalization must be mean or sum"):
        sft_all(**given, normalization="bytes")
