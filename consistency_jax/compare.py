"""Two or more runs side by side: python -m consistency_jax.compare runs/a runs/b ...

Reads what the runs have measured (tables/*.npz) and prints a table of their figures and of their changes, against the
base model or against the first run (`--against=first`), with paired bootstrap intervals; compare.html and compare.json
hold both. Runs whose configs differ in nothing but the seed, and that were measured at one step, are one method: means
and standard deviations over seeds. Audits are compared too, of one model with another: changes are then against the
first.
"""

import dataclasses
import json
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from ml_collections import ConfigDict

from consistency_jax.config.stages import method_of, model_name, stages_of
from consistency_jax.errors import ConfigError, UserError
from consistency_jax.evaluation.reports import measured_at, told_candidates
from consistency_jax.metrics import correct, interval, weighted_means
from consistency_jax.report.columns import LANGUAGES, Figure
from consistency_jax.report.comparison import terminal_comparison, write_comparison
from consistency_jax.report.figures import ANCHOR, FIGURES, Ranked, measured
from consistency_jax.report.paired import CONFIDENCE, Design, figures, plain, replicates
from consistency_jax.runtime.cli import own_command, run_app, run_command
from consistency_jax.runtime.files import expanded, local
from consistency_jax.table import NORMALIZATIONS, Table, read_tables
from consistency_jax.training.loggers import metric_lines
from consistency_jax.training.workdir import LOGS, begun, fixed, read_config, read_report

BASE = "base"


@dataclasses.dataclass(frozen=True)
class Run:
    """What a workdir has measured."""

    label: str  # its path below the folder that holds all that are compared
    config: ConfigDict
    ranked: str  # what its candidates are ranked by
    base: dict[str, Table]  # by split; of audits that of the first
    final: dict[str, Table]
    alone: bool  # an audit, of a model as it is
    items_per_s: float | None  # median over the log's lines; None where nothing was logged
    at: str = ""  # where training stood, if that was not its end


@dataclasses.dataclass(frozen=True)
class Method:
    """Runs that differ in their seed alone (`group`), by seed."""

    name: str
    runs: dict[int, Run]


def compare(
    workdirs: Sequence[str | Path],
    *,
    names: Mapping[str, str] | None = None,
    normalization: str = "",
    resamples: int = 2000,
) -> dict[str, Any]:
    """Compares runs; returns what compare.json holds.

        {"settings": {...}, "methods": [{"name", "model", "method", "runs", "seeds", "items_per_s"}],
         "splits": {split: {method: {"figures": {key: {"mean", "sd"}},
            "against_base" and "against_first": {key: {"mean", "sd", "low", "high"}}}}}}

    Percentages 0..100, differences in points. Means are over the seeds of a method, "sd" is the sample standard
    deviation over them (null for one seed). [low, high] is the percentile interval of a paired bootstrap of that mean:
    items are drawn with replacement, by their ids, from all that any run was tested on: what several seeds and methods
    share is drawn in all of them alike, what one has alone varies alone. It says nothing of other seeds.
    Differences to the first method take the seeds that both have (null without any). The row "base" is there where all
    methods start from the same models. Keys: those that report/figures.py names for comparisons (accuracy_low is the
    mean over the languages whose base accuracy is below the median over all languages), and accuracy/LANGUAGE.

    Args:
      workdirs: of finished runs.
      names: workdir -> name of its method; made from the folders' names by default.
      normalization: what candidates are ranked by; "": what the runs' configs say.

    Raises:
      UserError: a workdir without tables, or runs that did not measure the same.
    """
    runs = read_runs(workdirs, normalization)
    methods = group(runs, names and [names[str(workdir)] for workdir in workdirs])
    splits = {name: table.languages for name, table in runs[0].base.items()}
    _check_parallel(runs)
    low = {split: _low_resource(methods if runs[0].alone else methods[:1], split) for split in splits}
    result: dict[str, Any] = {
        "settings": {
            "normalization": runs[0].ranked,
            "anchor": ANCHOR,
            "confidence": CONFIDENCE,
            "resamples": resamples,
            "first": methods[0].name,
            "alone": runs[0].alone,
            "splits": {
                split: {
                    "items": len(runs[0].base[split].ids),
                    "languages": list(languages),
                    "low_resource": low[split],
                }
                for split, languages in splits.items()
            },
        },
        "methods": [_about(method) for method in methods],
        "splits": {},
    }
    shared_base = not runs[0].alone and all(_same_base(method, methods[0]) for method in methods[1:])
    for split in splits:
        places = {
            name: n for n, name in enumerate(dict.fromkeys(i for run in runs for i in run.base[split].ids))
        }
        drawn = {}
        for method in methods:
            sides = {
                seed: _replicates(run, split, places, low[split], resamples)
                for seed, run in method.runs.items()
            }
            drawn[method.name] = {side: {s: sides[s][side] for s in sides} for side in (BASE, "final")}
        first = drawn[methods[0].name]
        rows = {}
        if shared_base:
            rows[BASE] = _row(first[BASE], first[BASE], first["final"])
        for name, sides in drawn.items():
            rows[name] = _row(sides["final"], sides[BASE], first["final"])
        result["splits"][split] = rows
    return result


