"""Questions as tables of texts, and models that are asked them: as `score` and a sampler answer."""

import dataclasses

import jax
import numpy as np
import pytest

import consistency_jax as cj
from consistency_jax.data.items import DataError, ParallelItem
from consistency_jax.errors import CheckpointError, ConfigError, UserError
from consistency_jax.explore.asking import Asked, _names, as_rows, from_rows, of_models, of_run
from consistency_jax.generation import Sampling
from consistency_jax.generation.sampler import Sampler
from consistency_jax.train import train

ITEM = ParallelItem(
    id="q1",
    group="capital",
    prompts={"en": "The capital of France is", "zh": "法国的首都是", "ru": "Столица Франции : "},
    candidates={"en": (" Paris", " Rome"), "zh": ("巴黎", "罗马"), "ru": ("Париж", "Рим")},
    gold=1,
    also=(0,),
    context={"en": "Geography."},
)


def test_a_question_that_nobody_changed_is_itself():
    rows = as_rows(ITEM)
    assert rows[0] == ["en", "The capital of France is", " Paris", " Rome"]
    assert from_rows(rows, ITEM) == ITEM


def test_what_is_written_is_parted_as_its_language_writes():
    rows = as_rows(ITEM)
    rows[0][2:] = ["Lyon", " Rome"]
    rows[1][2:] = [" 里昂", "罗马"]
    rows[2][3] = "Милан"
    rows += [
        ["sw", "Mji mkuu wa Ufaransa ni", "Lyon", "Roma"],
        ["de", "Aus <mask> .", "Lyon", "Rom"],
        ["", "", ""],
    ]
    item = from_rows(rows, ITEM)
    assert item.candidates == {
        "en": (" Lyon", " Rome"),
        "zh": ("里昂", "罗马"),
        "ru": ("Париж", "Милан"),
        "sw": (" Lyon", " Roma"),
        "de": ("Lyon", "Rom"),
    }
    assert item.context == ITEM.context


def test_answers_of_data_without_spaces_get_none():
    item = dataclasses.replace(ITEM, prompts={"en": "A:"}, candidates={"en": ("Paris", "Rome")}, context=None)
    assert from_rows([["en", "A:", "Lyon", "Rome"]], item).candidates["en"] == ("Lyon", "Rome")


def test_an_answer_is_right_while_it_stands_unchanged_behind_its_question():
    rows = as_rows(ITEM)
    rows[0][3], rows[1][3] = " Milan", "米兰"
    assert from_rows(rows, ITEM).right == (1, 0)  # Рим is still there
    rows[2][3] = "Милан"
    assert from_rows(rows, ITEM).right == (0,)
    assert from_rows([[code, f"Other {text}", *own] for code, text, *own in rows], ITEM).right == ()
    assert from_rows([["en", rows[0][1], " Rome", " Paris"]], ITEM).right == ()


def test_answers_may_be_added_and_taken_away():
    more = from_rows([[*row, "Oslo", None] for row in as_rows(ITEM)], ITEM)
    assert more.num_candidates == 3
    assert more.right == (1, 0)
    fewer = from_rows([row[:3] + [""] for row in as_rows(ITEM)], ITEM)
    assert fewer.candidates["en"] == (" Paris",)
    assert fewer.right == (0,)


def test_a_question_of_the_data_may_have_more_languages_than_one_that_is_written():
    codes = [f"l{n}" for n in range(53)]
    item = ParallelItem(
        "q", "", dict.fromkeys(codes, "One is"), dict.fromkeys(codes, tuple("abcdefgh" * 8)), gold=0
    )
    assert from_rows(as_rows(item), item).languages == tuple(codes)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([["", "The capital is", "a", "b"]], "a row has no language"),
        ([["en", "One is", "1", "2"], ["en ", "Two is", "1", "2"]], "'en' stands twice"),
        ([["en", "One is", "1", "2"], ["sw", "Moja ni", "1", ""]], "'sw' has 1 candidates, 'en' has 2"),
        ([["en", "One is", "", "2"]], "candidate 0 in 'en' is empty"),
        ([["en", " ", "1", "2"]], "the prompt in 'en' is empty"),
        ([["en", "One is", "", ""]], "no candidates"),
        ([["", "", "", ""]], "no language"),
        ([[f"l{n}", "One is", "1"] for n in range(51)], "more than 50 languages or answers"),
        ([["en", "One is", *"1" * 51]], "more than 50 languages or answers"),
    ],
)
def test_a_table_that_is_no_question_is_told(rows, told):
    with pytest.raises(DataError, match=f"the question: .*{told}"):
        from_rows(rows, ITEM)


