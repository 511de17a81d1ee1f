"""What a stage trains on, and runs of several stages."""

import dataclasses
import json
import shutil
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import traverse_util

from consistency_jax.aot.shapes import Load, abstract_batch
from consistency_jax.config.checks import validate
from consistency_jax.config.defaults import default
from consistency_jax.config.parsing import to_json
from consistency_jax.config.stages import Stage, stages_of
from consistency_jax.data import stored_items
from consistency_jax.data.examples import TrainingSet
from consistency_jax.data.items import Items
from consistency_jax.data.packing.plan import plan
from consistency_jax.data.packing.rows import Shape, tree_sizes
from consistency_jax.data.preferences import Pair, pairs_text
from consistency_jax.data.stored_items import StoredItems, store
from consistency_jax.data.trees.forest import ANSWER, PROMPT, Forest, Tree
from consistency_jax.errors import ConfigError, Interrupted
from consistency_jax.evaluate import evaluate_workdir
from consistency_jax.evaluation import Evaluation
from consistency_jax.evaluation.splits import load_tests, split_of
from consistency_jax.export import export
from consistency_jax.models.decoder import DecoderConfig
from consistency_jax.models.flops import forward_flops
from consistency_jax.models.huggingface import load_pretrained
from consistency_jax.objectives import OBJECTIVES, make_objective
from consistency_jax.runtime.mesh import make_mesh
from consistency_jax.scoring.scorer import Scorer
from consistency_jax.table import read_tables
from consistency_jax.train import train
from consistency_jax.training.loop import fit
from consistency_jax.training.run_models import checkpoint_model, latest_stage, latest_step
from consistency_jax.training.stages import (
    Reference,
    load_training,
    make_batches,
    make_pipeline,
    training_data,
    training_split,
)
from consistency_jax.training.trainable import trained_names
from consistency_jax.training.workdir import DATA_KEY

TEMPLATE = """{{ bos_token }}{% for m in messages %}{{ m.role + ':\n' + m.content }}
{{- '<pad>' if m.role == 'assistant' else '\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ 'assistant:\n' }}{% endif %}"""


@pytest.fixture
def two_groups(small_config, tmp_path):
    """`questions` of which every third is of another group."""
    lines = Path(small_config.data.path).read_text(encoding="utf8").splitlines()
    items = [json.loads(line) for line in lines]
    for item in items[::3]:
        item["group"] = "river"
    path = tmp_path / "two_groups.jsonl"
    path.write_text("\n".join(json.dumps(item) for item in items))
    small_config.data.path = str(path)
    return small_config


def test_training_and_tests_take_their_own_groups_and_languages(two_groups):
    data = two_groups.data
    data.train.groups, data.test_groups = ("river",), ("capital",)
    data.train.languages = ("ru", "de")
    items, languages = load_training(two_groups)
    assert languages == ("ru", "de")
    assert {item.group for item in items} == {"river"}
    assert {item.group for item in load_tests(two_groups)["test"]} == {"capital"}
    data.train["items"] = 3  # the files may be sorted by subject
    some, last = load_training(two_groups)[0], len(items) - 1
    assert [items.index(item) for item in some] == [0, round(last / 2), last]


@pytest.mark.parametrize("name", ["sft", "dpo", "dco"])
def test_of_several_right_answers_one_is_learnt_and_none_is_wrong(small_config, questions, tmp_path, name):
    items = [json.loads(line) for line in questions.read_text().splitlines()]
    for item in items[:20]:
        item["gold"] = [2, 0]
    path = tmp_path / "several.jsonl"
    path.write_text("\n".join(json.dumps(item) for item in items))
    small_config.data.path, small_config.objective.name = str(path), name
    items, _ = load_training(small_config)
    several = [item for item in items if int(item.id[1:]) < 20]
    assert 0 < len(several) < len(items)
    if name == "dco":  # reads no label
        assert {item.right for item in several} == {(2, 0)}
        assert {item.num_candidates for item in items} == {3}
    else:
        assert {item.candidates["en"] for item in several} == {(" Madrid", " Rome")}
        assert {item.right for item in several} == {(1,)}


