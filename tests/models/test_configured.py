"""The decoder that a config describes, without its weights."""

import dataclasses
import json

import pytest

from consistency_jax.config.defaults import default
from consistency_jax.errors import ConfigError
from consistency_jax.models.configured import abstract_model, lora_config
from consistency_jax.models.published import PUBLISHED, published_config


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_are_known_by_id(name):
    config = default()
    config.model.path = name
    assert abstract_model(config).num_params == published_config(name).num_params


def test_a_folder_needs_its_config_json_alone(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED["Qwen/Qwen3-0.6B"]))
    config = default()
    config.model.path, config.model.compute_dtype = str(tmp_path), "bfloat16"
    config.model.remat = "dots"
    expected = published_config("Qwen/Qwen3-0.6B")
    assert abstract_model(config) == dataclasses.replace(expected, dtype="bfloat16", remat="dots")


def test_what_is_no_model_is_told():
    config = default()
    config.model.path = "nobody/nothing"
    with pytest.raises(ConfigError, match=r"nobody/nothing.*config.json.*Llama-3.1-8B"):
        abstract_model(config)
    config.model.path, config.model.architecture = "", {"hidden_size": 8}
    with pytest.raises(ConfigError, match="model.architecture: unsupported architecture"):
        abstract_model(config)


def test_a_config_json_that_describes_no_decoder_is_told_by_its_folder(tmp_path):
    config = default()
    config.model.path = str(tmp_path)
    for change, said in (
        ({"num_key_value_heads": 5}, "heads = 16 is not a multiple of kv_heads = 5"),
        ({"new_trait": 1}, "config.json: new_trait = 1: unknown here"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(PUBLISHED["Qwen/Qwen3-0.6B"] | change))
        with pytest.raises(ConfigError, match=f"^{tmp_path}: .*{said}"):
            abstract_model(config)


def test_adapters_are_those_of_the_config():
    config = default()
    assert lora_config(config) is None
    config.lora.update(rank=4, alpha=8.0)
    assert (lora_config(config).rank, lora_config(config).alpha) == (4, 8.0)
    config.model.path = "Qwen/Qwen3-0.6B"
    assert abstract_model(config).lora == lora_config(config)
    config.lora.rank = -1
    with pytest.raises(ConfigError, match="rank"):
        lora_config(config)
