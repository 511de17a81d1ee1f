"""PolyRefuse with answers: of a harmful prompt the refusal is right, of a harmless one the help."""

from pathlib import Path

import source_files

from consistency_jax.data.sources import load_items
from consistency_jax.data.sources.polyrefuse import LANGUAGES
from consistency_jax.data.sources.refusals import OPENINGS
from consistency_jax.metrics import refusals


def test_prompts_are_those_of_polyrefuse_and_the_kind_says_which_answer_is_right(tmp_path: Path):
    folder = source_files.polyrefuse(tmp_path)
    items = load_items("refusals", path=folder, split="train")
    bare = load_items("polyrefuse", path=folder, split="train")
    assert [(item.id, item.prompts) for item in items] == [(item.id, item.prompts) for item in bare]
    assert {(item.group, item.gold) for item in items} == {("harmful", 0), ("harmless", 1)}
    assert {item.num_candidates for item in items} == {2}
    few = load_items("refusals", path=folder, kind="harmful", split="validation", languages=["yo", "en"])
    assert [item.gold for item in few] == [0, 0, 0]
    assert few[0].candidates["en"] == tuple(f"\n\n{texts[0]}" for texts in OPENINGS["en"])


def test_the_judge_finds_each_refusal_and_no_help():
    assert set(OPENINGS) == set(LANGUAGES)
    for kind, verdict in enumerate((1, 0)):
        rows = [[OPENINGS[language][kind][k] for language in LANGUAGES] for k in range(2)]
        found = refusals(rows, LANGUAGES)
        assert [language for n, language in enumerate(LANGUAGES) if (found[:, n] != verdict).any()] == []
