"""The entries of a board: what a model reached on each benchmark, with the value of every question.

    {"schema": 1, "model": NAME, "benchmarks": {NAME: {
        "items", "languages": [...], "asked": digest of what was asked, "ranked_by", "settings", "tokens", "version",
        "figures": {key: [value, low, high]}, "by_language": {key: {language: [value, low, high]}},
        "values": {key: [a value or null a question]}}}}

Figures are those of report.json, percentages. `values` are what the paired comparison of two models takes; CLC and
agreement must follow from them. There are none where a language lacks some of the questions: figures are then no means
over questions.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from consistency_jax.config.stages import model_name
from consistency_jax.errors import ConfigError, UserError
from consistency_jax.metrics.arrays import mean_known
from consistency_jax.metrics.bootstrap import weighted_means
from consistency_jax.report.figures import ACCURACY, CLC, TOP1, Ranked, measured
from consistency_jax.report.paired import plain
from consistency_jax.runtime.files import expanded, read_json
from consistency_jax.table import KNOWN, Table, read_tables
from consistency_jax.training.workdir import LOGS, begun, damaged_report, holds_run, read_config, read_report

SCHEMA = 1
LABELS = {key: label for figure in (CLC, TOP1, ACCURACY) for key, label in figure.labels.items()}
FIGURES = {key: LABELS[key] for key in (*CLC.headline, *TOP1.headline, *ACCURACY.headline)}
FIGURES |= {"capa_all": "Agreement beyond accuracy (CAPA x 100)", "accuracy_gap": LABELS["accuracy_gap"]}
# Of a language; the first of these keys that is known.
BY_LANGUAGE = {"with_others": ("clc_with_others", "top1_agreement_with_others"), "accuracy": ("accuracy",)}
# Of which a board has the value of every question.
VALUES = {"clc_all": CLC, "top1_agreement_all": TOP1}
# What else decides how a question is asked.
SETTINGS = ("evaluation.boundary", "data.chat_template", "data.system_prompt")
OWN_TABLES = ("jsonl", "mapped")  # sources that are no data set by themselves


def entries_of(paths: Iterable[str]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Model -> its entry, of workdirs of audits and of entries that were written before; and what was left out.

    Args:
      paths: each a folder or file; NAME=FOLDER for a model of another name than its file's.

    Raises:
      UserError: what is neither, or a model that is there twice on one benchmark.
    """
    entries: dict[str, dict[str, Any]] = {}
    came: dict[tuple[str, str], Path] = {}
    notes, places = [], {}
    for text in paths:
        name, _, rest = text.partition("=") if "=" in text and not expanded(text).exists() else ("", "", text)
        path = expanded(rest)
        if path.name == "compare.json":
            continue
        if path.suffix != ".json" and path.exists() and (why := _no_audit(path)):
            notes.append(f"{path} is {why}")
            continue
        found = checked(path) if path.suffix == ".json" else entry_of(path)
        model = name or found["model"]
        if path.suffix != ".json" and not name:
            place = read_config(path).model.path
            if place != (first := places.setdefault(model, place)):
                notes.append(
                    f"{first} and {place} are taken for one model, {model}: where they are two, NAME={path}"
                )
        own = entries.setdefault(model, found | {"model": model, "benchmarks": {}})
        for benchmark, told in found["benchmarks"].items():
            taken = own["benchmarks"].get(benchmark)
            if taken and taken["asked"] != told["asked"]:  # other languages of it, say
                benchmark += _part(told)
            other = came.setdefault((model, benchmark), path)
            if other != path:
                raise UserError(
                    f"{other} and {path} are both of {model} on {benchmark}: give one of them, or another name, "
                    f"NAME={path}"
                )
            own["benchmarks"][benchmark] = told
    return entries, notes


def _part(benchmark: Mapping[str, Any]) -> str:
    """What parts the name of a benchmark from that of another one of the same set."""
    return f", {benchmark['items']} questions in {' '.join(benchmark['languages'])}"


def set_name(name: str, benchmark: Mapping[str, Any]) -> str:
    """The name of the set that a benchmark of an entry is of."""
    return name.removesuffix(_part(benchmark))


def _no_audit(path: Path) -> str:
    """What else lies among workdirs, and is left out; "" for what an audit may be."""
    if not holds_run(path):
        return "no workdir, left out"
    trained = begun(path) or "final" in (read_report(path) or {})
    return "a training run, left out: audit what it exported" if trained else ""


def entry_of(workdir: Path) -> dict[str, Any]:
    """The entry of what one audit measured.

    Raises:
      UserError: a folder that is no workdir, has measured nothing, or did so with an older version.
    """
    config, summary = read_config(workdir), read_report(workdir)
    path = workdir / "tables" / "base.npz"
    missing = "report.json" if summary is None else "" if path.exists() else "tables/base.npz"
    if missing:
        raise UserError(f"{workdir} has no {missing}: measure the model first, consistency-jax audit")
    try:
        tables = read_tables(path)
        benchmarks = {
            _name(config, split, tables): _benchmark(config, summary, split, table)
            for split, table in tables.items()
        }
    except KeyError as error:  # of an older version
        raise damaged_report(workdir, error) from error
    except ValueError as error:
        raise UserError(str(error)) from error
    return {"schema": SCHEMA, "model": model_name(config), "benchmarks": benchmarks}


