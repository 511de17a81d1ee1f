"""What the module of every data set declares, and what `load_items` makes of it."""

import dataclasses
import importlib
import inspect
from pathlib import Path

import pytest
import source_files

from consistency_jax.config.defaults import default
from consistency_jax.data.facts import require_answers
from consistency_jax.data.items import SPACINGS, DataError, check_spacing
from consistency_jax.data.sources import SOURCES, jsonl, load_items, source_of, source_options
from consistency_jax.data.sources.source import Row, bare_row, each
from consistency_jax.evaluation.splits import load_split


@pytest.mark.parametrize("name", SOURCES)
def test_what_a_source_declares_fits_together(name: str):
    source, options = source_of(name), source_options(name)
    assert source.leading_space in SPACINGS
    assert set(source.experiment.languages) <= set(source.languages or source.experiment.languages)
    assert set(source.values) <= set(options)
    assert len(set(options)) == len(options)
    assert not source.experiment.instances or {"instances", "seed"} <= set(options)
    defaults = inspect.signature(importlib.import_module(SOURCES[name]).read).parameters
    for option, known in source.values.items():
        assert defaults[option].default in known


def test_a_source_is_held_to_the_spaces_that_it_states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jsonl, "SOURCE", dataclasses.replace(jsonl.SOURCE, leading_space="candidate"))
    text = '{"id": "Q1", "prompts": {"en": "a", "fr": "b"}, "candidates": {"en": [" c"], "fr": ["d"]}}'
    file = source_files.write(tmp_path / "set.jsonl", text)
    with pytest.raises(DataError, match="set.jsonl:1: 'd' in 'fr' breaks its rule"):
        load_items("jsonl", path=file)
    assert len(load_items("jsonl", path=file, languages=["en"])) == 1


def test_a_bad_row_keeps_its_place():
    error, bad = DataError("read"), DataError("made")

    def make(number: int, text: str) -> Row:
        if text == "bad":
            raise bad
        return bare_row(f"{number}", "g", {"en": f" {text} "}, f"x:{number}")

    rows = each(["a", error, "bad", "b"], make)
    assert rows[1:3] == [error, bad]
    assert [rows[k].item.id for k in (0, 3)] == ["0", "3"]
    assert rows[3].item.prompts == {"en": "b"}
    assert (rows[3].item.candidates, rows[3].item.gold) == ({"en": ()}, None)


def test_bare_prompts_are_refused_where_answers_are_scored(tmp_path: Path):
    config = default()
    config.data.source, config.data.path = "multijail", str(source_files.multijail(tmp_path))
    message = "split 'test' of data.source='multijail': item 'multijail-0' is a bare prompt"
    with pytest.raises(DataError, match=message):
        load_split(config, "test")
    items = load_items("multijail", path=tmp_path)
    with pytest.raises(DataError, match="there is no answer to score. Take a source with candidates"):
        require_answers(items, "x")
    check_spacing(items[0], "either", "x")
