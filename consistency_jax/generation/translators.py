"""Translators carry answers from one language to another, and with them what a language says about its answers.

A translator tau_ij gives a text y of language i one or several translations y' of language j with log weights
(log tau_ij(y' | y)). What language j says about an answer of language i, its side of a round trip, is then

    log q(y)  =  log sum_y'  tau_ij(y' | y)  p_j(y')          averaged inside the log

For a deterministic, invertible translator (the aligned candidates of an item) that is p_j at the same index. For a
stochastic one it is the push-forward of p_j by the translator back, sum_y' tau_ji(y | y') p_j(y'), only where
tau_ji(y | y') = tau_ij(y' | y); otherwise it is an approximation, which need not even sum to 1. (The definition with
push-forwards is published, arXiv 2603.04678; the average of samples inside the log is this project's derivation.)
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Real

import numpy as np

from consistency_jax.data.items import ParallelItem
from consistency_jax.generation import Cut, GenerationError, Generator, Sampling
from consistency_jax.runtime.processes import on_main

# translation -> log weight in nats, likeliest first; weights sum to 1. Empty: the text cannot be translated.
Translations = dict[str, float]


def _weighted(weights: Mapping[str, float]) -> Translations:
    """Translations with these positive weights, which need not sum to 1."""
    total = sum(weights.values())
    ranked = sorted(weights.items(), key=lambda pair: -pair[1])
    return {text: float(np.log(weight / total)) for text, weight in ranked}


def by_table(
    items: Sequence[ParallelItem], texts: Sequence[str], source: str, target: str
) -> list[Translations]:
    """The translations of texts by the aligned candidates of the item of each: candidate k becomes candidate k.

    Spaces around a text do not count (" Paris" is the candidate "Paris"). A text that is no candidate has no
    translation, nor has any where the item lacks a language. One that is several candidates alike becomes each of
    theirs, with equal weights.
    """
    found = []
    for item, text in zip(items, texts, strict=True):
        pairs = zip(item.candidates.get(source, ()), item.candidates.get(target, ()))
        found.append(_weighted(Counter(other for own, other in pairs if own.strip() == text.strip())))
    return found


def by_model(
    generator: Generator,
    texts: Sequence[str],
    source: str,
    target: str,
    *,
    n: int = 1,
    sampling: Sampling,
    seed: int = 0,
) -> list[Translations]:
    """The translations that a prompted model writes: n are drawn of each text; equal ones are one, with their share as
    weight. A text without a word has none."""
    prompts = [f"{source}: {text.strip()}\n{target}:" if text.strip() else "" for text in texts]
    distinct = list(filter(None, dict.fromkeys(prompts)))
    answers = generator.generate(distinct, n=n, sampling=sampling, seed=seed)
    found = {
        prompt: _weighted(Counter(_stripped(text) for text in own if text.strip()))
        for prompt, own in zip(distinct, answers, strict=True)
    }
    return [found.get(prompt, {}) for prompt in prompts]


def _stripped(text: str) -> str:
    return Cut(text.strip()) if isinstance(text, Cut) else text.strip()


def by_function(
    function: Callable[[list[str], str, str], Sequence[str | None | Mapping[str, float]]],
    texts: Sequence[str],
    source: str,
    target: str,
) -> list[Translations]:
    """The translations of a function(texts, source, target), which gives for each text a translation, None, or
    {translation: weight}. Each distinct text is translated once.

    Raises:
      GenerationError: where the function does not give one result a text, or a weight that is not positive.
    """
    distinct = list(dict.fromkeys(texts))

    def given() -> object:
        results = function(distinct, source, target)
        return list(results) if isinstance(results, Iterable) and not isinstance(results, str) else results

    results = on_main(given)
    if not isinstance(results, list):
        raise GenerationError(
            f"translation: the function gave {results!r:.60}, and not a list with a result a text"
        )
    if len(results) != len(distinct):
        raise GenerationError(
            f"translation: the function gave {len(results)} results for {len(distinct)} texts"
        )
    found = {}
    for text, result in zip(distinct, results, strict=True):
        if not (result is None or isinstance(result, str | Mapping)):
            raise GenerationError(
                f"translation: of {text!r} the function gave {result!r:.60}: no text, None or weights"
            )
        weights = {} if result is None else {result: 1.0} if isinstance(result, str) else dict(result)
        if not all(isinstance(weight, Real) and 0 < weight < np.inf for weight in weights.values()):
            raise GenerationError(f"translation: weights of {text!r} must be positive: {weights}")
        found[text] = _weighted(weights)
    return [found[text] for text in texts]
