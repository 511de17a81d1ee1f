"""From items to pairs to training on them: the command, the file, the hook in training, and what is refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from test_train import config_file

from consistency_jax.data.items import DataError
from consistency_jax.data.preferences import Pair, pairs_text, read_pairs
from consistency_jax.errors import ConfigError, UserError
from consistency_jax.evaluation.measuring import score_splits
from consistency_jax.evaluation.splits import evenly, load_split, split_of
from consistency_jax.models.huggingface import load_pretrained
from consistency_jax.pairs import write_selection
from consistency_jax.runtime.mesh import make_mesh
from consistency_jax.scoring.scorer import Scorer
from consistency_jax.train import train
from consistency_jax.training.stages import load_training


def losses(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line and line["stage"] != "pretrain"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The embedded world on a tiny scale, and its pairs by each selection that needs no sampling."""
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONSISTENCY_CACHE", str(folder / "cache"))
        config = config_file("tiny.py", "method=dpo,pretrain=4,steps=3,items=4")
        config.pretrain.vocabulary = 1500
        config.pretrain.options.passes = 1
        config.batching.shapes = 1
        config.evaluation.bootstrap = 50
        config.evaluation.every = 0
        config.logging.every = 1
        config.logging.tensorboard = False
        config.data.test = ("test",)
        config.data.languages = ("en", "fr", "ru", "sw")
        for name in ("told", "wrong", "mixed"):
            shares = config.pretrain.options[name]
            config.pretrain.options[name] = {language: shares[language] for language in config.data.languages}
        config.data.train["items"] = 120
        for name in ("gold", "random", "calm"):
            config.selection.name = name
            write_selection(config, folder / f"{name}.jsonl")
        config.selection.name = ""
        yield config, folder


def test_pairs_that_were_cut_are_made_again_and_foreign_files_stay(world, tmp_path):
    config, folder = world
    config = config.copy_and_resolve_references()
    config.selection.name = "random"
    out, whole = tmp_path / "pairs.jsonl", (folder / "random.jsonl").read_text(encoding="utf8")
    out.write_text("".join(whole.splitlines(keepends=True)[:3]), encoding="utf8")
    with pytest.raises(
        ConfigError, match="pairs.jsonl is there, and pairs.summary.json beside it does not say what"
    ):
        write_selection(config, out)
    assert out.read_text(encoding="utf8").count("\n") == 3
    shutil.copy(folder / "random.summary.json", tmp_path / "pairs.summary.json")
    write_selection(config, out)
    assert out.read_text(encoding="utf8") == whole


def test_pairs_onto_the_data_are_refused(small_config, tmp_path):
    small_config.selection.name = "random"
    data = shutil.copy(small_config.data.path, tmp_path / "data.jsonl")
    small_config.data.path, before = str(data), data.read_bytes()
    with pytest.raises(UserError, match="--out=.* would write into data.path"):
        write_selection(small_config, data)
    assert data.read_bytes() == before


def test_files_beside_the_pairs_are_not_written_over(small_config, questions, tmp_path):
    """The summary, and answers that were written, lie beside the pairs."""
    small_config.selection.name = "random"
    (tmp_path / "own.summary.json").write_text('{"my": "own"}')
    with pytest.raises(ConfigError, match=r"own.summary.json is there, and is no summary of pairs"):
        write_selection(small_config, tmp_path / "own.jsonl")
    assert (tmp_path / "own.summary.json").read_text() == '{"my": "own"}'
    for name in ("set.summary.json", "set.answers.jsonl"):
        (tmp_path / name).write_bytes(questions.read_bytes())
        small_config.data.path = str(tmp_path / name)
        with pytest.raises(UserError, match=f"--out=.*{name} would write into data.path"):
            write_selection(small_config, tmp_path / "set.jsonl")
        assert (tmp_path / name).read_bytes() == questions.read_bytes()
    small_config.data.path = str(questions)
    write_selection(small_config, tmp_path / "two.v1")
    (tmp_path / "two.v2").write_text("mine")
    with pytest.raises(ConfigError, match=r"two.v2 is there, and two.v2.summary.json beside it does not say"):
        write_selection(small_config, tmp_path / "two.v2")
    with pytest.raises(ConfigError, match=r"pairs.jsonl.gz is written as plain text: name it .jsonl"):
        write_selection(small_config, tmp_path / "pairs.jsonl.gz")


def test_each_selection_writes_pairs_that_its_items_hold(world):
    config, folder = world
    items = {item.id: item for item in evenly(load_split(config, "train"), 120)}
    for name in ("gold", "random", "calm"):
        pairs = read_pairs(folder / f"{name}.jsonl")
        summary = json.loads((folder / f"{name}.summary.json").read_text(encoding="utf8"))
        assert summary["pairs"] == len(pairs) > 20
        assert set(summary["languages"]) == {"en", "fr", "ru", "sw"}
        for language, counts in summary["languages"].items():
            assert counts["prompts"] == sum(language in item.prompts for item in items.values())
            assert counts["kept"] + sum(counts["dropped"].values()) == counts["prompts"]
        for pair in pairs:
            item, told = items[pair.id], pair.provenance
            assert told["selection"] == name
            assert not pair.written
            assert pair.prompt == item.prompts[pair.language]
            assert pair.chosen == item.candidates[pair.language][told["chosen"]]
            assert pair.rejected == item.candidates[pair.language][told["rejected"]]
            if name == "gold":
                assert told["chosen"] == item.gold
            if name == "calm":
                assert told["votes"][told["chosen"]] == max(told["votes"])
                assert told["own"] == told["rejected"]
                assert told["scores"][0] <= told["scores"][1]
        assert [path.name for path in folder.iterdir() if "partial" in path.name] == []


