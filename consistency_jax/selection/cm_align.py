"""CM-Align (arXiv 2509.08541): the most consistent English answer is the reference for every other language.

1. Of n sampled English answers the reference is the one most like the others.
2. Of n sampled answers in another language the one most like the reference is chosen, the one least like it rejected;
   where those two are equally alike (or differ by no more than a margin) the prompt is dropped.

What "like" means depends on the task: mathematics, the same final number (so the reference has the majority
number); code, matching tokens of normalised snippets, pairwise; general instructions, the cosine of sentence
embeddings.
The paper's n, sampling and thresholds are not published where we could read them; defaults (n 8, temperature 0.9,
top-p 0.95, margin 0) are this project's, and so are: an answer in which nothing can be read is like none (0); empty
answers take no part; of equal answers the first counts (they are exchangeable draws), but two numbers that are named
equally often, and numbers named once, are no majority.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from consistency_jax.data.items import MASK, ParallelItem, open_prompt
from consistency_jax.data.preferences import Pair
from consistency_jax.selection.encoders import Encoder
from consistency_jax.selection.final_numbers import final_number
from consistency_jax.selection.needs import SAMPLED, Given, Selection
from consistency_jax.selection.snippets import similarity, snippet
from consistency_jax.selection.summary import SAME_TEXT

SAMPLES = 8  # answers to a question in each language, where selection.samples is 0
REFERENCE, NO_REFERENCE = (
    "is the reference language",
    "no answer in the reference language agrees with the others",
)
LACKING, TIE = "the item lacks the reference language", "its answers are equally consistent"
EMPTY = "no two answers that say anything"


class Task(NamedTuple):
    """How answers are compared.

    Attributes:
      read: (texts, their languages) -> what is compared, None where nothing can be read.
      like: two of those -> 0 (or, for cosines, -1) .. 1.
      exact: whether they are alike or not, and nothing between: the reference then needs a majority.
    """

    read: Callable[[Sequence[str], Sequence[str]], list[Any]]
    like: Callable[[Any, Any], float]
    exact: bool = False


def task(name: str, encoder: Callable[[], Encoder]) -> Task:
    """The task of that name, a choice of selection.task; only "general" asks for the encoder."""
    if name == "mathematics":
        return Task(lambda texts, languages: list(map(final_number, texts, languages)), _same, exact=True)
    if name == "code":
        return Task(lambda texts, languages: [snippet(text) for text in texts], similarity)
    embed = encoder()
    return Task(lambda texts, languages: list(embed.encode(texts).astype(np.float64)), np.dot)


def _same(a: Any, b: Any) -> float:
    return float(a == b)


def likeness(a: Sequence[Any], b: Sequence[Any], like: Callable[[Any, Any], float]) -> np.ndarray:
    """f64[n, m]: how alike what was read of n and of m answers is; 0 where nothing was (None)."""
    rows = [[0.0 if x is None or y is None else like(x, y) for y in b] for x in a]
    return np.array(rows, np.float64).reshape(len(a), len(b))


def reference_answer(alike: np.ndarray, *, exact: bool = False) -> int:
    """Index of the answer most like the others on average, the first of several; -1 where there is none.

    Args:
      alike: f[n, n], symmetric; rows of answers in which nothing was read are 0, their diagonal included.
      exact: entries are 0 or 1, those alike are a group; without a largest group, of two or more, there is none.
    """
    readable = np.diag(alike) > 0
    if readable.sum() < 2:
        return -1
    mean = np.where(readable, (alike.sum(1) - np.diag(alike)) / (len(alike) - 1), -np.inf)
    first = int(mean.argmax())
    rivals = readable & (mean == mean[first]) & (alike[first] == 0)
    return -1 if exact and (mean[first] == 0 or rivals.any()) else first


def extremes(scores: np.ndarray, margin: float = 0.0) -> tuple[int, int] | None:
    """Indices of the best and the worst of scores f[n], the first of each; None where they differ by margin or less."""
    if len(scores) < 2 or not scores.max() - scores.min() > margin:
        return None
    return int(scores.argmax()), int(scores.argmin())


def consistency_pairs(given: Given) -> list[Pair]:
    """Pairs of sampled answers; an item's prompt (behind its context) is what is asked, its candidates play no part."""
    items, languages, summary = given.items, given.languages, given.summary
    reference, margin = given.options.reference, given.options.margin
    compare = task(given.options.task, given.tools.encoder)
    asked = [item for item in items if reference in item.prompts]
    places = [(item, language) for item in asked for language in languages if language in item.prompts]
    prompts = [open_prompt(item, language) for item, language in places]
    answers = [[text for text in own if text.strip()] for own in given.answers(prompts, SAMPLES)]
    flat = [(text, language) for (_, language), own in zip(places, answers, strict=True) for text in own]
    read = iter(compare.read([text for text, _ in flat], [language for _, language in flat]))
    features = [[next(read) for _ in own] for own in answers]
    number = {(item.id, language): n for n, (item, language) in enumerate(places)}

    pairs = []
    for item in items:
        in_english = number.get((item.id, reference))
        best = -1
        if in_english is not None:
            own = features[in_english]
            best = reference_answer(likeness(own, own, compare.like), exact=compare.exact)
        for language in languages:
            if language not in item.prompts:
                continue
            if language == reference:
                summary.drop(language, REFERENCE)
            elif best < 0:
                summary.drop(language, LACKING if in_english is None else NO_REFERENCE)
            else:
                n = number[item.id, language]
                scores = likeness(features[n], features[in_english][best : best + 1], compare.like)[:, 0]
                found = extremes(scores, margin)
                texts = answers[n]
                if not found:
                    summary.drop(language, TIE if len(texts) > 1 else EMPTY)
                elif texts[found[0]] == texts[found[1]]:
                    summary.drop(language, SAME_TEXT)
                else:
                    told = {
                        "selection": summary.name,
                        "reference": answers[in_english][best],
                        "scores": [round(float(score), 6) for score in scores],
                        "chosen": found[0],
                        "rejected": found[1],
                    }
                    chosen, rejected = texts[found[0]], texts[found[1]]
                    pairs.append(given.sampled_pair(item.id, language, prompts[n], chosen, rejected, told))
                    summary.keep(language)
    return pairs


def _check(options: Any, items: Sequence[ParallelItem], languages: Sequence[str]) -> str:
    if options.samples == 1:
        return "selection.samples=1: cm_align compares the answers to a question; draw 2 or more"
    if not options.temperature:
        return "selection.temperature=0: all answers to a question would be the same; set it above 0"
    if options.reference not in languages:
        return (
            f"selection.reference={options.reference!r} must be one of the languages: {', '.join(languages)}"
        )
    for item in items:
        if any(MASK in prompt for prompt in item.prompts.values()):
            return (
                f"selection.name='cm_align' asks open questions, and item {item.id!r} has a {MASK}: "
                "use calm or gold, or rewrite the prompts"
            )
    return ""


def _takes(options: Any) -> tuple[str, ...]:
    return ("task", "reference", "margin", *SAMPLED, *("encoder",) * (options.task == "general"))


CM_ALIGN = Selection(consistency_pairs, candidates=0, languages=2, check=_check, takes=_takes)
