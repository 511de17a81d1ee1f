"""Scores against the model's own logits, one full string at a time; and what must not change them."""

import copy
import dataclasses

import jax
import numpy as np
import pytest
import tokenizers
from scored_items import CLOSE, ITEMS, LANGUAGES, LENGTH, SHAPE, make_item

from consistency_jax.data.items import MASK, DataError, ParallelItem
from consistency_jax.data.packing import attention_blocks
from consistency_jax.data.trees.builder import TreeBuilder
from consistency_jax.data.trees.forest import ANSWER, PROMPT, Forest
from consistency_jax.metrics.accuracy import accuracy
from consistency_jax.models.decoder import Decoder
from consistency_jax.models.huggingface import load_pretrained
from consistency_jax.runtime.mesh import mesh_of
from consistency_jax.scoring import scorer as scorers
from consistency_jax.scoring.scorer import Scorer
from consistency_jax.scoring.tables import neutral_answers, score, table_frame
from consistency_jax.table import Table


@pytest.fixture(scope="module")
def model(small_model):
    return load_pretrained(small_model)


@pytest.fixture(scope="module")
def tables(model) -> dict[str, Table]:
    return {
        boundary: score(model, ITEMS, boundary, languages=LANGUAGES, state=True)
        for boundary in ("joint", "separate")
    }


def full_string(tokenizer, item: ParallelItem, language: str, k: int, boundary: str):
    """(tokens, number of the first answer token) of one candidate's whole text, as the tokenizer gives it, BOS too."""
    context = (item.context or {}).get(language)
    head, mask, rest = item.prompts[language].partition(MASK)
    head, answer = (f"{context}\n\n" if context else "") + head, item.candidates[language][k] + rest
    if boundary == "separate":  # a space before the gap goes with the answer
        prompt = head.rstrip() if mask else head
        opening = tokenizer(prompt).input_ids
        return [*opening, *tokenizer(head[len(prompt) :] + answer, add_special_tokens=False).input_ids], len(
            opening
        )
    encoding = tokenizer(head + answer, return_offsets_mapping=True)
    return encoding.input_ids, sum(end <= len(head) for _, end in encoding.offset_mapping)


@pytest.mark.parametrize("boundary", ["joint", "separate"])
def test_scores_are_those_of_each_full_string_alone(model, tables, boundary):
    table = tables[boundary]
    cells = [
        (b, l, k)
        for b, item in enumerate(ITEMS)
        for l, language in enumerate(LANGUAGES)
        for k in range(len(item.candidates.get(language, ())))
    ]
    strings = [full_string(model.tokenizer, ITEMS[b], LANGUAGES[l], k, boundary) for b, l, k in cells]
    padded = np.zeros((len(cells), LENGTH), np.int32)  # on the right: no token sees a later one
    for row, (tokens, _) in zip(padded, strings):
        row[: len(tokens)] = tokens
    log_p = np.asarray(jax.nn.log_softmax(model.apply(padded), axis=-1), np.float64)
    mask = np.zeros(SHAPE, bool)
    for n, (cell, (tokens, first)) in enumerate(zip(cells, strings)):
        own = log_p[n, np.arange(len(tokens) - 1), tokens[1:]]  # of token 1, 2, ...
        np.testing.assert_allclose(table.logp[cell], own[first - 1 :].sum(), **CLOSE, err_msg=str(cell))
        np.testing.assert_allclose(table.prompt_logp[cell], own[: first - 1].sum(), **CLOSE)
        assert table.length[cell] == len(tokens) - first
        assert table.prompt_length[cell] == first - 1
        mask[cell] = True
    np.testing.assert_array_equal(table.mask, mask)
    assert table.bytes[0, 2].tolist() == [6, 15, 9, 0]  # three bytes a character
    assert table.bytes[3, 0, 0] == len("Madrid , Spain .")
    assert (table.ids, table.languages) == (tuple(item.id for item in ITEMS), LANGUAGES)
    assert table.gold.tolist() == [0, -1, 3, 0, -1]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("puts", [True, False])
