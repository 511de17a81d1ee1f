"""The model card of an export: its head is what the Hub reads, its text what was done."""

import yaml

from consistency_jax.report.card import model_card

STAGES = [("dpo", 1000), ("dco", 2500)]


def head(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def test_the_head_is_metadata_of_the_hub():
    card = model_card("Qwen/Qwen3-8B", ["en", "sw"], STAGES, None)
    assert head(card) == {
        "library_name": "transformers",
        "base_model": "Qwen/Qwen3-8B",
        "language": ["en", "sw"],
        "tags": ["crosslingual-consistency"],
    }
    assert "# Qwen3-8B, trained for crosslingual consistency" in card
    assert (
        "DPO, 1,000 steps, then DCO, 2,500 steps, with consistency_jax; base model: `Qwen/Qwen3-8B`" in card
    )
    assert "Before and after" not in card  # nothing was measured


def test_a_head_says_what_names_say():
    """`no` is a language, and in YAML a falsehood; a name may hold what YAML reads as more keys."""
    card = model_card("a: b # c", ["no", "on"], STAGES, None)
    assert head(card)["language"] == ["no", "on"]
    assert head(card)["base_model"] == "a: b # c"


def test_languages_are_those_that_the_hub_takes():
    """ISO 639-1 to -3 in `language`, tags of BCP 47 in a key of their own; it refuses a card with others."""
    names = ["sw", "zh-Hant", "zh-Hans", "eng_Latn", "pt-BR", "es-419", "en-t1", "1e3", "x: y"]
    known = head(model_card("a/b", names, STAGES, None))
    assert known["language"] == ["sw", "zh", "eng", "pt", "es"]
    assert known["language_bcp47"] == ["zh-Hant", "zh-Hans", "eng-Latn", "pt-BR", "es-419"]
    assert "language" not in head(model_card("a/b", [], STAGES, None))


def test_a_folder_of_one_machine_is_no_model_of_the_hub():
    card = model_card("/home/me/models/mine/", ["en"], STAGES, {"base": {}}, on_hub=False)
    assert "base_model" not in head(card)
    assert "# mine, trained" in card
