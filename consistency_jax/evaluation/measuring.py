"""What a model says of a split: trees -> the table, kept where it can be found again, and its headline figures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from consistency_jax.data.facts import fact
from consistency_jax.data.trees.forest import Forest
from consistency_jax.errors import UserError
from consistency_jax.evaluation.splits import Split, needs
from consistency_jax.metrics import accuracy, clc
from consistency_jax.models.decoder import Params
from consistency_jax.runtime.cache import cache_folder
from consistency_jax.scoring.scorer import Scorer
from consistency_jax.scoring.stored import stored, table_key
from consistency_jax.scoring.tables import score_trees
from consistency_jax.table import Table


def score_split(
    config: ConfigDict,
    scorer: Scorer,
    params: Params,
    split: Split,
    *,
    prompt: bool,
    state: bool = False,
    progress: str = "",
    params_key: str = "",
    folder: Path | None = None,
) -> Table:
    """The table of a split.

    Args:
      prompt: also the prompt's log-probabilities.
      state: also the hidden state of the prompt's last token.
      progress: what a progress bar is called; empty for none.
      params_key: `fingerprint` of the parameters: the table is then read from `folder`, or kept there, under a key of
        everything that it depends on; a pass that is killed goes on from what it finished. Empty: it is made anew.
      folder: None for one in the user's cache folder.
    """

    def make(batches: Path | None = None) -> Table:
        table = score_trees(
            scorer,
            params,
            split.items,
            split.languages,
            split.trees,
            prompt=prompt,
            state=state,
            neutral=split.neutral,
            tokens=config.evaluation.tokens,
            progress=progress,
            resume=batches,
        )
        if bad := np.argwhere(np.isnan(table.logp) & table.mask).tolist():
            (n, l, _), mend = bad[0], "Are the weights whole? else compute in float32: model.compute_dtype"
            told = (
                f"{len(bad):,} of {int(table.mask.sum()):,} answers have a log-probability that is no number"
            )
            if table.ids:  # of cells that are drawn nothing but the trees is known
                told += f", the first to {table.ids[n]!r} in {table.languages[l]}"
            raise UserError(f"split {split.name!r}: {told}. {mend}")
        return table

    if not params_key:
        return make()
    ids = [item.id for item in split.items]
    gold = [item.right if item.also else item.gold for item in split.items]
    trees = Forest.concatenate([split.trees, *([split.neutral.trees] if split.neutral else [])])
    options = {"languages": split.languages, "prompt": prompt, "state": state}
    if (most := int(fact(split.items, "candidates").max(initial=0))) > split.trees.segments.max() - 1:
        options["candidates"] = most  # earlier versions kept narrower tables
    key = table_key(scorer.config, params_key, trees, ids=ids, gold=gold, **options)
    return stored(key, folder or cache_folder() / "tables", make, progress)


def score_splits(
    config: ConfigDict,
    scorer: Scorer,
    params: Params,
    splits: Sequence[Split],
    what: str = "",
    params_key: str = "",
) -> dict[str, Table]:
    """The table of each split, with what the config's normalization needs; see `score_split`."""
    prompt = needs(config, "mean_full")
    return {
        split.name: score_split(
            config,
            scorer,
            params,
            split,
            prompt=prompt,
            progress=f"{what} {split.name}" if what else "",
            params_key=params_key,
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
