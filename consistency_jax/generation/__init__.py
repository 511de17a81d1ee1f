"""Answers in free text: what a sampler is asked, and what any engine that answers prompts looks like.

Engines: `sampler.py` (the model itself, on this mesh), `endpoint.py` (an OpenAI-compatible server, for large jobs).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from consistency_jax.errors import UserError


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn.

    Attributes:
        max_tokens: most tokens of an answer.
        temperature: of the softmax; 0 takes the likeliest token always.
        top_k: only the k likeliest tokens are drawn from; 0: all.
        top_p: only the fewest tokens whose probabilities sum to this are drawn from; 1: all.
        repetition_penalty: logits of tokens that stand in the prompt or the answer are divided (where positive) or
            multiplied (where negative) by it; 1: not at all (arXiv 1909.05858).
        stop: texts that end an answer; what they begin is cut off.
    """

    max_tokens: int = 128
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()

    @classmethod
    def of(cls, options: Any) -> "Sampling":
        """As a section of a config says (`selection`, `rollout`)."""
        return cls(
            max_tokens=options.max_tokens,
            temperature=float(options.temperature),
            top_k=options.top_k,
            top_p=float(options.top_p),
            stop=tuple(options.stop),
        )


class GenerationError(UserError):
    """What cannot be generated, and the mend."""


def check_sampling(sampling: Sampling, n: int) -> None:
    """Refuses what no engine can draw.

    Raises:
      GenerationError: naming the setting.
    """
    allowed = {
        "n": (n, n >= 1, "at least 1"),
        "max_tokens": (sampling.max_tokens, sampling.max_tokens >= 1, "at least 1"),
        "temperature": (sampling.temperature, 0 <= sampling.temperature < float("inf"), "0 or more"),
        "top_k": (sampling.top_k, sampling.top_k >= 0, "0 (all) or more"),
        "top_p": (sampling.top_p, 0 < sampling.top_p <= 1, "above 0 and at most 1"),
        "repetition_penalty": (sampling.repetition_penalty, sampling.repetition_penalty > 0, "above 0"),
        "stop": (
            sampling.stop,
            not isinstance(sampling.stop, str) and all(sampling.stop),
            "texts, none empty",
        ),
    }
    for name, (value, fine, rule) in allowed.items():
        if not fine:
            raise GenerationError(f"generation: {name}={value!r} must be {rule}")


def before_stop(text: str, stop: Sequence[str]) -> str:
    """The text before the first stop text in it; itself where there is none."""
    places = [place for end in stop if (place := text.find(end)) >= 0]
    return text[: min(places)] if places else text


class Cut(str):
    """An answer that `max_tokens` ended: it may be half a sentence, and whoever trains on it must not teach an end."""


class Generator(Protocol):
    """Answers prompts."""

    def generate(self, prompts: Sequence[str], *, n: int, sampling: Sampling, seed: int) -> list[list[str]]:
        """n answers for each prompt, in order, those that did not end by themselves as `Cut`. The same arguments give
        the same answers where the engine can."""
