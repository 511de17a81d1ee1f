"""MLC in training: what is fed to it, when it counts, what it trains, and that no one else sees its extractor."""

import dataclasses
import json
import shutil
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import traverse_util
from parallel_worker import CONFIG, LANGUAGES, data

from consistency_jax.config.checks import validate
from consistency_jax.config.defaults import default
from consistency_jax.config.stages import stages_of
from consistency_jax.data.examples import AuxiliaryPrompts
from consistency_jax.data.items import Items, ParallelItem
from consistency_jax.data.pipeline import Pipeline
from consistency_jax.data.trees.forest import Forest, Tree
from consistency_jax.errors import ConfigError
from consistency_jax.evaluate import evaluate_workdir
from consistency_jax.export import export
from consistency_jax.models.adapters import merge_adapters
from consistency_jax.models.decoder import Decoder, init_params
from consistency_jax.models.flops import mask_cost
from consistency_jax.models.huggingface import load_pretrained
from consistency_jax.objectives import Mlc, make_objective, mlc
from consistency_jax.runtime.mesh import make_mesh, on_mesh, put
from consistency_jax.scoring.logps import tree_logps
from consistency_jax.train import train
from consistency_jax.training import loop
from consistency_jax.training.run_models import checkpoint_model
from consistency_jax.training.stages import load_training, prompt_set, training_splits
from consistency_jax.training.step import init_auxiliary, init_state, make_train_step, sharded_step
from consistency_jax.training.trainable import trained_names

EVERY = Mlc(weight=0.8, tau=0.2, layer=-1, width=16, every=1)


def flat(tree):
    return traverse_util.flatten_dict(tree, sep="/")


def prompts(items: int = 6, every: int = 1) -> AuxiliaryPrompts:
    """Prompts in four languages (one more than the items), one of them in two."""
    given = data().trees
    numbers = np.arange(len(given)).reshape(-1, 3)[::-1, [0, 1, 2, 0]]
    numbers[0, 1:3] = -1
    return AuxiliaryPrompts(given.take(numbers.reshape(-1)).prompts(), 4, items, every)


def pipeline(accumulate: int = 1, beside: AuxiliaryPrompts | None = None) -> Pipeline:
    """Items of which some are in one language, and drawn unevenly."""
    given = data()
    given.mask[::3, 1:] = False
    numbers = np.where(given.mask.any(2), np.arange(len(given.trees)).reshape(-1, 3), -1)
    return Pipeline(
        given._replace(trees=given.trees.take(numbers.reshape(-1)), prompts=beside),
        mask_cost=mask_cost(CONFIG),
        seed=0,
        items=6,
        shapes=1,
        accumulate=accumulate,
        total_steps=4,
    )


def stepper(auxiliary: Mlc | None, accumulate: int = 1, name: str = "dco"):
    """(the jitted step, its first state), with plain SGD: a change is a gradient."""
    options = default().objective
    options.name = name
    objective, _ = make_objective(options, LANGUAGES)
    tx = optax.sgd(1.0)
    params = jax.jit(init_params, static_argnums=0)(CONFIG, jax.random.key(0))
    state = init_state(params, tx, init_auxiliary(CONFIG, auxiliary, jax.random.key(1)))
    return jax.jit(make_train_step(CONFIG, objective, tx, accumulate, auxiliary)), state


def change(new, old):
    return jax.tree.map(
        lambda a, b: np.asarray(b - a), (new.params, new.auxiliary), (old.params, old.auxiliary)
    )


@pytest.mark.parametrize(
    ("beside", "layer"), [pytest.param(False, -1, marks=pytest.mark.slow), (False, 0), (True, 1)]
)
def test_the_loss_is_that_of_the_states_of_prompts_packed_alone(beside, layer):
    """Every prompt runs in a row of its own here: an item, language or layer taken for another shows."""
    auxiliary = EVERY._replace(layer=layer)
    given = pipeline(beside=prompts() if beside else None)
    step, state = stepper(auxiliary)
    _, metrics = step(state, {}, given(0))
    if beside:
        trees, numbers = prompts().trees, prompts().draw(0, 0)
    else:
        trees = given._data.trees.prompts()
        numbers = np.arange(len(trees)).reshape(-1, 3)[given.draw(0).items]
    rows = [[trees[n] if n >= 0 else None for n in row] for row in numbers.tolist()]
    states = np.full((len(rows), len(rows[0]), CONFIG.hidden), np.nan, np.float32)
    for b, row in enumerate(rows):
        for l, tree in enumerate(row):
            if tree is not None:
                tokens = np.zeros((1, 16), np.int32)
                tokens[0, : len(tree.trunk)] = tree.trunk
                states[b, l] = state_of(state.params, tokens, jnp.int32(len(tree.trunk) - 1), layer)
    expected, others = mlc(states, state.auxiliary, mask=~np.isnan(states).any(2), tau=auxiliary.tau)
    assert int(metrics["mlc_items"]) == int(others["items"]) == (6 if beside else 4)
    for name, value in others.items():
        np.testing.assert_allclose(metrics[f"mlc_{name}"], value, rtol=1e-4)
    assert float(expected) > 0.1


