"""The report: figures against the metrics, its promises (deterministic, self-contained), and odd tables."""

import json
import re
from functools import reduce
from html.parser import HTMLParser
from operator import getitem

import numpy as np
import pytest
from made import COUNTRIES, LANGUAGES, QUESTIONS, make_items, make_table

from consistency_jax.data.items import ParallelItem
from consistency_jax.metrics import accuracy, bootstrap_delta, clc, clc_values
from consistency_jax.report import summarise, terminal_table, write_report
from consistency_jax.report.examples import embedded
from consistency_jax.table import Table


@pytest.fixture(scope="module")
def tables() -> tuple[dict[str, Table], dict[str, Table]]:
    base = {"test": make_table(0), "test_unseen": make_table(1, items=30)}
    final = {"test": make_table(2, 2.0), "test_unseen": make_table(3, 1.2, items=30)}
    return base, final


@pytest.fixture(scope="module")
def summary(tables) -> dict:
    return summarise(*tables, resamples=300)


def numbers(figures) -> dict[str, float | None]:
    """The figures by dotted path, one entry a number."""
    if isinstance(figures, dict):
        parts = figures.items()
    elif isinstance(figures, list):
        parts = enumerate(figures)
    else:
        return {"": figures}
    return {f".{key}{rest}": value for key, part in parts for rest, value in numbers(part).items()}


def test_figures_are_those_of_the_metrics(tables, summary):
    for key, side in zip(("base", "final"), tables):
        for split, table in side.items():
            scores, figures = table.scores("mean_full"), summary[key][split]
            right = accuracy(scores, table.gold, table.mask, languages=LANGUAGES)
            consistency = clc(scores, table.mask, languages=LANGUAGES)
            expected = {
                "clc_all": consistency.all_pairs,
                "clc_en": consistency.anchor_pairs,
                "clc_norm1_all": clc(scores, weights="norm1").all_pairs,
                "clc_norm2_all": clc(scores, weights="norm2").all_pairs,
                "clc_corrected_all": clc(scores, corrected=True).all_pairs,
                "accuracy_en": 100 * right.anchor,
                "accuracy_non_en": 100 * right.mean_others,
                "accuracy_variance": 100**2 * right.variance,
            }
            # Figures are rounded to six digits.
            for name, value in expected.items():
                assert figures[name] == pytest.approx(value, abs=1e-6), name
            np.testing.assert_allclose(figures["clc_matrix"], consistency.matrix, atol=1e-6)
            np.testing.assert_allclose(
                list(figures["accuracy"].values()), 100 * right.per_language, atol=1e-6
            )
            assert list(figures["accuracy"]) == list(LANGUAGES)


def test_agreement_figures_of_first_answers(tables, summary):
    table, figures = tables[1]["test"], summary["final"]["test"]
    answers = table.logp.argmax(-1)
    before = tables[0]["test"].logp.argmax(-1)
    right = answers == table.gold[:, None]
    pairs = [(i, j) for i in range(4) for j in range(i)]
    alike = (answers == answers[:, :1]).all(1)
    expected = {
        "top1_agreement_all": np.mean([(answers[:, i] == answers[:, j]).mean() for i, j in pairs]),
        "top1_agreement_en": np.mean([(answers[:, 0] == answers[:, j]).mean() for j in (1, 2, 3)]),
        "agreement_if_either_right_all": np.mean(
            [(right[:, i] & right[:, j]).sum() / (right[:, i] | right[:, j]).sum() for i, j in pairs]
        ),
        "all_agree": alike.mean(),
        "all_right": right.all(1).mean(),
        "all_agree_but_wrong": (alike & ~right[:, 0]).mean(),
        "changed_en": (answers != before)[:, 0].mean(),
        "changed_non_en": (answers != before)[:, 1:].mean(),
    }
    for name, value in expected.items():
        assert figures[name] == pytest.approx(100 * value, abs=1e-6), name


