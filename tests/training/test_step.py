"""One optimizer step: the reference at step 0, every objective's loss, and micro-batches that add up to the whole."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from consistency_jax.config.defaults import default
from consistency_jax.data.pipeline import Pipeline
from consistency_jax.data.sources import load_items
from consistency_jax.evaluation.measuring import score_split
from consistency_jax.evaluation.splits import Split, split_of
from consistency_jax.models.decoder import abstract_params
from consistency_jax.models.flops import mask_cost
from consistency_jax.models.huggingface import load_pretrained
from consistency_jax.objectives import OBJECTIVES, make_objective, options_of
from consistency_jax.runtime.mesh import make_mesh, on_mesh
from consistency_jax.scoring.logps import tree_logps
from consistency_jax.scoring.scorer import Scorer
from consistency_jax.table import Table
from consistency_jax.training.optimizer import make_optimizer
from consistency_jax.training.stages import make_pipeline, training_set
from consistency_jax.training.step import init_state, make_train_step, sharded_step
from consistency_jax.training.trainable import split_params, trained_names


@pytest.fixture(scope="module")
def prepared(small_model, questions):
    """A model, its training split, and the reference table."""
    config = default()
    config.data.path = str(questions)
    model = load_pretrained(small_model, mesh=make_mesh((1, 1, 1)))
    items = load_items("jsonl", path=questions, split="train")
    split = split_of(config, "train", items, model, "separate")
    scorer = Scorer(model.config, make_mesh((1, 1, 1)))
    return config, model, split, scorer, score_split(config, scorer, model.params, split, prompt=False)


@pytest.fixture(scope="module")
def anchor(prepared):
    """The reference's table with states, in English alone."""
    config, model, split, scorer, _ = prepared
    return score_split(config, scorer, model.params, split.alone("en"), prompt=False, state=True)


def pipeline_of(split: Split, reference: Table | None, **options):
    return Pipeline(
        training_set(split, reference),
        mask_cost=1 / 34,
        seed=0,
        shapes=1,
        total_steps=8,
        **({"items": 4} | options),
    )


def test_a_step_holds_the_gradients_once_beside_its_state(prepared):
    """Not scaled down a second time, nor kernels kept for the backward pass beside the parameters."""
    config, model, split, *_ = prepared
    decoder = dataclasses.replace(model.config, hidden=1024, mlp=4096, layers=8)
    batch = pipeline_of(split, None, items=1, languages=2, pairs=True)(0)
    objective, _ = make_objective(config.objective, split.languages)
    optimizer, mesh = make_optimizer(config.optimizer, 8), make_mesh((1, 1, 1))
    step = sharded_step(decoder, objective, optimizer, mesh, trained_names(decoder, ""))
    shapes = abstract_params(decoder)
    state = jax.eval_shape(functools.partial(init_state, optimizer=optimizer), shapes)
    with on_mesh(mesh):
        memory = step.run.lower(state, {}, batch).compile().memory_analysis()
    parameters = 4 * decoder.num_params
    assert memory.alias_size_in_bytes == pytest.approx(3 * parameters, rel=1e-3)
    assert memory.temp_size_in_bytes < 1.4 * parameters  # the rest: activations of a few tokens


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"languages": 2, "pairs": True},
        {"rejected": "random"},
        {"languages": 2, "rejected": "hardest"},
        {"apart": True},
        {"apart": True, "rejected": "hardest"},
    ],
    ids=["all", "published", "random", "hardest", "apart", "apart hardest"],
)
def test_policy_is_reference_at_step_0(prepared, options):
    """Precomputed, cached and packed otherwise: still the reference that the loop would compute."""
    _, model, split, _, reference = prepared
    value = pipeline_of(split, reference, **options)(3)
    shape = value.examples.mask.shape
    logp = jax.jit(lambda p, b: tree_logps(model.config, p, b, candidates=shape[2])["logp"])(
        model.params, value.batch
    )
    mask = value.examples.mask
    # sums of a few float32 terms in another order
    np.testing.assert_allclose(logp.reshape(shape)[mask], value.examples.reference[mask], atol=1e-4)


def test_the_anchors_state_at_step_0_is_the_references(prepared, anchor):
    """MPO's second term starts at 0, and English is drawn however few languages are."""
    _, model, split, _, reference = prepared
    data = training_set(split, reference, anchor)
    pipeline = Pipeline(
        data, mask_cost=1 / 34, seed=0, items=4, shapes=1, total_steps=8, languages=2, rejected="random"
    )
    for step in range(8):
        drawn = pipeline.draw(step).languages
        assert drawn[:, 0].all()
        assert (drawn.sum(1) == 2).all()
    assert drawn[:, 1:].any(0).all()
    value = pipeline(3)
    state = jax.jit(lambda p, b: tree_logps(model.config, p, b, candidates=2)["state"])(
        model.params, value.batch
    ).reshape(4, 3, -1)
    assert np.abs(value.examples.state).mean() > 0.1
    np.testing.assert_allclose(state[:, 0], value.examples.state, rtol=1e-4, atol=1e-5)


