"""Behind lm-evaluation-harness a model scores and writes what the harness's own Hugging Face backend does."""

import json
import math
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import transformers

from consistency_jax.data.items import ParallelItem
from consistency_jax.data.sources import load_items
from consistency_jax.errors import ConfigError
from consistency_jax.generation import GenerationError, Sampling
from consistency_jax.models.huggingface import load_pretrained
from consistency_jax.models.tokenizers import load_tokenizer
from consistency_jax.scoring.tables import score

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
TASK = """
task: capitals_and_more
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{prompt}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: gold
target_delimiter: ""
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""


class Harness(NamedTuple):
    """The harness's modules, and the same checkpoint behind our backend and its own."""

    module: Any
    ours: Any
    theirs: Any
    folder: Path


def test_without_the_harness_its_command_is_one_line(tmp_path):
    code = """
import runpy, sys

class Absent:
    def find_spec(self, name, *rest):
        if name == "lm_eval":
            raise ModuleNotFoundError(name=name)

sys.meta_path.insert(0, Absent())
runpy.run_module({!r}, run_name={!r})
"""
    name = "consistency_jax.harness"
    told = "lm-evaluation-harness is not installed: pip install -e '.[lm-eval]'\n"
    for run_name in ("__main__", name):
        command = [sys.executable, "-c", code.format(name, run_name), "--help"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 1
        if run_name == "__main__":
            assert done.stderr == f"error: {told}"
        else:
            assert done.stderr.endswith(f"ImportError: {told}")


@pytest.fixture(scope="module", params=["hf_stories260K", "random", "random, BOS named and not put"])
def harness(request, data_folder, small_model, tmp_path_factory) -> Harness:
    pytest.importorskip("lm_eval", reason="pip install -e '.[lm-eval]'", exc_type=ImportError)
    stories = request.param == "hf_stories260K"
    source = data_folder / "checkpoints" / request.param if stories else small_model
    folder = tmp_path_factory.mktemp("harness")
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(source / name, folder / name)
    tokenizer = load_tokenizer(source)
    # Both backends read one tokenizer file, which says what stands in front.
    if request.param.endswith("not put"):
        tokenizer.add_bos_token = False
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lm_eval
        import lm_eval.tasks
        from lm_eval.models.huggingface import HFLM

        from consistency_jax.harness import HarnessModel
    theirs = HFLM(pretrained=str(folder), device="cpu", batch_size=8, dtype="float32")
    return Harness(lm_eval, HarnessModel(path=str(folder)), theirs, folder)


@pytest.fixture(scope="module")
def questions(data_folder) -> list[dict[str, Any]]:
    """Forty English questions of BMLAMA-17, the mask left out with what follows it."""
    items = load_items("bmlama17", path=data_folder / "bmlama17", languages=["en"])[::170]
    return [
        {
            "prompt": item.prompts["en"].partition("<mask>")[0].rstrip() or "It is said that",
            "choices": [f" {answer}" for answer in item.candidates["en"]],
            "gold": item.gold,
        }
        for item in items
    ]


def instances(kind: str, arguments: list[tuple]) -> list[Any]:
    from lm_eval.api.instance import Instance

    return [Instance(kind, {}, own, number) for number, own in enumerate(arguments)]


def test_log_likelihoods_are_those_of_the_hugging_face_backend(harness, questions):
    pairs = [(q["prompt"], choice) for q in questions for choice in q["choices"]]
    pairs += [
        ("", " Once upon a time"),
        ("Once upon a time, ", "there was a girl"),
        ("One day", " the"),
        ("One day", " the"),
    ]
    requests = instances("loglikelihood", pairs)
    ours, theirs = harness.ours.loglikelihood(requests), harness.theirs.loglikelihood(requests)
    # float32 on both sides, summed in another order
    assert [logp for logp, _ in ours] == pytest.approx([logp for logp, _ in theirs], abs=1e-3, rel=1e-5)
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]


