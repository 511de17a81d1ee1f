"""One question as people look at it: how each model ranks its answers in each language, and how alike that is."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from consistency_jax.data.items import ParallelItem, open_prompt
from consistency_jax.metrics.accuracy import top_choice
from consistency_jax.metrics.distribution import log_probabilities
from consistency_jax.metrics.divergence import divergences
from consistency_jax.metrics.rankc import clc_values, pair_matrix
from consistency_jax.report.html import template
from consistency_jax.report.names import direction, language_name
from consistency_jax.table import RANKED, Table

# name of a model, its table of one item, and by language what it writes
Side = tuple[str, Table, Mapping[str, str]]


def question_view(item: ParallelItem, sides: Sequence[Side], normalization: str) -> Markup:
    """Ranked answers of each side in each language, what it writes, and RankC x 100 of each two languages.

    Args:
      item: the question of the tables.
      sides: models, each with its table and its texts; texts may be empty.
      normalization: what candidates are ranked by.
    """
    told = [_side(item, *side, normalization) for side in sides]
    languages = [
        {
            "code": code,
            "dir": direction(code),
            "prompt": open_prompt(item, code).strip(),
            "sides": [(name, ranked[place], texts.get(code)) for name, ranked, texts, _ in told],
        }
        for place, code in enumerate(item.languages)
    ]
    return Markup(
        template("question.html.j2").render(
            languages=languages,
            sides=[(name, facts) for name, *_, facts in told],
            codes=item.languages,
            pairs=len(item.languages) * (len(item.languages) - 1) // 2,
            ranked=(normalization, RANKED[normalization]),
            known=bool(item.right),
        )
    )


def _side(item: ParallelItem, name: str, table: Table, texts: Mapping[str, str], normalization: str) -> Any:
    scores, mask = table.scores(normalization), table.mask
    shares = _shares(table)
    first = top_choice(scores, mask)[0]  # [L, K], shared where several tie
    ranked = [
        [
            {
                "text": item.candidates[code][k].strip(),
                "share": 100 * shares[place, k] if normalization == "sum" else None,
                "score": scores[0, place, k],
                "first": first[place, k] > 0,
                "right": k in item.right,
            }
            for k in np.argsort(-scores[0, place, : item.num_candidates], kind="stable")
        ]
        for place, code in enumerate(item.languages)
    ]
    pairs = clc_values(scores, mask)[0]
    facts = {
        "matrix": pair_matrix(pairs, len(item.languages), np.nan).tolist(),
        "clc": float(pairs.mean()) if pairs.size and np.isfinite(pairs).all() else None,
        "alike": int((first > 0).sum(0).max()),
        "right": float(first[:, list(item.right)].sum()),  # of a tie, its share
    }
    return name, ranked, texts, facts


def round_trip_view(item: ParallelItem, sides: Sequence[Side], start: str, through: str) -> Markup:
    """The definition on one question: the answers' probabilities in `start`, and what comes back through `through`.

    Candidates are aligned by index, so that a translation there and back only renames them: what comes back is the
    other language's own distribution over the same answers.
    """
    i, j = (item.languages.index(code) for code in (start, through))
    told = []
    for name, table, _ in sides:
        shares = _shares(table)
        rows = [
            (item.candidates[start][k].strip(), item.candidates[through][k].strip(), 100 * one, 100 * other)
            for k, (one, other) in enumerate(zip(shares[i], shares[j], strict=True))
        ]
        moved = None
        if i != j and item.num_candidates > 1:
            moved = 100 * divergences(table.logp, table.mask, kind="total_variation")[0, i, j]
        told.append((name, sorted(rows, key=lambda row: -row[2]), moved))
    names = [(code, language_name(code), direction(code)) for code in (start, through)]
    return Markup(template("round_trip.html.j2").render(sides=told, start=names[0], through=names[1]))


def _shares(table: Table) -> np.ndarray:
    """f64[L, K]: softmax of the sums of log-probabilities, over the candidates of a table of one item."""
    return np.exp(log_probabilities(table.logp, table.mask))[0]