# ------------------------------------------------------------------------------------------------------------- the runs
def read_runs(workdirs: Sequence[str | Path], normalization: str = "") -> list[Run]:
    """What finished workdirs hold, labelled by their paths below what they have in common. Candidates are
    ranked by `normalization`; "": by what each one's config says.

    Raises:
      UserError: a folder that is no workdir, or has not measured anything.
    """
    folders = [local(workdir, "a workdir to compare") for workdir in workdirs]
    if not folders:
        raise ConfigError("give workdirs to compare")
    if len(set(folders)) < len(folders):
        raise ConfigError("a workdir is given twice")
    parent = Path(os.path.commonpath([folder.parent for folder in folders]))
    audits = not any((folder / "tables" / "final.npz").exists() or begun(folder) for folder in folders)
    runs = [_read_run(folder, str(folder.relative_to(parent)), normalization, audits) for folder in folders]
    return [dataclasses.replace(run, base=runs[0].base) for run in runs] if audits else runs


def _read_run(folder: Path, label: str, normalization: str, audit: bool) -> Run:
    config = read_config(folder)
    ranked = normalization or config.evaluation.normalization
    tables = []
    for side in ("base",) if audit else ("base", "final"):
        path = folder / "tables" / f"{side}.npz"
        if not path.exists():
            if side == "final" and not begun(folder) and read_report(folder) is not None:
                mend = "compare audits with audits, and runs with runs"
                raise UserError(
                    f"{folder} is an audit, of a model as it is, and others are training runs: {mend}"
                )
            raise UserError(
                f"{folder} has no tables/{side}.npz: let its training finish, or measure what there is with "
                f"python -m consistency_jax.evaluate --workdir={folder}"
            )
        try:
            tables.append(read_tables(path))
        except ValueError as error:
            raise UserError(str(error)) from error
    base, final = tables[0], tables[-1]
    _check_whole(folder, ranked, base, final)
    settings = (read_report(folder) or {}).get("settings") or {}
    at = "" if audit else measured_at(config, settings.get("checkpoint"))
    return Run(label, config, ranked, base, final, audit, _items_per_s(config, folder), at)


def _check_whole(folder: Path, ranked: str, base: dict[str, Table], final: dict[str, Table]) -> None:
    """Refuses tables that config.json does not speak of: a model was measured again, and with other settings."""
    mend = f"measure both models again: python -m consistency_jax.evaluate --workdir={folder}"
    if set(base) != set(final):
        raise UserError(
            f"{folder}: tables/base.npz has the splits {', '.join(base)}, tables/final.npz {', '.join(final)}; {mend}"
        )
    for split, table in base.items():
        if table.languages != final[split].languages:
            raise UserError(f"{folder}: the tables of split {split!r} differ in their languages; {mend}")
        for side, own in (("base", table), ("final", final[split])):
            try:
                own.scores(ranked)
            except ValueError as error:
                raise UserError(
                    f"{folder}: tables/{side}.npz cannot be ranked by {ranked} ({error}), but by "
                    f"{', '.join(own.normalizations)}: give --normalization=NAME, or {mend}"
                ) from error


