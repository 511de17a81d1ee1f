"""The report in a headless Chromium: what one sees, clicks, types and hears of it. Skipped where there is none."""

import dataclasses
import itertools
import json
import re

import numpy as np
import pytest
from made import COUNTRIES, LANGUAGES, make_items, make_table

from consistency_jax.metrics.accuracy import right_cells
from consistency_jax.report import summarise, write_report
from consistency_jax.report.comparison import columns, write_comparison

pytest.importorskip("selenium")
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """(page, summary, tables): two splits, some items without Chinese, one whose Arabic begins in Latin letters; some
    have two right answers."""
    base = {"test": make_table(0), "test_unseen": make_table(1, items=30)}
    final = {"test": make_table(2, 1.4), "test_unseen": make_table(3, 1.2, items=30)}
    for table in (base["test"], final["test"]):
        table.mask[:7, 3] = False
        right = np.arange(4) == table.gold[:, None]
        right[:10] |= np.arange(4) == (table.gold[:10, None] + 1) % 4
        right[50:] = False
        object.__setattr__(table, "gold", right)
    summary = summarise(base, final, resamples=100)
    items = {split: make_items(table) for split, table in base.items()}
    items["test"][3].prompts["ar"] = "iPhone من أي بلد <mask> ؟"
    words = [["Egypt", "مصر", None, "<i>"]] * 5, [["Kenya", "كينيا", None, "x"]] * 5
    options = {"config": {"seed": 3}, "command": "python -m consistency_jax.train --config=x.py"}
    folder = tmp_path_factory.mktemp("page")
    page = write_report(folder, summary, base, final, items, free_text={"test": words}, **options)
    return page, summary, (base, final)


@pytest.fixture
def page(chromium, picture, report):
    """The page, opened anew at its top."""
    picture.window(chromium, 1200, 900)
    picture.media(chromium)
    chromium.get("about:blank")
    chromium.get_log("browser")  # what earlier pages complained of
    chromium.get(report[0].as_uri())
    return chromium


def count(page) -> int:
    return int(page.find_element(By.ID, "count").text.split()[0])


def choose(page, **values: str) -> None:
    for name, value in values.items():
        Select(page.find_element(By.NAME, name)).select_by_value(value)


def search(page, words: str) -> int:
    field = page.find_element(By.NAME, "words")
    field.clear()
    page.execute_script("document.getElementById('count').textContent = '-1'")  # until it was searched
    field.send_keys(words)
    WebDriverWait(page, 10).until(lambda page: count(page) >= 0)
    return count(page)


def unfold(page) -> None:
    page.execute_script("document.querySelectorAll('details.expert').forEach((own) => { own.open = true; })")


def settle(page) -> None:
    """Waits for what a scroll or a change of focus leads to."""
    frames = "requestAnimationFrame(() => requestAnimationFrame(() => arguments[0]()))"
    page.execute_async_script(frames)


def point(page, element) -> None:
    ActionChains(page).move_to_element(element).perform()
    settle(page)  # it may have scrolled there
    ActionChains(page).move_by_offset(1, 1).perform()


def tip(page) -> str:
    found = page.find_element(By.ID, "tip")
    return found.text if found.is_displayed() else ""


def test_charts_are_there_and_their_marks_tell_numbers_under_the_pointer(page, report):
    figures = report[1]["final"]["test"]
    assert not page.find_element(
        By.CSS_SELECTOR, "#split-test-more svg"
    ).is_displayed()  # for experts: folded
    unfold(page)
    section = page.find_element(By.ID, "split-test")
    assert len(section.find_elements(By.CSS_SELECTOR, "svg.heat")) == 3
    assert len(page.find_elements(By.CSS_SELECTOR, "#split-test-more svg.heat")) == 2
    assert len(section.find_elements(By.CSS_SELECTOR, ".slope")) == 8
    after = section.find_elements(By.CSS_SELECTOR, "svg.heat")[1]
    cells = after.find_elements(By.CSS_SELECTOR, "g[data-tip]")
    assert len(cells) == 12
    charts = page.find_elements(By.CSS_SELECTOR, "#split-test svg.chart, #split-test-more svg.chart")
    assert [chart.accessible_name for chart in charts] == [
        "Consistency of a language with the others, test",
        "Accuracy of a language, test",
        "Answers changed and accuracy, test",
        "What intervals hold, test",
    ]
    point(page, cells[1])
    assert tip(page) == f"English and Swahili: {figures['clc_matrix'][0][2]:.2f}"
    point(page, charts[1].find_element(By.CSS_SELECTOR, "g text"))
    assert tip(page).startswith(f"English: {report[1]['base']['test']['accuracy']['en']:.2f} to ")
    point(page, section.find_element(By.TAG_NAME, "h2"))
    assert tip(page) == ""


