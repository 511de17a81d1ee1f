"""What commands share: how one ends, and what a wrong flag says."""

import importlib.machinery
import importlib.metadata
import os
import re
import shlex
import signal
import subprocess
import sys
import types
from pathlib import Path

import pytest
from absl import flags
from ml_collections import config_flags

from consistency_jax.config.defaults import help_text
from consistency_jax.errors import ConfigError, Interrupted
from consistency_jax.runtime import cli
from consistency_jax.runtime.cli import command_line, run_command, unread
from consistency_jax.runtime.help import help_of, source


def command(*arguments, before=""):
    """The real command, in a shell that runs `before` first."""
    line = f"{before} exec {shlex.join([sys.executable, '-m', 'consistency_jax.train', *arguments])}"
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=environment)


def test_the_command_line_names_a_wrong_key(tmp_path):
    done = command("--config=configs/custom.py", f"--workdir={tmp_path}", "--config.optimizer.learning_rat=1")
    assert done.returncode == 1
    assert done.stderr.startswith("error: unknown config key 'optimizer.learning_rat' (did you mean")
    # Every command names what it is of; the commit where it runs from a checkout.
    told = f"consistency_jax {importlib.metadata.version('consistency_jax')}"
    if (Path(__file__).parents[2] / ".git").exists():
        git = ["git", "rev-parse", "--short", "HEAD"]
        told += f", commit {subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()}"
    assert done.stdout.strip().removesuffix("-dirty") == told


def test_an_interrupt_that_a_callback_swallows_comes_again():
    """Python passes over what a callback of the garbage collector raises: JAX has one, in which Ctrl-C was lost."""
    code = """
import gc, signal, time
from consistency_jax.runtime import cli
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored

def callback(phase, info):
    gc.callbacks.remove(callback)
    raise KeyboardInterrupt

cli._hush()
gc.callbacks.append(callback)
gc.collect()
time.sleep(20)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGINT
    assert "ignored" not in done.stderr


def test_an_interrupt_ends_a_command_whatever_still_runs():
    """A thread that compiles, say: the interpreter would wait for it, or crash in it."""
    code = """
import threading
from consistency_jax.runtime import cli

def command():
    threading.Thread(target=threading.Event().wait).start()
    raise KeyboardInterrupt

cli.run_app(lambda _: cli.run_command(command))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.returncode == 130
    assert result.stderr.startswith("interrupted; ")


@pytest.mark.parametrize(
    ("word", "told"),
    [
        (
            "--flagfile=/no/such",
            "--flagfile: Unable to open flagfile: [Errno 2] No such file or directory: '/no/such'",
        ),
        (b"--workdir=a\xff", r"--workdir=a\xff is no UTF-8: rename what has this name"),
    ],
)
def test_a_name_that_cannot_be_used_is_one_line(word, told):
    command = [sys.executable, "-m", "consistency_jax.train", "--config=tiny", word]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr == f"error: {told}\n"


