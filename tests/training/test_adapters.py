"""Training adapters: the reference is the base itself, and checkpoints, resuming and export know of nothing else."""

import json
import shutil

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import traverse_util

from consistency_jax.config.checks import validate
from consistency_jax.config.defaults import default
from consistency_jax.errors import ConfigError
from consistency_jax.evaluate import evaluate_workdir
from consistency_jax.evaluation.measuring import score_splits
from consistency_jax.evaluation.splits import load_split, split_of
from consistency_jax.export import export
from consistency_jax.models.adapters import merge_adapters, quantise
from consistency_jax.models.configured import lora_config
from consistency_jax.models.huggingface import load_pretrained
from consistency_jax.models.lora import PROJECTIONS
from consistency_jax.runtime.mesh import make_mesh
from consistency_jax.scoring.scorer import Scorer
from consistency_jax.table import read_tables
from consistency_jax.train import train
from consistency_jax.training.run_models import checkpoint_model, latest_step, policy_model

ADAPTERS = {f"{name}/{part}" for name in PROJECTIONS for part in ("lora_a", "lora_b")}


def flat(tree):
    return traverse_util.flatten_dict(tree, sep="/")


@pytest.fixture(scope="module")
def run(small_model, questions, tmp_path_factory):
    """The small model's adapters trained for six steps: config, workdir, base model, report."""
    folder = tmp_path_factory.mktemp("adapters")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONSISTENCY_CACHE", str(folder / "cache"))
        config = default()
        config.model.path, config.data.path = str(small_model), str(questions)
        config.total_steps = 6
        config.batching.items, config.batching.shapes = 4, 1
        config.optimizer.learning_rate = 1e-2
        config.checkpoint.every, config.logging.every = 2, 1
        config.evaluation.bootstrap = 50
        config.lora.rank = 2
        summary = train(config, folder / "run")
        yield config, folder / "run", load_pretrained(small_model, mesh=make_mesh((1, 1, 1))), summary


def test_the_policy_at_step_0_is_the_reference_exactly(run):
    config, workdir, base, _ = run
    policy = policy_model(config, base)
    for name, leaf in flat(base.params).items():
        assert flat(policy.params)[name] is leaf  # no second copy
    split = split_of(config, "test", load_split(config, "test"), base, "joint")
    scorer = Scorer(policy.config, make_mesh((1, 1, 1)))
    table = score_splits(config, scorer, policy.params, [split])["test"]
    assert (table.logp == read_tables(workdir / "tables" / "base.npz")["test"].logp).all()
    assert (table.logp != read_tables(workdir / "tables" / "final.npz")["test"].logp).any()


def test_a_checkpoint_holds_adapters_and_their_moments_alone(run):
    config, workdir, base, _ = run
    with ocp.CheckpointManager(
        workdir / "checkpoints",
        item_handlers={n: ocp.StandardCheckpointHandler() for n in ("params", "progress")},
    ) as manager:
        held = manager.item_metadata(6)
    assert set(flat(held.params.tree)) == ADAPTERS
    size = sum(leaf.size for leaf in flat(policy_model(config, base).params).values())
    size -= sum(leaf.size for leaf in flat(base.params).values())
    numbers = [np.prod(leaf.shape, dtype=int) for leaf in jax.tree.leaves(held.progress.tree)]
    assert sum(number for number in numbers if number > 1) == 2 * size
    on_disk = sum(
        path.stat().st_size for path in (workdir / "checkpoints" / "6").rglob("*") if path.is_file()
    )
    # All parameters with their moments would be three times the base model; the store's own files vary in size.
    assert on_disk < 2 * sum(leaf.nbytes for leaf in flat(base.params).values())


def test_training_goes_on_from_the_adapters_of_a_checkpoint_bit_for_bit(run, tmp_path):
    config, workdir, base, _ = run
    shutil.copytree(workdir, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "6")
    train(config, tmp_path / "run")
    one, other = (flat(checkpoint_model(config, w, 6, base).params) for w in (workdir, tmp_path / "run"))
    for name in ADAPTERS:
        np.testing.assert_array_equal(one[name], other[name])
    assert (tmp_path / "run" / "report.json").read_bytes() == (workdir / "report.json").read_bytes()


