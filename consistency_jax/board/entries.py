"""The entries of a board: what a model reached on each benchmark, with the value of every question.

    {"schema": 1, "model": NAME, "benchmarks": {NAME: {
        "items", "languages": [...], "asked": digest of what was asked, "ranked_by", "tokens", "version", "settings",
        "figures": {key: [value, low, high]}, "by_language": {key: {language: [value, low, high]}},
        "values": {key: [a value or null a question]}}}}

Figures are those of report.json, percentages. `values` are what the paired comparison of two models takes, and what
figures must follow from: an entry that was edited by hand is refused.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from consistency_jax.config.stages import model_name
from consistency_jax.errors import UserError
from consistency_jax.metrics.arrays import mean_known
from consistency_jax.metrics.bootstrap import weighted_means
from consistency_jax.report.figures import ACCURACY, CLC, PAIRS, TOP1, Figure, Ranked, measured
from consistency_jax.runtime.files import read_json
from consistency_jax.table import Table, read_tables
from consistency_jax.training.workdir import LOGS, read_config, read_report

SCHEMA = 1
SHOWN: tuple[Figure, ...] = (CLC, TOP1, ACCURACY)  # of which the board has the value of every question
FIGURES = {key: label for figure in SHOWN for key, label in figure.labels.items() if key in figure.headline}
FIGURES |= {
    "capa_all": "Agreement beyond accuracy (CAPA x 100)",
    "accuracy_gap": ACCURACY.labels["accuracy_gap"],
}
BY_LANGUAGE = {"clc": "clc_with_others", "accuracy": "accuracy"}
SETTINGS = ("evaluation.boundary", "model.compute_dtype", "data.chat_template")
_TEXTS = ("asked", "ranked_by", "version")


def entries_of(paths: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Model -> its entry, of workdirs of audits and of entries that were written before, one by one.

    Raises:
      UserError: what is neither, or a model that is there twice on one benchmark.
    """
    entries: dict[str, dict[str, Any]] = {}
    came: dict[tuple[str, str], Path] = {}
    for path in paths:
        found = checked(path) if path.suffix == ".json" else entry_of(path)
        own = entries.setdefault(found["model"], found | {"benchmarks": {}})
        for name, benchmark in found["benchmarks"].items():
            other = came.setdefault((found["model"], name), path)
            if other != path:
                raise UserError(
                    f"{other} and {path} are both of {found['model']} on {name}: give one of them"
                )
            own["benchmarks"][name] = benchmark
    return entries


def entry_of(workdir: Path) -> dict[str, Any]:
    """The entry of what one audit, or the base model of one run, measured.

    Raises:
      UserError: a folder that is no workdir, or has measured nothing.
    """
    config, summary = read_config(workdir), read_report(workdir)
    path = workdir / "tables" / "base.npz"
    if summary is None or not path.exists():
        raise UserError(f"{workdir} has no report.json: measure the model first, consistency-jax audit")
    if "final" in summary:
        raise UserError(f"{workdir} is a training run: audit what it exported, consistency-jax export")
    try:
        tables = read_tables(path)
    except ValueError as error:
        raise UserError(str(error)) from error
    several = len(tables) > 1 or config.data.source == LOGS
    return {
        "schema": SCHEMA,
        "model": model_name(config),
        "benchmarks": {
            split
            if config.data.source == LOGS
            else f"{config.data.source}{f': {split}' * several}": _benchmark(config, summary, split, table)
            for split, table in tables.items()
        },
    }


