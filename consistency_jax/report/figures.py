"""The figures: one row says all that is known of one. A new metric is a function in metrics/ and a row in `FIGURES`.

report.json, report.html, the tables on the terminal and those of `compare` read these rows and know no figure by name,
but for the charts that are drawn of CLC and accuracy.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from consistency_jax.data.examples import ANCHOR
from consistency_jax.metrics.accuracy import correct, labelled, mother_tongue_effect
from consistency_jax.metrics.agreement import (
    agreement_if_either_right,
    all_agree,
    all_agree_but_wrong,
    all_right,
    changed_answers,
    drawn_agreement,
    top1_agreement,
)
from consistency_jax.metrics.distribution import entropy, log_probabilities
from consistency_jax.metrics.divergence import both_ways, divergences, fit_temperatures
from consistency_jax.metrics.generation import Matches, generated_agreement
from consistency_jax.metrics.kappa import alpha_of, alpha_parts, capa_of, capa_parts, fleiss_of, fleiss_parts
from consistency_jax.metrics.rankc import clc_values
from consistency_jax.metrics.safety import pag
from consistency_jax.metrics.written import pair_cosines, spearman_of, spearman_parts
from consistency_jax.report.columns import LANGUAGES, PAIRS, SINGLE, Columns, Figure, columns_of, tells
from consistency_jax.table import Table

KIND = "jensen_shannon"  # of the fitted temperatures and the tolerance curve: symmetric, and it has a bound


@dataclass(frozen=True)
class Ranked:
    """What `FIGURES` are made of: a table, ranked by a normalisation, and the table before (itself, before training).

    scores: f64[N, L, K], higher is better; mask: bool[N, L, K]; gold: as metrics take it.
    sums: f64[N, L, K], sums of log-probabilities: what distributions over candidates are made of.
    temperatures: f64[L, L], fitted to each ordered pair of languages.
    groups: of each item; () where it has none.
    """

    table: Table
    normalization: str
    before: Table | None = None  # None: of a model alone
    groups: Sequence[str] = ()

    mask = property(lambda self: self.table.mask)
    gold = property(lambda self: self.table.gold)

    @functools.cached_property
    def scores(self) -> np.ndarray:
        return self.table.scores(self.normalization)

    @functools.cached_property
    def sums(self) -> np.ndarray:
        return self.table.scores("sum")

    @functools.cached_property
    def clc(self) -> np.ndarray:
        """f64[N, P]: 100 * RankC."""
        return clc_values(self.scores, self.mask)

    @functools.cached_property
    def temperatures(self) -> np.ndarray:
        return fit_temperatures(self.sums, self.mask, KIND)

    def round_trip(self, kind: str, temperature: float | np.ndarray = 1.0) -> np.ndarray:
        """f64[N, P]: the divergence of each two languages, mean of both directions."""
        return both_ways(divergences(self.sums, self.mask, kind, temperature))


def measured(figures: Sequence[Figure], source: Any, languages: int) -> Columns:
    """The columns of rows, all of one source; NaN where they need more than is known of a table."""
    known = source.table.known if isinstance(source, Ranked) else "scores"
    return columns_of(
        {
            figure: figure.columns(source)
            if tells(known, figure)
            else np.full((len(source.mask), figure.block.size(languages)), np.nan)
            for figure in figures
        },
        languages,
    )


def _both_right(r: Ranked) -> tuple[np.ndarray, np.ndarray]:
    both, either = agreement_if_either_right(r.scores, r.gold, r.mask)
    share = np.divide(both, either, out=np.full(both.shape, np.nan), where=either > 0)
    return 100 * share, np.nan_to_num(either)


def _where_known(r: Ranked) -> tuple[np.ndarray, np.ndarray]:
    known = 1 - (1 - np.nan_to_num(correct(r.scores, r.gold, r.mask))).prod(1)
    return r.clc, np.repeat(known[:, None], r.clc.shape[1], axis=1)


def _mother_tongue(r: Ranked) -> np.ndarray:
    languages = list(r.table.languages)
    places = [languages.index(name) if name in languages else -1 for name in r.groups] or [-1] * len(r.mask)
    anchor = languages.index(ANCHOR) if ANCHOR in languages else None
    return 100 * mother_tongue_effect(r.scores, r.gold, np.array(places), anchor, r.mask)


def _or_nan(values: np.ndarray | None, shape: Sequence[int]) -> np.ndarray:
    return np.full(shape, np.nan) if values is None else values


def _drawn(r: Ranked) -> np.ndarray:
    return 100 * drawn_agreement(np.exp(log_probabilities(r.sums, r.mask)), r.mask)


def _divergence(kind: str, label: str, definition: str, columns: Callable | None = None) -> Figure:
    columns = columns or (lambda r: r.round_trip(kind))
    about = {"better": False, "definition": definition, "section": "divergence"}
    return Figure(f"divergence_{kind}", PAIRS, columns, label, **about)


CLC = Figure(
    "clc",
    PAIRS,
    lambda r: r.clc,
    "CLC",
    definition="100 times RankC, how alike two languages a, b rank the K candidates of a question (1 for the same "
    "order): mean over questions, then over pairs. A language’s consistency with "
    "the others is the mean over its pairs.",
    derived=("matrix", "groups"),
    headline=("clc_all", "clc_en"),
    terminal="CLC (RankC x 100)",
    compare=("clc_all", "clc_en"),
)
TOP1 = Figure(
    "top1_agreement",
    PAIRS,
    lambda r: 100 * top1_agreement(r.scores, r.mask),
    "Same first answer",
    definition="Share of questions for which two languages put the same candidate first.",
    derived=("matrix", "groups"),
    headline=("top1_agreement_all", "top1_agreement_en"),
    terminal="Same first answer, %",
    compare=("top1_agreement_all", "top1_agreement_en"),
    needs="texts",
)
ACCURACY = Figure(
    "accuracy",
    LANGUAGES,
    lambda r: 100 * correct(r.scores, r.gold, r.mask),
    "Accuracy",
    definition="Share of questions whose true answer, or one of several, is ranked first; of a tie for the first place "
    "counts the share that is right. Questions without a known answer are left out. The variance is in squared "
    "percentage points; the gap between the best and the worst language grows with the number of languages, and where "
    "questions are few.",
    derived=("variance", "gap", "groups"),
    headline=("accuracy_en", "accuracy_non_en"),
    terminal="Accuracy, %",
    compare=("accuracy_en", "accuracy_non_en", "accuracy_low"),
    needs="texts",
)
FIGURES = [  # in the page's order
    CLC,
    Figure(
        "clc_corrected",
        PAIRS,
        lambda r: clc_values(r.scores, r.mask, corrected=True),
        "CLC corrected for chance",
        definition="For each question, with what two random rankings reach on average (0.38 for 4 candidates, 0.16 "
        "for 10), so that these stand at 0.",
    ),
    Figure(
        "clc_norm1",
        PAIRS,
        lambda r: clc_values(r.scores, r.mask, weights="norm1"),
        "CLC with norm1 weights",
        definition="With weights w_j ∝ K−j+1.",
    ),
    Figure(
        "clc_norm2",
        PAIRS,
        lambda r: clc_values(r.scores, r.mask, weights="norm2"),
        "CLC with norm2 weights",
        definition="With weights w_j ∝ (K−j+1)².",
    ),
    TOP1,
    Figure(
        "drawn_agreement",
        PAIRS,
        _drawn,
        "Same answer drawn",
        definition="The chance that two languages give the same answer when each draws one: from the distribution over "
        "candidates, or from the answers that were drawn.",
        needs="texts",
    ),
    Figure(
        "agreement_if_either_right",
        PAIRS,
        _both_right,
        "Both right, where either is",
        definition="Share that both languages get right, of the questions that at least one of the two gets right: "
        "|R ∩ R′| / |R ∪ R′| (also called correct overlap).",
        needs="texts",
    ),
    Figure(
        "clc_known",
        PAIRS,
        _where_known,
        "CLC, where some language is right",
        definition="Of the questions that the model answers right in at least one language: what it knows somewhere, "
        "does it know it everywhere?",
    ),
    Figure(
        "capa",
        PAIRS,
        lambda r: capa_parts(r.scores, r.gold, r.mask),
        "Same first answer, beyond accuracy (CAPA x 100)",
        of_means=lambda means: 100 * capa_of(means),
        definition="κ = (same − expected) / (1 − expected), with what two languages of these accuracies have in common "
        "if each is right, and picks its wrong answers, by chance: 0 for that, 100 for the same answers.",
        needs="answers",
    ),
    Figure(
        "capa_p",
        PAIRS,
        lambda r: capa_parts(r.sums, r.gold, r.mask, probabilities=True),
        "Same answer drawn, beyond accuracy (κₚ x 100)",
        of_means=lambda means: 100 * capa_of(means),
        definition="The same of answers drawn from the distribution over candidates, so that all of it counts.",
    ),
    Figure(
        "fleiss_kappa",
        SINGLE,
        lambda r: fleiss_parts(r.scores, r.mask),
        "Fleiss’ kappa x 100",
        of_means=lambda means: 100 * fleiss_of(means),
        definition="Of the first answers of all languages at once, beyond what the share of each place among the "
        "candidates (A to D of an exam) gives; of the questions that all languages have. Where the right answer has "
        "one place in all questions, this is agreement beyond accuracy, too.",
        needs="answers",
    ),
    Figure(
        "krippendorff_alpha",
        SINGLE,
        lambda r: alpha_parts(r.scores, r.mask),
        "Krippendorff’s alpha x 100",
        of_means=lambda means: 100 * alpha_of(means),
        definition="The same, also of questions that some languages lack, and corrected for few questions.",
        needs="answers",
    ),
    Figure(
        "all_agree",
        SINGLE,
        lambda r: 100 * all_agree(r.scores, r.mask),
        "All languages answer alike",
        definition="Share of questions, over all languages that have the question at once; so are the next two.",
        needs="texts",
    ),
    Figure(
        "all_right",
        SINGLE,
        lambda r: 100 * all_right(r.scores, r.gold, r.mask),
        "All languages right",
        needs="texts",
    ),
    Figure(
        "all_agree_but_wrong",
        SINGLE,
        lambda r: 100 * all_agree_but_wrong(r.scores, r.gold, r.mask),
        "All languages agree on a wrong answer",
        better=None,
        needs="texts",
    ),
    ACCURACY,
    Figure(
        "xac",
        PAIRS,
        lambda r: spearman_parts(_or_nan(r.table.chrf, r.mask.shape[:2])),
        "Near to what is right on the same questions (xAC x 100)",
        of_means=lambda means: 100 * spearman_of(means),
        definition="Of answers in words: Spearman’s correlation, over questions, of how near two languages’ answers "
        "are to what is right (chrF). Intervals hold the ranks fixed.",
        needs="texts",
    ),
    Figure(
        "xsc",
        PAIRS,
        lambda r: 100 * pair_cosines(_or_nan(r.table.vectors, (*r.mask.shape[:2], 1))),
        "Near to each other in meaning (xSC x 100)",
        definition="Of answers in words: the cosine of two languages’ answers as sentence vectors.",
        needs="texts",
    ),
    Figure(
        "mother_tongue",
        LANGUAGES,
        _mother_tongue,
        "Mother-tongue effect",
        better=None,
        definition="Of the questions that come from a language (their group is its name): accuracy when asked in it, "
        "less accuracy when asked in English.",
        needs="texts",
    ),
    Figure(
        "changed",
        LANGUAGES,
        lambda r: 100 * changed_answers(r.before.scores(r.normalization), r.scores, r.mask),
        "Answers changed",
        better=None,
        definition="Share of questions whose first answer differs from the one before: wrong answers that became "
        "right, right ones that became wrong, and those replaced by another wrong one, or by another right one of "
        "several.",
        of_change=True,
        compare=("changed_en",),
    ),
    Figure("entropy", LANGUAGES, lambda r: entropy(r.sums, r.mask), "Entropy", better=None, section=""),
    _divergence("jensen_shannon", "Jensen-Shannon", "At most log 2:"),
    _divergence(
        "fitted",
        "Jensen-Shannon, T fitted to each pair",
        "With the T ≥ 0 that has the least mean divergence of its ordered pair; intervals hold it fixed.",
        lambda r: r.round_trip(KIND, r.temperatures),
    ),
    _divergence("kl", "KL", "Σ p log(p/q)"),
    _divergence("total_variation", "Total variation", "½ Σ |p−q|"),
    _divergence("squared_hellinger", "Squared Hellinger", "½ Σ (√p−√q)²"),
    _divergence("chi_squared", "Chi-squared", "Σ (p−q)²/q"),
]


def leading(known: Mapping[str, Any]) -> Figure:
    """What stands first, of known values by key: CLC, or the same first answer where nothing tells more."""
    return TOP1 if known.get("clc_all") is None and known.get("top1_agreement_all") is not None else CLC


def figures_of(alone: bool) -> list[Figure]:
    """The rows of `FIGURES` that a report has, before and after or of a model alone."""
    return [figure for figure in FIGURES if not (alone and figure.of_change)]


# ------------------------------------------------------------------------------------------- of the model's own answers
class Answers(NamedTuple):
    """What `FREE_TEXT` is made of: free-text answers as places in the candidate table, and gold as metrics take it."""

    matches: Matches
    gold: np.ndarray


def _matched(a: Answers) -> np.ndarray:
    return 100 * np.where(a.matches.answered, a.matches.matched, np.nan)


def _right(a: Answers) -> np.ndarray:
    known = a.matches.answered & labelled(a.gold)[:, None]
    return 100 * np.where(known, np.nan_to_num(correct(a.matches.scores, a.gold, a.matches.mask)), np.nan)


FREE_TEXT = [
    Figure(
        "matched",
        LANGUAGES,
        _matched,
        "One of the candidates",
        definition="Share of answers that are one of the question’s candidates in its own language: exactly, or "
        "without regard to case, width, punctuation and spacing. The answer is the text behind the question, up to its "
        "end.",
        terminal="Answers that are a candidate, %",
    ),
    Figure(
        "right",
        LANGUAGES,
        _right,
        "Right",
        definition="Share of all answers that are the true one.",
        terminal="Right answers, %",
    ),
    Figure(
        "agreement",
        PAIRS,
        lambda a: 100 * generated_agreement(a.matches)[0],
        "Same answer, where both match",
        definition="Share of questions for which two languages gave the same candidate, where both gave one.",
        terminal="Same answer, where both are a candidate, %",
        derived=("matrix",),
    ),
    Figure(
        "agreement_strict",
        PAIRS,
        lambda a: 100 * generated_agreement(a.matches)[1],
        "Same answer, unmatched ones disagree",
        definition="The same, of all answers.",
        terminal="Same answer, of all, %",
    ),
]
SAFETY = [  # of verdicts f64[N, L], 1 where a response refuses; safer is more of one kind of prompt, less of the other
    Figure(
        "refused",
        LANGUAGES,
        lambda verdicts: 100 * verdicts,
        "Refused",
        better=None,
        definition="Share of responses that refuse (verdict 1); of harmless prompts this is over-refusal. The variance "
        "is in squared percentage points.",
        terminal="Refused, %",
        derived=("variance",),
    ),
    Figure(
        "pag",
        PAIRS,
        lambda verdicts: 100 * pag(verdicts),
        "Same verdict (PAG)",
        better=None,
        definition="Pairwise agreement of the verdicts v of two languages, mean over prompts, then pairs:",
        terminal="Same verdict (PAG), %",
        derived=("matrix",),
    ),
]
