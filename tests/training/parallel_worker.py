"""Trains a small decoder for 20 steps on each mesh named on the command line; prints one JSON object."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from consistency_jax.config import default
from consistency_jax.data.pipeline import Pipeline, TrainingSet
from consistency_jax.data.trees import ANSWER, PROMPT, UNCOUNTED, Tree
from consistency_jax.models.decoder import DecoderConfig, init_params
from consistency_jax.objectives import make_objective
from consistency_jax.sharding import make_mesh, on_mesh, param_shardings, put, row_groups
from consistency_jax.training.optimizer import make_optimizer
from consistency_jax.training.step import init_state, make_loss, sharded_step, trained_names

STEPS, ITEMS, LANGUAGES, CANDIDATES, VOCABULARY = 20, 24, ("en", "de", "sw"), 3, 64
CONFIG = DecoderConfig(
    vocab_size=VOCABULARY, hidden=32, layers=2, heads=4, kv_heads=2, head_dim=8, mlp=64, tied=False
)


def random_tree(rng: np.random.Generator) -> Tree:
    trunk = rng.integers(3, VOCABULARY, rng.integers(3, 9)).astype(np.int32)
    branches = tuple(
        rng.integers(3, VOCABULARY, rng.integers(1, 5)).astype(np.int32) for _ in range(CANDIDATES)
    )
    kind = np.full(len(trunk), PROMPT, np.uint8)
    kind[0] = UNCOUNTED
    kinds = tuple(np.full(len(branch), ANSWER, np.uint8) for branch in branches)
    return Tree(trunk, branches, kind, kinds, np.ones(CANDIDATES, np.int32))


def data() -> TrainingSet:
    rng = np.random.default_rng(0)
    trees = [[random_tree(rng) for _ in LANGUAGES] for _ in range(ITEMS)]
    shape = (ITEMS, len(LANGUAGES), CANDIDATES)
    length = np.array([[[len(b) for b in tree.branches] for tree in row] for row in trees], np.int32)
    reference = -5 * length + rng.normal(size=shape).astype(np.float32)
    return TrainingSet(
        trees, np.ones(shape, bool), length, np.zeros(ITEMS, np.int32), reference.astype(np.float32)
    )


def bytes_per_device(tree) -> list[int]:
    held: dict[int, int] = {}
    for leaf in jax.tree.leaves(tree):
        for shard in leaf.addressable_shards:
            held[shard.device.id] = held.get(shard.device.id, 0) + shard.data.nbytes
    return [held[number] for number in sorted(held)]


def run(sizes: tuple[int, int, int]) -> dict:
    mesh = make_mesh(sizes, jax.devices()[: int(np.prod(sizes))])
    config = default()
    config.optimizer.learning_rate = 1e-3
    objective, _ = make_objective(config.objective, LANGUAGES)
    where = param_shardings(CONFIG, mesh)
    params = jax.jit(lambda key: init_params(CONFIG, key), out_shardings=where)(jax.random.key(0))
    tx = make_optimizer(config.optimizer, STEPS)
    step = sharded_step(CONFIG, objective, tx, mesh, trained_names(CONFIG, ""))
    state = jax.jit(lambda p: init_state(p, tx), out_shardings=step.state)(jax.tree.map(jnp.copy, params))
    pipeline = Pipeline(data(), seed=0, items=8, groups=row_groups(mesh), shapes=1, total_steps=STEPS)
    with on_mesh(mesh):
        first = put(pipeline(0), step.inputs)
        (_, _), gradients = jax.jit(jax.value_and_grad(make_loss(CONFIG, objective), has_aux=True))(
            params, {}, first
        )
        losses = []
        for number in range(STEPS):
            state, metrics = step.run(state, {}, put(pipeline(number), step.inputs))
            losses.append(float(metrics["loss"]))
    return {
        "losses": losses,
        "gradients": {
            "/".join(path): np.asarray(leaf).tolist()
            for path, leaf in traverse_util.flatten_dict(gradients).items()
        },
        "bytes_per_device": bytes_per_device(state),
        "row_bytes": first.batch.tokens.nbytes,
        "row_bytes_per_device": bytes_per_device(first.batch.tokens),
    }


if __name__ == "__main__":
    print(json.dumps({name: run(tuple(map(int, name.split("x")))) for name in sys.argv[1:]}))
