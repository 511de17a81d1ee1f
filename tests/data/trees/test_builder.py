"""Laws of token trees: joint trees are full strings, token for token; separate ones lose and add nothing."""

import dataclasses
import os

import numpy as np
import pytest
import sentencepiece

from consistency_jax.data.items import MASK, DataError, ParallelItem, pick
from consistency_jax.data.trees.builder import TreeBuilder
from consistency_jax.data.trees.forest import ANSWER, PROMPT, UNCOUNTED, Forest, Tree
from consistency_jax.models.tokenizers import from_sentencepiece, put_bos

ITEMS = [
    ParallelItem(
        id="cloze",
        group="",
        prompts={
            "en": "X was born in <mask> , Spain .",
            "ja": "カルロス2世は<mask>に生まれました。",
            "zh": "卡洛斯二世出生于<mask>。",
            "ar": "باريس هي عاصمة <mask> .",
            "first": "<mask> is the capital of Spain .",
        },
        candidates={
            "en": ("Madrid", "Paris", "Mad"),
            "ja": ("マドリード", "マ", "パリ"),
            "zh": ("马德里", "驾", "巴黎"),  # 马 and 驾 share their first bytes
            "ar": ("فرنسا", "فرن", "إسبانيا"),
            "first": ("Madrid", "Paris", "Mad"),
        },
    ),
    ParallelItem(
        id="plain",
        group="",
        prompts={"en": "The capital of France is", "ru": "Столица Франции :", "glued": "France ("},
        candidates={
            "en": (" Paris", " Paris is", " Madrid"),
            "ru": (" Париж", " Мадрид", " П"),
            "glued": ("Paris)", "Madrid)", "P)"),
        },
        context={"en": "Charles II of Spain was born in Madrid ."},
    ),
]
TEXT = [
    text
    for item in ITEMS
    for language in item.languages
    for text in (item.prompts[language], *item.candidates[language])
]
CASES = [(item, language) for item in ITEMS for language in item.languages]


KINDS = ["byte_level", "byte_level_no_bos", "byte_level_unnamed_bos", "metaspace", "bpe", "unigram"]


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request, small_tokenizer, tmp_path_factory):
    if request.param == "byte_level":
        return small_tokenizer
    if request.param.startswith("byte_level"):
        import transformers

        puts_none = {"add_bos_token": False} if request.param == "byte_level_no_bos" else {}
        return transformers.PreTrainedTokenizerFast(
            tokenizer_object=small_tokenizer.backend_tokenizer, eos_token="</s>", **puts_none
        )
    if request.param == "metaspace":
        import tokenizers
        import transformers

        backend = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>"))
        backend.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
        backend.decoder = tokenizers.decoders.Metaspace()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=400, special_tokens=["<unk>", "<s>"], show_progress=False
        )
        backend.train_from_iterator(TEXT * 4, trainer)
        return transformers.PreTrainedTokenizerFast(
            tokenizer_object=backend, bos_token="<s>", unk_token="<unk>", eos_token="<s>", add_bos_token=True
        )
    prefix = tmp_path_factory.mktemp("sentencepiece") / "tokenizer"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT * 20),
        model_prefix=str(prefix),
        model_type=request.param,
        vocab_size=400,
        byte_fallback=True,
        character_coverage=0.98,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    made = from_sentencepiece(f"{prefix}.model")  # it names a BOS, and puts none
    if request.param == "bpe":
        put_bos(made)
    return made


def front(tokenizer) -> list[int]:
    """What a call of transformers puts before a text."""
    whole, bare = (tokenizer("x", add_special_tokens=special)["input_ids"] for special in (True, False))
    return whole[: len(whole) - len(bare)]


def build_tree(tokenizer, item, language, boundary="separate", max_length=1024, candidates=None) -> Tree:
    """One item in one language, with these of its candidates (None: all)."""
    if candidates is not None:
        item = pick(item, candidates, languages=[language])
    return TreeBuilder(tokenizer, boundary=boundary, max_length=max_length).build([item], [language])[0]


def full_texts(item: ParallelItem, language: str) -> tuple[str, list[str]]:
    """(all before the answer, the K full strings)."""
    head, mask, rest = item.prompts[language].partition(MASK)
    if item.context and language in item.context:
        head = f"{item.context[language]}\n\n{head}"
    return head, [head + candidate + rest for candidate in item.candidates[language]]


