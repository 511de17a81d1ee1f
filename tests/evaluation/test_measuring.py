"""Tables of splits: made once for parameters and questions, and their few headline figures."""

import dataclasses

import jax
import numpy as np
import pytest

from consistency_jax.config.defaults import default
from consistency_jax.data.items import Items
from consistency_jax.errors import UserError
from consistency_jax.evaluation import measuring
from consistency_jax.evaluation.measuring import headline, score_split
from consistency_jax.evaluation.splits import load_split, split_of
from consistency_jax.models.huggingface import load_pretrained
from consistency_jax.runtime.mesh import mesh_of
from consistency_jax.scoring.scorer import Scorer
from consistency_jax.scoring.stored import fingerprint
from consistency_jax.table import Table


def table_of(logp: np.ndarray, languages: tuple[str, ...], gold: list[int]) -> Table:
    ones = np.ones(logp.shape, np.int32)
    ids = tuple(map(str, range(len(logp))))
    return Table(
        ids, languages, logp.astype(np.float32), ones, ones, ones.astype(bool), np.array(gold, np.int32)
    )


def test_a_table_is_found_again_until_something_that_it_depends_on_changes(
    small_config, small_model, monkeypatch
):
    model = load_pretrained(small_model)
    scorer = Scorer(model.config, mesh_of(model.params))
    split = split_of(small_config, "test", load_split(small_config, "test"), model, "joint")
    calls = []

    def score_trees(scorer, params, items, languages, trees, **options):
        calls.append(options)
        return table_of(np.zeros((len(items), 3, 3)), languages, [0] * len(items))

    monkeypatch.setattr(measuring, "score_trees", score_trees)

    def made(params=model.params, split=split, **options) -> bool:
        before = len(calls)
        options = {"prompt": False, "params_key": fingerprint(params)} | options
        table = score_split(small_config, scorer, params, split, **options)
        assert table.mask.shape[0] == len(split.items)
        return len(calls) > before

    assert made()
    assert not made()
    assert made(params_key="")  # without a key it is neither looked for nor kept
    assert made(jax.tree.map(lambda x: x * 1.0001, model.params))
    fewer = Items(split.items[:-1])
    assert made(
        split=dataclasses.replace(split, items=fewer, trees=split.trees.take(np.arange(3 * len(fewer))))
    )
    assert made(split=split.alone("ru"), state=True)
    assert made(prompt=True)
    assert not made(prompt=True)
    assert calls[-1]["prompt"]


def test_a_model_whose_scores_are_no_numbers_is_told_where_and_nothing_is_kept(small_config, small_model):
    model = load_pretrained(small_model)
    broken = jax.tree.map(lambda x: x * np.nan, model.params)
    scorer = Scorer(model.config, mesh_of(model.params))
    split = split_of(small_config, "test", load_split(small_config, "test"), model, "joint")
    for _ in range(2):
        with pytest.raises(
            UserError, match=r"split 'test': .* no number, the first to .* in \w+\. Are the weights"
        ):
            score_split(small_config, scorer, broken, split, prompt=False, params_key="broken")
    drawn = dataclasses.replace(split, items=Items(), languages=("drawn",), neutral=None)
    with pytest.raises(UserError, match=r"split 'test': .* that is no number. Are the weights"):
        score_split(small_config, scorer, broken, drawn, prompt=False)


def test_headline_figures_by_hand():
    config = default()
    config.evaluation.normalization = "sum"
    # Three questions with two candidates; English is right in all, Swahili in one and ranks the others the other way.
    logp = np.array([[[0, -1], [0, -1]], [[0, -1], [-1, 0]], [[0, -1], [-1, 0]]], float)
    found = headline(config, table_of(logp, ("en", "sw"), [0, 0, 0]))
    assert found["accuracy_en"] == 100
    assert found["accuracy_non_en"] == pytest.approx(100 / 3)
    # RankC of two rankings of two candidates is 1 where they agree; where not, the second place alone counts:
    # its softmax weight 1 / (1 + e) with both candidates seen by then.
    floor = 1 / (1 + np.e)
    assert found["clc_all"] == found["clc_en"] == pytest.approx(100 * (1 + 2 * floor) / 3)