def test_the_reference_is_asked_for_what_will_be_drawn_alone(small_config, monkeypatch):
    """Two steps of two items, two languages and two candidates: what it says is what it says of the whole split."""
    small_config.update(
        total_steps=2, objective={"candidates": "pair"}, batching={"items": 2, "languages": 2}
    )
    (items, languages), model = load_training(small_config), load_pretrained(small_config.model.path)
    split, scorer = (
        training_split(small_config, items, languages, model),
        Scorer(model.config, make_mesh((1, 1, 1))),
    )
    whole = scorer(model.params, split.trees, candidates=3)["logp"].reshape(len(items), 3, 3)
    asked = []
    monkeypatch.setattr(
        Scorer, "__call__", lambda *a, own=Scorer.__call__, **k: asked.append(a[2]) or own(*a, **k)
    )
    reference = Reference(scorer, model, None)
    data = training_data(small_config, split, reference)
    batches = make_batches(small_config, data, split, model, reference)
    assert [len(trees) for trees in asked] == [8]  # of 40 items in 3 languages
    assert (asked[0].segments == 3).all()  # the prompt and two of three candidates
    known = make_pipeline(small_config, data._replace(reference=whole), model.config, 1)
    for step in range(2):
        ours, theirs = batches(step).examples, known(step).examples
        assert theirs.mask.sum() == 8
        np.testing.assert_allclose(ours.reference, theirs.reference, atol=1e-5)  # packed otherwise


def test_an_unseen_language_is_measured_but_not_trained_on(two_groups, tmp_path):
    """In one key, with the language steered as before: the run is that of data which have no such language."""
    two_groups.objective.steer = {"en": 3.0, "ru": 2.0}
    two_groups.data.train.languages = ("en", "de")
    summary = train(two_groups, tmp_path / "unseen")
    assert set(summary["final"]["test"]["accuracy"]) == {"en", "de", "ru"}
    final = read_tables(tmp_path / "unseen" / "tables" / "final.npz")["test"]
    two_groups.data.train.languages, two_groups.data.languages = (), ("en", "de")
    two_groups.objective.steer = {"en": 3.0}
    train(two_groups, tmp_path / "without")
    without = read_tables(tmp_path / "without" / "tables" / "final.npz")["test"]
    np.testing.assert_allclose(final.logp[:, :2], without.logp, atol=1e-4)  # packed otherwise


DECODER = DecoderConfig(vocab_size=64, hidden=32, layers=2, heads=4, kv_heads=2, head_dim=8, mlp=64)


def small_set(items: int = 8, languages: int = 3, candidates: int = 2) -> TrainingSet:
    shape = (items, languages, candidates)
    tree = Tree(
        trunk=np.array([3, 4], np.int32),
        branches=(np.array([5], np.int32),) * candidates,
        trunk_kind=np.full(2, PROMPT, np.uint8),
        branch_kinds=(np.full(1, ANSWER, np.uint8),) * candidates,
        bytes=np.ones(candidates, np.int32),
    )
    return TrainingSet(
        Forest.of([tree] * (items * languages)),
        np.ones(shape, bool),
        np.ones(shape, np.int32),
        np.zeros(items, np.int32),
    )


@pytest.mark.parametrize("wide", [1, 64])
def test_shapes_are_planned_by_what_a_mask_costs_the_model_that_is_trained(small_config, wide):
    """By the counted FLOPs of the decoder, and the 300 that a score costs beside its products (docs/benchmarks.md)."""
    decoder = dataclasses.replace(DECODER, hidden=32 * wide, mlp=64 * wide)
    loads = [Load(Shape(1, length, sources=0, targets=0), 1, 1, 1) for length in (1, 2)]
    one, two = (  # a token's, of one key and of two
        forward_flops(decoder, abstract_batch(load)) / load.shape.length for load in loads
    )
    cost = (two - one + 300 * decoder.heads * decoder.layers) / (2 * one - two)
    rng = np.random.default_rng(0)
    trees = [
        Tree.of_tokens(rng.integers(3, 50, size), [[5, 6, 7], [8, 9]]) for size in rng.integers(9, 60, 40 * 3)
    ]
    data = small_set(items=40)._replace(trees=Forest.of(trees))
    small_config.total_steps = 8
    pipeline = make_pipeline(small_config, data, decoder, groups=1)
    parts = [
        data.trees.take((pipeline.draw(step).items[:, None] * 3 + np.arange(3)).reshape(-1))
        for step in range(8)
    ]
    expected = plan([tree_sizes(part) for part in parts], mask_cost=cost, limit=small_config.batching.shapes)
    assert pipeline.shapes == expected
    assert (pipeline.shapes[0].length > 64) == (wide == 64)  # rows are long only where a mask costs little


