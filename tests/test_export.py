"""Taking the model home: what can be exported, and where."""

import json
import shutil

import pytest
import transformers

from consistency_jax.errors import ConfigError, UserError
from consistency_jax.evaluate import evaluate_workdir
from consistency_jax.export import export
from consistency_jax.models.huggingface import load_pretrained
from consistency_jax.train import train


def test_exporting_what_was_never_trained_is_an_error(small_config, tmp_path):
    evaluate_workdir(small_config, tmp_path / "run")
    with pytest.raises(ConfigError, match="has no checkpoint yet: train first"):
        export(tmp_path / "run", tmp_path / "out")
    with pytest.raises(ConfigError, match="has no config.json"):
        export(tmp_path, tmp_path / "out")


def test_a_run_exports_where_there_are_fewer_devices(small_config, tmp_path):
    small_config.total_steps = 1
    train(small_config, tmp_path / "run")
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    stored["mesh"] = {"data": 1, "fsdp": 8, "tensor": 1}
    (tmp_path / "run" / "config.json").write_text(json.dumps(stored))
    assert (export(tmp_path / "run", tmp_path / "model") / "model.safetensors").is_file()


def test_a_folder_that_cannot_be_made_is_told_before_a_model_is_read(small_config, tmp_path, monkeypatch):
    small_config.total_steps = 1
    train(small_config, tmp_path / "run")
    monkeypatch.setattr("consistency_jax.export.base_model", None)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="--out=.*file cannot be made"):
        export(tmp_path / "run", tmp_path / "file")


def test_a_bos_that_was_put_while_training_goes_home_with_the_model(small_config, tmp_path):
    """data.bos=named: the folder's own tokenizer names one, and puts none."""
    folder = shutil.copytree(small_config.model.path, tmp_path / "without")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["post_processor"] = None
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"add_bos_token": False}))
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "rag.jinja").write_text("{{ messages[0].content }}")
    small_config.model.path, small_config.total_steps = str(folder), 1
    for bos in ("tokenizer", "named"):
        small_config.data.bos = bos
        train(small_config, tmp_path / bos)
        out = export(tmp_path / bos, tmp_path / f"{bos}-out")
        ids = transformers.AutoTokenizer.from_pretrained(out)("a b").input_ids
        own = load_pretrained(out).tokenizer
        assert (ids[0] == own.bos_token_id) == (bos == "named")
        assert (out / "additional_chat_templates" / "rag.jinja").is_file()
        assert own("a b").input_ids == ids


def test_an_export_onto_what_is_read_is_refused(small_config, tmp_path):
    small_config.total_steps = 1
    train(small_config, tmp_path / "run")
    before = (tmp_path / "run" / "config.json").read_bytes()
    with pytest.raises(ConfigError, match="--out=.* is the workdir of a run; choose another folder"):
        export(tmp_path / "run", tmp_path / "run")
    cache = tmp_path / "cache"
    cache.mkdir(exist_ok=True)
    for out in (tmp_path / "run" / "checkpoints", small_config.model.path, cache, cache / "models"):
        with pytest.raises(UserError, match="--out=.* would write into .*, which is read"):
            export(tmp_path / "run", out)
    assert before == (tmp_path / "run" / "config.json").read_bytes()


def test_an_export_replaces_its_own_files_alone(small_config, tmp_path):
    small_config.total_steps = 1
    train(small_config, tmp_path / "run")
    out = tmp_path / "model"
    out.mkdir()
    others = [out / name for name in ("model_backup.safetensors", "model.fp16.safetensors", "notes.txt")]
    for other in others:
        other.write_text("mine")
    export(tmp_path / "run", out)
    export(tmp_path / "run", out)  # onto its own
    assert {other.read_text() for other in others} == {"mine"}
    for name, text in (("README.md", "# Mine"), ("config.json", "{}"), ("model.safetensors", "x")):
        foreign = tmp_path / f"of {name}"
        foreign.mkdir()
        (foreign / name).write_text(text)
        with pytest.raises(ConfigError, match="holds files that no export wrote"):
            export(tmp_path / "run", foreign)
        assert [path.name for path in foreign.iterdir()] == [name]


def test_a_card_has_the_figures_of_the_step_that_is_exported_alone(small_config, tmp_path, capsys):
    small_config.total_steps = 4
    report = train(small_config, tmp_path / "run")
    assert report["settings"]["checkpoint"] == ["dco", 4]
    cards = [
        (export(tmp_path / "run", tmp_path / "out", step=step) / "README.md").read_text() for step in (4, 2)
    ]
    assert ["Before and after" in card for card in cards] == [True, False]
    told = f"the report is of step 4 of dco; first python -m consistency_jax.evaluate --workdir={tmp_path / 'run'}"
    assert f"{told} --checkpoint=2" in capsys.readouterr().out
    evaluate_workdir(small_config, tmp_path / "run", "2")
    assert (
        "Before and after" in (export(tmp_path / "run", tmp_path / "out", step=2) / "README.md").read_text()
    )


@pytest.mark.parametrize(
    "spoil", [{"base": None}, {"confidence": {"test": {"clc_all": []}}}, {"settings": {"splits": 3}}]
)
def test_a_report_of_another_shape_is_told_before_the_model_is_written(small_config, tmp_path, spoil):
    small_config.total_steps = 2
    train(small_config, tmp_path / "run")
    path = tmp_path / "run" / "report.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | spoil))
    with pytest.raises(ConfigError, match=r"report.json is damaged .*consistency_jax.evaluate --workdir="):
        export(tmp_path / "run", tmp_path / "out")
    assert not (tmp_path / "out").exists()
