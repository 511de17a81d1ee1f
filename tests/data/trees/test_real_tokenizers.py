"""Trees of BMLAMA-17 in 17 languages by four real tokenizers, against each tokenizer's own library."""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
import tiktoken
import tiktoken.load
import tokenizers
from sentencepiece import sentencepiece_model_pb2

from consistency_jax.data.items import MASK, ParallelItem
from consistency_jax.data.sources import load_items
from consistency_jax.data.trees.builder import TreeBuilder
from consistency_jax.data.trees.forest import ANSWER, UNCOUNTED
from consistency_jax.data.trees.round_trip import round_trip
from consistency_jax.models.tokenizers import load_tokenizer

# What each family's own code puts before a text.
BOS = {"llama2": [1], "llama3": [128000], "qwen3_rebuilt": [], "cohere_commandr": [5]}
Encoder = Callable[[list[str]], list[list[int]]]
LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Real:
    """A tokenizer as the package loads it, and what its own library says of texts and of continuations."""

    name: str
    tokenizer: Any
    whole: Encoder
    continued: Encoder


@pytest.fixture(scope="module", params=["llama2", "llama3", "qwen3_rebuilt", "cohere_commandr"])
def real(request, data_folder: Path, tmp_path_factory) -> Real:
    folder = data_folder / "tokenizers" / request.param
    if request.param == "cohere_commandr":
        packed, folder = folder, tmp_path_factory.mktemp("cohere")
        (folder / "tokenizer.json").write_bytes(gzip.decompress((packed / "tokenizer.json.gz").read_bytes()))
        names = {"bos_token": "<BOS_TOKEN>", "eos_token": "<|END_OF_TURN_TOKEN|>"}
        settings = {"tokenizer_class": "CohereTokenizer", **names}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    whole, continued = reference(folder)
    return Real(request.param, load_tokenizer(folder), whole, continued)


def reference(folder: Path) -> tuple[Encoder, Encoder]:
    if folder.name == "llama2":
        proto = sentencepiece_model_pb2.ModelProto()
        proto.ParseFromString((folder / "tokenizer.model").read_bytes())
        whole = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
        proto.normalizer_spec.add_dummy_prefix = False
        continued = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
        return whole.encode, continued.encode
    if folder.name == "llama3":
        ranks = tiktoken.load.load_tiktoken_bpe(str(folder / "tokenizer.model"))
        encoding = tiktoken.Encoding(
            name="llama3", pat_str=LLAMA3_PATTERN, mergeable_ranks=ranks, special_tokens={}
        )
        return encoding.encode_ordinary_batch, encoding.encode_ordinary_batch
    backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    backend.encode_special_tokens = True

    def encode(texts: list[str]) -> list[list[int]]:
        return [e.ids for e in backend.encode_batch(texts, add_special_tokens=False)]

    return encode, encode


@pytest.fixture(scope="module")
def items(data_folder: Path) -> list[ParallelItem]:
    return load_items("bmlama17", path=data_folder / "bmlama17")


