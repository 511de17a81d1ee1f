"""The folder of a run: whose it is, and what may change between two starts."""

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from consistency_jax.config.checks import validate
from consistency_jax.config.parsing import to_json
from consistency_jax.data import facts
from consistency_jax.errors import ConfigError, UserError
from consistency_jax.evaluate import evaluate_workdir
from consistency_jax.train import train
from consistency_jax.training import workdir
from consistency_jax.training.loggers import MetricsLog, metric_lines
from consistency_jax.training.stages import load_training
from consistency_jax.training.workdir import (
    begun,
    check_data,
    drop_early_report,
    keep_command,
    open_workdir,
    read_command,
    read_config,
    read_report,
)


def opened(folder, config):
    with open_workdir(folder, config) as workdir:
        return workdir


@pytest.mark.parametrize("where", ["the run", "a stage", "nowhere"])
def test_what_ranks_candidates_may_not_change_where_pairs_are_made_by_it(small_config, tmp_path, where):
    selection = {"selection": {"name": "calm"}}
    if where == "the run":
        small_config.update(selection)
    if where == "a stage":
        small_config.update({"stages": ("sft", "dpo"), "stage": {"dpo": selection}})
    (tmp_path / "run" / "checkpoints" / "5").mkdir(parents=True)
    (tmp_path / "run" / "config.json").write_text(to_json(small_config))
    small_config.evaluation.tokens = 4096
    opened(tmp_path / "run", small_config)
    small_config.evaluation.update(normalization="sum", boundary="separate")
    if where == "nowhere":
        opened(tmp_path / "run", small_config)
        return
    message = (
        "another config:\n  evaluation.boundary: 'joint' there, 'separate' now"
        "\n  evaluation.normalization: 'mean_full' there, 'sum' now"
    )
    with pytest.raises(ConfigError, match=message):
        opened(tmp_path / "run", small_config)
    assert read_config(tmp_path / "run").evaluation.normalization == "mean_full"


def test_what_changes_rounding_alone_may_change_in_a_stage_too(small_config, tmp_path):
    small_config.stages = ("dpo", "dco")
    small_config.stage.dco = {"batching": {"shapes": 1}, "total_steps": 2}
    (tmp_path / "checkpoints" / "5").mkdir(parents=True)
    (tmp_path / "config.json").write_text(to_json(small_config))
    small_config.stage.dco.batching.shapes = 2
    opened(tmp_path, small_config)
    small_config.stage.dco.total_steps = 3
    with pytest.raises(ConfigError, match="stage.dco.total_steps: 2 there, 3 now"):
        opened(tmp_path, small_config)


def test_a_report_of_another_config_does_not_pass_for_this_ones(small_config, tmp_path):
    report = opened(tmp_path, small_config) / "report.json"
    report.write_text("{}")
    opened(tmp_path, small_config)
    assert report.exists()
    small_config.evaluation.bootstrap += 1
    opened(tmp_path, small_config)
    assert not report.exists()


def test_a_report_is_not_replaced_by_a_run_of_another_config(small_config, tmp_path):
    """An audit's figures were gone once a training began in its folder."""
    folder = opened(tmp_path, small_config)
    (folder / "report.json").write_text("{}")
    (folder / "command.txt").write_text("python -m consistency_jax.evaluate --config=mine\n")
    small_config.optimizer.learning_rate /= 2
    with pytest.raises(
        ConfigError,
        match="(?s)learning_rate: .*begun by: python -m .*It holds a report, which would be lost",
    ):
        opened(tmp_path, small_config)
    assert (folder / "report.json").exists()
    (folder / "report.json").unlink()
    opened(tmp_path, small_config)


def test_settings_of_adapters_that_are_not_there_make_no_other_run(small_config, tmp_path):
    for alpha in (32.0, 0.0):
        small_config.lora.alpha = alpha
        (opened(tmp_path, small_config) / "report.json").write_text("{}")
    for changes, told in (
        ({"rank": 4, "alpha": 8.0}, "lora.rank: 0 there, 4 now"),
        ({"rank": 0, "base": "nf4"}, "lora.base: 'none' there, 'nf4' now"),  # it quantises the model
    ):
        small_config.lora.update(changes)
        with pytest.raises(ConfigError, match=told):
            opened(tmp_path, small_config)


