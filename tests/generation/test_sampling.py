"""Draws against the softmax, and what top-k, top-p and the penalty do against transformers' own processors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from consistency_jax.generation import Sampling
from consistency_jax.generation.sampling import filtered, penalized, sample_token

torch = pytest.importorskip("torch")
processors = pytest.importorskip("transformers.generation.logits_process")

VOCABULARY = 40


def some_logits(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, (*shape, VOCABULARY)).astype(np.float32)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(temperature=0.5),
        Sampling(temperature=2.0, top_k=5),
        Sampling(top_p=0.7),
        Sampling(top_k=8, top_p=0.6, temperature=1.5),
    ],
)
def test_frequencies_are_those_of_the_softmax(sampling):
    logits = some_logits(0)
    draws = np.asarray(
        jax.jit(
            lambda numbers: sample_token(
                jnp.broadcast_to(logits, (len(numbers), 20, VOCABULARY)), None, sampling, 7, numbers, 3
            )
        )(jnp.arange(1000))
    ).ravel()
    expected = torch.tensor(logits[None])
    if sampling.temperature != 1:
        expected = processors.TemperatureLogitsWarper(sampling.temperature)(None, expected)
    if sampling.top_k:
        expected = processors.TopKLogitsWarper(sampling.top_k)(None, expected)
    if sampling.top_p < 1:
        expected = processors.TopPLogitsWarper(sampling.top_p)(None, expected)
    probability = expected[0].double().softmax(-1).numpy()
    counts = np.bincount(draws, minlength=VOCABULARY)
    assert not counts[probability == 0].any()
    rare = probability * len(draws) < 5  # pooled, as the test's approximation asks
    counts = np.append(counts[~rare], counts[rare].sum())
    wanted = np.append(probability[~rare], probability[rare].sum()) * len(draws)
    if wanted[-1] < 5:
        counts, wanted = counts[:-1], wanted[:-1] * counts[:-1].sum() / wanted[:-1].sum()
    assert scipy.stats.chisquare(counts, wanted).pvalue > 1e-3  # one seed: it passes always or never


@pytest.mark.parametrize("top_k", [0, 1, 7, 40, 60])
@pytest.mark.parametrize("top_p", [1.0, 0.999, 0.5, 1e-6])
def test_what_may_be_drawn_is_what_transformers_leaves(top_k, top_p):
    logits = some_logits(1, 50)
    expected = processors.TemperatureLogitsWarper(0.7)(None, torch.tensor(logits))
    if top_k:
        expected = processors.TopKLogitsWarper(top_k)(None, expected)
    if top_p < 1:
        expected = processors.TopPLogitsWarper(top_p)(None, expected)
    ours = np.asarray(filtered(jnp.asarray(logits), Sampling(temperature=0.7, top_k=top_k, top_p=top_p)))
    np.testing.assert_array_equal(np.isfinite(ours), np.isfinite(expected.numpy()))
    np.testing.assert_allclose(ours, expected.numpy(), rtol=1e-6)


def test_penalty_is_that_of_transformers():
    logits = some_logits(2, 6)
    tokens = np.random.default_rng(3).integers(0, VOCABULARY, (6, 25))
    expected = processors.RepetitionPenaltyLogitsProcessor(1.3)(torch.tensor(tokens), torch.tensor(logits))
    seen = np.zeros(logits.shape, bool)
    np.put_along_axis(seen, tokens, True, axis=1)
    np.testing.assert_allclose(penalized(logits, seen, 1.3), expected.numpy(), rtol=1e-6)


def test_a_draw_depends_on_seed_prompt_answer_and_step_alone():
    logits = jnp.zeros((4, 3, 1000))
    numbers = jnp.array([5, 9, 2, 9])
    first = np.asarray(sample_token(logits, None, Sampling(), 1, numbers, 0))
    np.testing.assert_array_equal(first[1], first[3])
    np.testing.assert_array_equal(
        sample_token(logits[:2, :2], None, Sampling(), 1, numbers[2:], 0), first[2:, :2]
    )
    assert len(set(first[:3].ravel())) == 9
    for seed, step in ((2, 0), (1, 1)):
        assert (np.asarray(sample_token(logits, None, Sampling(), seed, numbers, step)) != first).all()
