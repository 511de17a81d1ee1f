"""Answers of the sampler: torch's own where they are certain, the softmax's frequencies where they are drawn."""

import copy
import dataclasses
import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

import consistency_jax
from consistency_jax.data.items import ParallelItem
from consistency_jax.data.trees.builder import TreeBuilder
from consistency_jax.data.trees.chat import ChatTemplate
from consistency_jax.generation import Cut, GenerationError, Sampling
from consistency_jax.generation.sampler import CHUNK, Sampler, end_tokens
from consistency_jax.models.attention import Columns
from consistency_jax.models.decoder import (
    Decoder,
    DecoderConfig,
    LayerType,
    init_params,
)
from consistency_jax.models.huggingface import Model, load_pretrained
from consistency_jax.models.kv_cache import extended, new_cache
from consistency_jax.models.rotary import Rope

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from packed_rows import FIELDS, packed  # noqa: E402
from simulated import simulated  # noqa: E402
from torch_models import CASES, VOCABULARY, WINDOW, load, random_checkpoint  # noqa: E402

PROMPTS = ["Once upon a time", "", "Lily and Tom went to the park. They", "The dog"]
GREEDY = Sampling(max_tokens=40, temperature=0)
FAMILIES = (
    "llama, 9 heads, llama3 rope, biases, untied",
    "qwen 3, 9 heads, biases, a window in the middle, llama3 rope, untied",
    "gemma 2, 3 heads, soft caps",
    "gemma 3, 9 heads, linear rope",
    "cohere, 3 heads with norms of their own",
    "smollm 3, 9 heads, windows where nothing turns, biases, untied",
)


@pytest.fixture(autouse=True, scope="module")
def _quiet():
    transformers.utils.logging.disable_progress_bar()
    yield
    transformers.utils.logging.enable_progress_bar()


@pytest.fixture(scope="module")
def stories(data_folder: Path) -> Model:
    return load_pretrained(data_folder / "checkpoints" / "hf_stories260K")


def torch_answer(theirs: torch.nn.Module, prompt: np.ndarray, **settings) -> np.ndarray:
    """What torch adds to a prompt greedily, up to EOS."""
    given = torch.tensor(prompt[None].astype(np.int64))
    out = theirs.generate(
        given, attention_mask=torch.ones_like(given), do_sample=False, pad_token_id=0, **settings
    )
    answer = out[0, len(prompt) :].numpy()
    ends = theirs.generation_config.eos_token_id
    stops = np.flatnonzero(np.isin(answer, ends))
    return answer[: stops[0]] if len(stops) else answer


@pytest.mark.optimised  # a hundred steps and more: they take longer than compiling
@pytest.mark.parametrize(
    ("name", "penalty"),
    [
        ("hf_stories260K", 1.2),
        pytest.param("hf_stories260K", 1.0, marks=pytest.mark.slow),
        pytest.param("hf_babyllama105", 1.0, marks=pytest.mark.slow),
    ],
)
def test_greedy_answers_of_real_checkpoints_are_torchs(data_folder: Path, name: str, penalty: float) -> None:
    folder = data_folder / "checkpoints" / name
    sampler, theirs = Sampler(load_pretrained(folder)), load(folder)
    sampling = Sampling(max_tokens=100, temperature=0, repetition_penalty=penalty)
    prompts = sampler.encode(PROMPTS)
    answers = sampler.generate_tokens(prompts, n=1, sampling=sampling, seed=0)
    assert len({len(prompt) for prompt in prompts}) == 4  # prompts of different lengths in one batch
    for prompt, (answer,) in zip(prompts, answers, strict=True):
        expected = torch_answer(theirs, prompt, max_new_tokens=100, repetition_penalty=penalty)
        np.testing.assert_array_equal(answer, expected)


@pytest.mark.parametrize(
    "case", [case if case in FAMILIES else pytest.param(case, marks=pytest.mark.slow) for case in CASES]
)
def test_greedy_answers_of_every_family_are_torchs(tmp_path: Path, case: str) -> None:
    folder = random_checkpoint(tmp_path, case)
    model, theirs = load_pretrained(folder), load(folder)
    rng = np.random.default_rng(0)
    prompts = [rng.integers(3, VOCABULARY, length).astype(np.int32) for length in (20, 3, WINDOW + 9)]
    answers = Sampler(model).generate_tokens(prompts, n=1, sampling=GREEDY, seed=0)
    assert len(prompts[0]) + GREEDY.max_tokens > WINDOW
    for prompt, (answer,) in zip(prompts, answers, strict=True):
        np.testing.assert_array_equal(answer, torch_answer(theirs, prompt, max_new_tokens=40))
    assert len({tuple(answer) for (answer,) in answers}) == 3


def test_the_story_begins_as_it_should(stories: Model) -> None:
    (text,) = Sampler(stories).generate([""], n=1, sampling=GREEDY, seed=0)[0]
    assert text.startswith("Once upon a time, there was a little girl named Lily. She loved to play")


