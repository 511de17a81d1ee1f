"""What a valid item is: every kind of bad one gives an error that names place, reason and mend."""

from dataclasses import replace

import pytest

from consistency_jax.data.items import DataError, Items, ParallelItem, doubled_candidates, validate

GOOD = ParallelItem(
    id="Q1",
    group="geography",
    prompts={"en": "The capital of France is", "fr": "La capitale de la France est <mask> ."},
    candidates={"en": (" Paris", " Rome"), "fr": ("Paris", "Rome")},
    gold=0,
    context={"en": "France is a country."},
)


def test_a_good_item_passes():
    validate(GOOD, "file:1")
    assert GOOD.languages == ("en", "fr")
    assert GOOD.num_candidates == 2
    validate(replace(GOOD, gold=None, context=None), "file:1")
    validate(replace(GOOD, prompts={"en": "<mask>", "fr": "x"}), "file:1")  # its context is the question


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"prompts": {}, "candidates": {}}, "no language"),
        ({"prompts": {"en": "x"}}, "same languages .*fr"),
        ({"candidates": {"en": (), "fr": ()}}, "no candidates"),
        ({"prompts": {"en": "x", "fr": "  "}}, "prompt in 'fr' is empty"),
        ({"prompts": {"en": "x", "fr": " <mask> "}}, "prompt in 'fr' is empty"),
        ({"prompts": {"en": "<mask> is <mask>", "fr": "x"}}, "'en' has 2 <mask>"),
        ({"candidates": {"en": (" Paris", " Rome"), "fr": ("Paris",)}}, "'fr' has 1 candidates, 'en' has 2"),
        ({"candidates": {"en": (" Paris", " "), "fr": ("Paris", "Rome")}}, "candidate 1 in 'en' is empty"),
        ({"gold": 2}, "gold is 2, with 2 candidates"),
        ({"gold": -1}, "gold is -1"),
        ({"context": {"de": "x"}}, "context has languages without a prompt .de"),
        ({"id": "Q\udfff"}, r"the id holds a lone surrogate, '\\udfff'"),
        ({"prompts": {"en": "x", "fr": "\ud800"}}, "the prompt in 'fr' holds a lone surrogate"),
        ({"candidates": {"en": (" Rome", " Rome"), "fr": ("Paris", "Rome")}}, "' Rome' more than once"),
    ],
)
def test_a_bad_item_names_place_and_reason(change: dict, reason: str):
    with pytest.raises(DataError, match=f"^set.jsonl:7: .*{reason}"):
        validate(replace(GOOD, **change), "set.jsonl:7")


def test_doubled_candidates_may_be_allowed():
    item = replace(GOOD, candidates={"en": (" Rome", " Rome"), "fr": ("Paris", "Rome")})
    validate(item, "file:1", allow_doubled=True)
    assert len(doubled_candidates(item)) == 1


def test_items_is_a_list_that_remembers_what_was_skipped():
    items = Items([GOOD], skipped=["a"], warnings=["b"])
    assert items == [GOOD]
    assert items.languages == ("en", "fr")
    assert (items.skipped, items.warnings) == (["a"], ["b"])
