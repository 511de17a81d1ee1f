"""The value that training and evaluation share: by hand it measures what the command measures."""

import json

import numpy as np
import pytest

from consistency_jax.evaluate import evaluate_workdir
from consistency_jax.evaluation import load_evaluation, load_validation
from consistency_jax.models.huggingface import load_pretrained
from consistency_jax.runtime.mesh import make_mesh
from consistency_jax.scoring.scorer import Scorer
from consistency_jax.table import read_tables


def test_by_hand_it_measures_what_the_command_does_and_logs_what_it_reports(small_config, tmp_path, capsys):
    model = load_pretrained(small_config.model.path, mesh=make_mesh((1, 1, 1)))
    scorer = Scorer(model.config, make_mesh((1, 1, 1)))
    evaluation = load_evaluation(small_config).prepared(model)
    base = evaluation.measure("base", model, scorer, tmp_path)
    stored = read_tables(tmp_path / "tables" / "base.npz")
    assert list(stored) == list(base.tables) == ["test"]
    np.testing.assert_array_equal(stored["test"].logp, base.tables["test"].logp)
    summary = json.loads(json.dumps(evaluation.report(tmp_path, base)))
    assert summary == json.loads(json.dumps(evaluate_workdir(small_config, tmp_path / "run", "base")))

    small_config.evaluation.every, small_config.evaluation.split = 2, "test"
    capsys.readouterr()
    logged = load_validation(small_config).prepared(model).headlines(scorer, model.params)
    figures = summary["base"]["test"]
    reported = [figures["clc_all"], figures["clc_en"], figures["accuracy"]["en"], figures["accuracy_non_en"]]
    names = ("clc_all", "clc_en", "accuracy_en", "accuracy_non_en")
    assert logged == {f"test/{name}": pytest.approx(x) for name, x in zip(names, reported, strict=True)}
    assert capsys.readouterr().out.startswith(f"  test: clc_all {figures['clc_all']:.1f}, clc_en ")


def test_without_evaluations_inside_training_no_split_is_loaded(small_config):
    small_config.evaluation.split = "a split that is not there"
    assert load_validation(small_config).items == {}
