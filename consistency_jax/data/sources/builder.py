"""Any source as a TFDS builder, cached as ArrayRecord: random access to its items without parsing its files again.

    builder = tfds_builder("mmmlu", path="MMMLU", languages=["en", "sw"])
    rows = builder.as_data_source("train")      # len(rows), rows[3]; what Grain and other loaders take
    items = to_items(rows)                      # as `load_items` gives them

Training reads the original files (`load_items`): that takes seconds, and tells what was skipped or odd. This is for
loaders that want records. Features are flat, so that they are written and read without TensorFlow.
"""

import dataclasses
import glob
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from consistency_jax.data.items import Items, ParallelItem
from consistency_jax.data.sources import code_of, load_items
from consistency_jax.data.sources.preparing import prepared
from consistency_jax.data.stored_items import files_state, key_of
from consistency_jax.runtime.cache import cache_folder
from consistency_jax.runtime.files import local


@dataclasses.dataclass
class SourceConfig(tfds.core.BuilderConfig):
    """What to read: the arguments of `load_items`, and the splits to keep."""

    source: str = ""
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    splits: tuple[str, ...] = ()


class ParallelItems(tfds.core.GeneratorBasedBuilder):
    """Parallel items of a source: L languages, and K candidates in each, laid end to end language by language."""

    name = "consistency_items"
    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        texts = tfds.features.Sequence(tfds.features.Text())
        return self.dataset_info_from_configs(
            disable_shuffling=True,  # records keep the order of the items
            description=f"Parallel items of {self.builder_config.source}.",
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "group": tfds.features.Text(),
                    "right": tfds.features.Sequence(np.int32),  # the gold one first; none: unknown
                    "written": tfds.features.Scalar(np.bool_),
                    "languages": texts,  # [L]
                    "prompts": texts,  # [L]
                    "contexts": texts,  # [L], "" where there is none
                    "candidates": texts,  # [L * K]
                    "targets": tfds.features.Text(),  # JSON, {language: texts}
                }
            ),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        del dl_manager  # the files are there, or the source fetches them
        return {split: self._generate_examples(split) for split in self.builder_config.splits}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        config = self.builder_config
        items = load_items(config.source, split=split, **config.arguments)
        for number, item in enumerate(items):
            context = item.context or {}
            yield (
                number,
                {
                    "id": item.id,
                    "group": item.group,
                    "right": list(item.right),
                    "written": item.written,
                    "languages": list(item.languages),
                    "prompts": list(item.prompts.values()),
                    "contexts": [context.get(language, "") for language in item.languages],
                    "candidates": [text for texts in item.candidates.values() for text in texts],
                    "targets": json.dumps(dict(item.targets)),
                },
            )


def tfds_builder(
    source: str,
    *,
    path: str | Path | None = None,
    languages: Sequence[str] | None = None,
    splits: Sequence[str] = ("train", "test"),
    folder: str | Path | None = None,
    **options: Any,
) -> ParallelItems:
    """A prepared builder: read from the cache, or from the original files and cached.

    Args:
        source, path, languages, options: as `load_items` takes them (with on_error among the options).
        splits: of the source; "every" has every row.
        folder: of the cache; None = the user's cache folder. What is cached is found again by the files (names, sizes
            and times), the arguments and this package's readers, so that nothing stale is read.

    Raises:
        DataError: what `load_items` raises.
    """
    arguments = {"path": None if path is None else str(path), "languages": languages} | options
    pattern = str(path) if "{language}" in str(path) else ""
    files = sorted(glob.glob(pattern.replace("{language}", "*")))
    state, _ = files_state([*arguments.values(), *files], code_of(source))
    key = key_of([source, tuple(splits), sorted(arguments.items()), state])
    config = SourceConfig(
        name=f"{source}_{key}", source=source, arguments=arguments, splits=tuple(splits), version="1.0.0"
    )
    folder = cache_folder() / "datasets" if folder is None else local(folder, "folder")
    return prepared(lambda: ParallelItems(config=config, data_dir=folder, file_format="array_record"))


def to_items(rows: Iterable[Mapping[str, Any]]) -> Items:
    """Records of a builder as items, in their order."""
    return Items(to_item(row) for row in rows)


def to_item(row: Mapping[str, Any]) -> ParallelItem:
    """One record as an item."""
    languages, prompts, contexts, candidates = (
        [text.decode() for text in row[name]] for name in ("languages", "prompts", "contexts", "candidates")
    )
    count, right = len(candidates) // len(languages), [int(k) for k in row["right"]]
    return ParallelItem(
        id=row["id"].decode(),
        group=row["group"].decode(),
        prompts=dict(zip(languages, prompts)),
        candidates={
            language: tuple(candidates[place * count : (place + 1) * count])
            for place, language in enumerate(languages)
        },
        gold=right[0] if right else None,
        also=tuple(right[1:]),
        context={language: text for language, text in zip(languages, contexts) if text} or None,
        written=bool(row["written"]),
        targets={language: tuple(texts) for language, texts in json.loads(row["targets"]).items()},
    )
