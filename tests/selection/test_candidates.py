"""Pairs of given candidates: every rule against one written out cell by cell, and what always holds."""

import types
from collections import Counter

import numpy as np
import pytest
from score_tables import random_table

from consistency_jax.data.items import ParallelItem
from consistency_jax.selection.candidates import GOLD, best, gold_picks, picked_pairs, random_picks
from consistency_jax.selection.needs import Given
from consistency_jax.selection.summary import SAME_TEXT, Summary, summary_text


@pytest.mark.parametrize("seed", range(3))
def test_gold_is_chosen_over_a_wrong_candidate(seed):
    scores, mask, gold = random_table(seed)
    hardest = gold_picks(mask, gold, np.random.default_rng(0), scores)
    drawn = gold_picks(mask, gold, np.random.default_rng(0))
    for b in range(len(mask)):
        for l in range(mask.shape[1]):
            wrong = [k for k in np.flatnonzero(mask[b, l]) if k != gold[b]]
            usable = bool(gold[b] >= 0 and wrong)
            for picked in (hardest, drawn):
                assert (picked.dropped[b, l] == "") == usable
                assert picked.chosen[b, l] == (gold[b] if usable else -1)
            if usable:
                assert drawn.rejected[b, l] in wrong
                assert hardest.rejected[b, l] in wrong
                assert scores[b, l, hardest.rejected[b, l]] == max(scores[b, l, k] for k in wrong)
        assert len({k for k in drawn.rejected[b] if k >= 0}) <= 1  # one draw for all languages


@pytest.mark.parametrize("seed", range(3))
def test_random_pairs_are_one_draw_for_all_languages(seed):
    _, mask, _ = random_table(seed)
    picked = random_picks(mask, np.random.default_rng(seed))
    for b in range(len(mask)):
        present = mask[b].any(1)
        pairs = set(
            zip(picked.chosen[b][present].tolist(), picked.rejected[b][present].tolist(), strict=True)
        )
        if present.any() and mask[b].any(0).sum() >= 2:
            ((chosen, rejected),) = pairs
            assert chosen != rejected
            assert mask[b, present][:, [chosen, rejected]].all()
        else:
            assert pairs <= {(-1, -1)}


def test_draws_favour_no_candidate():
    mask = np.ones((4000, 2, 4), bool)
    chosen, rejected, _ = random_picks(mask, np.random.default_rng(0))
    pairs = Counter(zip(chosen[:, 0].tolist(), rejected[:, 0].tolist(), strict=True))
    assert len(pairs) == 12
    # 333 of each are expected; a binomial's standard deviation is 17.5
    assert max(abs(count - 4000 / 12) for count in pairs.values()) < 5 * 17.5
    tied = Counter(best(np.zeros(mask.shape), mask, np.random.default_rng(0))[:, 1].tolist())
    assert max(abs(count - 1000) for count in tied.values()) < 5 * 27.4


def test_no_right_answer_is_rejected():
    texts = {language: (" a", " b", " c") for language in ("en", "de")}
    items = [
        ParallelItem(f"Q{n}", "", {"en": "Q", "de": "F"}, texts, gold=2, also=(0,) * (n % 2))
        for n in range(40)
    ]
    options = types.SimpleNamespace(rejected="random")
    given = Given(options, items, ("en", "de"), None, Summary("gold", ("en", "de")), seed=0)
    pairs = GOLD.make(given)
    assert {pair.chosen for pair in pairs} == {" c"}
    assert {pair.rejected for pair in pairs if not int(pair.id[1:]) % 2} == {" a", " b"}
    assert {pair.rejected for pair in pairs if int(pair.id[1:]) % 2} == {" b"}


def test_records_tell_every_prompt_once_and_never_prefer_a_text_to_itself():
    scores, mask, gold = random_table(3)
    languages = ("en", "de", "ru", "zh", "sw")
    items = []
    for b in range(len(mask)):
        have = [language for language, there in zip(languages, mask[b].any(1), strict=True) if there]
        texts = {language: tuple(f" {language}{k}" for k in range(mask[b].any(0).sum())) for language in have}
        if "de" in texts:
            texts["de"] = (" gleich",) * len(texts["de"])
        items.append(
            ParallelItem(f"Q{b}", "", dict.fromkeys(have, "Q"), texts, context=dict.fromkeys(have[:1], "C"))
        )
    summary = Summary("gold", languages)
    picked = gold_picks(mask, gold, np.random.default_rng(0), scores)
    given = Given(None, items, languages, None, summary, seed=0)
    pairs = picked_pairs(given, picked, scores, lambda b, l: {"cell": [b, l]})
    assert all(pair.chosen != pair.rejected for pair in pairs)
    assert not any(pair.language == "de" for pair in pairs)
    for pair in pairs:
        b, l = pair.provenance["cell"]
        item = items[b]
        assert (pair.id, pair.language) == (item.id, languages[l])
        assert pair.chosen == item.candidates[pair.language][pair.provenance["chosen"]]
        assert pair.provenance["chosen"] == gold[b]
        assert pair.provenance["scores"] == scores[b, l, [gold[b], pair.provenance["rejected"]]].tolist()
        assert pair.prompt == ("C\n\nQ" if pair.language in item.context else "Q")
    told = summary.to_json()
    assert told["pairs"] == len(pairs)
    for l, language in enumerate(languages):
        counts = told["languages"][language]
        assert counts["prompts"] == mask[:, l].any(1).sum()
        assert counts["kept"] + sum(counts["dropped"].values()) == counts["prompts"]
        assert counts["pairs"] == sum(pair.language == language for pair in pairs)
    assert told["languages"]["de"]["dropped"][SAME_TEXT] > 0
    assert f"{told['languages']['de']['dropped'][SAME_TEXT]} {SAME_TEXT}" in summary_text(told)
