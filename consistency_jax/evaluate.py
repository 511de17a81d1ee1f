"""Measure a model on the config's test splits: python -m consistency_jax.evaluate --config=... --workdir=...

Scores every candidate of every item in every language with the base model and with a checkpoint of the workdir
(`--checkpoint=latest`, a step, or base for the base model alone), and writes tables/, report.json and report.html. A
model alone, without any training: --config=configs/audit.py:path=FOLDER,data=bmlama17,data_path=FOLDER. Killed while it
measures the base model, the same command goes on from what it scored.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict

from consistency_jax import report
from consistency_jax.cache import cache_folder
from consistency_jax.commands import (
    checkpoint_model,
    command_line,
    config_flag,
    latest_step,
    log_of,
    run_app,
    run_command,
    use_compile_cache,
)
from consistency_jax.config import ConfigError, mesh_shape, validate
from consistency_jax.data.chat import ChatTemplate
from consistency_jax.data.forest import Forest
from consistency_jax.data.items import Items, require_answers
from consistency_jax.data.kept_trees import kept_trees
from consistency_jax.data.round_trip import round_trip
from consistency_jax.data.sources import load_items, source_options
from consistency_jax.data.trees import TreeBuilder
from consistency_jax.distributed import on_main
from consistency_jax.files import location
from consistency_jax.metrics import accuracy, clc
from consistency_jax.models.decoder import Params
from consistency_jax.models.huggingface import Model
from consistency_jax.objectives import OBJECTIVES
from consistency_jax.scoring import (
    NeutralAnswers,
    Scorer,
    fingerprint,
    neutral_answers,
    score_trees,
    stored,
    table_key,
)
from consistency_jax.sharding import make_mesh
from consistency_jax.stage_configs import stages_of
from consistency_jax.table import Table, write_tables
from consistency_jax.training.pretrain import base_model
from consistency_jax.workdir import open_workdir, read_config
from consistency_jax.written import (
    KINDS,
    Asked,
    Said,
    check_judge,
    write_answers,
    write_texts,
    written_figures,
)


@dataclasses.dataclass(frozen=True)
class Split:
    """Items of one split with their trees, tree n = item * L + language; `neutral`: the answers alone, for pmi."""

    name: str
    items: Items
    languages: tuple[str, ...]
    trees: Forest
    neutral: NeutralAnswers | None = None

    def alone(self, language: str) -> "Split":
        """The same items in one of its languages, without neutral answers."""
        trees = self.trees[self.languages.index(language) :: len(self.languages)]
        return dataclasses.replace(self, languages=(language,), trees=trees, neutral=None)


def load_split(config: ConfigDict, name: str, groups: Sequence[str] = (), bare: bool = False) -> Items:
    """The items of one split of `config.data`, with a word about what was skipped or odd.

    Args:
      groups: only items of these; empty for all.
      bare: take prompts without answers too.

    Raises:
      ConfigError: a split without items, or a group of items or of languages that it has nothing of.
      DataError: for bad data (or skipped rows that leave nothing), or prompts without answers that are not asked for.
    """
    data = config.data
    options = data.options.to_dict()
    if "seed" in source_options(data.source):  # three seeds of a run are three splits, as published
        options = {"seed": config.seed} | options
    items = on_main(
        lambda: load_items(
            data.source,
            path=data.path or None,
            languages=tuple(data.languages) or None,
            split=name,
            on_error=data.on_error,
            **options,
        )
    )
    tell_oddities(items, f"split {name!r}")
    if not items:
        raise ConfigError(f"split {name!r} of data.source={data.source!r} has no items")
    if not bare:
        require_answers(items, f"split {name!r} of data.source={data.source!r}")
    known = sorted({item.group for item in items})
    for group in groups:
        if group not in known:
            raise ConfigError(f"split {name!r} has no group {group!r}; it has: {', '.join(known)}")
    for group, members in config.evaluation.groups.items():
        if name in data.test and not set(members) & set(languages_of(config, items)):
            raise ConfigError(
                f"evaluation.groups.{group}={tuple(members)} holds no language of split {name!r}, which has "
                f"{', '.join(languages_of(config, items))}"
            )
    return Items([item for item in items if item.group in groups]) if groups else items


def load_tests(config: ConfigDict) -> dict[str, Items]:
    """The items of each test split: in all languages, of `data.test_groups`, `data.test_items` of them. Errors are
    those of `load_split`."""
    return {
        name: evenly(load_split(config, name, config.data.test_groups), config.data.test_items)
        for name in config.data.test
    }


def evenly(items: Items, count: int) -> Items:
    """So many items from all over the list, which may be sorted by subject; all for 0, or where they are fewer."""
    if not 0 < count < len(items):
        return items
    places = np.linspace(0, len(items) - 1, count).round().astype(int)
    return Items([items[n] for n in places], skipped=items.skipped, warnings=items.warnings)


def load_safety(config: ConfigDict) -> dict[str, Items]:
    """The bare prompts of `evaluation.safety`, by kind; none where it is off.

    Raises:
      ConfigError: a judge that cannot be imported.
      DataError: for bad data.
    """
    safety, found = config.evaluation.safety, {}
    for kind in KINDS:
        if safety[kind].source:
            check_judge(config)
            own = safety[kind]
            read = functools.partial(
                load_items,
                own.source,
                path=own.path or None,
                languages=tuple(safety.languages) or None,
                split=own.split or None,
                on_error=config.data.on_error,
                **own.options.to_dict(),
            )
            found[kind] = on_main(read)
            tell_oddities(found[kind], f"{kind} prompts")
    return found


def asked_of(config: ConfigDict, tests: Mapping[str, Items], safety: Mapping[str, Items]) -> list[Asked]:
    """What `config.evaluation` has the model answer in writing: of test splits, and of `load_safety`."""
    limits = config.evaluation.generation["items"] or None, config.evaluation.safety["items"] or None
    return [
        Asked(name, Items(tests[name][: limits[0]]), languages_of(config, tests[name]))
        for name in config.evaluation.generation.splits
    ] + [
        Asked(kind, Items(items[: limits[1]]), items.languages, safety=True) for kind, items in safety.items()
    ]


def tell_oddities(items: Items, what: str) -> None:
    """Prints how many rows were skipped or odd, and the first of them."""
    for kind, messages in (("skipped", items.skipped), ("warnings", items.warnings)):
        if messages:
            print(f"data: {what}: {len(messages)} {kind}, the first: {messages[0]}")


def languages_of(config: ConfigDict, items: Items) -> tuple[str, ...]:
    """The order of axis L: as the config names them, else as the data has them."""
    return tuple(config.data.languages) or items.languages


def chat_of(config: ConfigDict, model: Model) -> ChatTemplate | None:
    """The chat that prompts are turns of, as `config.data` says; None: they stand as they are.

    Raises:
      DataError: a tokenizer without the chat template asked for.
    """
    if config.data.chat_template == "off":
        return None
    return ChatTemplate(model.tokenizer, config.data.system_prompt)


def split_of(
    config: ConfigDict,
    name: str,
    items: Items,
    model: Model,
    boundary: str,
    languages: Sequence[str] = (),
    *,
    measured: bool = True,
) -> Split:
    """Items that are loaded already, as trees, made or found in the cache; says how many prompts were cut.

    Args:
      languages: those of axis L; empty for `languages_of` the items.
      measured: with all that the config's normalization needs; False for items that are trained on.

    Raises:
      ConfigError: where the model has no tokenizer.
      DataError: for an item that does not fit, or a tokenizer without the chat template asked for.
    """
    if model.tokenizer is None:
        raise ConfigError(
            f"the model folder {model.folder} has no tokenizer files; put them beside config.json"
        )
    languages = tuple(languages) or languages_of(config, items)
    chat = chat_of(config, model)
    builder = TreeBuilder(model.tokenizer, boundary=boundary, max_length=config.data.max_length, chat=chat)
    trees = kept_trees(builder, items, languages)
    cut = int((trees.truncated > 0).sum())
    if cut:
        print(
            f"data: split {name!r}: {cut} of {len(trees)} prompts cut at data.max_length={config.data.max_length}"
        )
    read_back = round_trip(model.tokenizer, items, languages)
    if read_back.changed:
        print(f"data: split {name!r}: {read_back}")
    neutral = None
    if measured and _needs(config, "pmi"):
        neutral = neutral_answers(builder, items, languages)
    return Split(name, items, languages, trees, neutral)


def _needs(config: ConfigDict, normalization: str) -> bool:
    return config.evaluation.all_normalizations or config.evaluation.normalization == normalization


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

    def make(kept: Path | None = None) -> Table:
        return score_trees(
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
            kept=kept,
        )

    if not params_key:
        return make()
    ids, gold = ([getattr(item, name) for item in split.items] for name in ("id", "gold"))
    trees = Forest.concatenate([split.trees, *([split.neutral.trees] if split.neutral else [])])
    options = {"languages": split.languages, "prompt": prompt, "state": state}
    key = table_key(scorer.config, params_key, trees, ids=ids, gold=gold, **options)
    return stored(key, folder or cache_folder() / "tables", make)


def measure(
    config: ConfigDict,
    scorer: Scorer,
    params: Params,
    splits: Sequence[Split],
    what: str = "",
    params_key: str = "",
) -> dict[str, Table]:
    """The table of each split, with what the config's normalization needs; see `score_split`."""
    prompt = _needs(config, "mean_full")
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


