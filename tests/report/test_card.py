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
    card = model_card("a: b # c", ["no", "on", "1e3", "x: y"], STAGES, None)
    assert head(card)["language"] == ["no", "on", "1e3", "x: y"]
    assert head(card)["base_model"] == "a: b # c"
    assert "\n- sw\n- zh-Hant\n" in model_card("a/b", ["sw", "zh-Hant"], STAGES, None)


def test_a_folder_of_one_machine_is_no_model_of_the_hub():
    card = model_card("/home/me/models/mine/", ["en"], STAGES, {"base": {}}, on_hub=False)
    assert "base_model" not in head(card)
    assert "# mine, trained" in card
