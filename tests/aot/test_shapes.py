"""What programs are compiled for: batches as large as typical data make them."""

import jax
import pytest
from small_models import LLAMA, small_config

from consistency_jax.aot import prove as proving
from consistency_jax.aot.shapes import train_load
from consistency_jax.config.defaults import default
from consistency_jax.errors import ConfigError
from consistency_jax.models.configured import abstract_model
from consistency_jax.runtime.mesh import make_mesh


@pytest.mark.parametrize("accumulate", [1, 2])
def test_states_of_a_reference_and_an_auxiliary_loss_have_shapes_too(accumulate):
    config = small_config(LLAMA)
    config.objective.name, config.batching.accumulate = "mpo", accumulate
    config.auxiliary.mlc.update({"weight": 0.8, "layer": 1, "split": "validation"})
    decoder, mesh = abstract_model(config), make_mesh((1, 1, 1), jax.devices()[:1])
    load = train_load(config, 1)
    assert load.prompts == 8 // accumulate
    assert load.trees == (16 + 8) // accumulate * load.languages
    plain = default()
    plain.batching["items"], plain.batching.accumulate = 16, accumulate
    plain.objective.candidates = "pair"
    more = load.shape.rows - train_load(plain, 1).shape.rows
    assert more * load.shape.length >= load.prompts * load.languages * 100  # tokens of a prompt
    lowered, arguments, _ = proving.lower_train(config, decoder, mesh, load)
    config.auxiliary.mlc.weight = 0.0
    without = proving.lower_train(config, decoder, mesh, train_load(config, 1))[1]
    assert arguments - without > 3 * 4 * 256 * 512  # the extractor in float32, and its moments
    assert "eigh" in lowered.as_text().lower()


def test_a_pair_is_of_one_language_and_a_step_of_the_languages_that_are_trained():
    config = small_config(LLAMA)
    config.data.source, config.batching["items"] = "bmlama17", 4
    config.data.languages = ("en", "fr", "he")
    config.data.train.languages = ("en", "fr")
    assert train_load(config, 1).trees == 4 * 2
    config.objective.name, config.data.train.pairs = "dpo", "pairs.jsonl"
    assert train_load(config, 1).trees == 4


def test_every_stage_is_proved_with_its_own_batch(monkeypatch):
    config = small_config(LLAMA)
    config.data.source, config.stages = "bmlama17", ("dpo", "dco")
    config.stage = {"dpo": {"batching": {"items": 4}, "data": {"train": {"pairs": "pairs.jsonl"}}}}
    seen = []

    def lowered(settings, decoder, mesh, load):
        seen.append((settings.objective.name, load.trees))
        return None, 0, 1.0

    monkeypatch.setattr(proving, "topology_devices", lambda topology: jax.devices()[:1])
    monkeypatch.setattr(proving, "lower_train", lowered)
    monkeypatch.setattr(proving, "program_needs", lambda *_: {"hbm": {"fits": True}})
    report = proving.prove(config, "v5e:1x1", programs=("train",))
    assert list(report["programs"]) == ["train dpo", "train dco"]
    assert seen == [("dpo", 4), ("dco", 16 * 17)]


def test_answers_that_are_written_in_training_are_not_proved(monkeypatch):
    config = small_config(LLAMA)
    config.objective.name, config.rollout.source = "pco_rollout", "generate"
    monkeypatch.setattr(proving, "topology_devices", lambda topology: jax.devices()[:1])
    with pytest.raises(ConfigError, match="rollout.source=generate: .* is not proved here"):
        proving.prove(config, "v5e:1x1")


def test_loads_hold_the_items_of_a_step():
    config = small_config(LLAMA)
    config.data.source, config.batching["items"] = "bmlama17", 24
    one, four = train_load(config, 1), train_load(config, 4)
    assert one.trees == four.trees == 24 * 17
    assert four.shape.groups == 4
    assert four.shape.rows % 4 == 0
    assert four.shape.rows == pytest.approx(one.shape.rows, abs=4)
    # a tree of 10 prompt tokens and 10 answers of 7: 70 row tokens, 61 sources, 70 targets
    assert one.shape.rows * (one.shape.length // 70) >= 24 * 17
    assert 24 * 17 * 61 <= one.shape.sources < 24 * 17 * 61 + 8
    assert 24 * 17 * 70 <= one.shape.targets < 24 * 17 * 70 + 8
    config.batching.accumulate = 3
    assert (train_load(config, 1).items, train_load(config, 1).micro_batches) == (8, 3)
    given = train_load(config, 4, rows=5, length=256)
    assert (given.shape.rows, given.shape.length) == (20, 256)