def test_the_mean_of_all_tokens_is_the_loss_that_torch_tells(model, small_model, puts):
    """Of what the tokenizer's own call gives. A BOS that it names and does not put is not there: nothing predicts the
    first token, and nothing counts it."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(small_model)
    if not puts:
        tokenizer.add_bos_token = False
    assert (tokenizer("Madrid").input_ids[0] == tokenizer.bos_token_id) == puts
    theirs = transformers.AutoModelForCausalLM.from_pretrained(small_model).eval()
    items = [ITEMS[0], ITEMS[2]]
    table = score(dataclasses.replace(model, tokenizer=tokenizer), items)
    scores = table.scores("mean_full")
    for b, l, k in np.argwhere(table.mask):
        head, _, rest = items[b].prompts[table.languages[l]].partition(MASK)
        ids = torch.tensor([tokenizer(head + items[b].candidates[table.languages[l]][k] + rest).input_ids])
        with torch.no_grad():
            loss = theirs(ids, labels=ids).loss
        np.testing.assert_allclose(scores[b, l, k], -float(loss), **CLOSE)


def test_joint_trees_share_answer_tokens(model):
    """What makes the comparison above a test of shared tokens: the trunk holds some, and a branch none."""
    tree = TreeBuilder(model.tokenizer, boundary="joint").build([ITEMS[2]], ["es"])[0]
    assert min(map(len, tree.branches)) == 0
    assert (tree.trunk_kind == ANSWER).any()


def test_cells_outside_the_mask_hold_zero(tables):
    for table in tables.values():
        for name in ("logp", "prompt_logp", "length", "prompt_length", "bytes"):
            assert not getattr(table, name)[~table.mask].any(), name


@pytest.mark.parametrize("boundary", ["joint", "separate"])
def test_state_is_the_last_one_of_the_prompt(model, tables, boundary):
    """Also where answer tokens follow it in a joint trunk (item 2)."""
    table = tables[boundary]
    assert table.state.shape == (*SHAPE[:2], model.config.hidden)
    decoder = jax.jit(Decoder(model.config).apply)
    for b, l in ((0, 0), (0, 2), (2, 1), (3, 1)):
        tokens, first = full_string(model.tokenizer, ITEMS[b], LANGUAGES[l], 0, boundary)
        prompt = np.zeros((1, LENGTH), np.int32)
        prompt[0, :first] = tokens[:first]
        one, positions = np.ones_like(prompt), np.arange(LENGTH)[None]
        hidden = decoder({"params": model.params}, prompt, positions, one, 0 * one)
        np.testing.assert_allclose(table.state[b, l], hidden[0, first - 1], rtol=1e-4, atol=1e-5)
    assert not table.state[1, 1].any()  # no such language


def test_the_order_of_items_languages_and_candidates_is_immaterial(model, tables):
    languages = LANGUAGES[::-1]
    items = [
        dataclasses.replace(
            item, candidates={language: texts[::-1] for language, texts in item.candidates.items()}
        )
        for item in ITEMS[::-1]
    ]
    turned = score(model, items, languages=languages)
    for b, item in enumerate(ITEMS):
        count = item.num_candidates
        for name in ("logp", "prompt_logp", "length", "prompt_length", "bytes", "mask"):
            np.testing.assert_allclose(
                getattr(turned, name)[-1 - b, ::-1, :count][..., ::-1],
                getattr(tables["joint"], name)[b, :, :count],
                **CLOSE,
            )


def test_an_item_never_changes_its_neighbours(model, tables):
    other = make_item("other", {"en": ("Madrid was born in Paris and the capital of", " Rome", " Spain is")})
    changed = score(model, [ITEMS[0], other, *ITEMS[2:]], languages=LANGUAGES)
    kept = [0, 2, 3, 4]
    np.testing.assert_allclose(changed.logp[kept], tables["joint"].logp[kept], **CLOSE)
    assert not np.allclose(changed.logp[1, 0], tables["joint"].logp[1, 0])
    # in the same places of the same rows: to the last bit
    trees = TreeBuilder(model.tokenizer).build(ITEMS, LANGUAGES)
    tree = trees[6]
    trees_changed = list(trees)
    trees_changed[6] = dataclasses.replace(tree, trunk=tree.trunk[::-1].copy())
    scorer = Scorer(model.config, mesh_of(model.params))
    before, after = (
        scorer(model.params, these, candidates=4, prompt=True) for these in (trees, Forest.of(trees_changed))
    )
    for name in ("logp", "prompt_logp"):
        others = np.arange(len(trees)) != 6
        np.testing.assert_array_equal(after[name][others], before[name][others])
        assert (after[name][6] != before[name][6]).any()


@pytest.mark.parametrize("boundary", ["joint", "separate"])
def test_answers_alone_are_scored_once_each(model, tables, boundary):
    """Against the model's own logits behind BOS, whatever the question, its context and the rest of its sentence."""
    table = score(model, ITEMS, boundary, languages=LANGUAGES, neutral=True)
    np.testing.assert_allclose(table.logp, tables[boundary].logp, **CLOSE)
    texts = {}
    for b, l, k in np.argwhere(table.mask):
        texts.setdefault(ITEMS[b].candidates[LANGUAGES[l]][k], []).append(table.neutral_logp[b, l, k])
    for text, found in texts.items():
        own = [model.tokenizer.bos_token_id, *model.tokenizer(text, add_special_tokens=False)["input_ids"]]
        padded = np.zeros((1, LENGTH), np.int32)
        padded[0, : len(own)] = own
        log_p = np.asarray(jax.nn.log_softmax(model.apply(padded)[0], axis=-1), np.float64)
        np.testing.assert_allclose(
            found, log_p[np.arange(len(own) - 1), own[1:]].sum(), **CLOSE, err_msg=text
        )
    assert not table.neutral_logp[~table.mask].any()
    builder = TreeBuilder(model.tokenizer, boundary=boundary)
    neutral = neutral_answers(builder, ITEMS, LANGUAGES)
    assert len(neutral.trees) == len(texts) < table.mask.sum()
    assert tables[boundary].neutral_logp is None