@pytest.mark.parametrize("name", OBJECTIVES)
def test_what_compares_languages_keeps_them_together(small_config, name):
    items, languages = 4, 3
    small_config.objective.name = name
    for batching, together in (("grouped", True), ("random", OBJECTIVES[name].crosslingual)):
        small_config.batching.name = batching
        draw = make_pipeline(small_config, small_set(), DECODER, groups=1).draw(0)
        expected = (items, languages) if together else (items * languages, 1)
        assert draw.languages.shape == expected


# ---------------------------------------------------------------------------------------------------- several stages
STAGES = {
    "dpo": {"total_steps": 3, "optimizer": {"learning_rate": 2e-3}},
    "polish": {"objective": {"name": "dco"}},
}


@pytest.fixture
def staged(small_config):
    small_config.stages = ("dpo", "polish")
    small_config.stage = STAGES
    small_config.evaluation.every, small_config.evaluation.split = 3, "test"
    return small_config


def flat(params):
    return traverse_util.flatten_dict(jax.device_get(params), sep="/")


def assert_same_params(one, other):
    one, other = flat(one), flat(other)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_a_config_says_what_its_stages_are(small_config):
    (only,) = stages_of(small_config)
    assert (only.name, only.folder) == ("dco", "checkpoints")
    small_config.objective.beta = 0.5
    small_config.stages, small_config.stage = ("dpo", "polish"), STAGES
    first, second = stages_of(small_config)
    assert (first.folder, second.folder) == ("checkpoints/1-dpo", "checkpoints/2-polish")
    assert (first.config.total_steps, second.config.total_steps) == (3, 6)
    assert (first.config.objective.name, second.config.objective.name) == ("dpo", "dco")
    assert first.config.objective.beta == 0.5
    assert "beta" not in second.config.objective
    assert second.config.optimizer.learning_rate == 1e-3
    assert type(first.config.batching) is type(small_config.batching)
    validate(small_config)
    again = default()
    again.update(json.loads(to_json(small_config)))  # as a workdir keeps it
    assert [to_json(s.config) for s in stages_of(again)] == [to_json(s.config) for s in (first, second)]
    small_config.model.path, small_config.pretrain.total_steps = "", 5
    small_config.objective.beta = None
    small_config.stages, small_config.stage = ("pretrain", "dco"), {}
    assert [s[:2] for s in stages_of(small_config)] == [("dco", "checkpoints")]


def test_a_signal_while_a_stages_last_step_is_validated_ends_the_run(staged, tmp_path, monkeypatch):
    headlines, told = Evaluation.headlines, []

    def signalled(*args):
        told.append(signal.raise_signal(signal.SIGTERM))
        return headlines(*args)

    with monkeypatch.context() as patch:
        patch.setattr(Evaluation, "headlines", signalled)
        with pytest.raises(Interrupted, match="dpo: stopped at step 3 of 3, checkpoint"):
            train(staged, tmp_path / "run")
    assert len(told) == 1
    assert not (tmp_path / "run" / "checkpoints" / "2-polish").exists()
    assert json.loads(json.dumps(train(staged, tmp_path / "run"))) == json.loads(
        json.dumps(train(staged, tmp_path / "whole"))
    )