def _items_per_s(config: ConfigDict, folder: Path) -> float | None:
    path, stages = folder / "metrics.jsonl", [stage.name for stage in stages_of(config)]
    if not path.exists():
        return None
    speeds = [line.get("items_per_s") for line in metric_lines(path) if line["stage"] in stages]
    speeds = [speed for speed in speeds if isinstance(speed, float)]
    return statistics.median(speeds) if speeds else None


def group(runs: Sequence[Run], names: Sequence[str] | None = None) -> list[Method]:
    """Runs as methods, in order of first appearance: by name, or those that differ in the seed alone, measured at one
    step.

    Raises:
      UserError: two runs of a method with the same seed.
    """
    members: dict[str, list[Run]] = {}
    for place, run in enumerate(runs):
        members.setdefault(names[place] if names else _settings(run.config) + run.at, []).append(run)
    methods = []
    for key, own in members.items():
        seeds = [run.config.seed for run in own]
        if len(set(seeds)) < len(seeds):
            both = ", ".join(run.label for run in own)
            told = (
                "the same name"
                if names
                else "differ at most in how they were measured (evaluation, data.test)"
            )
            raise UserError(f"{both} have the same seed, and {told}: give one of them")
        name = key if names else os.path.commonprefix([run.label for run in own]).rstrip("/-_. ")
        methods.append(Method(name or own[0].label, dict(zip(seeds, own, strict=True))))
    if not names and len({method.name for method in methods}) < len(methods):
        methods = [Method(next(iter(m.runs.values())).label, m.runs) for m in methods]
    # The row of that name is the model before training.
    return [Method(f"{m.name} (run)" if m.name == BASE else m.name, m.runs) for m in methods]


def _settings(config: ConfigDict) -> str:
    """All that makes a run what it is, but the seed."""
    return json.dumps({key: value for key, value in fixed(config).items() if key != "seed"})


def _about(method: Method) -> dict[str, Any]:
    speeds = [run.items_per_s for run in method.runs.values() if run.items_per_s is not None]
    run = next(iter(method.runs.values()))
    trained = "" if run.alone else method_of(stages_of(run.config))
    at = dict.fromkeys(run.at for run in method.runs.values() if run.at)
    return {
        "name": method.name,
        "model": model_name(run.config),
        "method": ", at ".join([trained or "as it is", *at]),
        "runs": [run.label for run in method.runs.values()],
        "seeds": list(method.runs),
        "items_per_s": statistics.mean(speeds) if speeds else None,
    }


def _check_parallel(runs: Sequence[Run]) -> None:
    """Refuses runs that did not measure the same: splits, languages and ranking; with one seed, items too."""
    first, known = runs[0], {}
    matched = list(dict.fromkeys(run.config.data.options.get("match", "") or "spelling" for run in runs))
    if len(matched) > 1 and all(run.config.data.source == LOGS for run in runs):
        raise UserError(f"answers are matched by {' and '.join(matched)}: audit them by one --match")
    ranked = list(dict.fromkeys(run.ranked for run in runs))
    if len(ranked) > 1:
        tables = [table for run in runs for side in (run.base, run.final) for table in side.values()]
        common = [name for name in NORMALIZATIONS if all(name in table.normalizations for table in tables)]
        raise UserError(
            f"the runs rank candidates by {' and '.join(ranked)}: give --normalization=NAME, one of "
            f"{', '.join(common)}, and all are ranked by it; nothing has to be measured again"
        )
    for run in runs:
        for what, values in {
            "splits": [list(r.final) for r in (first, run)],
            "languages": [{name: list(t.languages) for name, t in r.final.items()} for r in (first, run)],
        }.items():
            if values[0] != values[1]:
                raise _differing(first, run, f"{what} {values[0]} and {values[1]}")
        same_seed = next(other for other in runs if other.config.seed == run.config.seed)
        for split, table in run.final.items():
            for other in (same_seed.final[split], run.base[split]):
                if table.ids != other.ids:
                    raise _differing(same_seed, run, f"other items of split {split!r}")
                told = [
                    each.mask if each.known == "scores" else told_candidates(each).sum(1)
                    for each in (table, other)
                ]
                if (
                    not np.array_equal(*told)
                    or not np.array_equal(table.gold, other.gold)
                    or table.known != other.known
                ):
                    raise _differing(same_seed, run, f"other candidates or answers in split {split!r}")
            # Of other seeds, too, whose splits share questions.
            for n, name in enumerate(table.ids):
                other, told = known.setdefault((split, name), (run, _told(table, n)))
                if told != _told(table, n):
                    what = f"other candidates or answers to question {name!r} of split {split!r}"
                    raise _differing(other, run, what)


