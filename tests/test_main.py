"""`consistency-jax COMMAND`, and `python -m consistency_jax`, which is the same."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import consistency_jax
from consistency_jax.__main__ import COMMANDS
from consistency_jax.runtime.shipped import shipped


def call(*words: str, folder=None) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "consistency_jax", *words], capture_output=True, text=True, cwd=folder
    )


@pytest.mark.parametrize("words", [[], ["--help"], ["help"]])
def test_it_lists_its_commands(words):
    done = call(*words)
    assert (done.returncode, done.stderr) == (0, "")
    for name in (*COMMANDS, "configs"):
        assert f"\n  {name:<9} " in done.stdout


def test_help_imports_nothing_heavy():
    """What makes it slow are imports; a time would be the machine's."""
    code = """
import runpy, sys
sys.argv[1:] = {!r}
runpy.run_module("consistency_jax", run_name="__main__", alter_sys=True)
heavy = {{"jax", "numpy", "transformers", "flax", "scipy", "absl"}} & set(sys.modules)
assert not heavy, heavy
"""
    for words in (
        ["--help"],
        ["train", "tiny", "--help"],
        ["train", "-h"],
        ["aot", "--help"],
        ["configs"],
        ["--version"],
    ):
        done = subprocess.run([sys.executable, "-c", code.format(words)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert done.stdout == f"consistency_jax {consistency_jax.__version__}\n"


def test_training_starts_without_what_is_only_needed_later():
    code = """
import sys
import consistency_jax.train
later = {"gradio", "orbax", "pandas", "scipy", "tensorflow", "torch", "transformers"} & set(sys.modules)
assert not later, later
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_command_that_is_none_is_one_line():
    done = call("trian")
    assert done.returncode == 1
    assert (
        done.stderr
        == "error: no command 'trian' (did you mean 'train'?); consistency-jax --help lists them\n"
    )


def test_help_about_a_config_that_is_none_is_one_line():
    for command in (
        ["-m", "consistency_jax", "train", "nope"],
        ["-m", "consistency_jax.train", "--config=nope"],
    ):
        done = subprocess.run([sys.executable, *command, "--help"], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(
            "error: --config=nope: there is no such file; configs that come along: "
        )
        assert done.stderr.count("\n") == 1


def test_configs_are_listed_and_copied(tmp_path):
    listed = call("configs").stdout
    assert [line.split()[0] for line in listed.splitlines() if line.startswith("  ")] == list(shipped())
    assert call("configs", "copy", "tiny", ".", folder=tmp_path).stdout == "tiny.py\n"
    again = call("configs", "copy", "tiny", folder=tmp_path)
    assert (again.returncode, again.stderr) == (1, "error: tiny.py is there already; name another file\n")
    assert call("configs", "cpoy", "tiny").stderr.startswith("error: consistency-jax configs, or")


def test_a_run_by_short_names_in_any_folder(small_model, questions, tmp_path):
    """Options of the config are flags; the second word is the config's name."""
    words = [f"--path={small_model}", f"--data={questions}", "--steps=2", "--workdir=run"]
    done = call("train", "custom", *words, "--config.evaluation.bootstrap=50", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "dco, 2 steps" in done.stdout
    done = call("audit", f"--path={small_model}", f"--data={questions}", "--workdir=audit", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "audit" / "report.html").exists()
    done = call(
        "audit",
        f"--path={small_model}",
        "--data=cldr",
        "--workdir=few",
        "--languages",
        "en",
        "fr",
        folder=tmp_path,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: 'fr' is neither a flag nor an option: give options as --NAME=VALUE")
    done = call("compare", "run", "audit", folder=tmp_path)
    assert done.returncode == 1
    assert "audit is an audit, of a model as it is, and others are training runs" in done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    root, folder = Path(__file__).parents[1], tmp_path_factory.mktemp("wheel")
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(folder),
        str(root),
    ]
    subprocess.run(build, check=True)
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_a_wheel_holds_all_that_a_command_needs(tmp_path, wheel):
    """Its files alone, in a folder of their own, before the checkout on the path."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site"), "JAX_PLATFORMS": "cpu"}

    def run(*words: str) -> str:
        command = [sys.executable, "-m", "consistency_jax", *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("configs", "copy", "gemma3", "mine.py") == "mine.py\n"
    told = run("train", "mine.py", "--runlocal", "--workdir=run", "--config.evaluation.bootstrap=20")
    assert "consistency_jax 0.1.0\n" in told  # no commit: it is no checkout
    assert (tmp_path / "run" / "report.html").exists()
    run("evaluate", "--workdir=run")
    run("export", "--workdir=run", "--out=model")
    run("audit", "--path=model", "--data=cldr", "--items=20", "--workdir=audit", "--languages=en,ru")
    assert (tmp_path / "audit" / "report.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["audit_your_model", "gemma3_270m_lora", "methods", "quickstart"])
def test_the_first_cell_of_a_notebook_installs_once(name, tmp_path, wheel):
    """Twice, in an environment that has the package's requirements and not the package, far from the checkout."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "env")], check=True)
    python = tmp_path / "env" / "bin" / "python"
    # The files of this environment alone: what it says of itself as installed from a checkout is not read from there.
    where = [sys.executable, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    here = subprocess.run(where, capture_output=True, text=True, check=True).stdout.strip()
    of = [str(python), *where[1:]]
    there = subprocess.run(of, capture_output=True, text=True, check=True).stdout.strip()
    Path(there, "requirements.pth").write_text(f"{here}\n")
    notebook = json.loads((Path(__file__).parents[1] / "notebooks" / f"{name}.ipynb").read_text("utf8"))
    first = "".join(next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")["source"])
    code = f"""
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for _ in range(2):
    assert shell.run_cell({first!r}).success
shell.run_cell("import consistency_jax; print(consistency_jax.__file__)")
"""
    # IPython would put an activated environment's packages on the path.
    own = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    pip = {
        "PIP_NO_INDEX": "1",
        "PIP_NO_DEPS": "1",
        "PIP_IGNORE_INSTALLED": "1",
        "PIP_FIND_LINKS": str(wheel.parent),
    }
    environment = own | pip | {"JAX_PLATFORMS": "cpu", "IPYTHONDIR": str(tmp_path / "ipython")}
    done = subprocess.run([python, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == f"{there}/consistency_jax/__init__.py"
    assert done.stdout.count("JAX ") == 2
