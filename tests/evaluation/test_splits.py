"""Splits of a config: which items and languages they have, and what is told of them."""

import pytest

from consistency_jax.data.items import Items, ParallelItem
from consistency_jax.errors import ConfigError
from consistency_jax.evaluation.splits import (
    evenly,
    languages_of,
    load_split,
    load_tests,
    needs,
    print_warnings,
    split_of,
    token_lines,
)
from consistency_jax.models.huggingface import load_pretrained


def items(count: int) -> Items:
    made = [ParallelItem(str(n), "", {"en": "x"}, {"en": ("a", "b")}) for n in range(count)]
    return Items(made, skipped=["row 3"], warnings=["odd", "odder"])


def test_questions_are_taken_from_all_over_the_list():
    some = evenly(items(11), 3)
    assert [item.id for item in some] == ["0", "5", "10"]
    assert (some.skipped, some.warnings) == (["row 3"], ["odd", "odder"])
    for count in (0, 11, 12):
        assert [item.id for item in evenly(items(11), count)] == [str(n) for n in range(11)]


def test_what_is_odd_is_counted_with_its_first(capsys):
    print_warnings(items(2), "split 'x'")
    assert capsys.readouterr().out.splitlines() == [
        "data: split 'x': 1 skipped, the first: row 3",
        "data: split 'x': 2 warnings, the first: odd",
    ]


def test_a_run_of_another_seed_has_another_split_unless_the_data_say_which(small_config):
    def drawn() -> list[str]:
        return [item.id for item in load_split(small_config, "test")]

    first = drawn()
    small_config.seed = 1
    assert drawn() != first
    small_config.data.options.seed = 0
    assert drawn() == first
    small_config.data.test, small_config.data.test_items = ("test", "every"), 5
    tests = load_tests(small_config)
    assert {name: len(found) for name, found in tests.items()} == {"test": 5, "every": 5}


def test_languages_stand_as_the_config_names_them_else_as_the_data_have_them(small_config):
    own = load_split(small_config, "test")
    assert languages_of(small_config, own) == ("en", "de", "ru")
    small_config.data.languages = ("ru", "en")
    assert languages_of(small_config, load_split(small_config, "test")) == ("ru", "en")


def test_groups_that_a_split_lacks_are_told(small_config):
    with pytest.raises(ConfigError, match="split 'test' has no group 'river'; it has: capital"):
        load_split(small_config, "test", groups=("river",))
    small_config.evaluation.groups = {"asian": ("ja",)}
    with pytest.raises(ConfigError, match="evaluation.groups.asian=.*'test', which has en, de, ru"):
        load_split(small_config, "test")
    load_split(small_config, "train")  # is not a test split


def test_trees_are_those_of_the_languages_asked_for_and_cuts_are_told(small_config, small_model, capsys):
    model = load_pretrained(small_model)
    own = Items(load_split(small_config, "test")[:3])
    split = split_of(small_config, "test", own, model, "joint", ("ru", "en"))
    assert (split.languages, len(split.trees), split.neutral) == (("ru", "en"), 6, None)
    alone = split.alone("en")
    assert alone.languages == ("en",)
    assert [tree.trunk.tolist() for tree in alone.trees] == [split.trees[n].trunk.tolist() for n in (1, 3, 5)]
    capsys.readouterr()
    small_config.data.max_length = 12
    small_config.evaluation.normalization = "pmi"
    cut = split_of(small_config, "test", own, model, "joint", ("en",))
    assert "3 of 3 prompts cut at data.max_length=12" in capsys.readouterr().out
    assert len(cut.neutral.trees) == 3  # the answers alone, each once
    model.tokenizer = None
    with pytest.raises(ConfigError, match="has no tokenizer; put its files beside config.json"):
        split_of(small_config, "test", own, model, "joint")


def test_tables_hold_what_the_normalizations_take(small_config):
    small_config.evaluation.normalization = "bytes"
    assert not needs(small_config, "pmi")
    small_config.evaluation.all_normalizations = True
    assert needs(small_config, "pmi")


def test_questions_are_shown_as_the_tokens_that_are_fed(small_config, small_model):
    model = load_pretrained(small_model)
    made = ParallelItem(
        "q1",
        "",
        {"en": "The capital of France is", "ja": "フランスの首都は"},
        {"en": (" Paris", " Rome"), "ja": ("パリ", "ローマ")},
    )
    english = ParallelItem("q2", "", {"en": "It is"}, {"en": (" a", " b")})
    small_config.data.languages = ("en", "ja")
    split = split_of(small_config, "test", Items([made, english]), model, "separate")
    lines = list(token_lines(split, model.tokenizer, 2))
    assert lines[0] == "test, 'q1', 'en': '<s>' | 'The' ' capital' ' of' ' Fran' 'ce' ' is' | ' Paris'"
    assert [line.partition(":")[0] for line in lines] == [
        "test, 'q1', 'en'",
        "test, 'q1', 'ja'",
        "test, 'q2', 'en'",
    ]
    assert list(token_lines(split, model.tokenizer, 1)) == lines[:2]
    assert not list(token_lines(split, model.tokenizer, 0))
