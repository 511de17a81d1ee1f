"""Entries of a board: what audits say, and what is refused."""

import json
import shutil

import numpy as np
import pytest

from consistency_jax.board.entries import checked, entries_of, entry_of
from consistency_jax.errors import UserError
from consistency_jax.logs.__main__ import audit_logs
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
    assert own["by_language"]["with_others"]["sw"] == [
        base["clc_with_others"]["sw"],
        *sure["clc_with_others"]["sw"],
    ]
    table = read_tables(workdir / "tables" / "base.npz")["answers"]
    np.testing.assert_allclose(
        own["values"]["clc_all"], clc_values(table.scores("sum"), table.mask).mean(1), atol=1e-4
    )
    assert (own["items"], own["languages"]) == (40, ["en", "fr", "sw"])
    assert own["asked"] == report["settings"]["splits"]["answers"]["asked"]
    assert own["version"].startswith("consistency_jax ")
    assert own["ranked_by"] == "sum"


def test_entries_are_read_again_and_joined(tmp_path, workdir):
    file = tmp_path / "model.json"
    file.write_text(json.dumps(entry_of(workdir)), "utf8")
    assert entries_of([str(file)]) == entries_of([str(workdir)])
    other = json.loads(file.read_text("utf8"))
    other["benchmarks"] = {"another": other["benchmarks"]["answers"]}
    (tmp_path / "more.json").write_text(json.dumps(other), "utf8")
    entries, notes = entries_of([str(file), str(tmp_path / "more.json")])
    assert list(entries["model"]["benchmarks"]) == ["answers", "another"]
    assert notes == []
    with pytest.raises(
        UserError, match=r"model.json and .*run_model are both of model on answers.*another name"
    ):
        entries_of([str(file), str(workdir)])
    assert list(entries_of([str(file), f"mine={workdir}"])[0]) == ["model", "mine"]


def test_one_benchmark_in_other_languages_is_another(tmp_path, audit):
    workdirs = []
    for name, languages in {"first": ("en", "fr"), "second": ("en", "sw")}.items():
        (tmp_path / name).mkdir()
        workdirs.append(str(audit(tmp_path / name, "model", languages=languages)))
    entries, _ = entries_of(workdirs)
    assert list(entries["model"]["benchmarks"]) == ["answers", "answers, 40 questions in en sw"]


def test_models_of_two_places_with_one_name_are_told(tmp_path, audit):
    workdirs = []
    for name, languages in {"dco": ("en", "fr"), "dpo": ("en", "sw")}.items():
        (tmp_path / name).mkdir()
        workdirs.append(audit(tmp_path / name, "model", languages=languages))
        config = json.loads((workdirs[-1] / "config.json").read_text("utf8"))
        config["model"]["path"] = f"{name}/model"
        (workdirs[-1] / "config.json").write_text(json.dumps(config), "utf8")
    _, notes = entries_of(list(map(str, workdirs)))
    told = f"dco/model and dpo/model are taken for one model, model: where they are two, NAME={workdirs[1]}"
    assert notes == [told]


def test_what_is_no_audit_is_left_out_and_told(tmp_path, workdir):
    (tmp_path / "empty").mkdir()
    (tmp_path / "page.html").write_text("")
    (tmp_path / "compare.json").write_text("{}")
    run = shutil.copytree(workdir, tmp_path / "run")
    report = json.loads((run / "report.json").read_text("utf8"))
    (run / "report.json").write_text(json.dumps(report | {"final": report["base"]}), "utf8")
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported" / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    begun = shutil.copytree(workdir, tmp_path / "begun")
    (begun / "report.json").unlink()
    (begun / "checkpoints" / "100").mkdir(parents=True)
    names = ("empty", "page.html", "compare.json", "run", "exported", "begun")
    entries, notes = entries_of([str(tmp_path / name) for name in names])
    assert entries == {}
    none, trained = "no workdir, left out", "a training run, left out: audit what it exported"
    assert [note.partition(" is ")[2] for note in notes] == [none, none, trained, none, trained]


