"""One question as it is shown: figures against what is counted by hand."""

import re
from html import unescape

import numpy as np
import pytest

from consistency_jax.data.items import ParallelItem
from consistency_jax.report.question import question_view, round_trip_view
from consistency_jax.table import Table

ITEM = ParallelItem(
    id="q",
    group="",
    prompts={"en": "The <b> is", "ar": "هو", "sw": "Ni"},
    candidates={"en": (" a", " b", " c"), "ar": (" أ", " ب", " ج"), "sw": (" x", " y", " <i>")},
    gold=1,
)


def table(*probabilities: tuple[float, ...]) -> Table:
    logp = np.log(np.array([probabilities], np.float32)) - 3  # sums are known up to what all candidates share
    whole = np.ones(logp.shape, np.int32)
    mask = np.ones(logp.shape, bool)
    return Table(("q",), tuple(ITEM.prompts), logp, whole, whole, mask, np.array([1]))


BEFORE = table((0.5, 0.3, 0.2), (0.2, 0.5, 0.3), (0.6, 0.3, 0.1))
AFTER = table((0.3, 0.6, 0.1), (0.3, 0.6, 0.1), (0.3, 0.6, 0.1))
SIDES = [("before", BEFORE, {}), ("after", AFTER, {"en": "\n", "sw": " y & z"})]


def words(html: str) -> str:
    return " ".join(unescape(re.sub("<[^>]*>", " ", html)).split())


def test_the_facts_of_a_question():
    html = question_view(ITEM, SIDES, "sum")
    told = words(html)
    # RankC, K = 3, of a > b > c and b > c > a: tops share 0 of 1, 1 of 2, 3 of 3; weights softmax of 3, 2, 1.
    weights = np.exp([3.0, 2.0, 1.0]) / np.exp([3.0, 2.0, 1.0]).sum()
    apart = 100 * (weights @ [0, 1 / 2, 1])
    assert f"over 3 pairs {(apart + apart + 100) / 3:.1f} 100.0" in told
    assert "commonest first answer 2 of 3 3 of 3" in told
    assert "first answer is right 1 of 3 3 of 3" in told
    assert f"{apart:.0f}" in re.findall(r'<td style="--p:(\d+)%">', html)


def test_answers_stand_as_they_are_ranked_with_their_probabilities():
    html = question_view(ITEM, SIDES, "sum")
    arabic = html.partition('dir="rtl"')[2].partition("</section>")[0]
    assert re.findall(r'class="text" dir="rtl">(.)<', arabic)[:3] == ["ب", "ج", "أ"]
    assert "b ✓ 30.0 %" in words(html)
    assert html.count('class="first"') == 6
    assert "The &lt;b&gt; is" in html
    assert "&lt;i&gt;" in html
    assert "<i>" not in html
    assert "writes: y & z" in words(html)
    assert "writes: (nothing)" in words(html)


def test_scores_of_other_rankings_stand_as_they_are():
    told = words(question_view(ITEM, [("model", BEFORE, {})], "mean"))
    assert "%" not in told
    assert "the mean over the answer’s tokens, in nats." in told
    assert (
        f"b ✓ {np.log(0.5) - 3:.2f}".replace("-", "\u2212") not in told
    )  # of Arabic, whose names are others
    assert f"ب ✓ {np.log(0.5) - 3:.2f}".replace("-", "\u2212") in told


def test_unknown_answers_and_a_single_language_are_left_out():
    item = ParallelItem("q", "", {"en": "It is"}, {"en": (" a", " b")})
    logp = np.zeros((1, 1, 2), np.float32)
    ones = np.ones(logp.shape, np.int32)
    alone = Table(("q",), ("en",), logp, ones, ones, ones > 0, np.array([-1]))
    told = words(question_view(item, [("model", alone, {})], "sum"))
    assert "right" not in told
    assert "RankC" not in told
    assert told.count("50.0 %") == 2


def test_the_round_trip_is_the_other_language_on_the_same_answers():
    told = words(round_trip_view(ITEM, SIDES, "en", "ar"))
    # |.5 - .2| + |.3 - .5| + |.2 - .3|, half of it
    assert "before: 30.0 % of the probability goes elsewhere" in told
    assert "after: 0.0 % of" in told
    assert "a أ 50.0 % 20.0 % b ب 30.0 % 50.0 % c ج 20.0 % 30.0 %" in told
    assert "elsewhere" not in words(round_trip_view(ITEM, SIDES, "en", "en"))


def test_ties_share_the_first_place():
    flat = table((0.4, 0.4, 0.2), (0.2, 0.4, 0.4), (0.5, 0.3, 0.2))
    html = question_view(ITEM, [("model", flat, {})], "sum")
    assert html.count('class="first"') == 5
    assert "commonest first answer 2 of 3" in words(html)
    assert "first answer is right 1 of 3" in words(html)  # half of it in each of two languages


def test_ranked_by_a_name_that_is_not_there_is_told():
    with pytest.raises(ValueError, match="mean_full needs"):
        question_view(ITEM, SIDES, "mean_full")
