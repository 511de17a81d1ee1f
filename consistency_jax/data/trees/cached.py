"""Trees of large sets, cached on disk: a run that starts again, or another one on the same data, does not tokenize.

They are found again by a key of all that they depend on: the texts, the languages, the tokenizer (what it is, not where
it lies), the settings of the builder, and the code that makes them, so that a change of it makes them anew.
"""

import hashlib
import marshal
from collections.abc import Iterator, Sequence
from pathlib import Path

import tokenizers

from consistency_jax.data import items as items_module
from consistency_jax.data.items import ParallelItem
from consistency_jax.data.trees.builder import TreeBuilder
from consistency_jax.data.trees.forest import Forest
from consistency_jax.runtime.cache import cache_folder, found_or_made

# Bytes of text from which on trees are cached. A core tokenizes 3 to 8 MB of BMLAMA-17 a second (benchmarks/scoring.py
# --build), so this is about a second of work. To find it again takes up to 0.2 s of that, most of it for the key of a
# large vocabulary, and its file takes disk for good: smaller sets are not worth either.
LEAST = 4_000_000


def cached_trees(builder: TreeBuilder, items: Sequence[ParallelItem], languages: Sequence[str]) -> Forest:
    """`builder.build(items, languages)`: from the user's cache folder, or made now, and stored if that takes long.

    Raises:
        DataError: see `TreeBuilder.build`.
        ConfigError: where processes have tokenizers or packages that differ.
    """
    digest, size = hashlib.sha256(), 0
    for text in _texts(items, languages):
        digest.update(text)
        size += len(text)
    if size < LEAST:
        return builder.build(items, languages)
    digest.update(builder.key().encode())
    digest.update(f"{tokenizers.__version__} {tuple(languages)}".encode())
    for file in (*sorted(Path(__file__).parent.glob("*.py")), Path(items_module.__file__)):
        digest.update(file.read_bytes())
    return found_or_made(
        cache_folder() / "trees" / f"{digest.hexdigest()[:32]}.npz",
        lambda: builder.build(items, languages),
        Forest.load,
        lambda path, forest: forest.save(path),
        "tokenizer, or texts of the data",
    )


def _texts(items: Sequence[ParallelItem], languages: Sequence[str]) -> Iterator[bytes]:
    """What trees are made of, each item in bytes that no other has."""
    for item in items:
        context = item.context or {}
        texts = [
            (item.prompts.get(language), item.candidates.get(language), context.get(language))
            for language in languages
        ]
        yield marshal.dumps([item.id, texts], 2)  # twice as fast as JSON; 2: equal values, equal bytes
