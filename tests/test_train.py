"""The whole path on a small scale: pretrain, measure, train, report, evaluate, export."""

import importlib.util
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from consistency_jax.errors import ConfigError
from consistency_jax.evaluate import evaluate_workdir
from consistency_jax.evaluation.measuring import score_split
from consistency_jax.export import export
from consistency_jax.models.huggingface import load_pretrained
from consistency_jax.table import read_tables
from consistency_jax.train import train
from consistency_jax.training.run_models import checkpoint_model
from consistency_jax.training.trainable import split_params, trained_names

ROOT = Path(__file__).resolve().parent.parent


def config_file(name, arg=None):
    spec = importlib.util.spec_from_file_location("config", ROOT / "configs" / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(arg)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo's config with a few steps and questions, run in a workdir and cache of its own."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONSISTENCY_CACHE", str(folder / "cache"))
        config = config_file("tiny.py", "pretrain=4,steps=4,items=4")
        config.pretrain.vocabulary = 1500
        config.pretrain.options.passes = 1
        config.data.train.update(items=48)
        config.data.test_items = 48
        config.batching.shapes = 1
        config.evaluation.bootstrap = 50
        config.evaluation.every = 2
        config.logging.every = 1
        summary = train(config, folder / "run")
        yield config, folder / "run", summary


@pytest.mark.optimised
def test_a_workdir_holds_what_the_readme_says(demo):
    _, workdir, summary = demo
    for name in ("config.json", "checkpoints", "metrics.jsonl", "tensorboard", "report.json", "report.html"):
        assert (workdir / name).exists(), name
    assert set(read_tables(workdir / "tables" / "base.npz")) == {"test", "test_disjoint"}
    assert set(read_tables(workdir / "tables" / "final.npz")) == {"test", "test_disjoint"}
    assert json.loads((workdir / "report.json").read_text(encoding="utf8")) == json.loads(json.dumps(summary))
    for part in ("base", "final"):
        figures = summary[part]["test"]
        assert set(figures["accuracy"]) == {"en", "fr", "ru", "zh", "ar", "hi", "sw"}
        assert {"clc_all", "clc_en", "accuracy_non_en"} <= set(figures)
        assert 0 <= figures["clc_all"] <= 100
    low, high = summary["confidence"]["test"]["clc_all"]
    assert low <= summary["delta"]["test"]["clc_all"] <= high


@pytest.mark.optimised
def test_metrics_hold_every_stage_and_the_evaluations_inside_training(demo):
    _, workdir, _ = demo
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["stage"] == "dco" and "loss" in line] == [1, 2, 3, 4]
    assert [line["step"] for line in lines if "validation/clc_all" in line] == [2, 4]
    assert any(line["stage"] == "pretrain" for line in lines)


@pytest.mark.optimised
def test_the_base_model_is_made_once_for_its_settings(demo, tmp_path, capsys):
    config, workdir, _ = demo
    config = config.copy_and_resolve_references()
    config.total_steps = 1
    train(config, tmp_path / "other")
    assert "pretrain:" not in capsys.readouterr().out
    base, again = (read_tables(w / "tables" / "base.npz")["test"] for w in (workdir, tmp_path / "other"))
    np.testing.assert_array_equal(base.logp, again.logp)


@pytest.mark.optimised
def test_a_finished_run_started_again_only_reports(demo):
    config, workdir, summary = demo
    assert json.loads(json.dumps(train(config, workdir))) == json.loads(json.dumps(summary))


@pytest.mark.optimised
def test_evaluate_gives_what_training_reported(demo):
    config, workdir, summary = demo
    again = evaluate_workdir(config, workdir)
    assert json.loads(json.dumps(again)) == json.loads(json.dumps(summary))
    alone = evaluate_workdir(None, workdir)  # with the config that lies in the workdir
    assert json.loads(json.dumps(alone)) == json.loads(json.dumps(summary))
    base = evaluate_workdir(config, workdir, "base")
    assert "final" not in base
    for name, value in base["base"]["test"].items():  # the figures before, without what takes two sides
        assert json.loads(json.dumps(value)) == json.loads(json.dumps(summary["base"]["test"][name]))
    assert set(base["base"]["test"]) == {
        key for key in summary["base"]["test"] if not key.startswith("changed")
    }
    evaluate_workdir(config, workdir)  # the report before and after is there again


@pytest.mark.optimised
def test_the_exported_folder_is_the_trained_model(demo, tmp_path):
    import torch
    import transformers

    _, workdir, _ = demo
    folder = export(workdir, tmp_path / "model")
    card = (folder / "README.md").read_text()
    assert "- sw\n" in card
    assert "CLC (RankC x 100)" in card
    ours = load_pretrained(folder)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokens = np.random.default_rng(0).integers(3, ours.config.vocab_size, (2, 20))
    with torch.no_grad():
        expected = theirs(torch.tensor(tokens)).logits.numpy()
    np.testing.assert_allclose(ours.apply(tokens), expected, atol=1e-4)  # float32 in another order


