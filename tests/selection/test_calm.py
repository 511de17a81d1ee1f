"""CALM: votes by likelihoods and by answers, and the pairs that each gives."""

import re
from collections import Counter

import numpy as np
import pytest
from score_tables import random_table
from table_generator import TableGenerator

from consistency_jax.config.defaults import default
from consistency_jax.data.items import ParallelItem
from consistency_jax.generation import Cut
from consistency_jax.selection import calm
from consistency_jax.selection.calm import Answer, likelihood_picks, pooled_majority, sampled_pairs, vote
from consistency_jax.selection.candidates import ABSENT
from consistency_jax.selection.letters import lettered_question
from consistency_jax.selection.needs import Given, Tools
from consistency_jax.selection.summary import Summary

LANGUAGES = ("en", "de", "ru", "sw")


def world(seed, count=60):
    """Items, and a table (id, language) -> three answers of which some cannot be read."""
    rng = np.random.default_rng(seed)
    items, table = [], {}
    for n in range(count):
        have = [language for language in LANGUAGES if rng.random() < 0.9] or ["en"]
        texts = {language: tuple(f" {language}{k}" for k in range(3)) for language in have}
        items.append(
            ParallelItem(f"q{n}", "", {language: f"q{n} in {language}?" for language in have}, texts)
        )
        sure = rng.random() < 0.3
        for language in have:
            letters = rng.choice(list("AAABC?"), 3) if not sure else ["A"] * 3
            table[f"q{n}", language] = [f"{language} says {s}. Answer: {x}" for s, x in enumerate(letters)]
    return items, table


def generator_of(table):
    def answer(prompt, s):
        number, language = re.match(r"(q\d+) in (\w+)\?", prompt).groups()
        return table[number, language][s]

    return TableGenerator(answer)


def made(items, table, translate, **options):
    config = default().selection
    config.update(options)
    summary = Summary("calm", LANGUAGES)
    tools = Tools(
        scores=None,
        generator=lambda: generator_of(table),
        encoder=None,
        translator=lambda: lambda requests: [translate(*request) for request in requests],
    )
    pairs = sampled_pairs(Given(config, items, LANGUAGES, tools, summary, seed=0))
    return pairs, summary.to_json()


@pytest.mark.parametrize("seed", range(3))
def test_every_dissenting_sample_gives_one_pair_against_the_majority(seed):
    items, table = world(seed)
    pairs, summary = made(items, table, lambda text, source, target: f"<{source}>{target}: {text}")
    found = Counter((pair.id, pair.language, pair.rejected) for pair in pairs)
    assert max(found.values()) == 1
    expected = set()
    for item in items:
        pool = {language: table[item.id, language] for language in item.languages}
        letters = Counter(text[-1] for texts in pool.values() for text in texts if text[-1] != "?")
        voters = sum(any(text[-1] != "?" for text in texts) for texts in pool.values())
        most = letters.most_common(2)
        if voters < 3 or len(most) == 2 and most[0][1] == most[1][1]:
            continue
        winner = most[0][0]
        for language, texts in pool.items():
            expected |= {(item.id, language, text) for text in texts if text[-1] not in (winner, "?")}
        for pair in pairs:
            if pair.id != item.id:
                continue
            source = pair.provenance["chosen_from"]
            foreign = source != pair.language
            original = pair.chosen.removeprefix(f"<{source}>{pair.language}: ")
            assert foreign == (original != pair.chosen)
            assert original in pool[source]
            assert original[-1] == winner
            assert pair.chosen != pair.rejected
            assert pair.prompt == lettered_question(item, pair.language)
    assert set(found) == expected
    for language, counts in summary["languages"].items():
        assert counts["prompts"] == sum(language in item.prompts for item in items)
        assert counts["kept"] + sum(counts["dropped"].values()) == counts["prompts"]
        assert counts["pairs"] == sum(pair.language == language for pair in pairs)


@pytest.mark.parametrize("seed", range(3))
def test_ties_and_positives_as_the_published_code_has_them(seed):
    """`Counter(letters).most_common(1)` of the pool in its order, and the last answer there with that letter."""
    items, table = world(seed)
    untied = len(made(items, table, lambda text, source, target: text)[0])
    pairs, _ = made(items, table, lambda text, source, target: text, ties="first", positive="last")
    expected = Counter()
    for item in items:
        pool = [(l, text, text[-1]) for l in item.languages for text in table[item.id, l] if text[-1] != "?"]
        if len({language for language, _, _ in pool}) < 3:
            continue
        winner = Counter(letter for _, _, letter in pool).most_common(1)[0][0]
        source, chosen = [(language, text) for language, text, letter in pool if letter == winner][-1]
        expected |= Counter(
            (item.id, l, source, chosen, text) for l, text, letter in pool if letter != winner
        )
    assert (
        Counter((p.id, p.language, p.provenance["chosen_from"], p.chosen, p.rejected) for p in pairs)
        == expected
    )
    assert len(pairs) > untied


