"""The page of `explore` in a headless Chromium: picked, written, wrong and narrow. Skipped where there is none."""

import json
import re
from html import unescape

import pytest

import consistency_jax as cj
from consistency_jax.config.defaults import default
from consistency_jax.explore.asking import of_models
from consistency_jax.report.question import question_view, round_trip_view

pytest.importorskip("selenium")
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait


@pytest.fixture(scope="module")
def model(small_model):
    """The model that is asked, as the page has it."""
    config = default()
    config.evaluation.generation.max_tokens = 4
    return of_models(config, [str(small_model)])[0]


@pytest.fixture
def items(asked):
    return cj.load_items("jsonl", path=asked)


@pytest.fixture
def page(chromium, picture, served):
    picture.window(chromium, 1400, 1600)
    picture.media(chromium)
    chromium.get(served.address)
    wait(chromium, "writes:")
    return chromium


def wait(page, *words: str) -> None:
    """Until the answers hold these words."""
    WebDriverWait(page, 60).until(lambda page: all(word in answers(page) for word in words))


def answers(page) -> str:
    script = "return [...document.querySelectorAll('.asked')].map((own) => own.textContent).join(' ')"
    return page.execute_script(script)


def words(html: str) -> list[str]:
    return unescape(re.sub("<[^>]*>", " ", html)).split()


def expected(model, served, item, normalization: str = "mean_full") -> list[str]:
    """The texts and figures of the answers, as they stand in the page."""
    table, texts = model.rank(item).table, model.write(item)
    return words(question_view(item, [(name, table, texts) for name in served.names], normalization))


def shown(page, place: int = 0) -> list[str]:
    return words(page.find_elements(By.CSS_SELECTOR, ".asked")[place].get_attribute("innerHTML"))


def cell(page, row: int, column: int):
    return page.find_element(By.CSS_SELECTOR, f"[data-row='{row}'][data-col='{column}']")


def edit(page, row: int, column: int, text: str) -> None:
    own = cell(page, row, column)
    ActionChains(page).double_click(own).perform()
    field = WebDriverWait(page, 10).until(
        lambda page: page.find_element(By.CSS_SELECTOR, "[aria-label='Edit cell']")
    )
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys(text)
    field.send_keys(Keys.ENTER)


def choose(page, label: str, text: str) -> None:
    field = page.find_element(By.CSS_SELECTOR, f"[aria-label^='{label}']")
    field.click()
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys(text)
    field.send_keys(Keys.ENTER)


def toasts(page) -> str:
    return page.execute_script(
        "return [...document.querySelectorAll('.toast-body')].map((own) => own.textContent).join(' ')"
    )


def ask(page) -> None:
    page.find_element(By.XPATH, "//button[normalize-space()='Ask']").click()


def test_the_first_question_is_answered_when_the_page_opens(page, model, served, items):
    assert shown(page) == expected(model, served, items[0])
    assert page.title == " and ".join(served.names)
    table = model.rank(items[0]).table
    trip = round_trip_view(items[0], [(name, table, {}) for name in served.names], "en", "ru")
    WebDriverWait(page, 20).until(lambda page: len(page.find_elements(By.CSS_SELECTOR, ".asked")) == 2)
    assert shown(page, 1) == words(trip)


def test_a_question_is_picked_of_other_languages_and_answers(page, model, served, items):
    choose(page, "Questions", "kenya")
    wait(page, "Swahili", "writes:")
    assert shown(page) == expected(model, served, items[1])
    assert cell(page, 1, 1).text == "肯尼亚的首都是"
    assert "back from zh" in " ".join(shown(page, 1))
    assert toasts(page) == ""
    choose(page, "Questions", "spain")
    wait(page, "Madrid", "writes:")
    assert shown(page) == expected(model, served, items[2])
    assert "RankC" not in answers(page)  # of one answer there is no order
    assert toasts(page) == ""


def test_a_question_is_changed(page, model, served, items):
    choose(page, "through", "German")
    wait(page, "back from de")
    edit(page, 0, 2, "Lyon")
    ask(page)
    wait(page, "Lyon", "writes:")
    items[0].candidates["en"] = (" Lyon", *items[0].candidates["en"][1:])
    assert shown(page) == expected(model, served, items[0])
    assert "back from de" in answers(page)  # what was chosen stays
    assert toasts(page) == ""


def test_answers_are_ranked_anew(page, model, served, items):
    choose(page, "ranked by", "sum")
    wait(page, "percentages are the probability")
    assert shown(page) == expected(model, served, items[0], "sum")
    ask(page)
    choose(page, "ranked by", "bytes")  # while they may still write
    wait(page, "per UTF-8 byte", "writes:")
    assert shown(page) == expected(model, served, items[0], "bytes")


def toast(page) -> str:
    """What the page tells as wrong, once it does."""
    return WebDriverWait(page, 20).until(toasts)


def test_what_is_no_question_is_told(page):
    edit(page, 0, 2, " ")
    ask(page)
    assert "candidate 0 in 'en' is empty" in toast(page)


def test_an_answer_is_shown_as_it_was_written(page):
    edit(page, 0, 2, "<b>1</b> <mask>")
    ask(page)
    wait(page, "<b>1</b> <mask>", "writes:")
    assert toasts(page) == ""


def test_an_error_tells_what_was_written_as_it_was(page):
    edit(page, 0, 1, "<mask> is <mask> <i>")
    ask(page)
    assert "the prompt in 'en' has 2 <mask>" in toast(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
def test_no_text_is_wider_than_its_box(page, picture, overflowing, served, width, scheme):
    picture.window(page, width, 900)
    picture.media(page, scheme=scheme)
    page.get(served.address)
    wait(page, "writes:")
    assert overflowing(".asked") == []
    assert cell(page, 0, 0).size["width"] > 80
    assert cell(page, 0, 2).size["width"] > 120
    assert page.execute_script("return document.documentElement.scrollWidth") <= width


def test_the_page_asks_nobody_else(page, served):
    page.get_log("performance")
    page.get(served.address)
    wait(page, "writes:")
    events = [json.loads(line["message"])["message"] for line in page.get_log("performance")]
    asked = [
        e["params"]["request"]["url"]
        for e in events
        if e["method"] == "Network.requestWillBeSent" and e["params"]["documentURL"].startswith("http:")
    ]
    own = [url for url in asked if url.startswith(served.address)]
    assert own
    assert [url for url in asked if not url.startswith((served.address, "data:", "blob:"))] == []
