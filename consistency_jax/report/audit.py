"""A report of one model alone: no before and after, every figure with its own interval.

report.json holds {"base": {split: figures}, "confidence": {split: the [low, high] of each figure}, "analysis": {split:
{"temperature", "tolerance", "experts", "normalizations", "groups"}}, "settings"}: the keys and units of
report/summary.py without what takes two sides, so "base" is what another run's report calls "base". "generation" and
"safety" are told in report/written.py.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from consistency_jax.files import write_text
from consistency_jax.metrics.accuracy import correct
from consistency_jax.metrics.arrays import mean_known
from consistency_jax.metrics.divergence import BOUNDS, both_ways, divergences, tolerance_area, tolerance_curve
from consistency_jax.metrics.experts import experts
from consistency_jax.metrics.groups import item_groups
from consistency_jax.report import charts
from consistency_jax.report.analysis import KIND, fitted, headline_columns
from consistency_jax.report.html import template
from consistency_jax.report.names import language_name
from consistency_jax.report.paired import Columns, Design, levels, plain, rows_of, unweighted
from consistency_jax.report.summary import (
    Tables,
    by_split,
    columns_of,
    known_groups,
    known_items,
    settings_of,
)
from consistency_jax.report.views import DIVERGENCES, FIGURES, HEADLINE, written_names
from consistency_jax.table import Table

_EPSILONS = (0.01, 0.05, 0.1, 0.2, 0.3, 0.5)
_MOST_GROUPS = 100  # of items; the largest


def audit(
    tables: Tables,
    *,
    normalization: str = "mean_full",
    anchor: str = "en",
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    groups: Mapping[str, Sequence[str]] | None = None,
    language_groups: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """The contents of report.json; arguments and errors as of `summarise`."""
    summary: dict[str, Any] = {"base": {}, "confidence": {}, "analysis": {}}
    tables = by_split(tables)
    for split, table in tables.items():
        members = known_groups(language_groups, table)
        design = Design(table.languages, anchor, members, confidence, resamples, seed)
        scores, temperature = table.scores(normalization), fitted(table)
        columns = dict(columns_of(scores, table, scores, temperature))
        del columns["changed"]
        found = levels(columns, design)
        summary["base"][split], summary["confidence"][split] = found["value"], found["confidence"]
        summary["analysis"][split] = {
            **_tolerance(table, temperature),
            "experts": _experts(table, design),
            "normalizations": {
                name: levels(headline_columns(table.scores(name), table), design)
                for name in table.normalizations
            },
            "groups": _groups(columns, design, known_items(split, groups, table)),
        }
    summary["settings"] = settings_of(
        tables,
        normalization=normalization,
        anchor=anchor,
        confidence=confidence,
        resamples=resamples,
        seed=seed,
        language_groups=language_groups,
    )
    return summary


def _tolerance(table: Table, temperature: Any) -> dict[str, Any]:
    """Of the definition: the fitted temperatures, and the share of questions within each epsilon, mean over pairs."""
    shares: dict[str, Any] = {"epsilon": list(_EPSILONS)}
    area = {}
    for name, own in (("plain", 1.0), ("fitted", temperature)):
        values = both_ways(divergences(table.scores("sum"), table.mask, KIND, own))
        shares[name] = 100 * mean_known(tolerance_curve(values, _EPSILONS), axis=-1)
        area[name] = 100 * mean_known(tolerance_area(values, BOUNDS[KIND]), axis=-1)
    return plain({"temperature": temperature, "tolerance": shares, "tolerance_area": area})


def _experts(table: Table, design: Design) -> dict[str, Any]:
    """What the languages would answer together (report/analysis.py): its accuracy, and each language's part."""
    found = experts(table.scores("sum"), table.mask, [1.0] * len(table.languages))
    columns = unweighted(
        {
            "accuracy": 100 * correct(table.scores("sum"), table.gold, table.mask),
            "accuracy_without": 100 * found.correct_without(table.gold),
            "consensus_accuracy": 100 * found.correct(table.gold)[:, None],
        }
    )
    columns["share"] = (100 * found.share, found.strength[:, None].repeat(len(table.languages), 1))
    return levels(columns, design)


def _groups(columns: Columns, design: Design, groups: Sequence[str] | None) -> dict[str, Any]:
    """CLC and accuracy of each group of items, the largest first; none where there is but one."""
    rows = item_groups(groups) if groups is not None else {}
    if len(rows) < 2:
        return {}
    own = {name: columns[name] for name in ("clc", "accuracy")}
    found = {}
    for name in list(rows)[:_MOST_GROUPS]:
        parts = levels(rows_of(own, rows[name]), design)
        for part in parts.values():
            part.pop("clc_matrix")
        found[name] = {"items": len(rows[name])} | parts
    return found