def test_a_model_answers_as_score_and_a_sampler_do(small_model, small_config, questions):
    small_config.evaluation.generation.max_tokens = 5
    (asked,) = of_models(small_config, [str(small_model)])
    items = cj.load_items("jsonl", path=questions)
    model = cj.load_pretrained(small_model)
    table = cj.score(model, items[:3])
    for number, item in enumerate(items[:3]):
        found = asked.rank(item)
        assert found.name == small_model.name
        assert found.table.languages == item.languages
        np.testing.assert_allclose(found.table.scores()[0], table.scores()[number], atol=1e-5)
    prompts = list(items[0].prompts.values())
    sampling = Sampling(max_tokens=5, temperature=0.0, stop=("\n",))
    texts = Sampler(model).generate(prompts, n=1, sampling=sampling, seed=0)
    assert asked.write(items[0]) == {l: text for l, (text,) in zip(items[0].languages, texts, strict=True)}


def test_pmi_has_the_answers_alone(small_model, small_config, questions):
    small_config.evaluation.normalization = "pmi"
    (asked,) = of_models(small_config, [str(small_model)])
    items = cj.load_items("jsonl", path=questions)[:1]
    expected = cj.score(cj.load_pretrained(small_model), items, neutral=True).scores("pmi")
    np.testing.assert_allclose(asked.rank(items[0]).table.scores("pmi"), expected, atol=1e-5)


def test_a_run_is_asked_before_and_after(small_config, questions, tmp_path):
    train(small_config, tmp_path / "run")
    before, after = of_run(small_config, tmp_path / "run")
    assert (before.name, after.name) == ("before", "after 6 steps")
    assert [asked.name for asked in of_run(small_config, tmp_path / "run", "4")] == [
        "before",
        "after 4 steps",
    ]
    tables = np.load(tmp_path / "run" / "tables" / "final.npz")
    name, row = tables["test/ids"][0], 0
    item = next(item for item in cj.load_items("jsonl", path=questions) if item.id == name)
    np.testing.assert_allclose(after.rank(item).table.logp[0], tables["test/logp"][row], atol=1e-4)
    assert not np.allclose(before.rank(item).table.logp, after.rank(item).table.logp, atol=1e-3)


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["runs/a/gemma.gguf", "google/gemma-3"], ["gemma.gguf", "gemma-3"]),
        (["runs/a/model", "runs/b/model", "runs/b/other"], ["a/model", "b/model", "b/other"]),
        (["x/a/m", "y/a/m"], ["x/a/m", "y/a/m"]),
        (["m", "m"], ["m", "m"]),
    ],
)
def test_models_are_named_by_as_much_of_their_paths_as_tells_them_apart(paths, names):
    assert _names(paths) == names


def test_a_model_needs_a_tokenizer(small_model, small_config):
    model = cj.load_pretrained(small_model)
    model.tokenizer = None
    with pytest.raises(ConfigError, match="has no tokenizer"):
        Asked("x", small_config, model)


def test_what_is_odd_about_how_a_question_is_read_is_told(small_model, small_config):
    small_config.data.max_length = 24
    (asked,) = of_models(small_config, [str(small_model)])
    prompts, candidates = {"en": "France is " * 20, "de": "Ja"}, {"en": (" a", " b"), "de": (" a", " a")}
    cut, tied = asked.rank(ParallelItem("long", "", prompts, candidates)).notes
    assert cut == "1 of 2 prompts cut at data.max_length=24"
    assert "candidates of the same tokens, which tie" in tied


def test_a_model_that_gives_no_number_is_told(small_model, small_config):
    model = cj.load_pretrained(small_model)
    model.params = jax.tree.map(lambda leaf: leaf * np.nan, model.params)
    with pytest.raises(UserError, match="x gives a log-probability that is no finite number"):
        Asked("x", small_config, model).rank(ITEM)


def test_a_checkpoint_of_an_audit_is_told_and_nothing_is_made(small_config, tmp_path):
    with pytest.raises(CheckpointError, match="has no checkpoint, and none of step 5"):
        of_run(small_config, tmp_path, "5")
    assert list(tmp_path.glob("checkpoints")) == []
