"""Real instruction models: audits, scores and greedy texts against those of lm-evaluation-harness's own Hugging Face
backend, plain and in the model's chat; and training on written answers.

The models lie in $CONSISTENCY_MODELS as NAME.gguf (`python launch/fetch_model.py NAME` puts them there).
"""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from consistency_jax.config.defaults import default
from consistency_jax.data.preferences import Pair, pairs_text
from consistency_jax.data.sources import load_items
from consistency_jax.evaluation.splits import split_of
from consistency_jax.models.huggingface import Model, load_pretrained, save_pretrained
from consistency_jax.runtime.mesh import mesh_of
from consistency_jax.scoring.scorer import Scorer
from consistency_jax.scoring.tables import score_trees
from consistency_jax.train import train
from consistency_jax.training.run_models import checkpoint_model

pytestmark = [pytest.mark.slow, pytest.mark.optimised]
LANGUAGES = ("en", "es", "ru", "tr")


class Backends(NamedTuple):
    model: Model
    ours: Any
    theirs: Any


@pytest.fixture(scope="module", params=["smollm2", "qwen"])
def backends(request: pytest.FixtureRequest, real_model, tmp_path_factory) -> Backends:
    pytest.importorskip("lm_eval", reason="pip install -e '.[lm-eval]'", exc_type=ImportError)
    model, folder = load_pretrained(real_model(request.param)), tmp_path_factory.mktemp("exported")
    save_pretrained(model, folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lm_eval.models.huggingface import HFLM

        from consistency_jax.harness import HarnessModel
    theirs = HFLM(pretrained=str(folder), device="cpu", batch_size=8, dtype="float32")
    return Backends(model, HarnessModel(path=str(folder)), theirs)


def turns(backend: Any, prompt: str) -> str:
    """A conversation up to the answer to this prompt."""
    return backend.apply_chat_template([{"role": "user", "content": prompt}])


def instances(kind: str, arguments: list[tuple]) -> list[Any]:
    from lm_eval.api.instance import Instance

    return [Instance(kind, {}, own, number) for number, own in enumerate(arguments)]


@pytest.mark.parametrize("chat", [False, True], ids=["plain", "chat"])
def test_200_log_likelihoods_of_an_audit_and_of_the_harness(backends: Backends, chat: bool) -> None:
    model, ours, theirs = backends
    items = load_items("cldr", languages=LANGUAGES)
    items = items.only(items[:: len(items) // 10][:10])
    config = default()
    config.data.source, config.data.languages = "cldr", LANGUAGES
    config.data.chat_template = "tokenizer" if chat else "off"
    split = split_of(config, "every", items, model, "joint")
    scorer = Scorer(model.config, mesh_of(model.params))
    table = score_trees(scorer, model.params, items, LANGUAGES, split.trees)

    asked = [
        (item.prompts[language], answer)
        for item in items
        for language in LANGUAGES
        for answer in item.candidates[language]
    ]
    if chat:
        assert all(turns(ours, prompt) == turns(theirs, prompt) for prompt, _ in asked)
        asked = [(turns(theirs, prompt), answer.strip()) for prompt, answer in asked]
    assert len(asked) == 200
    requests = instances("loglikelihood", asked)
    expected = theirs.loglikelihood(requests)
    found = ours.loglikelihood(requests)
    assert [logp for logp, _ in found] == pytest.approx([logp for logp, _ in expected], abs=1e-3)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    # The harness counts what a context ends in, the line's end of a chat's opening, as a part of the answer.
    opened = [(context.rstrip(), context[len(context.rstrip()) :]) for context, _ in asked]
    ends = theirs.loglikelihood(instances("loglikelihood", opened)) if chat else [(0.0, True)] * 200
    answers = [whole - end for (whole, _), (end, _) in zip(expected, ends, strict=True)]
    assert table.logp.reshape(-1) == pytest.approx(answers, abs=1e-3)


@pytest.mark.parametrize("chat", [False, True], ids=["plain", "chat"])
def test_20_greedy_texts(backends: Backends, chat: bool) -> None:
    items = load_items("cldr", languages=LANGUAGES)
    prompts = [item.prompts[LANGUAGES[n % 4]] for n, item in enumerate(items[:: len(items) // 20][:20])]
    if chat:
        prompts = [turns(backends.theirs, prompt) for prompt in prompts]
    options = {"until": ["\n\n"], "max_gen_toks": 24, "do_sample": False}
    requests = instances("generate_until", [(prompt, options) for prompt in prompts])
    assert len(requests) == 20
    assert backends.ours.generate_until(requests) == backends.theirs.generate_until(requests)


WRITTEN = {
    "en": (("What is the capital of Kenya?", "It is Nairobi."), ("What do bees make?", "Bees make honey.")),
    "es": (
        ("¿Cuál es la capital de Kenia?", "Es Nairobi."),
        ("¿Qué hacen las abejas?", "Las abejas hacen miel."),
    ),
    "fr": (
        ("Quelle est la capitale du Kenya ?", "C'est Nairobi."),
        ("Que font les abeilles ?", "Les abeilles font du miel."),
    ),
    "de": (
        ("Was ist die Hauptstadt von Kenia?", "Es ist Nairobi."),
        ("Was machen Bienen?", "Bienen machen Honig."),
    ),
}


def test_written_answers_are_ended_after_training_on_eight(tmp_path: Path, monkeypatch, real_model) -> None:
    """P(end of turn) behind each answer of SFT's training set."""
    monkeypatch.setenv("CONSISTENCY_CACHE", str(tmp_path / "cache"))
    base = load_pretrained(real_model("smollm2"))
    pairs = [
        Pair(f"{language}{n}", language, question, answer, "I do not know.")
        for language, known in WRITTEN.items()
        for n, (question, answer) in enumerate(known)
    ]
    (tmp_path / "pairs.jsonl").write_text(pairs_text(pairs))
    config = default()
    config.update_from_flattened_dict(
        {
            "model.path": str(real_model("smollm2")),
            "data.source": "cldr",
            "data.languages": tuple(WRITTEN),
            "data.test_items": 2,
            "data.chat_template": "tokenizer",
            "data.train.pairs": str(tmp_path / "pairs.jsonl"),
            "objective.name": "sft",
            "batching.items": 4,
            "optimizer.learning_rate": 2e-5,
            "total_steps": 40,
            "evaluation.bootstrap": 20,
        }
    )
    train(config, tmp_path / "run")
    model, rises = checkpoint_model(config, tmp_path / "run", 40, base), []
    for pair in pairs:
        chat = [{"role": "user", "content": pair.prompt}, {"role": "assistant", "content": pair.chosen}]
        text = model.tokenizer.apply_chat_template(chat, tokenize=False)
        ids = model.tokenizer(text[: text.rindex("<|im_end|>")], add_special_tokens=False)["input_ids"]
        end = model.tokenizer.convert_tokens_to_ids("<|im_end|>")
        before, after = (jax.nn.softmax(own.apply([ids])[0, -1])[end] for own in (base, model))
        assert after > 0.5, pair
        rises.append(float(jnp.log(after) - jnp.log(before)))
    assert np.mean(rises) > 0, rises