CONFIG = DecoderConfig(
    vocab_size=17, hidden=24, layers=3, heads=4, kv_heads=2, head_dim=6, mlp=32, initializer_range=0.3
)
LOCAL = dataclasses.replace(
    CONFIG,
    layer_types=(LayerType(4, Rope(theta=100.0)), LayerType(), LayerType(4, None)),
    attention_cap=3.0,
    rope_style="interleaved",
    parallel_block=True,
    qk_norm="width",
    norm="layer",
)


@functools.cache
def random_model(config: DecoderConfig = CONFIG) -> Model:
    return Model(config, jax.jit(functools.partial(init_params, config))(jax.random.key(1)))


@pytest.mark.parametrize("config", [CONFIG, LOCAL])
def test_states_with_a_cache_are_those_without(config: DecoderConfig) -> None:
    rng = np.random.default_rng(0)
    trunk, branches = rng.integers(0, 17, 7), rng.integers(0, 17, (3, 6))
    row = packed([(trunk, list(branches))])
    model = random_model(config)
    fields = [row[name][None] for name in FIELDS]
    whole = jax.jit(Decoder(config).apply)({"params": model.params}, *fields)[0]
    run = jax.jit(Decoder(config, keep=True).apply)
    columns = Columns(*(row[name][None, :7] for name in FIELDS[1:]))
    hidden, new = run({"params": model.params}, trunk[None].astype(np.int32), *columns)
    np.testing.assert_allclose(hidden[0], whole[:7], atol=1e-5)
    cache = new_cache(new, columns, room=3 * 6 + 2)
    for step in range(6):  # one token of each branch at a time
        picked = 7 + 6 * np.arange(3) + step
        fields = [row[name][None, picked] for name in FIELDS]
        hidden, new = run({"params": model.params}, *fields, cache=cache)
        np.testing.assert_allclose(hidden[0], whole[picked], atol=1e-5)
        cache = extended(cache, new, Columns(*fields[1:]), at=jnp.int32(7 + 3 * step))


def test_frequencies_of_two_tokens_are_those_of_the_model() -> None:
    model = random_model()
    prompt = np.array([3, 1, 4, 1, 5], np.int32)
    answers = Sampler(model).generate_tokens(
        [prompt] * 60, n=100, sampling=Sampling(max_tokens=2, temperature=0.8), seed=0
    )
    first = np.asarray(model.apply(prompt[None]))[0, -1] / 0.8
    longer = np.concatenate([np.tile(prompt, (17, 1)), np.arange(17)[:, None]], axis=1)
    second = np.asarray(model.apply(longer))[:, -1] / 0.8
    joint = scipy.special.softmax(np.float64(first))[:, None] * scipy.special.softmax(
        np.float64(second), axis=1
    )
    joint = joint.ravel()
    drawn = np.array([17 * a[0] + a[1] for own in answers for a in own])
    counts, wanted = np.bincount(drawn, minlength=17 * 17), joint * len(drawn)
    common = wanted >= 5
    assert common.sum() > 50
    counts = np.append(counts[common], counts[~common].sum())
    wanted = np.append(wanted[common], wanted[~common].sum())
    assert scipy.stats.chisquare(counts, wanted).pvalue > 1e-3


def test_answers_do_not_depend_on_the_batch(stories: Model) -> None:
    sampling = Sampling(max_tokens=20, top_k=30)
    answers = Sampler(stories).generate(PROMPTS, n=3, sampling=sampling, seed=5)
    assert all(len(set(own)) == 3 for own in answers)
    # One prompt a batch, and one answer of each; a prompt's number is what counts.
    alone = Sampler(stories, columns=1).generate(PROMPTS, n=3, sampling=sampling, seed=5)
    assert alone == answers
    fewer = Sampler(stories).generate([*PROMPTS[:2], "Another one"], n=1, sampling=sampling, seed=5)
    assert fewer[:2] == [own[:1] for own in answers[:2]]
    assert Sampler(stories).generate(PROMPTS, n=3, sampling=sampling, seed=6) != answers
    doubled = Sampler(stories).generate([PROMPTS[0]] * 2, n=1, sampling=sampling, seed=5)
    assert doubled[0] != doubled[1]


def test_stop_texts_cut_what_would_have_been_said(stories: Model) -> None:
    sampling = Sampling(max_tokens=4 * CHUNK, temperature=0.9)
    sampler = Sampler(stories)
    whole = sampler.generate(PROMPTS, n=2, sampling=sampling, seed=0)
    stopping = dataclasses.replace(sampling, stop=(" was", ". She", "ly"))
    answers = sampler.generate(PROMPTS, n=2, sampling=stopping, seed=0)
    for long, short in zip(sum(whole, []), sum(answers, []), strict=True):
        assert short == min((long.partition(stop)[0] for stop in stopping.stop), key=len)
    assert any(long != short for long, short in zip(sum(whole, []), sum(answers, []), strict=True))
    # A stop text that every story has early: the loop ends with the chunk in which it stands.
    early = dataclasses.replace(sampling, stop=("e",))
    tokens = sampler.generate_tokens(sampler.encode(PROMPTS), n=2, sampling=early, seed=0)
    assert max(len(answer) for own in tokens for answer in own) <= CHUNK + 1