def test_an_error_is_the_last_word():
    """What a library has still to wait for when a command fails goes as the interpreter ends, and Python says so."""
    code = """
from consistency_jax.errors import UserError
from consistency_jax.runtime import cli

async def write():
    pass

kept = [write()]
def command():
    raise UserError("no room")

cli.run_app(lambda _: cli.run_command(command))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr == "error: no room\n"


def test_the_commit_is_told_without_a_lock_of_the_index(tmp_path, monkeypatch):
    """A command that was killed while git wrote the index left a lock, and nothing could be committed any more."""

    def git(*arguments):
        command = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout.strip()

    file = tmp_path / "file"
    file.write_text("a")
    git("init")
    git("add", "file")
    git("commit", "-m", "first")
    monkeypatch.setattr(cli, "__file__", str(tmp_path / "package" / "runtime" / "cli.py"))
    os.utime(file, (1, 1))  # git would note the new time in its index
    index = (tmp_path / ".git" / "index").read_bytes()
    assert cli.version().endswith(f", commit {git('rev-parse', '--short', 'HEAD')}")
    assert (tmp_path / ".git" / "index").read_bytes() == index
    file.write_text("another")
    assert cli.version().endswith("-dirty")


def test_the_command_line_names_a_section_that_is_not_there(tmp_path):
    """It ended in the traceback of a KeyError, where a wrong key in a section did not."""
    done = command("--config=configs/custom.py", f"--workdir={tmp_path}", "--config.optimzer.learning_rate=1")
    assert done.returncode == 1
    assert done.stderr.startswith(
        "error: the config has no such section: 'optimzer' Did you mean \"optimizer\""
    )
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--config=configs/custom.py:dta=x", "--config takes no option 'dta' (did you mean 'data'?)"),
        ("--config=configs/gemma3.py:size=5b", "--config option size='5b'; choose from"),
    ],
)
def test_a_wrong_option_of_a_config_file_is_one_line(tmp_path, argument, message):
    done = command(argument, f"--workdir={tmp_path}")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("more", [[], ["--config.total_steps=3"]])
def test_a_config_file_that_is_not_there_is_one_line(tmp_path, more):
    done = command("--config=configs/nope.py:path=x", f"--workdir={tmp_path}", *more)
    assert (done.returncode, done.stderr) == (
        1,
        "error: --config=configs/nope.py: there is no such file; configs that come along: ask, audit, aya, custom, "
        "gemma3, llama3, qwen2_5, qwen3, real, safety, tiny\n",
    )


def test_the_command_line_takes_every_name(tmp_path):
    # `items` is also a method of ConfigDict, and the keys of a free section are not in the defaults
    keys = ("batching.items=6", "objective.steer.de=4.0", "data.options.train_size=0.5")
    keys += ("objective.scale=one", "objective.false_examples=True")  # no value stands there before
    done = command(
        "--config=configs/custom.py", f"--workdir={tmp_path / 'run'}", *(f"--config.{key}" for key in keys)
    )
    assert done.returncode == 1
    assert "no model: give --config.model.path" in done.stderr


def test_a_value_of_another_type_or_objective_is_told_with_its_key(tmp_path):
    done = command(
        "--config=configs/custom.py:method=dpo", f"--workdir={tmp_path}", "--config.objective.beta=much"
    )
    assert done.returncode == 1
    assert "objective.beta" in done.stderr
    done = command(
        "--config=configs/custom.py:method=dpo", f"--workdir={tmp_path}", "--config.objective.odds_weight=0.5"
    )
    assert done.stderr.startswith("error: objective.odds_weight=0.5: dpo takes no odds_weight; it takes: ")


@pytest.mark.parametrize("name", ["train", "evaluate", "pairs", "aot"])
def test_help_of_a_command_shows_its_flags_and_the_keys_of_a_config(name):
    done = subprocess.run(
        [sys.executable, "-m", f"consistency_jax.{name}", "--helpfull"],
        capture_output=True,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert help_of(source(f"consistency_jax.{name}"), []) in done.stdout
    assert "  --config: " in done.stdout
    assert ("  --num_processes: " in done.stdout) == (name != "aot")
    assert help_text() in done.stdout


def test_help_whose_reader_leaves_ends_without_a_word():
    """`--help | head` ended in the traceback of a BrokenPipeError."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer) as stdout:
        command = [sys.executable, "-m", "consistency_jax.compare", "--help"]
        done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, "")


def ended(error: BaseException, capsys) -> tuple[int, str]:
    """(status, what is printed) of a command that raises this."""

    def fails(*args):
        raise error

    with pytest.raises(SystemExit) as stop:
        run_command(fails, 1, 2)
    return stop.value.code or 0, capsys.readouterr().err


def test_what_a_user_can_mend_is_one_line_and_a_fault_of_ours_a_traceback(capsys):
    assert ended(ConfigError("total_steps=0; give 1 or more"), capsys) == (
        1,
        "error: total_steps=0; give 1 or more\n",
    )
    assert ended(FileNotFoundError(2, "no such file", "x.jsonl"), capsys)[0] == 1
    assert ended(FloatingPointError("loss is not finite at step 3"), capsys)[0] == 1
    with pytest.raises(KeyError, match="ours"):
        run_command({}.__getitem__, "ours")


