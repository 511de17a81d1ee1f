"""Model folders, broken: one clear error, or the same model; never a traceback, and no other model without a word.

What is accepted is harmless by a rule: the parameters are finite and of the shapes that the decoder has, the tokenizer
gives only tokens that have a row, and where no byte of a tensor was changed, every parameter is what it was.
"""

import json
import random
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from mutations import Outcomes, broken_bytes, broken_json

from consistency_jax.models.decoder import abstract_params
from consistency_jax.models.huggingface import Model, load_pretrained

pytestmark = [
    pytest.mark.slow,
    # of transformers, about what it makes of a tokenizer's settings
    pytest.mark.filterwarnings("ignore"),
]
TEXTS = ("The capital of France is Paris.", "Столица \n Франции", "巴黎 <s> x", "")


def check(outcomes: Outcomes, label: str, folder: Path, plain: Model | None) -> None:
    """Loads the folder; `plain`: the model whose parameters a model that loads must have, None where bytes of tensors
    may be others."""
    model = outcomes.of(label, lambda: load_pretrained(folder))
    if not isinstance(model, Model):
        return
    shapes = jax.tree.map(lambda leaf: leaf.shape, abstract_params(model.config))
    assert jax.tree.map(np.shape, model.params) == shapes, label
    for path, leaf in jax.tree_util.tree_leaves_with_path(model.params):
        assert np.isfinite(leaf).all(), (label, path)
    if plain is not None:
        jax.tree.map(np.testing.assert_array_equal, model.params, plain.params)
    if model.tokenizer is not None:
        for text in TEXTS:
            ids = model.tokenizer(text).input_ids
            assert all(0 <= each < model.config.vocab_size for each in ids), (label, text, ids)


@pytest.fixture
def folder(small_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_model, tmp_path / "model"))


@pytest.mark.parametrize(
    ("name", "count"), [("config.json", 150), ("tokenizer.json", 120), ("tokenizer_config.json", 100)]
)
def test_settings(name: str, count: int, folder: Path, small_model: Path) -> None:
    plain, outcomes, draw = load_pretrained(small_model), Outcomes(), random.Random(name)
    file = folder / name
    whole = file.read_bytes()
    value = json.loads(whole)
    if name == "tokenizer.json":  # most of its nodes are one vocabulary's
        value["model"]["vocab"] = dict(list(value["model"]["vocab"].items())[:300])
        value["model"]["merges"] = []
        assert value["added_tokens"]
    for number in range(count):
        if number % 3:
            file.write_text(json.dumps(broken_json(value, draw)))
        else:
            file.write_bytes(broken_bytes(whole, draw))
        check(outcomes, f"{name} {number}", folder, plain)
    assert outcomes.counts["error"] > count // 10


def test_weights(folder: Path, small_model: Path) -> None:
    plain, outcomes, draw = load_pretrained(small_model), Outcomes(), random.Random(3)
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    size = 8 + int.from_bytes(whole[:8], "little")
    for number in range(120):
        head, data = whole[:size], whole[size:]
        if number % 3 == 0:
            file.write_bytes(broken_bytes(head, draw) + data)
        elif number % 3 == 1:
            header = broken_json(json.loads(head[8:]), draw)
            text = json.dumps(header).encode()
            file.write_bytes(len(text).to_bytes(8, "little") + text + data)
        else:
            file.write_bytes(head + broken_bytes(data, draw))
        check(outcomes, f"weights {number}", folder, plain if number % 3 == 0 else None)
    assert outcomes.counts["error"] > 40


def test_files_that_are_others(folder: Path) -> None:
    outcomes, draw = Outcomes(), random.Random(4)
    names = sorted(path.name for path in folder.iterdir())
    kept = {name: (folder / name).read_bytes() for name in names}
    for number in range(60):
        name, other = draw.choice(names), draw.choice(names)
        (folder / name).unlink()
        how = number % 4
        if how == 0:
            (folder / name).mkdir()
        elif how == 1:
            (folder / name).write_bytes(kept[other])
        elif how == 2:
            (folder / name).symlink_to(folder / "nowhere")
        check(outcomes, f"{name} is {('a folder', other, 'a dead link', 'gone')[how]}", folder, None)
        if (folder / name).is_dir():
            (folder / name).rmdir()
        else:
            (folder / name).unlink(missing_ok=True)
        (folder / name).write_bytes(kept[name])
    assert outcomes.counts["error"] > 15
