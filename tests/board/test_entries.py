"""Entries of a board: what audits say, and what is refused."""

import json

import numpy as np
import pytest

from consistency_jax.board.entries import asked, checked, entries_of, entry_of
from consistency_jax.errors import UserError
from consistency_jax.metrics import clc_values
from consistency_jax.table import read_tables


@pytest.fixture
def workdir(tmp_path, audit):
    return audit(tmp_path, "model")


def test_an_entry_says_what_the_report_says(workdir):
    entry, report = entry_of(workdir), json.loads((workdir / "report.json").read_text("utf8"))
    assert entry["model"] == "model"
    (own,) = entry["benchmarks"].values()
    base, sure = report["base"]["answers"], report["confidence"]["answers"]
    assert own["figures"]["clc_all"] == [base["clc_all"], *sure["clc_all"]]
    assert own["by_language"]["accuracy"]["fr"] == [base["accuracy"]["fr"], *sure["accuracy"]["fr"]]
    assert own["by_language"]["clc"]["sw"] == [base["clc_with_others"]["sw"], *sure["clc_with_others"]["sw"]]
    table = read_tables(workdir / "tables" / "base.npz")["answers"]
    np.testing.assert_allclose(
        own["values"]["clc_all"], clc_values(table.scores("sum"), table.mask).mean(1), atol=1e-4
    )
    assert (own["items"], own["languages"], own["asked"]) == (40, ["en", "fr", "sw"], asked(table))
    assert own["version"].startswith("consistency_jax ")
    assert own["ranked_by"] == "sum"


def test_entries_are_read_again_and_joined(tmp_path, workdir):
    file = tmp_path / "model.json"
    file.write_text(json.dumps(entry_of(workdir)), "utf8")
    assert entries_of([file]) == entries_of([workdir])
    other = json.loads(file.read_text("utf8"))
    other["benchmarks"] = {"another": other["benchmarks"]["answers"]}
    (tmp_path / "more.json").write_text(json.dumps(other), "utf8")
    assert list(entries_of([file, tmp_path / "more.json"])["model"]["benchmarks"]) == ["answers", "another"]
    with pytest.raises(UserError, match=r"model.json and .*run_model are both of model on answers"):
        entries_of([file, workdir])


def test_other_questions_have_another_digest(tmp_path, workdir, audit):
    digests = {entry_of(workdir)["benchmarks"]["answers"]["asked"]}
    digests.add(entry_of(audit(tmp_path, "other_model"))["benchmarks"]["answers"]["asked"])
    assert len(digests) == 1  # the same questions of another model
    for changes in ({"items": 39}, {"languages": ("en", "fr", "es")}):
        own = audit(tmp_path, f"changed{len(digests)}", **changes)
        digests.add(entry_of(own)["benchmarks"]["answers"]["asked"])
    assert len(digests) == 3


def changed(entry: dict, place: str, value: object) -> dict:
    entry = json.loads(json.dumps(entry))
    *way, last = place.split(".")
    own = entry
    for part in way:
        own = own[part]
    if value is None:
        del own[last]
    else:
        own[last] = value
    return entry


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        ("schema", 2, "schema 2, not 1"),
        ("model", "", "model is no name"),
        ("model", None, "'model' is missing"),
        ("benchmarks", {}, "it has schema"),
        ("benchmarks", [1], "no entry of a board"),
        ("more", 1, "it has schema, model, benchmarks, more"),
        ("benchmarks.answers.asked", 7, "are texts"),
        ("benchmarks.answers.items", "40", "are texts"),
        ("benchmarks.answers.languages", [], "languages are no names"),
        ("benchmarks.answers.languages", ["en", "xx"], "'xx' is missing"),
        ("benchmarks.answers.figures.clc_all", [50.0, 60.0, 70.0, 80.0], "no entry of a board"),
        ("benchmarks.answers.figures.clc_all", [50.0, 70.0, 60.0], r"not \[value, low, high\]"),
        ("benchmarks.answers.figures.accuracy_en", [150.0, 70.0, 90.0], r"not \[value, low, high\]"),
        ("benchmarks.answers.figures.clc_all", [99.0, 98.0, 100.0], "is 99, but its values have the mean"),
        ("benchmarks.answers.values.clc_all", [1.0], "has 1 values of 40 questions"),
        ("benchmarks.answers.values.clc_all", ["x"] * 40, "no entry of a board"),
        ("benchmarks.answers.values", None, "'values' is missing"),
        ("benchmarks.answers.by_language.clc.en", None, "'en' is missing"),
    ],
)
def test_an_entry_that_is_none_is_told(tmp_path, workdir, place, value, told):
    file = tmp_path / "entry.json"
    file.write_text(json.dumps(changed(entry_of(workdir), place, value)), "utf8")
    with pytest.raises(UserError, match=told) as error:
        checked(file)
    assert "entry.json" in str(error.value)


def test_what_is_no_audit_is_told(tmp_path, workdir):
    with pytest.raises(UserError, match="no config.json"):
        entry_of(tmp_path)
    report = json.loads((workdir / "report.json").read_text("utf8"))
    (workdir / "report.json").write_text(json.dumps(report | {"final": report["base"]}), "utf8")
    with pytest.raises(UserError, match="is a training run"):
        entry_of(workdir)
    (workdir / "report.json").unlink()
    with pytest.raises(UserError, match=r"no report.json"):
        entry_of(workdir)
    (tmp_path / "x.json").write_text("{", "utf8")
    with pytest.raises(UserError, match="no entry of a board"):
        checked(tmp_path / "x.json")
    with pytest.raises(UserError, match="no entry of a board"):
        checked(tmp_path / "absent.json")
