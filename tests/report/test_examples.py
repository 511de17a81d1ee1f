"""The questions that the page can be searched for."""

import json
import re

import numpy as np
from made import COUNTRIES, LANGUAGES, make_items, make_table

from consistency_jax.report import html, write_report
from consistency_jax.report.examples import embedded


def test_questions_tell_the_first_answers_of_the_tables(tables):
    before, after = (side["test"] for side in tables)
    found = embedded(
        {"test": before}, {"test": after}, {"test": make_items(before)}, normalization="sum", room=10**6
    )
    for row, (name, group, gold, answers) in enumerate(json.loads(found.data)["splits"][0]["items"]):
        assert (name, group, gold) == (before.ids[row], "city", [before.gold[row]])
        for place, (_, texts, *sides) in enumerate(answers):
            firsts = [int(table.logp[row, place].argmax()) for table in (before, after)]
            assert sides == [[first] for first in firsts]
            own = COUNTRIES[LANGUAGES[place]]
            assert texts == {str(k): own[k].strip() for k in {*firsts, *gold}}


def test_questions_are_a_draw_where_there_is_no_room_for_all(tables, summary, tmp_path, monkeypatch):
    before, after = tables
    items = {split: make_items(table) for split, table in before.items()}

    def ids(**options) -> list[list[str]]:
        found = embedded(before, after, items, normalization="sum", **options)
        assert len(found.data.encode()) <= options["room"] + 1000
        splits = json.loads(found.data)["splits"]
        assert found.counts == [(s["name"], len(s["items"]), s["total"]) for s in splits]
        return [[item[0] for item in split["items"]] for split in splits]

    drawn = ids(room=9000)
    assert drawn == ids(room=9000)
    assert all(0 < len(own) < len(items[split]) for own, split in zip(drawn, items))
    assert [sorted(own, key=lambda name: int(name[5:])) for own in drawn] == drawn
    assert drawn[0] != list(before["test"].ids[: len(drawn[0])])  # drawn, not the first ones
    everything = ids(room=10**6)
    assert [len(own) for own in everything] == [60, 30]
    whole = write_report(tmp_path, summary, before, after, items).stat().st_size
    monkeypatch.setattr(html, "LIMIT", whole - 5_000)
    page = write_report(tmp_path, summary, before, after, items).read_text("utf-8")
    assert len(page.encode()) <= whole - 5_000
    assert re.search(r"\d+ of the 60 questions of <b>test</b>, drawn at random", page)


def test_ties_are_shown_as_ties():
    before, after = make_table(0, items=2), make_table(0, items=2)
    before.logp[:], after.logp[:] = np.float32([2, 2, 1, 0]), np.float32([7, 7, 7, 7])
    found = embedded(
        {"test": before}, {"test": after}, {"test": make_items(before)}, normalization="sum", room=10**6
    )
    for item in json.loads(found.data)["splits"][0]["items"]:
        assert [answer[2:] for answer in item[3]] == [[[0, 1], [0, 1, 2, 3]]] * 4
