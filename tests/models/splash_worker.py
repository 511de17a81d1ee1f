"""Runs a decoder with splash attention, interpreted, on a mesh of 2 x 2 x 2 devices; prints one JSON object."""

import dataclasses
import json
from typing import Any

import jax
import jax.numpy as jnp
from attention_problems import CONFIG, rows

from consistency_jax.models import splash
from consistency_jax.models.attention import Problem, obstacle
from consistency_jax.models.decoder import Decoder, Params, init_params
from consistency_jax.models.shardings import param_shardings
from consistency_jax.runtime.mesh import make_mesh, on_mesh


def main() -> None:
    mesh = make_mesh((2, 2, 2))
    one_layer = dataclasses.replace(CONFIG, layers=1, layer_types=CONFIG.layer_types[:1])
    row = rows(100, 8)
    tokens = jax.random.randint(jax.random.key(1), row["tree"].shape, 0, CONFIG.vocab_size)
    params = jax.device_put(init_params(one_layer, jax.random.key(0)), param_shardings(one_layer, mesh))
    shape: dict[str, int] = {}
    attend = splash.attend

    def spy(query: jax.Array, key: jax.Array, value: jax.Array, *rest: Any, **options: Any) -> jax.Array:
        shape.update(rows=query.shape[0], heads=query.shape[2], kv_heads=key.shape[2])
        return attend(query, key, value, *rest, **options)

    splash.attend = spy
    losses, gradients = {}, {}
    problem = Problem(8, 100, 4, 1, 8, "float32")
    with on_mesh(mesh):
        for name in ("xla", "splash"):
            config = dataclasses.replace(one_layer, attention=name)

            def loss(params: Params, config=config) -> jax.Array:
                return jnp.mean(jnp.sin(Decoder(config).apply({"params": params}, tokens, **row)))

            losses[name], gradients[name] = jax.jit(jax.value_and_grad(loss))(params)
        uneven = obstacle("splash", problem)
    difference = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), gradients["xla"], gradients["splash"])
    print(
        json.dumps(
            {
                "kernel_shape": shape,
                "loss": jax.tree.map(float, losses),
                "largest_gradient": max(float(jnp.abs(g).max()) for g in jax.tree.leaves(gradients["xla"])),
                "gradient_difference": max(map(float, jax.tree.leaves(difference))),
                "uneven": uneven,
                "no_mesh": obstacle("splash", problem),
            }
        )
    )


if __name__ == "__main__":
    main()
