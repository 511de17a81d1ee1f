"""The models of a run: the newest stage that has begun, and parameters that come back from its checkpoints."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest

from consistency_jax.data.sources import load_items
from consistency_jax.errors import CheckpointError, ConfigError
from consistency_jax.evaluation.splits import split_of
from consistency_jax.models.huggingface import load_pretrained, save_pretrained
from consistency_jax.runtime.mesh import make_mesh
from consistency_jax.scoring.stored import fingerprint
from consistency_jax.training.checkpoints import Checkpointer
from consistency_jax.training.run_models import (
    base_model,
    checkpoint_model,
    keep_base_key,
    latest_stage,
    latest_step,
    policy_model,
)
from consistency_jax.training.trainable import split_params, trained_names
from consistency_jax.training.workdir import open_workdir


def kept(folder, step: int, params) -> None:
    with Checkpointer(folder) as checkpoints:
        checkpoints.save(step, {"params": params})
        checkpoints.wait()


def test_the_newest_checkpoint_is_of_the_last_stage_that_has_begun(small_config, tmp_path):
    small_config.stages, small_config.stage = ("sft", "dpo", "dco"), {}
    with open_workdir(tmp_path, small_config):
        pass
    assert latest_step(tmp_path) is None
    assert latest_stage(small_config, tmp_path).name == "sft"
    array = {"kernel": jax.numpy.ones(3)}
    kept(tmp_path / "checkpoints" / "1-sft", 6, array)
    kept(tmp_path / "checkpoints" / "2-dpo", 2, array)
    kept(tmp_path / "checkpoints" / "2-dpo", 4, array)
    assert latest_stage(small_config, tmp_path).name == "dpo"
    assert latest_step(tmp_path) == 4


def test_a_bos_that_is_only_named_stands_in_front_where_the_config_says_so(small_config, tmp_path):
    """As the published recipe has it, for all that a run reads and measures."""
    base = load_pretrained(small_config.model.path)
    base.tokenizer.add_bos_token = False
    save_pretrained(dataclasses.replace(base, folder=None), tmp_path / "named")
    small_config.model.path = str(tmp_path / "named")
    mesh, items = make_mesh((1, 1, 1)), load_items("jsonl", path=small_config.data.path)
    found = {}
    for rule in ("tokenizer", "named"):
        small_config.data.bos = rule
        model = base_model(small_config, mesh, tmp_path / "run")
        measured = split_of(small_config, "test", items, model, "separate")
        trained = split_of(small_config, "train", items, model, "separate", measured=False)
        assert [tree.trunk.tolist() for tree in trained.trees] == [
            tree.trunk.tolist() for tree in measured.trees
        ]
        found[rule] = [tree.trunk.tolist() for tree in measured.trees]
    bos = model.tokenizer.bos_token_id
    assert found["named"] == [[bos, *trunk] for trunk in found["tokenizer"]]
    assert bos not in sum(found["tokenizer"], [])


@pytest.mark.parametrize("rank", [0, 2])
def test_a_checkpoint_gives_back_what_was_trained_and_leaves_the_rest(
    small_config, small_model, tmp_path, rank
):
    small_config.optimizer.freeze, small_config.lora.rank = "" if rank else "norm", rank
    base = load_pretrained(small_model)
    policy = policy_model(small_config, base)
    trained, frozen = split_params(policy.params, trained_names(policy.config, small_config.optimizer.freeze))
    moved = jax.tree.map(lambda p: p + 1, trained)
    kept(tmp_path / "checkpoints", 3, moved)
    model = checkpoint_model(small_config, tmp_path, 3, base)
    assert (model.config.lora is None) == (rank == 0)
    found = split_params(model.params, trained_names(model.config, small_config.optimizer.freeze))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves((moved, frozen)), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(CheckpointError, match="has no checkpoint of step 4; it has: \\[3\\]"):
        checkpoint_model(small_config, tmp_path, 4, base)


def test_without_adapters_the_policy_is_the_base_model(small_config, small_model):
    base = load_pretrained(small_model)
    assert policy_model(small_config, base) is base
    small_config.lora.rank = 2
    policy = policy_model(small_config, base)
    assert policy.params["embedding"]["weight"] is base.params["embedding"]["weight"]  # shared, not copied


def test_a_base_model_computes_as_the_config_says(small_config, tmp_path):
    small_config.model.update(dtype="bfloat16", compute_dtype="bfloat16", remat="full")
    model = base_model(small_config, make_mesh((1, 1, 1)), tmp_path)
    assert (model.config.dtype, model.config.param_dtype, model.config.remat) == (
        "bfloat16",
        "bfloat16",
        "full",
    )
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(model.params)} == {"bfloat16"}


def test_a_run_goes_on_from_the_base_model_that_it_started_from_alone(small_config, tmp_path, capsys):
    mesh, config = make_mesh((1, 1, 1)), small_config
    model = base_model(config, mesh, tmp_path)
    original = config.model.path
    keep_base_key(tmp_path, fingerprint(model.params), model.tokenizer)
    kept(tmp_path / "checkpoints", 3, model.params)
    base_model(config, mesh, tmp_path)
    moved = jax.tree.map(lambda p: p * 1.001, model.params)
    save_pretrained(dataclasses.replace(model, params=moved), tmp_path / "other")
    config.model.path = str(tmp_path / "other")
    with pytest.raises(ConfigError, match="started from other parameters than those in .*other"):
        base_model(config, mesh, tmp_path)
    keep_base_key(tmp_path, fingerprint(moved))  # the run has begun: what it started from stands
    with pytest.raises(ConfigError, match="started from other parameters"):
        base_model(config, mesh, tmp_path)
    config.model.path = original
    capsys.readouterr()
    base_model(config, mesh, tmp_path)
    assert "note: the tokenizer" not in capsys.readouterr().out
    edited = shutil.copytree(original, tmp_path / "edited")
    (edited / "chat_template.jinja").write_text("{{ messages[0].content }}")
    config.model.path = str(edited)
    base_model(config, mesh, tmp_path)
    assert f"note: the tokenizer in {edited}" in capsys.readouterr().out
    (tmp_path / "base_model.txt").unlink()  # as workdirs of earlier versions
    capsys.readouterr()
    base_model(config, mesh, tmp_path)
    assert "did not keep the base model's fingerprint" in capsys.readouterr().out