def test_the_keyboard_reaches_every_chart_and_control(page, report):
    unfold(page)
    reached = []
    describe = """
        const e = document.activeElement, chart = e.closest("svg");
        return chart?.getAttribute("aria-label") || e.name || e.id || e.dataset.copy || e.textContent.trim();
    """
    for _ in range(60):
        ActionChains(page).send_keys(Keys.TAB).perform()
        reached.append(page.execute_script(describe))
        if reached[-1] == "config" or "Every key" in reached[-1]:
            break
    for name in ("test_unseen", "CLC, test, before", "Accuracy of a language, test", "Fitted T, test_unseen"):
        assert name in reached, name
    wanted = ["words", "split", "one", "other", "answers", "agreement", "Clear", "more"]
    places = [reached.index(name) for name in wanted]
    assert places == sorted(places)
    assert reached.index("command") < places[0]
    charts = page.find_elements(By.CSS_SELECTOR, "svg.marks")
    assert [name for name in reached if name in {chart.accessible_name for chart in charts}] == [
        chart.accessible_name for chart in charts
    ]  # one stop of the Tab key a chart, in the page's order


def test_arrows_walk_the_cells_and_escape_hides_their_numbers(page, report):
    matrix = report[1]["base"]["test_unseen"]["clc_matrix"]
    first = page.find_element(By.CSS_SELECTOR, "#split-test_unseen svg.heat g[tabindex='0']")
    page.execute_script("arguments[0].focus()", first)  # far below what is seen: the page scrolls there
    settle(page)
    assert tip(page) == f"English and Arabic: {matrix[0][1]:.2f}"
    walk = (
        (Keys.ARROW_RIGHT, (0, 2)),
        (Keys.ARROW_DOWN, (1, 2)),
        (Keys.ARROW_LEFT, (1, 0)),
        (Keys.END, (3, 2)),
    )
    names = ("English", "Arabic", "Swahili", "Chinese")
    for key, (i, j) in walk:
        ActionChains(page).send_keys(key).perform()
        settle(page)
        assert tip(page) == f"{names[i]} and {names[j]}: {matrix[i][j]:.2f}"
    told = tip(page)
    ActionChains(page).move_to_element(page.find_element(By.TAG_NAME, "h2")).perform()
    settle(page)
    assert tip(page) == told  # a pointer that only passes does not hide what the keyboard asked for
    ActionChains(page).send_keys(Keys.ESCAPE).perform()
    assert tip(page) == ""


def fates(before, after, places) -> dict[str, np.ndarray]:
    """bool[N] by filter, of tables without ties."""
    there = before.mask[:, places].any(2)
    firsts = [np.where(t.mask, t.scores("mean_full"), -np.inf).argmax(-1)[:, places] for t in (before, after)]
    moved = there & (firsts[0] != firsts[1])
    cells = right_cells(before.gold, before.mask.shape)
    right = [there & np.take_along_axis(cells, side, 1) for side in firsts]

    def alike(side):
        return np.array([len(set(row[own])) == 1 for row, own in zip(side, there)])

    first, last = (alike(side) for side in firsts)
    several = there.sum(1) > 1
    return {
        "": np.ones(len(there), bool),
        "changed": moved.any(1),
        "unchanged": ~moved.any(1),
        "fixed": (right[1] & ~right[0]).any(1),
        "broken": (right[0] & ~right[1]).any(1),
        "agree": several & last,
        "disagree": several & ~last,
        "joined": several & last & ~first,
        "parted": several & first & ~last,
    }


ANSWERS, AGREEMENT = (
    ("", "changed", "unchanged", "fixed", "broken"),
    ("", "agree", "disagree", "joined", "parted"),
)