def test_what_a_later_stage_names_is_looked_for_at_once(staged, tmp_path):
    staged.stages, staged.stage = (
        ("sft", "dpo"),
        {"dpo": {"selection": {"name": "calm", "form": "sampling", "translator": "nothing:x"}}},
    )
    with pytest.raises(ConfigError, match="selection.translator='nothing:x' cannot be imported"):
        train(staged, tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize("rank", [0, pytest.param(4, marks=pytest.mark.slow)])
def test_two_stages_are_a_run_on_what_another_run_exported(staged, tmp_path, rank, capsys):
    """Parameters, and the reference that they are: the second stage knows nothing of the base model."""
    staged.lora.rank = rank
    summary = train(staged, tmp_path / "run")
    base = load_pretrained(staged.model.path, mesh=make_mesh((1, 1, 1)))
    assert latest_stage(staged, tmp_path / "run").name == "polish"
    ended = checkpoint_model(staged, tmp_path / "run", latest_step(tmp_path / "run"), base)

    first = staged.copy_and_resolve_references()
    first.stages, first.stage = (), {}
    first.objective.name, first.total_steps, first.optimizer.learning_rate = "dpo", 3, 2e-3
    train(first, tmp_path / "first")
    second = staged.copy_and_resolve_references()
    second.stages, second.stage = (), {}
    if rank == 0:
        second.model.path = str(export(tmp_path / "first", tmp_path / "model"))
        train(second, tmp_path / "second")
        start = load_pretrained(second.model.path, mesh=make_mesh((1, 1, 1)))
        assert_same_params(checkpoint_model(second, tmp_path / "second", 6, start).params, ended.params)
        report = json.loads((tmp_path / "second" / "report.json").read_text())
        assert summary["final"]["test"]["clc_matrix"] == report["final"]["test"]["clc_matrix"]
    else:  # base and adapters cannot be told apart in an exported folder: the stage by hand
        start = checkpoint_model(first, tmp_path / "first", 3, base)
        mesh = make_mesh((1, 1, 1))
        scorer = Scorer(start.config, mesh)
        (items, languages) = load_training(second)
        split = split_of(second, "train", items, base, "separate", languages)
        reference = Reference(scorer, start, tmp_path / "kept")
        data = training_data(second, split, reference)
        trained = fit(
            Stage("by hand", "by_hand", "", second),
            start,
            make_objective(second.objective, languages)[0],
            make_batches(second, data, split, start, reference),
            tmp_path,
        )
        assert_same_params(trained.params, ended.params)
        gone = traverse_util.flatten_dict(jax.tree.map(lambda leaf: leaf.is_deleted(), start.params), sep="/")
        assert {name for name in gone if gone[name]} == trained_names(start.config, "")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [(line["stage"], line["step"]) for line in lines if "loss" in line]
    assert losses == [("dpo", n) for n in range(1, 4)] + [("polish", n) for n in range(1, 7)]
    measured = [(line["stage"], line["step"]) for line in lines if "test/clc_all" in line]
    assert measured == [("dpo", 3), ("polish", 3), ("polish", 6)]
    if rank == 0:
        check_what_reads(staged, tmp_path, summary, capsys)


def check_what_reads(staged, tmp_path, summary, capsys):
    """Evaluation and export take the newest checkpoint of the last stage that has one."""
    workdir = tmp_path / "run"
    assert json.loads(json.dumps(evaluate_workdir(None, workdir))) == json.loads(json.dumps(summary))
    export(workdir, tmp_path / "whole")
    assert "DPO, 3 steps, then POLISH, 6 steps" in (tmp_path / "whole" / "README.md").read_text()
    assert "exported step 6 of 6 of stage polish, float32" in capsys.readouterr().out
    shutil.rmtree(workdir / "checkpoints" / "2-polish" / "6")
    export(workdir, tmp_path / "begun")
    assert "step 4 of 6 of stage polish: training is not finished" in capsys.readouterr().out
    shutil.rmtree(workdir / "checkpoints" / "2-polish" / "4")
    assert (latest_stage(staged, workdir).name, latest_step(workdir)) == ("dpo", 3)
    assert evaluate_workdir(None, workdir)["final"] != summary["final"]
    export(workdir, tmp_path / "part")
    assert "step 3 of 3 of stage dpo: training is not finished" in capsys.readouterr().out


def test_pairs_that_are_the_same_tokens_are_left_out_and_counted(small_config, small_model, tmp_path, capsys):
    """A chat drops the space before an answer, and then two texts may be one."""
    folder = shutil.copytree(small_model, tmp_path / "chat")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    small_config.model.path, small_config.data.chat_template = str(folder), "tokenizer"
    pairs = [
        Pair(f"q{n}", language, "Madrid is in", chosen, rejected)
        for n, (chosen, rejected) in enumerate([(" Spain", "Spain"), (" Spain", " France"), ("Rom", " Rome")])
        for language in ("en", "de")
    ]
    pairs[3] = dataclasses.replace(pairs[3], rejected="Spain")
    (tmp_path / "pairs.jsonl").write_text(pairs_text(pairs))
    small_config.data.train.pairs, small_config.objective.name = str(tmp_path / "pairs.jsonl"), "dpo"
    for name, left in (("random", [2, 4, 5]), ("grouped", [2, 4, 5])):
        small_config.batching.name = name
        items, languages = load_training(small_config)
        split = training_split(small_config, items, languages, load_pretrained(folder))
        assert (
            "data: 3 of 6 pairs left out: chosen and rejected are the same tokens" in capsys.readouterr().out
        )
        there = split.trees.segments.reshape(-1, len(languages)) > 0
        found = [
            (item.group, language, *item.candidates[language])
            for item, own in zip(split.items, there, strict=True)
            for language in item.prompts
            if own[languages.index(language)]
        ]
        expected = [pairs[n] for n in left]
        assert found == [(pair.id, pair.language, pair.chosen, pair.rejected) for pair in expected]
        assert len(split.trees) == len(split.items) * len(languages)
        assert int((split.trees.segments > 0).sum()) == len(left)
    (tmp_path / "pairs.jsonl").write_text(pairs_text(pairs[:2]))
    with pytest.raises(ConfigError, match="no preference pair is left"):
        training_split(small_config, *load_training(small_config), load_pretrained(folder))


@pytest.mark.parametrize("method", ["dpo", "dco"])
def test_a_run_on_items_that_lie_on_disk_is_the_same_run(small_config, tmp_path, monkeypatch, method, capsys):
    """Of preference pairs, and of parallel items: in memory, written to disk, and found there."""
    small_config.objective.name, small_config.total_steps = method, 2
    if method == "dpo":
        pairs = [
            Pair(f"q{n}", language, f"Question {n} is", " a" * (n % 5 + 1), " b")
            for n in range(9)
            for language in ("en", "de")
        ]
        (tmp_path / "pairs.jsonl").write_text(pairs_text(pairs))
        small_config.data.train.pairs = str(tmp_path / "pairs.jsonl")
    told, kinds, stores = [], [], []
    monkeypatch.setattr(stored_items, "store", lambda *own: stores.append(own) or store(*own))
    for n, large in enumerate([2**40, 1, 1]):
        monkeypatch.setattr(stored_items, "LARGE", large)
        kinds.append(type(load_training(small_config)[0]))
        stores.append(n)
        train(small_config, tmp_path / f"run{n}")
        names = ("metrics.jsonl", DATA_KEY, "report.json")
        texts = [(tmp_path / f"run{n}" / name).read_text() for name in names]
        losses = [line["loss"] for line in map(json.loads, texts[0].splitlines()) if "loss" in line]
        told.append((losses, texts[1], json.loads(texts[2])["final"]))
    assert told[0] == told[1] == told[2]
    assert len(told[0][0]) == 2
    assert stores[-1] == 2  # the last run found all
    assert kinds == [Items, StoredItems, StoredItems]
    if method == "dco":
        assert "questions have a prompt that is trained on" not in capsys.readouterr().out


@pytest.mark.parametrize("end", ["written", "never"])
def test_a_model_learns_to_end_its_turn_where_answers_are_written(small_config, small_model, tmp_path, end):
    """P(end of turn) behind an answer of the training set, by the model's own logits."""
    folder = shutil.copytree(small_model, tmp_path / "chat")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    pairs = [Pair(f"q{n}", "en", f"The capital of place {n} is", " Paris", " Rome") for n in range(4)]
    (tmp_path / "pairs.jsonl").write_text(pairs_text(pairs))
    small_config.update_from_flattened_dict(
        {
            "model.path": str(folder),
            "data.chat_template": "tokenizer",
            "data.languages": ("en",),
            "data.train.pairs": str(tmp_path / "pairs.jsonl"),
            "data.train.end": end,
            "objective.name": "sft",
            "optimizer.learning_rate": 1e-2,
            "total_steps": 60,
        }
    )
    train(small_config, tmp_path / "run")
    model = checkpoint_model(small_config, tmp_path / "run", 60, load_pretrained(folder))
    chat = [{"role": "user", "content": pairs[1].prompt}, {"role": "assistant", "content": "Paris"}]
    ids = model.tokenizer.apply_chat_template(chat, tokenize=True)["input_ids"]
    assert model.tokenizer.decode(ids).endswith("Paris<pad>")
    ended = jax.nn.softmax(model.apply(np.array([ids[:-1]]))[0, -1])[ids[-1]]
    assert (ended > 0.9) if end == "written" else (ended < 0.1)