def test_the_greedy_continuation_is_told(harness):
    request = instances("generate_until", [("Once upon a time", {"until": [], "max_gen_toks": 3})])
    (text,) = harness.theirs.generate_until(request)
    pairs = instances("loglikelihood", [("Once upon a time", text), ("Once upon a time", "\u00a7")])
    (_, greedy), (_, other) = harness.ours.loglikelihood(pairs)
    assert [greedy, other] == [own for _, own in harness.theirs.loglikelihood(pairs)]
    assert not other


def test_a_token_that_spans_context_and_answer_is_scored(harness, capfd):
    """Where it leaves no other, the harness's own backend ends the job; here the token counts, as in `score`. A job
    goes on, too, behind an answer without a token, and behind one that is longer than the model takes."""
    ours = harness.ours
    context, answer = next(
        (text[:-1], text[-1])
        for text in ("Once upon a time", "The capital of", "One day", "Madrid")
        if len(ours.tok_encode(text)) <= len(ours.tok_encode(text[:-1]))
    )
    long = "capital of " * ours.max_length
    pairs = [("One day", " the"), (context, answer), ("One day", ""), ("One day", long), ("One day", " the")]
    found = ours.loglikelihood(instances("loglikelihood", pairs))
    assert found[0] == found[4]
    assert found[2:4] == [(0.0, True), (-math.inf, False)]
    told = capfd.readouterr().err
    assert "request 2 ('One day' + '') is left out: its continuation has no token" in told
    assert "request 3 (" in told
    item = ParallelItem("x", "", {"en": context}, {"en": (answer,)})
    table = score(load_pretrained(harness.folder), [item])
    assert found[1][0] == pytest.approx(float(table.logp[0, 0, 0]), abs=1e-4)
    assert found[1][0] < 0


@pytest.fixture(scope="module")
def odd(small_model, tmp_path_factory) -> Any:
    """Our backend with a tokenizer that knows a token more than the embedding has rows, and a template that takes no
    system prompt."""
    pytest.importorskip("lm_eval", reason="pip install -e '.[lm-eval]'", exc_type=ImportError)
    from consistency_jax.harness import HarnessModel

    folder = tmp_path_factory.mktemp("odd")
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(small_model / name, folder / name)
    tokenizer = load_tokenizer(small_model)
    rows = json.loads((folder / "config.json").read_text())["vocab_size"]
    while len(tokenizer) <= rows:
        tokenizer.add_special_tokens({"additional_special_tokens": [f"<image{len(tokenizer)}>"]}, False)
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "{{ m.content }}{% endfor %}"
    )
    tokenizer.save_pretrained(folder)
    return HarnessModel(path=str(folder)), f"<image{len(tokenizer) - 1}>"


def test_a_token_without_a_row_costs_its_own_request_alone(odd, capfd):
    """An index beyond an embedding reads another row, without a word, in XLA."""
    ours, token = odd
    pairs = [("One day", " the"), (f"One {token} day", " the"), ("One day", f" {token}"), ("One day", " the")]
    found = ours.loglikelihood(instances("loglikelihood", pairs))
    alone = ours.loglikelihood(instances("loglikelihood", pairs[:1]))
    assert found == [*alone, (-math.inf, False), (-math.inf, False), *alone]
    assert capfd.readouterr().err.count("the model's embedding has rows 0 to") == 2
    options = {"until": ["."], "max_gen_toks": 8}
    asked = [("One day", options), (f"One {token} day", options), ("One day", options)]
    texts = ours.generate_until(instances("generate_until", asked))
    assert texts[0] == texts[2] != ""
    assert texts[1] == ""
    assert "request 1 (" in capfd.readouterr().err
    with pytest.raises(GenerationError, match="the model's embedding has rows 0 to"):
        ours._sampler.generate_tokens([np.array([400])], n=1, sampling=Sampling(max_tokens=2), seed=0)


