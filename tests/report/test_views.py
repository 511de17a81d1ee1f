"""What the page shows of report.json: rows with their tone, and every section."""

import json
import re

from made import make_table

from consistency_jax.report import summarise, write_report
from consistency_jax.report.columns import LANGUAGES, Figure
from consistency_jax.report.views import row_of, rows_of, split_view

PARTS = {
    "base": {"wrong_en": 20.0, "wrong_non_en": 30.0, "wrong": {"sw": 40.0}},
    "final": {"wrong_en": 25.0, "wrong_non_en": 30.5, "wrong": {"sw": 10.0}},
    "delta": {"wrong_en": 5.0, "wrong_non_en": 0.5, "wrong": {"sw": -30.0}},
    "confidence": {"wrong_en": [1.0, 9.0], "wrong_non_en": [-1.0, 2.0], "wrong": {"sw": [-35.0, -25.0]}},
}
WRONG = Figure("wrong", LANGUAGES, label="Wrong", better=False)


def test_a_change_is_toned_by_its_interval_and_by_what_is_better():
    rows = rows_of(PARTS, [WRONG])
    assert {key: (row.label, row.before, row.after, row.delta, row.tone) for key, row in rows.items()} == {
        "wrong_en": ("Wrong, English", 20.0, 25.0, 5.0, "down"),  # more of it is worse
        "wrong_non_en": ("Wrong, others", 30.0, 30.5, 0.5, "even"),  # its interval holds 0
    }
    assert row_of(PARTS, "wrong", "sw", better=False).tone == "up"
    assert row_of(PARTS, "wrong", "sw").tone == "down"


def test_of_a_model_alone_there_is_a_figure_and_its_interval():
    alone = {"base": {"wrong_en": 20.0, "wrong_non_en": None}, "confidence": {"wrong_en": [15.0, 25.0]}}
    rows = rows_of(alone, [WRONG])
    assert list(rows) == ["wrong_en"]  # what is not known is not shown
    row = rows["wrong_en"]
    assert (row.before, row.after, row.delta, row.bounds, row.tone) == (
        None,
        20.0,
        None,
        [15.0, 25.0],
        "even",
    )


def test_the_page_shows_every_section(ragged, ragged_summary, tmp_path):
    page = write_report(tmp_path, ragged_summary, *ragged).read_text("utf-8")
    assert json.loads((tmp_path / "report.json").read_text("utf-8")) == ragged_summary
    text = re.sub(r"<[^>]+>", " ", page)
    for words in (
        "The definition: an answer against its round trip",
        "Jensen-Shannon, T fitted to each pair",
        "What became of the answers",
        "Expert weights",
        "How much depends on the normalisation",
        "Groups of languages",
        "Groups of questions (3)",
        "Divergence and tolerance",
        "Who moved, and towards whom",
        "Whose answer was taken",
        "Do the intervals hold what they promise?",
        "Consistency of a language with the others",
    ):
        assert words in text, words
    assert page.count("<polyline") == 4 + 3  # curves of tolerance, and of coverage
    found = ragged_summary["analysis"]["test"]
    changed = found["response"]["value"]["changed"]["sw"]
    assert f'<td class="n strong">{changed:.1f}</td>' in page
    for name in found["normalizations"]:
        assert f"<bdi>{name}</bdi>" in page
    assert "set evaluation.all_normalizations" not in page


def test_what_is_known_after_training_alone_is_shown():
    parts = {"base": {"wrong_en": None}, "final": {"wrong_en": 75.0}}
    parts |= {"delta": {"wrong_en": None}, "confidence": {"wrong_en": None}}
    row = rows_of(parts, [WRONG])["wrong_en"]
    assert (row.before, row.after, row.delta, row.tone) == (None, 75.0, None, "even")


def test_without_english_there_are_no_other_languages():
    found = {"base": {"wrong_en": None, "wrong_non_en": 30.0}, "confidence": {"wrong_non_en": [25.0, 35.0]}}
    assert [row.label for row in rows_of(found, [WRONG]).values()] == ["Wrong, mean"]
    found["final"] = {"wrong_en": 20.0, "wrong_non_en": 31.0}  # it was not known before
    found["delta"] = {"wrong_en": None, "wrong_non_en": 1.0}
    found["confidence"] |= {"wrong_en": None}
    assert [row.label for row in rows_of(found, [WRONG]).values()] == ["Wrong, English", "Wrong, others"]


def test_a_change_in_few_questions_of_a_group_has_no_colour():
    """A bootstrap of one question says that nothing varies."""
    groups = ["one"] + ["many"] * 59
    tables = make_table(0), make_table(2, 3.0)
    shown = split_view(summarise(*tables, resamples=50, groups={"test": groups}), "test")["analysis"][
        "groups"
    ]
    assert {row.tone for row in shown["one"]} == {"even"}
    assert "up" in {row.tone for row in shown["many"]}


def test_two_languages_are_one_pair_which_is_neither_the_most_nor_the_least_alike():
    found = split_view(summarise(make_table(0, languages=("en", "sw")), resamples=50), "test")
    assert found["extremes"] == []


def test_a_divergence_that_falls_has_become_better(summary):
    view = split_view(summary, "test")
    rows = [row for _, rows in view["analysis"]["divergences"] for row in rows]
    assert {row.tone for row in rows if row.delta < 0} <= {"up", "even"}
    assert any(row.tone == "up" for row in rows)


def test_maps_have_one_colour_scale_on_every_page(summary):
    view = split_view(summary, "test")
    assert (view["low"], view["high"]) == (0, 100)
    largest = max(abs(v) for row in summary["delta"]["test"]["clc_matrix"] for v in row if v is not None)
    assert view["reach"] == next(reach for reach in (10, 25, 50, 100) if reach >= largest)