@pytest.mark.parametrize("pair", [("", ""), ("en", "sw"), ("ar", "zh"), ("zh", "")])
def test_filters_count_what_the_tables_say(page, report, pair):
    chosen = [LANGUAGES.index(language) for language in pair if language]
    choose(page, one=pair[0], other=pair[1])
    # One round trip for all the combinations: a change of each field, as a hand makes it.
    read = """
        const fields = document.getElementById("filters").elements, found = [];
        const set = (name, value) => {
            fields[name].value = value;
            fields[name].dispatchEvent(new Event("change", { bubbles: true }));
        };
        for (const values of arguments[0]) {
            ["split", "answers", "agreement"].forEach((name, n) => set(name, values[n]));
            found.push([fields.one.value, fields.other.value, document.getElementById("count").textContent]);
        }
        return found;
    """
    combinations = list(itertools.product(("0", "1"), ANSWERS, AGREEMENT))
    counted = page.execute_script(read, combinations)
    for (split, answers, agreement), (one, other, text) in zip(combinations, counted):
        before, after = (list(side.values())[int(split)] for side in report[2])
        has = before.mask[:, chosen].any(2).all(1)
        told = fates(before, after, chosen or list(range(4)))
        expected = (has & told[answers] & told[agreement]).sum()
        assert (one, other) == pair  # another split keeps the languages
        assert text == f"{expected} of {len(has)} questions", (split, answers, agreement)
    assert len({text for _, _, text in counted}) > 10


