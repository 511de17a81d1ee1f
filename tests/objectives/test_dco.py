"""DCO: the published formula, its closed-form optimum, and what must be immaterial to it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from consistency_jax.metrics import rankc
from consistency_jax.objectives import OBJECTIVES, dco, dco_target

# Sums of float32 log-probabilities of some tens of nats: differences carry about 1e-5.
TOLERANCE = 1e-4


def tables(seed: int, items: int, languages: int, candidates: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    policy, reference = rng.normal(-20, 6, (2, items, languages, candidates)).astype(np.float32)
    return policy, reference


def compiled(**options):
    """`dco` with these options, compiled: op by op it is slow."""
    return jax.jit(partial(dco, **options))


def published(policy: np.ndarray, reference: np.ndarray, b: float) -> float:
    """The published loss, written from its formula: two languages, candidates (0, 1) = (chosen, rejected)."""
    off = reference[:, :, 0] - reference[:, :, 1]
    rew = (policy[:, :, 0] - policy[:, :, 1]) - off
    return (np.abs(rew[:, 0] - off[:, 1] / b) + np.abs(rew[:, 1] - b * off[:, 0])).mean()


def test_is_registered_by_name():
    assert OBJECTIVES["dco"].needs_reference


@pytest.mark.parametrize(("scale", "partners"), [("mean", "all"), ("product", "all"), ("mean", "each other")])
def test_two_languages_and_two_candidates_give_the_published_loss(scale, partners):
    policy, reference = tables(0, 50, 2, 2)
    partners = "all" if partners == "all" else np.tile([1, 0], (50, 1))
    objective = jax.jit(lambda steer: dco(policy, reference, steer=steer, scale=scale, partners=partners))
    for b in (0.25, 1.0, 3.7):
        loss, metrics = objective(np.array([b, 1.0], np.float32))
        assert float(loss) == pytest.approx(published(policy, reference, b), rel=1e-5)
        assert float(metrics["loss"]) == float(loss)


def test_a_chosen_pair_among_many_candidates_gives_the_published_loss_of_that_pair():
    policy, reference = tables(1, 40, 2, 5)
    rng = np.random.default_rng(1)
    pairs = np.stack([rng.permutation(5)[:2] for _ in range(40)])
    loss, _ = compiled(steer=[2.0, 1.0], candidates=pairs)(policy, reference)
    picked = [np.take_along_axis(table, pairs[:, None, :], axis=2) for table in (policy, reference)]
    assert float(loss) == pytest.approx(published(*picked, 2.0), rel=1e-5)


def test_all_candidates_are_the_mean_of_all_pairs():
    policy, reference = tables(2, 10, 4, 6)
    steer = [2.0, 1.0, 0.5, 3.0]
    whole, _ = compiled(steer=steer)(policy, reference)
    of_pair = jax.jit(lambda pair: dco(policy, reference, steer=steer, candidates=jnp.tile(pair, (10, 1)))[0])
    parts = [float(of_pair(np.array([k, m]))) for k in range(6) for m in range(k)]
    assert float(whole) == pytest.approx(np.mean(parts), rel=1e-5)


def brute_force_target(reference: np.ndarray, steer: np.ndarray, scale: str) -> np.ndarray:
    target = np.zeros_like(reference, dtype=np.float64)
    languages = range(len(steer))
    for i in languages:
        consensus = sum(steer[j] * reference[:, j].astype(np.float64) for j in languages) / sum(steer)
        ratios = [steer[j] / steer[i] for j in languages if j != i]
        target[:, i] = {"mean": 1 + np.mean(ratios), "product": 1 + np.sum(ratios), "one": 1}[
            scale
        ] * consensus
    return target


@pytest.mark.parametrize("scale", ["mean", "product", "one"])
def test_target_of_many_languages_is_the_formula(scale):
    _, reference = tables(3, 7, 5, 4)
    steer = np.array([4.0, 1.0, 0.3, 2.0, 1.0])
    np.testing.assert_allclose(
        dco_target(reference, steer=steer, scale=scale),
        brute_force_target(reference, steer, scale),
        rtol=1e-5,
    )


@pytest.mark.parametrize("scale", ["mean", "product", "one"])
def test_target_of_partners_is_reference_plus_the_weighted_partner(scale):
    _, reference = tables(4, 6, 3, 4)
    steer = np.array([2.0, 1.0, 0.5])
    partners = np.tile([2, 0, 1], (6, 1))
    expected = reference + (steer[partners] / steer)[..., None] * reference[:, [2, 0, 1]]
    target = dco_target(reference, steer=steer, partners=partners, scale=scale)
    np.testing.assert_allclose(target, expected, rtol=1e-5)


def test_a_heavy_language_keeps_its_reference():
    _, reference = tables(5, 6, 4, 3)
    target = np.asarray(dco_target(reference, steer=[1e6, 1.0, 1.0, 1.0]))
    np.testing.assert_allclose(target[:, 0], reference[:, 0], rtol=1e-4)


@pytest.mark.parametrize("partners", ["all", "each other"])
def test_loss_is_zero_at_the_optimum_and_larger_at_a_thousand_perturbations(partners):
    languages = 5 if partners == "all" else 2
    _, reference = tables(6, 4, languages, 4)
    options = {"steer": np.linspace(0.5, 3.0, languages)}
    if partners != "all":
        options["partners"] = np.tile([1, 0], (4, 1))
    optimum = jax.jit(partial(dco_target, **options))(reference)
    best = float(compiled(**options)(optimum, reference)[0])
    assert best < TOLERANCE
    rng = np.random.default_rng(6)
    scales = 10.0 ** rng.uniform(-2, 1, (1000, 1, 1, 1))
    noise = jnp.asarray(rng.normal(size=(1000, *reference.shape)) * scales, jnp.float32)
    losses = jax.jit(jax.vmap(lambda change: dco(optimum + change, reference, **options)[0]))(noise)
    assert losses.shape == (1000,)
    # The smallest perturbations are 0.01 nats a cell.
    assert float(losses.min()) > 10 * TOLERANCE > best


@partial(jax.jit, static_argnames=("steps", "peak", "scale"))
def trained(reference, *, steer, scale: str = "mean", steps: int = 3000, peak: float = 0.3) -> jax.Array:
    """A free table, started at the reference and trained by Adam under a rate that falls to 0."""
    optimizer = optax.adam(optax.cosine_decay_schedule(peak, steps))

    def step(carry, _):
        policy, state = carry
        gradient = jax.grad(lambda table: dco(table, reference, steer=steer, scale=scale)[0])(policy)
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(policy, updates), state), None

    start = (reference, optimizer.init(reference))
    return jax.lax.scan(step, start, length=steps)[0][0]


def within_candidates(table: np.ndarray) -> np.ndarray:
    return table[..., :, None] - table[..., None, :]


def separated(seed: int, items: int, languages: int, candidates: int, **options) -> np.ndarray:
    """Random references whose optimum keeps every two candidates at least 0.5 nats apart."""
    target = jax.jit(partial(dco_target, **options))
    rng = np.random.default_rng(seed)
    kept = []
    while len(kept) < items:
        reference = rng.normal(0, 3, (1, languages, candidates)).astype(np.float32)
        gaps = np.abs(within_candidates(np.asarray(target(reference))))
        if gaps[..., ~np.eye(candidates, dtype=bool)].min() > 0.5:
            kept.append(reference[0])
    return np.stack(kept)


@pytest.mark.parametrize("b", [0.25, 1.0, 4.0])
def test_a_table_trained_on_two_languages_comes_to_the_optimum(b):
    options = {"steer": np.array([b, 1.0], np.float32)}
    reference = separated(7, 8, 2, 4, **options)
    policy = np.asarray(trained(reference, **options))
    optimum = np.asarray(dco_target(reference, **options))
    # L1 steps have a constant size, so the distance left is of the order of the last rates, about 0.001.
    np.testing.assert_allclose(within_candidates(policy), within_candidates(optimum), atol=0.02)
    assert (rankc(policy[:, 0], policy[:, 1]) == 1).all()
    # The published closed form: D1* = D1 + D2 / b and D2* = b D1*.
    change = within_candidates(policy)
    own = within_candidates(reference)
    np.testing.assert_allclose(change[:, 0], own[:, 0] + own[:, 1] / b, atol=0.02)
    np.testing.assert_allclose(change[:, 1], b * change[:, 0], atol=0.02 * (1 + b))


@pytest.mark.parametrize("scale", ["mean", "product", "one"])
def test_a_table_trained_on_five_languages_comes_to_the_optimum_and_all_rank_alike(scale):
    options = {"steer": np.array([4.0, 1.0, 0.5, 2.0, 1.5], np.float32), "scale": scale}
    reference = separated(8, 6, 5, 4, **options)
    policy = np.asarray(trained(reference, peak=0.5, **options))
    optimum = np.asarray(dco_target(reference, **options))
    np.testing.assert_allclose(within_candidates(policy), within_candidates(optimum), atol=0.03)
    before = [rankc(reference[:, i], reference[:, j]).mean() for i in range(5) for j in range(i)]
    after = [rankc(policy[:, i], policy[:, j]) for i in range(5) for j in range(i)]
    assert np.mean(before) < 0.9
    assert (np.stack(after) == 1).all()


def test_random_partners_have_their_optimum_at_the_median_partner():
    """The mean of |x - t_j| over partners is smallest at the median: D_1 + median_j (v_j / v_1) D_j."""
    _, reference = tables(9, 1, 4, 2)  # language 0 has three partners: an odd number, one median
    difference = (reference[0, :, 0] - reference[0, :, 1]).astype(np.float64)
    steer = np.array([2.0, 1.0, 3.0, 0.7])
    repeated = np.repeat(reference, 3, axis=0)
    partners = np.full((3, 4), -1)
    partners[:, 0] = [1, 2, 3]  # only language 0 learns, from each partner once

    def loss(value):
        policy = jnp.asarray(repeated).at[:, 0].set(jnp.array([1.0, 0.0]) * value)
        return dco(policy, repeated, steer=steer, partners=partners)[0]

    median = difference[0] + np.median(steer[1:] / steer[0] * difference[1:])
    grid = np.linspace(difference.min() * 4 - 20, difference.max() * 4 + 20, 4_001)
    losses = jax.jit(jax.vmap(loss))(jnp.asarray(grid, jnp.float32))
    assert grid[int(losses.argmin())] == pytest.approx(median, abs=2 * (grid[1] - grid[0]))


def test_order_of_languages_candidates_and_items_is_immaterial():
    policy, reference = tables(10, 6, 4, 5)
    rng = np.random.default_rng(10)
    mask = np.ones(policy.shape, bool)
    mask[0, 2] = mask[1, :, 3:] = False
    steer = np.array([3.0, 1.0, 0.5, 2.0])
    plain = compiled(mask=mask, steer=steer)(policy, reference)
    for _ in range(3):
        b, l, k = (rng.permutation(size) for size in policy.shape)
        order = np.ix_(b, l, k)
        moved = compiled(mask=mask[order], steer=steer[l])(policy[order], reference[order])
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), moved, plain)


def ragged_mask() -> np.ndarray:
    mask = np.ones((6, 4, 5), bool)
    mask[0, 1] = False  # a language is missing
    mask[1, :, 3:] = False  # three candidates only
    mask[2, 1:] = False  # one language: no item
    mask[3] = False  # nothing at all
    mask[4, 0, 1:] = False  # one candidate: not a language
    mask[5, 2, 4] = False  # a candidate that one language lacks
    return mask


@pytest.mark.parametrize("partners", ["all", "random"])
def test_masked_cells_are_immaterial_to_loss_metrics_and_gradients(partners):
    policy, reference = tables(11, 6, 4, 5)
    mask = ragged_mask()
    options = {"steer": [2.0, 1.0, 1.0, 0.5], "mask": mask}
    if partners == "random":
        options["partners"] = np.random.default_rng(3).integers(0, 4, (6, 4))

    loss_and_gradients = jax.jit(jax.value_and_grad(partial(dco, **options), has_aux=True))
    plain, *others = (
        loss_and_gradients(*(np.where(mask, table, np.float32(fill)) for table in (policy, reference)))
        for fill in (0.0, np.nan, np.inf, -np.inf, 1e30)
    )
    for other in others:
        jax.tree.map(np.testing.assert_array_equal, plain, other)
    assert np.isfinite(plain[1]).all()
    assert (np.asarray(plain[1])[~mask] == 0).all()
    assert np.abs(plain[1]).sum() > 0


def test_absent_languages_and_candidates_are_as_if_never_given():
    policy, reference = tables(12, 6, 4, 5)
    mask = ragged_mask()
    steer = np.array([2.0, 1.0, 0.25, 0.5])
    loss, metrics = compiled(mask=mask, steer=steer)(policy, reference)
    kept = {
        0: ([0, 2, 3], range(5)),
        1: (range(4), range(3)),
        4: ([1, 2, 3], range(5)),
        5: (range(4), range(4)),
    }
    parts = [
        float(compiled(steer=steer[list(l)])(*(t[np.ix_([b], l, k)] for t in (policy, reference)))[0])
        for b, (l, k) in kept.items()
    ]
    assert int(metrics["items"]) == 4  # items 2 and 3 have fewer than two languages
    assert float(loss) == pytest.approx(np.mean(parts), rel=1e-5)


def test_no_item_at_all_is_zero_loss_and_zero_gradient():
    policy, reference = tables(13, 2, 3, 3)
    mask = np.zeros(policy.shape, bool)
    (loss, metrics), gradient = jax.jit(jax.value_and_grad(partial(dco, mask=mask), has_aux=True))(
        policy, reference
    )
    assert float(loss) == 0
    assert (np.asarray(gradient) == 0).all()
    assert all(np.isfinite(float(value)) for value in metrics.values())


def test_no_gradient_flows_into_the_reference():
    policy, reference = tables(14, 3, 3, 3)
    gradients = jax.jit(jax.grad(lambda p, r: dco(p, r)[0], argnums=(0, 1)))
    assert not np.any(gradients(policy, reference)[1])
    shared = jax.jit(jax.grad(lambda table: dco(table, table)[0]))(policy)
    apart = gradients(policy, policy)[0]
    np.testing.assert_array_equal(shared, apart)


def test_jit_gives_the_same_with_traced_options():
    policy, reference = tables(15, 5, 3, 4)
    options = {"mask": np.ones(policy.shape, bool), "steer": np.array([2.0, 1.0, 1.0], np.float32)}
    options["partners"] = np.tile([1, 2, 0], (5, 1))
    options["candidates"] = np.tile([3, 1], (5, 1))
    plain = compiled(**options)(policy, reference)
    jitted = jax.jit(lambda p, r, o: dco(p, r, **o))(policy, reference, options)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), jitted, plain)


def test_metrics_of_a_hand_worked_item():
    """Two languages with differences 2 and -1 (reference) and 3 and 1 (policy); steer 1."""
    reference = np.array([[[2.0, 0.0], [-1.0, 0.0]]])
    policy = np.array([[[3.0, 0.0], [1.0, 0.0]]])
    loss, metrics = compiled()(policy, reference)
    assert float(loss) == pytest.approx(2.0)  # target 1 and 1: errors 2 and 0
    expected = {
        "loss": 2.0,
        "error": 1.0,
        "reward": 1.5,
        "reward_target": 1.5,
        "pair_agreement": 1.0,
        "reference_pair_agreement": 0.0,
        "drift": 0.75,
        "items": 1,
        "weight": 1,
    }
    for name, value in expected.items():
        assert float(metrics[name]) == pytest.approx(value, abs=1e-6), name

    def kl(a, b):
        p, q = 1 / (1 + np.exp(-a)), 1 / (1 + np.exp(-b))
        return p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))

    assert float(metrics["kl"]) == pytest.approx((kl(3, 2) + kl(1, -1)) / 2, rel=1e-5)
    assert set(metrics) == {*expected, "kl"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reference": np.zeros((2, 3, 5))}, r"reference must have shape \[2, 3, 4\], not \[2, 3, 5\]"),
        ({"policy": np.zeros((2, 3))}, r"policy must have shape \[items, languages, candidates\]"),
        ({"policy": np.zeros((2, 1, 4)), "reference": np.zeros((2, 1, 4))}, "two of each, not 1 and 4"),
        ({"mask": np.ones((2, 3), bool)}, "mask must have shape"),
        ({"steer": [1.0, 2.0]}, r"steer \(one weight a language\) must have shape \[3\]"),
        ({"steer": [1.0, 0.0, 1.0]}, "steer must be finite and above 0"),
        ({"steer": [1.0, np.inf, 1.0]}, "steer must be finite and above 0"),
        ({"scale": "sum"}, "scale must be one of mean, product, one, not 'sum'"),
        ({"partners": "random"}, 'partners must be "all" or an integer array'),
        ({"partners": np.zeros((2, 4), int)}, "partners must have shape"),
        ({"partners": np.zeros((2, 3))}, "partners must hold integers"),
        ({"candidates": "pair"}, 'candidates must be "all"'),
        ({"candidates": np.array([[0, 4], [1, 0]])}, r"candidates must lie in 0\.\.3"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    arguments = {"policy": np.zeros((2, 3, 4)), "reference": np.zeros((2, 3, 4)), **options}
    with pytest.raises(ValueError, match=message):
        dco(arguments.pop("policy"), arguments.pop("reference"), **arguments)
