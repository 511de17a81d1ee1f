"""The analysis in report.json: against the metrics, against answers one by one, and what is said of odd tables."""

import dataclasses

import numpy as np
import pytest
from made import GROUPS, LANGUAGES, RAGGED_ITEMS

from consistency_jax.metrics import (
    DIVERGENCES,
    accuracy,
    bootstrap_delta,
    bootstrap_mean,
    both_ways,
    clc,
    clc_values,
    divergences,
    entropy,
    experts,
    fit_temperatures,
    tolerance_curve,
)
from consistency_jax.report import summarise

NEAR = {"abs": 1e-6}  # figures are rounded to six digits


@pytest.fixture(scope="module")
def tables(ragged):
    return ragged


@pytest.fixture(scope="module")
def summary(ragged_summary):
    return ragged_summary


def test_divergences_in_the_figures(tables, summary):
    for key, table in zip(("base", "final"), tables):
        figures, sums = summary[key]["test"], table.scores("sum")
        for kind in set(DIVERGENCES) - {"reverse_kl"}:
            values = both_ways(divergences(sums, table.mask, kind))
            assert figures[f"divergence_{kind}_all"] == pytest.approx(np.nanmean(values, 0).mean(), **NEAR)
            assert figures[f"divergence_{kind}_en"] == pytest.approx(np.nanmean(values, 0)[:3].mean(), **NEAR)
        fitted = fit_temperatures(sums, table.mask)
        found = summary["analysis"]["test"]["divergence"]
        np.testing.assert_allclose(found["temperature"][key], fitted, atol=1e-6)
        values = both_ways(divergences(sums, table.mask, temperature=fitted))
        assert figures["divergence_fitted_all"] == pytest.approx(np.nanmean(values, 0).mean(), **NEAR)
        curve = 100 * tolerance_curve(values, found["tolerance"]["epsilon"]).mean(1)
        np.testing.assert_allclose(found["tolerance"][f"{key}_fitted"], curve, atol=1e-6)
        assert curve[0] < curve[-1] == 100
        area = 100 * (1 - np.nanmean(values, 0).mean() / np.log(2))
        assert found["tolerance_area"][f"{key}_fitted"] == pytest.approx(area, abs=1e-5)
        assert figures["entropy"]["sw"] == pytest.approx(np.nanmean(entropy(sums, table.mask)[:, 2]), **NEAR)


def test_response_of_answers_one_by_one(tables, summary):
    base, final = tables
    found = summary["analysis"]["test"]["response"]
    before, after = (table.scores("sum").argmax(-1) for table in tables)
    gold = base.gold
    unsure = entropy(base.scores("sum"), base.mask)
    for l, language in enumerate(LANGUAGES):
        there = base.mask[:, l].any(1)
        was, now = before[there, l], after[there, l]
        right = gold[there]
        moved = was != now
        expected = {
            "changed": moved,
            "to_right": moved & (now == right),
            "to_wrong": moved & (was == right),
            "to_other_wrong": moved & (now != right) & (was != right),
        }
        for name, values in expected.items():
            assert found["value"][name][language] == pytest.approx(100 * values.mean(), **NEAR)
            interval = bootstrap_mean(100 * values.astype(float), replicates=200)
            if there.all():
                assert found["confidence"][name][language] == pytest.approx(
                    [interval.low, interval.high], **NEAR
                )
        for name, values in (("entropy_changed", moved), ("entropy_unchanged", ~moved)):
            assert found["value"][name][language] == pytest.approx(unsure[there, l][values].mean(), **NEAR)
    assert found["value"]["changed_en"] == found["value"]["changed"]["en"]
    others = [found["value"]["to_right"][language] for language in LANGUAGES[1:]]
    assert found["value"]["to_right_non_en"] == pytest.approx(np.mean(others), **NEAR)


def test_expert_weights(tables, summary):
    base, final = tables
    found = summary["analysis"]["test"]["experts"]
    own = experts(base.scores("sum"), base.mask, [5, 1, 1, 1])
    assert found["weights"] == {"en": 5, "ar": 1, "sw": 1, "zh": 1}
    answers = np.where(own.mask, own.consensus, -np.inf).argmax(1)
    assert found["value"]["consensus_accuracy"] == pytest.approx(100 * (answers == base.gold).mean(), **NEAR)
    alone = (base.scores("sum").argmax(-1) == base.gold[:, None]).astype(float)
    alone[~base.mask.any(2)] = np.nan  # each question against the languages that have it
    gain = 100 * ((answers == base.gold) - np.nanmean(alone, 1)).mean()
    assert found["value"]["consensus_gain"] == pytest.approx(gain, **NEAR)
    low, high = found["confidence"]["consensus_gain"]
    assert low < gain < high
    parts = (own.share * own.strength[:, None])[30:].sum(0) / own.strength[30:].sum()  # where all are present
    assert parts.sum() == pytest.approx(1)
    english = (own.share * own.strength[:, None])[:, 0].sum() / own.strength.sum()
    assert found["value"]["share"]["en"] == pytest.approx(100 * english, **NEAR)
    rows = base.scores("sum")[:, 0].argmax(-1) == base.gold
    for name, chosen in (("share_right", rows), ("share_wrong", ~rows)):
        weight = own.strength[chosen]
        expected = 100 * (own.share[chosen, 0] * weight).sum() / weight.sum()
        assert found["value"][name]["en"] == pytest.approx(expected, **NEAR)
    for key, table in (("followed_base", base), ("followed_final", final)):
        same = (table.scores("sum").argmax(-1) == answers[:, None]).astype(float)
        same[~table.mask.any(2)] = np.nan
        assert found["value"][key] == pytest.approx(100 * np.nanmean(same, 1).mean(), **NEAR)