@partial(jax.jit, static_argnames="layer")
def state_of(params, tokens, place, layer: int) -> jax.Array:
    """[D]: for a layer that is not the last, of a decoder that ends there."""
    one, positions = jnp.ones_like(tokens), jnp.arange(tokens.shape[1])[None]
    if layer < 0:
        return Decoder(CONFIG).apply({"params": params}, tokens, positions, one, 0 * one)[0, place]
    short = dataclasses.replace(CONFIG, layers=layer + 1)
    cut = params | {"layers": jax.tree.map(lambda p: p[: layer + 1], params["layers"])}
    _, states = Decoder(short).apply({"params": cut}, tokens, positions, one, 0 * one, place[None])
    return states[-1, 0]


def test_it_counts_on_every_nth_step_without_a_second_program():
    plain, start = stepper(None)
    step, state = stepper(EVERY._replace(every=2))
    value = pipeline()(0)
    first, _ = step(state, {}, value)
    assert np.abs(change(first, state)[1]["kernel"]).max() > 1e-4
    unaided, _ = plain(start._replace(params=first.params), {}, value)
    second, metrics = step(first, {}, value)
    _, extractor = change(second, first)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), second.params, unaided.params)
    assert not any(leaf.any() for leaf in extractor.values())
    assert float(metrics["mlc_loss"]) > 0  # logged all the same
    assert step._cache_size() == 1


@pytest.mark.parametrize("beside", [False, True], ids=["own", "split"])
def test_accumulated_micro_batches_give_the_gradient_of_the_whole(beside):
    def update(accumulate: int):
        step, state = stepper(EVERY, accumulate, "sft")
        new, metrics = step(state, {}, pipeline(accumulate, prompts() if beside else None)(0))
        return change(new, state), metrics

    (whole, one), (parts, other) = update(1), update(3)
    for name in ("loss", "mlc_loss", "mlc_items", "mlc_rank1", "mlc_cosine", "items"):
        np.testing.assert_allclose(other[name], one[name], rtol=1e-4)
    largest = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(whole))
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
        np.testing.assert_allclose(b, a, atol=1e-5 * largest)  # float32 sums in another order


def test_planning_looks_at_steps_with_prompts():
    """Of 511 steps every other one is looked at, and all of those are without prompts."""
    given = data()._replace(prompts=prompts(every=2))
    beside = Pipeline(given, mask_cost=mask_cost(CONFIG), seed=0, items=6, shapes=3, total_steps=511)
    used = {beside(step).batch.tokens.shape for step in range(400, 440)}
    assert used <= {(shape.rows, shape.length) for shape in beside.shapes}


def test_prompts_longer_than_a_row_are_told_at_once(small_config):
    """Before anything is scored, as for the items themselves."""
    small_config.stages = ("sft", "dco")
    small_config.batching.row_length = 64
    stages, model = (
        stages_of(small_config),
        load_pretrained(small_config.model.path, mesh=make_mesh((1, 1, 1))),
    )
    loaded = [load_training(stage.config) for stage in stages]
    beside = prompt_set(small_config, loaded[0][0], model)
    training_splits(stages, loaded, [None, beside], model)
    long = Forest.of([Tree.of_tokens(range(3, 68), [])] * len(beside.trees))
    with pytest.raises(ConfigError, match="batching: .*longer"):
        training_splits(stages, loaded, [None, dataclasses.replace(beside, trees=long)], model)


def test_prompts_may_have_no_answers(small_config):
    """Their trees are those of the same prompts with answers, in both languages."""
    model = load_pretrained(small_config.model.path, mesh=make_mesh((1, 1, 1)))
    prompts = {"en": "The capital of France is", "ru": "Столица Франции"}
    bare = Items([ParallelItem(f"{n}", "", prompts, {"en": (), "ru": ()}) for n in range(3)])
    asked = Items([dataclasses.replace(item, candidates={"en": (" a",), "ru": (" a",)}) for item in bare])
    small_config.data.languages = ("en", "ru")
    small_config.auxiliary.mlc["items"] = 3
    found, expected = (prompt_set(small_config, items, model).trees for items in (bare, asked))
    assert len(found) == 6
    for one, other in zip(found, expected, strict=True):
        assert (one.trunk.tolist(), one.branches) == (other.trunk.tolist(), ())


