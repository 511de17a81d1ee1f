"""Texts are split only where no tokenizer looks across: tokens of the parts are the tokens of the whole."""

import copy
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import transformers

from consistency_jax.data.items import DataError, ParallelItem
from consistency_jax.data.trees.builder import TreeBuilder
from consistency_jax.data.trees.tokenization import bos_of, encode, encode_continuations, splitter_of
from consistency_jax.models.tokenizers import load_tokenizer

ODD = [*"abzÉß5½²_'-.,!(¿\t\n\u00a0\u2581\u0120\u0301\u200b", "  ", "'s", "</s>"]
ODD += ["Paris", "Мадрид", "マド", "باريس", "हि"]
REAL = ("llama2", "llama3", "qwen3_rebuilt", "cohere_commandr", "hf_stories260K")


@pytest.fixture(scope="module", params=["small", *REAL])
def tokenizer(request, small_tokenizer, tmp_path_factory) -> Any:
    if request.param == "small":
        return small_tokenizer
    data_folder = request.getfixturevalue("data_folder")
    folder = data_folder / "tokenizers" / request.param
    if request.param == "hf_stories260K":
        folder = data_folder / "checkpoints" / request.param
    if request.param == "cohere_commandr":
        packed, folder = folder, tmp_path_factory.mktemp("cohere")
        (folder / "tokenizer.json").write_bytes(gzip.decompress((packed / "tokenizer.json.gz").read_bytes()))
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CohereTokenizer"}))
    return load_tokenizer(folder)


@pytest.mark.parametrize("stripped", [False, True])
def test_tokens_of_the_words_are_the_tokens_of_the_whole(tokenizer, stripped):
    """Texts of anything, with spaces, marks and special tokens at odd places."""
    if stripped:
        if tokenizer.backend_tokenizer.normalizer is not None:
            pytest.skip("has a normalizer of its own")
        tokenizer = copy.deepcopy(tokenizer)
        tokenizer.backend_tokenizer.normalizer = tokenizers.normalizers.Strip()
    splitter = splitter_of(tokenizer)
    assert splitter is not None
    rng, splits = np.random.default_rng(0), 0
    for text in ("".join(rng.choice([*ODD, *[" "] * 16], 14)) for _ in range(1000)):
        text = f"a{text}a" if stripped else text  # ends are the tokenizer's
        first, *others = splitter.words(text)
        assert "".join((first, *others)) == text
        ids = [e.ids for e in encode(tokenizer, [first])]
        ids += [e.ids for e in encode_continuations(tokenizer, others)] if others else []
        (whole,) = (e.ids for e in encode(tokenizer, [text]))
        assert sum(ids, []) == whole, text
        splits += len(others)
    assert splits > 500


DIGITS = {"type": "Digits", "individual_digits": True}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


@pytest.mark.parametrize(
    "change",
    [
        {"normalizer": {"type": "Replace", "pattern": {"Regex": "a b"}, "content": "c"}},
        {
            "pre_tokenizer": {
                "type": "Split",
                "pattern": {"Regex": ".+"},
                "behavior": "Isolated",
                "invert": False,
            }
        },
        {"normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "_"}},  # words know no "_"
        {
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [DIGITS, BYTES | {"add_prefix_space": True}],
            }
        },
        {"pre_tokenizer": None, "ignore_merges": True},  # a part may be a token that the whole is not
        {"pre_tokenizer": None},  # pieces may then hold a space behind a letter, and here one does
        {"added": "New York"},
        {"added": "York", "rstrip": True},
    ],
)
def test_what_is_not_known_to_allow_cuts_gets_none(change, small_tokenizer, tmp_path: Path):
    state = json.loads(small_tokenizer.backend_tokenizer.to_str())
    if "added" in change:
        traits = {
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": False,
        }
        token = {"id": 2, "content": change.pop("added")} | traits | change
        state["added_tokens"] = [*state["added_tokens"][:2], token]
    else:
        state |= change
    vocabulary = state["model"]["vocab"]
    if state.pop("ignore_merges", False):
        state["model"]["ignore_merges"] = True
    else:
        vocabulary["aĠb"] = len(vocabulary)
    backend = tokenizers.Tokenizer.from_str(json.dumps(state))
    assert splitter_of(transformers.PreTrainedTokenizerFast(tokenizer_object=backend)) is None


def of_characters(*steps: tokenizers.normalizers.Normalizer, added: tuple = ()) -> Any:
    """As sentencepiece would, with a token a character and "▁" for a space."""
    names = ["<unk>", "▁", *"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.'"]
    model = tokenizers.models.BPE({name: n for n, name in enumerate(names)}, [], unk_token="<unk>")
    made = tokenizers.Tokenizer(model)
    made.normalizer = tokenizers.normalizers.Sequence([*steps, tokenizers.normalizers.Replace(" ", "▁")])
    made.add_tokens(list(added))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", eos_token="<unk>")


def spelt(tokenizer: Any, tree: Any) -> list[str]:
    """The text of each answer behind its prompt."""
    return [
        "".join(tokenizer.convert_ids_to_tokens(np.r_[tree.trunk, branch]))
        .replace("▁", " ")
        .removeprefix("<unk>")
        for branch in tree.branches
    ]


