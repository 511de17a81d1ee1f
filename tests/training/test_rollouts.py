"""Answers that the policy draws itself: a step's batch, whole runs of them, and the optimum they lead to."""

import dataclasses
import json
import re
import shutil

import jax
import numpy as np
import pytest
import scipy.special

from consistency_jax.config.defaults import default
from consistency_jax.config.stages import Stage
from consistency_jax.data.items import Items, ParallelItem
from consistency_jax.errors import ConfigError
from consistency_jax.evaluation.free_text import GenerationTask, respond
from consistency_jax.evaluation.splits import split_of
from consistency_jax.generation import Sampling
from consistency_jax.generation.sampler import Sampler
from consistency_jax.models.decoder import DecoderConfig, init_params
from consistency_jax.models.huggingface import Model, load_pretrained, save_pretrained
from consistency_jax.objectives import make_objective
from consistency_jax.runtime.mesh import make_mesh
from consistency_jax.scoring.logps import tree_logps
from consistency_jax.scoring.scorer import Scorer
from consistency_jax.train import train
from consistency_jax.training.loop import fit
from consistency_jax.training.run_models import checkpoint_model
from consistency_jax.training.stages import (
    Reference,
    load_training,
    make_batches,
    training_data,
    training_split,
)

TEMPLATE = "{% for m in messages %}{{ m.content + '\\n' }}{% endfor %}"


def shouted(texts: list[str], source: str, target: str) -> list:
    """A translator: of some texts nothing, of others two translations; in Russian they differ."""
    sign = " !" if target == "ru" else ""
    return [
        None if not text.strip() or len(text) % 5 == 0 else {text.upper() + sign: 3.0, f"{text} ?": 1.0}
        for text in texts
    ]


def echoed(texts: list[str], source: str, target: str) -> list:
    return [text if text.strip() else None for text in texts]


HEARD: list[tuple[list[str], str]] = []  # what `heard` was given, and in which language


def heard(texts: list[str], source: str, target: str) -> list:
    HEARD.append((texts, source))
    return echoed(texts, source, target)


def generating(config, translator: str, **rollout):
    config.objective.name = "pco_rollout"
    config.objective.samples = 4
    config.rollout.update({"source": "generate", "max_tokens": 6, "translator": translator} | rollout)
    return config


def moved(params, seed: int = 1):
    leaves, tree = jax.tree.flatten(params)
    rng = np.random.default_rng(seed)
    return tree.unflatten(
        [leaf + 0.05 * rng.standard_normal(leaf.shape).astype(np.float32) for leaf in leaves]
    )


def said(model: Model, trunk: np.ndarray, answer: np.ndarray) -> float:
    """log p(answer | trunk), one sequence at a time."""
    logits = np.asarray(model.apply(np.concatenate([trunk, answer])[None]))[0, len(trunk) - 1 : -1]
    return float(scipy.special.log_softmax(logits, axis=1)[np.arange(len(answer)), answer].sum())


