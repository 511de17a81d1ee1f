"""Writes down what was measured: report.json and report.html, before and after, or of a model alone."""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from consistency_jax import report
from consistency_jax.config.stages import filled, method_of, model_name, stages_of
from consistency_jax.data.facts import items_digest
from consistency_jax.data.items import Items
from consistency_jax.evaluation.free_text import (
    GenerationTask,
    Responses,
    free_text_figures,
    write_responses,
)
from consistency_jax.metrics.rankc import shared_candidates
from consistency_jax.objectives import options_of
from consistency_jax.runtime.cli import own_command, version
from consistency_jax.table import RANKED, Table


def write_report(
    config: ConfigDict,
    workdir: Path,
    items: Mapping[str, Items],
    base: dict[str, Table],
    final: dict[str, Table] | None,
    tasks: Sequence[GenerationTask],
    responses: Sequence[Sequence[Responses]],
    notes: Sequence[str] = (),
    checkpoint: tuple[str, int] | None = None,
) -> dict[str, Any]:
    """report.json, report.html, and the table on the terminal; returns what report.json holds.

    Args:
      items: of each split.
      final: None for a report of the base model alone.
      tasks: what was answered in free text; responses: those before, and those after.
      notes: what is odd about what was measured.
      checkpoint: stage and step that `final` is of.
    """
    summary = report.summarise(
        base,
        final,
        normalization=config.evaluation.normalization,
        seed=config.seed,
        resamples=config.evaluation.bootstrap,
        groups={name: [item.group for item in own] for name, own in items.items()},
        language_groups=config.evaluation.groups.to_dict(),
        steer=_steer(config) if final is not None else None,
    )
    summary["settings"] |= {"version": version(), "notes": [*notes, *_quantised(config)]}
    if checkpoint:
        finished = checkpoint == _end(config)
        summary["settings"] |= {"checkpoint": list(checkpoint), "finished": finished}
    for name, own in items.items():
        if name in base:
            summary["settings"]["splits"][name]["asked"] = asked(own, base[name])
    if tasks:
        write_responses(workdir, tasks, *responses)
        summary |= free_text_figures(config, tasks, *responses)
    page = report.write_report(
        workdir,
        summary,
        base,
        final,
        items,
        free_text={
            task.name: tuple(side.texts for side in sides)
            for task, *sides in zip(tasks, *responses, strict=True)
            if not task.safety
        },
        config=filled(config).to_dict(),
        command=own_command() or None,
        title=page_title(config, final is None),
        about=_about(config, base, final is None, checkpoint),
    )
    print(report.terminal_table(summary))
    print(f"report: {page}")
    return summary


def asked(items: Items, table: Table) -> str:
    """A digest of what was asked in a table's languages, by which measurements of models are known to be comparable:
    questions, candidates and what is right; where candidates are made of what a model answered, what is right alone."""
    kept = list(items)
    if table.known != "scores":
        for n, own in enumerate(told_candidates(table)):
            told = {code: tuple(compress(texts, own)) for code, texts in kept[n].candidates.items()}
            kept[n] = dataclasses.replace(kept[n], candidates=told)
    return items_digest([(kept, table.languages)])


def told_candidates(table: Table) -> np.ndarray:
    """bool[N, K]: the candidates of each item that the data tell, of a table of answers alone: not the places of
    languages that gave none; no candidate where all are made of what was answered."""
    return shared_candidates(table.mask) & (table.known == "answers")


def page_title(config: ConfigDict, alone: bool) -> str:
    """Which model, and what was done to it; `alone`: nothing."""
    names = " then ".join(stage.name.upper() for stage in stages_of(config))
    return (
        f"{model_name(config)}: how alike it answers"
        if alone
        else f"{model_name(config)}, before and after {names}"
    )


def _quantised(config: ConfigDict) -> list[str]:
    """A note where the model that was measured is not quite the one that model.path names."""
    if config.lora.base == "none":
        return []
    told = f"measured with projections in {config.lora.base}, which is not the model as it is stored"
    return [f"{told}; an export merges adapters into that one" if config.lora.rank else told]


def _end(config: ConfigDict) -> tuple[str, int]:
    """The stage and the step with which a run ends."""
    last = stages_of(config)[-1]
    return last.name, last.config.total_steps


def measured_at(config: ConfigDict, checkpoint: Sequence[Any] | None) -> str:
    """Where a run stood when its trained model was measured; "" for its end, or where that is not known."""
    if not checkpoint or tuple(checkpoint) == _end(config):
        return ""
    return "step {1:,} of {0}, before its end".format(*checkpoint)


def _about(
    config: ConfigDict, base: Mapping[str, Table], alone: bool, checkpoint: tuple[str, int] | None
) -> dict[str, str]:
    """What was measured, of what, by which version: the first lines of the page."""
    told = {"Model": config.model.path or model_name(config)}
    if not alone:
        told["Method"] = method_of(stages_of(config))
    if at := measured_at(config, checkpoint):
        told["Measured at"] = at
    data = config.data.source + (f" ({config.data.path})" if config.data.path else "")
    ranked = f"{config.evaluation.normalization}, {RANKED[config.evaluation.normalization]}"
    if all(table.known != "scores" for table in base.values()):
        ranked = "nothing: the first answers are all that is known"
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return told | {"Data": data, "Ranked by": ranked, "Date": today, "Version": version()}


def _steer(config: ConfigDict) -> dict[str, float]:
    """The weights of the last stage that draws languages to each other; none without such a stage."""
    own = [options_of(stage.config.objective) for stage in stages_of(config)]
    return next((dict(options["steer"]) for options in reversed(own) if "steer" in options), {})
