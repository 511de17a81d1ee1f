"""Data sets by name.

A new one is one file with `read(path, languages, split, on_error, **options) -> Items` and LEADING_SPACE (a key of
`items.SPACINGS`: who decides about the space before an answer), and one line here.
"""

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from consistency_jax.data.items import DataError, Items, check_spacing, no_collection

MODULES = {
    "cldr": "consistency_jax.data.sources.cldr",
    "bmlama17": "consistency_jax.data.sources.bmlama17",
    "bmlama53": "consistency_jax.data.sources.bmlama53",
    "mmmlu": "consistency_jax.data.sources.mmmlu",
    "xcsqa": "consistency_jax.data.sources.xcsqa",
    "hub": "consistency_jax.data.sources.hub",
    "multijail": "consistency_jax.data.sources.multijail",
    "polyrefuse": "consistency_jax.data.sources.polyrefuse",
    "xsafety": "consistency_jax.data.sources.xsafety",
    "pku_saferlhf": "consistency_jax.data.sources.pku_saferlhf",
    "instructions": "consistency_jax.data.sources.instructions",
    "jsonl": "consistency_jax.data.sources.jsonl",
}


# The split of every row, where None cannot be written. ("all" is a word of TFDS: the splits of a builder, end to end.)
EVERY = "every"


class _Sources(Mapping[str, Callable[..., Items]]):
    """name -> reader; a reader's module is imported when it is first asked for (some need heavy packages)."""

    def __getitem__(self, name: str) -> Callable[..., Items]:
        return importlib.import_module(MODULES[name]).read

    def __iter__(self) -> Iterator[str]:
        return iter(MODULES)

    def __len__(self) -> int:
        return len(MODULES)


SOURCES: Mapping[str, Callable[..., Items]] = _Sources()


def load_items(
    name: str,
    *,
    path: str | Path | None = None,
    languages: Sequence[str] | None = None,
    split: str | None = None,
    on_error: str = "raise",
    **options: Any,
) -> Items:
    """Reads a data set of parallel items.

    Args:
        name: a key of `SOURCES`.
        path: file or folder of the original data; None for sets that need none.
        languages: which, in the order wanted; None = all that the set has.
        split: None or "every" = every row, in file order; otherwise a split of the set.
        on_error: "raise", or "skip": bad rows are left out and listed in `.skipped`.
        **options: further arguments of the reader.

    Returns:
        Items, a list of ParallelItem with `.skipped` and `.warnings`.

    Raises:
        DataError: unknown name, language, split or option, a missing file, or a bad row.
    """
    if on_error not in ("raise", "skip"):
        raise DataError.at("data.on_error", f"unknown value {on_error!r}", 'Known: "raise", "skip"')
    known = source_options(name)
    unknown = [key for key in options if key not in known]
    if unknown:
        raise DataError.at(
            f"data set {name!r}",
            f"unknown option {', '.join(map(repr, unknown))}",
            f"Known: {', '.join(known) or 'none'}",
        )
    read, spacing = SOURCES[name], importlib.import_module(MODULES[name]).LEADING_SPACE
    split = None if split == EVERY else split
    with no_collection():
        items = read(path=path, languages=languages, split=split, on_error=on_error, **options)
        for item in items:
            check_spacing(item, spacing, f"data set {name!r}, item {item.id!r}")
    return items


def source_options(name: str) -> tuple[str, ...]:
    """Names of the further options that a source's reader takes.

    Raises:
        DataError: unknown name.
    """
    if name not in MODULES:
        raise DataError.at("data.source", f"unknown data set {name!r}", f"Known: {', '.join(MODULES)}")
    given = ("path", "languages", "split", "on_error")
    return tuple(key for key in inspect.signature(SOURCES[name]).parameters if key not in given)


def load_corpus(name: str, *, languages: Sequence[str], seed: int, **options: Any) -> list[str]:
    """The text that a source offers to pretrain an embedded base model on: sentences, with their multiplicity.

    Raises:
        DataError: a source that has none, or an unknown option.
    """
    corpus = getattr(importlib.import_module(MODULES[name]), "corpus", None) if name in MODULES else None
    if corpus is None:
        raise DataError.at(
            "data.source", f"{name!r} offers no text to pretrain on", "Give model.path, or use cldr"
        )
    known = {k: p for k, p in inspect.signature(corpus).parameters.items() if k not in ("languages", "seed")}
    unknown = [key for key in options if key not in known]
    missing = [key for key, p in known.items() if p.default is p.empty and key not in options]
    for kind, keys in (("unknown", unknown), ("missing", missing)):
        if keys:
            reason = f"{kind} option {', '.join(map(repr, keys))}"
            raise DataError.at("pretrain.options", reason, f"Known: {', '.join(known)}")
    return list(corpus(languages=languages, seed=seed, **options))
