"""Published models by id: read and counted as torch does."""

import pytest
import transformers
from hf_configs import MULTIMODAL, as_transformers_reads, read

from consistency_jax.models.published import PUBLISHED, published_config

torch = pytest.importorskip("torch")

PARAMETERS = {
    "meta-llama/Llama-3.1-8B": 8_030_261_248,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "meta-llama/Llama-3.2-3B": 3_212_749_824,
    "Qwen/Qwen2.5-0.5B": 494_032_768,
    "Qwen/Qwen2.5-7B": 7_615_616_512,
    "Qwen/Qwen2.5-14B": 14_770_033_664,
    "Qwen/Qwen3-0.6B": 596_049_920,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "Qwen/Qwen3-14B": 14_768_307_200,
    "google/gemma-2-9b": 9_241_705_984,
    "google/gemma-3-270m": 268_098_176,
    "google/gemma-3-1b-pt": 999_885_952,
    "google/gemma-3-4b-pt": 3_880_263_168,
    "google/gemma-3-12b-pt": 11_766_034_176,
    "CohereLabs/aya-expanse-8b": 8_028_033_024,
}


@pytest.mark.parametrize("hub_id", PUBLISHED)
def test_published_models_are_read_and_counted_as_torch_does(hub_id: str) -> None:
    hf, config = PUBLISHED[hub_id], published_config(hub_id)
    assert read(as_transformers_reads(hf)) == config
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(**hf))
    text = model.model.language_model if hf["architectures"] == [MULTIMODAL] else model
    assert type(model).__name__ == hf["architectures"][0]
    assert sum(p.numel() for p in text.parameters()) == config.num_params == PARAMETERS[hub_id]


def test_a_model_that_is_not_known_is_told_with_those_that_are():
    with pytest.raises(KeyError, match="known: meta-llama/Llama-3.1-8B, "):
        published_config("gpt2")