def _told(table: Table, n: int) -> list[list[int]]:
    """Which candidates item n of a table has in each language, where they are told, and which are right."""
    right = table.gold[n]
    mask = table.mask[n] if table.known == "scores" else ()
    right = np.flatnonzero(right).tolist() if right.ndim else [int(right)] * int(right >= 0)
    return [*(np.flatnonzero(cells).tolist() for cells in mask), right]


def _differing(one: Run, other: Run, what: str) -> UserError:
    mend = "measure both again with the same evaluation.* and data.test* "
    mend += "(python -m consistency_jax.evaluate --config=... --workdir=...)"
    if LOGS in (one.config.data.source, other.config.data.source):
        mend = "logs are compared with logs of the same tasks, joined alike (audit --from=... --tasks=... --join=...)"
    return UserError(f"{one.label} and {other.label} cannot be compared, they measured {what}; {mend}")


def _same_base(one: Method, other: Method) -> bool:
    """Whether they start from the same models, seed by seed."""
    return set(one.runs) == set(other.runs) and all(
        # 1e-3: rounding of another batch shape
        np.allclose(table.logp, other.runs[seed].base[split].logp, atol=1e-3)
        for seed, run in one.runs.items()
        for split, table in run.base.items()
    )


# -------------------------------------------------------------------------------------------------------------- figures
def _low_resource(methods: Sequence[Method], split: str) -> list[str]:
    """Languages whose accuracy, mean over runs, is below the median over all languages: the base's accuracy, or that of
    all models that are compared as they are, of which none may choose them by its own errors alone."""
    right = []
    for method in methods:
        for run in method.runs.values():
            table = (run.final if run.alone else run.base)[split]
            scores = table.scores(run.ranked)
            right.append(weighted_means(correct(scores, table.gold, table.mask)))
    mean = np.mean(right, axis=0)
    known = mean[~np.isnan(mean)]
    middle = np.median(known) if known.size else np.nan  # NaN: what is right is not known
    return [name for name, value in zip(table.languages, mean, strict=True) if value < middle]


def _replicates(
    run: Run, split: str, places: Mapping[str, int], low: Sequence[str], resamples: int
) -> dict[str, dict[str, np.ndarray]]:
    """Side -> figure -> f64[1 + R]: its value, then those of R bootstrap samples of the items of all runs, the same
    ones for every run. `places` numbers those items by id; what a run does not have weighs nothing in it."""
    base, normalization = run.base[split], run.ranked
    design = Design(base.languages, {"low": low}, resamples=resamples)
    rows = [figure for figure in FIGURES if figure.compare]
    columns = [
        measured(rows, Ranked(table, normalization, base), len(base.languages))
        for table in (base, run.final[split])
    ]
    own = [places[name] for name in base.ids]
    columns = [
        {figure: [_placed(part, own, len(places)) for part in parts] for figure, parts in side.items()}
        for side in columns
    ]
    return {
        side: _flat(rows, figures(means, design))
        for side, means in zip((BASE, "final"), replicates(columns, design), strict=True)
    }


