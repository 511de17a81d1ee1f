"""What a stage of a run trains on: its items, checked; their trees; the reference's table; batches."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from consistency_jax.config.stages import Stage, generates, languages_apart, selects
from consistency_jax.data.examples import ANCHOR, AuxiliaryPrompts, TrainingSet
from consistency_jax.data.facts import by_language, fact, item_arrays
from consistency_jax.data.items import Items, ItemSequence
from consistency_jax.data.pipeline import Pipeline, without_gold
from consistency_jax.data.preferences import load_pairs
from consistency_jax.data.stored_items import stored_or_read
from consistency_jax.data.trees.forest import ANSWER
from consistency_jax.errors import ConfigError
from consistency_jax.evaluation.measuring import score_split
from consistency_jax.evaluation.splits import (
    Split,
    evenly,
    languages_of,
    load_split,
    print_warnings,
    split_of,
)
from consistency_jax.models.decoder import DecoderConfig
from consistency_jax.models.flops import mask_cost
from consistency_jax.models.huggingface import Model
from consistency_jax.objectives import OBJECTIVES, make_objective, options_of, tells_right_from_wrong, usable
from consistency_jax.runtime.mesh import mesh_of, row_groups
from consistency_jax.scoring.scorer import Scorer
from consistency_jax.scoring.stored import fingerprint
from consistency_jax.selection import SELECTIONS, check_selection
from consistency_jax.selection.making import scorable
from consistency_jax.table import Table
from consistency_jax.training.rollouts import Rollouts


def load_training(config: ConfigDict) -> tuple[ItemSequence, tuple[str, ...]]:
    """The items that a config trains on or selects preference pairs from, as `data.train` says, and the languages.

    Raises:
      ConfigError: settings that name what the data does not have, or items that the objective cannot learn from.
      DataError: for bad data.
    """
    train = config.data.train
    # A selection that reads no candidates has the answers written.
    bare = selects(config) and not SELECTIONS[config.selection.name].candidates
    if train.pairs:
        items = _load_pairs(config)
    else:
        one_right = not selects(config) and tells_right_from_wrong(config.objective)
        items = load_split(config, train.split, train.groups, bare, one_right)
    items = evenly(items, train["items"])
    known = languages_of(config, items)
    languages = tuple(train.languages) or known
    _check_languages(config, known, languages)
    if selects(config):
        check_selection(config.selection, items, languages)
        return items, languages
    items = _usable(config, items, languages)
    mlc = config.auxiliary.mlc
    if mlc.weight and not mlc.split and (by_language(items, "there", languages).sum(1) < 2).all():
        raise ConfigError(
            f"auxiliary.mlc compares languages, and no item of split {train.split!r} is asked in two; "
            "name a split of multilingual prompts in --config.auxiliary.mlc.split"
        )
    return items, languages


def _load_pairs(config: ConfigDict) -> ItemSequence:
    """The preference pairs of `data.train.pairs`, as items: of one language each, or of whole questions."""
    path = config.data.train.pairs
    if config.data.train.groups:
        print(
            f"note: data.train.groups={tuple(config.data.train.groups)} chooses none of the pairs of {path}"
        )
    settings = {
        "on_error": config.data.on_error,
        "languages": tuple(config.data.languages) or None,
        "together": config.batching.name == "grouped",
    }
    items = stored_or_read(path, settings, lambda: load_pairs(path, **settings))
    print_warnings(items, path)
    return items


def _check_languages(config: ConfigDict, known: Sequence[str], languages: Sequence[str]) -> None:
    """Refuses settings that name languages which the data does not have, or draw more than are trained on."""
    steer = options_of(config.objective).get("steer", ())
    mend = "name one of these in --config.data.train.languages"
    anchor = (
        f"for configs/custom.py anchor={known[0]}, or anchor= for none; else see --config.objective.steer"
    )
    named = {"data.train.languages": (languages, mend), "objective.steer": (steer, anchor)}
    for key, (asked, mend) in named.items():
        for language in asked:
            if language not in known:
                raise ConfigError(f"{key} names {language!r}; the data has {', '.join(known)}: {mend}")
    if len(set(languages)) < len(languages):
        raise ConfigError(f"data.train.languages={list(languages)} names a language twice")
    drawn = config.batching.languages
    if drawn and len(languages) < 2:
        raise ConfigError(
            f"batching.languages={drawn}, and {languages[0]} is the only language: name more, or set it to 0"
        )
    if drawn > len(languages) or drawn == 1:
        raise ConfigError(
            f"batching.languages={drawn}: draw 2 to {len(languages)} languages an item, 0 for all"
        )


def _usable(config: ConfigDict, items: ItemSequence, languages: Sequence[str]) -> ItemSequence:
    """The items that the objective can learn from; says how many are left out."""
    taken, needs = usable(config.objective, *item_arrays(items, languages), languages)
    if taken.all():
        return items
    train = config.data.train
    split = train.pairs or f"split {train.split!r} of data.source={config.data.source!r}"
    if not taken.any():
        raise ConfigError(
            f"{split} has no item that objective.name={config.objective.name!r} can learn from: "
            f"it needs {needs}"
        )
    print(
        f"data: {split}: {(~taken).sum()} of {len(items)} items left out of training: "
        f"{config.objective.name} needs {needs}"
    )
    return items.take(np.flatnonzero(taken))


def tell_shared(
    loaded: Sequence[tuple[ItemSequence, Sequence[str]]], tests: Mapping[str, ItemSequence]
) -> None:
    """Says of each test split how many of its questions have a prompt that is trained on, word for word."""
    asked = sorted({language for items in tests.values() for language in items.languages})
    trained = [
        np.where(np.isin(asked, languages), by_language(items, "prompts", asked), 0)
        for items, languages in loaded
    ]
    for split, items in tests.items():
        own = by_language(items, "prompts", asked)
        shared = [
            np.isin(own[:, l], np.concatenate([keys[:, l] for keys in trained])) for l in range(len(asked))
        ]
        count = int(((own > 0) & np.transpose(shared)).any(1).sum())
        if count:
            what = "questions have a prompt that is trained on, too"
            print(f"data: split {split!r}: {count:,} of {len(items):,} {what}")


def load_prompts(config: ConfigDict) -> ItemSequence | None:
    """The items of `auxiliary.mlc.split` that are asked in two languages or more; None where there is no such split.

    Raises:
      ConfigError: where there are fewer than a step takes.
      DataError: for bad data.
    """
    settings = config.auxiliary.mlc
    if not (settings.weight and settings.split):
        return None
    items = load_split(config, settings.split, bare=True)
    known = languages_of(config, items)
    items = items.take(np.flatnonzero(by_language(items, "there", known).sum(1) >= 2))
    _check_enough(items, settings)
    return items


def _check_enough(items: ItemSequence, settings: ConfigDict) -> None:
    if len(items) < settings["items"]:
        raise ConfigError(
            f"auxiliary.mlc.items={settings['items']}, but split {settings.split!r} has {len(items)} items that are "
            "asked in two languages; lower it, or name another split"
        )


def prompt_set(config: ConfigDict, items: ItemSequence | None, model: Model) -> AuxiliaryPrompts | None:
    """The multilingual prompts of `load_prompts` as the pipeline takes them; what is left out of them is added to
    `items.skipped`. Errors are those of `split_of`."""
    if items is None:
        return None
    settings = config.auxiliary.mlc
    # Without answers there is nothing to join prompts to.
    split = split_of(config, settings.split, items, model, "separate", measured=False)
    items.skipped[:] = split.items.skipped
    _check_enough(split.items, settings)
    return AuxiliaryPrompts(split.trees.prompts(), len(split.languages), settings["items"], settings.every)


def check_layer(config: ConfigDict, layers: int) -> None:
    """Refuses a layer that a model of so many layers does not have.

    Raises:
      ConfigError: naming the key.
    """
    mlc = config.auxiliary.mlc
    if mlc.weight and mlc.layer >= layers:
        raise ConfigError(
            f"auxiliary.mlc.layer={mlc.layer}, but the model has layers 0 to {layers - 1}; -1 is after the final norm"
        )


def training_splits(
    stages: Sequence[Stage],
    loaded: Sequence[tuple[ItemSequence, tuple[str, ...]]],
    prompts: Sequence[AuxiliaryPrompts | None],
    model: Model,
) -> list[Split | None]:
    """What each stage trains on, as trees; stages with the same items share them. None for one that makes its own.

    Args:
      loaded: of `load_training`, one a stage; what a selection leaves out of them is added to their `skipped`.
      prompts: of `prompt_set`, one a stage; None for a stage without.

    Raises:
      ConfigError: where the trees do not fit into rows, or the model has no tokenizer.
      DataError: for an item that does not fit.
    """
    splits: list[Split | None] = []
    for stage, (items, languages), beside in zip(stages, loaded, prompts, strict=True):
        if selects(stage.config):
            items.skipped[:] = scorable(stage.config, model, items, languages).skipped
            splits.append(None)
            continue
        same = [
            split
            for other, split in zip(stages, splits, strict=False)
            if split and (split.items, split.languages) == (items, languages)
            if other.config.data.train.end == stage.config.data.train.end
        ]
        split = next(iter(same), None) or training_split(stage.config, items, languages, model)
        splits.append(split)
        if stage.config.batching.row_length:  # may be too short: told now, not when an earlier stage has run
            data = training_set(split)
            reference = np.zeros(data.mask.shape, np.float32)
            groups = row_groups(mesh_of(model.params))
            data = data._replace(reference=reference, prompts=beside)
            make_pipeline(stage.config, data, model.config, groups)
    return splits


def training_split(config: ConfigDict, items: ItemSequence, languages: Sequence[str], model: Model) -> Split:
    """Items as the trees that a config trains on, without preference pairs of which nothing can be learnt.

    Raises:
      ConfigError: where no pair is left.
      Otherwise as `split_of`.
    """
    name, boundary = config.data.train.split, config.data.boundary
    split = split_of(config, name, items, model, boundary, languages, measured=False)
    return _told_apart(split) if config.data.train.pairs or config.selection.name else split


def _told_apart(split: Split) -> Split:
    """Preference pairs without those whose answers are the same tokens (a chat drops the space before an answer); says
    how many are left out. An item keeps such a language; its tree is a gap."""
    trees, wide = split.trees, len(split.languages)
    same = np.flatnonzero(trees.alike()).tolist()
    if not same:
        return split
    count = int((trees.segments > 0).sum())
    print(f"data: {len(same)} of {count} pairs left out: chosen and rejected are the same tokens")
    if len(same) == count:
        raise ConfigError("no preference pair is left: in each, chosen and rejected are the same tokens")
    kept = np.where(trees.segments > 0, np.arange(len(trees)), -1)
    kept[same] = -1
    kept = kept.reshape(-1, wide)
    left = np.flatnonzero((kept >= 0).any(1))
    return dataclasses.replace(split, items=split.items.take(left), trees=trees.take(kept[left].reshape(-1)))


@dataclass(frozen=True)
class Reference:
    """The model that a stage starts from."""

    scorer: Scorer
    model: Model
    folder: Path | None  # where its tables are kept; None for the user's cache folder

    @functools.cached_property
    def key(self) -> str:
        """`fingerprint` of its parameters: every one is read for it, so it is made once, and only where asked for."""
        return fingerprint(self.model.params)


def training_data(
    config: ConfigDict, split: Split, reference: Reference, prompts: AuxiliaryPrompts | None = None
) -> TrainingSet:
    """What a stage with this config trains on: its items, and the prompts beside them. What the model that it starts
    from says of them is told here where it decides what is drawn; else `make_batches` asks for what is."""
    own = options_of(config.objective)
    anchor = table = None
    if OBJECTIVES[config.objective.name].needs_state:
        anchor = _scored(config, split.alone(ANCHOR), reference, f"reference {ANCHOR}", state=True)
    if _needs_reference(config, split) and (own.get("rejected") == "hardest" or own.get("false_examples")):
        table = _scored(config, split, reference, "reference")
    data = training_set(split, table, anchor)._replace(prompts=prompts)
    return without_gold(data) if own.get("false_examples") else data


def _needs_reference(config: ConfigDict, split: Split) -> bool:
    """Answers that are drawn are scored as they are."""
    return make_objective(config.objective, split.languages)[1] and not generates(config)


def _scored(
    config: ConfigDict, split: Split, reference: Reference, progress: str, state: bool = False
) -> Table:
    return score_split(
        config,
        reference.scorer,
        reference.model.params,
        split,
        prompt=False,
        state=state,
        progress=progress,
        params_key=reference.key,
        folder=reference.folder,
    )


def _reference_logp(config: ConfigDict, split: Split, drawn: np.ndarray, reference: Reference) -> np.ndarray:
    """f32[n, L, K]: what the reference says of the cells `drawn` bool[n, L, K], 0 elsewhere: no other is scored."""
    item, column = np.nonzero(drawn.any(2))
    order = np.argsort(
        ~drawn[item, column], axis=1, kind="stable"
    )  # those that are drawn, and then the others
    there = np.take_along_axis(drawn[item, column], order, 1)
    trees = split.trees.take(item * len(split.languages) + column, np.where(there, order, -1))
    # Of its rows nothing but the trees is known: what is right is not asked.
    own = dataclasses.replace(split, items=Items(), languages=("drawn",), trees=trees, neutral=None)
    logp, found = np.zeros(drawn.shape, np.float32), _scored(config, own, reference, "reference").logp[:, 0]
    row, which = np.nonzero(there)
    logp[item[row], column[row], order[row, which]] = found[row, which]
    return logp


def training_set(split: Split, reference: Table | None = None, anchor: Table | None = None) -> TrainingSet:
    """A split as the pipeline takes it, with what the reference says of it, and its states in the language ANCHOR."""
    shape, mask = (len(split.items), len(split.languages), -1), split.trees.there
    length = np.zeros(mask.shape, np.int32)
    length[mask] = split.trees.per_branch(split.trees.kind == ANSWER)
    logp = None if reference is None else reference.logp
    data = TrainingSet(
        split.trees,
        mask.reshape(shape),
        length.reshape(shape),
        fact(split.items, "gold"),
        logp,
    )
    if anchor is None:
        return data
    column = split.languages.index(ANCHOR)
    if logp is None:  # an objective with an anchor reads the reference of no other language
        logp = np.zeros(data.mask.shape, np.float32)
        logp[:, column, : anchor.logp.shape[2]] = anchor.logp[:, 0, : logp.shape[2]]
    return data._replace(anchor=column, state=anchor.state[:, 0], reference=logp)


def make_pipeline(config: ConfigDict, data: TrainingSet, decoder: DecoderConfig, groups: int) -> Pipeline:
    """The batches of a stage that trains such a decoder, as `config.batching` says.

    Raises:
      ConfigError: settings that these data do not fit.
    """
    batching, own = config.batching, options_of(config.objective)
    try:
        return Pipeline(
            data,
            seed=config.seed,
            items=batching["items"],
            mask_cost=mask_cost(decoder),
            apart=languages_apart(config),
            languages=batching.languages,
            pairs=own.get("candidates") == "pair",
            rejected=own.get("rejected", ""),
            gold_alone=OBJECTIVES[config.objective.name].gold_alone,
            accumulate=batching.accumulate,
            groups=groups,
            shapes=batching.shapes,
            row_length=batching.row_length,
            total_steps=config.total_steps,
        )
    except ValueError as error:
        raise ConfigError(f"batching: {error}") from error


def make_batches(
    config: ConfigDict, data: TrainingSet, split: Split, policy: Model, reference: Reference
) -> Pipeline | Rollouts:
    """What a stage takes its steps on: batches of the data, or answers that the policy draws to their prompts.

    Args:
      data: of `training_data`, of this split.
      policy: what the stage trains, as it starts.

    Raises:
      ConfigError: settings that these data do not fit.
    """
    pipeline = make_pipeline(config, data, policy.config, row_groups(mesh_of(policy.params)))
    if _needs_reference(config, split) and data.reference is None:
        drawn = pipeline.drawn(config.total_steps)
        return pipeline.with_reference(_reference_logp(config, split, drawn, reference))
    if not generates(config):
        return pipeline
    return Rollouts(config, pipeline, split, policy, reference.scorer, reference.model)