@pytest.mark.parametrize("partners", [pytest.param("all", marks=pytest.mark.slow), "random"])
def test_a_batch_holds_the_policys_answers_and_what_the_reference_says_of_them(
    small_config, small_model, partners
):
    config = generating(small_config, f"{__name__}:shouted")  # which gives two translations: all count
    config.objective.partners, config.objective.steer = partners, {"en": 2.0}
    config.batching.items = 2
    config.rollout.stop = ("e",)
    config.seed = 3
    model = load_pretrained(small_model, mesh=make_mesh((1, 1, 1)))
    items, languages = load_training(config)
    split = training_split(config, items, languages, model)
    reference = Reference(Scorer(model.config, make_mesh((1, 1, 1))), model, None)
    data = training_data(config, split, reference)
    assert data.reference is None  # nobody scores the candidates
    rollouts = make_batches(config, data, split, model, reference)
    policy = dataclasses.replace(model, params=moved(model.params))
    step_input = rollouts(1, policy.params)
    batch, examples = step_input
    draw = rollouts._pipeline.draw(1)
    logp = jax.jit(lambda p, b: tree_logps(model.config, p, b, candidates=4)["logp"])(policy.params, batch)
    logp = logp.reshape(2, 3, 4)
    tokenizer, eos = model.tokenizer, model.tokenizer.eos_token_id
    weights = np.array([2.0, 1.0, 1.0])
    ended = stopped = 0
    for b, i, s in np.ndindex(2, 3, 4):
        item, language = items[draw.items[b]], languages[i]
        trunks = [split.trees[draw.items[b] * 3 + j].trunk for j in range(3)]
        answer = batch.target_token[0][batch.target_slot[0] == (b * 3 + i) * 5 + s + 1]
        assert examples.length[b, i, s] == len(answer)
        # float32 sums of a few terms in another order, here and below
        assert logp[b, i, s] == pytest.approx(said(policy, trunks[i], answer), abs=1e-4)
        own = said(model, trunks[i], answer)
        assert examples.reference[b, i, s] == pytest.approx(own, abs=1e-4)
        end = [eos] if answer[-1] == eos else []
        text = tokenizer.decode(answer[: len(answer) - len(end)])
        ended, stopped = ended + len(end), stopped + ("e" in text)
        if "e" in text:
            assert "e" not in tokenizer.decode(answer[:-1])
            text = text[: text.index("e")]
        elif not end:
            assert len(answer) == 6
        others = [j for j in range(3) if j != i] if partners == "all" else [draw.partners[b, i]]
        rewards = {}
        for j in others:
            (found,) = shouted([text], language, languages[j])
            assert examples.mask[b, i, s] == (found is not None)
            if found is None:
                continue
            space = " " if item.candidates[languages[j]][0].startswith(" ") else ""
            logs = [
                said(
                    model,
                    trunks[j],
                    np.array(tokenizer.encode(space + t.strip(), add_special_tokens=False) + end),
                )
                for t in found
            ]
            rewards[j] = scipy.special.logsumexp(np.array(logs), b=np.array(list(found.values())) / 4)
        if not examples.mask[b, i, s]:
            assert examples.rewards[b, i, s] == 0
        elif partners == "random":
            (j,) = rewards
            assert examples.rewards[b, i, s] == pytest.approx(weights[j] / weights[i] * rewards[j], abs=1e-3)
        else:
            table = rewards | {i: own}
            mean = sum(weights[j] * table[j] for j in range(3)) / weights.sum()
            scale = 1 + sum(weights[j] for j in others) / 2 / weights[i]
            assert examples.rewards[b, i, s] == pytest.approx(scale * mean - own, abs=1e-3)
    assert 0 < examples.mask.sum() < examples.mask.size
    assert stopped
    again, other = rollouts(1, policy.params), rollouts(1, moved(model.params, 2))
    assert jax.tree.all(jax.tree.map(np.array_equal, step_input, again))
    assert not np.array_equal(batch.target_token, other.batch.target_token)


def test_an_answer_that_spells_a_special_token_has_no_translation(small_config, small_model, tmp_path):
    """In a chat, where the prompt that asks for the translation would hold the token itself."""
    folder = shutil.copytree(small_model, tmp_path / "chat")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    small_config.model.path, small_config.data.chat_template = str(folder), "tokenizer"
    config = generating(small_config, "model")
    model = load_pretrained(folder, mesh=make_mesh((1, 1, 1)))
    items, languages = load_training(config)
    split = training_split(config, items, languages, model)
    reference = Reference(Scorer(model.config, make_mesh((1, 1, 1))), model, None)
    rollouts = make_batches(config, training_data(config, split, reference), split, model, reference)
    said = ["one place", f"a {model.tokenizer.eos_token} b", "another"]
    alone = rollouts._translate(items[:2], said[::2], "en", "de", 0)
    found = rollouts._translate(items[:3], said, "en", "de", 0)
    assert found[1] == {}
    assert [bool(own) for own in found[::2]] == [bool(own) for own in alone]


def test_what_is_drawn_is_the_policys(small_config, small_model):
    config = generating(small_config, f"{__name__}:echoed", top_k=1, max_tokens=3)
    config.batching.items = 1
    model = load_pretrained(small_model, mesh=make_mesh((1, 1, 1)))
    items, languages = load_training(config)
    split = training_split(config, items, languages, model)
    reference = Reference(Scorer(model.config, make_mesh((1, 1, 1))), model, None)
    rollouts = make_batches(config, training_data(config, split, reference), split, model, reference)
    policy = dataclasses.replace(model, params=moved(model.params))
    batch, _ = rollouts(0, policy.params)
    item = rollouts._pipeline.draw(0).items[0]
    for language in range(3):
        sequence = split.trees[item * 3 + language].trunk
        for token in batch.target_token[0][batch.target_slot[0] == language * 5 + 1]:
            assert token == np.asarray(policy.apply(sequence[None]))[0, -1].argmax()
            sequence = np.append(sequence, token)


