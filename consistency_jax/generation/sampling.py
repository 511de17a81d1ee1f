"""From logits to tokens: penalty, temperature, top-k, top-p, and a draw that depends on what is asked alone."""

import jax
import jax.numpy as jnp

from consistency_jax.generation import Sampling


def penalized(logits: jax.Array, seen: jax.Array, penalty: float) -> jax.Array:
    """Logits f32[..., V] of the tokens seen (bool[..., V]) divided by the penalty where positive, else multiplied."""
    return jnp.where(seen, jnp.where(logits > 0, logits / penalty, logits * penalty), logits)


def filtered(logits: jax.Array, sampling: Sampling) -> jax.Array:
    """Logits f32[..., V] at the temperature (above 0), -inf where top-k and then top-p leave a token out.

    Tokens that tie with the last one taken are taken too.
    """
    logits = logits / sampling.temperature
    if 0 < sampling.top_k < logits.shape[-1]:
        least = jax.lax.top_k(logits, sampling.top_k)[0][..., -1:]
        logits = jnp.where(logits < least, -jnp.inf, logits)
    if sampling.top_p < 1:
        # From the least likely up, tokens are left out while the sum so far is within what top-p leaves.
        rising = jnp.sort(logits, axis=-1)
        left_out = jnp.cumsum(jax.nn.softmax(rising, axis=-1), axis=-1) <= 1 - sampling.top_p
        first = jnp.minimum(left_out.sum(-1, keepdims=True), logits.shape[-1] - 1)
        logits = jnp.where(logits < jnp.take_along_axis(rising, first, axis=-1), -jnp.inf, logits)
    return logits


def sample_token(
    logits: jax.Array,
    seen: jax.Array | None,
    sampling: Sampling,
    seed: jax.Array,
    prompt: jax.Array,
    step: jax.Array,
) -> jax.Array:
    """The next token of n answers to each of R prompts, a function of (logits; seed, prompt, answer, step) alone.

    Args:
      logits: f32[R, n, V].
      seen: bool[R, n, V], tokens that stand in the prompt or the answer; needed with a repetition penalty.
      sampling: static.
      seed: u32[].
      prompt: i32[R], the number of each prompt among all that were asked.
      step: i32[], tokens of the answer so far.

    Returns: i32[R, n].
    """
    if sampling.repetition_penalty != 1:
        assert seen is not None
        logits = penalized(logits, seen, sampling.repetition_penalty)
    if sampling.temperature == 0:
        return logits.argmax(-1).astype(jnp.int32)

    def one(logits: jax.Array, prompt: jax.Array, answer: jax.Array) -> jax.Array:
        key = jax.random.key(seed)
        for number in (prompt, answer, step):
            key = jax.random.fold_in(key, number)
        return jax.random.categorical(key, logits)

    answers = jnp.arange(logits.shape[1])
    over_answers = jax.vmap(one, in_axes=(0, None, 0))
    return jax.vmap(over_answers, in_axes=(0, 0, None))(filtered(logits, sampling), prompt, answers).astype(
        jnp.int32
    )
