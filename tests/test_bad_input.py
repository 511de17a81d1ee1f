"""Bad input gets one clear error that names the place and the mend, before long work starts."""

import json
import os
import shlex
import subprocess
import sys

import pytest
from ml_collections import ConfigDict

import consistency_jax as cj
from consistency_jax.config.checks import validate
from consistency_jax.config.defaults import default
from consistency_jax.data.items import DataError
from consistency_jax.errors import CheckpointError, ConfigError, UserError
from consistency_jax.train import train
from consistency_jax.training.checkpoints import Checkpointer

# Orbax leaves futures of a failed read to the garbage collector, which reports them whenever it comes by.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def rewritten(questions, tmp_path, change):
    """The questions with the third line changed."""
    lines = questions.read_text(encoding="utf8").splitlines()
    lines[2] = change(lines[2])
    path = tmp_path / "bad.jsonl"
    path.write_text("\n".join(lines), encoding="utf8")
    return str(path)


def unflattened(change):
    """{"a.b": 1} -> {"a": {"b": 1}}"""
    changes = {}
    for name, value in change.items():
        *parts, last = name.split(".")
        here = changes
        for part in parts:
            here = here.setdefault(part, {})
        here[last] = value
    return changes


def edited(**changes):
    def change(line):
        return json.dumps(json.loads(line) | changes)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda line: line[: len(line) // 2], "bad.jsonl:3"),
        (
            edited(candidates={"en": [" a"], "de": [" a", " b"], "ru": [" a", " b"]}),
            "bad.jsonl:3.*candidates",
        ),
        (edited(prompts={"en": " ", "de": "b", "ru": "c"}), "bad.jsonl:3.*'en' is empty"),
        (edited(gold=7), "bad.jsonl:3.*gold is 7"),
    ],
    ids=["malformed", "unequal candidates", "empty prompt", "gold out of range"],
)
def test_a_bad_row_names_file_and_line(small_config, questions, tmp_path, change, message):
    small_config.data.path = rewritten(questions, tmp_path, change)
    with pytest.raises(DataError, match=message):
        train(small_config, tmp_path / "run")


def test_one_row_cannot_be_split(small_config, questions, tmp_path):
    """It said: choose from 1 to 0."""
    path = tmp_path / "one.jsonl"
    path.write_text(questions.read_text(encoding="utf8").splitlines()[0], encoding="utf8")
    small_config.data.path = str(path)
    with pytest.raises(DataError, match="a set of 1 row cannot be split. Give more questions, or "):
        train(small_config, tmp_path / "run")


def test_skipped_rows_are_counted_and_listed(small_config, questions, tmp_path, capsys):
    small_config.data.path = rewritten(questions, tmp_path, lambda line: "{")
    small_config.data.on_error = "skip"
    small_config.total_steps = 1
    train(small_config, tmp_path / "run")
    assert "1 skipped, the first: " in (out := capsys.readouterr().out)
    assert "bad.jsonl:3" in out


def test_unknown_language_lists_the_known(small_config, tmp_path):
    small_config.data.languages = ("en", "xx")
    with pytest.raises(DataError, match="'xx'.*en, de, ru"):
        train(small_config, tmp_path / "run")


def test_steering_an_absent_language_is_an_error(small_config, tmp_path):
    small_config.objective.steer = ConfigDict({"sw": 2.0})
    with pytest.raises(
        ConfigError, match="'sw'.*en, de, ru: for configs/custom.py anchor=en, or anchor= for"
    ):
        train(small_config, tmp_path / "run")


def test_a_group_without_a_language_of_the_data_is_an_error(small_config, tmp_path):
    small_config.evaluation.groups = {"asian": ("ja", "zh")}
    with pytest.raises(
        ConfigError, match="evaluation.groups.asian=.* holds no language of split 'test', .* en, de"
    ):
        train(small_config, tmp_path / "run")
    small_config.evaluation.groups = {"asian": "ja"}
    with pytest.raises(ConfigError, match="evaluation.groups.asian='ja' must hold languages"):
        train(small_config, tmp_path / "run")


