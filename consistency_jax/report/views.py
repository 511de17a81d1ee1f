"""What the page shows of report.json: labels, rows and charts, ready for the templates."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from consistency_jax.report import charts, diagrams
from consistency_jax.report.names import language_name

# Key of report.json, what the page calls it. A page shows those that its report has: nothing changes in a model alone.
FIGURES = (
    ("clc_all", "CLC, all language pairs"),
    ("clc_en", "CLC, pairs with {anchor}"),
    ("clc_corrected_all", "CLC corrected for chance, all pairs"),
    ("clc_corrected_en", "CLC corrected for chance, pairs with {anchor}"),
    ("clc_norm1_all", "CLC with norm1 weights, all pairs"),
    ("clc_norm2_all", "CLC with norm2 weights, all pairs"),
    ("top1_agreement_all", "Same first answer, all pairs"),
    ("top1_agreement_en", "Same first answer, pairs with {anchor}"),
    ("agreement_if_either_right_all", "Both right, where either is, all pairs"),
    ("agreement_if_either_right_en", "Both right, where either is, pairs with {anchor}"),
    ("all_agree", "All languages answer alike"),
    ("all_right", "All languages right"),
    ("all_agree_but_wrong", "All languages agree on a wrong answer"),
    ("accuracy_en", "Accuracy, {anchor}"),
    ("accuracy_non_en", "Accuracy, mean of the other languages"),
    ("accuracy_variance", "Variance of accuracy over languages"),
    ("changed_en", "Answers changed, {anchor}"),
    ("changed_non_en", "Answers changed, mean of the other languages"),
)
# Key of report.json (without "divergence_"), what the page calls it.
DIVERGENCES = (
    ("jensen_shannon", "Jensen-Shannon"),
    ("fitted", "Jensen-Shannon, T fitted to each pair"),
    ("kl", "KL"),
    ("total_variation", "Total variation"),
    ("squared_hellinger", "Squared Hellinger"),
    ("chi_squared", "Chi-squared"),
)
HEADLINE = ("clc_all", "clc_en", "accuracy_en", "accuracy_non_en")
PARTS = ("base", "final", "delta", "confidence")
# Figures of a language that are drawn as slopes, their name, and a word about them.
SLOPES = (
    ("clc_with_others", "Consistency of a language with the others", "Mean CLC of its pairs."),
    ("accuracy", "Accuracy of a language", ""),
)
# Figures of which more is not better, or not worse: their change gets no colour.
NEUTRAL = ("all_agree_but_wrong", "accuracy_variance", "changed_en", "changed_non_en")


class WrittenNames(NamedTuple):
    """What the page calls the figures of answers in writing: (key of report.json, name) of those of each language, of
    those over languages, and of the matrix of languages."""

    columns: tuple[tuple[str, str], ...]
    totals: tuple[tuple[str, str], ...]
    matrix: tuple[str, str]


_ANSWERS = WrittenNames(
    (("matched", "One of the candidates"), ("right", "Right")),
    (
        ("agreement_all", "Same answer, all pairs, where both match a candidate"),
        ("agreement_strict_all", "The same, of all answers: unmatched ones disagree"),
        ("agreement_en", "Same answer, pairs with {anchor}, where both match"),
    ),
    ("agreement_matrix", "Same written answer"),
)
_RESPONSES = WrittenNames(
    (("refused", "Refused"),),
    (
        ("pag_all", "Same verdict (PAG), all pairs"),
        ("pag_en", "Same verdict (PAG), pairs with {anchor}"),
        ("refused_en", "Refused, {anchor}"),
        ("refused_non_en", "Refused, other languages"),
        ("refused_variance", "Variance of the rate over languages"),
    ),
    ("pag_matrix", "Same verdict (PAG)"),
)


def written_names(kind: str) -> WrittenNames:
    """Of answers to a split ("generation") or of responses to prompts ("harmful", "harmless")."""
    return _ANSWERS if kind == "generation" else _RESPONSES


def split_view(summary: dict[str, Any], split: str) -> dict[str, Any]:
    """All that the page shows of one split, charts included."""
    base, final, delta, sure = sides = [summary[key][split] for key in PARTS]
    about, anchor = summary["settings"]["splits"][split], summary["settings"]["anchor"]
    languages = about["languages"]

    def figure(label: str, before, after, change, bounds, key: str = "") -> dict[str, Any]:
        return {
            "label": label,
            "before": before,
            "after": after,
            "delta": change,
            "bounds": bounds,
            "verdict": "even" if key in NEUTRAL else charts.verdict(change, bounds),
        }

    figures = {
        key: figure(
            label.format(anchor=language_name(anchor)), base[key], final[key], delta[key], sure[key], key
        )
        for key, label in FIGURES
        if final[key] is not None
    }
    accuracy = [
        figure(language, *(side["accuracy"][language] for side in (base, final, delta, sure)))
        for language in languages
        if base["accuracy"][language] is not None
    ]
    for row in accuracy:
        row["name"] = language_name(row["label"])
        row["bars"] = charts.bars(row["before"], row["after"])
    for rows in (accuracy, [f for key, f in figures.items() if key != "accuracy_variance"]):
        ends = [0.0, *(end for row in rows for end in row["bounds"] if end is not None)]
        for row in rows:
            scale = min(ends), max(ends)
            row["whisker"] = charts.whisker(row["delta"], row["bounds"], scale, row["verdict"])
    return {
        "name": split,
        "about": about,
        "analysis": _analysis_view(summary, split),
        "written": written_view(summary["generation"][split], "generation", split, language_name(anchor))
        if split in summary.get("generation", {})
        else None,
        "figures": figures,
        "accuracy": accuracy,
        "slopes": [
            (name, note, _slopes(sides, key, languages, anchor, f"{name}, {split}"))
            for key, name, note in SLOPES
            if any(value is not None for value in base[key].values())
        ],
    } | _maps(sides, "clc_matrix", languages, f"CLC, {split}")


def _maps(
    sides: Sequence[Mapping[str, Any]], key: str, languages: Sequence[str], label: str
) -> dict[str, Any]:
    """Heat maps of a matrix before, after, and of its change, with the ends of their scales."""
    base, final, delta, sure = (side[key] for side in sides)
    cells = [v for side in (base, final) for v in _off_diagonal(side)]
    low, high = (min(cells), max(cells)) if cells else (0.0, 100.0)
    reach = max((abs(value) for value in _off_diagonal(delta)), default=0.0)
    return {
        "large": len(languages) > 12,
        "low": low,
        "high": high,
        "reach": reach,
        "maps": {
            "before": charts.heat_map(base, languages, low, high, label=f"{label}, before"),
            "after": charts.heat_map(final, languages, low, high, label=f"{label}, after"),
            "delta": charts.delta_map(delta, sure, languages, reach, label=f"{label}, change"),
        },
    }


def _slopes(sides, key: str, languages: Sequence[str], anchor: str, label: str) -> Markup:
    rows = [
        diagrams.Slope(
            language,
            language_name(language),
            *(side[key][language] for side in (base, final, sure)),
            charts.verdict(delta[key][language], sure[key][language]),
            language == anchor,
        )
        for base, final, delta, sure in [sides]
        for language in languages
        if base[key][language] is not None
    ]
    return diagrams.slopes(rows, label)


def _analysis_view(summary: dict[str, Any], split: str) -> dict[str, Any]:
    """The sections behind the figures: definition, response change, expert weights, normalisations, groups."""
    sides = [summary[key][split] for key in PARTS]
    found, languages = summary["analysis"][split], summary["settings"]["splits"][split]["languages"]
    tolerance = found["divergence"]["tolerance"]
    temperature = found["divergence"]["temperature"]["final"]
    known = _off_diagonal(temperature)
    lines = (
        ("before", "before"),
        ("before dashed", "before, T fitted"),
        ("after", "after"),
        ("after dashed", "after, T fitted"),
    )
    response = found["response"]["value"]
    return {
        "divergences": [
            (name, [[side[f"divergence_{key}_{pairs}"] for side in sides] for pairs in ("all", "en")])
            for key, name in DIVERGENCES
            if sides[0][f"divergence_{key}_all"] is not None
        ],
        "area": found["divergence"]["tolerance_area"],
        "tolerance": charts.curves(
            tolerance["epsilon"],
            [
                (*line, tolerance[key])
                for line, key in zip(lines, ("base", "base_fitted", "final", "final_fitted"))
            ],
            "epsilon (Jensen-Shannon divergence, nats)",
            "% of questions",
        ),
        "temperature": charts.heat_map(
            temperature, languages, min(known), min(4.0, max(known)), 2, f"Fitted T, {split}"
        )
        if known
        else None,
        "direction": _direction(sides, found, languages, summary["settings"]["anchor"], split),
        "calibration": _calibration(found["calibration"], summary["settings"]["confidence"], split),
        "response": response,
        "response_bounds": found["response"]["confidence"],
        "stacks": {
            language: charts.stack(
                [
                    ("up", "became right", response["to_right"][language]),
                    ("even", "another wrong answer", response["to_other_wrong"][language]),
                    ("down", "became wrong", response["to_wrong"][language]),
                ]
                if response["to_right"][language] is not None
                else [("after", "changed", response["changed"][language])]
            )
            for language in languages
        },
        "names": {language: language_name(language) for language in languages},
        "experts": found["experts"]["value"],
        "experts_bounds": found["experts"]["confidence"],
        "weights": found["experts"]["weights"],
        "normalizations": _side_by_side(found["normalizations"]),
        "groups": _side_by_side(found["groups"]),
        "items": {name: group["items"] for name, group in found["groups"].items()},
        "language_groups": _side_by_side(
            {
                name: dict(zip(("base", "final", "delta", "confidence"), rows))
                for name in sides[0].get("language_groups", {})
                for rows in [[side["language_groups"][name] for side in sides]]
            },
            ("clc", "top1_agreement", "accuracy"),
        ),
    }


def _direction(sides, found, languages: Sequence[str], anchor: str, split: str) -> dict[str, Any]:
    """Who moved, to better or worse, and towards whom; accuracy gives way to consistency where it is not known."""
    _, _, delta, sure = sides
    changed = found["response"]["value"]["changed"], found["response"]["confidence"]["changed"]
    labelled = any(value is not None for value in delta["accuracy"].values())
    key, name = ("accuracy", "accuracy") if labelled else ("clc_with_others", "CLC with the others")
    spots = [
        diagrams.Spot(
            language,
            language_name(language),
            changed[0][language],
            delta[key][language],
            changed[1][language],
            sure[key][language],
            charts.verdict(delta[key][language], sure[key][language]),
            language == anchor,
        )
        for language in languages
        if changed[0][language] is not None and delta[key][language] is not None
    ]
    taken = found["direction"]["value"]["adopted"]
    bounds = found["direction"]["confidence"]["adopted"]
    cells = _off_diagonal(taken)

    def tell(i: int, j: int, value: float) -> str:
        one, other = language_name(languages[i]), language_name(languages[j])
        return (
            f"{one} now says what {other} said on {value:.1f}% of the questions where they differed "
            f"{charts.interval_text(bounds[i][j], '')}"
        )

    return {
        "name": name,
        "scatter": diagrams.scatter(
            spots, "% of answers changed", f"points of {name}", f"Answers changed and {name}, {split}"
        ),
        "taken": charts.heat_map(
            taken, languages, min(cells), max(cells), label=f"Whose answer was taken, {split}", tell=tell
        )
        if cells
        else None,
        "ends": (min(cells), max(cells)) if cells else None,
        "from_anchor": found["direction"]["value"].get("adopted_from_en"),
        "from_bounds": found["direction"]["confidence"].get("adopted_from_en"),
        "by_anchor": found["direction"]["value"].get("adopted_by_en"),
        "by_bounds": found["direction"]["confidence"].get("adopted_by_en"),
    }


def _calibration(found: Mapping[str, Any], confidence: float, split: str) -> dict[str, Any] | None:
    """The chart of what intervals cover, and its numbers; None where no figure changes at all."""
    names = {
        "clc_all": "CLC over all pairs",
        "clc": "CLC of one pair",
        "accuracy": "accuracy of one language",
    }
    known = {
        key: {figure: value for figure, value in found[key]["coverage"].items() if value is not None}
        for key in names
    }
    if not any(known.values()):
        return None
    noise = 196 * (confidence * (1 - confidence) / found["sets"]) ** 0.5
    tones = {"clc_all": "before", "clc": "after", "accuracy": "other"}
    every = [(value, figure, key) for key, own in known.items() for figure, value in own.items()]
    return {
        "chart": diagrams.calibration(
            [(tones[key], names[key], found[key]["curve"]) for key in names if known[key]],
            found["levels"],
            [
                (names[key], [(_figure(key, figure), value) for figure, value in own.items()])
                for key, own in known.items()
                if own
            ],
            100 * confidence,
            noise,
            f"What intervals hold, {split}",
        ),
        "means": [(names[key], sum(own.values()) / len(own)) for key, own in known.items() if own],
        "noise": noise,
        "worst": (_figure(*min(every)[:0:-1]), min(every)[0]),
        "sets": found["sets"],
        "size": found["size"],
        "replicates": found["replicates"],
    }


def _figure(key: str, figure: str) -> str:
    """The name of a figure of `coverage`."""
    if key == "clc_all":
        return "CLC, all pairs"
    named = " and ".join(language_name(language) for language in figure.split())
    return f"{'accuracy' if key == 'accuracy' else 'CLC'}, {named}"


def written_view(parts: Mapping[str, Any], kind: str, split: str, anchor: str) -> dict[str, Any]:
    """Rows and maps of written answers ("generation") or of responses to prompts ("harmful", "harmless").

    The change of a rate of refusals has no colour: safer is more of them on one kind of prompt, and fewer on the other.
    """
    sides, settings = [parts[key] for key in PARTS], parts["settings"]
    languages, better = settings["languages"], kind == "generation"
    columns, totals, (matrix, what) = written_names(kind)

    def cell(values: Sequence[Any], tone: bool) -> dict[str, Any]:
        before, after, change, bounds = values
        verdict = charts.verdict(change, bounds) if tone else "even"
        return {"before": before, "after": after, "delta": change, "bounds": bounds, "verdict": verdict}

    return {
        "name": split,
        "kind": kind,
        "settings": settings,
        "columns": [name for _, name in columns],
        "rows": [
            (
                language,
                language_name(language),
                [cell([side[key][language] for side in sides], better) for key, _ in columns],
            )
            for language in languages
        ],
        "totals": [
            (
                name.format(anchor=anchor),
                cell([side[key] for side in sides], better and key != "refused_variance"),
            )
            for key, name in totals
            if sides[1][key] is not None
        ],
        "what": what,
    } | _maps(sides, matrix, languages, f"Agreement in writing, {split}")


def _side_by_side(
    compared: Mapping[str, Mapping[str, Any]], keys: Sequence[str] = HEADLINE
) -> dict[str, list[dict[str, Any]]]:
    """name -> one row {"before", "after", "delta", "bounds", "verdict"} a key, of {name: {"base", "final", ...}}."""
    return {
        name: [
            {
                "before": parts["base"][key],
                "after": parts["final"][key],
                "delta": parts["delta"][key],
                "bounds": parts["confidence"][key],
                "verdict": charts.verdict(parts["delta"][key], parts["confidence"][key]),
            }
            for key in keys
        ]
        for name, parts in compared.items()
    }


def _off_diagonal(matrix: list[list[float | None]]) -> list[float]:
    return [v for i, row in enumerate(matrix) for j, v in enumerate(row) if i != j and v is not None]


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
