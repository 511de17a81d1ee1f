"""What a selection of preference pairs says of itself, and what it is given to make them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from consistency_jax.data.items import ParallelItem
from consistency_jax.data.preferences import Pair
from consistency_jax.generation import Cut, Generator, Sampling
from consistency_jax.selection.encoders import Encoder
from consistency_jax.selection.summary import Summary

# Keys of `config.selection` that say how answers are sampled.
SAMPLED = (
    "samples",
    "engine",
    "engine_model",
    "batch",
    "max_tokens",
    "temperature",
    "top_k",
    "top_p",
    "stop",
)


class Request(NamedTuple):
    """A text to be translated."""

    text: str
    source: str  # language
    target: str


# Requests -> for each the text in the target language, None where that fails
Translate = Callable[[Sequence[Request]], Sequence[str | None]]


class Tools(NamedTuple):
    """What selections may ask for; each is made when it is first needed.

    Attributes:
      scores: f64[B, L, K], what the base model ranks candidates by, higher is better.
      generator: what answers questions.
      encoder: what makes vectors of sentences.
      translator: what translates answers, many at once.
    """

    scores: Callable[[], np.ndarray]
    generator: Callable[[], Generator]
    encoder: Callable[[], Encoder]
    translator: Callable[[], Translate]


class Given(NamedTuple):
    """What pairs are made from.

    Attributes:
      options: `config.selection`.
      items: B items.
      languages: L languages, the order of axis L.
      tools: what the selection may need.
      summary: is told of every prompt.
      seed: of all that is drawn.
    """

    options: Any
    items: Sequence[ParallelItem]
    languages: Sequence[str]
    tools: Tools
    summary: Summary
    seed: int

    def answers(self, prompts: Sequence[str], samples: int) -> list[list[str]]:
        """Sampled answers to each prompt, as the options say; `samples` of them where those leave it open."""
        n, sampling = self.options.samples or samples, Sampling.of(self.options)
        return self.tools.generator().generate(prompts, n=n, sampling=sampling, seed=self.seed)

    def sampled_pair(
        self,
        name: str,
        language: str,
        prompt: str,
        chosen: str,
        rejected: str,
        provenance: Mapping[str, Any],
    ) -> Pair:
        """A pair of sampled answers; where `max_tokens` ended one of them, no end is trained behind either."""
        whole = not (isinstance(chosen, Cut) or isinstance(rejected, Cut))
        self.summary.cut += not whole
        return Pair(name, language, prompt, str(chosen), str(rejected), provenance, written=whole)


class Selection(NamedTuple):
    """A way to make pairs.

    Attributes:
      make: the pairs, item by item.
      labels: whether it needs gold answers.
      candidates: how many some item must have; 0 where the answers are written and none is needed.
      languages: how many must take part.
      check: (options, items, languages) -> what else is wrong, with its mend; empty where nothing is.
      takes: options -> the keys of `config.selection` that count, beside `name`.
    """

    make: Callable[[Given], list[Pair]]
    labels: bool = False
    candidates: int = 2
    languages: int = 1
    check: Callable[[Any, Sequence[ParallelItem], Sequence[str]], str] = lambda *_: ""
    takes: Callable[[Any], Sequence[str]] = lambda _: ()