def test_prompts_are_drawn_by_seed_and_step_and_only_for_steps_that_count():
    given = prompts(every=2)
    assert (given.draw(0, 1) == -1).all()
    numbers = given.draw(0, 2)
    assert numbers.shape == (6, 4)
    assert len(set(numbers[:, 0].tolist())) == 6  # none twice
    assert (numbers == given.draw(0, 2)).all()
    assert (numbers != given.draw(0, 4)).any()
    assert (numbers != given.draw(1, 2)).any()
    on, off = pipeline(beside=given)(2), pipeline(beside=given)(1)
    assert on.examples.prompts.shape == off.examples.prompts.shape == (6, 4)
    assert not off.examples.prompts.any()
    np.testing.assert_array_equal(on.examples.prompts, numbers >= 0)
    alone = pipeline()(2)
    own = (value.examples._replace(prompts=()) for value in (alone, on))
    for one, other in zip(*own, strict=True):
        np.testing.assert_array_equal(one, other)  # the items' own draw is as ever
    out = [
        jax.jit(lambda p, b: tree_logps(CONFIG, p, b, candidates=3)["logp"])(stepper(None)[1].params, v.batch)
        for v in (alone, on)
    ]
    np.testing.assert_allclose(out[1][:18], out[0], rtol=1e-5, atol=1e-5)


def test_the_extractor_is_whole_on_every_device_and_has_moments():
    mesh, tx = make_mesh((1, 1, 1)), optax.adam(1e-3)
    objective, _ = make_objective(default().objective, LANGUAGES)
    step = sharded_step(CONFIG, objective, tx, mesh, trained_names(CONFIG, ""), 1, EVERY)
    assert set(step.state.auxiliary) == {"kernel", "bias"}
    assert all(sharding.is_fully_replicated for sharding in step.state.auxiliary.values())
    _, state = stepper(EVERY)
    state = jax.device_put(init_state(state.params, tx, state.auxiliary), step.state)
    kernel = np.asarray(state.auxiliary["kernel"])
    with on_mesh(mesh):
        state, _ = step.run(state, {}, put(pipeline()(0), step.inputs))
    assert np.abs(np.asarray(state.auxiliary["kernel"]) - kernel).max() > 5e-4  # Adam's first step
    assert np.asarray(optax.tree.get(state.optimizer, "mu")["auxiliary"]["kernel"]).any()


# --------------------------------------------------------------------------------------------------- the whole command
@pytest.fixture(scope="module", params=["dpo", pytest.param("dco with adapters", marks=pytest.mark.slow)])
def run(request, small_model, questions, tmp_path_factory):
    """Six steps of a method with MLC: config, workdir, report."""
    folder = tmp_path_factory.mktemp("mlc")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONSISTENCY_CACHE", str(folder / "cache"))
        config = default()
        config.model.path, config.data.path = str(small_model), str(questions)
        config.total_steps = 6
        config.batching.items, config.batching.shapes = 4, 1
        config.optimizer.learning_rate = 1e-3
        config.checkpoint.every, config.logging.every = 2, 1
        config.evaluation.bootstrap = 50
        config.auxiliary.mlc.update(weight=0.8, width=16)
        if request.param == "dpo":
            config.objective.name, config.batching.name = "dpo", "grouped"
        else:
            config.lora.rank = 2
            config.batching.accumulate = 2
            config.auxiliary.mlc.update({"split": "test", "items": 4, "layer": 0})
        summary = train(config, folder / "run")
        yield config, folder / "run", summary


def parts_of(workdir, step: int):
    with ocp.CheckpointManager(
        workdir / "checkpoints",
        item_handlers={n: ocp.StandardCheckpointHandler() for n in ("params", "progress")},
    ) as manager:
        return manager.restore(step)


def test_a_run_logs_it_and_its_checkpoints_keep_the_extractor_apart(run):
    config, workdir, _ = run
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    lines = [line for line in lines if "loss" in line]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    for line in lines[0::2]:
        assert line["mlc_items"] == 4
        assert 0 < line["mlc_loss"] <= np.log(3)
        assert 1 / 3 <= line["mlc_rank1"] <= 1
        assert -0.5 <= line["mlc_cosine"] <= 1
    first, last = (parts_of(workdir, step) for step in (4, 6))
    assert not any("auxiliary" in name for name in flat(last.params))
    kernels = [part.progress["auxiliary"]["kernel"] for part in (first, last)]
    assert kernels[0].shape == (32, 16)
    assert not np.array_equal(*kernels)


