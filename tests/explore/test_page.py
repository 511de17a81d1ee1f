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
def items(questions):
    return cj.load_items("jsonl", path=questions)


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
    found = model.rank(item)._replace(texts=model.write(item))
    return words(question_view(item, [found._replace(name=name) for name in served.names], normalization))


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


def ask(page) -> None:
    page.find_element(By.XPATH, "//button[normalize-space()='Ask']").click()


def test_the_first_question_is_answered_when_the_page_opens(page, model, served, items):
    assert shown(page) == expected(model, served, items[0])
    assert page.title == " and ".join(served.names)
    trip = round_trip_view(
        items[0], [model.rank(items[0])._replace(name=name) for name in served.names], "en", "ru"
    )
    WebDriverWait(page, 20).until(lambda page: len(page.find_elements(By.CSS_SELECTOR, ".asked")) == 2)
    assert shown(page, 1) == words(trip)


def test_a_question_is_picked(page, model, served, items):
    field = page.find_element(By.CSS_SELECTOR, "[aria-label^=Questions]")
    field.click()
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys("q7:")
    field.send_keys(Keys.ENTER)
    wait(page, "place 7", "writes:")
    assert shown(page) == expected(model, served, items[7])
    assert cell(page, 0, 1).text == "The capital of place 7 is"


def test_a_question_is_changed(page, model, served, items):
    edit(page, 0, 2, "Oslo")
    ask(page)
    wait(page, "Oslo", "writes:")
    item = items[0]
    item.candidates["en"] = (" Oslo", *item.candidates["en"][1:])
    assert shown(page) == expected(model, served, item)


def test_answers_are_ranked_anew(page, model, served, items):
    field = page.find_element(By.CSS_SELECTOR, "[aria-label='ranked by']")
    field.click()
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys("sum")
    field.send_keys(Keys.ENTER)
    wait(page, "percentages are the probability")
    assert shown(page) == expected(model, served, items[0], "sum")


def test_what_is_no_question_is_told(page):
    edit(page, 0, 2, " ")
    ask(page)
    script = "return document.querySelector('.toast-body')?.textContent ?? ''"
    WebDriverWait(page, 20).until(lambda page: "candidate 0 in 'en' is empty" in page.execute_script(script))


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