def test_all_parts_have_the_same_keys_and_deltas_are_differences(summary):
    for split in ("test", "test_unseen"):
        base, final, delta, sure = (
            numbers(summary[part][split]) for part in ("base", "final", "delta", "confidence")
        )
        assert list(base) == list(final) == list(delta)
        assert {path.rpartition(".")[0] for path in sure} == set(delta)
        for path, change in delta.items():
            assert change == pytest.approx(final[path] - base[path], abs=2e-6), path
            assert sure[f"{path}.0"] <= sure[f"{path}.1"], path


def test_confidence_is_the_paired_bootstrap(tables, summary):
    before, after = (side["test"] for side in tables)
    values = [clc_values(table.scores("mean_full"), table.mask).mean(1) for table in (before, after)]
    expected = bootstrap_delta(*values, replicates=300)
    assert summary["delta"]["test"]["clc_all"] == pytest.approx(expected.estimate, abs=1e-6)
    assert summary["confidence"]["test"]["clc_all"] == pytest.approx([expected.low, expected.high], abs=1e-6)


def test_a_table_against_itself_changes_nothing(tables):
    itself = summarise(tables[0], tables[0], resamples=50)
    assert set(numbers(itself["delta"]).values()) == {0.0}
    assert set(numbers(itself["confidence"]).values()) == {0.0}
    assert itself["final"]["test"]["changed_non_en"] == 0


def test_ragged_candidates_and_absent_languages_are_left_out():
    base, final = make_table(0), make_table(2, 2.0)
    for table in (base, final):
        table.mask[:20, :, 3] = False
        table.mask[20:30, 2] = False
        table.gold[:20] %= 3
        table.logp[~table.mask] = np.nan
    figures = summarise(base, final, resamples=50)["final"]["test"]
    scores = np.where(final.mask, final.scores("mean_full"), 0)
    assert figures["clc_all"] == pytest.approx(clc(scores, final.mask).all_pairs, abs=1e-6)
    right = accuracy(scores, final.gold, final.mask)
    assert list(figures["accuracy"].values()) == pytest.approx(100 * right.per_language, abs=1e-6)


def test_files_are_complete_deterministic_and_hold_no_path(tables, summary, tmp_path):
    items = {split: make_items(table) for split, table in tables[0].items()}
    contents = []
    for name in ("a", "b"):
        options = {"config": {"seed": 3, "data": {"languages": LANGUAGES}}, "command": "python -m x --seed=3"}
        page = write_report(tmp_path / name, summarise(*tables, resamples=300), *tables, items, **options)
        assert page == tmp_path / name / "report.html"
        assert sorted(path.name for path in page.parent.iterdir()) == ["report.html", "report.json"]
        contents.append([path.read_bytes() for path in sorted(page.parent.iterdir())])
    assert contents[0] == contents[1]
    assert json.loads(contents[0][1]) == summary
    html = contents[0][0].decode()
    assert str(tmp_path) not in html
    assert "python -m x --seed=3" in html
    assert "Swahili" in html
    assert len(html) < 1_000_000


class Tags(HTMLParser):
    """Checks that every tag is closed in order, and collects attributes that could reach the network."""

    void = {"meta", "link", "img", "br", "rect", "line", "circle", "input", "hr"}

    def __init__(self):
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        self.links += [value for name, value in attrs if name in ("href", "src", "xlink:href")]
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.void:
            assert self.open.pop() == tag


def test_the_page_is_well_formed_and_self_contained(tables, summary, tmp_path):
    items = {"test": make_items(tables[0]["test"])}
    html = write_report(tmp_path, summary, *tables, items, config={"x": 1}, command="c").read_text("utf-8")
    tags = Tags()
    tags.feed(html)
    assert tags.open == []
    assert tags.seen.isdisjoint({"img", "iframe", "object", "embed"})
    assert all(link.startswith(("#", "data:")) for link in tags.links)
    assert not re.search(r"https?:|url\(|@import", html)
    assert "default-src 'none'" in html
    assert html.count('<svg class="heat marks"') == 10
    assert "prefers-color-scheme: dark" in html