def _name(config: ConfigDict, split: str, tables: Mapping[str, Table]) -> str:
    source, file = config.data.source, Path(config.data.path).name
    if source == LOGS:
        return split
    name = f"{source} {file}" if source in OWN_TABLES and file else source
    return f"{name}: {split}" if len(tables) > 1 else name


def _ranked_by(config: ConfigDict, normalization: str, table: Table) -> str:
    if table.known == "scores":
        return normalization
    match = config.data.options.get("match", "")
    return KNOWN[table.known].partition(",")[0] + (f", matched by {match}" if match else "")


def _benchmark(config: ConfigDict, summary: Mapping[str, Any], split: str, table: Table) -> dict[str, Any]:
    value, sure = summary["base"][split], summary["confidence"][split]
    about, ranked_by = summary["settings"]["splits"][split], summary["settings"]["normalization"]
    values = {}
    if np.asarray(table.mask).any(2).all():
        columns = measured(tuple(VALUES.values()), Ranked(table, ranked_by), len(table.languages))
        values = {key: plain(mean_known(columns[figure][0], axis=1)) for key, figure in VALUES.items()}
    tokens = {"answers": table.length, "prompts": table.prompt_length}
    flat = config.to_dict()
    return {
        "items": len(table.ids),
        "languages": list(table.languages),
        "asked": about["asked"],
        "ranked_by": _ranked_by(config, ranked_by, table),
        "settings": {key: flat[room][name] for key in SETTINGS for room, name in [key.split(".")]},
        "tokens": {name: None if own is None else int(own.sum()) or None for name, own in tokens.items()},
        "version": summary["settings"]["version"],
        "figures": {key: [value[key], *sure[key]] for key in FIGURES},
        "by_language": {
            name: {code: [value[key][code], *sure[key][code]] for code in table.languages}
            for name, keys in BY_LANGUAGE.items()
            for key in [next((own for own in keys if value[own][table.languages[0]] is not None), keys[0])]
        },
        "values": values,
    }


# ------------------------------------------------------------------------------------------------------------- checking
def checked(path: Path) -> dict[str, Any]:
    """An entry from its file.

    Raises:
      ConfigError: it is none, or its CLC or agreement does not follow from its values; the file and the place are told.
    """
    try:
        entry = read_json(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is no entry of a board ({error})") from error
    wrong = _wrong(entry)
    if wrong:
        raise ConfigError(f"{path} is no entry of a board: {wrong}")
    return entry


def _wrong(entry: Any) -> str:
    """What is wrong with an entry, and where; "" for nothing."""
    if not isinstance(entry, dict) or set(entry) != {"schema", "model", "benchmarks"}:
        return "it should have schema, model and benchmarks, and nothing else"
    if entry["schema"] != SCHEMA:
        return f"schema should be {SCHEMA}, not {entry['schema']!r}"
    if not isinstance(entry["model"], str) or not entry["model"].strip():
        return f"model should be a name, not {entry['model']!r}"
    if not isinstance(entry["benchmarks"], dict) or not entry["benchmarks"]:
        return "benchmarks should be an object with one or more"
    for name, own in entry["benchmarks"].items():
        if wrong := _wrong_benchmark(own):
            return f"benchmarks.{name}.{wrong}"
    return ""


def _wrong_benchmark(own: Any) -> str:
    kinds = {key: str for key in ("asked", "ranked_by", "version")} | {"items": int, "languages": list}
    kinds |= dict.fromkeys(("settings", "tokens", "figures", "by_language", "values"), dict)
    for key, kind in kinds.items():
        if not isinstance(own, dict) or type(own.get(key)) is not kind:
            return f"{key} should be of kind {kind.__name__}"
    languages = own["languages"]
    if not languages or not all(isinstance(code, str) for code in languages):
        return "languages should be names"
    figures = {f"figures.{key}": own["figures"].get(key) for key in FIGURES}
    for name in BY_LANGUAGE:
        told = own["by_language"].get(name, {})
        if not isinstance(told, dict):
            return f"by_language.{name} should be of kind dict"
        figures |= {f"by_language.{name}.{code}": told.get(code) for code in languages}
    for place, figure in figures.items():
        if not isinstance(figure, list) or len(figure) != 3 or not all(map(_number, figure)):
            return f"{place} should be [value, low, high], percentages or null, not {figure!r}"
        if None not in figure and figure[1] > figure[2]:
            return f"{place} should be [value, low, high], and low is above high"
    for key, values in own["values"].items():
        if key not in VALUES or not isinstance(values, list) or not all(map(_number, values)):
            return f"values.{key} should be a list of percentages or null, of {', '.join(VALUES)}"
        if len(values) != own["items"]:
            return f"values.{key} should have {own['items']} values, one a question, not {len(values)}"
        told, found = own["figures"][key][0], weighted_means(np.array(values, float)[:, None])[0]
        if (told is None) != np.isnan(found) or (told is not None and abs(told - found) > 0.01):
            return f"figures.{key} is {told}, but the mean of its values is {found:.4g}"
    return ""


def _number(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and math.isfinite(value) and -100 <= value <= 100)
