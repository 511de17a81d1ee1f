"""The page of a board: who leads, who is not measurably different, and what a browser shows."""

import json
from pathlib import Path

import numpy as np
import pytest

from consistency_jax.board.entries import FIGURES, entries_of
from consistency_jax.board.page import board_tables, file_names, write_board
from consistency_jax.metrics import bootstrap_delta

LANGUAGES = ["en", "fr", "sw"]


def entry(model: str, values: np.ndarray, **changes: object) -> dict:
    """Of a model with this consistency on each question."""
    mean = float(values.mean())
    figure = [mean, mean - 1, mean + 1]
    own = {
        "items": len(values),
        "languages": LANGUAGES,
        "asked": "0123",
        "ranked_by": "sum",
        "tokens": {"answers": 7, "prompts": None},
        "version": "consistency_jax 0.1.0",
        "settings": {},
        "figures": dict.fromkeys(FIGURES, figure),
        "by_language": {
            name: {code: [mean + n, mean, mean + 9] for n, code in enumerate(LANGUAGES)}
            for name in ("with_others", "accuracy")
        },
        "values": {key: values.tolist() for key in ("clc_all", "top1_agreement_all")},
    } | changes
    return {"schema": 1, "model": model, "benchmarks": {"facts": own}}


@pytest.fixture
def entries():
    rng = np.random.default_rng(0)
    hard = rng.normal(40, 10, 200)
    models = {
        "weak": hard,
        "strong<b>": hard + 8 + rng.normal(0, 1, 200),
        "as strong": hard + 8.05 + rng.normal(0, 1, 200),
    }
    return {model: entry(model, values) for model, values in models.items()}


def test_the_best_stands_first_and_a_paired_bootstrap_tells_who_is_even(entries):
    (table,) = board_tables(entries)
    values = {model: own["benchmarks"]["facts"]["values"]["clc_all"] for model, own in entries.items()}
    assert [row["model"] for row in table["rows"]] == sorted(values, key=lambda m: -np.mean(values[m]))
    for row in table["rows"]:
        for other in set(values) - {row["model"]}:
            found = bootstrap_delta(values[other], values[row["model"]])
            assert (other in row["even"]) == (found.low <= 0 <= found.high)
    assert {row["model"]: row["even"] for row in table["rows"]} == {
        "as strong": ["strong<b>"],
        "strong<b>": ["as strong"],
        "weak": [],
    }


def test_a_bound_that_is_0_to_the_digits_that_are_told_is_0():
    """Entries hold six digits: a difference of means that is 0 comes out as some 1e-8."""
    values = np.full(80, 33.333333)
    moved = values.copy()
    moved[:3] = 100.0  # some draws have none of the three
    moved[70:] = 33.333334
    (table,) = board_tables({"a": entry("a", values), "b": entry("b", moved)})
    assert bootstrap_delta(values, moved).low > 0
    assert [row["even"] for row in table["rows"]] == [["a"], ["b"]]


def test_who_was_asked_something_else_stands_in_another_table(entries):
    entries["weak"]["benchmarks"]["facts"]["asked"] = "4567"
    entries["as strong"]["benchmarks"]["facts"]["ranked_by"] = "bytes"
    tables = board_tables(entries)
    assert [[row["model"] for row in table["rows"]] for table in tables] == [
        ["as strong"],
        ["strong<b>"],
        ["weak"],
    ]
    assert [table["rows"][0]["even"] for table in tables] == [None] * 3
    assert len(board_tables({name: own for name, own in entries.items() if name != "weak"})) == 2
    for own in entries.values():  # figures are then no means over questions
        own["benchmarks"]["facts"] |= {"asked": "1", "ranked_by": "sum", "values": {}}
    (table,) = board_tables(entries)
    assert [row["even"] for row in table["rows"]] == [None] * 3
    entries["weak"]["benchmarks"]["facts"]["settings"] = {"data.chat_template": "tokenizer"}
    assert len(board_tables(entries)) == 2


def test_who_was_asked_the_same_stands_in_one_table_whatever_else_was_asked(entries):
    two = entries["weak"]["benchmarks"]
    two["facts, 200 questions in en fr sw"] = two["facts"]
    two["facts"] = two["facts"] | {"asked": "4567", "languages": ["en", "fr"]}
    tables = board_tables(entries)
    assert {table["name"]: {row["model"] for row in table["rows"]} for table in tables} == {
        "facts, 200 questions in en fr sw": set(entries),
        "facts": {"weak"},
    }


