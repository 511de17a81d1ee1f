"""From packed rows to log-probabilities, on the device: the only place where hidden states become log-probabilities.

    logp[n, k] = sum over answer tokens t of tree n, branch k:  log softmax(head h_source(t))[t]

Training, the reference pass and evaluation all call `tree_logps`. There are no [tokens, vocabulary] logits: the states
that predict something are gathered (each once, however many answers it serves), and the head runs over chunks of them
in float32. Letters: N trees, K candidates, G groups of rows, U states, M targets, D model, V vocabulary.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from consistency_jax.data.packing.rows import Batch
from consistency_jax.models.decoder import Decoder, DecoderConfig, Params, head_logits, head_weight
from consistency_jax.runtime.mesh import ROWS, replicated


def batch_shardings(mesh: Mesh, leading: int = 0) -> Batch:
    """NamedShardings of a `Batch` without blocks: rows and row groups split, the rest on every device.

    Args:
      leading: axes in front of the batch's own (micro-batches of one step).
    """
    front = (None,) * leading
    split = NamedSharding(mesh, PartitionSpec(*front, ROWS))
    everything = Batch(*[split] * len(Batch._fields))
    return everything._replace(prompt_end=replicated(mesh), blocks=None)


LOGITS_BYTES = 2**28  # float32 logits held at once per group of rows; more states than that go chunk by chunk


def tree_logps(
    config: DecoderConfig,
    params: Params,
    batch: Batch,
    *,
    candidates: int,
    prompt: bool = False,
    layer: int | None = None,
    greedy: bool = False,
) -> dict[str, jax.Array]:
    """Log-probabilities of every branch of every tree in a batch.

    Args:
      config: what the parameters are parameters of.
      params: of `Decoder(config)`.
      batch: packed rows, see data/packing/rows.py; packed with the same `candidates` and `prompt`.
      candidates: K of the table.
      prompt: also sum the tokens of the prompt.
      layer: also give the states after this layer, from 0.
      greedy: also tell which answers the model would write if it always took the likeliest token.

    Returns:
      {"logp": f32[N, K]} in nats; with `prompt` also "prompt_logp": f32[N, K]; "state": [N, D], the last hidden state
      of each prompt, see `Batch.prompt_end` (dead code, hence free, where nobody reads it); with `layer` also
      "layer_state": [N, D], the same token's state after that layer; with `greedy` also "greedy": bool[N, K].
    """
    hidden = Decoder(config).apply(
        {"params": params},
        batch.tokens,
        batch.positions,
        batch.tree,
        batch.branch,
        None if layer is None else batch.prompt_end,
        blocks=batch.blocks,
    )
    hidden, layers = (hidden, None) if layer is None else hidden
    groups, dim = batch.sources.shape[0], hidden.shape[-1]
    grouped = hidden.reshape(groups, -1, dim)
    states = jnp.take_along_axis(grouped, batch.sources[..., None], axis=1)  # [G, U, D]
    logp, below = _target_logps(config, params, states, batch.target_source, batch.target_token)  # [G, M]

    kinds = 2 if prompt else 1
    trees = batch.prompt_end.shape[0]

    def sums_of(values: jax.Array) -> jax.Array:
        slots, count = batch.target_slot.reshape(-1), trees * kinds * (candidates + 1)
        cells = jax.ops.segment_sum(values.reshape(-1), slots, num_segments=count)
        cells = cells.reshape(trees, kinds, candidates + 1)
        return cells[..., :1] + cells[..., 1:]  # what all candidates share + each one's own

    sums = sums_of(logp)
    out = {"logp": sums[:, 0], "state": hidden.reshape(-1, dim)[batch.prompt_end]}
    if layer is not None:
        out["layer_state"] = layers[layer]
    if greedy:
        out["greedy"] = sums_of(below.astype(jnp.int32))[:, 0] == 0
    return out | ({"prompt_logp": sums[:, 1]} if prompt else {})


def _target_logps(
    config: DecoderConfig, params: Params, states: jax.Array, source: jax.Array, token: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """log p(token) under the state that predicts it: states [G, U, D], source and token i32[G, M] -> f32[G, M]; and
    bool[G, M], whether another token is likelier (dead code, hence free, where nobody reads it).

    The head runs once per state, not once per target. A chunk of states serves the targets that point into it; with
    more than one chunk the logits are recomputed in the backward pass, so that only one chunk of them ever lives.
    """
    groups, count, dim = states.shape
    chunks = math.ceil(4 * count * config.vocab_size / LOGITS_BYTES)
    size = math.ceil(count / chunks)
    states = jnp.pad(states, ((0, 0), (0, chunks * size - count), (0, 0)))
    # Devices that share the parameters share out the head's rows: the states, which are few, go to all of them, and
    # the head, which is large, is never whole anywhere, nor are its gradient and the logits.
    head = nn.with_logical_constraint(head_weight(params, config), ("vocab", "embed"))  # so its gradient too
    head = nn.with_logical_constraint(head.astype(states.dtype), ("head_vocab", None))
    states = nn.with_logical_constraint(states, ("head_groups", None, None))

    def add_chunk(
        total: tuple[jax.Array, jax.Array], chunk: tuple[jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, jax.Array], None]:
        (first, part), (logps, belows) = chunk, total
        chunk_logits = head_logits(head, config, part)  # f32[G, size, V]
        chunk_logits = nn.with_logical_constraint(chunk_logits, ("head_groups", None, "head_vocab"))
        log_z = jax.nn.logsumexp(chunk_logits, axis=-1)
        local = source - first
        inside = (local >= 0) & (local < size)
        local = jnp.clip(local, 0, size - 1)
        # Group by group, so that the compiler sees that no group looks into another's logits.
        chosen, log_z, best = jax.vmap(lambda logits, log_z, best, s, t: (logits[s, t], log_z[s], best[s]))(
            chunk_logits, log_z, jax.lax.stop_gradient(chunk_logits.max(-1)), local, token
        )
        logps = logps + jnp.where(inside, chosen - log_z, 0.0)
        return (logps, belows | (inside & (chosen < best))), None

    total = jnp.zeros(source.shape, jnp.float32), jnp.zeros(source.shape, bool)
    if chunks == 1:
        return add_chunk(total, (jnp.int32(0), states))[0]
    parts = states.reshape(groups, chunks, size, dim).swapaxes(0, 1)
    firsts = jnp.arange(chunks, dtype=jnp.int32) * size
    return jax.lax.scan(jax.checkpoint(add_chunk), total, (firsts, parts))[0]
