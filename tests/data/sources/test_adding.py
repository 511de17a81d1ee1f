"""A new data set is one file and one row of the registry: all that takes data takes it, as it takes every other."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from consistency_jax.aot.shapes import score_load, train_load
from consistency_jax.config.checks import validate
from consistency_jax.config.defaults import default
from consistency_jax.data.items import DataError
from consistency_jax.data.sources import SOURCES, builder, load_items, source_options
from consistency_jax.errors import ConfigError
from consistency_jax.evaluate import evaluate_workdir
from consistency_jax.evaluation.splits import load_split
from consistency_jax.train import train

CONFIGS = Path(__file__).resolve().parents[3] / "configs"

# A TSV file: number, right answer, wrong answers parted by |, and the question, for each language.
READER = """
from consistency_jax.data.items import ParallelItem
from consistency_jax.data.sources.files import records
from consistency_jax.data.sources.source import Row, Rows, Source, each

SOURCE = Source("candidate", "Set data.path to the file of riddles, riddles.tsv")


def read(path, languages, *, loud: bool = False):
    def make(number, line):
        row = line.get()
        known = [key.removeprefix("question_") for key in row if key.startswith("question_")]
        prompts = {k: row[f"question_{k}"] + ("!" if loud else "") for k in known}
        candidates = {k: tuple(" " + text for text in row[f"answers_{k}"].split("|")) for k in known}
        return Row(ParallelItem(row["id"], row["kind"], prompts, candidates, 0), line.where)

    return Rows(each(records(path, ("id", "kind"), "\\t"), make))