@pytest.mark.parametrize("boundary", ["joint", "separate"])
def test_an_answer_alone_has_the_tokens_that_it_has_behind_its_question(small_tokenizer, boundary):
    """Of a tokenizer that puts a space before a text, too: behind that the answer's own would be a second one."""
    tokenizer = copy.deepcopy(small_tokenizer)
    tokenizer.backend_tokenizer.normalizer = tokenizers.normalizers.Prepend(" ")
    item = make_item("q", {"en": ("The capital is", " Paris", " Rome")})
    builder = TreeBuilder(tokenizer, boundary=boundary)
    (tree,), alone = builder.build([item], ["en"]), neutral_answers(builder, [item], ["en"]).trees
    behind = [[*tree.trunk[tree.trunk_kind == ANSWER], *branch] for branch in tree.branches]
    for own, expected in zip(alone, behind, strict=True):
        assert [*own.trunk[own.trunk_kind == ANSWER], *own.branches[0]] == expected


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"candidates": {"en": "Paris", "ja": "パリ東京"}}, "are one text, 'Paris'"),
        ({"gold": 7}, "gold"),
        ({"candidates": {"en": (" a", " b"), "ja": ("あ",)}}, "candidates"),
    ],
)
def test_items_made_by_hand_are_checked(model, changes, told):
    item = make_item("q", {"en": ("The capital is", " Paris", " Rome"), "ja": ("首都は", "パリ", "ローマ")})
    assert score(model, [item]).logp.shape == (1, 2, 2)
    with pytest.raises(DataError, match=told):
        score(model, [dataclasses.replace(item, **changes)])


def test_small_batches_give_the_same_table(model, tables):
    small = score(model, ITEMS, languages=LANGUAGES, tokens=64, prompt=False)
    np.testing.assert_allclose(small.logp, tables["joint"].logp, **CLOSE)
    assert small.prompt_logp is small.prompt_length is small.state is None