def write_report(
    config: ConfigDict,
    workdir: Path,
    tests: Sequence[Split],
    base: dict[str, Table],
    final: dict[str, Table],
    asked: Sequence[Asked],
    said: Sequence[Sequence[Said]],
) -> dict[str, Any]:
    """report.json, report.html, and the table on the terminal.

    Args:
      asked: what was answered in writing; said: the answers before, and those after.
    """
    summary = report.summarise(base, final, steer=_steer(config), **_measured_with(config, tests))
    summary |= _written(config, workdir, asked, said)
    report.write_report(
        workdir,
        summary,
        base,
        final,
        {split.name: split.items for split in tests},
        written={
            one.name: (before.texts, after.texts)
            for one, before, after in zip(asked, *said, strict=True)
            if not one.safety
        },
        config=config.to_dict(),
        command=command_line(),
    )
    print(report.terminal_table(summary))
    print(f"report: {workdir / 'report.html'}")
    return summary


def _measured_with(config: ConfigDict, tests: Sequence[Split]) -> dict[str, Any]:
    """How figures are made of tables, as `report.summarise` and `report.audit` take it."""
    return {
        "normalization": config.evaluation.normalization,
        "seed": config.seed,
        "resamples": config.evaluation.bootstrap,
        "groups": {split.name: [item.group for item in split.items] for split in tests},
        "language_groups": config.evaluation.groups.to_dict(),
    }


