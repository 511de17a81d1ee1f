"""What is written of a measurement: the files, the words on the terminal, and whose weights the experts have."""

import dataclasses
import json

import pytest
from made import make_items, make_table

from consistency_jax.config.defaults import default
from consistency_jax.data.items import Items
from consistency_jax.evaluation.reports import _steer, asked, write_report


@pytest.fixture
def config():
    config = default()
    config.model.path, config.evaluation.bootstrap, config.evaluation.normalization = "somewhere", 20, "sum"
    return config


def test_a_report_is_of_the_splits_that_were_measured(config, tmp_path, capsys):
    base, final = make_table(0), make_table(2, 2.0)
    items = {"test": Items(make_items(base))}
    summary = write_report(config, tmp_path, items, {"test": base}, {"test": final}, [], [[], []])
    assert json.loads((tmp_path / "report.json").read_text("utf8")) == json.loads(json.dumps(summary))
    assert summary["settings"]["normalization"] == "sum"
    assert list(summary["delta"]) == ["test"]
    told = capsys.readouterr().out
    assert "test: 60 questions in 4 languages" in told
    assert told.splitlines()[-1] == f"report: {tmp_path / 'report.html'}"


def test_experts_have_the_weights_of_the_last_stage_that_steers(config):
    config.objective.steer = {"en": 3.0}
    assert _steer(config) == {"en": 3.0}
    config.stages = ("dco", "sft")
    assert _steer(config) == {"en": 3.0}
    config.stage = {"dco": {"objective": {"steer": {"en": 5.0, "sw": 2.0}}}}
    assert _steer(config)["sw"] == 2.0
    config.stages, config.stage = ("sft", "dpo"), {}
    assert _steer(config) == {}  # nothing draws languages to each other


def test_what_was_asked_is_known_by_its_texts_and_what_is_right():
    table = make_table(0)
    items = make_items(table)
    first = items[0]

    def changed(known: str = "scores", **changes: object) -> str:
        own = [dataclasses.replace(first, **changes), *items[1:]]
        return asked(Items(own), dataclasses.replace(table, known=known))

    others = {code: ("x", *texts[1:]) for code, texts in first.candidates.items()}
    assert changed() == changed(where="elsewhere")
    digests = [changed(), changed(prompts={**first.prompts, "en": "?"}), changed(candidates=others)]
    digests += [changed(gold=(first.gold + 1) % 4), changed(known="texts")]
    assert len(set(digests)) == 5
    # Of texts alone candidates are what a model answered.
    wrong = {
        code: tuple(t if k == first.gold else "y" for k, t in enumerate(own)) for code, own in others.items()
    }
    right = {code: (*own[: first.gold], first.candidates[code][first.gold]) for code, own in wrong.items()}
    assert changed("texts", candidates=right) == changed("texts")
    # Of answers alone they are told, but for the places of languages that gave none.
    assert changed("answers", candidates=others) != changed("answers")


def test_notes_are_kept_and_shown(config, tmp_path):
    table = make_table(0)
    items = {"test": Items(make_items(table))}
    told = write_report(config, tmp_path, items, {"test": table}, None, [], [], ["5 answers are <b>"])
    assert told["settings"]["notes"] == ["5 answers are <b>"]
    assert "5 answers are &lt;b&gt;." in (tmp_path / "report.html").read_text("utf8")