def test_an_old_base_table_is_not_reported_beside_new_questions(small_config, questions, tmp_path):
    folder, text = tmp_path / "questions", questions.read_text(encoding="utf8")
    folder.mkdir()
    (folder / "train.jsonl").write_text(text)
    path = folder / "test.jsonl"
    path.write_text(text)
    small_config.data.path = str(folder)
    small_config.total_steps = 1
    train(small_config, tmp_path / "run")
    before = read_tables(tmp_path / "run" / "tables" / "base.npz")["test"]
    path.write_text(text.replace("capital", "largest city"))
    small_config.evaluation.normalization = "sum"
    train(small_config, tmp_path / "run")
    base, final = (
        read_tables(tmp_path / "run" / "tables" / f"{name}.npz")["test"] for name in ("base", "final")
    )
    assert before.prompt_logp is not None
    assert base.prompt_logp is None
    assert not np.allclose(base.logp, before.logp)
    np.testing.assert_allclose(base.logp, final.logp, atol=5)  # one step away


def test_frozen_parameters_stay_and_take_no_room(small_config, small_model, tmp_path):
    small_config.optimizer.freeze = "embedding|norm"
    train(small_config, tmp_path / "run")
    model = load_pretrained(small_model)
    params = checkpoint_model(small_config, tmp_path / "run", 6, model).params
    names = trained_names(model.config, "embedding|norm")
    (trained, frozen), (base, kept) = split_params(params, names), split_params(model.params, names)
    assert jax.tree.all(jax.tree.map(np.array_equal, frozen, kept))
    assert not any(
        np.array_equal(a, b) for a, b in zip(jax.tree.leaves(trained), jax.tree.leaves(base), strict=True)
    )
    size = sum(path.stat().st_size for path in (tmp_path / "run" / "checkpoints" / "6").rglob("*"))
    small_config.optimizer.freeze = ""
    train(small_config, tmp_path / "whole")
    whole = sum(path.stat().st_size for path in (tmp_path / "whole" / "checkpoints" / "6").rglob("*"))
    assert size < whole


def test_compiled_programs_are_kept_where_asked(small_config, tmp_path):
    before = jax.config.jax_compilation_cache_dir
    small_config.compile_cache = str(tmp_path / "programs")
    small_config.total_steps = 1
    try:
        reset_cache()  # the folder of the tests is in use
        train(small_config, tmp_path / "run")
        assert list((tmp_path / "programs").iterdir())
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
        reset_cache()


def test_mpo_scores_the_anchors_states_and_brings_its_gap_closer(small_config, tmp_path, monkeypatch):
    """The whole command, again from the cached tables, and resumed."""
    scored = []

    def counted(*args, progress="", **options):
        scored.append(progress)
        return score_split(*args, progress=progress, **options)

    monkeypatch.setattr("consistency_jax.training.stages.score_split", counted)
    small_config.objective.name = "mpo"
    small_config.batching.languages = 2
    train(small_config, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert scored == ["reference en"]  # no other language's reference is read
    first, last = (line for line in lines if line["stage"] == "mpo" and line["step"] in (1, 6))
    assert first["state_loss"] < 1e-9  # the policy is the reference
    assert last["state_loss"] > 1e-9
    tables = tmp_path / "cache" / "tables"
    before = sorted(path.name for path in tables.iterdir())
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "6")
    report = (tmp_path / "run" / "report.json").read_bytes()
    train(small_config, tmp_path / "run")
    assert sorted(path.name for path in tables.iterdir()) == before
    assert (tmp_path / "run" / "report.json").read_bytes() == report
    small_config.data.languages = ("de", "ru")
    with pytest.raises(ConfigError, match="mpo.*it needs a gold answer and another candidate in 'en' and in"):
        train(small_config, tmp_path / "other")


def test_a_method_without_reference_scores_one_to_find_the_hardest_wrong_answers(
    small_config, tmp_path, monkeypatch
):
    """The whole command, and only the splits it needs are scored: the base model on the train split for `hardest`."""
    scored = []

    def counted(*args, progress="", **options):
        scored.append(progress)
        return score_split(*args, progress=progress, **options)

    monkeypatch.setattr("consistency_jax.training.stages.score_split", counted)
    small_config.objective.name = "simpo"
    small_config.total_steps = 2
    for rejected, expected in (("random", []), ("hardest", ["reference"])):
        small_config.objective.rejected = rejected
        train(small_config, tmp_path / rejected)
        assert scored == expected
        lines = (tmp_path / rejected / "metrics.jsonl").read_text().splitlines()
        assert any("pair_accuracy" in line for line in lines)


def test_questions_that_are_trained_on_and_tested_are_told(small_config, tmp_path, capsys):
    small_config.total_steps = 1
    small_config.data.train.split = "every"
    train(small_config, tmp_path / "run")
    assert (
        "data: split 'test': 8 of 8 questions have a prompt that is trained on, too"
        in capsys.readouterr().out
    )
    small_config.data.train.split = "train"
    train(small_config, tmp_path / "apart")
    assert "trained on, too" not in capsys.readouterr().out
    small_config.auxiliary.mlc.update({"weight": 0.8, "split": "test", "items": 4, "width": 8})
    train(small_config, tmp_path / "beside")
    assert "data: split 'test': 8 of 8 questions" in capsys.readouterr().out