def test_requests_without_a_context_are_scored_in_trees_of_a_size_that_fits(odd, monkeypatch):
    """Hundreds of sentences behind nothing but BOS are no tree of hundreds of branches."""
    ours, _ = odd
    texts = [f"One day {name} saw {n}." for n in range(40) for name in ("Ann", "Ben", "Tim")]
    asked = instances("loglikelihood", [("", text) for text in texts])
    sizes, scorer = [], ours._scorer

    def noted(params, trees, **options):
        sizes.extend((trees.length.sum() if len(trees) == 1 else 0, options["candidates"], len(trees)))
        return scorer(params, trees, **options)

    monkeypatch.setattr(ours, "_scorer", noted)
    found = ours.loglikelihood(asked)
    monkeypatch.setattr(ours, "_tokens", 1)
    alone = ours.loglikelihood(asked)
    assert sizes[2] < 10 < sizes[1] < len(texts)
    assert sizes[4:] == [1, len(texts)]
    np.testing.assert_allclose([logp for logp, _ in found], [logp for logp, _ in alone], rtol=1e-4)


def test_one_odd_request_does_not_end_a_job(odd, capfd):
    ours, _ = odd
    pairs = [("", ""), ("One day", " the"), ("One \ud800 day", " the"), ("", " the")]
    found = ours.loglikelihood(instances("loglikelihood", pairs))
    assert found[0] == (0.0, True)
    assert found[1] == ours.loglikelihood(instances("loglikelihood", pairs[1:2]))[0]
    assert all(math.isfinite(logp) for logp, _ in found)
    told = capfd.readouterr().err
    assert "request 0 ('' + '') is left out: its continuation has no token" in told
    assert "harness: a text holds half a character, read as U+FFFD: 'One \ufffd day'" in told
    options = {
        "max_gen_toks": 2,
        "do_sample": True,
        "temperature": 1.0,
        "top_k": None,
        "num_beams": 5,
        "until": [],
    }
    asked = instances(
        "generate_until", [("One day", options), ("", options), ("Once", options | {"num_beams": 1})]
    )
    assert len(ours.generate_until(asked)) == 3
    assert capfd.readouterr().err.count("gen_kwargs num_beams=5 does nothing here") == 1
    with pytest.raises(ConfigError, match="gen_kwargs .*'until': .1."):
        ours.generate_until(instances("generate_until", [("One day", {"until": [1]})]))


def test_arguments_that_cannot_be_are_named(odd):
    module = type(odd[0])
    for given, message in (
        ({"pretrained": "x"}, "--model_args has pretrained; this model takes path=FOLDER"),
        ({}, "--model_args has no path"),
        ({"path": "x", "max_length": -1}, "--model_args max_length=-1 is no whole number from 0 on"),
        ({"path": "x", "tokens": 0}, "--model_args tokens=0 is no whole number from 1 on"),
        ({"path": "x", "seed": None}, "--model_args seed=None"),
    ):
        with pytest.raises(ConfigError, match=message):
            module(**given)


def test_a_tokenizer_without_ends_needs_none(small_model, tmp_path):
    pytest.importorskip("lm_eval", reason="pip install -e '.[lm-eval]'", exc_type=ImportError)
    from consistency_jax.harness import HarnessModel

    shutil.copytree(small_model, tmp_path / "m")
    tokenizer = load_tokenizer(tmp_path / "m")
    tokenizer.add_bos_token, tokenizer.bos_token, tokenizer.eos_token = False, None, None
    tokenizer.save_pretrained(tmp_path / "m")
    ours = HarnessModel(path=str(tmp_path / "m"))
    ((logp, _),) = ours.loglikelihood(instances("loglikelihood", [("The capital is", " Paris")]))
    assert logp < 0
    assert len(ours.generate_until(instances("generate_until", [("One day", {"max_gen_toks": 2})]))[0]) > 0
    with pytest.raises(ConfigError, match="a request has no context, and the tokenizer no BOS and no EOS"):
        ours.loglikelihood(instances("loglikelihood", [("", " Paris")]))