def test_no_end_is_trained_behind_pairs_with_an_answer_that_was_cut_or_its_translation():
    items, table = world(0)
    table = {key: [Cut(text) if key[1] == "de" else text for text in texts] for key, texts in table.items()}
    pairs, told = made(items, table, lambda text, source, target: f"{text} {target}")
    cut = ["de" in (pair.language, pair.provenance["chosen_from"]) for pair in pairs]
    assert [pair.written for pair in pairs] == [not one for one in cut]
    assert 0 < told["cut"] == sum(cut) < len(cut)


def test_without_a_translation_only_answers_in_the_language_itself_are_chosen():
    items, table = world(1)
    pairs, summary = made(items, table, lambda text, source, target: None)
    assert {pair.provenance["chosen_from"] == pair.language for pair in pairs} == {True}
    assert sum(counts["dropped"].get(calm.UNTRANSLATED, 0) for counts in summary["languages"].values()) > 0


def test_none_where_all_agree_and_none_where_votes_are_tied():
    def answers(*options):
        return [Answer(language, "text", k) for language, k in zip(LANGUAGES, options, strict=False)]

    assert pooled_majority(answers(1, 1, 1), 3) == (1, [0, 3, 0], "")
    assert pooled_majority(answers(1, 1, 0, 0), 3) == (-1, [2, 2, 0], calm.TIED)
    assert pooled_majority(answers(1, 1, -1), 3) == (-1, [0, 2, 0], calm.TOO_FEW)
    assert pooled_majority(answers(-1, -1, -1), 3) == (-1, [0, 0, 0], calm.TOO_FEW)
    items, table = world(0)
    agreeing = {place: ["Answer: A"] * 3 for place in table}
    pairs, summary = made(items, agreeing, lambda text, source, target: text)
    assert pairs == []
    assert {why for c in summary["languages"].values() for why in c["dropped"]} <= {calm.AGREES, calm.TOO_FEW}


def own_answer(scores, mask):
    """The one candidate that scores best, None where two do or none is there."""
    there = [(score, k) for k, (score, in_it) in enumerate(zip(scores, mask, strict=True)) if in_it]
    top = [k for score, k in there if score == max(there)[0]]
    return top[0] if len(top) == 1 else None


def expected_calm(scores, mask):
    """(winner or None, own answers) of one item [L, K], by counting."""
    own = [own_answer(*cell) for cell in zip(scores, mask, strict=True)]
    votes = Counter(k for k in own if k is not None).most_common()
    tied = len(votes) > 1 and votes[0][1] == votes[1][1]
    return (votes[0][0] if votes and not tied and sum(n for _, n in votes) >= 3 else None), own


@pytest.mark.parametrize("seed", range(3))
def test_calm_is_plurality_of_the_likeliest(seed):
    scores, mask, _ = random_table(seed)
    picked, votes = likelihood_picks(scores, mask, np.random.default_rng(0))
    drawn, _ = likelihood_picks(scores, mask, np.random.default_rng(0), agreeing="random")
    reasons = Counter()
    for b in range(len(mask)):
        winner, own = expected_calm(scores[b], mask[b])
        assert votes.winner[b] == (-1 if winner is None else winner)
        for l in range(mask.shape[1]):
            why = picked.dropped[b, l]
            reasons[why] += 1
            assert (why == ABSENT) == (not mask[b, l].any())
            if mask[b, l].any() and winner is not None and own[l] not in (None, winner):
                expected = (winner, own[l])
                assert (drawn.chosen[b, l], drawn.rejected[b, l]) == expected
            else:
                expected = (-1, -1)
                assert why != ""
            assert (picked.chosen[b, l], picked.rejected[b, l]) == expected
            if why == calm.AGREES:
                assert own[l] == winner
                others = mask[b, l].sum() > 1
                assert (drawn.dropped[b, l] == "") == others
                if others:
                    assert drawn.chosen[b, l] == winner != drawn.rejected[b, l]
                    assert mask[b, l, drawn.rejected[b, l]]
    assert set(reasons) == {"", ABSENT, calm.AGREES, calm.TIED, calm.TOO_FEW, calm.UNDECIDED}


def test_the_vote_does_not_depend_on_the_order_of_candidates_or_languages():
    scores, mask, _ = random_table(7)
    mask[:] = mask.any(2, keepdims=True)  # so that candidates can be moved
    rng = np.random.default_rng(1)
    languages, candidates = rng.permutation(5), rng.permutation(4)
    plain = vote(scores, mask)
    moved = vote(scores[:, languages][:, :, candidates], mask[:, languages][:, :, candidates])
    back = np.append(candidates, -1)
    np.testing.assert_array_equal(plain.winner, back[moved.winner])
    np.testing.assert_array_equal(plain.own[:, languages], back[moved.own])