def sequences(tree: Tree) -> list[tuple[list[int], list[int]]]:
    """(tokens, kinds) of each candidate."""
    return [
        ([*tree.trunk.tolist(), *branch.tolist()], [*tree.trunk_kind.tolist(), *kind.tolist()])
        for branch, kind in zip(tree.branches, tree.branch_kinds)
    ]


def expected_joint(tokenizer, head: str, text: str) -> tuple[list[int], list[int]]:
    """Tokens and kinds of one full string alone, from its offsets."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids = encoded["input_ids"]
    kinds = [ANSWER if end > len(head) else PROMPT for _, end in encoded["offset_mapping"]]
    if bos := front(tokenizer):
        assert tokenizer(text)["input_ids"] == [*bos, *ids]
        return [*bos, *ids], [UNCOUNTED, *kinds]
    if kinds[0] == ANSWER:
        return [tokenizer.eos_token_id, *ids], [UNCOUNTED, *kinds]
    return ids, [UNCOUNTED, *kinds[1:]]


@pytest.mark.parametrize(("item", "language"), CASES)
def test_a_joint_tree_is_each_full_string_token_for_token(tokenizer, item, language):
    """What is counted begins at one place of the text for all candidates: where one covers the answer, or they part."""
    tree = build_tree(tokenizer, item, language, boundary="joint")
    head, texts = full_texts(item, language)
    alone = [expected_joint(tokenizer, head, text) for text in texts]
    begin = min(len(os.path.commonprefix([ids for ids, _ in alone])), *(k.index(ANSWER) for _, k in alone))
    for (ids, kinds), (expected_ids, expected_kinds) in zip(sequences(tree), alone):
        expected_kinds[begin:] = [ANSWER] * len(expected_kinds[begin:])
        if ids[0] == tokenizer.eos_token_id and expected_ids[0] != tokenizer.eos_token_id:
            # No BOS and nothing shared: EOS stands in for all, and the first token is predicted too.
            ids, kinds = ids[1:], [UNCOUNTED, *kinds[2:]]
        assert ids == expected_ids
        assert kinds == expected_kinds
    # The trunk is the longest common prefix.
    firsts = {branch[0] if len(branch) else -1 for branch in tree.branches}
    assert len(firsts) > 1
    assert tree.bytes.tolist() == [len(text.encode()) - len(head.encode()) for text in texts]


@pytest.mark.parametrize(("item", "language"), CASES)
def test_a_separate_tree_reads_as_the_full_string(tokenizer, item, language):
    tree = build_tree(tokenizer, item, language, boundary="separate")
    head, texts = full_texts(item, language)
    start = int(tree.trunk[0] in (*front(tokenizer), tokenizer.eos_token_id))
    for (ids, _), text in zip(sequences(tree), texts):
        decoded = tokenizer.decode(ids[start:], clean_up_tokenization_spaces=False)
        assert decoded == tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"])
    prompt = tokenizer(head.rstrip(), add_special_tokens=False)["input_ids"]
    assert tree.trunk[start:].tolist() == prompt
    assert set(tree.trunk_kind[1:].tolist()) <= {PROMPT}
    assert tree.trunk_kind[0] == UNCOUNTED
    assert all((kind == ANSWER).all() for kind in tree.branch_kinds)
    assert all(len(branch) for branch in tree.branches)


@pytest.mark.parametrize("boundary", ["separate", "joint"])
def test_order_and_choice_of_candidates_are_immaterial(tokenizer, boundary):
    for item, language in CASES:
        whole = sequences(build_tree(tokenizer, item, language, boundary=boundary))
        for order in ([2, 0, 1], [1, 0], [0, 2]):
            tree = build_tree(tokenizer, item, language, boundary=boundary, candidates=order)
            assert [ids for ids, _ in sequences(tree)] == [whole[k][0] for k in order]
            assert [kinds for _, kinds in sequences(tree)] == [whole[k][1] for k in order]
        renamed = ParallelItem(
            "x", "", item.prompts, {language: item.candidates[language][::-1]}, None, item.context
        )
        tree = build_tree(tokenizer, renamed, language, boundary=boundary)
        assert sequences(tree) == whole[::-1]


@pytest.mark.parametrize("boundary", ["separate", "joint"])
def test_one_candidate_keeps_a_prompt_state(tokenizer, boundary):
    for item, language in CASES:
        whole = sequences(build_tree(tokenizer, item, language, boundary=boundary))
        alone = ParallelItem(
            "x", "", item.prompts, {language: item.candidates[language][:1]}, None, item.context
        )
        for tree in (
            build_tree(tokenizer, item, language, boundary=boundary, candidates=[0]),
            build_tree(tokenizer, alone, language, boundary=boundary),
        ):
            ids, kinds = sequences(tree)[0]
            # Without BOS, EOS may stand in for all candidates together and not for this one alone.
            assert ids == whole[0][0] or ids == whole[0][0][1:]
            assert len(tree.trunk) >= 1
            assert ANSWER not in tree.trunk_kind
            assert (tree.branch_kinds[0] == ANSWER).all()


def test_exactly_one_bos(small_tokenizer):
    for item, language in CASES:
        for boundary in ("separate", "joint"):
            for ids, kinds in sequences(build_tree(small_tokenizer, item, language, boundary=boundary)):
                assert ids[0] == small_tokenizer.bos_token_id
                assert ids.count(small_tokenizer.bos_token_id) == 1
                assert kinds.count(UNCOUNTED) == 1


def test_a_candidate_that_is_a_prefix_of_another_has_an_empty_branch(small_tokenizer):
    item = ParallelItem("x", "", {"en": "Paris is"}, {"en": (" Paris", " Paris .", " Paris . Paris")})
    tree = build_tree(small_tokenizer, item, "en", boundary="joint")
    assert len(tree.branches[0]) == 0
    assert (tree.trunk_kind == ANSWER).any()


def test_a_batch_gives_the_trees_of_single_calls(tokenizer):
    languages = ("en", "ja", "ru", "first")
    for boundary in ("separate", "joint"):
        trees = TreeBuilder(tokenizer, boundary=boundary).build(ITEMS, languages)
        for n, tree in enumerate(trees):
            item, language = ITEMS[n // 4], languages[n % 4]
            if language not in item.prompts:
                assert tree is None
                continue
            assert sequences(tree) == sequences(build_tree(tokenizer, item, language, boundary=boundary))


def test_a_forest_is_its_trees(small_tokenizer):
    trees = TreeBuilder(small_tokenizer, boundary="joint").build(ITEMS, ("en", "ja", "ru", "first"))
    again = Forest.of(list(trees))
    taken = trees.take(np.array([4, 1, 3, -1, -1]))
    assert [None if tree is None else sequences(tree) for tree in taken] == [
        *(None if trees[n] is None else sequences(trees[n]) for n in (4, 1, 3)),
        *(None, None),
    ]
    for field in dataclasses.fields(Forest):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(trees, field.name))
    assert trees[5] is None
    with pytest.raises(IndexError):
        trees[len(trees)]


@pytest.mark.parametrize("boundary", ["separate", "joint"])
def test_a_bare_prompt_is_a_trunk_alone(tokenizer, boundary):
    """Alone, and before, between and behind others: as the prompt of a tree with an answer, which are as ever."""
    bare = ParallelItem(
        "bare", "", {"en": "The capital of France is"}, {"en": ()}, None, {"en": "Of France ."}
    )
    asked = dataclasses.replace(bare, candidates={"en": (" Paris", " Rome")})
    prompt = build_tree(tokenizer, asked, "en").trunk.tolist()
    builder = TreeBuilder(tokenizer, boundary=boundary)
    full = builder.build([asked], ["en"])[0]
    for items in ([bare], [bare, asked], [asked, bare], [asked, bare, bare, asked, bare]):
        for item, tree in zip(items, builder.build(items, ["en"]), strict=True):
            if item is asked:
                assert sequences(tree) == sequences(full)
                assert tree.bytes.tolist() == full.bytes.tolist()
            else:
                assert (tree.trunk.tolist(), tree.branches) == (prompt, ())
                assert tree.trunk_kind.tolist() == [UNCOUNTED] + [PROMPT] * (len(prompt) - 1)


def test_long_trunks_are_cut_from_the_left(small_tokenizer):
    item, whole = ITEMS[1], build_tree(small_tokenizer, ITEMS[1], "en")
    longest = max(map(len, whole.branches))
    tree = build_tree(small_tokenizer, item, "en", max_length=longest + 5)
    assert tree.trunk.tolist() == [whole.trunk[0], *whole.trunk[-4:]]
    assert tree.truncated == len(whole.trunk) - 5
    assert tree.trunk_kind.tolist() == [UNCOUNTED, *[PROMPT] * 4]
    with pytest.raises(DataError, match="item 'plain', language 'en': its answers alone take more"):
        build_tree(small_tokenizer, item, "en", max_length=longest)


def test_bad_calls_are_clear(small_tokenizer):
    with pytest.raises(ValueError, match="unknown boundary"):
        TreeBuilder(small_tokenizer, boundary="both")
    with pytest.raises(ValueError, match="no fast tokenizer"):
        TreeBuilder(object())


def test_special_tokens_in_a_text_are_ordinary_characters(small_tokenizer):
    item = ParallelItem("x", "", {"en": "Write </s> or <s> ,"}, {"en": (" </s>", " <pad>")})
    for boundary in ("separate", "joint"):
        for (ids, _), text in zip(
            sequences(build_tree(small_tokenizer, item, "en", boundary=boundary)), item.candidates["en"]
        ):
            assert not set(ids[1:]) & set(small_tokenizer.all_special_ids)
            assert small_tokenizer.decode(ids[1:]) == item.prompts["en"] + text


def test_a_special_token_that_cannot_be_read_as_text_is_an_error(tmp_path):
    # Unigram vocabularies hold their control symbols as pieces like any other.
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT * 20),
        model_prefix=str(tmp_path / "tokenizer"),
        model_type="unigram",
        vocab_size=400,
        byte_fallback=True,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    tokenizer = from_sentencepiece(tmp_path / "tokenizer.model")
    for boundary in ("separate", "joint"):
        for prompt, candidate in (("Write </s> ,", " Paris"), ("Write", " </s>")):
            item = ParallelItem("odd", "", {"en": prompt}, {"en": (" Rome", candidate)})
            with pytest.raises(DataError, match="item 'odd', language 'en': its text holds '</s>'"):
                build_tree(tokenizer, item, "en", boundary=boundary)


@pytest.mark.parametrize("boundary", ["separate", "joint"])
def test_eos_is_the_last_answer_token_of_written_answers(small_tokenizer, boundary):
    """Also where an answer begins like another, whose branch is then EOS alone; candidates to be ranked have none."""
    item = ParallelItem("x", "", {"en": "Paris is"}, {"en": (" Paris", " Paris .", " Paris . Paris")})
    items = [item, dataclasses.replace(item, id="y", written=True)]
    ranked, written = TreeBuilder(small_tokenizer, boundary=boundary, end="written").build(items)
    eos = small_tokenizer.eos_token_id
    for (ids, kinds), (bare, bare_kinds) in zip(sequences(written), sequences(ranked), strict=True):
        assert (ids, kinds) == ([*bare, eos], [*bare_kinds, ANSWER])
    assert written.bytes.tolist() == ranked.bytes.tolist()
    plain = TreeBuilder(small_tokenizer, boundary=boundary).build(items)
    assert [sequences(tree) for tree in plain] == [sequences(ranked)] * 2
    room = len(sequences(written)[2][0]) - 1
    cut = TreeBuilder(small_tokenizer, boundary=boundary, end="written", max_length=room).build(items[1:])
    assert (cut[0].truncated, len(sequences(cut[0])[2][0])) == (1, room)


def test_written_answers_need_an_end(small_tokenizer):
    import transformers

    nameless = transformers.PreTrainedTokenizerFast(tokenizer_object=small_tokenizer.backend_tokenizer)
    ranked = ParallelItem("x", "", {"en": "Paris is"}, {"en": (" Paris", " Rome")})
    builder = TreeBuilder(nameless, end="written")
    assert builder.build([ranked])
    with pytest.raises(DataError, match="data.train.end: the tokenizer names no EOS"):
        builder.build([dataclasses.replace(ranked, written=True)])