def test_search_finds_words_of_questions_answers_and_ids(page, report):
    firsts = [side["test"] for side in report[2]]
    assert count(page) == 60
    assert search(page, "no 17") == 1
    assert search(page, "CITY/1") == 11  # 1 and 10..19, in any case
    said = [
        firsts[0].gold[n, own].any() or any(t.scores("mean_full")[n, p].argmax() in own for t in firsts)
        for n in range(60)
        for p, own in ((0, (1,)), (2, (1,)))
    ]
    kenyan = {n // 2 for n, found in enumerate(said) if found} | set(range(5))  # five wrote it themselves
    assert search(page, "kenya") == len(kenyan)
    assert search(page, "مدينة 17") == 1
    assert search(page, "no such word") == 0
    assert page.find_elements(By.CSS_SELECTOR, "#found article") == []
    page.find_element(By.CSS_SELECTOR, "button[type=reset]").click()
    WebDriverWait(page, 10).until(lambda page: count(page) == 60)


def test_a_page_of_questions_at_a_time(page):
    more = page.find_element(By.ID, "more")
    for shown in (20, 40, 60):
        assert len(page.find_elements(By.CSS_SELECTOR, "#found article")) == shown
        assert more.is_displayed() == (shown < 60)
        if shown < 60:
            page.execute_script("arguments[0].click()", more)
            assert page.switch_to.active_element.tag_name == "article"


def test_texts_run_as_their_languages_do_and_are_no_markup(page):
    def direction(element):
        return page.execute_script("return getComputedStyle(arguments[0]).direction", element)

    found = page.find_element(By.ID, "found")
    questions = found.find_elements(By.CSS_SELECTOR, "td.q[lang=ar]")
    assert questions[3].text.startswith("iPhone")  # its first letters are Latin
    assert {direction(question) for question in questions} == {"rtl"}
    assert {direction(question) for question in found.find_elements(By.CSS_SELECTOR, "td.q[lang=sw]")} == {
        "ltr"
    }
    answers = found.find_elements(By.CSS_SELECTOR, "td.before bdi[lang=ar]:not(.own)")
    assert {answer.text for answer in answers} <= {text.strip() for text in COUNTRIES["ar"]}
    assert {direction(answer) for answer in answers} == {"rtl"}
    own = [element.text for element in found.find_elements(By.CSS_SELECTOR, "td.after bdi.own")]
    assert own[:2] == ["Kenya", "كينيا"]
    assert found.find_elements(By.CSS_SELECTOR, "b, i, img") == []
    assert "<b>Chad</b>" in found.text


def test_dark_light_and_print_differ(page, picture):
    def colours():
        script = "const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]"
        return tuple(page.execute_script(script))

    light = colours()
    picture.media(page, scheme="dark")
    dark = colours()
    picture.media(page, "print", scheme="dark")
    printed = colours()
    assert light[0] != dark[0]
    assert light[1] == printed[1] != dark[1]
    assert printed[0] == "rgb(255, 255, 255)"
    assert not page.find_element(By.ID, "filters").is_displayed()


@pytest.mark.parametrize("width", [360, 768])
def test_nothing_sticks_out_of_a_narrow_window(page, picture, width):
    picture.window(page, width, 800)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width


@pytest.fixture(scope="module")
def pages(report, tmp_path_factory):
    """Before and after, of a model alone, of languages with long codes, and a comparison."""
    folder, (base, _) = tmp_path_factory.mktemp("pages"), report[2]
    command = f"python -m consistency_jax.evaluate --config=audit.py:path={'long/' * 30}"
    options = {"command": command, "title": "a-model"}
    options["about"] = {"Model": "/a/folder/" + "of-some-length" * 8, "Ranked by": "mean_full"}
    items = {split: make_items(table) for split, table in base.items()}
    alone = write_report(folder / "alone", summarise(base, resamples=50), base, None, items, **options)
    coded = {
        k: dataclasses.replace(t, languages=("eng_Latn", "arb_Arab", "swh_Latn", "zho_Hans"))
        for k, t in base.items()
    }
    long = write_report(folder / "long", summarise(coded, resamples=50), coded, None, **options)
    rows = {"figures": {}, "against_base": {}, "against_first": {}}
    for key in columns():
        change = {"mean": 12.3, "sd": 1.2, "low": -10.1, "high": 30.4}
        rows = {name: own | {key: change} for name, own in rows.items()}
    methods = [
        {
            "name": name,
            "model": "gemma.gguf",
            "method": "dco, 9 steps of 4 items",
            "runs": [name],
            "seeds": [0, 1],
        }
        | {"items_per_s": 12.0}
        for name in ("dco", "a method of a long name", "sft")
    ]
    settings = {"confidence": 0.95, "resamples": 20, "normalization": "sum", "first": "dco"}
    settings["splits"] = {"test": {"items": 1200, "languages": list(LANGUAGES), "low_resource": ["sw"]}}
    told = {
        "settings": settings,
        "methods": methods,
        "splits": {"test": {own["name"]: rows for own in methods}},
    }
    return report[0], alone, long, write_comparison(folder, told, command="python -m x")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("which", range(4))
def test_no_text_is_wider_than_its_box(chromium, picture, overflowing, pages, which, width, scheme):
    picture.window(chromium, width, 900)
    picture.media(chromium, scheme=scheme)
    chromium.get(pages[which].as_uri())
    unfold(chromium)
    assert overflowing("main") == []
    assert chromium.execute_script("return document.documentElement.scrollWidth") <= width


def test_an_audit_shows_its_questions_the_least_consistent_first(chromium, picture, pages, report):
    picture.window(chromium, 1200, 900)
    chromium.get(pages[1].as_uri())
    table = report[2][0]["test"]
    first = np.where(table.mask, table.scores("mean_full"), -np.inf).argmax(-1)
    kinds = [len(set(own[there.any(-1)])) for own, there in zip(first, table.mask, strict=True)]
    shown = [note.text for note in chromium.find_elements(By.CSS_SELECTOR, "#found article .id")]
    several = [int(re.search(r"(\d+) different", text)[1]) for text in shown]
    assert several[0] == max(kinds) > 1
    assert len(shown) == 20
    assert chromium.find_elements(By.CSS_SELECTOR, "#found td.before, [name=answers]") == []
    assert count(chromium) == 60
    choose(chromium, agreement="agree")
    several_languages = table.mask.any(-1).sum(1) > 1
    assert count(chromium) == sum(
        kind == 1 and own for kind, own in zip(kinds, several_languages, strict=True)
    )


def test_command_and_config_can_be_copied(page):
    permissions = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    page.execute_cdp_cmd("Browser.grantPermissions", permissions)
    for name, text in (("command", "python -m consistency_jax.train --config=x.py"), ("config", '"seed": 3')):
        button = page.find_element(By.CSS_SELECTOR, f"button[data-copy={name}]")
        page.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
        button.click()
        WebDriverWait(page, 10).until(lambda _, button=button: button.text == "Copied")
        copied = page.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
        assert text in copied
    assert not page.find_element(By.ID, "config").is_displayed()  # collapsed


def test_the_page_asks_for_nothing_and_complains_of_nothing(page, chromium):
    choose(page, split="1", answers="changed")
    assert [line for line in chromium.get_log("browser") if line["level"] != "INFO"] == []
    events = [json.loads(line["message"])["message"] for line in chromium.get_log("performance")]
    asked = [
        e["params"]["request"]["url"]
        for e in events
        if e["method"] == "Network.requestWillBeSent" and e["params"]["documentURL"].startswith("file:")
    ]
    assert asked
    assert {url.partition(":")[0] for url in asked} <= {"file", "data"}
