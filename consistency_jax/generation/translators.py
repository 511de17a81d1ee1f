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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from consistency_jax.data.items import ParallelItem
from consistency_jax.generation import GenerationError, Generator, Sampling
from consistency_jax.runtime.processes import on_main


class Translation(NamedTuple):
    """One translation of a text."""

    text: str
    log_weight: float  # nats; the weights of a text's translations sum to 1


class Translator(Protocol):
    """Translates texts that belong to items."""

    def translate(
        self,
        items: Sequence[ParallelItem],
        texts: Sequence[Sequence[str]],
        source: str,
        target: str,
        *,
        n: int = 1,
        seed: int = 0,
    ) -> list[list[list[Translation]]]:
        """For each item, for each of its texts in the source language: translations, likeliest first.

        Different ones, at most n where they are drawn; none where the text cannot be translated: drop it.
        """


def _merged(weights: Mapping[str, float]) -> list[Translation]:
    """Translations with these positive weights, which need not sum to 1."""
    total = sum(weights.values())
    ranked = sorted(weights.items(), key=lambda pair: -pair[1])
    return [Translation(text, float(np.log(weight / total))) for text, weight in ranked]


@dataclass(frozen=True)
class TableTranslator:
    """By the aligned candidates of the item itself: candidate k becomes candidate k, exactly.

    A text that is no candidate has no translation, nor has any where the item lacks a language. One that is several
    candidates alike becomes each of theirs, with equal weights.

    Attributes:
        strip: whitespace around texts does not count (" Paris" is the candidate "Paris").
    """

    strip: bool = True

    def translate(
        self,
        items: Sequence[ParallelItem],
        texts: Sequence[Sequence[str]],
        source: str,
        target: str,
        *,
        n: int = 1,
        seed: int = 0,
    ) -> list[list[list[Translation]]]:
        """See `Translator`; nothing is drawn."""

        def plain(text: str) -> str:
            return text.strip() if self.strip else text

        results = []
        for item, own in zip(items, texts, strict=True):
            pairs = zip(item.candidates.get(source, ()), item.candidates.get(target, ()))
            table: dict[str, Counter] = {}
            for text, translation in pairs:
                table.setdefault(plain(text), Counter())[translation] += 1
            results.append([_merged(table.get(plain(text), {})) for text in own])
        return results


TEMPLATE = "{source}: {text}\n{target}:"


@dataclass(frozen=True)
class ModelTranslator:
    """A model that is prompted to translate, through any `Generator`.

    Attributes:
        generator: who answers.
        template: of the prompt; may hold {text}, {source} and {target} (the languages' names) and {question} (the
            item's prompt in the source language).
        names: language -> its name in the template; itself where there is none.
        sampling: how translations are drawn; by default the likeliest line.
    """

    generator: Generator
    template: str = TEMPLATE
    names: Mapping[str, str] = field(default_factory=dict)
    sampling: Sampling = Sampling(max_tokens=64, temperature=0, stop=("\n",))

    def __post_init__(self) -> None:
        try:
            empty = self._prompt("text", "en", "de", "") == self._prompt("other", "en", "de", "")
        except (KeyError, IndexError, ValueError) as error:
            raise GenerationError(
                f"translation: the template {self.template!r} may hold {{text}}, {{source}}, {{target}}, {{question}}; "
                f"found {error}"
            ) from None
        if empty:
            raise GenerationError(f"translation: the template {self.template!r} must hold {{text}}")

    def _prompt(self, text: str, source: str, target: str, question: str) -> str:
        names = {"source": self.names.get(source, source), "target": self.names.get(target, target)}
        return self.template.format(text=text.strip(), question=question, **names)

    def translate(
        self,
        items: Sequence[ParallelItem],
        texts: Sequence[Sequence[str]],
        source: str,
        target: str,
        *,
        n: int = 1,
        seed: int = 0,
    ) -> list[list[list[Translation]]]:
        """See `Translator`: n translations of each text are drawn; equal ones are one, with their share as weight."""
        prompts = [
            self._prompt(text, source, target, item.prompts.get(source, ""))
            for item, own in zip(items, texts, strict=True)
            for text in own
        ]
        distinct = list(dict.fromkeys(prompts))
        drawn = 1 if self.sampling.temperature == 0 else n
        said = self.generator.generate(distinct, n=drawn, sampling=self.sampling, seed=seed)
        by_prompt = {
            prompt: _merged(Counter(text.strip() for text in own if text.strip()))
            for prompt, own in zip(distinct, said, strict=True)
        }
        found = iter(prompts)
        return [[by_prompt[next(found)] for _ in own] for own in texts]


