"""What is told of all items at once, against looking at each."""

import hashlib
import json

import numpy as np

from consistency_jax.data import facts
from consistency_jax.data.facts import by_language, fact, item_arrays, items_digest, known_languages
from consistency_jax.data.items import Items, ParallelItem

ITEMS = Items(
    [
        ParallelItem("a", "", {"fr": "p", "en": "q"}, {"fr": ("x", "y"), "en": ("u", "v")}, gold=1),
        ParallelItem("b", "", {"en": "q"}, {"en": ("u", "v", "w")}, context={"en": "c"}),
        ParallelItem("c", "g", {"sw": "q"}, {"sw": ("u", "u", "w")}, gold=0, also=(2,)),
    ]
)


def test_masks_and_gold_are_those_of_the_languages_asked_for():
    assert known_languages(ITEMS) == ("fr", "en", "sw")
    mask, gold = item_arrays(ITEMS, ("en", "sw", "xx"))
    expected = np.zeros((3, 3, 3), bool)
    expected[0, 0, :2] = expected[1, 0] = expected[2, 1] = True
    np.testing.assert_array_equal(mask, expected)
    np.testing.assert_array_equal(gold, [1, -1, 0])
    assert item_arrays(Items(), ("en",))[0].shape == (0, 1, 0)


def test_equal_prompts_have_equal_keys_and_no_others():
    keys = by_language(ITEMS, "prompts", ("en", "fr", "sw"))
    assert keys[0, 0] == keys[2, 2] != 0  # "q"
    assert (keys == 0).tolist() == [[False, False, True], [False, True, True], [True, True, False]]
    assert len({*keys.flat}) == 4  # none, "p", "q", and "q" behind its context


def test_items_with_one_right_candidate_and_no_twin_of_it_are_settled():
    np.testing.assert_array_equal(fact(ITEMS, "settled"), [True, True, False])


def test_a_key_is_of_all_that_items_say_and_of_their_order(monkeypatch):
    other = Items(
        [*ITEMS[:2], ParallelItem("c", "g", {"sw": "q"}, {"sw": ("u", "u", "W")}, gold=0, also=(2,))]
    )
    moved = Items([ParallelItem(**(vars(item) | {"where": "elsewhere"})) for item in ITEMS])
    parts = [(ITEMS, ("en",)), (ITEMS, ("fr",)), (other, ("en",)), (Items(reversed(ITEMS)), ("en",))]
    for most in (50_000, 2):  # a large set's key is made of its items' keys
        monkeypatch.setattr(facts, "MANY", most)
        keys = [items_digest([part], fast=True) for part in parts]
        assert len({*keys, items_digest(parts[:2], fast=True)}) == 5
        assert items_digest([(moved, ("en",))], fast=True) == keys[0]
        assert (items_digest(parts) == items_digest(parts, fast=True)) == (most > 2)


def test_the_key_of_a_small_set_is_the_one_that_workdirs_keep():
    """Of what earlier versions wrote: the fields as JSON, without those that they did not know where they are empty."""
    said = b'["en"]'
    for item in ITEMS:
        fields = {
            name: getattr(item, name)
            for name in ("id", "group", "prompts", "candidates", "gold", "context", "written")
        }
        fields |= {"also": item.also} if item.also else {}
        said += json.dumps(fields, sort_keys=True).encode()
    assert items_digest([(ITEMS, ("en",))]) == hashlib.sha256(said).hexdigest()[:32]
