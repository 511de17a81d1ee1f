"""Folders with a bare `tokenizer.model` segment text as the file's own library does, with true offsets."""

import csv
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import sentencepiece
import tiktoken
import tiktoken.load
import tokenizers
import transformers

from consistency_jax.data.trees.tokenization import encode
from consistency_jax.models.decoder import DecoderConfig, init_params
from consistency_jax.models.huggingface import Model, load_pretrained, save_pretrained
from consistency_jax.models.tokenizers import TokenizerError, load_tokenizer, put_bos

ODD = [
    "",
    " ",
    "  two  spaces ",
    "line\nbreak\ttab\r\n",
    "emoji 👩‍👩‍👧 ﬁ ① Ａ e\u0301",
    "<s> no BOS </s>",
    "<unk>",
    "<0x41>",
    "▁low line",
    "a\u00a0b\u3000c\u200bd",
]
MODELS = ("checkpoints/hf_stories260K", "checkpoints/hf_babyllama105", "tokenizers/llama2")


def texts(data_folder: Path, every: int = 40) -> list[str]:
    """A sample of all languages of BMLAMA-17: prompts and candidate lists."""
    found = []
    for path in sorted((data_folder / "bmlama17").glob("*.tsv")):
        with path.open(newline="", encoding="utf-8") as file:
            for row in list(csv.reader(file, delimiter="\t"))[1::every]:
                found += [row[0], row[2]]
    assert len(found) > 1000
    return found + ODD


@pytest.mark.parametrize("name", MODELS)
def test_sentencepiece_folders_segment_as_sentencepiece(data_folder: Path, name: str) -> None:
    tokenizer = load_tokenizer(data_folder / name)
    reference = sentencepiece.SentencePieceProcessor(str(data_folder / name / "tokenizer.model"))
    sample = texts(data_folder)
    ours = tokenizer(sample, return_offsets_mapping=True, add_special_tokens=False, split_special_tokens=True)
    assert ours["input_ids"] == reference.encode(sample)
    assert tokenizer.is_fast
    assert tokenizer.bos_token_id == reference.bos_id()
    assert tokenizer.eos_token_id == reference.eos_id()
    for text, offsets in zip(sample, ours["offset_mapping"]):
        covered = np.zeros(len(text), bool)
        for start, end in offsets:
            assert 0 <= start <= end <= len(text)
            covered[start:end] = True
        assert all(covered[i] or character.isspace() for i, character in enumerate(text))
    if (
        reference.id_to_piece(3) == "<0x00>"
    ):  # else pieces are lost as <unk>, which each library spells its own way
        for ids in ours["input_ids"]:
            assert tokenizer.decode(ids) == reference.decode(ids)


def test_the_leading_space_is_there(data_folder: Path) -> None:
    tokenizer = load_tokenizer(data_folder / "checkpoints" / "hf_stories260K")
    assert tokenizer("Once upon a time")["input_ids"] == [1, 403, 407, 261, 378]


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_models_with_normalization_and_user_symbols(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdeéñшж日本"), rng.integers(1, 8))) for _ in range(300)]
    lines = [" ".join(rng.choice(words, 8)) for _ in range(400)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_prefix=str(tmp_path / "tokenizer"),
        vocab_size=420,
        model_type=kind,
        byte_fallback=True,
        user_defined_symbols=["<mask>"],
        minloglevel=2,
        hard_vocab_limit=False,
    )
    reference = sentencepiece.SentencePieceProcessor(str(tmp_path / "tokenizer.model"))
    tokenizer = load_tokenizer(tmp_path)
    sample = [*lines[:100], *words[:100], "Ａｂｃ ﬁ ① x", " lead", "two  spaces", "a<mask>b"]
    assert tokenizer(sample)["input_ids"] == reference.encode(sample, add_bos=True)


def test_llama3_tiktoken_file(data_folder: Path) -> None:
    folder = data_folder / "tokenizers" / "llama3"
    tokenizer = load_tokenizer(folder)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, len(tokenizer)) == (128000, 128001, 128256)
    assert tokenizer.convert_tokens_to_ids("<|eot_id|>") == 128009
    reference = tiktoken.Encoding(
        name="llama3",
        pat_str=r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+",
        mergeable_ranks=tiktoken.load.load_tiktoken_bpe(str(folder / "tokenizer.model")),
        special_tokens={},
    )
    sample = texts(data_folder, every=200)
    assert tokenizer(sample)["input_ids"] == [
        [128000, *ids] for ids in reference.encode_ordinary_batch(sample)
    ]


def test_hugging_face_folders_load_as_they_are(data_folder: Path) -> None:
    tokenizer = load_tokenizer(data_folder / "tokenizers" / "qwen3_rebuilt")
    assert tokenizer.is_fast
    assert tokenizer.decode(tokenizer("Hello мир")["input_ids"]) == "Hello мир"