def _placed(rows: np.ndarray, places: Sequence[int], count: int) -> np.ndarray:
    """Rows [n, M] at their places among `count`, zeros elsewhere: values as well as weights, so that none counts."""
    placed = np.zeros((count, rows.shape[1]))
    placed[places] = rows
    return placed


def _flat(rows: Sequence[Figure], found: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The figures that tables show, and those of every language."""
    low = {f"{name}_low": values for name, values in found["language_groups"]["low"].items()}
    flat = {key: (low | found)[key] for figure in rows for key in figure.compare}
    return flat | {
        f"{figure.name}/{language}": values
        for figure in rows
        if figure.block is LANGUAGES
        for language, values in found[figure.name].items()
    }


BySeed = dict[int, dict[str, np.ndarray]]  # seed -> figure -> f64[1 + R]


def _row(own: BySeed, base: BySeed, first: BySeed) -> dict[str, Any]:
    keys = next(iter(own.values()))
    values = {key: _summary([drawn[key] for drawn in own.values()]) for key in keys}
    row = {"figures": {key: {name: found[name] for name in ("mean", "sd")} for key, found in values.items()}}
    for name, other in (("against_base", base), ("against_first", first)):
        seeds = [seed for seed in own if seed in other]
        row[name] = {key: _summary([own[seed][key] - other[seed][key] for seed in seeds]) for key in keys}
    return row


def _summary(samples: Sequence[np.ndarray]) -> dict[str, float | None]:
    """Mean and standard deviation over seeds, and the interval of the mean; None where it is not known."""
    if not samples:
        return dict.fromkeys(("mean", "sd", "low", "high"))
    values = np.stack(samples)  # [seeds, 1 + R]
    low, high = interval(values[:, 1:].mean(0), CONFIDENCE)
    sd = values[:, 0].std(ddof=1) if len(samples) > 1 else np.nan
    return plain({"mean": values[:, 0].mean(), "sd": sd, "low": low, "high": high})


# -------------------------------------------------------------------------------------------------------------- command
def compare_workdirs(
    workdirs: Sequence[str], out: str | None = None, against: str = "base", normalization: str = ""
) -> None:
    """Compares runs, prints the table and writes compare.html and compare.json.

    Args:
      out: the folder to write to; None for the one that holds the workdirs.
      against: what changes are measured against, "base" or "first".
      normalization: what candidates are ranked by; "": what the runs' configs say.

    Raises:
      UserError: as `compare`.
    """
    if normalization and normalization not in NORMALIZATIONS:
        raise ConfigError(f"--normalization={normalization} should be one of {', '.join(NORMALIZATIONS)}")
    if against not in ("base", "first"):
        raise ConfigError(f"--against={against} should be base or first")
    # What it wrote before stands among them, where they are given as runs/*.
    written = ("compare.html", "compare.json")
    workdirs = [name for name in workdirs if not (Path(name).name in written and expanded(name).is_file())]
    if len(workdirs) < 2:
        raise ConfigError("give two or more workdirs to compare")
    result = compare(workdirs, normalization=normalization)
    against = "first" if result["settings"]["alone"] else against
    parents = [expanded(workdir).absolute().parent for workdir in workdirs]
    folder = local(out, "--out") if out else Path(os.path.commonpath(parents))
    if folder == Path(folder.anchor):
        raise ConfigError(f"the workdirs have no folder in common but {folder}: name one with --out")
    page = write_comparison(folder, result, against=against, command=own_command() or None)
    print(terminal_comparison(result, against=against))
    print(f"comparison: {page}")


def main(argv: Sequence[str]) -> None:
    run_command(compare_workdirs, argv[1:], _OUT.value, _AGAINST.value, _NORMALIZATION.value)


if __name__ == "__main__":
    _OUT = flags.DEFINE_string("out", None, "Folder to write to; by default the one that holds the workdirs.")
    _AGAINST = flags.DEFINE_string("against", "base", "What changes are measured against: base, or first.")
    _NORMALIZATION = flags.DEFINE_string(
        "normalization", "", "What candidates are ranked by; by default what the runs' configs say."
    )
    run_app(main)