def test_evaluate_and_export_know_adapters(run, tmp_path):
    config, workdir, base, summary = run
    assert json.loads(json.dumps(evaluate_workdir(config, workdir))) == json.loads(json.dumps(summary))
    trained = checkpoint_model(config, workdir, latest_step(workdir), base)
    merged = load_pretrained(export(workdir, tmp_path / "merged"))
    for name, leaf in flat(merge_adapters(trained).params).items():
        np.testing.assert_array_equal(flat(merged.params)[name], leaf)
    export(workdir, tmp_path / "adapter", adapter=True)
    assert {path.name for path in (tmp_path / "adapter").iterdir()} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    with pytest.raises(ConfigError, match="holds adapters already"):
        export(workdir, tmp_path / "adapter")
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == config.model.path


def test_beside_a_quantised_base(run, tmp_path, capsys):
    """The reference is quantised as the policy is; what is exported are the source's own weights and the adapters."""
    plain, _, base, unquantised = run
    config = plain.copy_and_resolve_references()
    config.lora.base, config.total_steps = "nf4", 4
    summary = train(config, tmp_path / "run")
    assert "projections in nf4, adapters of rank 2" in capsys.readouterr().out
    assert summary["base"]["test"] != unquantised["base"]["test"]
    note = "measured with projections in nf4, which is not the model as it is stored"
    assert [text.partition(";")[0] for text in summary["settings"]["notes"]] == [note]
    assert note in (tmp_path / "run" / "report.html").read_text()
    whole = checkpoint_model(config, tmp_path / "run", 4, quantise(base, "nf4"))
    # New adapters are the same beside any base: what is frozen of them is in no checkpoint.
    beside = [flat(policy_model(config, model).params) for model in (base, quantise(base, "nf4"))]
    for name in ADAPTERS:
        np.testing.assert_array_equal(*(params[name] for params in beside))

    shutil.rmtree(tmp_path / "run" / "checkpoints" / "4")
    train(config, tmp_path / "run")  # goes on from step 2
    again = checkpoint_model(config, tmp_path / "run", 4, quantise(base, "nf4"))
    for name, leaf in flat(whole.params).items():
        np.testing.assert_array_equal(flat(again.params)[name], leaf)
    assert json.loads(json.dumps(evaluate_workdir(config, tmp_path / "run"))) == json.loads(
        json.dumps(summary)
    )

    merged = load_pretrained(export(tmp_path / "run", tmp_path / "merged"))
    expected = merge_adapters(checkpoint_model(config, tmp_path / "run", 4, base))
    for name, leaf in flat(expected.params).items():
        np.testing.assert_array_equal(flat(merged.params)[name], leaf)
    export(tmp_path / "run", tmp_path / "adapter", adapter=True)
    assert "Measured with projections in nf4" in (tmp_path / "adapter" / "README.md").read_text()
    (tmp_path / "run" / "base_model.txt").write_text("another")
    with pytest.raises(ConfigError, match="started from other parameters"):
        export(tmp_path / "run", tmp_path / "other")


def test_a_quantised_base_is_measured_but_never_trained(small_model, questions, tmp_path):
    config = default()
    config.model.path, config.data.path = str(small_model), str(questions)
    config.lora.base, config.evaluation.bootstrap = "int8", 10
    with pytest.raises(ConfigError, match="lora.base=int8 leaves nothing to train but adapters: give"):
        train(config, tmp_path / "run")
    measured = evaluate_workdir(config, tmp_path / "audit")
    assert 0 < measured["base"]["test"]["clc_all"] < 100


def test_an_adapter_is_exported_only_where_there_is_one(run, tmp_path):
    config, workdir, _, _ = run
    (tmp_path / "checkpoints").mkdir()
    plain = json.loads((workdir / "config.json").read_text())
    plain["lora"]["rank"] = 0
    (tmp_path / "config.json").write_text(json.dumps(plain))
    with pytest.raises(ConfigError, match="trained without adapters"):
        export(tmp_path, tmp_path / "out", adapter=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lora.rank": -2}, "lora.rank=-2 must be at least 1"),
        (
            {"lora.rank": 4, "lora.targets": "q_proj"},
            "matches no projection; there are: layers/attention/query",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(change, message):
    config = default()
    config.model.path = "somewhere"
    assert lora_config(config) is None
    config.update_from_flattened_dict(change)
    with pytest.raises(ConfigError, match=message):
        validate(config)