def test_a_drawn_answer_ends_with_what_ended_it(small_model):
    model = load_pretrained(small_model)
    sampler = Sampler(model)
    sampling = Sampling(max_tokens=40, stop=("ar", "Ma"))
    prompts = sampler.encode(["The capital", "Столица"])
    drawn = sampler.sample(prompts, n=40, sampling=sampling, seed=1)
    kinds = set()
    for prompt, answer in ((prompt, answer) for prompt, own in zip(prompts, drawn) for answer in own):
        body = answer.tokens if answer.end is None else answer.tokens[:-1]
        whole, before = (
            model.tokenizer.decode(tokens, skip_special_tokens=True) for tokens in ([*prompt, *body], prompt)
        )
        assert answer.text == re.split("ar|Ma", whole.removeprefix(before))[0]
        whole, before = (model.tokenizer.decode(tokens) for tokens in (answer.tokens, answer.tokens[:-1]))
        if answer.end is not None:
            assert answer.tokens[-1] == answer.end == model.tokenizer.eos_token_id
        elif any(stop in whole for stop in sampling.stop):
            assert not any(stop in before for stop in sampling.stop)
        else:
            assert len(answer.tokens) == 40
        kinds.add((answer.end is not None, len(answer.tokens) == 40))
    assert kinds >= {(True, False), (False, False), (False, True)}


@pytest.mark.slow
def test_a_run_trains_on_what_it_draws_and_resumes_exactly(small_config, small_model, tmp_path):
    config = generating(small_config, f"{__name__}:echoed")
    config.batching.accumulate = 2
    config.total_steps = 4
    train(config, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert all(line["translated"] > 0.5 and line["reward"] < 0 for line in lines)
    assert lines[0]["kl"] == pytest.approx(0, abs=1e-4)  # the policy is the reference
    assert abs(lines[3]["kl"]) > 1e-3
    model = load_pretrained(small_model, mesh=make_mesh((1, 1, 1)))

    def params():
        return checkpoint_model(config, tmp_path / "run", 4, model).params

    unbroken = params()
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "4")
    train(config, tmp_path / "run")
    assert jax.tree.all(jax.tree.map(np.array_equal, params(), unbroken))
    assert not jax.tree.all(jax.tree.map(np.array_equal, unbroken, model.params))


# ------------------------------------------------------------------------------------------------------ a toy's optimum
WORDS = {"en": ("one", "two", "three", "four"), "de": ("eins", "zwei", "drei", "vier")}


@pytest.fixture
def toy(tmp_path):
    """A random model of whole words, and two questions in two languages."""
    import tokenizers
    import transformers

    words = ["<s>", "</s>", "<unk>", "Q", "R", "F", "G", *WORDS["en"], *WORDS["de"]]
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>")
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>", add_bos_token=True
    )
    config = DecoderConfig(
        vocab_size=len(words),
        hidden=16,
        layers=1,
        heads=2,
        kv_heads=2,
        head_dim=8,
        mlp=32,
        initializer_range=0.4,
    )
    save_pretrained(Model(config, init_params(config, jax.random.key(5)), tokenizer), tmp_path / "toy")
    candidates = {language: tuple(f" {word}" for word in own) for language, own in WORDS.items()}
    prompts = ({"en": "Q", "de": "F"}, {"en": "R", "de": "G"})
    items = Items([ParallelItem(f"{n}", "", own, candidates) for n, own in enumerate(prompts)])
    return load_pretrained(tmp_path / "toy", mesh=make_mesh((1, 1, 1))), items


