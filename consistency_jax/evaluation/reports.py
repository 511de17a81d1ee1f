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