def test_attention_by_blocks_gives_the_same_table(model, tables, monkeypatch):
    """Where a pass is long enough for them; these items are few."""
    monkeypatch.setattr(attention_blocks, "FEWEST", -(10**12))
    monkeypatch.setattr(attention_blocks, "WORTH", 100)
    blocks = []
    make = attention_blocks.make_blocks
    monkeypatch.setattr(scorers, "make_blocks", lambda *args: blocks.append(make(*args)) or blocks[-1])
    by_blocks = score(model, ITEMS, languages=LANGUAGES, tokens=64, state=True)
    assert len(blocks) > 1
    np.testing.assert_allclose(by_blocks.logp, tables["joint"].logp, **CLOSE)
    np.testing.assert_allclose(by_blocks.prompt_logp, tables["joint"].prompt_logp, **CLOSE)
    np.testing.assert_allclose(by_blocks.state, tables["joint"].state, **CLOSE)

    blocks.clear()
    asked = dataclasses.replace(model, config=dataclasses.replace(model.config, attention="xla"))
    score(asked, ITEMS, languages=LANGUAGES, prompt=False)
    assert not blocks  # a backend that is asked for by name is the one that runs


def test_a_frame_counts_what_the_trees_hold(model):
    trees = TreeBuilder(model.tokenizer, boundary="joint").build(ITEMS, LANGUAGES)
    frame = table_frame(ITEMS, LANGUAGES, trees)
    for n, tree in enumerate(trees):
        cell = divmod(n, len(LANGUAGES))
        count = 0 if tree is None else len(tree.branches)
        assert frame.mask[cell].tolist() == [k < count for k in range(4)]
        for k in range(count):
            kinds = [*tree.trunk_kind, *tree.branch_kinds[k]]
            assert frame.length[cell][k] == kinds.count(ANSWER)
            assert frame.prompt_length[cell][k] == kinds.count(PROMPT)
            assert frame.bytes[cell][k] == tree.bytes[k]
    for values in (frame.length, frame.prompt_length, frame.bytes):
        assert values.dtype == np.int32
        assert not values[~frame.mask].any()


def test_languages_are_checked_against_the_items(model):
    for languages in (["xx"], "xx", ["en", "xx"]):
        with pytest.raises(ValueError, match="unknown language 'xx'. Known: en, es, ja"):
            score(model, ITEMS, languages=languages)
    with pytest.raises(ValueError, match="Name each language once"):
        score(model, ITEMS, languages=["en", "en"])
    one = score(model, ITEMS[3:], languages="es")  # a string is one language
    assert one.languages == ("es",)
    assert one.mask.shape == (2, 1, 2)


def test_an_item_with_more_candidates_may_lack_all_languages(model):
    """`prefixes`, the only one with four, is not asked in Japanese: its answers are not there, and it is still known
    which is right."""
    table = score(model, ITEMS, languages="ja", neutral=True)
    assert table.mask.sum((1, 2)).tolist() == [3, 2, 0, 2, 0]
    assert table.mask.shape == (5, 1, 4)
    assert np.isfinite(table.scores("pmi")[table.mask]).all()
    (right,) = accuracy(
        table.scores(), table.gold, table.mask
    ).per_language  # of two that are asked and labelled
    assert 2 * right in (0.0, 1.0, 2.0)


def test_a_call_without_items_or_tokenizer_is_refused(model):
    with pytest.raises(ValueError, match="there are no items to score"):
        score(model, [])
    bare = dataclasses.replace(model, tokenizer=None)
    with pytest.raises(ValueError, match=r"has no tokenizer: give one, score\(..., tokenizer=...\)"):
        score(bare, ITEMS)
    given = score(bare, ITEMS[4:], tokenizer=model.tokenizer)
    assert given.logp[0, 0, 0] < 0


def test_texts_beyond_the_models_positions_are_told(model):
    short = dataclasses.replace(model, config=dataclasses.replace(model.config, max_length=3))
    with pytest.warns(
        UserWarning, match="score: .* prompts, with their longest answers, take more than the 3 positions"
    ):
        table = score(short, ITEMS)
    np.testing.assert_array_equal(table.logp, score(model, ITEMS).logp)  # and scored all the same


def test_tokens_without_a_row_are_refused(model):
    small = dataclasses.replace(model, config=dataclasses.replace(model.config, vocab_size=50))
    with pytest.raises(
        DataError, match=r"^score: its texts hold the token \d+, and the model's embedding has rows 0 to 49"
    ):
        score(small, ITEMS)