def test_a_model_of_which_answers_alone_are_known_is_led_by_them(entries):
    for own in entries.values():
        facts = own["benchmarks"]["facts"]
        facts["figures"] = facts["figures"] | {"clc_all": [None] * 3, "clc_en": [None] * 3}
        del facts["values"]["clc_all"]
    (table,) = board_tables(entries)
    assert table["lead"] == "top1_agreement_all"
    assert "clc_all" not in table["keys"]
    assert table["rows"][0]["even"] == ["strong<b>"]


def test_entries_are_written_for_other_boards(entries, tmp_path):
    write_board(tmp_path, entries)
    files = sorted((tmp_path / "models").iterdir())
    assert [file.name.partition("-")[0] for file in files] == ["as_strong", "strong_b_", "weak.json"]
    found, _ = entries_of(map(str, files))
    assert found == {own["model"]: own for own in (json.loads(file.read_text("utf8")) for file in files)}
    page = (tmp_path / "index.html").read_text("utf8")
    assert "strong<b>" not in page
    assert "https://" not in page.split("<main>")[1]


def test_names_of_files_are_names_of_models_and_never_the_same():
    models = ["gemma-3.gguf", "org/a", "org_a", "Qwen", "qwen", "x" * 300, "漢" * 80, "../../etc", "con"]
    files = file_names(models)
    assert files["gemma-3.gguf"] == "models/gemma-3.gguf.json"
    assert files["org_a"] == "models/org_a.json"
    assert len({file.casefold() for file in files.values()}) == len(models)
    # Of 255 bytes that a file system takes, with room for what stands behind a file's name while it is written.
    assert all(file.count("/") == 1 and len(file.encode()) < 200 for file in files.values())


# --------------------------------------------------------------------------------------------------------- in a browser
def cells(page, section: str) -> list[list[str]]:
    rows = page.find_elements("css selector", f"#{section} tbody tr")
    return [[cell.text for cell in row.find_elements("css selector", "td")] for row in rows]


def test_it_is_sorted_filtered_and_shown_by_language(entries, tmp_path, chromium):
    from selenium.webdriver.support.ui import Select

    more = entry("weak", np.full(20, 30.0), languages=["en", "fr"], asked="89", items=20)
    del more["benchmarks"]["facts"]["by_language"]["with_others"]["sw"]
    more["benchmarks"]["facts"]["by_language"]["accuracy"].pop("sw")
    entries["weak"]["benchmarks"]["more"] = more["benchmarks"]["facts"]
    page = chromium
    page.get("about:blank")
    page.get_log("browser")
    page.get(Path(write_board(tmp_path, entries)).as_uri())
    assert [row[0] for row in cells(page, "b0")] == ["as strong", "strong<b>", "weak"]
    assert cells(page, "b0")[2][-1] == "none"
    heads = page.find_elements("css selector", "#b0 th button")
    heads[0].click()
    heads[0].click()
    assert page.find_element("css selector", "#b0 th").get_attribute("aria-sort") == "ascending"
    heads[1].click()
    assert [row[0] for row in cells(page, "b0")] == ["as strong", "strong<b>", "weak"]
    heads[1].click()
    assert [row[0] for row in cells(page, "b0")] == ["weak", "strong<b>", "as strong"]
    language = Select(page.find_element("name", "language"))
    language.select_by_value("sw")
    best = cells(page, "b0")[0]
    mean = entries["as strong"]["benchmarks"]["facts"]["figures"]["clc_all"][0]
    assert best[0] == "as strong"
    assert best[1].split()[0] == f"{mean + 2:.1f}"
    assert not page.find_element("id", "b1").is_displayed()  # it was not asked in Swahili
    language.select_by_value("")
    Select(page.find_element("name", "benchmark")).select_by_value("b1")
    assert not page.find_element("id", "b0").is_displayed()
    assert [row[0] for row in cells(page, "b1")] == ["weak"]
    assert page.get_log("browser") == []
    for width in (1200, 390):
        page.set_window_size(width, 900)
        assert page.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