def test_unknown_config_key_names_the_nearest():
    config = default()
    config.optimizer.learning_rat = 1.0
    with pytest.raises(ConfigError, match="optimizer.learning_rat.*did you mean 'learning_rate'"):
        validate(config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batching.accumulate": 3}, "accumulate=3 must divide"),
        ({"mesh.tensor": 3}, "does not cover the 1 device"),
        ({"model.dtype": "float8"}, "model.dtype='float8'"),
        ({"objective.scale": "meen"}, "did you mean 'mean'"),
        ({"total_steps": 0}, "total_steps=0"),
        ({"data.source": "mmmul"}, "data.source='mmmul' is unknown .did you mean 'mmmlu'"),
        ({"model.path": ""}, "no model: give --config.model.path"),
        ({"objective.name": "dcoo"}, "objective.name='dcoo' is unknown"),
        ({"objective": {"name": "pco_rollout", "samples": 1}}, "objective.samples=1 must be at least 2"),
        (
            {"objective": {"name": "sft", "candidates": "pair"}},
            "candidates='pair': sft takes no candidates; .*candidates is for dco, pco_exact",
        ),
        (
            {"objective": {"name": "dpo", "candidates": "pair"}},
            "candidates='pair': dpo takes no candidates; .*candidates is for dco, pco_exact",
        ),
        (
            {"objective": {"name": "pco_rollout", "kl": "word"}},
            "objective.kl='word' is unknown.*sequence, token",
        ),
        (
            {"objective": {"name": "dpo", "rejected": "hard"}},
            "objective.rejected='hard' is unknown.*'hardest'",
        ),
        (
            {"objective": {"name": "dpo", "label_smoothing": 0.5}},
            r"label_smoothing=0.5 must lie in",
        ),
        ({"objective": {"name": "dpo", "beta": 0.0}}, "objective.beta=0.0 must be greater than 0"),
        ({"batching.languages": 9}, "batching.languages=9"),
        ({"batching": {"name": "grouped", "languages": 2}}, "batching.name=grouped takes items in all"),
        ({"data.train.languages": ("en", "xx")}, "data.train.languages names 'xx'; the data has en, de, ru"),
        ({"data.train.languages": ("en", "en", "de")}, "names a language twice"),
        ({"data.train.groups": ("capitol",)}, "split 'train' has no group 'capitol'; it has: capital"),
        ({"data.test_groups": ("capitol",)}, "split 'test' has no group 'capitol'; it has: capital"),
        ({"batching.languages": -1}, "batching.languages=-1 must not be negative"),
        ({"batching.row_length": 4}, "batching: .*longer"),
        ({"data.test": ()}, "data.test"),
        ({"data.languages": ("en",)}, "no item that objective.name='dco' can learn from.*two languages"),
        ({"data.train.items": -3}, "data.train.items=-3"),
        ({"evaluation.every": 1}, "no split 'validation'.*validation_size"),
        ({"objective.steer": {"en": "much"}}, "objective.steer.en='much'"),
        ({"optimizer.clip_norm": -1.0}, "clip_norm=-1.0"),
        ({"optimizer.b1": 2.0}, r"optimizer.b1=2.0 must lie in \[0, 1\)"),
        ({"optimizer.eps": -1.0}, "optimizer.eps=-1.0 must be greater than 0"),
        ({"optimizer.matrix_learning_rate": -1.0}, "matrix_learning_rate=-1.0 must be greater than 0"),
        ({"pretrain.total_steps": -1}, "pretrain.total_steps=-1 must not be negative"),
        ({"optimizer.freeze": "("}, "is no regular expression"),
        ({"optimizer.freeze": "nothing"}, "matches no parameter; there are: embedding/weight"),
        ({"seed": -1}, "seed=-1"),
        ({"stages": ("dpo", "dpo")}, "lists a stage twice"),
        ({"stages": ("dpo", "pretrain")}, "leave it out, or model.path empty"),
        ({"stages": ("dpo", "a/b")}, "lists 'a/b': names are letters"),
        ({"stages": (1, 2)}, "lists 1: names are letters"),
        ({"stages": ("dpo", "dcoo")}, "'dcoo', which is no objective .did you mean 'dco'"),
        ({"stages": ("sft", "dco"), "stage": {"dpo": {"total_steps": 3}}}, "stage.dpo is set, but"),
        ({"stages": ("sft", "dco"), "stage": {"sft": 3}}, "stage.sft=3 should hold settings"),
        ({"stages": ("sft", "dco"), "stage": {"sft": {"seed": 3}}}, "stage.sft.seed: a stage may set"),
        (
            {"stages": ("sft", "dco"), "stage": {"sft": {"optimizer": 3}}},
            "stage.sft.optimizer=3 should hold settings",
        ),
        (
            {"stages": ("sft", "dco"), "stage": {"sft": {"objective": 3}}},
            "stage.sft.objective=3 should hold settings",
        ),
        (
            {"stages": ("sft", "dco"), "stage": {"sft": {"total_steps": {"x": 1}}}},
            "stage.sft.total_steps=.* should be of type int",
        ),
        ({"stages": ("sft", "dco"), "stage": {"dco": {"total_steps": "3"}}}, "stage.dco: .*total_steps"),
        (
            {"stages": ("sft", "dco"), "stage": {"dco": {"objective": {"scal": "one"}}}},
            "stage dco: unknown config key 'objective.scal'",
        ),
        (
            {"stages": ("sft", "dco"), "stage": {"dco": {"optimizer": {"freeze": "norm"}}}},
            "all stages train the same parameters",
        ),
        (
            {"stages": ("sft", "dco"), "stage": {"dco": {"data": {"train": {"languages": ("xx",)}}}}},
            "data.train.languages names 'xx'",
        ),
        (
            {"stages": ("sft", "dco"), "stage": {"dco": {"batching": {"row_length": 4}}}},
            "batching: .*longer",
        ),
    ],
)
def test_a_config_that_cannot_run_is_refused(small_config, tmp_path, change, message):
    small_config.update(ConfigDict(unflattened(change)))
    with pytest.raises(UserError, match=message):
        train(small_config, tmp_path / "run")
    assert not (tmp_path / "run" / "tables" / "final.npz").exists()
    assert not list((tmp_path / "run").glob("checkpoints/*"))  # of an earlier stage