def test_normalisations_side_by_side(tables, summary):
    found = summary["analysis"]["test"]["normalizations"]
    assert list(found) == ["sum", "mean", "mean_full", "bytes", "pmi"]
    for name, parts in found.items():
        for key, table in zip(("base", "final"), tables):
            scores = table.scores(name)
            own = clc(scores, table.mask, languages=LANGUAGES)
            assert parts[key]["clc_all"] == pytest.approx(own.all_pairs, **NEAR)
            right = accuracy(scores, table.gold, table.mask, languages=LANGUAGES)
            assert parts[key]["accuracy_non_en"] == pytest.approx(100 * right.mean_others, **NEAR)
    for part in ("base", "final", "delta", "confidence"):
        for key in ("clc_all", "clc_en", "accuracy_en"):
            assert found["sum"][part][key] == summary[part]["test"][key]
    assert len({parts["base"]["clc_all"] for parts in found.values()}) > 3
    bare = [dataclasses.replace(t, neutral_logp=None, prompt_logp=None, prompt_length=None) for t in tables]
    itself = summarise(bare[0], bare[1], normalization="sum", resamples=5)
    assert list(itself["analysis"]["test"]["normalizations"]) == ["sum", "mean", "bytes"]


def test_groups_of_items_and_languages(tables, summary):
    found = summary["analysis"]["test"]["groups"]
    assert [(name, group["items"]) for name, group in found.items()] == [
        ("river", 40),
        ("capital", 20),
        ("sea", 20),
    ]
    rows = np.array(GROUPS) == "sea"
    base, final = (clc_values(t.scores("sum"), t.mask)[rows] for t in tables)
    assert found["sea"]["base"]["clc_all"] == pytest.approx(np.nanmean(base, 0).mean(), **NEAR)
    pair = bootstrap_delta(base[:, 0], final[:, 0], replicates=200)  # English and Arabic: all items have both
    assert pair.low < pair.high
    only = summarise(*tables, normalization="sum", resamples=200, groups={"test": ["all"] * RAGGED_ITEMS})
    assert only["analysis"]["test"]["groups"] == {}
    far = summary["base"]["test"]["language_groups"]["far"]
    assert far["clc"] == pytest.approx(summary["base"]["test"]["clc_matrix"][1][3], **NEAR)
    accuracies = summary["base"]["test"]["accuracy"]
    assert far["accuracy"] == pytest.approx((accuracies["ar"] + accuracies["zh"]) / 2, **NEAR)
    assert summary["base"]["test"]["language_groups"]["one"]["clc"] is None
    low, high = summary["confidence"]["test"]["language_groups"]["far"]["clc"]
    assert low < summary["delta"]["test"]["language_groups"]["far"]["clc"] < high


def test_groups_that_do_not_fit_are_refused(tables):
    with pytest.raises(
        ValueError, match="the group 'x' has no language of the tables, which have en, ar, sw, zh"
    ):
        summarise(*tables, language_groups={"x": ["de"]})
    with pytest.raises(ValueError, match="split test: 3 groups are given for 80 items"):
        summarise(*tables, groups={"test": ["a", "b", "c"]})


def test_whose_answer_was_taken_is_counted_over_the_questions_where_two_differed(tables, summary):
    found, ranked_by = summary["analysis"]["test"]["direction"]["value"], summary["settings"]["normalization"]
    before, after = (np.where(t.mask, t.scores(ranked_by), -np.inf).argmax(-1) for t in tables)
    there = tables[0].mask.any(2)
    taken = np.full((4, 4), np.nan)
    for i, j in np.argwhere(~np.eye(4, dtype=bool)):
        asked = there[:, i] & there[:, j] & (before[:, i] != before[:, j])
        taken[i, j] = 100 * (after[asked, i] == before[asked, j]).mean()
        assert found["adopted"][i][j] == pytest.approx(taken[i, j], **NEAR)
    assert [found["adopted"][i][i] for i in range(4)] == [None] * 4
    assert found["adopted_from_en"] == pytest.approx(taken[1:, 0].mean(), **NEAR)
    assert found["adopted_by_en"] == pytest.approx(taken[0, 1:].mean(), **NEAR)


def test_consistency_with_the_others_is_the_mean_over_a_languages_pairs(summary):
    for side in ("base", "final"):
        figures = summary[side]["test"]
        matrix = np.array(figures["clc_matrix"])
        expected = (matrix.sum(1) - 100) / 3
        assert list(figures["clc_with_others"].values()) == pytest.approx(expected, **NEAR)


def test_calibration_covers_every_figure_of_change(tables, summary):
    found = summary["analysis"]["test"]["calibration"]
    assert found["size"] == RAGGED_ITEMS
    assert list(found["accuracy"]["coverage"]) == list(LANGUAGES)
    assert list(found["clc"]["coverage"]) == ["en ar", "en sw", "en zh", "ar sw", "ar zh", "sw zh"]
    assert found["levels"] == [50, 70, 80, 90, 95]
    for name in ("clc", "accuracy", "clc_all"):
        assert np.all(np.diff(found[name]["curve"]) >= 0)  # a wider interval holds what a narrower one held
        assert found[name]["curve"][-1] == pytest.approx(
            np.mean(list(found[name]["coverage"].values())), **NEAR
        )
    itself = summarise(tables[0], tables[0], resamples=20)["analysis"]["test"]["calibration"]
    assert set(itself["clc"]["coverage"].values()) == {None}  # nothing changes: there is nothing to hold