"""
COLUMNS = (
    "id",
    "kind",
    "question_en",
    "answers_en",
    "question_de",
    "answers_de",
    "question_ru",
    "answers_ru",
)


@pytest.fixture
def riddles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file; its reader is written and registered, and nothing else is touched."""
    (tmp_path / "riddle_reader.py").write_text(READER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(SOURCES, "riddles", "riddle_reader")
    monkeypatch.setenv("CONSISTENCY_CACHE", str(tmp_path / "cache"))
    rows = [COLUMNS]
    for n in range(20):
        texts = (
            f"Capital of {n}?",
            "Paris|Rome",
            f"Hauptstadt von {n}?",
            "Paris|Rom",
            f"Столица {n}?",
            "Париж|Рим",
        )
        rows.append((f"r{n}", f"kind{n % 2}", *texts))
    file = tmp_path / "riddles.tsv"
    file.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf8")
    return file


def config_file(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, CONFIGS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_has_splits_languages_and_options_as_every_other(riddles: Path):
    whole = load_items("riddles", path=riddles)
    assert [item.id for item in whole] == [f"r{n}" for n in range(20)]
    assert whole.languages == ("en", "de", "ru")
    assert whole == load_items("riddles", path=riddles, split="every")
    parts = {
        s: load_items("riddles", path=riddles, split=s, validation_size=2)
        for s in ("train", "validation", "test")
    }
    assert [len(part) for part in parts.values()] == [14, 2, 4]
    assert {item.id for part in parts.values() for item in part} == {item.id for item in whole}
    other = load_items("riddles", path=riddles, split="test", seed=1)
    assert {item.id for item in other} != {item.id for item in parts["test"]}
    asked = load_items("riddles", path=riddles, languages=["ru", "en"])
    assert {item.languages for item in asked} == {("ru", "en")}
    assert asked[3].prompts == {k: whole[3].prompts[k] for k in ("ru", "en")}
    drawn = load_items(
        "riddles", path=riddles, languages=["en", "ru", "de"], split="train", train_size=5, instances=10
    )
    assert {len(item.prompts) for item in drawn} == {2}
    assert len(drawn) == 10
    assert load_items("riddles", path=riddles, loud=True)[0].prompts["en"] == "Capital of 0?!"
    drawing = ("train_size", "seed", "validation_size", "instances", "wrong_only")
    assert source_options("riddles") == (*drawing, "loud")
    made = builder.tfds_builder("riddles", path=riddles, folder=riddles.parent / "records", languages=["de"])
    assert builder.to_items(made.as_data_source("test")) == load_items(
        "riddles", path=riddles, languages=["de"], split="test"
    )


def test_its_faults_are_told_as_those_of_every_other(riddles: Path):
    for options, reason in (
        (
            {"path": None},
            "data.path: the source 'riddles' needs a file or folder. Set data.path to the file of riddles",
        ),
        ({"path": "nowhere"}, "nowhere: no such file or folder. Set data.path"),
        ({"languages": ["fr"]}, "riddles: unknown language 'fr'. Known: en, de, ru"),
        ({"split": "dev"}, "riddles: unknown split 'dev'. Known: train, validation, test, every"),
        ({"quiet": True}, "data set 'riddles': unknown option 'quiet'. Known: train_size, .*, loud"),
    ):
        with pytest.raises(DataError, match=reason):
            load_items("riddles", **{"path": riddles} | options)
    lines = riddles.read_text(encoding="utf8").splitlines()
    bad = {
        3: lines[3].replace("Paris", " "),
        5: lines[5].rpartition("\t")[0],
        7: lines[8],
        9: lines[9].replace("|", "| "),
    }
    riddles.write_text("\n".join(bad.get(n, line) for n, line in enumerate(lines)) + "\n", encoding="utf8")
    with pytest.raises(DataError, match="riddles.tsv:4: candidate 0 in 'en' is empty"):
        load_items("riddles", path=riddles)
    items = load_items("riddles", path=riddles, on_error="skip")
    assert len(items) == 16
    for place, reason in (
        (":4: ", "is empty"),
        (":6: ", "the row has 7 columns"),
        (":9: ", "id 'r7' was already used"),
        (":10: ", "'  Rome' in 'en' breaks its rule for spaces"),
    ):
        assert any(place in told and reason in told for told in items.skipped)


def test_it_is_trained_on_and_audited(riddles: Path, small_model: Path, tmp_path: Path):
    options = f"path={small_model},data=riddles,data_path={riddles}"
    config = config_file("custom").get_config(f"{options},steps=3")
    config.data.on_error = "skip"
    config.batching.shapes, config.evaluation.bootstrap = 1, 20
    summary = train(config, tmp_path / "run")
    assert set(summary["final"]["test"]["accuracy"]) == {"en", "de", "ru"}
    assert summary["settings"]["splits"]["test"]["items"] == 4
    assert (tmp_path / "run" / "checkpoints").exists()
    audit = config_file("audit").get_config(f"{options},languages=ru+de")
    audit.evaluation.bootstrap = 20
    report = evaluate_workdir(audit, tmp_path / "audit")
    assert set(report["base"]["every"]["accuracy"]) == {"ru", "de"}
    assert report["settings"]["splits"]["every"]["items"] == 20
    for name in ("custom", "audit"):
        with pytest.raises(ConfigError, match="data='riddle' .*; choose from .*cldr, .*, riddles"):
            config_file(name).get_config(f"path={small_model},data=riddle")


def test_the_papers_configs_and_the_compiler_take_it(riddles: Path):
    config = config_file("qwen3").get_config(f"data=riddles,data_path={riddles},method=dpo")
    validate(config)
    assert (config.data.source, config.total_steps, config.data.languages) == ("riddles", 500, ())
    assert not config.data.options
    assert len(load_split(config, "train")) == 16
    for method in ("dco", "dco_all"):
        config = config_file("gemma3").get_config(f"data=riddles,data_path={riddles},method={method}")
        load, plain = train_load(config, 1), default()
        assert (load.items, load.candidates) == (4, 2 if method == "dco" else 4)
        plain.batching["items"] = 4
        assert score_load(config, 2).shape == score_load(plain, 2).shape  # as a file of one's own
