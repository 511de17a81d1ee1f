"""The embedded base model: its tokenizer, its sentences as trees, and the key that it is kept under."""

import pytest

from consistency_jax.config.defaults import default
from consistency_jax.data.trees.forest import ANSWER, UNCOUNTED
from consistency_jax.errors import ConfigError
from consistency_jax.training.pretrain import base_folder, sentence_set, train_tokenizer

SENTENCES = [
    "City: Nairobi — Country: Kenya",
    "Mji: Nairobi — Nchi: Kenya",
    "城市: 内罗毕 — 国家: 肯尼亚",
] * 40


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return train_tokenizer(SENTENCES, 320, tmp_path_factory.mktemp("tokenizer"))


def test_texts_read_back_and_the_same_text_gives_the_same_pieces(tokenizer, tmp_path):
    for text in (*SENTENCES[:3], "  two  spaces", "Łódź"):  # bytes where there is no piece
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == text
    again = train_tokenizer(SENTENCES[::-1], 320, tmp_path)
    assert again.get_vocab() == tokenizer.get_vocab()


def test_a_vocabulary_that_the_text_cannot_fill_is_told(tmp_path):
    with pytest.raises(ConfigError, match="pretrain.vocabulary=10 does not work for this text"):
        train_tokenizer(SENTENCES, 10, tmp_path)


def test_a_sentence_is_one_branch_on_bos_of_which_every_token_counts(tokenizer):
    data = sentence_set([SENTENCES[2], SENTENCES[0], SENTENCES[2]], tokenizer, max_length=9)
    assert data.mask.shape == data.length.shape == (3, 1, 1)
    assert data.gold.tolist() == [0, 0, 0]
    for n, text in enumerate((SENTENCES[2], SENTENCES[0], SENTENCES[2])):
        tree = data.trees[n]
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tree.trunk.tolist() == [tokenizer.bos_token_id]
        assert tree.branches[0].tolist() == ids[:8]  # of max_length one is BOS
        assert (tree.trunk_kind.tolist(), set(tree.branch_kinds[0].tolist())) == ([UNCOUNTED], {ANSWER})
        assert data.length[n] == len(ids[:8])


def test_a_base_model_is_of_its_settings_and_text(monkeypatch, tmp_path):
    monkeypatch.setenv("CONSISTENCY_CACHE", str(tmp_path))

    def folder(text=("a", "b"), **changes):
        config = default()
        config.update_from_flattened_dict(changes)
        return base_folder(config, text)

    own = folder()
    assert own.parent == tmp_path / "pretrained"
    assert folder() == own
    # What the objective does later has no part in it.
    assert folder(**{"total_steps": 7, "optimizer.learning_rate": 1.0, "evaluation.bootstrap": 5}) == own
    assert folder(**{"pretrain.log_every": 7, "pretrain.checkpoint_every": 77}) == own
    others = [
        folder(("a", "c")),
        folder(seed=1),
        folder(**{"model.dtype": "bfloat16"}),
        folder(**{"pretrain.total_steps": 9}),
        folder(**{"data.max_length": 9}),
    ]
    assert len({own, *others}) == 6
