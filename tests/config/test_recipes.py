"""Every published config is real: it validates, names a known model, and its toy runs from start to end."""

import csv
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from consistency_jax.config.checks import validate
from consistency_jax.config.recipes import METHODS, toy
from consistency_jax.config.stages import stages_of
from consistency_jax.data.items import DataError
from consistency_jax.data.sources import source_options
from consistency_jax.data.trees.builder import TreeBuilder
from consistency_jax.errors import ConfigError
from consistency_jax.evaluation.splits import Split, load_split
from consistency_jax.export import export
from consistency_jax.models.decoder import DecoderConfig
from consistency_jax.models.families import find_family
from consistency_jax.models.published import PUBLISHED
from consistency_jax.scoring.tables import table_frame
from consistency_jax.train import train
from consistency_jax.training.stages import make_pipeline, training_set

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
NAMES = ("aya", "gemma3", "llama3", "qwen2_5", "qwen3")


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, CONFIGS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", NAMES)
def test_every_size_and_method_is_a_valid_config_of_a_known_model(name: str):
    module = load(name)
    for size, hub_id in module.SIZES.items():
        assert hub_id in PUBLISHED
        for method in METHODS:
            config = module.get_config(f"size={size},method={method},lora=8")
            validate(config)
            assert config.model.path == hub_id
            assert config.lora.rank == 8
    full = module.get_config("steer_en=4")
    assert full.model.dtype == full.model.compute_dtype == "bfloat16"
    assert full.objective.steer.to_dict() == {"en": 4.0}
    assert full.total_steps == 1250


@pytest.mark.parametrize("name", ["gemma3", "real", "safety"])
def test_alpha_is_twice_the_rank_and_stays_for_a_rank_that_is_given_as_a_key(name: str):
    path = "path=x,data_path=x," if name == "safety" else ""
    for arg, alpha in ((f"{path}lora=8", 16.0), (path.rstrip(","), 32.0)):
        assert load(name).get_config(arg).lora.alpha == alpha


@pytest.mark.parametrize(
    ("arg", "steer"),
    [
        ("languages=fr+sw", {}),
        ("languages=fr+en,weight=3", {"en": 3.0}),
        ("", {"en": 2.0}),
        ("languages=fr+sw,anchor=fr", {"fr": 2.0}),
        ("anchor=", {}),
        ("method=dpo", {}),
    ],
)
def test_the_anchor_of_custom_is_english_where_it_is_among_the_languages(arg: str, steer: dict[str, float]):
    config = load("custom").get_config(f"path=x,data=questions.jsonl,{arg}")
    assert dict(config.objective.get("steer", {})) == steer


@pytest.mark.parametrize(
    ("name", "arg", "told"),
    [
        ("custom", "path=x,data=q.jsonl,method=sft,anchor=fr", "anchor='fr' does nothing with method=sft"),
        ("custom", "path=x,data=q.jsonl,method=sft,weight=9", "weight=9.0 does nothing with method=sft"),
        (
            "custom",
            "path=x,data=q.jsonl,anchor=,weight=9",
            "weight=9.0 does nothing with anchor=; leave it out",
        ),
        (
            "custom",
            "path=x,data=cldr,languages=fr+sw,weight=4",
            "weight=4.0 does nothing with anchor=auto without English; leave it out",
        ),
    ],
)
def test_a_weight_that_an_objective_does_not_take_is_refused(name: str, arg: str, told: str):
    with pytest.raises(ConfigError, match=told):
        load(name).get_config(arg)


REAL = load("real")


@pytest.mark.parametrize("method", REAL.METHODS)
def test_every_method_of_real_models_is_a_valid_config(method: str):
    config = REAL.get_config(f"path=x,data=cldr,method={method},en={'4' if 'dco' in method else '1'}")
    validate(config)
    stages = stages_of(config)
    published = stages[-1].config.objective.name == "dco" and method != "dco_all"
    assert (stages[-1].config.batching.languages == 2) == published
    assert config.evaluation.normalization == "sum"
    with pytest.raises(ConfigError, match="method='nothing'; choose from dco, dco_all"):
        REAL.get_config("path=x,method=nothing")


