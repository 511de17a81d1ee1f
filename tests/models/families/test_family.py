"""What families share: settings that no family supports are errors."""

import itertools

import pytest
from hf_configs import as_transformers_5_writes, read
from torch_models import CASES, hf_config

from consistency_jax.models.families import find_family

GEMMA_CASE, QWEN_CASE = "gemma 3, 9 heads, linear rope", "qwen 2, 3 heads"


SMOLLM_CASE = "smollm 3, 3 heads, one of four layers still"


FLAT_ROPE = {"rope_type": "default", "rope_theta": 1e4}


@pytest.mark.parametrize(
    ("case", "changes", "said"),
    [
        (GEMMA_CASE, {"layer_types": ["chunked_attention"] * 3}, "chunked_attention.*supported: full_at"),
        (GEMMA_CASE, {"layer_types": ["full_attention"]}, "layer_types names 1 layers, the model has 3"),
        (
            GEMMA_CASE,
            {"layer_types": None, "sliding_window_pattern": 0},
            "sliding_window_pattern is 0; it must be a whole",
        ),
        (GEMMA_CASE, {"sliding_window": None}, "need a sliding_window"),
        (GEMMA_CASE, {"use_bidirectional_attention": True}, "use_bidirectional_attention = True: unknown"),
        (GEMMA_CASE, {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping = 50.0: unknown"),
        (GEMMA_CASE, {"rope_parameters": FLAT_ROPE}, "must be given by layer type"),
        (GEMMA_CASE, {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "rope type 'dynamic'"),
        (GEMMA_CASE, {"hidden_activation": "relu"}, "hidden_activation = 'relu'"),
        (GEMMA_CASE, {"num_attention_heads": None}, "num_attention_heads is null; it must be a whole number"),
        (
            QWEN_CASE,
            {"layer_types": ["sliding_attention"] * 3},
            "need a sliding_window",
        ),  # use_sliding_window is off
        (QWEN_CASE, {"rope_parameters": {"full_attention": FLAT_ROPE}}, "by layer type are not supported"),
        (QWEN_CASE, {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        (SMOLLM_CASE, {"no_rope_layers": [1]}, "no_rope_layers names 1 layers, the model has 4"),
        (
            SMOLLM_CASE,
            {"no_rope_layer_interval": 0},
            "no_rope_layer_interval is 0; it must be a whole number",
        ),
        ("gemma 3 multimodal, 3 heads", {"text_config": None}, "has no 'text_config'"),
        ("gemma 3 multimodal, 3 heads", {"tie_word_embeddings": False}, "tie_word_embeddings differs"),
    ],
)
def test_unsupported_settings_are_errors(case: str, changes: dict, said: str) -> None:
    config = hf_config(case)
    config.architectures = [CASES[case][0]]
    with pytest.raises(ValueError, match=said):
        read(as_transformers_5_writes(config) | changes)


def test_numbers_that_say_nothing_or_are_written_with_a_point_are_read():
    config = hf_config(GEMMA_CASE)
    config.architectures = [CASES[GEMMA_CASE][0]]
    written = as_transformers_5_writes(config)
    same = {"hidden_size": float(written["hidden_size"]), "sliding_window": float(written["sliding_window"])}
    for changes in (same, {"initializer_range": None}, {"initializer_range": 0}):
        found = read(written | changes)
        assert found.differences(read(written)) in ([], ["initializer_range"])
        assert type(found.hidden) is int
        assert {type(window) for window in found.windows} <= {int, type(None)}


NEVER = ("64", -1, float("nan"), float("inf"), [[1]], ["x"], {"a": 1})
STRANGE = (
    *NEVER,
    "",
    0,
    1.5,
    True,
    None,
    [],
    {},
)  # these are right for some key, or say that nothing is there


@pytest.mark.parametrize("case", CASES)
def test_a_value_of_another_kind_is_an_error_that_names_its_key(case: str) -> None:
    """Each key, of the inner objects too, with each strange value: no traceback, and no other model."""
    config = hf_config(case)
    config.architectures = [CASES[case][0]]
    written = as_transformers_5_writes(config)
    plain = read(written)
    objects = [(), *((key,) for key, value in written.items() if isinstance(value, dict))]
    for path in objects:
        inner = written[path[0]] if path else written
        for key, strange in itertools.product(inner, STRANGE):
            changed = inner | {key: strange}
            try:
                hf = written | {path[0]: changed} if path else changed
                found = find_family(hf)[1].from_hf(hf)
            except ValueError:  # a ConfigError, or traits that clash in a `DecoderConfig`
                continue
            if strange in NEVER:
                assert not plain.differences(found), (path, key, strange)
