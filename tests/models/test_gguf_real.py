"""Real GGUF files against transformers' own reading of them: tokens, logits and greedy text.

They lie in $CONSISTENCY_MODELS as NAME.gguf (`python launch/fetch_model.py NAME` puts them there).
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_tokenizers import ODD, texts

from consistency_jax.data.items import ParallelItem
from consistency_jax.data.trees.builder import TreeBuilder
from consistency_jax.data.trees.chat import ChatTemplate
from consistency_jax.generation import Sampling
from consistency_jax.generation.sampler import Sampler
from consistency_jax.models.huggingface import Model, load_pretrained, save_pretrained

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.slow

PROMPTS = ["The capital of France is", "La capitale de l'Allemagne est", "Berlin ist die Hauptstadt von"]


@pytest.fixture(scope="module", params=["gemma", "smollm2", "qwen"])
def pair(
    request: pytest.FixtureRequest, real_model: Callable[[str], Path]
) -> tuple[Path, Model, torch.nn.Module]:
    """A file, and what it is to us and to transformers."""
    path = real_model(request.param)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    )
    return path, load_pretrained(path), theirs.eval()


def test_tokens_are_transformers(pair: tuple[Path, Model, torch.nn.Module], data_folder: Path) -> None:
    path, model, _ = pair
    theirs = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    sample = texts(data_folder, every=10)[
        : -len(ODD)
    ]  # odd texts are sentencepiece's and llama.cpp's own affair
    if path.stem == "smollm2":  # transformers does not know its rule, every digit apart, which llama.cpp has
        sample = [text for text in sample if not any(map(str.isnumeric, text))]
    ours = model.tokenizer(sample, add_special_tokens=False)["input_ids"]
    expected = theirs(sample, add_special_tokens=False)["input_ids"]
    differing = [text for text, one, other in zip(sample, ours, expected, strict=True) if one != other]
    assert not differing, f"{len(differing)} of {len(sample)}: {differing[:5]}"
    assert model.tokenizer("a")["input_ids"] == theirs("a")["input_ids"]  # BOS where the file says so


def test_trees_of_texts_and_of_chats_are_transformers_tokens(
    pair: tuple[Path, Model, torch.nn.Module],
) -> None:
    """What its own call puts in front of a text, and the whole conversation, whose turns BOS may open."""
    path, model, _ = pair
    theirs = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    item = ParallelItem("q", "", {"en": "What is the capital of France?"}, {"en": (" Paris",)}, written=True)
    (tree,) = TreeBuilder(model.tokenizer, boundary="joint").build([item])
    whole = theirs(item.prompts["en"] + " Paris")["input_ids"]
    assert np.r_[tree.trunk, tree.branches[0]].tolist() == whole
    if theirs.chat_template is None:
        return
    chat = [{"role": "user", "content": item.prompts["en"]}]
    builder = TreeBuilder(model.tokenizer, chat=ChatTemplate(model.tokenizer), end="written")
    (tree,) = builder.build([item])
    asked = theirs.apply_chat_template(chat, tokenize=True, add_generation_prompt=True)["input_ids"]
    assert tree.trunk.tolist() == asked
    said = theirs.apply_chat_template(
        [*chat, {"role": "assistant", "content": "Paris"}], tokenize=True, add_generation_prompt=False
    )["input_ids"]
    turn = np.r_[tree.trunk, tree.branches[0]].tolist()
    assert turn == said[: len(turn)]
    assert turn[-1] == theirs.eos_token_id


def test_logits_are_torchs(
    pair: tuple[Path, Model, torch.nn.Module], data_folder: Path, tmp_path: Path
) -> None:
    _, model, theirs = pair
    ids = model.tokenizer("\n".join(texts(data_folder, every=100)[::40]))["input_ids"][:500]
    with torch.no_grad():
        expected = theirs(torch.tensor([ids])).logits.numpy()
    np.testing.assert_allclose(model.apply([ids]), expected, atol=1e-3)
    save_pretrained(model, tmp_path)
    del expected
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    for (name, one), (other_name, other) in zip(
        theirs.named_parameters(), again.named_parameters(), strict=True
    ):
        assert name == other_name
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)


def test_greedy_text_is_torchs(pair: tuple[Path, Model, torch.nn.Module]) -> None:
    _, model, theirs = pair
    answers = Sampler(model).generate(PROMPTS, n=1, sampling=Sampling(max_tokens=40, temperature=0.0), seed=0)
    for prompt, said in zip(PROMPTS, answers, strict=True):
        ids = model.tokenizer(prompt, return_tensors="pt")
        with torch.no_grad():
            whole = theirs.generate(**ids, max_new_tokens=40, do_sample=False)[0, ids["input_ids"].shape[1] :]
        assert said[0] == model.tokenizer.decode(whole, skip_special_tokens=True)
