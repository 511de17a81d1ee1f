"""MLC: item by item, the same number and gradients as singular values in torch; and where they coincide."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from consistency_jax.objectives import Mlc, mlc

ITEMS, LANGUAGES, DIM, WIDTH = 5, 4, 6, 8
MASK = np.ones((ITEMS, LANGUAGES), bool)
MASK[0, 2] = MASK[1, 0] = MASK[1, 3] = False  # three and two languages
MASK[3, 1:] = False  # one language: no item


def problem(seed: int = 0) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """States whose items and languages all differ in size and direction, and an extractor."""
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(ITEMS, LANGUAGES, DIM)) * rng.gamma(2.0, 2.0, (ITEMS, LANGUAGES, 1))
    extractor = {"kernel": rng.normal(size=(DIM, WIDTH)), "bias": rng.normal(size=WIDTH)}
    return states.astype(np.float32), {name: value.astype(np.float32) for name, value in extractor.items()}


def run(states, extractor, **options):
    """(loss, metrics), (gradient of the states, of the extractor)."""
    return jax.jit(jax.value_and_grad(partial(mlc, **options), argnums=(0, 1), has_aux=True))(
        states, extractor
    )


@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "absent"])
@pytest.mark.parametrize("tau", [0.2, 1.0])
def test_loss_and_gradients_are_those_of_singular_values_item_by_item(mask, tau):
    states, extractor = problem()
    (loss, metrics), gradients = run(states, extractor, mask=mask, tau=tau)
    mask = np.ones_like(MASK) if mask is None else mask
    h = torch.tensor(states, dtype=torch.float64, requires_grad=True)
    kernel, bias = (torch.tensor(extractor[n], dtype=torch.float64, requires_grad=True) for n in extractor)
    losses, ranks, cosines = [], [], []
    for b in range(ITEMS):
        own = h[b, torch.tensor(mask[b])]
        if len(own) < 2:
            continue
        r = own @ kernel + bias
        s = torch.linalg.svdvals(r / r.norm(dim=1, keepdim=True))
        losses.append(-torch.log_softmax(s / s[0].detach() / tau, 0)[0])
        ranks.append((s[0] ** 2 / (s**2).sum()).item())
        raw = torch.nn.functional.cosine_similarity(own[:, None], own[None], dim=-1)
        cosines.append(raw[~torch.eye(len(own), dtype=bool)].mean().item())
    expected = torch.stack(losses).mean()
    expected.backward()
    assert float(loss) == pytest.approx(expected.item(), rel=1e-5)
    np.testing.assert_allclose(gradients[0], h.grad, rtol=1e-3, atol=1e-5)  # float32 against float64
    np.testing.assert_allclose(gradients[1]["kernel"], kernel.grad, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(gradients[1]["bias"], bias.grad, rtol=1e-3, atol=1e-5)
    assert float(metrics["rank1"]) == pytest.approx(np.mean(ranks), rel=1e-5)
    assert float(metrics["cosine"]) == pytest.approx(np.mean(cosines), rel=1e-4)
    assert int(metrics["items"]) == len(losses) == (5 if mask.all() else 4)


def test_an_item_teaches_nothing_about_its_neighbours():
    """The known fault of a published trainer: items and languages mixed up for more than one item."""
    states, extractor = problem()
    alone = [float(mlc(states[b : b + 1], extractor)[0]) for b in range(ITEMS)]
    assert len({round(loss, 4) for loss in alone}) == ITEMS
    assert float(mlc(states, extractor)[0]) == pytest.approx(np.mean(alone), rel=1e-5)
    turned = states[::-1, ::-1]
    assert float(mlc(turned, extractor)[0]) == pytest.approx(np.mean(alone), rel=1e-5)


def test_absent_languages_are_immaterial_and_as_if_never_given():
    states, extractor = problem()

    def filled(fill: float):
        return run(np.where(MASK[:, :, None], states, np.float32(fill)), extractor, mask=MASK)

    plain = filled(0.0)
    assert not np.asarray(plain[1][0])[~MASK].any()
    assert not np.asarray(plain[1][0])[3].any()  # the only language of its item
    for fill in (np.nan, np.inf, -np.inf):
        jax.tree.map(np.testing.assert_array_equal, filled(fill), plain)
    cut = [float(mlc(states[b : b + 1, MASK[b]], extractor)[0]) for b in (0, 1, 2, 4)]
    assert float(plain[0][0]) == pytest.approx(np.mean(cut), rel=1e-5)


IDENTITY = {"kernel": np.eye(DIM, WIDTH, dtype=np.float32), "bias": np.zeros(WIDTH, np.float32)}
SAME = np.tile(np.array([1.0, -2.0, 0.5, 3.0, 0.0, 1.0], np.float32), (1, LANGUAGES, 1))
ORTHOGONAL = 3 * np.eye(LANGUAGES, DIM, dtype=np.float32)[None]
TWO_LINES = np.eye(2, DIM, dtype=np.float32)[None, [0, 0, 1, 1]]  # singular values 1.41, 1.41, 0, 0


@pytest.mark.parametrize(
    ("states", "singular"),
    [
        (SAME, [2, 1e-3, 1e-3, 1e-3]),
        (SAME * np.array([1, -1, 1, -1], np.float32)[:, None], [2, 1e-3, 1e-3, 1e-3]),  # opposite ways
        (ORTHOGONAL, [1, 1, 1, 1]),
        (TWO_LINES, [2**0.5, 2**0.5, 1e-3, 1e-3]),
    ],
    ids=["identical", "opposite", "orthogonal", "two lines"],
)
@pytest.mark.parametrize("absent", [0, 1])
def test_gradients_are_finite_where_singular_values_coincide(states, singular, absent):
    if absent:  # one language more, which is not there
        states = np.concatenate([np.full((1, 1, DIM), np.nan, np.float32), states], axis=1)
    mask = np.arange(states.shape[1])[None] >= absent
    (loss, metrics), gradients = run(states, IDENTITY, mask=mask)
    s = np.array(singular)
    expected = np.log(np.exp((s / s[0] - 1) / 0.2).sum())
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    assert float(metrics["rank1"]) == pytest.approx(s[0] ** 2 / (s**2).sum(), rel=1e-4)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    jitter = np.random.default_rng(0).normal(0, 1e-6, states.shape).astype(np.float32)
    _, near = run(states + jitter, IDENTITY, mask=mask)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(near))


def test_no_item_and_states_of_zero_are_no_nan():
    states, extractor = problem()
    (loss, metrics), gradients = run(states, extractor, mask=np.zeros((ITEMS, LANGUAGES), bool))
    assert float(loss) == int(metrics["items"]) == 0
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradients))
    _, gradients = run(0 * states, IDENTITY)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


@pytest.mark.parametrize("trained", ["both", "extractor"])
def test_descent_raises_the_share_of_rank_1(trained):
    """Also with the extractor alone, which then leaves the raw cosine where it is: why that is logged."""
    start = problem(1)
    optimizer = optax.adam(3e-2)

    def step(carry, _):
        free, state = carry
        gradient, metrics = jax.grad(lambda free: mlc(*free, mask=MASK), has_aux=True)(free)
        if trained == "extractor":
            gradient = (jnp.zeros_like(gradient[0]), gradient[1])
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(free, updates), state), metrics

    _, metrics = jax.jit(lambda free: jax.lax.scan(step, (free, optimizer.init(free)), length=300))(start)
    assert float(metrics["loss"][-1]) < float(metrics["loss"][0])
    assert float(metrics["rank1"][0]) < 0.75
    assert float(metrics["rank1"][-1]) > 0.95
    if trained == "extractor":
        np.testing.assert_allclose(metrics["cosine"], metrics["cosine"][0], rtol=1e-5)


def test_it_counts_on_every_nth_step():
    third = Mlc(weight=0.5, tau=0.2, layer=-1, width=16, every=3)
    assert [float(third.scale(step)) for step in range(7)] == [0.5, 0, 0, 0.5, 0, 0, 0.5]  # as published
    assert [float(third._replace(every=1).scale(step)) for step in range(2)] == [0.5, 0.5]


def test_wrong_shapes_are_told():
    states, extractor = problem()
    with pytest.raises(ValueError, match=r"^mlc: states must have shape \[items, languages, dimensions\]"):
        mlc(states[0], extractor)
    with pytest.raises(ValueError, match=r"^mlc: mask must have shape \[5, 4\], not \[4, 5\]"):
        mlc(states, extractor, mask=MASK.T)
    with pytest.raises(ValueError, match=r"^mlc: the extractor takes \[6, 8\], states have 3 dimensions"):
        mlc(states[:, :, :3], extractor)
