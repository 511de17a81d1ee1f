"""Data sets by name.

A new one is one file, as `source.py` says, and one line in `SOURCES`.
"""

import importlib
import inspect
import math
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from consistency_jax.data.items import DataError, Items, check_languages, no_collection
from consistency_jax.data.sources.source import Rows, Source
from consistency_jax.data.sources.splits import Plan, check_split, take
from consistency_jax.runtime.files import expanded

ON_ERROR = ("raise", "skip")
SHARES = ("train_size", "validation_size")  # numbers of rows, or shares of them
# name -> its module, imported when it is first asked for (some need heavy packages)
SOURCES: dict[str, str] = {
    "cldr": "consistency_jax.data.sources.cldr",
    "bmlama17": "consistency_jax.data.sources.bmlama17",
    "bmlama53": "consistency_jax.data.sources.bmlama53",
    "klar": "consistency_jax.data.sources.klar",
    "mpararel": "consistency_jax.data.sources.mpararel",
    "mmmlu": "consistency_jax.data.sources.mmmlu",
    "xcsqa": "consistency_jax.data.sources.xcsqa",
    "hub": "consistency_jax.data.sources.hub",
    "multijail": "consistency_jax.data.sources.multijail",
    "polyrefuse": "consistency_jax.data.sources.polyrefuse",
    "refusals": "consistency_jax.data.sources.refusals",
    "xsafety": "consistency_jax.data.sources.xsafety",
    "pku_saferlhf": "consistency_jax.data.sources.pku_saferlhf",
    "instructions": "consistency_jax.data.sources.instructions",
    "mgsm": "consistency_jax.data.sources.mgsm",
    "multiloko": "consistency_jax.data.sources.multiloko",
    "jsonl": "consistency_jax.data.sources.jsonl",
    "mapped": "consistency_jax.data.sources.mapped",
}