def test_bos_stands_before_a_sentencepiece_text_unless_its_folder_says_otherwise(
    data_folder: Path, tmp_path: Path
) -> None:
    """As the file's own library puts it where it is asked to."""
    source = data_folder / "checkpoints" / "hf_stories260K" / "tokenizer.model"
    reference = sentencepiece.SentencePieceProcessor(str(source))
    (tmp_path / "tokenizer.model").write_bytes(source.read_bytes())
    for settings, puts in (({}, True), ({"add_bos_token": True}, True), ({"add_bos_token": False}, False)):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
        loaded = load_tokenizer(tmp_path)
        for text in ("Once upon a time", "", " lead"):
            assert loaded(text)["input_ids"] == reference.encode(text, add_bos=puts)
        saved = tmp_path / f"saved{puts}"
        loaded.save_pretrained(saved)
        assert load_tokenizer(saved)("Once")["input_ids"] == reference.encode("Once", add_bos=puts)


def test_tokens_that_files_beside_a_sentencepiece_model_add_have_their_ids(
    data_folder: Path, tmp_path: Path
) -> None:
    """As a chat's in older folders: `added_tokens.json`, and EOS and the template in tokenizer_config.json."""
    source = data_folder / "checkpoints" / "hf_stories260K" / "tokenizer.model"
    (tmp_path / "tokenizer.model").write_bytes(source.read_bytes())
    plain = load_tokenizer(tmp_path)
    first, turns = len(plain), ["<|im_start|>", "<|im_end|>"]
    (tmp_path / "added_tokens.json").write_text(json.dumps({turns[1]: first + 1, turns[0]: first}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": turns[1]}))
    chat = load_tokenizer(tmp_path)
    said = next(encode(chat, ["<|im_start|>Once<|im_end|>"], special=True)).ids
    assert (said[0], said[-1], chat.eos_token_id) == (first, first + 1, first + 1)
    chat.save_pretrained(tmp_path / "saved")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert theirs("<|im_start|>Once<|im_end|>", add_special_tokens=False)["input_ids"] == said
    assert chat("Once")["input_ids"] == plain("Once")["input_ids"]
    (tmp_path / "added_tokens.json").write_text(json.dumps({turns[0]: first + 7}))
    with pytest.raises(TokenizerError, match=f"should have id {first + 7}, and has {first}"):
        load_tokenizer(tmp_path)


def test_a_named_bos_is_put_once(small_tokenizer) -> None:
    backend = small_tokenizer.backend_tokenizer
    for kind in (None, tokenizers.processors.ByteLevel(trim_offsets=True)):
        named = transformers.PreTrainedTokenizerFast(
            tokenizer_object=backend, bos_token="<s>", eos_token="</s>", add_bos_token=False
        )
        bare = named("Paris is")["input_ids"]
        if kind:
            named.backend_tokenizer.post_processor = kind
        for _ in range(2):
            put_bos(named)
            assert named("Paris is")["input_ids"] == [0, *bare]
    nameless = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="</s>", add_bos_token=False
    )
    put_bos(nameless)
    assert nameless("Paris is")["input_ids"] == bare


def test_no_tokenizer_and_broken_tokenizers(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    assert load_tokenizer(tmp_path) is None
    for content in (b"\x00\x01 not a model", b""):
        (tmp_path / "tokenizer.model").write_bytes(content)
        with pytest.raises(TokenizerError, match="cannot be read"):
            load_tokenizer(tmp_path)


@pytest.mark.parametrize("name", MODELS)
def test_exported_folders_segment_as_here_with_transformers(
    data_folder: Path, tmp_path: Path, name: str
) -> None:
    """With a bare `tokenizer.model` it would take what its class usually does: put no BOS, or a space before a text."""
    source, made = tmp_path / "source", tmp_path / "made"
    rows = len(load_tokenizer(data_folder / name))
    config = DecoderConfig(vocab_size=rows, hidden=8, layers=1, heads=2, kv_heads=1, head_dim=4, mlp=8)
    save_pretrained(Model(config, init_params(config, jax.random.key(0))), source)
    shutil.copy(data_folder / name / "tokenizer.model", source)
    (source / "tokenizer_config.json").write_text('{"model_max_length": 77, "padding_side": "left"}')
    before = load_pretrained(source)
    save_pretrained(before, made)
    theirs, again = transformers.AutoTokenizer.from_pretrained(made), load_tokenizer(made)
    assert (theirs.model_max_length, theirs.padding_side) == (77, "left")
    for text in texts(data_folder, every=200):
        ids = before.tokenizer(text)["input_ids"]
        assert again(text)["input_ids"] == ids
        assert theirs(text)["input_ids"] == ids