def test_languages_that_lack_questions_have_figures_without_values(tmp_path, audit):
    workdir = audit(tmp_path, "holes")
    file = tmp_path / "holes.jsonl"
    lines = file.read_text("utf8").splitlines()
    file.write_text("\n".join(lines[:-1] + [""]), "utf8")
    audit_logs(file, workdir)
    (own,) = entry_of(workdir)["benchmarks"].values()
    assert own["values"] == {}
    assert own["figures"]["clc_all"][0] is not None
    again = tmp_path / "again.json"
    again.write_text(json.dumps(entry_of(workdir)), "utf8")
    assert checked(again) == entry_of(workdir)


def test_a_report_of_an_older_version_is_told(workdir):
    report = json.loads((workdir / "report.json").read_text("utf8"))
    del report["base"]["answers"]["capa_all"]
    (workdir / "report.json").write_text(json.dumps(report), "utf8")
    with pytest.raises(UserError, match="report.json is damaged .*make it again"):
        entry_of(workdir)


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
        ("schema", 2, "schema should be 1, not 2"),
        ("model", "", "model should be a name"),
        ("model", None, "it should have schema, model and benchmarks"),
        ("more", 1, "and nothing else"),
        ("benchmarks", {}, "benchmarks should be an object"),
        ("benchmarks", [1], "benchmarks should be an object"),
        ("benchmarks.answers.asked", 7, "benchmarks.answers.asked should be of kind str"),
        ("benchmarks.answers.items", "40", "answers.items should be of kind int"),
        ("benchmarks.answers.values", None, "answers.values should be of kind dict"),
        ("benchmarks.answers.languages", [], "languages should be names"),
        (
            "benchmarks.answers.languages",
            ["en", "xx"],
            "by_language.with_others.xx should be .value, low, high.",
        ),
        ("benchmarks.answers.by_language.accuracy", "high", "by_language.accuracy should be of kind dict"),
        ("benchmarks.answers.by_language.with_others.en", None, "by_language.with_others.en should be"),
        (
            "benchmarks.answers.figures.clc_all",
            [50.0, 60.0, 70.0, 80.0],
            "figures.clc_all should be .value, low, high.",
        ),
        ("benchmarks.answers.figures.capa_all", ["50", 1.0, 99.0], "figures.capa_all should be"),
        ("benchmarks.answers.figures.capa_all", [float("nan"), 1.0, 99.0], "figures.capa_all should be"),
        ("benchmarks.answers.figures.clc_all", [50.0, 70.0, 60.0], "low is above high"),
        ("benchmarks.answers.figures.accuracy_en", [150.0, 70.0, 90.0], "figures.accuracy_en should be"),
        (
            "benchmarks.answers.figures.clc_all",
            [99.0, 98.0, 100.0],
            "clc_all is 99.0, but the mean of its values",
        ),
        ("benchmarks.answers.values.clc_all", [1.0], "clc_all should have 40 values, one a question, not 1"),
        ("benchmarks.answers.values.clc_all", ["x"] * 40, "values.clc_all should be a list"),
        ("benchmarks.answers.values.other", [1.0] * 40, "values.other should be a list .* of clc_all"),
    ],
)
def test_an_entry_that_is_none_is_told(tmp_path, workdir, place, value, told):
    file = tmp_path / "entry.json"
    file.write_text(json.dumps(changed(entry_of(workdir), place, value)), "utf8")
    with pytest.raises(UserError, match=told) as error:
        checked(file)
    assert "entry.json" in str(error.value)


def test_what_has_measured_nothing_is_told(tmp_path, workdir):
    with pytest.raises(UserError, match="no config.json"):
        entry_of(tmp_path)
    (workdir / "tables" / "base.npz").unlink()
    with pytest.raises(UserError, match="no tables/base.npz"):
        entry_of(workdir)
    (workdir / "report.json").unlink()
    with pytest.raises(UserError, match=r"no report.json"):
        entry_of(workdir)
    (tmp_path / "x.json").write_text("{", "utf8")
    for name in ("x.json", "absent.json"):
        with pytest.raises(UserError, match=f"{name} is no entry of a board"):
            checked(tmp_path / name)
