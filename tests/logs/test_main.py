"""An audit of what was logged is the audit of the model that it was logged of."""

import json
import subprocess
import sys

import numpy as np
import pytest

import consistency_jax as cj
from consistency_jax.data.items import DataError
from consistency_jax.errors import ConfigError, UserError
from consistency_jax.logs.__main__ import audit_logs
from consistency_jax.report import summarise
from consistency_jax.table import read_tables

COMMAND = [sys.executable, "-m", "consistency_jax", "audit"]


@pytest.fixture
def logs(small_model, questions, tmp_path):
    """(file, table): what the model says to the questions, as JSON lines."""
    items = sorted(cj.load_items("jsonl", path=questions), key=lambda item: item.id)
    table = cj.score(cj.load_pretrained(small_model), items, languages=["de", "en", "ru"])
    lines = [
        {
            "id": item.id,
            "language": language,
            "scores": table.logp[n, l].astype(float).tolist(),
            "gold": item.gold,
            "prompt": item.prompts[language],
            "candidates": item.candidates[language],
        }
        for n, item in enumerate(items)
        for l, language in enumerate(table.languages)
    ]
    path = tmp_path / "model.jsonl"
    lines.reverse()  # a file may be written in any order
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf8")
    return path, table


def test_figures_and_intervals_are_those_of_the_models_own_table(logs, tmp_path):
    path, table = logs
    for way in ("sum", "bytes"):
        found = audit_logs(path, tmp_path / way, normalization=way)
        expected = summarise({"answers": table}, normalization=way)
        for part in ("base", "confidence"):
            for key in ("clc_all", "clc_en", "accuracy_en", "accuracy_non_en"):
                assert found[part]["answers"][key] == pytest.approx(expected[part]["answers"][key], abs=1e-9)
    kept = read_tables(tmp_path / "sum" / "tables" / "base.npz")["answers"]
    np.testing.assert_array_equal(kept.logp, table.logp)


def test_the_command_needs_no_model_and_its_audits_are_compared(logs, tmp_path):
    path, _ = logs
    other = path.with_name("other.jsonl")
    other.write_text(path.read_text(encoding="utf8"), encoding="utf8")
    for file in (path, other):
        words = [f"--from={file}", f"--workdir={tmp_path / file.stem}"]
        done = subprocess.run([*COMMAND, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "answers: 40 questions in 3 languages" in done.stdout
    page = (tmp_path / "model" / "report.html").read_text(encoding="utf8")
    assert "model.jsonl" in page
    words = [str(tmp_path / "model"), str(tmp_path / "other")]
    compare = [sys.executable, "-m", "consistency_jax", "compare", *words]
    done = subprocess.run(compare, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Changes are against model;" in done.stdout
    done = subprocess.run(
        [*COMMAND, "--from=absent", "--workdir=x"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stderr.endswith("absent: there is no such file or folder. Name what holds the logs\n")
    assert not (tmp_path / "x").exists()


def test_a_ranking_that_needs_tokens_is_refused(logs, tmp_path):
    with pytest.raises(ConfigError, match="--normalization=mean should be one of sum, bytes"):
        audit_logs(logs[0], tmp_path / "run", normalization="mean")


def test_what_does_not_go_with_answers_alone_is_told_before_anything_is_matched(tmp_path, monkeypatch):
    """Another ranking, another match in the same folder, a server that nothing asks; and compare of two matches."""
    from consistency_jax.compare import compare

    lines = [{"id": "q", "language": code, "answer": "18", "gold": "18"} for code in ("en", "sw")]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(ConfigError, match="--normalization=bytes ranks scores, and .* holds answers alone"):
        audit_logs(tmp_path / "answers.jsonl", tmp_path / "a", normalization="bytes")
    audit_logs(tmp_path / "answers.jsonl", tmp_path / "a", match="spelling")
    audit_logs(tmp_path / "answers.jsonl", tmp_path / "b", match="number")
    with pytest.raises(
        UserError, match="answers are matched by spelling and number: audit them by one --match"
    ):
        compare([tmp_path / "a", tmp_path / "b"])
    monkeypatch.setattr("consistency_jax.logs.__main__.read_logs", None)  # nothing is read
    with pytest.raises(ConfigError, match="has an audit by --match=spelling: give another --workdir"):
        audit_logs(tmp_path / "answers.jsonl", tmp_path / "a", match="number")
    with pytest.raises(DataError, match="there is no such file or folder"):
        audit_logs(tmp_path / "nope.jsonl", tmp_path / "c", match="embedding")