def test_rollouts_and_evaluation_read_an_answer_alike(toy, tmp_path):
    """The first words that the model writes fill the gap; the others go on with the sentence, and past it."""
    model, _ = toy
    items, rests = Items(), []
    greedy = Sampling(max_tokens=4, temperature=0)
    for n, prompt in enumerate(["Q", "R", "F", "G", "Q R", "R Q", "F G", "G F"]):
        ((text,),) = Sampler(model).generate([prompt], n=1, sampling=greedy, seed=0)
        gap, *rest = text.split()
        rests.append(len(rest))
        prompts = {"en": f"{prompt} <mask> {' '.join(rest[:2])}", "de": f"{prompt} <mask>"}
        items.append(ParallelItem(f"{n}", "", prompts, {"en": (gap, "other"), "de": (text.strip(), "other")}))
    assert rests.count(3) > 1  # the answer runs on behind the sentence
    config = generating(default(), f"{__name__}:heard", max_tokens=4, top_k=1)
    config.batching.items = len(items)
    config.evaluation.generation.max_tokens = 4
    (said,) = respond(config, model, [GenerationTask("toy", items, ("en", "de"))], tmp_path)
    mesh = make_mesh((1, 1, 1))
    split = split_of(config, "toy", items, model, "separate", ("en", "de"), measured=False)
    reference = Reference(Scorer(model.config, mesh), model, None)
    rollouts = make_batches(config, training_data(config, split, reference), split, model, reference)
    HEARD.clear()
    rollouts(0, model.params)
    assert said.matches.scores[:, :, 0].all()
    for language in ("en", "de"):
        rolled = {text for texts, source in HEARD if source == language for text in texts}
        assert rolled == {item.candidates[language][0] for item in items}


def candidate_logps(model: Model, items: Items) -> np.ndarray:
    """f64[items, languages, candidates]: log-probabilities given that a candidate is said."""
    token = model.tokenizer.convert_tokens_to_ids
    rows = [
        [
            np.asarray(model.apply(np.array([[0, token(item.prompts[language])]])))[0, -1][token(list(own))]
            for language, own in WORDS.items()
        ]
        for item in items
    ]
    return scipy.special.log_softmax(np.float64(rows), axis=2)


@pytest.mark.slow
def test_drawn_answers_lead_to_the_optimum_and_rewards_rise(toy, tmp_path):
    """Given that an answer is in the table, the policy becomes the product of both languages' references."""
    model, items = toy
    config = generating(default(), "table", max_tokens=1)
    config.objective.samples = 64
    config.batching.items = 2
    config.total_steps, config.logging.every = 150, 1
    config.optimizer.learning_rate, config.optimizer.schedule = 1e-2, "cosine"
    mesh = make_mesh((1, 1, 1))
    split = split_of(config, "toy", items, model, "separate", tuple(WORDS), measured=False)
    reference = Reference(Scorer(model.config, mesh), model, None)
    rollouts = make_batches(config, training_data(config, split, reference), split, model, reference)
    objective, _ = make_objective(config.objective, tuple(WORDS))
    trained = fit(Stage("toy", "checkpoints", "", config), model, objective, rollouts, tmp_path)
    before = candidate_logps(model, items)
    optimum = scipy.special.log_softmax(before.sum(1, keepdims=True), axis=2)
    after = candidate_logps(trained, items)
    distance = [(np.exp(logp) * (logp - optimum)).sum(2).mean() for logp in (before, after)]
    assert distance[0] > 0.1
    assert distance[1] < 0.1 * distance[0]
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    rewards = [line["reward"] for line in lines]
    assert np.mean(rewards[-20:]) > np.mean(rewards[:20]) + 0.1
    assert 0 < np.mean([line["translated"] for line in lines]) < 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rollout.source": "generated"}, "rollout.source='generated' is unknown.*'generate'"),
        ({"objective.name": "dco"}, "rollout.source=generate is of pco_rollout, and does nothing with dco"),
        ({"rollout.max_tokens": 0}, "rollout.max_tokens=0 must be greater than 0"),
        ({"rollout.max_tokens": 1023}, "rollout.max_tokens=1023 leaves no room for a prompt"),
        ({"rollout.temperature": 0.0}, "rollout.temperature=0.0 must be greater than 0"),
        ({"rollout.top_p": 0.0}, "rollout.top_p=0.0 must lie in"),
        ({"rollout.stop": ("",)}, "rollout.stop=.* none empty"),
        ({"rollout.translator": "deepl"}, "rollout.translator='deepl' must be table, model"),
        ({"rollout.translator": "nothing_here:x"}, "rollout.translator='nothing_here:x' cannot be imported"),
        ({"data.boundary": "joint"}, "data.boundary='joint' does not go with rollout.source=generate"),
        ({"objective.false_examples": True}, "objective.false_examples=True does not go with rollout"),
        ({"batching.row_length": 64}, "batching.row_length=64 is too short for 4 answers"),
    ],
)
def test_bad_settings_are_named(small_config, tmp_path, change, message):
    config = generating(small_config, "table", max_tokens=40)
    config.update_from_flattened_dict(change)
    with pytest.raises(ConfigError, match=message):
        train(config, tmp_path / "run")