def test_a_corrected_command_may_use_the_workdir_of_one_that_failed_early(small_config, tmp_path):
    wrong = small_config.copy_and_resolve_references()
    wrong.data.languages = ("en",)
    with pytest.raises(ConfigError):
        train(wrong, tmp_path / "run")
    small_config.total_steps = 1
    train(small_config, tmp_path / "run")


def test_items_without_a_label_are_left_out_of_supervised_training(small_config, questions, tmp_path, capsys):
    small_config.objective.name = "sft"
    small_config.total_steps = 1
    lines = [json.loads(line) | {"gold": None} for line in questions.read_text(encoding="utf8").splitlines()]
    path = tmp_path / "unlabelled.jsonl"
    small_config.data.path = str(path)
    path.write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(ConfigError, match="it needs a gold answer"):
        train(small_config, tmp_path / "run")
    lines[:20] = [line | {"gold": 0} for line in lines[:20]]
    path.write_text("\n".join(map(json.dumps, lines)))
    train(small_config, tmp_path / "run")
    assert "items left out of training: sft needs a gold answer" in capsys.readouterr().out


def test_a_workdir_of_another_config_is_refused(small_config, tmp_path):
    small_config.total_steps = 2
    train(small_config, tmp_path / "run")
    small_config.optimizer.learning_rate = 5e-4
    with pytest.raises(
        ConfigError, match=r"another config:\s+optimizer.learning_rate: 0.001 there, 0.0005 now"
    ):
        train(small_config, tmp_path / "run")


def test_an_unwritable_workdir_is_told_first(small_config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write to the workdir.*choose another --workdir"):
        train(small_config, tmp_path / "file" / "run")


def test_one_name_catches_config_errors_of_every_room(small_config, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"architectures": ["FalconForCausalLM"]}')
    with pytest.raises(ConfigError, match="unsupported architecture: FalconForCausalLM"):
        cj.load_pretrained(folder)
    small_config.total_steps = -1
    with pytest.raises(ConfigError, match="total_steps"):
        train(small_config, tmp_path / "run")


def test_one_name_catches_checkpoint_errors_of_folders_and_of_training(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint folder"):
        cj.load_pretrained(tmp_path / "absent")
    checkpoints = Checkpointer(tmp_path / "checkpoints")
    with pytest.raises(CheckpointError, match="has no checkpoint of step 3; it has: none"), checkpoints:
        checkpoints.restore(3, {})


def test_a_corrupt_checkpoint_is_named_with_the_mend(small_config, tmp_path):
    workdir = tmp_path / "run"
    train(small_config, workdir)
    for path in (workdir / "checkpoints" / "6").rglob("*"):
        if path.is_file() and path.parent.name == "d":
            path.write_bytes(b"damaged")
    with pytest.raises(
        CheckpointError, match=r"checkpoints/6 cannot be read.*Delete that folder to resume from step 4"
    ):
        train(small_config, workdir)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(small_config, tmp_path):
    small_config.optimizer.learning_rate = 1e30
    small_config.optimizer.clip_norm = 0.0
    with pytest.raises(FloatingPointError, match="at step 2;"):
        train(small_config, tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints" / "2").exists()  # nothing spoilt is kept


def command(*arguments, before=""):
    """The real command, in a shell that runs `before` first."""
    line = f"{before} exec {shlex.join([sys.executable, '-m', 'consistency_jax.train', *arguments])}"
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=environment)


def test_a_full_disk_stops_with_one_message(small_model, questions, tmp_path):
    config = tmp_path / "config.py"
    config.write_text(
        "from consistency_jax.config import default\n"
        "def get_config(arg=None):\n"
        "    config = default()\n"
        f"    config.model.path, config.data.path = {str(small_model)!r}, {str(questions)!r}\n"
        "    config.total_steps, config.checkpoint.every = 4, 2\n"
        "    config.logging.tensorboard = False\n"
        "    return config\n"
    )

    no_large_files = "ulimit -f 40;"
    done = command(f"--config={config}", f"--workdir={tmp_path / 'run'}", before=no_large_files)
    assert done.returncode == 1
    # one line, and no word of Orbax's threads, which fail each for itself
    (told,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert "Traceback" not in done.stderr
    assert f"cannot write a checkpoint to {tmp_path / 'run' / 'checkpoints'} (File too large)" in told
    assert "free some space or choose another --workdir" in told