def test_what_cannot_be_asked_is_said_before_any_answer_is_written(odd):
    ours, _ = odd
    asked = [("One day", {"max_gen_toks": tokens}) for tokens in (8, ours.max_length)]
    with pytest.raises(ConfigError, match=f"max_gen_toks={ours.max_length} leaves no room"):
        ours.generate_until(instances("generate_until", asked))
    user = {"role": "user", "content": "Where?"}
    assert ours.apply_chat_template([user]) == "Where?"
    with pytest.raises(ConfigError, match=r"fails over the turns system, user .*no system role"):
        ours.apply_chat_template([{"role": "system", "content": "Be kind."}, user])


def test_long_texts_roll(harness):
    texts = ["Once upon a time, there was a little girl named Lily. She loved to play outside." * 3, "A", ""]
    requests = instances("loglikelihood_rolling", [(text,) for text in texts])
    before = harness.ours.max_length, harness.theirs._max_length
    harness.ours.max_length = harness.theirs._max_length = 24
    ours, theirs = (
        harness.ours.loglikelihood_rolling(requests),
        harness.theirs.loglikelihood_rolling(requests),
    )
    harness.ours.max_length, harness.theirs._max_length = before
    assert ours == pytest.approx(theirs, abs=1e-3, rel=1e-5)
    assert ours[0] < -24


def test_greedy_texts_are_those_of_the_hugging_face_backend(harness):
    options = {"until": ["."], "max_gen_toks": 24, "do_sample": False}
    prompts = ["Once upon a time", "One day, a little boy", "The sun"]
    requests = instances("generate_until", [(prompt, options) for prompt in prompts])
    assert harness.ours.generate_until(requests) == harness.theirs.generate_until(requests)


def test_a_penalty_that_the_authors_of_a_model_name_counts_as_in_the_hugging_face_backend(
    harness, tmp_path, monkeypatch
):
    folder = shutil.copytree(harness.folder, tmp_path / "model")
    path = folder / "generation_config.json"
    named = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(named | {"repetition_penalty": 1.6}))
    monkeypatch.setattr(harness.theirs.model.generation_config, "repetition_penalty", 1.6)
    options = {"until": [], "max_gen_toks": 24}
    prompts = ["Once upon a time", "One day, a little boy", "The sun"]
    requests = instances("generate_until", [(prompt, options) for prompt in prompts])
    texts = type(harness.ours)(path=str(folder)).generate_until(requests)
    assert texts == harness.theirs.generate_until(requests)
    assert texts != harness.ours.generate_until(requests)


def test_what_is_drawn_is_one_of_so_many_tokens_as_in_the_hugging_face_backend(harness):
    defaults = transformers.GenerationConfig._get_default_generation_params()
    assert harness.ours._authors["top_k"] == defaults["top_k"] == 50


def test_a_task_has_the_same_figures(harness, questions, tmp_path):
    write_task(tmp_path, questions)
    manager = harness.module.tasks.TaskManager(include_path=str(tmp_path), include_defaults=False)
    found = [
        harness.module.simple_evaluate(
            model=model, tasks=["capitals_and_more"], task_manager=manager, bootstrap_iters=0
        )["results"]["capitals_and_more"]
        for model in (harness.ours, harness.theirs)
    ]
    for name in ("acc,none", "acc_norm,none"):
        assert found[0][name] == found[1][name]
    assert 0 < found[0]["acc,none"] < 1


def test_the_command_line(harness, questions, tmp_path):
    write_task(tmp_path, questions[:4])
    arguments = ["run", "--model", "consistency_jax", "--model_args", f"path={harness.folder}"]
    arguments += [
        "--tasks",
        "capitals_and_more",
        "--include_path",
        str(tmp_path),
        "--output_path",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "consistency_jax.harness", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (file,) = (tmp_path / "out").rglob("results*.json")
    assert "acc,none" in json.loads(file.read_text())["results"]["capitals_and_more"]


def write_task(folder: Path, questions: list[dict[str, Any]]) -> None:
    file = folder / "questions.jsonl"
    file.write_text("".join(json.dumps(question) + "\n" for question in questions))
    (folder / "task.yaml").write_text(TASK.format(file=file))
