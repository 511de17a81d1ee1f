"""Which answers become chosen and rejected: preference pairs made from parallel items, by name.

    gold      the gold candidate against a wrong one                        candidates.py
    random    DCO's index-aligned pairs, drawn without looking              candidates.py
    calm      what most languages answer, against what one answers          calm.py
    cm_align  the answer most like the English one, against the least alike cm_align.py

Pure functions choose (arrays or texts in, indices out); `make_pairs` makes records of it, with provenance, and counts
what was kept and why the rest was not.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from consistency_jax.data.items import MASK, ParallelItem
from consistency_jax.data.pipeline import item_arrays
from consistency_jax.data.preferences import Pair
from consistency_jax.errors import ConfigError
from consistency_jax.generation import Generator, Sampling
from consistency_jax.selection.calm import VOTERS, Translate, likelihood_picks, sampled_pairs
from consistency_jax.selection.candidates import gold_picks, picked_pairs, random_picks
from consistency_jax.selection.cm_align import consistency_pairs, task
from consistency_jax.selection.encoders import Encoder
from consistency_jax.selection.summary import Summary, summary_text

SAMPLES = {"calm": 3, "cm_align": 8}  # where selection.samples is 0


class Tools(NamedTuple):
    """What selections may ask for; each is made when it is first needed.

    Attributes:
      scores: f64[B, L, K], what the base model ranks candidates by, higher is better.
      generator: what answers questions.
      encoder: what makes vectors of sentences.
      translator: what translates an answer.
    """

    scores: Callable[[], np.ndarray]
    generator: Callable[[], Generator]
    encoder: Callable[[], Encoder]
    translator: Callable[[], Translate]


def check_selection(options: Any, items: Sequence[ParallelItem], languages: Sequence[str]) -> None:
    """Refuses what a selection cannot be made from, before any work.

    Args:
      options: `config.selection`.
      items: what pairs are to be made from.
      languages: those that take part.

    Raises:
      ConfigError: naming what is missing, and the mend.
    """
    name = options.name
    if name == "gold" and all(item.gold is None for item in items):
        raise ConfigError(
            "selection.name='gold' needs labels, and no item has a gold answer; calm needs none"
        )
    if name != "cm_align" and all(item.num_candidates < 2 for item in items):
        raise ConfigError(f"selection.name={name!r} compares candidates, and no item has two")
    if name == "calm" and len(languages) < VOTERS:
        raise ConfigError(
            f"selection.name='calm' takes a vote of more than {VOTERS - 1} languages; "
            f"there are {', '.join(languages)}: name more in data.languages"
        )
    if name == "calm" and options.form == "sampling" and max(item.num_candidates for item in items) > 26:
        raise ConfigError("selection.form='sampling' letters the candidates, and an item has more than 26")
    if name == "cm_align":
        if options.reference not in languages or len(languages) < 2:
            raise ConfigError(
                f"selection.reference={options.reference!r} must be one of two or more languages; "
                f"there are {', '.join(languages)}"
            )
        for item in items:
            if any(MASK in prompt for prompt in item.prompts.values()):
                raise ConfigError(
                    f"selection.name='cm_align' asks open questions, and item {item.id!r} has a {MASK}: "
                    "use calm or gold, or rewrite the prompts"
                )


def make_pairs(
    options: Any, items: Sequence[ParallelItem], languages: Sequence[str], tools: Tools, seed: int
) -> tuple[list[Pair], dict[str, Any]]:
    """Makes the pairs of a selection.

    Args:
      options: `config.selection`; its name is set.
      items: B items.
      languages: L languages, the order of axis L.
      tools: what the selection may need.
      seed: of all that is drawn.

    Returns:
      The pairs, item by item, and the summary (`Summary.to_json`): prompts kept and dropped, per language.
    """
    name, rng = options.name, np.random.default_rng(seed)
    summary = Summary(name, languages)
    if name == "calm" and options.form == "sampling":
        pairs = sampled_pairs(
            items,
            languages,
            tools.generator(),
            tools.translator(),
            summary,
            samples=options.samples or SAMPLES[name],
            sampling=Sampling.of(options),
            seed=seed,
            instructions=options.instructions,
        )
    elif name == "cm_align":
        pairs = consistency_pairs(
            items,
            languages,
            tools.generator(),
            task(options.task, tools.encoder),
            summary,
            samples=options.samples or SAMPLES[name],
            sampling=Sampling.of(options),
            seed=seed,
            margin=options.margin,
            reference=options.reference,
        )
    else:
        pairs = _candidate_pairs(options, items, languages, tools, summary, rng)
    return pairs, summary.to_json()


def _candidate_pairs(
    options: Any,
    items: Sequence[ParallelItem],
    languages: Sequence[str],
    tools: Tools,
    summary: Summary,
    rng: np.random.Generator,
) -> list[Pair]:
    """The pairs of given candidates: gold, random, and CALM's likelihood form."""
    mask, gold = item_arrays(items, languages)
    scores, votes = None, None
    if options.name == "random":
        picked = random_picks(mask, rng)
    elif options.name == "gold":
        scores = tools.scores() if options.rejected == "hardest" else None
        picked = gold_picks(mask, gold, rng, scores)
    else:
        scores = tools.scores()
        picked, votes = likelihood_picks(scores, mask, rng, agreeing=options.agreeing)

    def provenance(b: int, l: int) -> dict[str, Any]:
        told: dict[str, Any] = {}
        if votes is not None:
            own = int(votes.own[b, l])
            told = {"form": "likelihood", "votes": votes.counts[b].tolist(), "own": own}
        if scores is not None:
            pair = (picked.chosen[b, l], picked.rejected[b, l])
            told["scores"] = [round(float(scores[b, l, k]), 6) for k in pair]
        return told

    return picked_pairs(picked, items, languages, summary, provenance)


__all__ = ["Tools", "check_selection", "make_pairs", "summary_text"]
