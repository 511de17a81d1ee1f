"""Fixtures shared by every test: where the third-party data lies."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of third-party data sets; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("CONSISTENCY_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data folder at {folder}; set CONSISTENCY_DATA to run this test")
    return folder


SMALL_TEXT = (
    "The capital of France is Paris . Madrid is the capital of Spain .",
    "Der Hauptstadt von Frankreich ist Paris . La capital de España es Madrid .",
    "Charles II of Spain was born in Madrid . Столица Франции : Париж",
    "カルロス2世はマドリードに生まれました。 卡洛斯二世出生于马德里。",
    "باريس هي عاصمة فرنسا पेरिस फ़्रांस की राजधानी है",
)


@pytest.fixture(scope="session")
def small_tokenizer():
    """A byte-level BPE of 400 tokens with BOS 0, EOS 1 and padding 2, trained here: it needs no file."""
    import tokenizers
    import transformers

    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(SMALL_TEXT * 4, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
