"""The command `explore`: what it serves, and what it refuses before anything is loaded."""

import re
import subprocess
import sys
import urllib.request

import pytest

from consistency_jax.config import get_config
from consistency_jax.errors import CheckpointError, ConfigError
from consistency_jax.explore.__main__ import explore

COMMAND = [sys.executable, "-m", "consistency_jax", "explore"]


def test_the_command_serves_its_page_to_this_machine(served, asked):
    assert f"questions 3, of {asked}" in served.told
    page = urllib.request.urlopen(served.address, timeout=30).read().decode()
    assert " and ".join(served.names) in page


@pytest.mark.parametrize(
    ("workdir", "models", "checkpoint", "told"),
    [
        (None, [], "latest", "give the --workdir of a run, or one or more --model"),
        ("runs/x", ["a"], "latest", "give the --workdir of a run, or one or more --model"),
        (None, [""], "latest", "--model= names nothing"),
        (None, ["a"], "5", "--checkpoint is of a run"),
        ("runs/x", [], "-1", "--checkpoint=-1 should be latest or the step"),
        ("runs/x", [], "base", "--checkpoint=base should be latest or the step"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(workdir, models, checkpoint, told):
    with pytest.raises(ConfigError, match=told):
        explore(None, workdir, models, checkpoint)


def test_a_config_is_not_put_in_the_place_of_a_runs():
    with pytest.raises(ConfigError, match="give --config beside --model alone"):
        explore(get_config("audit", "path=x,data=cldr"), "runs/x")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--model=m", "--normalization=bar"], "evaluation.normalization='bar'"),
        (["--model=m", "--config.evaluation.normalisation=pmi"], "normalisation"),
        (["--model=m", "--config.data.test=()"], "data.test=() must hold names"),
        (["--model=m", "--langauges=en"], "(did you mean 'languages'?)"),
        (["--model=m", "--hosts=0.0.0.0"], "(did you mean --host?)"),
        (["--normalization=sum"], "no flag of this command"),
    ],
)
def test_a_wrong_option_is_told_before_a_model_is_looked_for(words, told):
    done = subprocess.run([*COMMAND, *words], capture_output=True, text=True)
    assert done.returncode == 1
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_port_that_is_taken_is_told_at_once(served):
    port = int(served.address.rpartition(":")[2])
    with pytest.raises(ConfigError, match=f"--port={port} is taken: give another one, or none"):
        explore(get_config("audit", "path=x,data=cldr"), None, ["x"], port=port)


def test_an_address_that_is_not_this_machines_is_told_at_once():
    with pytest.raises(ConfigError, match="--host=192.0.2.1 --port=0 cannot be served at: "):
        explore(get_config("audit", "path=x,data=cldr"), None, ["x"], host="192.0.2.1")


@pytest.fixture
def no_gradio(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "consistency_jax.explore.page", raising=False)


def test_a_model_that_is_not_there_is_told_before_data_are_read(no_gradio):
    with pytest.raises(CheckpointError, match="no checkpoint folder or GGUF file nowhere.gguf"):
        explore(get_config("audit", "path=x,data=no-such.jsonl"), None, ["nowhere.gguf"])


def test_a_folder_without_a_run_is_told(no_gradio, tmp_path):
    with pytest.raises(ConfigError, match="has no config.json"):
        explore(None, str(tmp_path))


def test_without_gradio_the_extra_is_named(no_gradio):
    with pytest.raises(ConfigError, match=re.escape("pip install 'consistency_jax[explore]'")):
        explore(get_config("audit", "path=x,data=cldr"), None, ["org/x"])


def test_help_tells_what_it_takes():
    done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True)
    assert "--model" in done.stdout
    assert "in several languages side by side" in done.stdout
