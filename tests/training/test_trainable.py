"""Frozen parameters: not trained, not differentiated, not in the state or its checkpoints."""

import re

import jax
import numpy as np
import pytest
from flax import traverse_util

from consistency_jax.config.defaults import default
from consistency_jax.errors import ConfigError
from consistency_jax.models.decoder import DecoderConfig, abstract_params
from consistency_jax.models.flops import mask_cost
from consistency_jax.models.huggingface import load_pretrained
from consistency_jax.objectives import make_objective
from consistency_jax.runtime.mesh import make_mesh, on_mesh
from consistency_jax.train import train
from consistency_jax.training.optimizer import make_optimizer
from consistency_jax.training.run_models import checkpoint_model
from consistency_jax.training.step import init_state, make_loss
from consistency_jax.training.trainable import split_params, trained_names

CONFIG = DecoderConfig(
    vocab_size=64, hidden=32, layers=2, heads=4, kv_heads=2, head_dim=8, mlp=64, tied=False
)
FREEZE = "embedding|norm|mlp/down"


def flat(tree):
    return traverse_util.flatten_dict(tree, sep="/")


def test_frozen_parameters_stay_bit_for_bit_and_all_others_move(small_config, tmp_path):
    small_config.optimizer.freeze = FREEZE
    small_config.total_steps = 3
    train(small_config, tmp_path / "run")
    base = load_pretrained(small_config.model.path, mesh=make_mesh((1, 1, 1)))
    trained = flat(checkpoint_model(small_config, tmp_path / "run", 3, base).params)
    for name, leaf in flat(base.params).items():
        assert (np.asarray(trained[name]) == np.asarray(leaf)).all() == bool(re.search(FREEZE, name)), name


def test_frozen_parameters_have_no_place_in_the_state():
    names = trained_names(CONFIG, FREEZE)
    assert names == {name for name in flat(abstract_params(CONFIG)) if not re.search(FREEZE, name)}
    trained, frozen = split_params(abstract_params(CONFIG), names)
    state = jax.eval_shape(lambda p: init_state(p, make_optimizer(default().optimizer, 5)), trained)
    sizes = [leaf.size for leaf in jax.tree.leaves(state) if leaf.ndim]
    assert sum(sizes) == 3 * sum(leaf.size for leaf in jax.tree.leaves(trained))
    assert sum(leaf.size for leaf in jax.tree.leaves(frozen)) > 0


def test_gradients_of_the_others_are_those_of_full_training():
    from parallel_worker import Pipeline, data, init_params  # the same small problem

    objective, _ = make_objective(default().objective, ("en", "de", "sw"))
    batch = Pipeline(data(), mask_cost=mask_cost(CONFIG), seed=0, items=8, shapes=1, total_steps=2)(0)
    everything = jax.jit(init_params, static_argnums=0)(CONFIG, jax.random.key(0))
    trained, frozen = split_params(everything, trained_names(CONFIG, FREEZE))
    gradient = jax.jit(jax.grad(make_loss(CONFIG, objective), has_aux=True))
    with on_mesh(make_mesh((1, 1, 1))):
        part, whole = gradient(trained, frozen, batch)[0], gradient(everything, {}, batch)[0]
    for name, leaf in flat(part).items():
        np.testing.assert_allclose(leaf, flat(whole)[name], rtol=1e-5, atol=1e-7)  # sums in another order


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        (
            "layer/",
            "optimizer.freeze='layer/' matches no parameter; there are: embedding/weight, .*mlp/up/kernel",
        ),
        (".", "optimizer.freeze='.' matches every parameter"),
    ],
)
def test_a_pattern_that_finds_nothing_or_everything_is_refused(freeze, message):
    with pytest.raises(ConfigError, match=message):
        trained_names(CONFIG, freeze)