def _benchmark(config: ConfigDict, summary: Mapping[str, Any], split: str, table: Table) -> dict[str, Any]:
    value, sure = summary["base"][split], summary["confidence"][split]
    ranked_by = summary["settings"]["normalization"]
    columns = measured(SHOWN, Ranked(table, ranked_by), len(table.languages))
    values = {
        f"{figure.name}{'_all' if figure.block is PAIRS else ''}": mean_known(own, axis=1)
        for figure, (own, _) in columns.items()
    }
    tokens = {"answers": table.length, "prompts": table.prompt_length}
    return {
        "items": len(table.ids),
        "languages": list(table.languages),
        "asked": asked(table),
        "ranked_by": ranked_by if table.ranked else "answers alone",
        "tokens": {name: None if own is None else int(own.sum()) or None for name, own in tokens.items()},
        "version": summary["settings"].get("version", ""),
        "settings": {key: _at(config, key) for key in SETTINGS},
        "figures": {key: [value[key], *sure[key]] for key in FIGURES},
        "by_language": {
            name: {language: [value[key][language], *sure[key][language]] for language in table.languages}
            for name, key in BY_LANGUAGE.items()
        },
        "values": {
            key: [None if np.isnan(x) else round(float(x), 4) for x in own] for key, own in values.items()
        },
    }


def asked(table: Table) -> str:
    """A digest of what was asked: questions, languages, candidates by their bytes, and what is right."""
    head = json.dumps([table.ids, table.languages], ensure_ascii=False)
    gold = np.asarray(table.gold).astype(np.int32)
    parts = (head.encode(), table.mask.tobytes(), table.bytes.astype(np.int32).tobytes(), gold.tobytes())
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def _at(config: ConfigDict, key: str) -> Any:
    for part in key.split("."):
        config = config.get(part) if hasattr(config, "get") else None
    return config


# ------------------------------------------------------------------------------------------------------------- checking
def checked(path: Path) -> dict[str, Any]:
    """An entry from its file.

    Raises:
      UserError: it is none, or its figures do not follow from its values; the file and the place are told.
    """
    try:
        entry = read_json(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is no entry of a board ({error})") from error
    try:
        if entry["schema"] != SCHEMA:
            raise ValueError(f"schema {entry['schema']}, not {SCHEMA}")
        if not isinstance(entry["model"], str) or not entry["model"].strip():
            raise ValueError("model is no name")
        if set(entry) != {"schema", "model", "benchmarks"} or not entry["benchmarks"]:
            raise ValueError(f"it has {', '.join(entry)}")
        for name, benchmark in entry["benchmarks"].items():
            _check(benchmark, f"benchmarks.{name}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        told = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else error
        raise UserError(f"{path} is no entry of a board: {told}") from error
    return entry


def _check(own: Mapping[str, Any], where: str) -> None:
    if not all(isinstance(own[key], str) for key in _TEXTS) or not isinstance(own["items"], int):
        raise ValueError(f"{where}: {', '.join(_TEXTS)} are texts, items is a number")
    languages = own["languages"]
    if not languages or not all(isinstance(name, str) for name in languages):
        raise ValueError(f"{where}.languages are no names")
    by_language = [(f"{name}.{l}", own["by_language"][name][l]) for name in BY_LANGUAGE for l in languages]
    for key, figure in [*((key, own["figures"][key]) for key in FIGURES), *by_language]:
        value, low, high = (-101 if part is None else float(part) for part in figure)
        if not -101 <= low <= high <= 100 or not -101 <= value <= 100:
            raise ValueError(f"{where}.figures.{key} is {figure}, not [value, low, high]")
    for key, values in own["values"].items():
        numbers = np.array([np.nan if x is None else x for x in values], float)
        if numbers.shape != (own["items"],):
            raise ValueError(f"{where}.values.{key} has {len(values)} values of {own['items']} questions")
    for key, mean in (("clc_all", "clc_all"), ("top1_agreement_all", "top1_agreement_all")):
        told = own["figures"][key][0]
        numbers = np.array([np.nan if x is None else x for x in own["values"][mean]], float)
        found = weighted_means(numbers[:, None])[0]
        # Means over pairs of means over questions, and the other way round, are alike where no language lacks any.
        if told is not None and not abs(told - found) < 0.05 + 10 * np.isnan(numbers).any():
            raise ValueError(f"{where}.figures.{key} is {told:g}, but its values have the mean {found:.4g}")