def test_an_answer_is_cut_where_neither_an_end_nor_a_stop_text_ended_it(stories: Model) -> None:
    tokenizer = copy.deepcopy(stories.tokenizer)
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(tokenizer.encode("He ran.")[-1])  # the full stop
    sampler = Sampler(dataclasses.replace(stories, tokenizer=tokenizer))
    kinds = set()
    for max_tokens, stop in ((24, ()), (24, (" was",)), (5, (" the", " a"))):
        sampling = Sampling(max_tokens=max_tokens, stop=stop)
        texts = sum(sampler.generate(PROMPTS, n=4, sampling=sampling, seed=0), [])
        whole = sampler.generate_tokens(
            sampler.encode(PROMPTS), n=4, sampling=Sampling(max_tokens=max_tokens), seed=0, ends=True
        )
        for text, tokens in zip(texts, sum(whole, []), strict=True):
            ended = tokens[-1] == tokenizer.eos_token_id
            stopped = any(end in tokenizer.decode(tokens) for end in stop)
            assert isinstance(text, Cut) == (not ended and not stopped)
            kinds.add((ended, stopped))
    assert len(kinds) == 4


def test_answers_go_on_from_the_trunk_that_training_sees(stories: Model, small_model: Path) -> None:
    for model in (stories, load_pretrained(small_model)):
        item = ParallelItem("a", "", {"en": "Once <mask> a"}, {"en": ("upon", "on")})
        trunk = TreeBuilder(model.tokenizer).build([item], ["en"])[0].trunk
        (ours,) = Sampler(model).encode(["Once <mask> a"])
        np.testing.assert_array_equal(ours, trunk)
        assert ours[0] == model.tokenizer.bos_token_id
    long = Sampler(stories, max_length=10).encode(["word " * 30])[0]
    assert len(long) == 10
    assert long[0] == stories.tokenizer.bos_token_id


def test_in_a_chat_the_end_of_a_turn_ends_an_answer(small_model: Path) -> None:
    """Training puts it behind written answers, whatever EOS the model names."""
    model = load_pretrained(small_model)
    turn = model.tokenizer.pad_token_id
    assert turn not in end_tokens(model)
    model.tokenizer.chat_template = (
        "{% for m in messages %}{{ m.content }}" + model.tokenizer.pad_token + "\n{% endfor %}"
    )
    assert turn in end_tokens(model, ChatTemplate(model.tokenizer))


def test_greedy_copies_and_empty_calls(stories: Model) -> None:
    sampler = Sampler(stories)
    (own,) = sampler.generate(PROMPTS[:1], n=3, sampling=Sampling(max_tokens=5, temperature=0), seed=0)
    assert len(own) == 3
    assert len(set(own)) == 1
    assert sampler.generate([], n=3, sampling=GREEDY, seed=0) == []


@pytest.mark.parametrize(
    ("changes", "n", "named"),
    [
        ({"max_tokens": 0}, 1, "max_tokens"),
        ({"temperature": -1.0}, 1, "temperature"),
        ({"top_p": 0.0}, 1, "top_p"),
        ({"top_k": -1}, 1, "top_k"),
        ({"repetition_penalty": 0.0}, 1, "repetition_penalty"),
        ({"stop": ("",)}, 1, "stop"),
        ({"stop": "."}, 1, "stop"),
        ({}, 0, "n="),
    ],
)
def test_what_cannot_be_drawn_is_refused(changes, n, named) -> None:
    with pytest.raises(GenerationError, match=named):
        Sampler(random_model()).generate_tokens(
            [np.ones(2, np.int32)], n=n, sampling=Sampling(**changes), seed=0
        )


def test_a_model_without_a_tokenizer_takes_tokens_only() -> None:
    with pytest.raises(GenerationError, match="tokenizer"):
        Sampler(random_model()).generate(["a"], n=1, sampling=GREEDY, seed=0)
    with pytest.raises(GenerationError, match="stop"):
        Sampler(random_model()).generate_tokens(
            [np.ones(2, np.int32)], n=1, sampling=Sampling(stop=(".",)), seed=0
        )


def test_a_mesh_says_what_one_device_says(data_folder: Path) -> None:
    package = str(Path(consistency_jax.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("sampler_worker.py")), str(data_folder)],
        env=os.environ | simulated(8) | {"PYTHONPATH": package},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    texts = json.loads(done.stdout.splitlines()[-1])
    assert texts["2x2x2"] == texts["1x1x1"]
    assert len({text for own in texts["1x1x1"] for text in own}) == 15
