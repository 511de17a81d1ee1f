"""A config.json whose every key is accounted for, so that no trait of a model is ignored silently.

A key is read, and its value is of the key's kind (`KINDS`); or it changes no logit; or it says that a trait is absent
which the family does not have; or it is one of the family's own that may be ignored. Any other is an error that names
it.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from consistency_jax.errors import ConfigError

HfConfig = Mapping[str, Any]

# Names, tokens, how it is run and trained, and settings of generation, which old files hold. (`max_window_layers` says
# nothing without `use_sliding_window`.)
WITHOUT_EFFECT = frozenset(
    re.findall(
        r"\S+",
        """
        _name_or_path architectures dtype is_llama_config model_type name_or_path torch_dtype transformers.js_config
        transformers_version unsloth_fixed unsloth_version
        bos_token_id decoder_start_token_id eos_token_id pad_token_id sep_token_id tokenizer_class unk_token_id
        _attn_implementation _attn_implementation_autoset _flash_attn_2_enabled attn_implementation
        cache_implementation chunk_size_feed_forward is_decoder max_sequence_length max_window_layers model_max_length
        output_attentions output_hidden_states pretraining_tp return_dict tf_legacy_loss tie_last_hidden_states
        torchscript use_bfloat16 use_cache
        attention_dropout finetuning_task gradient_checkpointing hidden_dropout id2label label2id num_labels prefix
        problem_type task_specific_params
        bad_words_ids begin_suppress_tokens diversity_penalty do_sample early_stopping encoder_no_repeat_ngram_size
        exponential_decay_length_penalty forced_bos_token_id forced_eos_token_id length_penalty max_length min_length
        no_repeat_ngram_size num_beam_groups num_beams num_return_sequences output_scores remove_invalid_values
        repetition_penalty return_dict_in_generate suppress_tokens temperature top_k top_p typical_p
        """,
    )
)
# Traits of some models: absent where the value is null, false or empty. A family that has one reads the key.
TRAITS = frozenset(
    re.findall(
        r"\S+",
        """
        add_cross_attention attention_bias attn_logit_softcapping clip_qkv cross_attention_hidden_size
        final_logit_softcapping is_encoder_decoder logit_scale mlp_bias per_layer_config pruned_heads qk_norm
        quantization_config rope_interleaved sliding_window tie_encoder_decoder use_bidirectional_attention use_mrope
        use_qk_norm use_sliding_window
        """,
    )
)


LARGEST = 2**31 - 1  # of the whole numbers that programs compute with


class Kind(NamedTuple):
    """What a value may be. `null`: or that there is none; of other keys, one is left out where there is none. `whole`:
    it is read as an int, also where it is written as 4096.0."""

    said: str
    holds: Callable[[Any], bool]
    null: bool = False
    whole: bool = False


def _number(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < 1e15


def _whole(value: Any) -> bool:
    return _number(value) and value == int(value)


def _count(value: Any) -> bool:
    return _whole(value) and value <= LARGEST


_COUNT = Kind(f"a whole number from 1 to {LARGEST:,}", _count, whole=True)
_SIZE = Kind(
    "a whole number, not negative and below 1e15",
    lambda value: value == 0 or _whole(value),
    null=True,
    whole=True,
)
_NUMBER = Kind("a number above 0 and below 1e15", _number)
_AMOUNT = Kind("a number, not negative and below 1e15", lambda value: value == 0 or _number(value), null=True)
_FLAG = Kind("true or false", lambda value: value in (0, 1), null=True)
_NAME = Kind("a name", lambda value: isinstance(value, str))
_OBJECT = Kind("an object", lambda value: isinstance(value, Mapping), null=True)
_LIST = Kind(
    "a list of names or whole numbers",
    lambda value: isinstance(value, list | tuple) and all(type(each) in (str, int, bool) for each in value),
    null=True,
)
# The keys that families read. A null may stand where it has a meaning: no cap, no window, as many as heads.
_KEYS = (
    (_COUNT, "hidden_size intermediate_size num_attention_heads num_hidden_layers vocab_size"),
    (_COUNT, "max_position_embeddings no_rope_layer_interval original_max_position_embeddings"),
    (_COUNT, "sliding_window_pattern"),
    (_COUNT._replace(null=True), "head_dim num_key_value_heads"),
    (_SIZE, "max_window_layers sliding_window"),
    (_AMOUNT, "initializer_range mscale mscale_all_dim"),
    (_NUMBER, "beta_fast beta_slow factor high_freq_factor layer_norm_eps logit_scale"),
    (_NUMBER, "low_freq_factor query_pre_attn_scalar rms_norm_eps rope_local_base_freq rope_theta"),
    (_NUMBER._replace(null=True), "attention_factor attn_logit_softcapping final_logit_softcapping"),
    (_NUMBER._replace(null=True), "partial_rotary_factor"),
    (_FLAG, "attention_bias mlp_bias tie_word_embeddings use_qk_norm use_sliding_window"),
    (_NAME, "hidden_act hidden_activation rope_type type"),
    (_OBJECT, "rope_parameters rope_scaling text_config"),
    (_LIST, "layer_types no_rope_layers"),
)
KINDS: dict[str, Kind] = {key: kind for kind, keys in _KEYS for key in keys.split()}


class Keys(Mapping[str, Any]):
    """A config.json, or one object of it, laid over defaults, that remembers which of its keys were read."""

    def __init__(self, given: HfConfig, defaults: HfConfig | None = None, where: str = "config.json") -> None:
        self._given, self._values, self._where = given, {**(defaults or {}), **given}, where
        self._read: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        """The value, whole numbers as such; ConfigError where it is not of its key's kind."""
        self._read.add(key)
        value, kind = self._values[key], KINDS.get(key)
        if kind and not (kind.null if value is None else kind.holds(value)):
            told = "null" if value is None else f"{value!r:.60}"
            raise ConfigError(f"{self._where}: {key} is {told}; it must be {kind.said}")
        if kind and kind.whole and value is not None:
            return min(int(value), LARGEST)  # a window as wide as can be is none
        return float(value) if type(value) is int and value > LARGEST else value

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def required(self, key: str) -> Any:
        """The value; ConfigError that names the key where there is none."""
        if self.get(key) is None:
            raise ConfigError(f"{self._where} has no {key!r}")
        return self[key]

    def account(self, ignored: HfConfig) -> None:
        """ConfigError that names the keys that were not read and may change what the model computes.

        Args:
          ignored: further keys that may stand there, with the only value they may have; ... for any value.
        """
        unknown = [
            f"{key} = {str(value)[:40]}"
            for key, value in self._given.items()
            if key not in self._read | WITHOUT_EFFECT
            and (value or key not in TRAITS)
            and (key not in ignored or ignored[key] not in (value, ...))
        ]
        if not unknown:
            return
        if self._given.get("quantization_config"):
            raise ConfigError(
                f"{self._where}: quantization_config: quantised weights are not supported; take the model without it"
            )
        raise ConfigError(
            f"{self._where}: {', '.join(unknown)}: unknown here for this architecture. Delete what changes no logit; "
            "a model with any other trait is not supported"
        )
