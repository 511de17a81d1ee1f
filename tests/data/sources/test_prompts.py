"""Prompts without answers: what their readers give, and that nothing scores them by mistake."""

from pathlib import Path

import pytest
import source_files

from consistency_jax.config.defaults import default
from consistency_jax.data.items import DataError, check_spacing, require_answers
from consistency_jax.data.sources import load_items
from consistency_jax.evaluation.splits import load_split


def test_jsonl_takes_bare_prompts_where_it_is_told_to(tmp_path: Path):
    file = source_files.write(tmp_path / "p.jsonl", '{"id": "a", "prompts": {"en": "x", "de": "y"}}\n')
    item = load_items("jsonl", path=file, bare=True)[0]
    assert item.candidates == {"en": (), "de": ()}
    with pytest.raises(DataError, match="the key 'candidates' is missing"):
        load_items("jsonl", path=file)


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
