"""Writes down what was measured: report.json and report.html, before and after, or of a model alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from consistency_jax import report
from consistency_jax.config.stages import stages_of
from consistency_jax.evaluation.free_text import Asked, Said, write_texts, written_figures
from consistency_jax.evaluation.splits import Split
from consistency_jax.objectives import OBJECTIVES
from consistency_jax.runtime.cli import command_line
from consistency_jax.table import Table


def write_report(
    config: ConfigDict,
    workdir: Path,
    tests: Sequence[Split],
    base: dict[str, Table],
    final: dict[str, Table] | None,
    asked: Sequence[Asked],
    said: Sequence[Sequence[Said]],
) -> dict[str, Any]:
    """report.json, report.html, and the table on the terminal.

    Args:
      final: None for a report of the base model alone.
      asked: what was answered in free text; said: the answers before, and those after.
    """
    summary = report.summarise(
        base,
        final,
        normalization=config.evaluation.normalization,
        seed=config.seed,
        resamples=config.evaluation.bootstrap,
        groups={split.name: [item.group for item in split.items] for split in tests},
        language_groups=config.evaluation.groups.to_dict(),
        steer=_steer(config) if final is not None else None,
    )
    if asked:
        write_texts(workdir, asked, *said)
        summary |= written_figures(config, asked, *said)
    page = report.write_report(
        workdir,
        summary,
        base,
        final,
        {split.name: split.items for split in tests},
        free_text={
            one.name: tuple(side.texts for side in sides)
            for one, *sides in zip(asked, *said, strict=True)
            if not one.safety
        },
        config=config.to_dict(),
        command=command_line(),
    )
    print(report.terminal_table(summary))
    print(f"report: {page}")
    return summary


def _steer(config: ConfigDict) -> dict[str, float]:
    """The weights of the last stage that draws languages to each other; none without such a stage."""
    objectives = [stage.config.objective for stage in stages_of(config)]
    drawn = [objective for objective in objectives if OBJECTIVES[objective.name].unlabelled]
    return drawn[-1].steer.to_dict() if drawn else {}
