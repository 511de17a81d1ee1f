"""Measure a model on the config's test splits: python -m consistency_jax.evaluate --config=... --workdir=...

Scores every candidate of every item in every language with the base model and with a checkpoint of the workdir
(`--checkpoint=latest`, a step, or base for the base model alone), and writes tables/, report.json and report.html.
"""

import dataclasses
from collections.abc import Sequence

from absl import app, flags
from ml_collections import ConfigDict, config_flags

from consistency_jax.config import ConfigError
from consistency_jax.data.chat import ChatTemplate
from consistency_jax.data.items import Items
from consistency_jax.data.round_trip import round_trip
from consistency_jax.data.sources import load_items
from consistency_jax.data.trees import Tree, TreeBuilder
from consistency_jax.metrics import accuracy, clc
from consistency_jax.models.decoder import Params
from consistency_jax.models.huggingface import Model
from consistency_jax.scoring import Scorer, score_trees
from consistency_jax.table import Table


@dataclasses.dataclass(frozen=True)
class Split:
    """Items of one split with their trees, tree n = item * L + language."""

    name: str
    items: Items
    languages: tuple[str, ...]
    trees: Sequence[Tree | None]


def load_split(config: ConfigDict, name: str) -> Items:
    """The items of one split of `config.data`, with a word about what was skipped or odd.

    Raises:
      DataError: for bad data (or skipped rows that leave nothing).
    """
    data = config.data
    items = load_items(
        data.source,
        path=data.path or None,
        languages=tuple(data.languages) or None,
        split=name,
        on_error=data.on_error,
        **data.options,
    )
    for kind, messages in (("skipped", items.skipped), ("warnings", items.warnings)):
        if messages:
            print(f"data: split {name!r}: {len(messages)} {kind}, the first: {messages[0]}")
    if not items:
        raise ConfigError(f"split {name!r} of data.source={data.source!r} has no items")
    return items


def languages_of(config: ConfigDict, items: Items) -> tuple[str, ...]:
    """The order of axis L: as the config names them, else as the data has them."""
    return tuple(config.data.languages) or items.languages


def build_split(config: ConfigDict, name: str, model: Model, boundary: str) -> Split:
    """A split as trees."""
    items = load_split(config, name)
    return split_of(config, name, items, model, boundary)


def split_of(config: ConfigDict, name: str, items: Items, model: Model, boundary: str) -> Split:
    """Items that are loaded already, as trees; says how many prompts were cut.

    Raises:
      ConfigError: where the model has no tokenizer.
      DataError: for an item that does not fit, or a tokenizer without the chat template asked for.
    """
    if model.tokenizer is None:
        raise ConfigError(
            f"the model folder {model.folder} has no tokenizer files; put them beside config.json"
        )
    languages = languages_of(config, items)
    chat = None
    if config.data.chat_template != "off":
        chat = ChatTemplate(model.tokenizer, config.data.system_prompt)
    builder = TreeBuilder(
        model.tokenizer, boundary=boundary, max_length=config.data.max_length, chat=chat, cache=False
    )
    trees = builder.build(items, languages)
    cut = sum(tree is not None and tree.truncated > 0 for tree in trees)
    if cut:
        print(
            f"data: split {name!r}: {cut} of {len(trees)} prompts cut at data.max_length={config.data.max_length}"
        )
    read_back = round_trip(model.tokenizer, items, languages)
    if read_back.changed:
        print(f"data: split {name!r}: {read_back}")
    return Split(name, items, languages, trees)


def measure(
    config: ConfigDict, scorer: Scorer, params: Params, splits: Sequence[Split], what: str = ""
) -> dict[str, Table]:
    """The table of each split; `what` names the progress bars (empty: none)."""
    return {
        split.name: score_trees(
            scorer,
            params,
            split.items,
            split.languages,
            split.trees,
            prompt=config.evaluation.normalization == "mean_full",
            tokens=config.evaluation.tokens,
            progress=f"{what} {split.name}" if what else "",
        )
        for split in splits
    }


def headline(config: ConfigDict, table: Table) -> dict[str, float]:
    """The few numbers that are logged inside training, percentages."""
    scores = table.scores(config.evaluation.normalization)
    right = accuracy(scores, table.gold, table.mask, languages=table.languages)
    consistency = clc(scores, table.mask, languages=table.languages)
    return {
        "clc_all": consistency.all_pairs,
        "clc_en": consistency.anchor_pairs,
        "accuracy_en": 100 * right.anchor,
        "accuracy_non_en": 100 * right.mean_others,
    }


def main(argv: Sequence[str]) -> None:
    del argv
    from consistency_jax.train import (  # train.py is the story; this is one scene of it
        evaluate_workdir,
        run_command,
    )

    run_command(evaluate_workdir, _CONFIG.value, _WORKDIR.value, _CHECKPOINT.value)


if __name__ == "__main__":
    _CONFIG = config_flags.DEFINE_config_file(
        "config", None, "Python file with get_config(arg).", lock_config=True
    )
    _WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run (made if it is not there).")
    _CHECKPOINT = flags.DEFINE_string("checkpoint", "latest", "base, latest, or the step of a checkpoint.")
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main)
