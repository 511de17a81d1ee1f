"""CALM (arXiv 2501.18457): where languages disagree, what most of them say is taken to be right. No labels.

Likelihood form, for given candidates (this project's derivation): a language votes for the candidate that it finds the
likeliest; what most languages vote for wins; the winner is chosen over each language's own vote where that differs.

Sampling form (the published one): each language answers each question k times, with explanations; the letters of all
answers are pooled and the majority wins; every answer of another letter is rejected for one of the majority, translated
into its language. The paper leaves open here, and this project decides: an answer without a readable letter takes no
part; ties are left out (`ties=drop`, or `first`: the published code's, the letter that comes first in the pool); the
positive is drawn at random from the pool (`positive=random`, or `last`: the published code's).

Both need three languages that vote; the likelihood form leaves tied votes out. Letters: B items, L languages, K
candidates.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from consistency_jax.data.facts import item_arrays
from consistency_jax.data.items import ParallelItem
from consistency_jax.data.preferences import Pair
from consistency_jax.generation import Cut
from consistency_jax.selection.candidates import Picks, best, picked_pairs, picks
from consistency_jax.selection.letters import LETTERS, lettered_question, read_letter
from consistency_jax.selection.needs import SAMPLED, Given, Request, Selection, Translate

VOTERS = 3  # languages that must vote
SAMPLES = 3  # answers to a question in each language, where selection.samples is 0
TOO_FEW, TIED, AGREES = f"fewer than {VOTERS} languages vote", "the vote is tied", "agrees with the majority"
UNDECIDED = "its own best candidates are tied"
UNREAD, UNTRANSLATED = "no answer names an option", "no answer of the majority could be translated"


class Vote(NamedTuple):
    """What languages vote for."""

    own: np.ndarray  # i64[B, L], -1 where a language has no vote
    counts: np.ndarray  # i64[B, K]
    winner: np.ndarray  # i64[B], -1 where the vote is tied or too few languages vote


def vote(scores: np.ndarray, mask: np.ndarray) -> Vote:
    """Plurality of the languages' likeliest candidates.

    A language whose best score belongs to two candidates has no vote: neither of them is its answer.

    Args:
      scores: f[B, L, K], higher is better.
      mask: bool[B, L, K], candidates that exist.
    """
    scores = np.where(mask, scores, -np.inf)
    top = mask & (scores == scores.max(axis=2, keepdims=True))
    own = np.where(top.sum(2) == 1, top.argmax(2), -1)
    counts = (own[:, :, None] == np.arange(mask.shape[2])).sum(1)
    return Vote(own, counts, np.where((own >= 0).sum(1) >= VOTERS, plurality(counts), -1))


def plurality(counts: np.ndarray) -> np.ndarray:
    """i64[B]: what has the most votes in counts i[B, K], -1 where two have them or there are none."""
    most = counts.max(axis=1, keepdims=True)
    return np.where(((counts == most).sum(1) == 1) & (most[:, 0] > 0), counts.argmax(1), -1)


def likelihood_picks(
    scores: np.ndarray, mask: np.ndarray, rng: np.random.Generator, *, agreeing: str = "drop"
) -> tuple[Picks, Vote]:
    """The winner of the vote against each language's own answer.

    Args:
      scores: f[B, L, K], higher is better.
      mask: bool[B, L, K], candidates that exist.
      rng: draws the rejected candidate where a language agrees and `agreeing` is "random".
      agreeing: "drop": a language that agrees with the winner gives no pair; "random": the winner is chosen over
        another candidate, a random one.
    """
    votes = vote(scores, mask)
    own, winner = votes.own, np.broadcast_to(votes.winner[:, None], votes.own.shape)
    voters = np.broadcast_to((own >= 0).sum(1, keepdims=True), own.shape)
    agrees = own == winner
    others = mask & (np.arange(mask.shape[2]) != winner[:, :, None])
    drawn = best(np.zeros(mask.shape), others, rng)
    reasons = [
        (voters < VOTERS, TOO_FEW),
        (winner < 0, TIED),
        (own < 0, UNDECIDED),
        (agrees & ((agreeing == "drop") | (drawn < 0)), AGREES),
    ]
    dropped = np.select([where for where, _ in reasons], [why for _, why in reasons], "")
    return picks(winner, np.where(agrees, drawn, own), dropped, mask), votes


def _likelihood_pairs(given: Given) -> list[Pair]:
    mask, _ = item_arrays(given.items, given.languages)
    scores = given.tools.scores()
    rng = np.random.default_rng(given.seed)
    picked, votes = likelihood_picks(scores, mask, rng, agreeing=given.options.agreeing)

    def provenance(b: int, l: int) -> dict[str, Any]:
        return {"form": "likelihood", "votes": votes.counts[b].tolist(), "own": int(votes.own[b, l])}

    return picked_pairs(given, picked, scores, provenance)


class Answer(NamedTuple):
    """One sampled answer: where it comes from, and the option that it names (-1: none that could be read)."""

    language: str
    text: str
    option: int


def pooled_majority(
    answers: Sequence[Answer], options: int, ties: str = "drop"
) -> tuple[int, list[int], str]:
    """The option that most answers of all languages name, -1 where there is none; the counts; why there is none.

    Of several that have most, with `ties` "first", the one that an answer names first.
    """
    named = [answer for answer in answers if answer.option >= 0]
    counts = np.bincount(np.array([answer.option for answer in named], np.int64), minlength=options)
    if len({answer.language for answer in named}) < VOTERS:
        return -1, counts.tolist(), TOO_FEW
    winner = int(plurality(counts[None])[0])
    if ties == "first":
        winner = next(answer.option for answer in named if counts[answer.option] == counts.max())
    return winner, counts.tolist(), TIED if winner < 0 else ""


def sampled_pairs(given: Given) -> list[Pair]:
    """Pairs of sampled answers; a pair's prompt is the question with its lettered options, as it was asked.

    Only answers of the majority in another language are translated.
    """
    items, languages, summary = given.items, given.languages, given.summary
    # Now, not when all is answered: there may be none by that name.
    translate = given.tools.translator()
    places = [(item, language) for item in items for language in languages if language in item.prompts]
    prompts = [
        lettered_question(item, language, given.options.instructions.get(language))
        for item, language in places
    ]
    texts = given.answers(prompts, SAMPLES)
    asked: dict[str, dict[str, tuple[str, list[Answer]]]] = {item.id: {} for item in items}
    for (item, language), prompt, own in zip(places, prompts, texts, strict=True):
        answers = [Answer(language, text, read_letter(text, item.num_candidates)) for text in own]
        asked[item.id][language] = prompt, answers
    decided, dissents = [], []
    for b, item in enumerate(items):
        by_language = asked[item.id]
        pool = [answer for _, answers in by_language.values() for answer in answers]
        winner, counts, undecided = pooled_majority(pool, item.num_candidates, given.options.ties)
        told = {"selection": summary.name, "form": "sampling", "votes": counts, "winner": winner}
        majority = [answer for answer in pool if answer.option == winner]
        for l, language in enumerate(languages):
            if language not in by_language:
                continue
            prompt, answers = by_language[language]
            rng = np.random.default_rng((given.seed, b, l))
            tried = functools.partial(_tried, majority, given.options.positive, rng)
            reason, own = (undecided, []) if undecided else _against(winner, answers, tried)
            decided.append((item, language, prompt, told, reason, len(own)))
            dissents += own
    found = iter(_chosen(dissents, translate))
    pairs = []
    for item, language, prompt, told, reason, count in decided:
        before = len(pairs)
        for chosen, text, answer in filter(None, itertools.islice(found, count)):
            more = {"chosen_from": chosen.language, "rejected_option": answer.option}
            whole = not isinstance(chosen.text, Cut)
            text = text if whole else Cut(text)  # nor is a translation of half an answer whole
            pairs.append(given.sampled_pair(item.id, language, prompt, text, answer.text, told | more))
        if len(pairs) > before:
            summary.keep(language, len(pairs) - before)
        else:
            summary.drop(language, reason)
    return pairs


class _Dissent(NamedTuple):
    """An answer to be rejected, and answers of the majority in the order in which they are tried against it."""

    answer: Answer
    majority: list[Answer]


def _tried(majority: Sequence[Answer], positive: str, rng: np.random.Generator) -> list[Answer]:
    """The majority's answers in the order in which they are tried against one that is rejected."""
    places = range(len(majority))[::-1] if positive == "last" else rng.permutation(len(majority))
    return [majority[place] for place in places]