def test_a_real_model_is_trained_on_the_published_instances_and_tested_in_further_languages():
    config = REAL.get_config("path=x,data_path=y,unseen=he+fa,trained=40,freeze=embedding")
    assert config.data.train.languages == ("en", "fr", "es", "ru", "vi", "tr")
    assert config.data.languages[-2:] == ("he", "fa")
    assert "instances" not in config.data.options  # they would be drawn from all languages
    assert (config.data.train["items"], config.optimizer.freeze) == (40, "embedding")
    assert REAL.get_config("path=x,data_path=y").data.options.instances == 5000


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Toys have their own models, and the same data."""
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize(
    "name",
    [name if name in ("aya", "gemma3") else pytest.param(name, marks=pytest.mark.slow) for name in NAMES],
)
def test_the_real_command_runs_at_toy_size(
    name: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CONSISTENCY_CACHE", str(cache))
    config = load(name).get_config("runlocal=True,steps=2")
    config.evaluation.bootstrap = 20
    summary = train(config, tmp_path / "run")
    assert set(summary["final"]["test"]["accuracy"]) == {"en", "ru", "sw"}
    architecture = find_family(config.model.architecture.to_dict())[0]
    assert f'"{architecture}"' in (export(tmp_path / "run", tmp_path / "out") / "config.json").read_text()


@pytest.mark.parametrize("hub_id", PUBLISHED)
def test_a_toy_keeps_the_traits_of_its_model(hub_id: str):
    hf = PUBLISHED[hub_id]
    name, family = find_family(toy(hub_id) | {"vocab_size": 100})
    small, published = family.from_hf(toy(hub_id) | {"vocab_size": 100}), find_family(hf)[1].from_hf(hf)
    assert name == hf["architectures"][0].replace("ForConditionalGeneration", "ForCausalLM")
    sizes = {"vocab_size", "hidden", "layers", "heads", "kv_heads", "head_dim", "mlp"}
    sizes |= {"layer_types", "query_scale", "embedding_scale"}
    assert set(small.differences(published)) <= sizes
    assert set(small.ropes) == set(published.ropes)
    assert len(small.windows) == len(published.windows)


@pytest.mark.parametrize(
    ("data", "steps", "languages"), [("bmlama17", 1250, 17), ("mmmlu", 1250, 15), ("xcsqa", 1400, 16)]
)
def test_dco_trains_once_on_each_published_instance(data: str, steps: int, languages: int):
    config = load("llama3").get_config(f"size=8b,data={data}")
    validate(config)
    assert (config.total_steps, len(config.data.languages)) == (steps, languages)
    assert set(config.data.options) <= set(source_options(data))
    assert config.data.options.instances == steps * config.batching["items"]
    assert config.optimizer.learning_rate == (1e-6 if data == "xcsqa" else 1e-5)
    assert not load("llama3").get_config(f"data={data},method=dco_all").data.options
    assert load("llama3").get_config(f"data={data},lr=2e-6").optimizer.learning_rate == 2e-6


@pytest.mark.parametrize(("name", "same"), [("JRQi/MMMLU", "mmmlu"), ("JRQi/BMLAMA17", "bmlama17")])
def test_the_re_uploads_have_their_published_order_of_languages(name: str, same: str, tmp_path: Path):
    """By which the instances are drawn; alphabetical otherwise."""
    config = load("llama3").get_config(f"size=8b,data=hub,data_path={name}")
    validate(config)
    assert config.data.languages == load("llama3").get_config(f"size=8b,data={same}").data.languages
    assert list(config.data.languages) != sorted(config.data.languages)
    other = load("llama3").get_config(f"size=8b,data=hub,data_path={tmp_path / 'own'}")
    with pytest.raises(DataError, match="data.languages: instances=5000 are drawn by the order"):
        load_split(other, "train")


def test_an_instance_is_two_languages_and_two_candidates_of_a_batch(tmp_path: Path, small_tokenizer):
    rows = [["Prompt", "Ans", "Candidate Ans", "Subject"]]
    rows += [[f"{n} <mask>.", "d", "a, b, c, d", "s"] for n in range(16)]
    for language in ("en", "fr", "nl"):
        with open(tmp_path / f"{language}.tsv", "w", newline="") as file:
            csv.writer(file, delimiter="\t").writerows(rows)
    config = load("qwen2_5").get_config(f"data=bmlama17,data_path={tmp_path},steps=3,seed=4")
    config.data.languages = ("en", "fr", "nl")
    config.data.options = {"train_size": 12, "instances": 12}
    items = load_split(config, "train")
    trees = TreeBuilder(small_tokenizer).build(items, config.data.languages)
    split = Split("train", items, tuple(config.data.languages), trees)
    reference = table_frame(items, split.languages, trees)
    decoder = DecoderConfig(vocab_size=64, hidden=32, layers=2, heads=4, kv_heads=2, head_dim=8, mlp=64)
    pipeline = make_pipeline(config, training_set(split, reference), decoder, 1)
    draws = [pipeline.draw(step) for step in range(config.total_steps)]
    assert sorted(np.concatenate([draw.items for draw in draws])) == list(range(12))
    for draw in draws:
        for item, _, languages, candidates, partners, _ in zip(*draw):
            pair = [split.languages.index(language) for language in items[item].languages]
            assert sorted(np.flatnonzero(languages)) == sorted(pair)
            assert all(sorted(own) == [0, 1] for own in candidates[pair])
            assert list(partners[pair]) == pair[::-1]


def test_what_a_recipe_does_not_know_is_named():
    with pytest.raises(ConfigError, match="size='9b'; choose from 12b, 4b"):
        load("gemma3").get_config("size=9b")
    with pytest.raises(ConfigError, match="data='multijail'; choose from .*cldr, bmlama17, .*, jsonl"):
        load("gemma3").get_config("data=multijail")
    with pytest.raises(ConfigError, match="no option 'methd'.*did you mean 'method'"):
        load("gemma3").get_config("methd=dco")


@pytest.mark.parametrize(
    ("name", "options"), [("custom", "path=x"), ("audit", "path=x"), ("real", "path=x"), ("qwen2_5", "")]
)
def test_data_may_be_a_file_in_every_config(name, options):
    config = load(name).get_config(f"{options},data=some/questions.jsonl".lstrip(","))
    assert (config.data.source, config.data.path) == ("jsonl", "some/questions.jsonl")
    with pytest.raises(ConfigError, match="data='bmlama' .did you mean 'bmlama53'..; choose from"):
        load(name).get_config("path=x,data=bmlama")