STRIP, LEFT, RIGHT = (
    tokenizers.normalizers.Strip(left=left, right=right)
    for left, right in ((True, True), (True, False), (False, True))
)
DUMMY = tokenizers.normalizers.Prepend("▁")


@pytest.mark.parametrize(
    ("steps", "prompt", "answers", "whole"),
    [
        ((STRIP,), "is", (" Paris", " Rome"), ["is Paris", "is Rome"]),  # which takes away what opens a text
        ((LEFT,), "is", (" Paris", " Rome"), ["is Paris", "is Rome"]),
        ((STRIP, DUMMY), "is", (" Paris", " Rome"), [" is Paris", " is Rome"]),
        ((RIGHT, DUMMY), "is ", ("Paris", "Rome"), [" is Paris", " is Rome"]),  # and what ends one
        ((STRIP,), "is <mask> .", ("Paris", "Rome"), ["is Paris .", "is Rome ."]),
        ((DUMMY,), "is", (" Paris", " Rome"), [" is Paris", " is Rome"]),
    ],
)
def test_the_space_between_a_prompt_and_an_answer_is_never_lost(steps, prompt, answers, whole):
    tokenizer = of_characters(*steps)
    item = ParallelItem("q", "", {"en": prompt}, {"en": answers})
    for boundary in ("separate", "joint"):
        (tree,) = TreeBuilder(tokenizer, boundary=boundary).build([item], ["en"])
        assert spelt(tokenizer, tree) == whole


def test_a_token_across_the_seam_of_prompt_and_answer_is_found():
    """Two spaces are one token here: of a word before and behind the seam neither shows it."""
    double = tokenizers.AddedToken("  ", normalized=False)
    tokenizer = of_characters(DUMMY, added=(double,))
    item = ParallelItem("q", "", {"en": "It is a The "}, {"en": (" cat is", " dog")})
    (tree,) = TreeBuilder(tokenizer, boundary="joint").build([item], ["en"])
    for branch, answer in zip(tree.branches, item.candidates["en"], strict=True):
        (expected,) = encode(tokenizer, [item.prompts["en"] + answer])
        assert [*tree.trunk[-len(expected.ids) + len(branch) :], *branch] == expected.ids


def test_added_tokens_of_other_spellings_allow_no_cuts():
    paris = tokenizers.AddedToken("paris", normalized=True)
    assert splitter_of(of_characters(tokenizers.normalizers.Lowercase(), DUMMY, added=(paris,))) is None


# ------------------------------------------------------------------------------------------- what stands before a text
def test_bos_is_what_a_call_puts_in_front(tokenizer):
    whole, bare = (tokenizer("x", add_special_tokens=special)["input_ids"] for special in (True, False))
    assert [bos_of(tokenizer)] == (whole[: len(whole) - len(bare)] or [None])


@pytest.mark.parametrize(
    ("template", "bos"),
    [("<s> $A", 0), ("<s> $A </s>", 0), ("$A </s>", None), ("$A", None), (None, None), ("<pad> $A", 2)],
)
@pytest.mark.parametrize("named", [{}, {"bos_token": "<s>"}, {"bos_token": "</s>"}])
def test_a_folder_of_tokenizer_json_says_so_itself(small_tokenizer, tmp_path, template, bos, named):
    """With nothing beside it, and with names that say otherwise; AutoTokenizer reads it so, too."""
    state = json.loads(small_tokenizer.backend_tokenizer.to_str()) | {"post_processor": None}
    backend = tokenizers.Tokenizer.from_str(json.dumps(state))
    if template:
        special = [("<s>", 0), ("</s>", 1), ("<pad>", 2)]
        backend.post_processor = tokenizers.processors.TemplateProcessing(
            single=template, special_tokens=[own for own in special if own[0] in template]
        )
    backend.save(str(tmp_path / "tokenizer.json"))
    if named:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(named))
    assert bos_of(load_tokenizer(tmp_path)) == bos
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path)
    whole, bare = (theirs("Paris", add_special_tokens=special)["input_ids"] for special in (True, False))
    assert (whole[:1] == bare[:1]) == (bos is None)


def test_several_tokens_in_front_are_told(small_tokenizer):
    backend = tokenizers.Tokenizer.from_str(small_tokenizer.backend_tokenizer.to_str())
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> <pad> $A", special_tokens=[("<s>", 0), ("<pad>", 2)]
    )
    with pytest.raises(DataError, match=r"puts 2 tokens before a text \(<s> <pad>\)"):
        bos_of(transformers.PreTrainedTokenizerFast(tokenizer_object=backend))


def test_what_a_tokenizer_does_in_training_alone_is_off(small_tokenizer):
    """BPE dropout: the same text gave other tokens, and an audit other figures, each time."""
    tokenizer = copy.deepcopy(small_tokenizer)
    tokenizer.backend_tokenizer.model.dropout = 0.9
    text = "The capital of Spain is Madrid"
    for _ in range(5):
        assert next(encode(tokenizer, [text])).ids == next(encode(small_tokenizer, [text])).ids
