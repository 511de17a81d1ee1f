"""`make gemma`: what the Makefile runs is a config that can train, and where the model's file is, it does."""

import importlib.util
import json
import math
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from consistency_jax.config import ConfigError
from consistency_jax.config.checks import validate
from consistency_jax.evaluation.splits import load_tests
from consistency_jax.objectives import options_of
from consistency_jax.training.stages import load_training

ROOT = Path(__file__).resolve().parent.parent


def load(path: str):
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def recipe(*words: str) -> list[str]:
    """The words behind `python` of the train command that `make gemma` runs."""
    if shutil.which("make") is None:
        pytest.skip("no make")
    made = subprocess.run(
        ["make", "--dry-run", "gemma", *words], cwd=ROOT, capture_output=True, text=True, check=True
    )
    (line,) = re.findall(r"-m consistency_jax\.train .*", made.stdout.replace("\\\n", ""))
    return shlex.split(line)


def options(words: list[str]) -> str:
    (config,) = [word for word in words if word.startswith("--config=")]
    return config.partition(":")[2]


def test_the_recipe_trains_on_facts_and_tests_on_every_held_out_one_of_their_relations():
    module = load("configs/real.py")
    config = module.get_config(options(recipe()) + ",path=gemma.gguf")
    validate(config)
    items, languages = load_training(config)
    (tested,) = load_tests(config).values()
    assert {item.group for item in items} == {item.group for item in tested} == set(module.FACTS)
    assert len(tested) == 95
    assert not {item.id for item in items} & {item.id for item in tested}
    assert languages[0] == "en"
    assert items[0].prompts["en"].count("\n") == 1
    assert options_of(config.objective)["scale"] == "one"  # that which the figures of docs/real.md are of


def test_names_are_held_to_the_mean_itself_where_all_languages_make_one_target():
    get_config = load("configs/real.py").get_config
    scales = {
        words: options_of(get_config(f"path=m,{words}").objective).get("scale")
        for words in ("data=cldr,method=dco_all", "data=cldr", "data=cldr,method=pco_exact", "method=dco_all")
    }
    assert list(scales.values()) == ["one", "mean", "mean", "mean"]


def test_unseen_languages_are_none_of_those_that_are_trained_on():
    get_config = load("configs/real.py").get_config
    assert get_config("path=m,unseen=he").data.train.languages == ("en", "fr", "es", "ru", "vi", "tr")
    for words in ("unseen=fr", "data=questions.jsonl,languages=,unseen=sw"):
        with pytest.raises(ConfigError, match="should be none of the languages trained on"):
            get_config(f"path=m,{words}")


def test_the_recipe_takes_bmlama_where_its_folder_is_given():
    words = recipe("DATA=some folder")
    config = load("configs/real.py").get_config(options(words) + ",path=gemma.gguf")
    validate(config)
    assert (config.data.source, config.data.path) == ("bmlama17", "some folder")
    assert "--workdir=runs/gemma-bmlama17" in words


def trained(words: list[str], workdir: Path, **few: int) -> dict:
    """What report.json holds after a short run of a recipe, whose losses must be finite."""
    model = load("launch/fetch_model.py").models_folder() / "gemma.gguf"
    if not model.is_file():
        pytest.skip(f"no {model}; python launch/fetch_model.py gemma puts it there")
    words = [word.replace("$model", str(model)) for word in words if not word.startswith("--workdir")]
    command = [sys.executable, *words, f"--workdir={workdir}", "--config.logging.every=1"]
    few = {f"--config.{key.replace('__', '.')}={value}" for key, value in few.items()}
    subprocess.run([*command, *few], cwd=ROOT, check=True)
    logged = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in logged if "loss" in line]
    assert len(losses) == 10
    assert all(map(math.isfinite, losses))
    return json.loads((workdir / "report.json").read_text())


@pytest.mark.slow
@pytest.mark.optimised
def test_ten_steps_on_facts_make_the_real_model_more_consistent(tmp_path):
    report = trained(recipe(), tmp_path, total_steps=10, data__test_items=30)
    assert report["base"]["test"]["accuracy"]["en"] > 70  # of five candidates
    assert report["final"]["test"]["accuracy"]["en"] > 60
    assert report["delta"]["test"]["clc_all"] > 0


@pytest.mark.slow
@pytest.mark.optimised
def test_the_real_model_is_measured_as_docs_real_tells(tmp_path, data_folder):
    """Of 60 questions what its first table says of 300; the margins are those of so few."""
    words = recipe(f"DATA={data_folder / 'bmlama17'}")
    report = trained(words, tmp_path, total_steps=10, data__train__items=40, data__test_items=60)
    base = report["base"]["test"]
    assert base["clc_all"] == pytest.approx(28.3, abs=5)
    assert base["accuracy_en"] == pytest.approx(58.3, abs=15)
    assert base["accuracy_non_en"] == pytest.approx(19.7, abs=7)
