"""The folder of a run: whose it is, and what may change between two starts."""

import pytest

from consistency_jax.config.parsing import to_json
from consistency_jax.errors import ConfigError
from consistency_jax.training.workdir import open_workdir, read_config


@pytest.mark.parametrize("where", ["the run", "a stage", "nowhere"])
def test_what_ranks_candidates_may_not_change_where_pairs_are_made_by_it(small_config, tmp_path, where):
    selection = {"selection": {"name": "calm"}}
    if where == "the run":
        small_config.update(selection)
    if where == "a stage":
        small_config.update({"stages": ("sft", "dpo"), "stage": {"dpo": selection}})
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "config.json").write_text(to_json(small_config))
    small_config.evaluation.tokens = 4096
    open_workdir(tmp_path / "run", small_config)
    small_config.evaluation.update(normalization="sum", boundary="separate")
    if where == "nowhere":
        open_workdir(tmp_path / "run", small_config)
        return
    message = (
        "another config:\n  evaluation.boundary: 'joint' there, 'separate' now"
        "\n  evaluation.normalization: 'mean_full' there, 'sum' now"
    )
    with pytest.raises(ConfigError, match=message):
        open_workdir(tmp_path / "run", small_config)
    assert read_config(tmp_path / "run").evaluation.normalization == "mean_full"


def test_a_report_of_another_config_does_not_pass_for_this_ones(small_config, tmp_path):
    report = open_workdir(tmp_path, small_config) / "report.json"
    report.write_text("{}")
    open_workdir(tmp_path, small_config)
    assert report.exists()
    small_config.evaluation.bootstrap += 1
    open_workdir(tmp_path, small_config)
    assert not report.exists()


def test_a_folder_that_is_no_workdir_is_told(tmp_path):
    with pytest.raises(ConfigError, match="has no config.json: give the --workdir of a training run"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text('{"seed": ')
    with pytest.raises(ConfigError, match="config.json is damaged"):
        read_config(tmp_path)


def test_a_stored_config_is_read_as_it_was(small_config, tmp_path):
    small_config.objective.steer = {"en": 4.0}
    small_config.stages = ("sft", "dco")
    open_workdir(tmp_path, small_config)
    assert to_json(read_config(tmp_path)) == to_json(small_config)
