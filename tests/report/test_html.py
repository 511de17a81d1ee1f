"""The files of a report: complete, deterministic, self-contained, and of odd tables too."""

import json
import re
from html.parser import HTMLParser

import pytest
from made import COUNTRIES, LANGUAGES, QUESTIONS, make_items, make_table

from consistency_jax.data.items import ParallelItem
from consistency_jax.report import summarise, terminal_table, write_report


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


def test_a_split_has_no_id_that_the_page_uses(tables, summary, tmp_path):
    names = ("questions", "found", "count", "more", "filters")
    sides = [dict.fromkeys(names, side["test"]) for side in tables]
    items = dict.fromkeys(names, make_items(tables[0]["test"]))
    html = write_report(tmp_path, summarise(*sides, resamples=20), *sides, items).read_text("utf-8")
    ids = re.findall(r'[ ]id="([^"]+)"', html)
    assert sorted(set(ids)) == sorted(ids)
    assert set(names) < set(ids)


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
