"""The page of a board: a table a benchmark, to be sorted and looked at by language, without a server."""

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from consistency_jax.board.entries import BY_LANGUAGE, FIGURES, set_name
from consistency_jax.metrics.bootstrap import interval, resampled_means
from consistency_jax.report.html import template
from consistency_jax.report.paired import CONFIDENCE
from consistency_jax.runtime.files import write_text

MOST_BYTES = 160  # of the name of a file, which has more behind it while it is written


def write_board(folder: Path, entries: Mapping[str, Mapping[str, Any]], command: str | None = None) -> Path:
    """Writes index.html, and the entry of each model into models/; returns the path of the page."""
    (folder / "models").mkdir(parents=True, exist_ok=True)
    files = file_names(entries)
    for model, entry in entries.items():
        text = json.dumps(entry, indent=1, ensure_ascii=False, allow_nan=False)
        write_text(folder / files[model], text + "\n")
    tables = board_tables(entries)
    data = {table["id"]: table["languages"] for table in tables}
    page = template("board.html.j2").render(
        tables=tables,
        models=files,
        labels=FIGURES,
        data=json.dumps(data, ensure_ascii=False).replace("<", "\\u003c"),
        command=command,
        confidence=f"{100 * CONFIDENCE:g}",
    )
    write_text(folder / "index.html", page)
    return folder / "index.html"


def file_names(models: Iterable[str]) -> dict[str, str]:
    """Model -> its file, models/NAME.json, of letters that every file system takes; with a digest of the name where it
    is not the name itself, or is another's but for case."""
    found: dict[str, str] = {}
    for model in models:
        name = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in model)
        name = name.encode()[:MOST_BYTES].decode(errors="ignore")
        if name != model or name.casefold() in {Path(other).stem.casefold() for other in found.values()}:
            name = f"{name}-{hashlib.sha256(model.encode()).hexdigest()[:8]}"
        found[model] = f"models/{name}.json"
    return found


def board_tables(entries: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A table for each benchmark, and for each set of questions that was asked of it, with the best model first.

    Each row has "even": the models that its leading figure, the table's first, is not measurably different from, by a
    paired bootstrap over the questions; None where that cannot be told.
    """
    asked: dict[tuple[str, ...], dict[str, Mapping[str, Any]]] = {}
    names: dict[tuple[str, ...], str] = {}
    for model, entry in entries.items():
        for name, own in entry["benchmarks"].items():
            same = (
                set_name(name, own),
                own["asked"],
                own["ranked_by"],
                json.dumps([own[key] for key in ("items", "languages", "settings")]),
            )
            asked.setdefault(same, {})[model] = own
            names[same] = max(names.get(same, ""), name, key=len)
    tables = []
    for number, (same, own) in enumerate(sorted(asked.items())):
        first = next(iter(own.values()))
        known = [key for key in FIGURES if any(each["figures"][key][0] is not None for each in own.values())]
        lead = known[0] if known else ""
        even = _even({model: each["values"][lead] for model, each in own.items() if lead in each["values"]})
        order = sorted(own, key=lambda model: -_number(own[model]["figures"], lead))
        tables.append(
            {
                "id": f"b{number}",
                "name": names[same],
                "items": first["items"],
                "codes": first["languages"],
                "ranked_by": first["ranked_by"],
                "keys": known,
                "lead": lead,
                "rows": [
                    {
                        "model": model,
                        "figures": own[model]["figures"],
                        "even": even.get(model),
                        "version": own[model]["version"],
                    }
                    for model in order
                ],
                "languages": {
                    model: {
                        code: [own[model]["by_language"][key][code] for key in BY_LANGUAGE]
                        for code in first["languages"]
                    }
                    for model in order
                },
            }
        )
    return tables


def _even(values: Mapping[str, Sequence[float | None]]) -> dict[str, list[str]]:
    """Model -> those whose mean differs from its own by an interval that holds 0."""
    if len(values) < 2:
        return {}
    columns = np.array(list(values.values()), float).T
    drawn = resampled_means(columns)
    found: dict[str, list[str]] = {model: [] for model in values}
    for (i, one), (j, other) in itertools.combinations(enumerate(values), 2):
        low, high = np.round(interval(drawn[:, i] - drawn[:, j], CONFIDENCE), 6)  # as reports tell them
        if low <= 0 <= high:
            found[one].append(other)
            found[other].append(one)
    return found


def _number(figures: Mapping[str, Sequence[float | None]], key: str) -> float:
    value = figures[key][0] if key else None
    return -np.inf if value is None else value