# The split of every row, where None cannot be written. ("all" is a word of TFDS: the splits of a builder, end to end.)
EVERY = "every"


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
        on_error: "raise", or "skip": bad rows are left out in all languages, and listed in `.skipped`.
        **options: `source_options`: those of `splits.Plan`, where the set is split by seed, and the reader's own.

    Returns:
        Items, a list of ParallelItem with `.skipped` and `.warnings`.

    Raises:
        DataError: unknown name, language, split or option, a missing file, or a bad row.
    """
    if on_error not in ON_ERROR:
        raise DataError.at("data.on_error", f"unknown value {on_error!r}", f"Known: {', '.join(ON_ERROR)}")
    source = source_of(name)
    options = {
        key: value.item() if isinstance(value, np.generic) else value for key, value in options.items()
    }
    # A command line makes numbered=0 a number.
    options |= {key: str(options[key]) for key in source.values if isinstance(options.get(key), int)}
    _check_options(name, source, options)
    path = _path_of(name, source, path)
    if languages is not None:
        languages = (languages,) if isinstance(languages, str) else tuple(languages)
        languages = check_languages(languages, source.languages or languages, name)
    split = None if split == EVERY else split
    if source.splits:
        check_split(split, source.splits, name)
    drawing = {key: options.pop(key) for key in _drawing(source) if key in options}
    plan = Plan(**{"split": split, "train_size": source.train_size} | drawing)
    if plan.instances and languages is None and not (source.languages or source.experiment.languages):
        reason = f"instances={plan.instances} are drawn by the order of the languages, and none is given"
        raise DataError.at("data.languages", reason, "Name them in the published order")
    read = _module(name).read
    if "split" in inspect.signature(read).parameters:
        options["split"] = split
    with no_collection():
        rows: Rows = read(path, languages or source.languages or None, **options)
        if languages is not None and (known := rows.languages):
            languages = check_languages(languages, known, name)
        if source.splits or rows.taken:
            if plan.instances:
                reason = "instances are drawn from a split by seed, and these files are splits of their own"
                raise DataError.at(str(path), reason, "Leave data.options.instances out, or give one file")
            if sizes := [key for key in ("train_size", "validation_size") if key in drawing]:
                reason = f"{sizes[0]} divides rows into splits, and these files are splits of their own"
                raise DataError.at(str(path), reason, f"Leave data.options.{sizes[0]} out, or give one file")
            plan = plan._replace(split=None)
        items = take(rows, plan, languages, source, where=name, on_error=on_error)
        del rows  # before the collector, which would look through all of them
    return items


def _check_options(name: str, source: Source, options: dict[str, Any]) -> None:
    known = source_options(name)
    if unknown := [key for key in options if key not in known]:
        reason = f"unknown option {', '.join(map(repr, unknown))}"
        raise DataError.at(f"data set {name!r}", reason, f"Known: {', '.join(known) or 'none'}")
    for key, values in source.values.items():
        if key in options and options[key] not in values:
            raise DataError.at(name, f"unknown {key} {options[key]!r}", f"Known: {', '.join(values)}")
    own = inspect.signature(_module(name).read).parameters
    for key, value in options.items():
        default = (
            own[key].default
            if key in own
            else ({"train_size": source.train_size} | Plan._field_defaults)[key]
        )
        if told := _of_another_kind(value, default, share=key in SHARES):
            raise DataError.at(
                f"data set {name!r}", f"{key}={value!r} is {told}", f"Its default: {default!r}"
            )


def _of_another_kind(value: Any, default: Any, share: bool) -> str | None:
    """What an option's value is not and should be, as its default tells; None where that is fine.

    Args:
        share: a number of rows, or a share of them.
    """
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "neither True nor False"
    if isinstance(default, int | float):
        number = isinstance(value, int) or share and isinstance(value, float) and math.isfinite(value)
        kind = "no number of rows, or share of them" if share else "no whole number"
        return None if number and not isinstance(value, bool) else kind
    if isinstance(default, tuple):
        texts = isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)
        return None if texts or isinstance(value, str) else "neither a text nor a list of texts"
    return None if not isinstance(default, str) or isinstance(value, str | Path) else "no text"


def _path_of(name: str, source: Source, path: str | Path | None) -> Path | None:
    path = None if path is None else expanded(path)
    if source.download and path is None:
        raise DataError.at("data.path", f"the source {name!r} needs a file or folder", source.download)
    if source.download and not path.exists():
        raise DataError.at(str(path), "no such file or folder", source.download)
    return path


def source_of(name: str) -> Source:
    """What a data set says of itself.

    Raises:
        DataError: unknown name.
    """
    return _module(name).SOURCE


def code_of(name: str) -> Path:
    """The file that reads a data set.

    Raises:
        DataError: unknown name.
    """
    return Path(inspect.getfile(_module(name)))


def source_options(name: str) -> tuple[str, ...]:
    """Names of the further options that `load_items` takes for a source.

    Raises:
        DataError: unknown name.
    """
    own = inspect.signature(_module(name).read).parameters
    return (*_drawing(source_of(name)), *(key for key in own if key not in ("path", "languages", "split")))


def _drawing(source: Source) -> tuple[str, ...]:
    """The options of `Plan` that a source takes; there is nothing to draw from bare prompts but the split."""
    drawing = Plan._fields[1:] if source.answers else ("train_size", "seed", "validation_size")
    return () if source.splits else drawing


def _module(name: str) -> ModuleType:
    if name not in SOURCES:
        raise DataError.at("data.source", f"unknown data set {name!r}", f"Known: {', '.join(SOURCES)}")
    return importlib.import_module(SOURCES[name])


def load_corpus(name: str, *, languages: Sequence[str], seed: int, **options: Any) -> list[str]:
    """The text that a source offers to pretrain an embedded base model on: sentences, with their multiplicity.

    Raises:
        DataError: a source that has none, or an unknown option.
    """
    corpus = getattr(_module(name), "corpus", None)
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