def assert_trees_are_the_librarys(real: Real, items: list[ParallelItem], boundary: str) -> None:
    """Tokens are the library's, with the family's BOS in front and no special token after it; kinds split them."""
    languages = items[0].languages
    trees = TreeBuilder(real.tokenizer, boundary=boundary).build(items)
    bos = BOS[real.name]
    # Without BOS, EOS stands in where an answer opens the sentence.
    start = bos or [real.tokenizer.eos_token_id]
    special = set(real.tokenizer.all_special_ids)
    heads, fulls, opening, following = [], [], [], []
    for item in items:
        for language in languages:
            head, _, rest = item.prompts[language].partition(MASK)
            kept = head.rstrip()
            heads.append(kept)
            fulls += [head + candidate + rest for candidate in item.candidates[language]]
            answers = [head[len(kept) :] + candidate + rest for candidate in item.candidates[language]]
            opening += [] if kept else answers
            following += answers if kept else []
    if boundary == "joint":
        expected = iter(real.whole(fulls))
    prompts = iter(real.whole(heads))
    first, after = iter(real.whole(opening)), iter(real.continued(following))
    assert len(trees) == len(items) * len(languages)
    assert sum(len(tree.branches) for tree in trees) == len(fulls) > 0
    for tree in trees:
        prompt, trunk, trunk_kind = next(prompts), tree.trunk.tolist(), tree.trunk_kind.tolist()
        for branch, kind in zip(tree.branches, tree.branch_kinds):
            tokens, kinds = trunk + branch.tolist(), trunk_kind + kind.tolist()
            if boundary == "joint":
                whole = next(expected)
                assert tokens in (bos + whole, start + whole)
            else:
                front = bos if prompt else start
                assert trunk == front + prompt
                assert branch.tolist() == next(after if prompt else first)
            assert special.isdisjoint(tokens[1:])
            assert kinds == sorted(kinds)
            assert (kinds[0], kinds[-1]) == (UNCOUNTED, ANSWER)
            assert UNCOUNTED not in kinds[1:]


@pytest.mark.parametrize("boundary", ["separate", "joint"])
def test_a_sample_of_bmlama(real: Real, items: list[ParallelItem], boundary: str) -> None:
    assert_trees_are_the_librarys(real, items[::170], boundary)


@pytest.mark.slow
@pytest.mark.parametrize("boundary", ["separate", "joint"])
def test_all_of_bmlama(real: Real, items: list[ParallelItem], boundary: str) -> None:
    for start in range(0, len(items), 500):  # a part at a time: all of it is a million texts
        assert_trees_are_the_librarys(real, items[start : start + 500], boundary)


def test_the_files_own_tokens_are_kept(real: Real, items: list[ParallelItem], tmp_path: Path) -> None:
    """Saved as tokenizer.json under a class name that transformers would rebuild, and loaded again."""
    real.tokenizer.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    settings["tokenizer_class"] = {"llama2": "LlamaTokenizer", "llama3": "LlamaTokenizer"}.get(
        real.name, settings["tokenizer_class"]
    )
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    loaded = load_tokenizer(tmp_path)
    texts = [text for item in items[::680] for text in item.prompts.values()]
    texts += ["  two  spaces ", " lead", "a\n\nb", "1234567"]
    assert loaded(texts)["input_ids"] == [BOS[real.name] + ids for ids in real.whole(texts)]
    assert (loaded.bos_token, loaded.eos_token) == (real.tokenizer.bos_token, real.tokenizer.eos_token)


@pytest.mark.parametrize("boundary", ["separate", "joint"])
def test_special_tokens_in_a_text_are_ordinary_characters(real: Real, boundary: str) -> None:
    odd = "a </s> b <|endoftext|> <|im_end|> <|eot_id|> <|END_OF_TURN_TOKEN|> <BOS_TOKEN> <s>"
    item = ParallelItem("odd", "", {"en": odd}, {"en": (" </s>", " <|im_end|>", " <|eot_id|> x")})
    (tree,) = TreeBuilder(real.tokenizer, boundary=boundary).build([item])
    named = {token.content: i for i, token in real.tokenizer.added_tokens_decoder.items() if token.special}
    assert any(token in odd for token in named)
    start = len(BOS[real.name])
    for branch, answer in zip(tree.branches, item.candidates["en"]):
        tokens = np.r_[tree.trunk, branch][start:].tolist()
        assert not set(tokens) & set(named.values())
        if boundary == "joint":
            assert tokens == real.whole([odd + answer])[0]
        assert real.tokenizer.decode(tokens) == odd + answer


def test_bmlama_reads_back(real: Real, items: list[ParallelItem]) -> None:
    found = round_trip(real.tokenizer, items, items[0].languages)
    assert 1900 < found.checked < 2100
    assert not found.changed