def questions_of(html: str) -> dict:
    """What the page holds to be searched."""
    found = re.search(r'<script type="application/json" id="questions">(.*?)</script>', html, flags=re.S)
    return json.loads(found[1])


def test_questions_are_data_that_no_browser_takes_for_markup(tables, summary, tmp_path):
    items = {"test": make_items(tables[0]["test"])}
    html = write_report(tmp_path, summary, *tables, items).read_text("utf-8")
    assert "<b>Chad" not in html
    data = questions_of(html)
    assert data["languages"]["ar"] == ["Arabic", "rtl"]
    (split,) = data["splits"]
    assert (split["name"], split["total"], len(split["items"])) == ("test", 60, 60)
    texts = {text for item in split["items"] for answer in item[3] for text in answer[1].values()}
    assert {"<b>Chad</b>", "مصر"} <= texts
    assert split["items"][0][3][1][0] == "تقع مدينة No 0 في البلد: ……"
    assert "All 60 questions of <b>test</b>" in html


def test_questions_tell_the_first_answers_of_the_tables(tables):
    before, after = (side["test"] for side in tables)
    found = embedded({"test": before}, {"test": after}, {"test": make_items(before)}, normalization="sum")
    for row, (name, group, gold, answers) in enumerate(json.loads(found.data)["splits"][0]["items"]):
        assert (name, group, gold) == (before.ids[row], "city", before.gold[row])
        for place, (_, texts, *sides) in enumerate(answers):
            firsts = [int(table.logp[row, place].argmax()) for table in (before, after)]
            assert sides == [[first] for first in firsts]
            own = COUNTRIES[LANGUAGES[place]]
            assert texts == {str(k): own[k].strip() for k in {*firsts, gold}}


def test_questions_are_a_seeded_draw_where_there_is_no_room_for_all(tables, summary, tmp_path):
    before, after = tables
    items = {split: make_items(table) for split, table in before.items()}

    def ids(**options) -> list[list[str]]:
        found = embedded(before, after, items, normalization="sum", **options)
        assert len(found.data.encode()) <= options["room"] + 1000
        splits = json.loads(found.data)["splits"]
        assert found.counts == [(s["name"], len(s["items"]), s["total"]) for s in splits]
        return [[item[0] for item in split["items"]] for split in splits]

    drawn, again, other = ids(room=9000), ids(room=9000), ids(room=9000, seed=1)
    assert drawn == again != other
    assert all(0 < len(own) < len(items[split]) for own, split in zip(drawn, items))
    assert [sorted(own, key=lambda name: int(name[5:])) for own in drawn] == drawn
    everything = ids(room=10**6)
    assert [len(own) for own in everything] == [60, 30]
    whole = write_report(tmp_path, summary, before, after, items).stat().st_size
    page = write_report(tmp_path, summary, before, after, items, limit=whole - 5_000).read_text("utf-8")
    assert len(page.encode()) <= whole - 5_000
    assert re.search(r"\d+ of the 60 questions of <b>test</b>, drawn at random", page)


def test_a_page_of_many_languages_and_questions_stays_small(tmp_path):
    languages = [f"{a}{b}" for a in "abcdefg" for b in "nopqrstu"][:53]
    base, final = (
        make_table(seed, strength, items=24, languages=languages) for seed, strength in ((0, 1), (2, 2))
    )
    items = [
        ParallelItem(
            id=name,
            group="city",
            prompts=dict.fromkeys(languages, f"{n} {100 * QUESTIONS['ar']}"),
            candidates=dict.fromkeys(languages, COUNTRIES["ar"]),
        )
        for n, name in enumerate(base.ids)
    ]
    tables = {"a": base, "b": base}, {"a": final, "b": final}
    summary = summarise(base, final, resamples=10)
    for part in ("base", "final", "delta", "confidence", "analysis"):
        summary[part] = dict.fromkeys("ab", summary[part]["test"])
    summary["settings"]["splits"] = dict.fromkeys("ab", summary["settings"]["splits"]["test"])
    page = write_report(tmp_path, summary, *tables, {"a": items, "b": items})
    assert 4_000_000 < page.stat().st_size < 6_000_000


