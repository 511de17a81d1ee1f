"""PCO from drawn answers: its expected gradient is that of the exact loss, its optimum that of PCO and DCO."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from consistency_jax.objectives import dco_target, pco_exact
from consistency_jax.objectives.pco_rollout import pco_rollout, pco_sampled


def tables(seed: int, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    policy, reference = np.random.default_rng(seed).normal(0, 1, (2, *shape)).astype(np.float32)
    return policy, reference


@pytest.mark.parametrize("samples", [2, 3])
@pytest.mark.parametrize("b", [1.0, 4.0])
def test_the_expected_gradient_is_the_exact_one(samples, b):
    """Every way in which n answers may be drawn, each with its probability: no tolerance but rounding."""
    policy, reference = tables(0, 1, 2, 3)
    steer = np.array([b, 1.0])
    log_q = jax.nn.log_softmax(reference)
    rewards = jnp.stack([log_q[:, 1] / b, b * log_q[:, 0]], axis=1)
    draws = np.array(list(itertools.product(range(3), repeat=samples)))  # the same draws for both languages

    def loss(policy, drawn):
        log_p = jax.nn.log_softmax(policy)
        return pco_rollout(*(table[:, :, drawn] for table in (log_p, log_q, rewards)))[0]

    gradients = jax.vmap(jax.grad(loss), in_axes=(None, 0))(policy, draws)
    chance = np.exp(np.asarray(jax.nn.log_softmax(policy), np.float64))[0][:, draws].prod(-1)  # [L, draws]
    assert chance.sum(1) == pytest.approx(1)
    expected = np.einsum("ld,dlk->lk", chance, np.asarray(gradients, np.float64)[:, 0])
    (exact, _), exact_gradient = jax.value_and_grad(partial(pco_exact, steer=steer), has_aux=True)(
        policy, reference
    )
    np.testing.assert_allclose(expected, exact_gradient[0], atol=1e-6)
    assert np.abs(exact_gradient).max() > 0.05
    # The value is an estimate of the loss, language by language.
    log_p, total = jax.nn.log_softmax(policy), 0.0
    for language in range(2):
        own = (table[:, [language]] for table in (log_p, log_q, rewards))
        values = jax.vmap(lambda drawn, own=tuple(own): pco_rollout(*(t[:, :, drawn] for t in own))[0])(draws)
        total += float(chance[language] @ values)
    assert total == pytest.approx(float(exact), rel=1e-5)


def test_the_gradient_of_a_kl_per_token_is_exact_too():
    policy, reference = tables(1, 1, 1, 3)
    length, rewards = jnp.array([[[1, 3, 6]]]), jnp.array([[[0.5, -1.0, 0.2]]])
    log_q = jax.nn.log_softmax(reference)
    draws = np.array(list(itertools.product(range(3), repeat=2)))

    def loss(policy, drawn):
        log_p = jax.nn.log_softmax(policy)
        return pco_rollout(
            *(table[:, :, drawn] for table in (log_p, log_q, rewards)), length=length[:, :, drawn], kl="token"
        )[0]

    def exact(policy):
        log_p = jax.nn.log_softmax(policy)
        return (jnp.exp(log_p) * ((log_p - log_q) / length - rewards)).sum()

    gradients = jax.vmap(jax.grad(loss), in_axes=(None, 0))(policy, draws)
    chance = np.exp(np.asarray(jax.nn.log_softmax(policy)))[0, 0][draws].prod(-1)
    np.testing.assert_allclose(
        np.einsum("d,d...->...", chance, gradients), jax.grad(exact)(policy), atol=1e-6
    )
    with pytest.raises(ValueError, match="length"):
        pco_rollout(policy, reference, rewards, kl="token")


@pytest.mark.parametrize("weights", [(1.0, 1.0), (4.0, 1.0, 0.7)])
def test_draws_among_candidates_have_the_exact_gradient_on_average(weights):
    policy, reference = tables(2, 3, len(weights), 4)
    mask = np.ones(policy.shape, bool)
    mask[1, :, 3] = False
    mask[2, 0] = False  # of the two languages one is left: no item
    options = {"mask": mask, "steer": np.array(weights)}

    @jax.jit
    @jax.vmap
    def gradients(seeds):
        return jax.grad(lambda p: pco_sampled(p, reference, seeds, samples=4, **options)[0])(policy)

    seeds = np.random.default_rng(0).integers(0, 2**32, (4000, 3), dtype=np.uint32)
    drawn = np.asarray(gradients(seeds), np.float64)
    exact = jax.grad(lambda p: pco_exact(p, reference, **options)[0])(policy)
    error = drawn.std(0) / np.sqrt(len(seeds))
    assert np.abs(np.asarray(exact)).max() > 20 * error.max()  # the comparison means something
    assert (np.abs(drawn.mean(0) - exact) <= 4.5 * error + 1e-6).all()
    assert not drawn[:, ~mask].any()


def test_the_baseline_lowers_the_spread_of_gradients():
    policy, reference = tables(3, 1, 2, 5)
    rewards = jax.nn.log_softmax(reference)[:, ::-1] - 20.0  # answers of 20 nats, as real ones are

    def gradient(seed, baseline):
        log_p = jax.nn.log_softmax(policy)
        drawn = jax.random.categorical(jax.random.key(seed), log_p, shape=(8, 1, 2)).transpose(1, 2, 0)

        def loss(p):
            log_p = jax.nn.log_softmax(p)
            of = [jnp.take_along_axis(t, drawn, 2) for t in (log_p, jax.nn.log_softmax(reference), rewards)]
            if baseline:
                return pco_rollout(*of)[0]
            cost = jax.lax.stop_gradient(of[0] - of[1] - of[2])
            return (cost * of[0]).mean(2).sum()

        return jax.grad(loss)(policy)

    with_it, without = (
        np.asarray(jax.vmap(partial(gradient, baseline=b))(jnp.arange(500))).std(0).mean()
        for b in (True, False)
    )
    assert with_it < without / 5


@partial(jax.jit, static_argnames="steps")
def trained(reference, steer, steps: int = 3000) -> jax.Array:
    optimizer = optax.adam(optax.cosine_decay_schedule(0.05, steps))

    def step(carry, number):
        policy, state = carry
        seeds = jax.random.bits(jax.random.fold_in(jax.random.key(0), number), (reference.shape[0],))
        loss = partial(pco_sampled, samples=16, steer=steer)
        gradient = jax.grad(lambda table: loss(table, reference, seeds)[0])(policy)
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(policy, updates), state), None

    return jax.lax.scan(step, (reference, optimizer.init(reference)), jnp.arange(steps))[0][0]


@pytest.mark.slow
@pytest.mark.parametrize("weights", [(1.0, 1.0), (2.0, 1.0, 0.7)])
def test_a_table_trained_on_its_own_answers_comes_to_the_optimum(weights):
    reference = np.random.default_rng(4).normal(0, 0.7, (4, len(weights), 3)).astype(np.float32)
    steer = np.array(weights, np.float32)
    policy = trained(reference, steer)
    optimum = jax.nn.softmax(dco_target(reference, steer=steer))
    assert np.abs(jax.nn.softmax(reference) - optimum).max() > 0.1
    # At the optimum all costs are equal, so the estimate has no spread there: it comes as close as exact PCO does.
    np.testing.assert_allclose(jax.nn.softmax(policy), optimum, atol=1e-2)
    assert float(pco_exact(policy, reference, steer=steer)[1]["error"]) < 1e-3


def test_absent_answers_are_immaterial_and_metrics_say_what_they_should():
    policy, reference = tables(5, 3, 2, 4)
    rewards = tables(6, 3, 2, 4)[0]
    mask = np.ones(policy.shape, bool)
    mask[0, 0, 2:] = False
    mask[1, 1, 1:] = False  # one answer: no baseline, no part
    mask[2] = False
    run = jax.jit(jax.value_and_grad(partial(pco_rollout, mask=mask), has_aux=True))
    plain, *others = (
        run(*(np.where(mask, table, np.float32(fill)) for table in (policy, reference, rewards)))
        for fill in (0.0, np.nan, np.inf)
    )
    for other in others:
        jax.tree.map(np.testing.assert_array_equal, other, plain)
    (loss, metrics), gradient = plain
    assert not np.asarray(gradient)[~mask].any()
    assert not np.asarray(gradient)[1, 1].any()
    rows = [(policy - reference - rewards)[b, l, mask[b, l]] for b, l in ((0, 0), (0, 1), (1, 0))]
    assert float(loss) == pytest.approx(sum(row.mean() for row in rows) / 2, rel=1e-5)
    assert float(metrics["spread"]) == pytest.approx(np.mean([row.std(ddof=1) for row in rows]), rel=1e-5)
    kl = np.mean([(policy - reference)[b, l, mask[b, l]].mean() for b, l in ((0, 0), (0, 1), (1, 0))])
    assert float(metrics["kl"]) == pytest.approx(kl, rel=1e-5)
    assert int(metrics["items"]) == float(metrics["weight"]) == 2
    costs = rows[0]
    expected = (costs - (costs.sum() - costs) / (len(costs) - 1)) / len(costs) / 2
    np.testing.assert_allclose(np.asarray(gradient)[0, 0, :2], expected, rtol=1e-5)


def test_draws_depend_on_the_seeds_alone():
    policy, reference = tables(7, 2, 2, 5)
    run = jax.jit(jax.grad(lambda p, s: pco_sampled(p, reference, s, samples=2)[0]))
    seeds = np.array([3, 4], np.uint32)
    np.testing.assert_array_equal(run(policy, seeds), run(policy, seeds))
    changed = np.asarray(run(policy, np.array([3, 9], np.uint32)))
    np.testing.assert_array_equal(changed[0], run(policy, seeds)[0])
    assert (changed[1] != run(policy, seeds)[1]).any()
    with pytest.raises(ValueError, match="at least 2"):
        pco_sampled(policy, reference, seeds, samples=1)