def test_the_hardest_wrong_candidate_is_the_models_favourite(world, tmp_path, monkeypatch):
    config, folder = world
    config = config.copy_and_resolve_references()
    config.selection.update(name="gold", rejected="hardest")
    pairs = write_selection(config, tmp_path / "pairs.jsonl")
    mesh = make_mesh((1, 1, 1))
    (base,) = [path.parent for path in (folder / "cache" / "pretrained").glob("*/config.json")]
    model = load_pretrained(base, mesh=mesh)
    items = evenly(load_split(config, "train"), 120)
    split = split_of(config, "train", items, model, config.evaluation.boundary)
    table = score_splits(config, Scorer(model.config, mesh), model.params, [split])["train"]
    place = {item.id: b for b, item in enumerate(items)}
    for pair in pairs:
        b, l = place[pair.id], table.languages.index(pair.language)
        scores = np.where(np.arange(table.logp.shape[2]) == table.gold[b], -np.inf, table.scores("sum")[b, l])
        assert scores[pair.provenance["rejected"]] == scores.max()


def test_the_command_writes_what_the_function_writes_and_training_takes_it(world, tmp_path):
    config, folder = world
    config = config.copy_and_resolve_references()
    stored = tmp_path / "config.py"
    stored.write_text(
        "import json\nfrom consistency_jax.config import default\n\n\ndef get_config(arg=None):\n"
        f"    config = default()\n    config.update(json.loads({json.dumps(config.to_json())}))\n    return config\n"
    )
    out = tmp_path / "calm.jsonl"
    done = subprocess.run(
        [sys.executable, "-m", "consistency_jax.pairs", f"--config={stored}", f"--out={out}"]
        + ["--config.selection.name=calm"],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "pairs by calm: " in done.stdout
    assert out.read_bytes() == (folder / "calm.jsonl").read_bytes()
    config.data.train.pairs = str(out)
    train(config, tmp_path / "run")
    first, *_ = losses(tmp_path / "run").values()
    assert first == pytest.approx(np.log(2), abs=1e-5)  # policy is reference
    assert list(losses(tmp_path / "run")) == [1, 2, 3]


@pytest.fixture
def pairs_file(tmp_path):
    """Pairs in two languages, several to a question and language."""
    pairs = [
        Pair(f"q{n}", language, f"The capital of place {n} {language}", answer, " Bonn")
        for n in range(6)
        for language in ("en", "de")
        for answer in (" Paris", " Rome")
    ]
    (tmp_path / "pairs.jsonl").write_text(pairs_text(pairs))
    return tmp_path / "pairs.jsonl"


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("simpo", "orpo")]


@pytest.mark.parametrize("name", ["dpo", "sft", *SLOW])
def test_preference_objectives_learn_pairs(small_config, pairs_file, tmp_path, name):
    small_config.objective.name = name
    small_config.data.train.pairs = str(pairs_file)
    small_config.logging.tensorboard = False
    report = train(small_config, tmp_path / "run")
    told = losses(tmp_path / "run")
    assert len(told) == 6
    assert np.mean([told[5], told[6]]) < told[1]
    # what is measured is the source's test split, in all its languages
    assert set(report["base"]["test"]["accuracy"]) == {"en", "de", "ru"}