def write_audit(
    folder: str | Path,
    summary: dict[str, Any],
    *,
    config: Mapping[str, Any] | None = None,
    command: str | None = None,
    title: str = "Crosslingual consistency of one model",
) -> Path:
    """Writes report.json and report.html into `folder`; each appears only when it is complete.

    Args:
      folder: an existing folder, or one to make.
      summary: what `audit` returned, with what `evaluate` adds of written answers.
      config, command: shown as they are.
      title: of the page.

    Returns:
      The path of report.html.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(
        folder / "report.json", json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    )
    page = template("audit.html.j2").render(
        title=title,
        settings=summary["settings"],
        splits=[_view(summary, name) for name in summary["base"]],
        safety=[_written(summary, "safety", kind) for kind in summary.get("safety", {})],
        config=json.dumps(config, indent=2, ensure_ascii=False, default=str) if config else None,
        command=command,
        anchor=language_name(summary["settings"]["anchor"]),
    )
    write_text(folder / "report.html", page)
    return folder / "report.html"


def _view(summary: dict[str, Any], split: str) -> dict[str, Any]:
    """All that the page shows of one split."""
    base, sure, found = (summary[key][split] for key in ("base", "confidence", "analysis"))
    about, anchor = summary["settings"]["splits"][split], language_name(summary["settings"]["anchor"])
    languages, matrix = about["languages"], base["clc_matrix"]
    pairs = sorted(
        (value, languages[i], languages[j])
        for i, row in enumerate(matrix)
        for j, value in enumerate(row)
        if i < j and value is not None
    )

    def side_by_side(parts: Mapping[str, Any], keys: Sequence[str]) -> dict[str, list[Any]]:
        return {
            name: [(part["value"][key], part["confidence"][key]) for key in keys]
            for name, part in parts.items()
        }

    within = {
        name: {"value": base["language_groups"][name], "confidence": sure["language_groups"][name]}
        for name in base.get("language_groups", {})
    }
    return {
        "name": split,
        "about": about,
        "written": _written(summary, "generation", split) if split in summary.get("generation", {}) else None,
        "figures": {
            key: (label.format(anchor=anchor), base[key], sure[key])
            for key, label in FIGURES
            if base.get(key) is not None
        },
        "divergences": [
            (
                label,
                [tuple(side[f"divergence_{key}_{over}"] for side in (base, sure)) for over in ("all", "en")],
            )
            for key, label in DIVERGENCES
            if base[f"divergence_{key}_all"] is not None
        ],
        "accuracy": [
            (language, language_name(language), value, sure["accuracy"][language], charts.bars(None, value))
            for language, value in base["accuracy"].items()
            if value is not None
        ],
        "map": charts.heat_map(matrix, languages, pairs[0][0], pairs[-1][0]) if pairs else None,
        "extremes": [
            (value, language_name(one), language_name(other))
            for value, one, other in ([pairs[-1], pairs[0]] if pairs else [])
        ],
        "tolerance": found["tolerance"],
        "area": found["tolerance_area"],
        "consensus": (
            found["experts"]["value"]["consensus_accuracy"],
            found["experts"]["confidence"]["consensus_accuracy"],
        ),
        "normalizations": side_by_side(found["normalizations"], HEADLINE),
        "language_groups": side_by_side(within, ("clc", "top1_agreement", "accuracy")),
        "groups": side_by_side(found["groups"], HEADLINE),
        "sizes": {name: group["items"] for name, group in found["groups"].items()},
    }


def _written(summary: dict[str, Any], part: str, name: str) -> dict[str, Any]:
    """Rows and map of the answers to a split ("generation"), or of responses to a kind of prompts ("safety")."""
    parts, kind = summary[part][name], name if part == "safety" else part
    columns, totals, (matrix, what) = written_names(kind)
    base, sure, settings = parts["base"], parts["confidence"], parts["settings"]
    anchor, languages = language_name(summary["settings"]["anchor"]), settings["languages"]
    cells = [value for i, row in enumerate(base[matrix]) for value in row[i + 1 :] if value is not None]
    label = f"Agreement in writing, {name}"
    return {
        "kind": kind,
        "settings": settings,
        "columns": [name for _, name in columns],
        "rows": [
            (code, language_name(code), [(base[key][code], sure[key][code]) for key, _ in columns])
            for code in languages
        ],
        "totals": [
            (name.format(anchor=anchor), (base[key], sure[key]))
            for key, name in totals
            if base[key] is not None
        ],
        "what": what,
        "map": charts.heat_map(base[matrix], languages, min(cells), max(cells), label=label)
        if cells
        else None,
    }
