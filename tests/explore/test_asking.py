"""Questions as tables of texts, and models that are asked them: as `score` and a sampler answer."""

import numpy as np
import pytest

import consistency_jax as cj
from consistency_jax.data.items import DataError, ParallelItem
from consistency_jax.errors import ConfigError
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
    assert rows[0] == ["en", "Geography.\n\nThe capital of France is", " Paris", " Rome"]
    assert from_rows(rows, ITEM) is ITEM


def test_what_is_written_is_parted_as_its_language_writes():
    rows = as_rows(ITEM)
    rows[0][2:] = ["Lyon", " Rome"]
    rows[1][2:] = [" 里昂", "罗马"]
    rows[2][3] = "Милан"
    rows += [
        ["sw", "Mji mkuu wa Ufaransa ni", "Lyon", "Roma"],
        ["de", "Aus <mask> .", "Lyon", "Rom"],
        ["", "", "", ""],
    ]
    item = from_rows(rows, ITEM)
    assert item.candidates == {
        "en": (" Lyon", " Rome"),
        "zh": ("里昂", "罗马"),
        "ru": ("Париж", "Милан"),
        "sw": (" Lyon", " Roma"),
        "de": ("Lyon", "Rom"),
    }
    assert item.right == ITEM.right  # as many answers: known still


def test_answers_may_be_added_and_taken_away():
    rows = [[*row, "Oslo", None] for row in as_rows(ITEM)]
    assert from_rows(rows, ITEM).num_candidates == 3
    assert from_rows(rows, ITEM).gold is None
    fewer = from_rows([row[:3] + [""] for row in as_rows(ITEM)], ITEM)
    assert fewer.candidates["en"] == (" Paris",)
    assert fewer.right == ()
    assert from_rows([["en", "One is", "1", "2"]]).candidates == {"en": (" 1", " 2")}


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
    ],
)
def test_a_table_that_is_no_question_is_told(rows, told):
    with pytest.raises(DataError, match=f"the question: .*{told}"):
        from_rows(rows)


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
    row = tables["test/ids"].tolist().index("q3") if "q3" in tables["test/ids"] else 0
    name = tables["test/ids"][row]
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
