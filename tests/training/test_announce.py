"""What commands tell of what they run, and what they trace of it: by the commands themselves."""

import json

import jax
import pytest

from consistency_jax.errors import ConfigError
from consistency_jax.evaluate import evaluate_workdir
from consistency_jax.models.flops import step_flops
from consistency_jax.models.huggingface import load_pretrained
from consistency_jax.pairs import write_selection
from consistency_jax.runtime.mesh import make_mesh
from consistency_jax.scoring.scorer import Scorer
from consistency_jax.train import train
from consistency_jax.training.announce import better_dtype
from consistency_jax.training.stages import (
    Reference,
    load_training,
    make_batches,
    training_data,
    training_split,
)


def lines(capsys) -> dict[str, str]:
    """What was printed, by first word."""
    found = (line.partition(" ") for line in capsys.readouterr().out.splitlines())
    return {word: rest.strip() for word, _, rest in found}


def test_a_run_tells_what_it_runs_and_traces_the_steps_asked_for(small_config, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("consistency_jax.training.loop.peak_flops", lambda device: 2e9)
    small_config.total_steps = 3
    train(small_config, tmp_path / "run", profile="2:3")
    told = lines(capsys)
    assert told["devices"] == "1 x cpu, mesh data 1 x fsdp 1 x tensor 1"
    assert told["data"] == "jsonl, 3 languages (en de ru), items: train 32; test 8"
    assert told["method"] == "dco, 3 steps of 4 items"
    model = load_pretrained(small_config.model.path, mesh=make_mesh((1, 1, 1)))
    count = sum(leaf.size for leaf in jax.tree.leaves(model.params))
    assert told["model"] == f"{small_config.model.path}, {count / 1e6:.2f} M parameters, float32"
    for part in ("data", "model", "trees", "base model measured", "reference scored", "compiling"):
        assert f"{part} " in told["first"]
    assert told["profile:"] == str(tmp_path / "run" / "profile" / "dco")
    assert len(list((tmp_path / "run" / "profile" / "dco").rglob("*.xplane.pb"))) == 1

    # All batches have one shape here, so that what the log says of FLOPs follows from what it says of items.
    items, languages = load_training(small_config)
    split = training_split(small_config, items, languages, model)
    reference = Reference(Scorer(model.config, make_mesh((1, 1, 1))), model, None)
    data = training_data(small_config, split, reference)
    batch = make_batches(small_config, data, split, model, reference)(0).batch
    logged = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    for line in logged[1:]:
        assert line["tokens_per_s"] > line["items_per_s"] > 0
        expected = 100 * step_flops(model.config, batch) / 2e9 * line["items_per_s"] / 4
        assert line["mfu"] == pytest.approx(expected, rel=1e-5)  # seven digits are logged

    small_config.evaluation.tokens = 256
    evaluate_workdir(small_config, tmp_path / "run", profile="2:3")
    told = lines(capsys)
    assert told["data"] == "jsonl, 3 languages (en de ru), items: test 8"
    assert told["method"] == "mean_full scores of the base model, and the checkpoint of step 3"
    assert told["first"].startswith("batch after ")
    assert told["profile:"] == str(tmp_path / "run" / "profile")
    assert len(list((tmp_path / "run" / "profile" / "plugins").rglob("*.xplane.pb"))) == 1
    evaluate_workdir(small_config, tmp_path / "run", "base", profile="2:3")  # its tables are there
    assert lines(capsys)["profile:"] == "none of batch 2 to 3 was computed by this command"


def test_the_line_of_a_stage_tells_the_rates_of_the_log(small_config, tmp_path, capsys):
    """It told how fast steps were dispatched."""
    small_config.total_steps = 4
    small_config.logging.every = small_config.checkpoint.every = 3
    train(small_config, tmp_path / "run")
    logged = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("dco: ")]
    last = logged[-1]
    values = [f"{name} {last[name]:.4f}" for name in ("loss", "pair_agreement")]
    assert told[-1].split(", ")[:3] == ["dco: 4/4", *values]
    rates = dict(reversed(each.split(" ")) for each in told[-1].split(", ")[3:])
    for name in ("items", "tokens"):
        assert float(rates[f"{name}/s"].replace(",", "")) == pytest.approx(last[f"{name}_per_s"], rel=0.05)


def test_what_is_trained_on_is_told_apart_from_what_is_measured(small_config, tmp_path, capsys):
    """By split alone, the last count of one hid the others."""
    small_config.total_steps = 1
    small_config.data.test, small_config.data.train["items"] = ("test", "train"), 20
    small_config.stages = ("sft", "dco")
    small_config.stage = {"dco": {"data": {"train": {"items": 12}}}}
    train(small_config, tmp_path / "run")
    told = lines(capsys)["data"]
    assert told.endswith("items: train 20, train (dco) 12; test 8, train 32")


def test_pairs_tell_what_they_are_made_of(small_config, tmp_path, capsys):
    small_config.selection.name = "gold"
    write_selection(small_config, tmp_path / "pairs.jsonl")
    told = lines(capsys)
    assert told["method"] == "pairs by gold, of the base model"
    assert told["data"] == "jsonl, 3 languages (en de ru), items: train 32"
    assert told["selection"].startswith("after ")


def test_a_profile_that_names_no_step_is_told_before_any_work(small_config, tmp_path):
    with pytest.raises(ConfigError, match="--profile=5:7 names a step behind the last one, 6"):
        train(small_config, tmp_path / "run", profile="5:7")
    with pytest.raises(ConfigError, match="--profile='x' should be FIRST:LAST"):
        evaluate_workdir(small_config, tmp_path / "run", profile="x")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("dtype", "platform", "features", "better"),
    [
        ("bfloat16", "cpu", "flags : sse2 avx2 fma", "float32"),
        ("bfloat16", "cpu", "flags : avx2 avx512f avx512_bf16", ""),
        ("bfloat16", "cpu", "flags : avx2 amx_bf16 amx_tile", ""),
        ("bfloat16", "cpu", "", ""),  # of another system: not known
        ("float32", "cpu", "flags : sse2 avx2 fma", ""),
        ("float32", "gpu", "8.0", "bfloat16"),
        ("float32", "gpu", "12.0", "bfloat16"),
        ("float32", "gpu", "7.5", ""),
        ("float32", "gpu", "", ""),
        ("float32", "tpu", "", "bfloat16"),
        ("bfloat16", "tpu", "", ""),
    ],
)
def test_a_precision_that_a_device_is_slow_in_has_a_better_one(dtype, platform, features, better):
    assert better_dtype(dtype, platform, features) == better


def test_the_better_precision_of_a_large_model_is_told(small_config, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("consistency_jax.training.announce.better_dtype", lambda *_: "bfloat16")
    small_config.total_steps = 1
    train(small_config, tmp_path / "small")
    assert "note:" not in lines(capsys)
    monkeypatch.setattr("consistency_jax.training.announce.LARGE", 0)
    train(small_config, tmp_path / "run")
    keys = "--config.model.dtype=bfloat16 --config.model.compute_dtype=bfloat16"
    told = f"this CPU is faster in bfloat16: dtype=bfloat16 (configs that have this option) or {keys}"
    assert lines(capsys)["note:"] == told
