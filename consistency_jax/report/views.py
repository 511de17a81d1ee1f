"""What the page shows of report.json: rows and charts for the templates, before and after or of a model alone."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from consistency_jax.report import charts, diagrams
from consistency_jax.report.columns import LANGUAGES, Figure, tells
from consistency_jax.report.figures import ACCURACY, CLC, FREE_TEXT, SAFETY, TOP1, figures_of, leading
from consistency_jax.report.names import language_name

PARTS = ("base", "final", "delta", "confidence")
FEW, TOO_FEW = 100, 10  # questions
# Ends of the colour scales: of figures, and of their changes, the first that holds all; pages can be compared by eye.
LEVELS, REACHES = (0.0, 100.0), (10.0, 25.0, 50.0, 100.0)
# Figures of a language that are drawn as slopes, their name, and a word about them.
SLOPES = (
    ("clc_with_others", "Consistency of a language with the others", "Mean CLC of its pairs."),
    ("accuracy", "Accuracy of a language", ""),
)


class Row(NamedTuple):
    """A figure: before, after, its change, with its interval and tone (up: better, down, even).

    Of a model alone `after` is the figure and `bounds` its interval; nothing is known of before, nor of a change.
    """

    label: str
    before: float | None
    after: float | None
    delta: float | None
    bounds: Sequence[float | None]
    tone: str = "even"
    bars: Markup = Markup("")
    whisker: Markup = Markup("")


def row_of(
    parts: Mapping[str, Any], *path: str, label: str = "", better: bool | None = True, bars: bool = False
) -> Row:
    """The figure at a path of {"base", "final", "delta", "confidence"}, or of {"base", "confidence"} of one model."""

    def at(part: str) -> Any:
        found = parts[part]
        for key in path:
            found = found[key]
        return found

    bounds = at("confidence")
    if "final" not in parts:
        return Row(label, None, at("base"), None, bounds, bars=charts.bars(None, at("base")) if bars else "")
    before, after, delta = at("base"), at("final"), at("delta")
    tone = charts.verdict(delta, bounds, better)
    return Row(label, before, after, delta, bounds, tone, charts.bars(before, after) if bars else "")


def rows_of(parts: Mapping[str, Any], figures: Iterable[Figure]) -> dict[str, Row]:
    """Key -> row, of all that is one number and known."""
    return {
        key: row_of(parts, key, label=_label(figure, key, parts), better=figure.tone(key))
        for figure in figures
        for key in figure.labels
        if any(parts[part].get(key) is not None for part in ("base", "final") if part in parts)
    }


def _label(figure: Figure, key: str, parts: Mapping[str, Any]) -> str:
    """What a row is called: where there is no English, the mean of the languages is not one of others."""
    english = any(
        parts[part].get(f"{figure.name}_en") is not None for part in ("base", "final") if part in parts
    )
    return figure.labels[key] if english else figure.labels[key].replace(", others", ", mean")


def parts_of(summary: Mapping[str, Any], split: str) -> dict[str, Any]:
    """The parts of report.json, of one split."""
    return {part: summary[part][split] for part in PARTS if part in summary}


def few(parts: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """A word about a split of one language, or of few questions: how wide the interval of its consistency, or of the
    change in it, is; "" for many."""
    if len(about["languages"]) < 2:
        return "only one language: consistency is between two or more"
    lead = leading(parts["base"])
    low, high = parts["confidence"].get(f"{lead.name}_all") or (None, None)
    if about["items"] >= FEW or low is None:
        return ""
    only = f"only {about['items']} question{'s' * (about['items'] > 1)}"
    if about["items"] < TOO_FEW:  # a bootstrap of so few says that nothing varies
        return f"{only}: too few for an interval to mean much"
    what = f"the change in {lead.label}" if "delta" in parts else lead.label
    return f"{only}: {what} has an interval of {high - low:.0f} points"


def definitions(summary: Mapping[str, Any]) -> list[Figure]:
    """The rows that the page shows and that say what they mean."""
    shown = figures_of("final" not in summary)
    known = {about["known"] for about in summary["settings"]["splits"].values()}
    shown = [figure for figure in shown if any(tells(each, figure) for each in known)]
    shown += [*(FREE_TEXT if "generation" in summary else ()), *(SAFETY if "safety" in summary else ())]
    return [figure for figure in shown if figure.definition]


def split_view(summary: dict[str, Any], split: str) -> dict[str, Any]:
    """All that the page shows of one split, charts included."""
    parts, about = parts_of(summary, split), summary["settings"]["splits"][split]
    languages, alone = about["languages"], "final" not in parts
    shown, lead = figures_of(alone), leading(parts["base"])
    figures = rows_of(parts, (figure for figure in shown if figure.section == "figures"))
    of_languages = {
        figure.terminal: [
            row_of(parts, figure.name, language, label=language, better=figure.better, bars=True)
            for language in languages
            if parts["base"][figure.name][language] is not None
        ]
        for figure in shown
        if figure.terminal and figure.block is LANGUAGES
    }
    if not alone:
        drawn = {key: row for key, row in figures.items() if not key.endswith("_variance")}  # of another unit
        figures |= dict(zip(drawn, _with_whiskers(drawn.values())))
        of_languages = {name: _with_whiskers(rows) for name, rows in of_languages.items()}
    return {
        "name": split,
        "about": about,
        "few": few(parts, about),
        "analysis": _analysis_view(summary, split),
        "free_text": free_text_view(summary["generation"][split], "generation", split)
        if split in summary.get("generation", {})
        else None,
        "figures": figures,
        "extremes": _extremes(parts["base"][f"{lead.name}_matrix"], languages) if alone else None,
        "lead": figures.get(f"{lead.name}_all"),
        "measure": "consistency between languages (CLC)"
        if lead is CLC
        else "agreement of first answers between languages, %,",
        "mapped": lead.label,
        "headline": [
            figures[key]
            for figure in shown
            if figure is lead or figure not in (CLC, TOP1)
            for key in figure.headline
            if key in figures
        ],
        "of_languages": {name: rows for name, rows in of_languages.items() if rows},
        "slopes": []
        if alone
        else [
            (name, note, _slopes(parts, key, languages, f"{name}, {split}"))
            for key, name, note in SLOPES
            if any(value is not None for value in parts["base"][key].values())
        ],
    } | _maps(parts, f"{lead.name}_matrix", languages, f"{lead.label}, {split}", lead.better)


def _extremes(matrix: list[list[float | None]], languages: Sequence[str]) -> list[tuple[float, str, str]]:
    """The pair of languages with the largest value, and that with the smallest; none of fewer than two."""
    pairs = sorted(
        (value, languages[i], languages[j])
        for i, row in enumerate(matrix)
        for j, value in enumerate(row)
        if i < j and value is not None
    )
    return [pairs[-1], pairs[0]] if len(pairs) > 1 else []


def _with_whiskers(rows: Iterable[Row]) -> list[Row]:
    rows = list(rows)
    ends = [0.0, *(end for row in rows for end in row.bounds if end is not None)]
    scale = min(ends), max(ends)
    return [row._replace(whisker=charts.whisker(row.delta, row.bounds, scale, row.tone)) for row in rows]


def _maps(
    parts: Mapping[str, Any], key: str, languages: Sequence[str], label: str, better: bool | None
) -> dict[str, Any]:
    """Heat maps of a matrix before, after, and of its change, with the ends of their scales."""
    alone = "final" not in parts
    names = {"after": "base"} if alone else {"before": "base", "after": "final"}
    sides = {name: parts[part][key] for name, part in names.items()}
    cells = [v for side in sides.values() for v in _off_diagonal(side)]
    low, high = LEVELS
    found = {"large": len(languages) > 12, "low": low, "high": high}
    maps = {
        name: charts.heat_map(side, languages, low, high, label=label if alone else f"{label}, {name}")
        for name, side in sides.items()
    }
    if alone:
        return found | {"maps": maps if cells else {}}
    delta, sure = parts["delta"][key], parts["confidence"][key]
    largest = max((abs(value) for value in _off_diagonal(delta)), default=0.0)
    reach = next((reach for reach in REACHES if reach >= largest), REACHES[-1])
    maps["delta"] = charts.delta_map(delta, sure, languages, reach, label=f"{label}, change", better=better)
    return found | {"maps": maps, "reach": reach}


def _slopes(parts: Mapping[str, Any], key: str, languages: Sequence[str], label: str) -> Markup:
    rows = (row_of(parts, key, language, label=language) for language in languages)
    known = (row for row in rows if row.before is not None)
    return diagrams.slopes(
        [diagrams.Slope(row.label, row.before, row.after, row.bounds, row.tone) for row in known], label
    )


def _analysis_view(summary: dict[str, Any], split: str) -> dict[str, Any]:
    """The sections behind the figures: definition, response change, expert weights, normalisations, groups."""
    parts, found = parts_of(summary, split), summary["analysis"][split]
    languages, alone = summary["settings"]["splits"][split]["languages"], "final" not in parts
    groups = {
        name: {part: own["language_groups"][name] for part, own in parts.items()}
        for name in parts["base"].get("language_groups", {})
    }
    grouped = [figure for figure in figures_of(alone) if "groups" in figure.derived]
    lead = leading(parts["base"])
    # of the tables of normalisations and of groups of questions
    keys = (*lead.headline, *ACCURACY.headline)
    view = {
        "divergences": [],
        "normalizations": {},
        "consensus": None,
        "heads": [_label(figure, key, parts) for figure in (lead, ACCURACY) for key in figure.headline],
        "groups": {
            name: rows
            if found["groups"][name]["items"] >= TOO_FEW
            else [row._replace(tone="even") for row in rows]
            for name, rows in _side_by_side(found["groups"], keys).items()
        },
        "items": {name: group["items"] for name, group in found["groups"].items()},
        "language_groups": _side_by_side(groups, [figure.name for figure in grouped]),
        "grouped": [figure.label for figure in grouped],
    }
    if found["experts"] is None:  # the first answers are all that is known
        return view
    view |= _definition_view(parts, found if alone else found["divergence"], languages, split)
    view["normalizations"] = _side_by_side(found["normalizations"], keys)
    view["consensus"] = row_of(_as_parts(found["experts"]), "consensus_accuracy")
    if alone:
        return view
    response = found["response"]["value"]
    return view | {
        "direction": _direction(parts, found, languages, split),
        "calibration": _calibration(found["calibration"], summary["settings"]["confidence"], split),
        "response": response,
        "response_bounds": found["response"]["confidence"],
        "stacks": {
            language: charts.stack(
                [
                    ("up", "became right", response["to_right"][language]),
                    ("after", "another right answer", response["to_other_right"][language]),
                    ("even", "another wrong answer", response["to_other_wrong"][language]),
                    ("down", "became wrong", response["to_wrong"][language]),
                ]
                if response["to_right"][language] is not None
                else [("after", "changed", response["changed"][language])]
            )
            for language in languages
        },
        "experts": found["experts"]["value"],
        "experts_bounds": found["experts"]["confidence"],
        "weights": found["experts"]["weights"],
    }


def _definition_view(
    parts: Mapping[str, Any], found: Mapping[str, Any], languages: Sequence[str], split: str
) -> dict[str, Any]:
    """The divergences of the definition, their curve, and the fitted temperatures."""
    alone, tolerance = "final" not in parts, found["tolerance"]
    temperature = found["temperature"] if alone else found["temperature"]["final"]
    known = _off_diagonal(temperature)
    lines = [("after", "T = 1", "plain"), ("after dashed", "T fitted", "fitted")]
    if not alone:
        lines = [
            ("before", "before", "base"),
            ("before dashed", "before, T fitted", "base_fitted"),
            ("after", "after", "final"),
            ("after dashed", "after, T fitted", "final_fitted"),
        ]
    return {
        "divergences": [
            (
                figure.label,
                [row_of(parts, figure.name + end, better=figure.better) for end in figure.block.parts],
            )
            for figure in figures_of(alone)
            if figure.section == "divergence" and parts["base"][f"{figure.name}_all"] is not None
        ],
        "area": found["tolerance_area"],
        "tolerance": charts.curves(
            tolerance["epsilon"],
            [(tone, name, tolerance[key]) for tone, name, key in lines],
            "epsilon (Jensen-Shannon divergence, nats)",
            "% of questions",
        ),
        "temperature": charts.heat_map(
            temperature, languages, min(known), min(4.0, max(known)), 2, f"Fitted T, {split}"
        )
        if known
        else None,
    }


def _as_parts(parts: Mapping[str, Any]) -> dict[str, Any]:
    """The "value" and "confidence" of one side as parts; others as they are."""
    return {"base" if part == "value" else part: own for part, own in parts.items()}


def _direction(parts, found, languages: Sequence[str], split: str) -> dict[str, Any]:
    """Who moved, to better or worse, and towards whom; accuracy gives way to consistency where it is not known."""
    values, sure = found["response"]["value"]["changed"], found["response"]["confidence"]["changed"]
    labelled = any(value is not None for value in parts["delta"]["accuracy"].values())
    key, name = ("accuracy", "accuracy") if labelled else ("clc_with_others", "CLC with the others")
    rows = {language: row_of(parts, key, language) for language in languages if values[language] is not None}
    spots = [
        diagrams.Spot(language, values[language], row.delta, sure[language], row.bounds, row.tone)
        for language, row in rows.items()
        if row.delta is not None
    ]
    told, sure = found["direction"]["value"], found["direction"]["confidence"]
    taken, bounds, cells = told["adopted"], sure["adopted"], _off_diagonal(told["adopted"])

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
            taken, languages, *LEVELS, label=f"Whose answer was taken, {split}", tell=tell
        )
        if cells
        else None,
        "ends": LEVELS,
        "from_anchor": told.get("adopted_from_en"),
        "from_bounds": sure.get("adopted_from_en"),
        "by_anchor": told.get("adopted_by_en"),
        "by_bounds": sure.get("adopted_by_en"),
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


def free_text_view(parts: Mapping[str, Any], kind: str, name: str) -> dict[str, Any]:
    """Rows and maps of free-text answers ("generation") or of responses to prompts ("harmful", "harmless")."""
    figures, languages = FREE_TEXT if kind == "generation" else SAFETY, parts["settings"]["languages"]
    columns = [figure for figure in figures if figure.block is LANGUAGES]
    mapped = next(figure for figure in figures if "matrix" in figure.derived)  # there is room for one
    own = {part: parts[part] for part in PARTS if part in parts}
    return {
        "kind": kind,
        "settings": parts["settings"],
        "columns": [figure.label for figure in columns],
        "rows": [
            (language, [row_of(own, figure.name, language, better=figure.better) for figure in columns])
            for language in languages
        ],
        "totals": rows_of(own, figures),
        "what": mapped.label,
    } | _maps(own, f"{mapped.name}_matrix", languages, f"{mapped.label}, {name}", mapped.better)


def _side_by_side(compared: Mapping[str, Mapping[str, Any]], keys: Sequence[str]) -> dict[str, list[Row]]:
    """name -> one row a key, of {name: parts}."""
    return {name: [row_of(_as_parts(parts), key) for key in keys] for name, parts in compared.items()}


def _off_diagonal(matrix: list[list[float | None]]) -> list[float]:
    return [v for i, row in enumerate(matrix) for j, v in enumerate(row) if i != j and v is not None]
