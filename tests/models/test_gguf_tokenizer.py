"""Tokenizers in GGUF metadata segment as the tokenizers that they were written from."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import tokenizers
from sentencepiece import sentencepiece_model_pb2
from test_tokenizers import texts

from consistency_jax.models.gguf_tokenizer import gguf_tokenizer
from consistency_jax.models.tokenizers import TokenizerError, load_tokenizer

HERE = Path("model.gguf")


def metadata(**keys: Any) -> Any:
    """What `gguf_tokenizer` asks."""
    named = {f"tokenizer.ggml.{key}": value for key, value in keys.items()}
    return lambda key: named.get(key, keys.get(key.replace(".", "_")))


def of_bpe(tokenizer: tokenizers.Tokenizer, pre: str, **keys: Any) -> Any:
    """A byte-level tokenizer as writers of such files put it."""
    said = json.loads(tokenizer.to_str())
    added = {token["id"]: token for token in said["added_tokens"]}
    names = dict(said["model"]["vocab"]) | {token["content"]: number for number, token in added.items()}
    tokens = sorted(names, key=names.__getitem__)
    assert [names[token] for token in tokens] == list(range(len(tokens)))
    kinds = [(3 if added[n]["special"] else 4) if n in added else 1 for n in range(len(tokens))]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in said["model"]["merges"]]
    return metadata(model="gpt2", pre=pre, tokens=tokens, token_type=kinds, merges=merges, **keys)


@pytest.mark.parametrize("name", ["tokenizers/llama2", "checkpoints/hf_stories260K"])
def test_a_sentencepiece_model_segments_as_sentencepiece(data_folder: Path, name: str) -> None:
    file = data_folder / name / "tokenizer.model"
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(file.read_bytes())
    pieces = list(proto.pieces)
    value = metadata(
        model="llama",
        tokens=[p.piece.replace("\u2581", " ") if p.type == p.USER_DEFINED else p.piece for p in pieces],
        scores=[p.score for p in pieces],
        token_type=[p.type for p in pieces],
        bos_token_id=1,
        eos_token_id=2,
        unknown_token_id=0,
    )
    tokenizer, sample = gguf_tokenizer(value, HERE), texts(data_folder)
    reference = sentencepiece.SentencePieceProcessor(str(file)).encode(sample)
    assert tokenizer(sample, add_special_tokens=False, split_special_tokens=True)["input_ids"] == reference
    assert tokenizer("a")["input_ids"] == [1, *tokenizer("a", add_special_tokens=False)["input_ids"]]


@pytest.mark.parametrize(
    ("name", "pre"), [("llama3", "llama-bpe"), ("qwen3_rebuilt", "qwen2"), ("cohere_commandr", "command-r")]
)
def test_a_byte_level_vocabulary_segments_as_the_original(data_folder: Path, name: str, pre: str) -> None:
    folder = data_folder / "tokenizers" / name
    if (packed := folder / "tokenizer.json.gz").is_file():
        original = tokenizers.Tokenizer.from_str(gzip.decompress(packed.read_bytes()).decode())
    else:
        original = load_tokenizer(folder).backend_tokenizer
    original.normalizer = None  # no file holds one, and llama.cpp has none
    tokenizer = gguf_tokenizer(of_bpe(original, pre), HERE)
    sample = texts(data_folder)
    sample += ["1234567 and 12,345.67", "I'm WE'LL x'y", "a  b\n\n c\t", "\u0967\u0968\u0969 \u2167 \u00bd"]
    theirs = [encoded.ids for encoded in original.encode_batch(sample, add_special_tokens=False)]
    assert [
        e.ids for e in tokenizer.backend_tokenizer.encode_batch(sample, add_special_tokens=False)
    ] == theirs
    assert [tokenizer.decode(ids) for ids in theirs[:50]] == sample[:50]


BYTES = [chr(c) for c in range(33, 127)]
SMALL = {"model": "gpt2", "pre": "gpt-2", "tokens": [*BYTES, "ab", "<s>", "</s>", "<x>"], "merges": ["a b"]}
KINDS = [1] * (len(BYTES) + 1) + [3, 3, 4]
BOS, EOS = len(BYTES) + 1, len(BYTES) + 2


def test_bos_and_eos_are_put_where_the_file_says_so() -> None:
    ends = {"token_type": KINDS, "bos_token_id": BOS, "eos_token_id": EOS}
    cases = {
        (): [],  # llama.cpp's default of this kind
        (("add_bos_token", True),): [BOS],
        (("add_bos_token", False),): [],
        (("pre", "llama-bpe"),): [BOS],  # and of Llama 3's
        (("pre", "tekken"),): [BOS],  # and of Mistral's
        (("pre", "llama-bpe"), ("add_bos_token", False)): [],
    }
    for keys, front in cases.items():
        tokenizer = gguf_tokenizer(metadata(**SMALL | ends | dict(keys)), HERE)
        assert tokenizer("ab")["input_ids"] == [*front, len(BYTES)]
        assert tokenizer.bos_token == "<s>"
    both = gguf_tokenizer(metadata(**SMALL, **ends, add_bos_token=True, add_eos_token=True), HERE)
    assert both("ab")["input_ids"] == [BOS, len(BYTES), EOS]
    assert both("<x>", add_special_tokens=False)["input_ids"] == [EOS + 1]


def test_a_chat_template_comes_with_it() -> None:
    keys = metadata(**SMALL, tokenizer_chat_template="{{ messages[0]['content'] }}!")
    tokenizer = gguf_tokenizer(keys, HERE)
    said = [{"role": "user", "content": "ab"}]
    assert tokenizer.apply_chat_template(said, tokenize=False) == "ab!"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"model": "rwkv"}, "tokenizer 'rwkv' is not supported; supported: llama, gpt2"),
        ({"pre": "poro-chat"}, "tokenizer.ggml.pre = 'poro-chat' is not supported"),
        ({"pre": None}, "tokenizer.ggml.pre = None is not supported"),
        ({"merges": ["a b", "c"]}, "cannot be made"),
        ({"merges": ["a zz"]}, "makes what is no token"),
        ({"merges": []}, "has no merges, without which texts are bytes"),
        ({"merges": None}, "has no merges"),
        ({"token_type": 3}, "cannot be made"),
        ({"scores": 3}, "cannot be made"),
        ({"tokens": 5}, "cannot be made"),
        ({"bos_token_id": "x"}, "cannot be made"),
        ({"eos_token_id": 1.0}, "cannot be made"),
        (
            {
                "tokens": [*SMALL["tokens"][:-3], "<s:1>", "</s>", "<x>"],
                "bos_token_id": BOS,
                "add_bos_token": True,
            },
            "be made",
        ),
        ({"token_type": [1, 1]}, "not of one length"),
        ({"bos_token_id": 10_000}, "bos_token_id = 10000, and there are"),
    ],
)
def test_what_cannot_be_made_is_told(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(TokenizerError, match=f"model.gguf: .*{message}"):
        gguf_tokenizer(metadata(**SMALL | keys), HERE)


def test_a_file_without_a_tokenizer_gives_none() -> None:
    assert gguf_tokenizer(metadata(), HERE) is None
    assert gguf_tokenizer(metadata(model="none"), HERE) is None


def test_a_merge_of_what_is_no_token_is_told():
    """The library panics over it, which is no Exception."""
    keys = {"tokens": ["a", "b"], "token_type": [1, 1], "merges": ["a b"]}
    with pytest.raises(TokenizerError, match="the merge 'a b' makes what is no token"):
        gguf_tokenizer(metadata(model="gpt2", pre="gpt-2", **keys), HERE)
