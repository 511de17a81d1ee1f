"""Trees cached on disk: found again for the same input alone, and equal to those that are made anew."""

import copy
import dataclasses
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from consistency_jax.data.items import ParallelItem
from consistency_jax.data.sources import load_items
from consistency_jax.data.trees import builder as module
from consistency_jax.data.trees.builder import BadCells, TreeBuilder, cached_trees
from consistency_jax.data.trees.chat import ChatTemplate
from consistency_jax.data.trees.forest import Forest
from consistency_jax.data.trees.texts import Texts
from consistency_jax.evaluation.splits import split_of
from consistency_jax.models.huggingface import load_pretrained
from consistency_jax.models.tokenizers import load_tokenizer

ROOT = Path(__file__).resolve().parents[3]
TEMPLATE = "{{ bos_token }}{% for m in messages %}{{ m.role + ': ' + m.content + ' ' }}{% endfor %}"
LANGUAGES = ("en", "ru")
ITEMS = [
    ParallelItem(
        f"q{n}",
        "geography",
        {"en": f"The capital of place {n} is", "ru": f"Столица места {n} :"} if n else {"en": "It is"},
        {"en": (" Paris", " Rome"), "ru": (" Париж", " Рим")} if n else {"en": (" a", " b")},
        gold=n % 2,
        context={"en": "Of places."} if n == 2 else None,
    )
    for n in range(4)
]


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """The folder of cached trees; sets of any size are stored there."""
    monkeypatch.setenv("CONSISTENCY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "LEAST", 0)
    return tmp_path / "cache" / "trees"


@pytest.fixture
def tokenized(monkeypatch) -> list[int]:
    """One entry for each time that texts are tokenised for trees."""
    calls, encode = [], Texts.encode

    def counting(*args):
        calls.append(1)
        return encode(*args)

    monkeypatch.setattr(Texts, "encode", counting)
    return calls


def assert_equal(one: Forest, other: Forest) -> None:
    for field in dataclasses.fields(Forest):
        first, second = getattr(one, field.name), getattr(other, field.name)
        assert first.dtype == second.dtype
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("boundary", ["separate", "joint"])
def test_a_second_build_is_the_first_and_does_not_tokenize(cache, tokenized, small_tokenizer, boundary):
    expected = TreeBuilder(small_tokenizer, boundary=boundary).build(ITEMS, LANGUAGES)
    assert expected[1] is None
    assert len(tokenized) == 1
    for calls in (2, 2, 2):
        builder = TreeBuilder(copy.deepcopy(small_tokenizer), boundary=boundary)
        assert_equal(cached_trees(builder, ITEMS, LANGUAGES), expected)
        assert len(tokenized) == calls


def test_any_other_input_is_another_key(cache, tokenized, small_tokenizer, tmp_path):
    folder, seen = str(tmp_path / "tokenizer"), 0

    def saved(change) -> TreeBuilder:
        """A builder with a tokenizer that is read from one and the same folder each time."""
        tokenizer = copy.deepcopy(small_tokenizer)
        change(tokenizer)
        tokenizer.save_pretrained(folder)
        return TreeBuilder(load_tokenizer(folder))

    def chat(system: str = "", template: str = TEMPLATE) -> TreeBuilder:
        tokenizer = copy.deepcopy(small_tokenizer)
        tokenizer.chat_template = template
        return TreeBuilder(tokenizer, chat=ChatTemplate(tokenizer, system))

    def other(**fields) -> list[ParallelItem]:
        """The items with a change of the third, which has a context."""
        return [*ITEMS[:2], dataclasses.replace(ITEMS[2], **fields), *ITEMS[3:]]

    def check(builder: TreeBuilder, items=ITEMS, languages=LANGUAGES) -> None:
        nonlocal seen
        seen += 1
        for _ in range(2):
            assert_equal(cached_trees(builder, items, languages), builder.build(items, languages))
            assert len(list(cache.iterdir())) == seen
        assert len(tokenized) == 3 * seen

    plain = TreeBuilder(small_tokenizer)
    check(plain)
    for settings in ({"boundary": "joint"}, {"max_length": 12}):
        check(TreeBuilder(small_tokenizer, **settings))
    for change in (
        lambda tokenizer: tokenizer.add_tokens(["capital"]),
        lambda tokenizer: setattr(tokenizer, "bos_token", None),
        lambda tokenizer: setattr(tokenizer, "bos_token", "<pad>"),
    ):
        check(saved(change))
    check(chat())
    check(chat("Be brief."))
    check(chat(template=TEMPLATE.replace(": ", "; ")))
    check(plain, languages=("ru", "en"))
    check(plain, languages=("en",))
    check(plain, ITEMS[:3])
    check(plain, [ITEMS[1], ITEMS[0], *ITEMS[2:]])
    two = ITEMS[2]
    for items in (
        other(id="other"),
        other(prompts=two.prompts | {"ru": "Столица :"}),
        other(candidates=two.candidates | {"en": (" Rome", " Paris")}),
        other(candidates=two.candidates | {"en": (" Paris ", "Rome")}),
        other(context=None),
        other(context={"ru": "Of places."}),
    ):
        check(plain, items)
    # What is no part of a tree is no part of its key; nor are settings that a call leaves behind.
    calls = len(tokenized)
    padded = copy.deepcopy(small_tokenizer)
    padded(["a", "longer text"], padding=True, truncation=True, max_length=2)
    for builder, items in ((plain, other(gold=None, group="")), (TreeBuilder(padded), ITEMS)):
        assert_equal(cached_trees(builder, items, LANGUAGES), cached_trees(plain, ITEMS, LANGUAGES))
    assert len(tokenized) == calls


def test_a_damaged_file_is_made_anew(cache, tokenized, small_tokenizer):
    builder = TreeBuilder(small_tokenizer)
    expected = cached_trees(builder, ITEMS, LANGUAGES)
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    token = whole.index(expected.token.tobytes())
    flipped = whole[:token] + bytes([whole[token] ^ 1]) + whole[token + 1 :]
    for calls, damaged in enumerate((b"", whole[:100], whole[:-1], flipped, b"other"), 2):
        file.write_bytes(damaged)
        for _ in range(2):
            assert_equal(cached_trees(builder, ITEMS, LANGUAGES), expected)
        assert len(tokenized) == calls
        assert file.read_bytes() == whole
    np.savez(file, token=expected.token)
    assert_equal(cached_trees(builder, ITEMS, LANGUAGES), expected)
    assert list(cache.iterdir()) == [file]


def test_cells_without_a_tree_are_known_again(cache, tokenized, small_tokenizer):
    builder = TreeBuilder(small_tokenizer, max_length=16)
    bad = {(1, "ru"), (2, "en"), (2, "ru")}

    def problems(where: str, languages=LANGUAGES) -> dict[tuple[int, str], str]:
        items = list(ITEMS)
        for n, language in bad:
            long = dict(items[n].candidates) | {language: (" Rome" * 20, " Paris")}
            items[n] = dataclasses.replace(items[n], candidates=long, where=f"{where}:{n}")
        with pytest.raises(BadCells) as caught:
            cached_trees(builder, items, languages)
        names = {(n // len(languages), languages[n % len(languages)]): n for n in caught.value.problems}
        return {name: caught.value.problems[n] for name, n in names.items()}

    first = problems("a.jsonl")
    assert set(first) == bad
    texts = len(tokenized)
    assert problems("b.jsonl") == {n: told.replace("a.jsonl", "b.jsonl") for n, told in first.items()}
    assert len(tokenized) == texts + 1  # those cells alone
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-9])
    assert problems("a.jsonl") == first
    assert file.read_bytes() == whole
    for _ in range(2):
        assert problems("a.jsonl", LANGUAGES[::-1]) == first


def test_two_runs_may_write_at_once(cache, small_tokenizer):
    def build(_: int) -> Forest:
        return cached_trees(TreeBuilder(copy.deepcopy(small_tokenizer)), ITEMS * 50, LANGUAGES)

    with ThreadPoolExecutor(8) as pool:
        first, *others = pool.map(build, range(8))
    for forest in others:
        assert_equal(forest, first)
    (file,) = cache.iterdir()
    assert_equal(Forest.load(file), first)


def test_small_sets_are_not_kept(cache, tokenized, small_tokenizer, monkeypatch):
    monkeypatch.setattr(module, "LEAST", 4_000_000)
    for _ in range(2):
        cached_trees(TreeBuilder(small_tokenizer), ITEMS, LANGUAGES)
    assert len(tokenized) == 2
    assert not cache.exists()


def test_splits_of_a_run_are_kept(cache, tokenized, small_config, small_model):
    """Train, evaluate, audit and pairs all make their trees by `split_of`."""
    items = load_items("jsonl", path=small_config.data.path)
    for _ in range(2):
        split = split_of(small_config, "test", items, load_pretrained(small_model), "joint")
    assert len(tokenized) == 1
    assert len(split.trees) == len(items) * len(split.languages)


WORKER = """
import os, sys
from pathlib import Path
from consistency_jax.runtime.processes import initialize
from consistency_jax.errors import ConfigError
initialize()
sys.path.insert(0, {tests!r})
import test_cached as tests
tests.module.LEAST = 0
number, folder = os.environ["JAX_PROCESS_ID"], Path({folder!r})
os.environ["CONSISTENCY_CACHE"] = str(folder / number)
calls, build = [], tests.TreeBuilder.build
def counting(*args):
    calls.append(1)
    return build(*args)
tests.TreeBuilder.build = counting
for _ in range(2):
    forest = tests.cached_trees(tests.TreeBuilder(tests.load_tokenizer({model!r})), tests.ITEMS, tests.LANGUAGES)
forest.save(folder / f"{{number}}.npz")
other = tests.ITEMS[int(number) :]
try:
    tests.cached_trees(tests.TreeBuilder(tests.load_tokenizer({model!r})), other, tests.LANGUAGES)
except ConfigError as error:
    (folder / f"{{number}}.txt").write_text(f"{{len(calls)}} {{error}}")
"""


@pytest.mark.slow
def test_several_processes_take_what_the_first_finds(small_model, small_tokenizer, tmp_path):
    """Two real processes with caches of their own: both make the trees once, and only the first keeps them."""
    script = tmp_path / "worker.py"
    script.write_text(
        WORKER.format(tests=str(Path(__file__).parent), folder=str(tmp_path), model=str(small_model))
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("XLA", "SLURM"))}
    done = subprocess.run(
        [str(ROOT / "launch" / "local.sh"), "-n", "2", "--devices=1", "--", "python", str(script)],
        env=environment
        | {"PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    expected = TreeBuilder(small_tokenizer).build(ITEMS, LANGUAGES)
    for number in "01":
        assert_equal(Forest.load(tmp_path / f"{number}.npz"), expected)
        said = (tmp_path / f"{number}.txt").read_text()
        assert said.startswith(
            "1 tokenizer, or texts of the data: process 1 differs from process 0; give all"
        )
    assert len(list((tmp_path / "0" / "trees").iterdir())) == 1
    assert not (tmp_path / "1").exists()