def test_a_run_that_was_stopped_says_that_it_goes_on(capsys):
    assert ended(Interrupted("stopped at step 4"), capsys) == (0, "stopped at step 4\n")
    status, told = ended(KeyboardInterrupt(), capsys)
    assert status == 130
    assert "the same command goes on from the last checkpoint" in told


def test_a_command_is_told_as_one_would_type_it(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/x/train.py", "--config=c.py:a=b c", "--workdir=w"])
    monkeypatch.setitem(sys.modules, "__main__", types.SimpleNamespace(__spec__=None))
    assert command_line() == "python /x/train.py '--config=c.py:a=b c' --workdir=w"
    spec = importlib.machinery.ModuleSpec("consistency_jax.aot.__main__", None)
    monkeypatch.setitem(sys.modules, "__main__", types.SimpleNamespace(__spec__=spec))
    assert command_line() == "python -m consistency_jax.aot '--config=c.py:a=b c' --workdir=w"


def test_a_terminal_that_cannot_write_a_letter_does_not_end_a_command():
    code = "from consistency_jax.runtime.cli import run_app; run_app(lambda argv: print('╭ 北京 ╮'))"
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (0, "? ?? ?\n"), done.stderr


@pytest.mark.filterwarnings("ignore:.*load_module:DeprecationWarning")  # of ml_collections
@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        ("# Heading\n\nWord's\n", "", r"^--config: .*config\.py:3: unterminated string literal"),
        ("x = (\n", "", r"^--config: .*config\.py:1: '\(' was never closed"),
        ("import nosuch\n", "", r"^--config: .*config\.py:1: ModuleNotFoundError: No module named 'nosuch'"),
        ("def get_config(arg=None):\n    return {}['x']\n", "", r"^--config: .*config\.py:2: KeyError: 'x'"),
        ("x = 1\n", "", "has no attribute 'get_config'"),
        (
            "def get_config():\n    return int('x')\n",
            "",
            r"^--config: .*config\.py:2: ValueError: invalid literal",
        ),
        (None, "model.path.foo", "there is no such key"),
        (None, "data.test[3]", "there is no such key"),
        (None, "evaluation.groups.a-b", "a key is names of letters, digits and _, with dots between"),
        (None, "stage.x.total_steps", "^the config has no such section: 'x'"),
    ],
)
def test_a_config_that_cannot_be_read_is_told_with_its_place(tmp_path, monkeypatch, text, key, message):
    monkeypatch.delitem(sys.modules, "config_config", raising=False)
    file = tmp_path / "config.py"
    file.write_text(
        text or "from consistency_jax.config import default\n\n\ndef get_config():\n    return default()\n"
    )
    words = ["command", f"--config={file}", *([f"--config.{key}=1"] if key else [])]
    monkeypatch.setattr(sys, "argv", words)  # where the library looks for the keys
    known = flags.FlagValues()
    config_flags.DEFINE_config_file(
        "config", None, "A config.", flag_values=known, lock_config=False, accept_new_attributes=True
    )
    with pytest.raises(Exception) as caught:
        _ = known(words), known.config.lock
    told = (
        cli._last_of_traceback(str(caught.value))
        if isinstance(caught.value, flags.Error)
        else unread(caught.value)
    )
    assert re.search(message, told)


def test_a_platform_that_is_not_there_is_one_line(capsys):
    def command():
        raise RuntimeError("Unable to initialize backend 'tpu': no libtpu.so")

    with pytest.raises(SystemExit) as ended:
        run_command(command)
    assert ended.value.code == 1
    assert "error: JAX_PLATFORMS: Unable to initialize backend 'tpu'" in capsys.readouterr().err


def test_a_process_of_another_program_has_no_command_of_ours(monkeypatch):
    assert cli.own_command() == ""  # pytest's
    spec = importlib.machinery.ModuleSpec("consistency_jax.train", None)
    monkeypatch.setitem(sys.modules, "__main__", types.SimpleNamespace(__spec__=spec))
    monkeypatch.setattr(sys, "argv", ["train.py", "--workdir=a b"])
    assert cli.own_command() == "python -m consistency_jax.train '--workdir=a b'"