def test_the_norm_of_bfloat16_gradients_is_taken_in_float32(prepared):
    config, model, split, _, reference = prepared
    objective, _ = make_objective(config.objective, split.languages)
    value = make_pipeline(config, training_set(split, reference), model.config, groups=1)(0)
    own = dataclasses.replace(model.config, param_dtype="bfloat16", dtype="bfloat16")
    low = jax.tree.map(lambda x: x.astype(jnp.bfloat16), model.params)
    params, frozen = split_params(low, trained_names(own, ""))
    step = make_train_step(own, objective, optax.sgd(1.0))
    _, metrics = jax.eval_shape(step, init_state(params, optax.sgd(1.0)), frozen, value)
    assert metrics["gradient_norm"].dtype == jnp.float32


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_step_of_every_objective_lowers_its_loss(prepared, anchor, name):
    config, model, split, _, reference = prepared
    config = config.copy_and_resolve_references()
    config.objective.name = name
    objective, _ = make_objective(config.objective, split.languages)
    value = make_pipeline(config, training_set(split, reference, anchor), model.config, groups=1)(0)
    start, frozen = split_params(model.params, trained_names(model.config, ""))
    tx = optax.adam(1e-4)  # mpo starts near its optimum
    step = jax.jit(make_train_step(model.config, objective, tx))
    # Laid out as a step leaves it: the second call would compile another program.
    state = jax.device_put(init_state(start, tx), NamedSharding(make_mesh((1, 1, 1)), P()))
    state, before = step(state, frozen, value)
    _, after = step(state, frozen, value)
    assert before["items"] > 0
    assert before["gradient_norm"] > 0
    assert after["loss"] < before["loss"]


@pytest.mark.parametrize("name", ["dco", "dpo", "mpo", "orpo", "pco_rollout", "sft", "sft_all"])
def test_accumulated_micro_batches_give_the_gradient_of_the_whole(prepared, anchor, name):
    """Also where they are uneven: items in one language teach DCO nothing, answers differ in length."""
    config, model, split, _, reference = prepared
    config = config.copy_and_resolve_references()
    config.objective.name = name
    objective, _ = make_objective(config.objective, split.languages)
    data = training_set(split, reference, anchor)
    data = data._replace(state=data.state + 0.3)  # else its difference to the policy's is rounding alone
    data.mask[::3, 1:] = False
    data.gold[1::3] = -1
    numbers = np.where(data.mask.any(2), np.arange(len(data.trees)).reshape(data.mask.shape[:2]), -1)
    data = data._replace(trees=data.trees.take(numbers.reshape(-1)))
    tx, names = optax.sgd(1.0), trained_names(model.config, "")
    start, frozen = split_params(model.params, names)

    def update(accumulate):
        rejected = options_of(config.objective).get("rejected", "")
        value = Pipeline(
            data,
            mask_cost=mask_cost(model.config),
            seed=0,
            items=6,
            shapes=1,
            accumulate=accumulate,
            rejected=rejected,
        )(0)
        step = jax.jit(make_train_step(model.config, objective, tx, accumulate))
        state, metrics = step(init_state(start, tx), frozen, value)
        return jax.tree.map(lambda new, old: old - new, state.params, start), metrics

    (whole, one), (parts, other) = update(1), update(3)
    assert one["items"] == other["items"]
    np.testing.assert_allclose(other["loss"], one["loss"], rtol=1e-5)
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(whole))
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
        np.testing.assert_allclose(b, a, atol=1e-5 * largest)  # float32 sums in another order


@pytest.mark.parametrize("options", [{}, {"apart": True}, {"languages": 2}, {"accumulate": 2}], ids=str)
def test_sft_is_fed_the_gold_answer_alone_and_learns_the_same(prepared, options):
    """The loss reads no other candidate: with all of them fed it and its gradient are what they are without."""
    config, model, split, *_ = prepared
    config = config.copy_and_resolve_references()
    config.objective.name = "sft"
    objective, _ = make_objective(config.objective, split.languages)
    start, frozen = split_params(model.params, trained_names(model.config, ""))
    tx, found = optax.sgd(1.0), []
    for alone in (False, True):
        value = pipeline_of(split, None, gold_alone=alone, **options)(3)
        step = jax.jit(make_train_step(model.config, objective, tx, options.get("accumulate", 1)))
        state, metrics = step(init_state(start, tx), frozen, value)
        found.append(
            (state.params, metrics, int((value.batch.tree > 0).sum()), value.examples.mask.shape[-1])
        )
    (params, metrics, tokens, wide), (other, same, fewer, one) = found
    assert (wide, one) == (3, 1)
    assert fewer < tokens
    for name in ("loss", "items", "gradient_norm"):
        np.testing.assert_allclose(same[name], metrics[name], rtol=1e-5, err_msg=name)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), other, params)
