"""Trains a small decoder for 20 steps on each mesh named on the command line, adapters of it for one step where the
name begins with "lora:", and beside a base in 4 bits where it begins with "nf4:"; prints one JSON object. It may be one
of several processes."""

import dataclasses
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util

from consistency_jax.config.defaults import default
from consistency_jax.data.examples import TrainingSet
from consistency_jax.data.pipeline import Pipeline
from consistency_jax.data.trees.forest import ANSWER, PROMPT, UNCOUNTED, Forest, Tree
from consistency_jax.models.decoder import DecoderConfig, init_params
from consistency_jax.models.flops import mask_cost
from consistency_jax.models.lora import LoraConfig
from consistency_jax.models.shardings import param_shardings
from consistency_jax.objectives import make_objective
from consistency_jax.runtime.mesh import fetch, make_mesh, on_mesh, put, row_groups
from consistency_jax.runtime.processes import initialize
from consistency_jax.training.optimizer import make_optimizer
from consistency_jax.training.step import init_state, sharded_step
from consistency_jax.training.trainable import split_params, trained_names

STEPS, ITEMS, LANGUAGES, CANDIDATES, VOCABULARY = 20, 24, ("en", "de", "sw"), 3, 64
CONFIG = DecoderConfig(
    vocab_size=VOCABULARY, hidden=32, layers=2, heads=4, kv_heads=2, head_dim=8, mlp=64, tied=False
)
ADAPTED = dataclasses.replace(CONFIG, lora=LoraConfig(rank=4))
KINDS = {"lora": ADAPTED, "nf4": dataclasses.replace(ADAPTED, base="nf4")}


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
    trees = [random_tree(rng) for _ in range(ITEMS * len(LANGUAGES))]
    shape = (ITEMS, len(LANGUAGES), CANDIDATES)
    length = np.array([[len(b) for b in tree.branches] for tree in trees], np.int32).reshape(shape)
    reference = -5 * length + rng.normal(size=shape).astype(np.float32)
    return TrainingSet(
        Forest.of(trees),
        np.ones(shape, bool),
        length,
        np.zeros(ITEMS, np.int32),
        reference.astype(np.float32),
    )


def bytes_per_device(tree) -> list[int]:
    held: dict[int, int] = {}
    for leaf in jax.tree.leaves(tree):
        for shard in leaf.addressable_shards:
            held[shard.device.id] = held.get(shard.device.id, 0) + shard.data.nbytes
    return [held[number] for number in sorted(held)]


def named(tree) -> dict[str, list]:
    flat = traverse_util.flatten_dict(tree, sep="/")
    return {name: np.asarray(fetch(leaf)).tolist() for name, leaf in flat.items()}


def initial(config: DecoderConfig, key: jax.Array):
    """Random parameters; B of an adapter too, or nothing would reach A."""
    return jax.tree.map_with_path(
        lambda path, p: 0.1 * jax.random.normal(key, p.shape) if path[-1].key == "lora_b" else p,
        init_params(config, key),
    )


def run(model: DecoderConfig, sizes: tuple[int, int, int], steps: int) -> dict:
    mesh = make_mesh(sizes, jax.devices()[: int(np.prod(sizes))])
    config = default()
    config.optimizer.learning_rate = 1e-3
    objective, _ = make_objective(config.objective, LANGUAGES)
    where = param_shardings(model, mesh)
    names = trained_names(model, "")
    params = jax.jit(lambda key: initial(model, key), out_shardings=where)(jax.random.key(0))
    params, frozen = split_params(params, names)
    tx = make_optimizer(config.optimizer, STEPS)
    step = sharded_step(model, objective, tx, mesh, names)
    state = jax.jit(lambda p: init_state(p, tx), out_shardings=step.state)(jax.tree.map(jnp.copy, params))
    pipeline = Pipeline(
        data(),
        mask_cost=mask_cost(model),
        seed=0,
        items=8,
        groups=row_groups(mesh),
        shapes=1,
        total_steps=STEPS,
    )
    with on_mesh(mesh):
        first = put(pipeline(0), step.inputs)
        losses = []
        for number in range(steps):
            state, metrics = step.run(state, frozen, put(pipeline(number), step.inputs))
            losses.append(float(metrics["loss"]))
            if number == 0:  # Adam's first moment is then the clipped gradient, less a factor
                gradients = named(optax.tree.get(state.optimizer, "mu"))
    return {
        "losses": losses,
        "gradients": gradients,
        "params": named(state.params),
        "bytes_per_device": bytes_per_device(state),
        "row_bytes": first.batch.tokens.nbytes,
        "row_bytes_per_device": bytes_per_device(first.batch.tokens),
    }


if __name__ == "__main__":
    initialize()
    runs = {}
    for name in sys.argv[1:]:
        kind, _, mesh = name.rpartition(":")
        sizes = tuple(map(int, mesh.split("x")))
        runs[name] = run(KINDS[kind], sizes, 1) if kind else run(CONFIG, sizes, STEPS)
    print(json.dumps(runs))
