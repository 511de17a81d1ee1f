"""What selections need: each is refused without it, and a new one is a function and what it says of itself."""

import numpy as np
import pytest

from consistency_jax.config.defaults import default
from consistency_jax.data.items import ParallelItem
from consistency_jax.data.preferences import Pair
from consistency_jax.errors import ConfigError
from consistency_jax.evaluation.splits import load_split
from consistency_jax.models.huggingface import load_pretrained
from consistency_jax.selection import SELECTIONS, check_selection
from consistency_jax.selection.making import selected_pairs
from consistency_jax.selection.needs import Given, Selection

LANGUAGES = ("en", "de", "ru")


def item(candidates: int = 2, gold: int | None = 0, prompt: str = "Q") -> ParallelItem:
    texts = tuple(f" {k}" for k in range(candidates))
    return ParallelItem("q", "", dict.fromkeys(LANGUAGES, prompt), dict.fromkeys(LANGUAGES, texts), gold)


@pytest.mark.parametrize(
    ("options", "items", "languages", "message"),
    [
        (
            {"name": "gold"},
            [item(gold=None)],
            LANGUAGES,
            "no item has a gold answer; random, calm, cm_align.* need none",
        ),
        ({"name": "random"}, [item(1)], LANGUAGES, "'random' compares candidates, and no item has 2"),
        (
            {"name": "calm"},
            [item()],
            LANGUAGES[:2],
            "compares 3 languages or more, and there are en, de: name more in",
        ),
        ({"name": "calm", "form": "sampling"}, [item(), item(27)], LANGUAGES, "an item has more than 26"),
        ({"name": "cm_align"}, [item(0)], ("en",), "compares 2 languages or more, and there are en"),
        (
            {"name": "cm_align"},
            [item(0)],
            ("de", "ru"),
            "reference='en' must be one of the languages: de, ru",
        ),
        (
            {"name": "cm_align"},
            [item(0, prompt="<mask> ?")],
            LANGUAGES,
            "item 'q' has a <mask>: use calm or gold",
        ),
        (
            {"name": "gold", "samples": 4},
            [item()],
            LANGUAGES,
            "selection.samples=4 does nothing there: .*rejected",
        ),
        ({"name": "random", "margin": 0.1}, [item()], LANGUAGES, "margin=0.1 does nothing .*takes no option"),
        ({"name": "calm", "samples": 5}, [item()], LANGUAGES, "with form='likelihood' takes form, agreeing"),
        (
            {"name": "calm", "form": "sampling", "agreeing": "random"},
            [item()],
            LANGUAGES,
            "agreeing='random' does",
        ),
        (
            {"name": "cm_align", "task": "code", "encoder": "LaBSE"},
            [item(0)],
            LANGUAGES,
            "encoder='LaBSE' does",
        ),
        ({"name": "cm_align", "samples": 1}, [item(0)], LANGUAGES, "selection.samples=1: .*draw 2 or more"),
    ],
)
def test_a_selection_without_what_it_needs_is_refused(options, items, languages, message):
    config = default().selection
    config.update(options)
    with pytest.raises(ConfigError, match=message):
        check_selection(config, items, languages)


@pytest.mark.parametrize("name", SELECTIONS)
def test_a_selection_with_what_it_needs_is_taken(name):
    config = default().selection
    config.name = name
    row = SELECTIONS[name]
    items = [item(row.candidates, gold=0 if row.labels else None)]
    check_selection(config, items, ("en", "de", "ru")[: row.languages])


def longest(given: Given) -> list[Pair]:
    """The longest candidate over the shortest; every other prompt is left out."""
    pairs = []
    for n, own in enumerate(given.items):
        for language in own.prompts:
            if n % 2:
                given.summary.drop(language, "odd")
                continue
            texts = sorted(own.candidates[language], key=len)
            pairs.append(Pair(own.id, language, own.prompts[language], texts[-1], texts[0]))
            given.summary.keep(language)
    return pairs


def test_a_new_selection_is_a_function_and_a_row(small_config, tmp_path, monkeypatch):
    monkeypatch.setitem(SELECTIONS, "longest", Selection(longest, languages=2))
    small_config.selection.name = "longest"
    items, model = load_split(small_config, "train"), load_pretrained(small_config.model.path)
    check_selection(small_config.selection, items, LANGUAGES)
    pairs = selected_pairs(small_config, model, items, LANGUAGES, tmp_path / "pairs.jsonl")
    assert {pair.id for pair in pairs} == {own.id for own in items[::2]}
    lengths = np.array([(len(pair.chosen), len(pair.rejected)) for pair in pairs])
    assert (lengths[:, 0] >= lengths[:, 1]).all()