@dataclass(frozen=True)
class CallableTranslator:
    """Any function(texts, source, target): it gives for each text a translation, None, or {translation: weight}."""

    function: Callable[[list[str], str, str], Sequence[str | None | Mapping[str, float]]]

    def translate(
        self,
        items: Sequence[ParallelItem],
        texts: Sequence[Sequence[str]],
        source: str,
        target: str,
        *,
        n: int = 1,
        seed: int = 0,
    ) -> list[list[list[Translation]]]:
        """See `Translator`; each distinct text is translated once.

        Raises:
          GenerationError: where the function does not give one result a text, or a weight that is not positive.
        """
        distinct = list(dict.fromkeys(text for own in texts for text in own))
        results = on_main(lambda: list(self.function(distinct, source, target)))
        if len(results) != len(distinct):
            raise GenerationError(
                f"translation: the function gave {len(results)} results for {len(distinct)} texts"
            )
        table: dict[str, list[Translation]] = {}
        for text, result in zip(distinct, results, strict=True):
            weights = {} if result is None else {result: 1.0} if isinstance(result, str) else dict(result)
            if not all(0 < weight < np.inf for weight in weights.values()):
                raise GenerationError(f"translation: weights of {text!r} must be positive: {weights}")
            table[text] = _merged(weights)
        return [[table[text] for text in own] for own in texts]


def log_kernel(
    translator: Translator,
    items: Sequence[ParallelItem],
    source: str,
    target: str,
    *,
    n: int = 1,
    seed: int = 0,
) -> np.ndarray:
    """log tau(k' | k) f64[B, K, K'] between the candidates of items: row k is what candidate k becomes.

    -inf where it never becomes k'. What a translator makes of a candidate that is no candidate is lost, so a row may
    sum to less than 1. Whitespace around texts does not count.
    """
    own = [item.candidates.get(source, ()) for item in items]
    others = [item.candidates.get(target, ()) for item in items]
    width = max((len(c) for c in [*own, *others]), default=0)
    weights = np.zeros((len(items), width, width))
    translated = translator.translate(items, own, source, target, n=n, seed=seed)
    for b, (rows, candidates) in enumerate(zip(translated, others, strict=True)):
        places: dict[str, list[int]] = {}
        for k, text in enumerate(candidates):
            places.setdefault(text.strip(), []).append(k)
        for k, row in enumerate(rows):
            for text, log_weight in row:
                here = places.get(text.strip(), [])
                weights[b, k, here] += np.exp(log_weight) / max(len(here), 1)
    with np.errstate(divide="ignore"):
        return np.log(weights)


def pulled_back(logp: jax.Array, log_tau: jax.Array) -> jax.Array:
    """What the other language says about each answer, averaged over its translations inside the log.

    log sum_k' tau(k' | k) p(k'): f[..., K', ] and f[..., K, K'] -> f[..., K]; -inf where nothing is known. Equal to the
    push-forward of p by the translator back only where that is tau transposed (see above).

    Args:
      logp: log p(k'), nats.
      log_tau: log tau(k' | k), of `log_kernel`, or the log weights of samples whose log p stand in `logp`'s last axis.
    """
    logp = jnp.where(jnp.isfinite(log_tau), logp[..., None, :], 0.0)
    return jax.nn.logsumexp(logp + log_tau, axis=-1)


def pushed_forward(logp: jax.Array, log_tau_back: jax.Array) -> jax.Array:
    """The exact push-forward: log sum_k' tau_back(k | k') p(k'), f[..., K'] and f[..., K', K] -> f[..., K].

    Args:
      log_tau_back: log tau(k | k') of the translator back, as of `log_kernel`.
    """
    return pulled_back(logp, jnp.swapaxes(log_tau_back, -1, -2))
