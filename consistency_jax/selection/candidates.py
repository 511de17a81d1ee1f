"""Pairs of given candidates: by labels (`gold_picks`), and drawn unseen (`random_picks`). Arrays in, indices out.

Letters: B items, L languages, K candidates. Draws are seeded by the caller's generator.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from consistency_jax.data.facts import item_arrays
from consistency_jax.data.items import open_prompt
from consistency_jax.data.preferences import Pair
from consistency_jax.selection.needs import Given, Selection
from consistency_jax.selection.summary import SAME_TEXT

ABSENT = "the item lacks this language"
NO_GOLD, NO_OTHER = "no gold answer", "no other candidate"


class Picks(NamedTuple):
    """Which candidates make a pair, for each item and language."""

    chosen: np.ndarray  # i64[B, L], -1 where there is no pair
    rejected: np.ndarray  # i64[B, L], the same
    dropped: np.ndarray  # str[B, L], why there is none; "" where there is one


def gold_picks(
    mask: np.ndarray, gold: np.ndarray, rng: np.random.Generator, scores: np.ndarray | None = None
) -> Picks:
    """The gold candidate against a wrong one.

    Args:
      mask: bool[B, L, K], candidates that exist.
      gold: i[B], -1 unknown.
      rng: draws the wrong one, of an item the same in all languages; with scores, it decides between equal ones.
      scores: f[B, L, K], higher is better: the wrong candidate is then the hardest, the best of each language. None:
        a random one.
    """
    own = np.broadcast_to(gold[:, None], mask.shape[:2])
    labelled = (own >= 0) & np.take_along_axis(mask, np.maximum(own, 0)[:, :, None], axis=2)[:, :, 0]
    wrong = mask & (np.arange(mask.shape[2]) != own[:, :, None])
    rejected = best(np.zeros(mask.shape) if scores is None else scores, wrong, rng)
    dropped = np.where(labelled, np.where(rejected < 0, NO_OTHER, ""), NO_GOLD)
    return picks(own, rejected, dropped, mask)


def random_picks(mask: np.ndarray, rng: np.random.Generator) -> Picks:
    """DCO's pairs: two candidates drawn for each item, the same (chosen, rejected) in all its languages.

    As preference pairs they are noise by design (the order says nothing): a control. Source: the published DCO code.

    Args:
      mask: bool[B, L, K], candidates that exist.
      rng: of the draw.
    """
    present = mask.any(2)
    shared = (mask | ~present[:, :, None]).all(1)  # [B, K]
    order = np.argsort(np.where(shared, rng.random(shared.shape), 2.0), axis=1)
    enough = np.broadcast_to((shared.sum(1) >= 2)[:, None], present.shape)
    if shared.shape[1] < 2:
        order = np.zeros((len(mask), 2), np.int64)
    pair = np.broadcast_to(order[:, None, :2], (*present.shape, 2))
    return picks(pair[..., 0], pair[..., 1], np.where(enough, "", NO_OTHER), mask)


def best(scores: np.ndarray, allowed: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """i64[B, L]: the allowed candidate of the highest score, -1 where none is allowed.

    Among equal scores each is as likely as the other, and the draw is the same in all languages of an item.
    """
    scores = np.where(allowed, scores, -np.inf)
    top = allowed & (scores == scores.max(axis=2, keepdims=True))
    drawn = np.where(top, rng.random((len(scores), 1, scores.shape[2])), -1.0).argmax(axis=2)
    return np.where(allowed.any(2), drawn, -1)


def picks(chosen: np.ndarray, rejected: np.ndarray, dropped: np.ndarray, mask: np.ndarray) -> Picks:
    """`Picks` with -1 where something was dropped, or the item lacks the language (mask bool[B, L, K])."""
    dropped = np.where(mask.any(2), dropped, ABSENT)
    kept = dropped == ""
    return Picks(np.where(kept, chosen, -1), np.where(kept, rejected, -1), dropped)


def picked_pairs(
    given: Given,
    picked: Picks,
    scores: np.ndarray | None = None,
    provenance: Callable[[int, int], dict[str, Any]] = lambda b, l: {},
) -> list[Pair]:
    """Picks as pairs, item by item; each tells what `provenance(b, l)` gives, and its own of the scores f[B, L, K].

    Where two candidates that differ by index are the same text in a language (published benchmarks have such), there is
    no pair in it.
    """
    pairs = []
    for b, item in enumerate(given.items):
        for l, language in enumerate(given.languages):
            why = picked.dropped[b, l]
            if why == ABSENT:
                continue
            chosen, rejected = pair = int(picked.chosen[b, l]), int(picked.rejected[b, l])
            texts = item.candidates[language]
            if not why and texts[chosen] == texts[rejected]:
                why = SAME_TEXT
            if why:
                given.summary.drop(language, str(why))
                continue
            told = {
                "selection": given.summary.name,
                "chosen": chosen,
                "rejected": rejected,
                **provenance(b, l),
            }
            if scores is not None:
                told["scores"] = [round(float(scores[b, l, k]), 6) for k in pair]
            prompt = open_prompt(item, language)
            answers = texts[chosen], texts[rejected]
            pairs.append(Pair(item.id, language, prompt, *answers, told, item.written))
            given.summary.keep(language)
    return pairs


def _gold_pairs(given: Given) -> list[Pair]:
    mask, gold = item_arrays(given.items, given.languages)
    for cells, item in zip(mask, given.items, strict=True):
        others = set(range(item.num_candidates)) - {item.gold, *item.wrong}
        cells[:, list(others)] = False  # right, too: neither learnt nor rejected
    scores = given.tools.scores() if given.options.rejected == "hardest" else None
    return picked_pairs(given, gold_picks(mask, gold, np.random.default_rng(given.seed), scores), scores)


def _random_pairs(given: Given) -> list[Pair]:
    mask, _ = item_arrays(given.items, given.languages)
    return picked_pairs(given, random_picks(mask, np.random.default_rng(given.seed)))


GOLD = Selection(_gold_pairs, labels=True, takes=lambda _: ("rejected",))
RANDOM = Selection(_random_pairs)