@pytest.mark.parametrize("name", ["dco", "pco_exact"])
def test_objectives_that_compare_languages_refuse_pairs(small_config, pairs_file, tmp_path, name):
    small_config.objective.name = name
    small_config.data.train.pairs = str(pairs_file)
    with pytest.raises(
        ConfigError, match=f"'{name}' compares languages.*data.train.pairs=.*use dpo, ipo, orpo, sft"
    ):
        train(small_config, tmp_path / "run")
    small_config.data.train.pairs = ""
    small_config.selection.name = "calm"
    with pytest.raises(ConfigError, match=f"'{name}' compares languages.*selection.name='calm'"):
        train(small_config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_options_of_another_objective_make_no_pairs(small_config, tmp_path):
    small_config.selection.name, small_config.objective.name = "calm", "dpo"
    small_config.objective.steer = {"en": 2.0}
    with pytest.raises(ConfigError, match="dpo takes no steer; it takes: "):
        write_selection(small_config, tmp_path / "pairs.jsonl")
    assert not list(tmp_path.glob("*.jsonl"))


def test_a_bad_pair_is_told_or_skipped(small_config, pairs_file, tmp_path, capsys):
    with pairs_file.open("a") as file:
        file.write("{\n")
    small_config.objective.name = "dpo"
    small_config.data.train.pairs = str(pairs_file)
    with pytest.raises(DataError, match="pairs.jsonl:25: the line is not JSON"):
        train(small_config, tmp_path / "run")
    small_config.data.on_error = "skip"
    assert len(load_training(small_config)[0]) == 24
    small_config.data.train["items"] = 5
    assert len(load_training(small_config)[0]) == 5
    assert "pairs.jsonl: 1 skipped, the first: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"selection.name": ""}, "makes no pairs; choose from gold, random, calm, cm_align"),
        ({"selection.name": "clam"}, "'clam' is unknown.*did you mean 'calm'"),
        (
            {"selection.name": "calm", "data.languages": ("en", "de")},
            "compares 3 languages or more, and there are en, de: name more in data.languages",
        ),
        ({"selection.name": "cm_align", "selection.reference": "fr"}, "selection.reference='fr' must be one"),
        ({"selection.name": "cm_align", "selection.samples": 1}, "selection.samples=1: .*2 or more"),
        ({"selection.engine": "http://host/v1"}, "is a server.*set selection.engine_model"),
        ({"selection.stop": (1,)}, r"selection.stop=\(1,\) must hold texts, none empty"),
        ({"selection.stop": ("a", "")}, "selection.stop=.* must hold texts, none empty"),
        (
            {"selection.instructions": {"dee": "Antworte."}, "data.languages": ("en", "de", "ru")},
            "data.languages names no 'dee' .did you mean 'de'.*; it names en, de, ru",
        ),
        ({"selection.engine": "vllm"}, "selection.engine='vllm' must be sampler, or a server's"),
        (
            {"selection.translator": "deepl"},
            "selection.translator='deepl' must be empty, model or package.module:function",
        ),
        ({"selection.top_p": 0.0}, r"selection.top_p=0.0 must lie in \(0, 1\]"),
        ({"selection.margin": -1.0}, "selection.margin=-1.0 must not be negative"),
    ],
)
def test_selections_that_cannot_be_made_are_refused(small_config, tmp_path, changes, message):
    small_config.selection.name = "gold"
    small_config.update_from_flattened_dict(changes)
    with pytest.raises(ConfigError, match=message):
        write_selection(small_config, tmp_path / "pairs.jsonl")
    assert not list(tmp_path.glob("pairs*"))


def test_a_workdir_without_checkpoint_ranks_nothing(small_config, tmp_path):
    small_config.selection.name = "calm"
    with pytest.raises(ConfigError, match="has no checkpoint: leave --workdir out"):
        write_selection(small_config, tmp_path / "pairs.jsonl", tmp_path / "none")


def test_a_run_ranks_with_its_own_adapters_whatever_the_config_says_of_them(small_config, tmp_path):
    small_config.total_steps = 1
    small_config.lora.update(rank=4, alpha=64.0)
    train(small_config, tmp_path / "run")
    made = []
    for rank in (4, 0):
        small_config.lora.rank = rank
        small_config.selection.name = "calm"
        out = tmp_path / f"{rank}.jsonl"
        write_selection(small_config, out, tmp_path / "run")
        made.append([pair.provenance["scores"] for pair in read_pairs(out)])
    assert made[0] == made[1] != []
    moved = shutil.copytree(small_config.model.path, tmp_path / "moved")
    small_config.model.path = str(moved)
    write_selection(small_config, tmp_path / "moved.jsonl", tmp_path / "run")
    assert (tmp_path / "moved.jsonl").read_bytes() == out.read_bytes()


CONFIG = """
from consistency_jax.config import default


def get_config(arg=None):
    config = default()
    config.update({settings!r})
    return config
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_pairs_it_made(small_config, tmp_path):
    small_config.objective.name = "dpo"
    small_config.selection.update(name="calm", agreeing="random")
    small_config.total_steps = 20
    small_config.logging.tensorboard = False
    train(small_config, tmp_path / "unbroken")
    config = tmp_path / "config.py"
    config.write_text(CONFIG.format(settings=small_config.to_dict()))
    workdir = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-m", "consistency_jax.train", f"--config={config}", f"--workdir={workdir}"],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    deadline = time.monotonic() + 300
    while not (workdir / "checkpoints" / "4").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    made = (workdir / "pairs.jsonl").stat().st_mtime_ns
    train(small_config, workdir)
    assert (workdir / "pairs.jsonl").stat().st_mtime_ns == made
    for name in ("pairs.jsonl", "pairs.summary.json"):
        assert (workdir / name).read_bytes() == (tmp_path / "unbroken" / name).read_bytes()
    assert losses(workdir) == losses(tmp_path / "unbroken")


def test_pairs_are_made_anew_for_other_settings(small_config, tmp_path, capsys):
    out = tmp_path / "pairs.jsonl"
    small_config.selection.update(name="gold")
    first = write_selection(small_config, out)
    capsys.readouterr()
    assert list(write_selection(small_config, out)) == list(first)
    assert "made already" in capsys.readouterr().out
    small_config.seed = 1
    assert list(write_selection(small_config, out)) != list(first)
    assert "made already" not in capsys.readouterr().out