def _written(
    config: ConfigDict, workdir: Path, asked: Sequence[Asked], said: Sequence[Sequence[Said]]
) -> dict[str, Any]:
    """What report.json says of written answers, which are listed in the workdir; nothing where none were asked for."""
    if not asked:
        return {}
    write_texts(workdir, asked, *said)
    return written_figures(config, asked, *said)


def write_audit(
    config: ConfigDict,
    workdir: Path,
    tests: Sequence[Split],
    base: dict[str, Table],
    asked: Sequence[Asked],
    said: Sequence[Said],
) -> dict[str, Any]:
    """report.json, report.html, and the table on the terminal, of one model alone; arguments as of `write_report`."""
    summary = report.audit(base, **_measured_with(config, tests))
    summary |= _written(config, workdir, asked, [said])
    page = report.write_audit(workdir, summary, config=config.to_dict(), command=command_line())
    print(report.audit_table(summary))
    print(f"report: {page}")
    return summary


def _steer(config: ConfigDict) -> dict[str, float]:
    """The weights of the last stage that draws languages to each other; none without such a stage."""
    objectives = [stage.config.objective for stage in stages_of(config)]
    drawn = [objective for objective in objectives if OBJECTIVES[objective.name].unlabelled]
    return drawn[-1].steer.to_dict() if drawn else {}


def evaluate_workdir(
    config: ConfigDict | None, workdir: str | Path, checkpoint: str = "latest"
) -> dict[str, Any]:
    """Measures the base model and a checkpoint of a workdir on the config's test splits, and writes the report.

    Args:
      config: None for the one that the workdir was made with.
      checkpoint: "base", "latest" (the base model where there is no checkpoint), or a step.

    Raises:
      ConfigError: a checkpoint that is none of these.
      CheckpointError: a step that is not there.
    """
    if checkpoint not in ("base", "latest") and not checkpoint.isdigit():
        raise ConfigError(f"--checkpoint={checkpoint} should be base, latest or the step of a checkpoint")
    config = config or on_main(lambda: read_config(location(workdir)))
    validate(config, jax.device_count())
    workdir = open_workdir(workdir, config)
    use_compile_cache(config)
    mesh = make_mesh(mesh_shape(config, jax.device_count()))
    test_items = load_tests(config)
    asked = asked_of(config, test_items, load_safety(config))
    model = base_model(config, mesh, log_of(config, workdir, "pretrain"))
    step = (
        latest_step(workdir) if checkpoint == "latest" else None if checkpoint == "base" else int(checkpoint)
    )
    if checkpoint == "latest" and step is None:
        print(f"{workdir} has no checkpoint: measuring the base model alone")
    scorer = Scorer(model.config, mesh)
    boundary = config.evaluation.boundary
    tests = [split_of(config, name, items, model, boundary) for name, items in test_items.items()]
    base = measure(config, scorer, model.params, tests, "base", fingerprint(model.params))
    on_main(lambda: write_tables(workdir / "tables" / "base.npz", base))
    said = [write_answers(config, model, chat_of(config, model), asked, workdir)]
    if step is None:
        return on_main(lambda: write_audit(config, workdir, tests, base, asked, said[0]))
    trained = checkpoint_model(config, workdir, step, model)
    scorer = scorer if trained.config == model.config else Scorer(trained.config, mesh)
    final = measure(config, scorer, trained.params, tests, "final")
    on_main(lambda: write_tables(workdir / "tables" / "final.npz", final))
    said.append(write_answers(config, trained, chat_of(config, trained), asked, workdir))
    return on_main(lambda: write_report(config, workdir, tests, base, final, asked, said))


def main(argv: Sequence[str]) -> None:
    del argv
    run_command(evaluate_workdir, _CONFIG.value, _WORKDIR.value, _CHECKPOINT.value)


if __name__ == "__main__":
    _CONFIG = config_flag()
    flags.declare_key_flag("config")
    _WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run (made if it is not there).")
    _CHECKPOINT = flags.DEFINE_string("checkpoint", "latest", "base, latest, or the step of a checkpoint.")
    flags.mark_flags_as_required(["workdir"])
    run_app(main, joint=True)