def test_it_goes_on_from_a_checkpoint_bit_for_bit(run, tmp_path):
    config, workdir, _ = run
    shutil.copytree(workdir, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "6")
    train(config, tmp_path / "run")
    for one, other in zip(
        jax.tree.leaves(dict(parts_of(workdir, 6).items())),
        jax.tree.leaves(dict(parts_of(tmp_path / "run", 6).items())),
        strict=True,
    ):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    assert (tmp_path / "run" / "report.json").read_bytes() == (workdir / "report.json").read_bytes()


def test_evaluate_and_export_know_nothing_of_the_extractor(run, small_model, tmp_path):
    config, workdir, summary = run
    assert json.loads(json.dumps(evaluate_workdir(config, workdir))) == json.loads(json.dumps(summary))
    base = load_pretrained(small_model, mesh=make_mesh((1, 1, 1)))
    trained = flat(merge_adapters(checkpoint_model(config, workdir, 6, base)).params)
    exported = flat(load_pretrained(export(workdir, tmp_path / "model")).params)
    assert set(exported) == set(flat(base.params)) == set(trained)
    for name, leaf in trained.items():
        np.testing.assert_array_equal(exported[name], leaf)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tau": 0.0}, r"auxiliary.mlc.tau=0.0 must be greater than 0"),
        ({"every": 0}, r"auxiliary.mlc.every=0 must be greater than 0"),
        ({"weight": -1.0}, r"auxiliary.mlc.weight=-1.0 must not be negative"),
        ({"layer": -2}, r"auxiliary.mlc.layer=-2 should be the number of a layer"),
        ({"split": "test", "items": 3}, r"batching.accumulate=2 must divide auxiliary.mlc.items=3"),
        ({"weight": 0.8}, r"mlc compares.*random takes them one by one for dpo; set batching.name=grouped"),
    ],
)
def test_settings_that_cannot_be_are_refused(change, message):
    config = default()
    config.model.path, config.batching.accumulate, config.objective.name = "somewhere", 2, "dpo"
    config.auxiliary.mlc.update(change)
    with pytest.raises(ConfigError, match=message):
        validate(config)


def test_a_selection_that_a_file_of_pairs_takes_the_place_of_does_not_count():
    config = default()
    config.model.path, config.objective.name, config.batching.name = "somewhere", "dpo", "grouped"
    config.selection.name, config.auxiliary.mlc.weight = "calm", 0.8
    with pytest.raises(ConfigError, match="a preference pair in one language alone"):
        validate(config)
    config.data.train.pairs = "pairs.jsonl"
    validate(config)


def test_what_the_model_or_the_data_lack_is_told_before_any_work(small_config, tmp_path):
    small_config.auxiliary.mlc.weight = 0.8
    small_config.auxiliary.mlc.layer = 2
    with pytest.raises(ConfigError, match="layer=2, but the model has layers 0 to 1"):
        train(small_config, tmp_path / "run")
    small_config.auxiliary.mlc.layer = -1
    small_config.auxiliary.mlc.update({"split": "test", "items": 100})
    with pytest.raises(ConfigError, match=r"mlc.items=100, but split 'test' has \d+ items"):
        train(small_config, tmp_path / "run")
    small_config.auxiliary.mlc.split = ""
    small_config.selection.name, small_config.objective.name = "gold", "dpo"
    small_config.batching.name = "grouped"
    with pytest.raises(ConfigError, match="a preference pair in one language alone, or name a split"):
        train(small_config, tmp_path / "run")
    small_config.selection.name, small_config.data.languages = "", ("en",)
    with pytest.raises(ConfigError, match="no item of split 'train' is asked in two"):
        train(small_config, tmp_path / "run")


def test_a_line_of_the_log_tells_the_newest_step_that_had_prompts():
    def metrics(loss: float, items: float) -> dict:
        return {"loss": loss, "gradient_norm": 1.0, "mlc_items": items, "mlc_loss": loss / 10}

    waiting = [metrics(1.0, 4.0), metrics(2.0, 0.0), metrics(3.0, 4.0), metrics(4.0, 0.0)]
    assert loop._fetch(waiting, 4) == {"loss": 4.0, "gradient_norm": 1.0, "mlc_items": 4.0, "mlc_loss": 0.3}
    assert loop._fetch(waiting[3:], 4) == {"loss": 4.0, "gradient_norm": 1.0}
    assert loop._fetch(waiting[2:3], 3) == metrics(3.0, 4.0)