def test_a_folder_that_is_no_workdir_is_told(tmp_path):
    with pytest.raises(ConfigError, match="has no config.json: give the --workdir of a run"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text('{"seed": ')
    with pytest.raises(ConfigError, match="config.json is damaged"):
        read_config(tmp_path)


def test_a_stored_config_is_read_as_it_was(small_config, tmp_path):
    small_config.objective.steer = {"en": 4.0}
    small_config.stages = ("sft", "dco")
    opened(tmp_path, small_config)
    assert to_json(read_config(tmp_path)) == to_json(small_config)


# `objective` as every workdir stored it before objectives had options of their own.
BEFORE = {
    "partners": "all",
    "candidates": "all",
    "false_examples": False,
    "scale": "mean",
    "steer": {},
    "normalization": "mean",
    "rejected": "random",
    "beta": 0.1,
    "label_smoothing": 0.0,
    "gamma": 0.0,
    "margin": 1.0,
    "samples": 8,
    "kl": "sequence",
    "odds_weight": 0.1,
}


def test_checkpoints_that_cannot_be_read_are_not_taken_for_none(tmp_path, monkeypatch):
    (tmp_path / "checkpoints" / "dco").mkdir(parents=True)
    assert not begun(tmp_path)
    (tmp_path / "checkpoints" / "dco" / "4").mkdir()
    assert begun(tmp_path)

    def refused(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(type(tmp_path), "iterdir", refused)
    with pytest.raises(PermissionError):
        begun(tmp_path)


def test_a_run_that_never_reached_a_checkpoint_may_begin_with_other_settings(small_config, tmp_path):
    """As after the first step found no memory."""
    opened(tmp_path / "run", small_config)
    (tmp_path / "run" / "checkpoints").mkdir()
    small_config.batching.items = 2
    opened(tmp_path / "run", small_config)
    assert read_config(tmp_path / "run").batching["items"] == 2
    (tmp_path / "run" / "checkpoints" / "1").mkdir()
    small_config.batching.items = 4
    with pytest.raises(ConfigError, match="batching.items: 2 there, 4 now"):
        opened(tmp_path / "run", small_config)


def stored_before(config, folder, **objective):
    """The workdir of a run of this config that was started then."""
    (folder / "checkpoints" / "5").mkdir(parents=True)
    text = json.loads(json.dumps(config.to_dict(), default=list))
    text["objective"] = BEFORE | {"name": config.objective.name} | objective
    (folder / "config.json").write_text(json.dumps(text))
    return folder


def test_a_workdir_from_before_goes_on(small_config, tmp_path):
    # configs/tiny.py gave steer and scale to every method, where they did nothing.
    small_config.objective.name = "dpo"
    folder = stored_before(small_config, tmp_path / "dpo", steer={"en": 30.0}, scale="one", gamma=0.5)
    read = read_config(folder)
    validate(read)
    own = {"name": "dpo", "beta": 0.1, "label_smoothing": 0.0, "gamma": 0.5, "rejected": "random"}
    assert read.objective.to_dict() == own
    with pytest.raises(ConfigError, match="objective.gamma: 0.5 there, 0.0 now"):
        opened(folder, small_config)
    small_config.objective.gamma = 0.5
    opened(folder, small_config)
    assert json.loads((folder / "config.json").read_text())["objective"] == own


def test_a_run_from_before_with_the_wrong_beta_is_not_taken_for_one_with_the_right(small_config, tmp_path):
    small_config.objective.name = "simpo"
    folder = stored_before(small_config, tmp_path / "simpo")
    assert read_config(folder).objective.beta == 0.1
    with pytest.raises(ConfigError, match="objective.beta: 0.1 there, 2.0 now"):
        opened(folder, small_config)
    small_config.objective.beta = 0.1
    opened(folder, small_config)


def test_stages_from_before_go_on(small_config, tmp_path):
    small_config.stages, small_config.stage = ("dpo", "dco"), {"dpo": {"total_steps": 3}}
    folder = stored_before(small_config, tmp_path / "run", steer={"en": 3.0})
    validate(read_config(folder))
    with pytest.raises(ConfigError, match="stage.dco.objective.steer.en: 3.0 there, None now"):
        opened(folder, small_config)
    small_config.objective.steer = {"en": 3.0}
    opened(folder, small_config)
    assert to_json(read_config(folder)) == to_json(small_config)


def test_an_objective_that_is_not_there_any_more_is_told(small_config, tmp_path):
    small_config.objective.name = "lost"
    folder = stored_before(small_config, tmp_path / "run")
    with pytest.raises(ConfigError, match="objective.name='lost' is unknown"):
        read_config(folder)


# ------------------------------------------------------------------------------------------ nothing lost, nothing mixed
def test_a_folder_that_is_read_from_is_no_workdir(small_config, small_model, tmp_path):
    model = shutil.copytree(small_model, tmp_path / "model")
    before = (model / "config.json").read_bytes()
    small_config.model.path = str(model)
    for folder in (model, model / "run"):
        with pytest.raises(UserError, match="--workdir=.* would write into model.path"):
            opened(folder, small_config)
    other = shutil.copytree(model, tmp_path / "other")
    with pytest.raises(
        ConfigError, match=r"config.json is not of a run \(of a model\?\): give another --workdir"
    ):
        opened(other, small_config)
    assert before == (model / "config.json").read_bytes() == (other / "config.json").read_bytes()


HOLDER = """
import sys, time
from pathlib import Path
from consistency_jax.runtime.files import Alone

held = Alone(Path(sys.argv[1]), "--workdir")
held.take()
print("held", flush=True)
time.sleep(600)
"""


def test_a_workdir_is_held_by_one_process_until_it_ends(small_config, tmp_path):
    opened(tmp_path, small_config)
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout.readline() == "held\n"
            with pytest.raises(UserError, match=f"is in use by process {other.pid} on .*: end it, or wait"):
                opened(tmp_path, small_config)
        finally:
            other.kill()
    opened(tmp_path, small_config)
    with open_workdir(tmp_path, small_config), pytest.raises(UserError, match="is in use by"):
        opened(tmp_path, small_config)


@pytest.mark.parametrize(
    ("report", "kept"),
    [
        ({"base": {}, "final": {}, "settings": {"finished": True}}, True),
        ({"base": {}, "final": {}, "settings": {"finished": False}}, False),
        ({"base": {}, "settings": {}}, False),
    ],
)
def test_a_run_that_goes_on_has_no_report_of_an_earlier_step(tmp_path, report, kept):
    """What `evaluate` wrote meanwhile: a launcher would take it for the end of the run."""
    drop_early_report(tmp_path)
    (tmp_path / "report.json").write_text(json.dumps(report))
    drop_early_report(tmp_path)
    assert (tmp_path / "report.json").exists() == kept


@pytest.mark.parametrize("name", ["report.json", "skipped.jsonl", "metrics.jsonl", "checkpoints"])
def test_a_folder_of_something_else_is_left_alone(small_config, tmp_path, name):
    """A model trainer's checkpoints, somebody's report: a run removed or overwrote them."""
    place = tmp_path / name
    place.mkdir() if name == "checkpoints" else place.write_text("mine")
    with pytest.raises(ConfigError, match=f"has {name}, and no config.json of a run: give another --workdir"):
        opened(tmp_path, small_config)
    assert place.is_dir() or place.read_text() == "mine"
    assert not (tmp_path / "config.json").exists()


def test_data_under_the_name_of_an_output_is_refused(small_config, questions, tmp_path):
    data = tmp_path / "skipped.jsonl"
    data.write_bytes(questions.read_bytes())
    small_config.data.path = str(data)
    with pytest.raises(UserError, match=r"--workdir=.*skipped.jsonl would write into data.path"):
        opened(tmp_path, small_config)
    assert data.read_bytes() == questions.read_bytes()


def test_what_a_killed_run_left_half_written_goes(small_config, tmp_path):
    opened(tmp_path, small_config)
    (tmp_path / "tables").mkdir()
    half = tmp_path / "tables" / "base.npz.0123abcd.partial"
    half.write_text("half")
    others = [tmp_path / "mine" / "notes.partial", tmp_path / "tables" / "mine.partial"]
    for other in others:
        other.parent.mkdir(exist_ok=True)
        other.write_text("mine")
    (tmp_path / "download.partial").mkdir()
    opened(tmp_path, small_config)
    assert not half.exists()
    assert all(other.exists() for other in others)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_holds_nothing(small_config, tmp_path, monkeypatch, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with open_workdir(tmp_path, small_config) as first, open_workdir(tmp_path, small_config) as second:
        assert first == second == tmp_path
        assert not (tmp_path / ".holder").exists()


def test_a_run_without_a_checkpoint_has_trained_on_nothing(small_config, tmp_path):
    (tmp_path / "checkpoints" / "1-dpo").mkdir(parents=True)  # made before its first step
    items, languages = load_training(small_config)
    for own in (items, items[:3]):
        check_data(tmp_path, [(own, languages)])
    (tmp_path / "checkpoints" / "1-dpo" / "4").mkdir()
    with pytest.raises(ConfigError, match="trained on other items"):
        check_data(tmp_path, [(items, languages)])


def test_prompts_of_an_auxiliary_loss_are_data_too(small_config, tmp_path, monkeypatch):
    monkeypatch.setattr(facts, "MANY", 2)
    loaded = [load_training(small_config)]
    prompts = loaded[0][0]
    (tmp_path / "checkpoints" / "4").mkdir(parents=True)
    for fast in (False, True):  # of versions that kept none of them
        (tmp_path / workdir.DATA_KEY).write_text(facts.items_digest(loaded, fast=fast))
        check_data(tmp_path, loaded, [None, prompts])
    (tmp_path / "checkpoints" / "4").rmdir()
    check_data(tmp_path, loaded, [None, prompts])
    (tmp_path / "checkpoints" / "4").mkdir()
    check_data(tmp_path, loaded, [None, prompts])
    with pytest.raises(ConfigError, match="trained on other items"):
        check_data(tmp_path, loaded, [None, prompts[1:]])


def test_a_run_on_many_items_that_an_earlier_version_began_goes_on(small_config, tmp_path, monkeypatch):
    """It kept the key of small sets."""
    loaded = [load_training(small_config)]
    check_data(tmp_path, loaded)
    (tmp_path / "checkpoints" / "4").mkdir(parents=True)
    monkeypatch.setattr(facts, "MANY", 2)
    check_data(tmp_path, loaded)
    keys = facts.fact(loaded[0][0], "keys")
    (tmp_path / workdir.DATA_KEY).write_text(facts.items_digest(loaded, fast=True))
    with monkeypatch.context() as own:  # where the fast key is as it was, no text is looked at
        own.setattr(facts, "all_said", None)
        own.setitem(facts.FACTS, "keys", lambda items: keys)
        check_data(tmp_path, loaded)
    with pytest.raises(ConfigError, match="trained on other items"):
        check_data(tmp_path, [(loaded[0][0][:3], loaded[0][1])])


def test_a_run_whose_data_were_edited_does_not_go_on(small_config, tmp_path):
    """Rows in another order are split otherwise: what it trained on would be tested on."""
    small_config.total_steps = 2
    data = Path(small_config.data.path)
    small_config.data.path = str(shutil.copy(data, tmp_path / "data.jsonl"))
    train(small_config, tmp_path / "run")
    lines = data.read_text(encoding="utf8").splitlines(keepends=True)
    Path(small_config.data.path).write_text("".join(lines[::-1][2:]), encoding="utf8")
    kept = (tmp_path / "run" / "report.json").read_bytes()
    with pytest.raises(ConfigError, match="trained on other items than the data give now.*another --workdir"):
        train(small_config, tmp_path / "run")
    with pytest.raises(ConfigError, match="trained on other items.*evaluate the exported model"):
        evaluate_workdir(small_config, tmp_path / "run")
    assert kept == (tmp_path / "run" / "report.json").read_bytes()
    Path(small_config.data.path).write_text("".join(lines), encoding="utf8")
    train(small_config, tmp_path / "run")


def test_code_that_a_stored_config_names_is_not_run(small_config, tmp_path, monkeypatch):
    """A workdir may come from anyone."""
    (tmp_path / "unasked_code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    small_config.evaluation.safety.judge = "unasked_code:judge"
    small_config.evaluation.safety.harmful.source = "multijail"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(to_json(small_config))
    with pytest.raises(ConfigError, match="names code to run, evaluation.safety.judge='unasked_code:judge'"):
        evaluate_workdir(None, tmp_path / "run")
    small_config.evaluation.safety.judge = "patterns"
    small_config.objective.name = "pco_rollout"
    small_config.rollout.update(source="generate", translator="unasked_code:judge")
    load_training(small_config)  # as `evaluate` does, to compare with what was trained on
    assert not (tmp_path / "ran").exists()


def test_how_to_go_on_from_the_end_of_a_run_is_told(small_config, tmp_path):
    small_config.total_steps = 1
    train(small_config, tmp_path / "run")
    small_config.total_steps = 2
    told = "python -m consistency_jax.export --workdir=.*run --out=FOLDER, then --config.model.path=FOLDER"
    with pytest.raises(ConfigError, match=f"total_steps: 1 there, 2 now\n.*To train on from its end: {told}"):
        train(small_config, tmp_path / "run")
    small_config.model.path = str(tmp_path / "run")
    with pytest.raises(
        ConfigError, match=f"model.path=.*run is the workdir of a run. To start from its end: {told}"
    ):
        train(small_config, tmp_path / "next")


@pytest.mark.parametrize(
    "text", [b"[]", b"3", b'{"seed": ', b"\xff\xfe", b'{"model": 3}', b'{"data": {"path": []}}', b"null"]
)
def test_a_damaged_config_is_one_error(tmp_path, text):
    (tmp_path / "config.json").write_bytes(text)
    with pytest.raises(ConfigError, match="config.json is damaged"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    "text", [b"[]", b"3", b'{"settings": ', b"\xff\xfe", b"{}", b'{"base": {}, "settings": []}']
)
def test_a_damaged_report_is_one_error_that_says_how_to_make_it_again(tmp_path, text):
    assert read_report(tmp_path) is None
    (tmp_path / "report.json").write_bytes(text)
    with pytest.raises(
        ConfigError, match="report.json is damaged .*python -m consistency_jax.evaluate --workdir="
    ):
        read_report(tmp_path)


def test_damaged_lines_of_the_log_are_passed_over(tmp_path):
    good = [{"stage": "dco", "step": n, "loss": 0.5} for n in (1, 2, 3)]
    lines = [
        json.dumps(good[0]).encode(),
        b"3",
        b"[]",
        b"\xff",
        b'{"step": 9}',
        b'{"stage": "dco", "step": "x"}',
        json.dumps(good[1]).encode(),
    ]
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"\n".join([*lines, json.dumps(good[2]).encode(), b'{"stage": "dco", "st']))
    assert metric_lines(path) == good
    MetricsLog(tmp_path, first_step=2, stage="dco", tensorboard=False).close()
    assert metric_lines(path) == good[:2]
    assert path.read_text().count("\n") == 2


def test_the_command_of_a_run_is_kept_until_it_has_begun(small_config, tmp_path):
    folder = opened(tmp_path, small_config)
    assert read_command(folder) == ""
    keep_command(folder, "train --lr=1")
    keep_command(folder, "train --lr=2")  # the first was killed before its first checkpoint
    assert read_command(folder) == "train --lr=2"
    keep_command(folder, "")  # from Python: of no command
    assert read_command(folder) == ""
    keep_command(folder, "train --lr=3")
    (folder / "checkpoints" / "5").mkdir(parents=True)
    keep_command(folder, "train --lr=3 --verbosity=1")  # which resumes it
    assert read_command(folder) == "train --lr=3"
