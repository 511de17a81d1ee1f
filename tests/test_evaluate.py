"""The evaluate command: what it measures again, and what it refuses."""

import json
import shutil

import jax
import numpy as np
import pytest

from consistency_jax.errors import ConfigError
from consistency_jax.evaluate import evaluate_workdir
from consistency_jax.table import read_tables
from consistency_jax.train import train


def test_all_five_normalisations_stand_side_by_side(small_config, tmp_path, capsys):
    """The whole command, ranked by pmi; groups of languages and questions are in the report, and re-evaluation finds
    the stored base table, answers alone included."""
    small_config.total_steps = 1
    small_config.evaluation.normalization = "pmi"
    small_config.evaluation.groups = {"cyrillic": ("ru",), "others": ("en", "de")}
    summary = train(small_config, tmp_path / "run")
    assert list(summary["analysis"]["test"]["normalizations"]) == ["sum", "mean", "bytes", "pmi"]
    assert set(summary["base"]["test"]["language_groups"]) == {"cyrillic", "others"}
    table = read_tables(tmp_path / "run" / "tables" / "base.npz")["test"]
    assert (table.neutral_logp[table.mask] < 0).all()
    small_config.evaluation.all_normalizations = True
    summary = train(small_config, tmp_path / "all")
    found = summary["analysis"]["test"]["normalizations"]
    assert list(found) == ["sum", "mean", "mean_full", "bytes", "pmi"]
    assert found["pmi"]["base"]["clc_all"] == summary["base"]["test"]["clc_all"]
    capsys.readouterr()
    assert evaluate_workdir(None, tmp_path / "all")["base"] == summary["base"]
    assert "base test answers alone" not in capsys.readouterr().out


def test_any_right_answer_of_several_counts(small_config, questions, tmp_path):
    items = [json.loads(line) for line in questions.read_text().splitlines()]
    for item in items[::2]:
        item["gold"] = [1, 0]
    path = tmp_path / "several.jsonl"
    path.write_text("\n".join(json.dumps(item) for item in items))
    small_config.data.path, small_config.data.test = str(path), ("every",)
    small_config.evaluation.normalization = "sum"
    report = evaluate_workdir(small_config, tmp_path / "run")
    table = read_tables(tmp_path / "run" / "tables" / "base.npz")["every"]
    right = [item["gold"] if isinstance(item["gold"], list) else [item["gold"]] for item in items]
    for place, language in enumerate(table.languages):
        first = table.logp[:, place].argmax(-1)
        share = np.mean([answer in own for answer, own in zip(first, right)])
        assert report["base"]["every"]["accuracy"][language] == pytest.approx(100 * share)


@pytest.mark.parametrize("name", ["newest", "²", "٣", "-1", "1.0", ""])
def test_a_checkpoint_that_is_none_is_told_before_any_work(small_config, tmp_path, name):
    with pytest.raises(
        ConfigError, match=f"--checkpoint={name} should be base, latest or the step of a check"
    ):
        evaluate_workdir(small_config, tmp_path / "run", name)
    assert not (tmp_path / "run").exists()


def test_the_home_folder_may_stand_in_every_path(small_config, small_model, questions, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").symlink_to(small_model)
    (tmp_path / "questions.jsonl").symlink_to(questions)
    small_config.model.path, small_config.data.path = "~/model", "~/questions.jsonl"
    report = evaluate_workdir(small_config, "~/run", "base")
    assert report["base"]["test"]["clc_all"] > 0
    assert (tmp_path / "run" / "report.html").exists()


def test_with_the_base_model_a_trained_one_is_measured_again_or_not_there(small_config, tmp_path):
    """It may be of other questions, or of a step that nobody knows any more."""
    evaluate_workdir(small_config, tmp_path / "run")
    final = tmp_path / "run" / "tables" / "final.npz"
    shutil.copy(final.with_name("base.npz"), final)
    evaluate_workdir(small_config, tmp_path / "run", "base")
    assert not final.exists()


def test_compiled_programs_are_not_read_from_where_a_folder_says(small_config, tmp_path):
    """A workdir may come from anyone, and a compiled program is code."""
    evaluate_workdir(small_config, tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    stored = json.loads(path.read_text())
    stored["compile_cache"] = str(tmp_path / "programs")
    path.write_text(json.dumps(stored))
    before = jax.config.jax_compilation_cache_dir
    evaluate_workdir(None, tmp_path / "run")
    assert jax.config.jax_compilation_cache_dir == before
    assert not (tmp_path / "programs").exists()


def test_an_item_that_lacks_a_language_is_told_on_the_page(small_config, questions, tmp_path, capsys):
    items = [json.loads(line) for line in questions.read_text().splitlines()]
    for item in items[:5]:
        del item["prompts"]["de"], item["candidates"]["de"]
    path = tmp_path / "lacking.jsonl"
    path.write_text("\n".join(json.dumps(item) for item in items))
    small_config.data.path, small_config.data.test = str(path), ("every",)
    evaluate_workdir(small_config, tmp_path / "run")
    page = (tmp_path / "run" / "report.html").read_text()
    assert "de 5" in capsys.readouterr().out
    assert "not asked in: de 5" in page