def _against(
    winner: int, answers: Sequence[Answer], tried: Callable[[], list[Answer]]
) -> tuple[str, list[_Dissent]]:
    """One language's answers to be rejected; and why it has no pair, where it comes to none."""
    if all(answer.option < 0 for answer in answers):
        return UNREAD, []
    others = [answer for answer in answers if answer.option not in (-1, winner)]
    dissents = [_Dissent(answer, tried()) for answer in others if answer.text.strip()]
    return (UNTRANSLATED if others else AGREES), dissents


def _chosen(dissents: Sequence[_Dissent], translate: Translate) -> list[tuple[Answer, str, Answer] | None]:
    """For each: the first answer of the majority that has a text in its language, that text, and what is rejected.

    The first ones are translated all at once, then the second ones where those failed, and so on.
    """
    found: list[tuple[Answer, str, Answer] | None] = [None] * len(dissents)
    for turn in itertools.count():
        tried = {
            n: (dissent.majority[turn], dissent.answer)
            for n, dissent in enumerate(dissents)
            if found[n] is None and turn < len(dissent.majority)
        }
        if not tried:
            return found
        asked = {
            n: Request(chosen.text, chosen.language, answer.language) for n, (chosen, answer) in tried.items()
        }
        foreign = list(
            dict.fromkeys(request for request in asked.values() if request.source != request.target)
        )
        texts = dict(zip(foreign, translate(foreign), strict=True)) if foreign else {}
        for n, (chosen, answer) in tried.items():
            text = texts.get(asked[n], chosen.text)
            if text and text.strip() and text != answer.text:
                found[n] = chosen, text, answer


def _make(given: Given) -> list[Pair]:
    return sampled_pairs(given) if given.options.form == "sampling" else _likelihood_pairs(given)


def _check(options: Any, items: Sequence[ParallelItem], languages: Sequence[str]) -> str:
    if options.form == "sampling" and max(item.num_candidates for item in items) > len(LETTERS):
        return f"selection.form='sampling' letters the candidates, and an item has more than {len(LETTERS)}"
    return ""


def _takes(options: Any) -> tuple[str, ...]:
    if options.form == "likelihood":
        return "form", "agreeing"
    return ("form", "ties", "positive", "translator", "instructions", *SAMPLED)


CALM = Selection(_make, languages=VOTERS, check=_check, takes=_takes)