def test_ties_are_shown_as_ties():
    before, after = make_table(0, items=2), make_table(0, items=2)
    before.logp[:], after.logp[:] = np.float32([2, 2, 1, 0]), np.float32([7, 7, 7, 7])
    found = embedded({"test": before}, {"test": after}, {"test": make_items(before)}, normalization="sum")
    for item in json.loads(found.data)["splits"][0]["items"]:
        assert [answer[2:] for answer in item[3]] == [[[0, 1], [0, 1, 2, 3]]] * 4


@pytest.mark.parametrize(
    "options",
    [
        {"labelled": False},
        {"languages": ("ar", "sw", "zh")},
        {"languages": ("sw",)},
        {"items": 1},
        {"items": 0},
    ],
    ids=["no gold", "no English", "one language", "one item", "no item"],
)
def test_what_cannot_be_known_is_null_and_still_shown(options, tmp_path):
    base, final = make_table(0, **options), make_table(2, 2.0, **options)
    summary = summarise(base, final, resamples=20)
    figures = summary["final"]["test"]
    if not options.get("labelled", True) or options.get("items") == 0:
        assert figures["accuracy_en"] is figures["accuracy"]["sw"] is figures["accuracy_variance"] is None
        assert summary["confidence"]["test"]["accuracy_en"] == [None, None]
    if "languages" in options:
        assert figures["clc_en"] is figures["accuracy_en"] is None
        assert figures["accuracy_non_en"] is not None
    html = write_report(tmp_path, summary, base, final, {"test": make_items(base)}).read_text("utf-8")
    for word in ("nan", "None", "null"):
        text = re.sub(r"<(style|script)>.*?</\1>", "", html, flags=re.S)
        assert not re.search(rf"\b{word}\b", text)
    json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert "nan" not in terminal_table(summary, color=False)


def test_terminal_table_shows_before_after_and_interval_of_each_split(summary):
    text = terminal_table(summary, width=80, color=False)
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    for split in summary["base"]:
        part = text[text.index(f"{split}: ") :]
        for label, path in (("all language pairs", ["clc_all"]), ("sw  Swahili", ["accuracy", "sw"])):
            line = next(line for line in part.splitlines() if label in line)
            base, final, delta, bounds = (
                reduce(getitem, path, summary[key][split]) for key in ("base", "final", "delta", "confidence")
            )
            cells = [cell.strip() for cell in line.split("│")[2:6]]
            interval = f"[{bounds[0]:+.1f}, {bounds[1]:+.1f}]"
            assert cells == [f"{base:.1f}", f"{final:.1f}", f"{delta:+.1f}", interval]
    assert "\x1b[" in terminal_table(summary, color=True)


def test_tables_that_do_not_belong_together_are_refused(tables):
    base, final = tables
    with pytest.raises(ValueError, match="base has the splits test, test_unseen, final has test"):
        summarise(base, {"test": final["test"]})
    with pytest.raises(ValueError, match=r"split test: base \(60\) and final \(30\) hold different items"):
        summarise(base["test"], final["test_unseen"])
    with pytest.raises(
        ValueError, match="split test: base has the languages en, ar, sw, zh, final has en, ar"
    ):
        summarise(base["test"], make_table(0, languages=("en", "ar")))
    other = make_table(0)
    other.gold[:] = 0
    with pytest.raises(ValueError, match="differ in candidates or gold answers"):
        summarise(base["test"], other)
