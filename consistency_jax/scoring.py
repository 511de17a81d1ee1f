"""From packed rows to the table of log-probabilities: the only place that turns hidden states into log-probabilities.

    logp[n, k] = sum over answer tokens t of tree n, branch k:  log softmax(head h_source(t))[t]

Training, the reference pass and evaluation all call `tree_logps`. There are no [tokens, vocabulary] logits: the states
that predict something are gathered (each once, however many answers it serves), and the head runs over chunks of them
in float32. Letters: N trees, K candidates, G groups of rows, U states, M targets, D model, V vocabulary.
"""

import dataclasses
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from consistency_jax.data.packing import Batch
from consistency_jax.models.decoder import Decoder, DecoderConfig, Params, logits

NORMALIZATIONS = ("sum", "mean", "mean_full", "bytes")
LOGITS_BYTES = 2**28  # float32 logits held at once per group of rows; more states than that go chunk by chunk


# ---------------------------------------------------------------------------------------------------------- on device
def tree_logps(
    config: DecoderConfig, params: Params, batch: Batch, *, candidates: int, prompt: bool = False
) -> dict[str, jax.Array]:
    """Log-probabilities of every branch of every tree in a batch.

    Args:
      config: what the parameters are parameters of.
      params: of `Decoder(config)`.
      batch: packed rows, see data/packing.py; packed with the same `candidates` and `prompt`.
      candidates: K of the table.
      prompt: also sum the tokens of the prompt.

    Returns:
      {"logp": f32[N, K]} in nats; with `prompt` also "prompt_logp": f32[N, K]; "state": [N, D], the last hidden state
      of each trunk (dead code, hence free, where nobody reads it).
    """
    hidden = Decoder(config).apply({"params": params}, batch.tokens, batch.positions, batch.tree, batch.branch)
    groups, dim = batch.sources.shape[0], hidden.shape[-1]
    grouped = hidden.reshape(groups, -1, dim)
    states = jnp.take_along_axis(grouped, batch.sources[..., None], axis=1)  # [G, U, D]
    logp = _target_logps(config, params, states, batch.target_source, batch.target_token)  # [G, M]

    kinds = 2 if prompt else 1
    trees = batch.trunk_end.shape[0]
    cells = jax.ops.segment_sum(
        logp.reshape(-1), batch.target_slot.reshape(-1), num_segments=trees * kinds * (candidates + 1)
    ).reshape(trees, kinds, candidates + 1)
    sums = cells[..., :1] + cells[..., 1:]  # what all candidates share + each one's own
    out = {"logp": sums[:, 0], "state": hidden.reshape(-1, dim)[batch.trunk_end]}
    return out | ({"prompt_logp": sums[:, 1]} if prompt else {})


def _target_logps(
    config: DecoderConfig, params: Params, states: jax.Array, source: jax.Array, token: jax.Array
) -> jax.Array:
    """log p(token) under the state that predicts it: states [G, U, D], source and token i32[G, M] -> f32[G, M].

    The head runs once per state, not once per target. A chunk of states serves the targets that point into it; with
    more than one chunk the logits are recomputed in the backward pass, so that only one chunk of them ever lives.
    """
    groups, count, dim = states.shape
    chunks = math.ceil(4 * count * config.vocab_size / LOGITS_BYTES)
    size = math.ceil(count / chunks)
    states = jnp.pad(states, ((0, 0), (0, chunks * size - count), (0, 0)))
    row = jnp.arange(groups)[:, None]

    def add_chunk(total: jax.Array, chunk: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        first, part = chunk
        chunk_logits = logits(params, config, part)  # f32[G, size, V]
        log_z = jax.nn.logsumexp(chunk_logits, axis=-1)
        local = source - first
        inside = (local >= 0) & (local < size)
        local = jnp.clip(local, 0, size - 1)
        logp = chunk_logits[row, local, token] - log_z[row, local]
        return total + jnp.where(inside, logp, 0.0), None

    total = jnp.zeros(source.shape, jnp.float32)
    if chunks == 1:
        return add_chunk(total, (jnp.int32(0), states))[0]
    parts = states.reshape(groups, chunks, size, dim).swapaxes(0, 1)
    firsts = jnp.arange(chunks, dtype=jnp.int32) * size
    return jax.lax.scan(jax.checkpoint(add_chunk), total, (firsts, parts))[0]
