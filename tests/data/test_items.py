"""What a valid item is: every kind of bad one gives an error that names place, reason and mend."""

from dataclasses import replace
from pathlib import Path

import pytest

from consistency_jax.data.facts import require_answers
from consistency_jax.data.items import (
    MASK,
    DataError,
    Items,
    ParallelItem,
    answer_in_gap,
    check_spacing,
    doubled_candidates,
    pick,
    run_together,
    validate,
)
from consistency_jax.data.sources import load_items

GOOD = ParallelItem(
    id="Q1",
    group="geography",
    prompts={"en": "The capital of France is", "fr": "La capitale de la France est <mask> ."},
    candidates={"en": (" Paris", " Rome"), "fr": ("Paris", "Rome")},
    gold=0,
    context={"en": "France is a country."},
)


def test_a_good_item_passes():
    validate(GOOD, "file:1")
    assert GOOD.languages == ("en", "fr")
    assert GOOD.num_candidates == 2
    validate(replace(GOOD, gold=None, context=None), "file:1")
    validate(replace(GOOD, prompts={"en": "<mask>", "fr": "x"}), "file:1")  # its context is the question


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"prompts": {}, "candidates": {}}, "no language"),
        ({"prompts": {"en": "x"}}, "same languages .*fr"),
        ({"candidates": {"en": (), "fr": ()}}, "no candidates"),
        ({"prompts": {"en": "x", "fr": "  "}}, "prompt in 'fr' is empty"),
        ({"prompts": {"en": "x", "fr": " <mask> "}}, "prompt in 'fr' is empty"),
        ({"prompts": {"en": "<mask> is <mask>", "fr": "x"}}, "'en' has 2 <mask>"),
        ({"candidates": {"en": (" Paris", " Rome"), "fr": ("Paris",)}}, "'fr' has 1 candidates, 'en' has 2"),
        ({"candidates": {"en": (" Paris", " "), "fr": ("Paris", "Rome")}}, "candidate 1 in 'en' is empty"),
        ({"gold": 2}, "gold is 2, with 2 candidates"),
        ({"gold": -1}, "gold is -1"),
        ({"context": {"de": "x"}}, "context has languages without a prompt .de"),
        ({"id": "Q\udfff"}, r"the id holds a lone surrogate, '\\udfff'"),
        ({"id": "Q\0"}, r"the name 'Q\\x00' holds a control character"),
        (
            {"prompts": {"en\n": "x"}, "candidates": {"en\n": ("a", "b")}, "context": None},
            r"'en\\n' holds a control",
        ),
        ({"id": "Q" * 1001}, "has 1,001 characters. Use names of at most 1,000"),
        ({"prompts": {"en": "x", "fr": "\ud800"}}, "the prompt in 'fr' holds a lone surrogate"),
    ],
)
def test_a_bad_item_names_place_and_reason(change: dict, reason: str):
    with pytest.raises(DataError, match=f"^set.jsonl:7: .*{reason}"):
        validate(replace(GOOD, **change), "set.jsonl:7")


def test_doubled_candidates_are_valid_and_told():
    item = replace(GOOD, candidates={"en": (" Rome", " Rome"), "fr": ("Paris", "Rome")})
    validate(item, "file:1")
    assert doubled_candidates(item) == ["language 'en' holds the candidate ' Rome' more than once"]


def test_items_is_a_list_that_remembers_what_was_skipped():
    items = Items([GOOD], skipped=["a"], warnings=["b"])
    assert items == [GOOD]
    assert items.languages == ("en", "fr")
    assert (items.skipped, items.warnings) == (["a"], ["b"])


@pytest.mark.parametrize(
    ("spacing", "prompt", "candidate", "kept"),
    [
        ("candidate", "City:", " Rome", True),
        ("candidate", "城市:", " 罗马", True),
        ("candidate", "City:", "Rome", False),
        ("candidate", "City:", "  Rome", False),
        ("candidate", "City: ", " Rome", False),
        ("mask", "born in <mask> .", "Rome", True),
        ("mask", "<mask>に生まれた", "ローマ 市", True),
        ("mask", "born in <mask> .", " Rome", False),
        ("mask", "born in", "Rome", False),
        ("written", "city: ", "  Rome", True),
    ],
)
def test_a_source_keeps_to_the_spaces_it_states(spacing, prompt, candidate, kept):
    item = ParallelItem("x", "", {"en": prompt}, {"en": (candidate,)})
    if kept:
        check_spacing(item, spacing, "set")
    else:
        with pytest.raises(DataError, match="^set: .* in 'en' breaks its rule for spaces"):
            check_spacing(item, spacing, "set")


def test_words_that_run_together_are_found():
    prompts = {
        "en": "The capital is",
        "zh": "首都是",
        "ja": "首都は",
        "th": "เมืองหลวงคือ",
        "ko": "수도는",
        "fr": "Ville (",
        "ru": "в <mask>",
    }
    answers = {
        "en": "Rome",
        "zh": "罗马",
        "ja": "ローマ",
        "th": "โรม",
        "ko": "로마",
        "fr": "Rome",
        "ru": "Рим",
    }
    item = ParallelItem("x", "", prompts, {language: (text,) for language, text in answers.items()})
    found = run_together(item)
    assert len(found) == 2
    told = "in 'en' no space parts the prompt 'The capital is' from the candidate 'Rome'"
    assert found[0] == f"{told}: write ' Rome', if the language does"
    assert "'ko'" in found[1]


def test_picked_candidates_keep_their_order_in_every_language_and_take_the_gold_along():
    item = ParallelItem(
        "q", "g", {"en": "a", "fr": "b"}, {"en": (" x", " y", " z"), "fr": (" u", " v", " w")}, 2
    )
    picked = pick(item, (2, 0), languages=("fr",), suffix="#1")
    assert picked == ParallelItem("q#1", "g", {"fr": "b"}, {"fr": (" w", " u")}, 0)
    assert pick(item, (1, 0)).gold is None
    assert pick(replace(item, context={"en": "c"}), (0, 1), languages=("fr",)).context is None


def test_bare_prompts_are_valid_only_where_they_are_meant():
    item = ParallelItem("q", "", {"en": "a <mask> or <mask>", "fr": "b"}, {"en": (), "fr": ()})
    validate(item, "x", bare=True)
    with pytest.raises(DataError, match="language 'en' has no candidates"):
        validate(item, "x")
    with pytest.raises(DataError, match="x: item 'q' is a bare prompt"):
        require_answers([GOOD, item], "x")
    with pytest.raises(DataError, match="gold is 0, with 0 candidates"):
        validate(replace(item, gold=0), "x", bare=True)
    with pytest.raises(DataError, match="'fr' has 1 candidates, 'en' has 0"):
        validate(replace(item, candidates={"en": (), "fr": (" x",)}), "x", bare=True)


def test_either_rule_for_spaces_depends_on_the_prompt():
    cloze = ParallelItem("q", "", {"en": "a <mask>"}, {"en": ("x", "y")})
    after = ParallelItem("q", "", {"en": "a"}, {"en": (" x", " y")})
    for item in (cloze, after):
        check_spacing(item, "either", "x")
    for item in (
        replace(cloze, candidates=after.candidates),
        replace(after, candidates=cloze.candidates),
        replace(after, prompts={"en": "a "}),
    ):
        with pytest.raises(DataError, match="breaks its rule for spaces"):
            check_spacing(item, "either", "x")


@pytest.mark.parametrize(
    ("prompt", "candidates", "answers"),  # answer -> what it puts into the gap
    [
        (
            "Goya lived in <mask> , Spain .",
            ("Madrid", "Toledo"),
            {
                " Madrid , Spain . He painted": "Madrid",
                " Madrid, spain": "Madrid",  # other spaces and case, and no full stop
                " Madrid ,": "Madrid",  # it ends early
                " Madrid": "Madrid",
                " Madrid , France .": "Madrid , France .",  # another sentence
                " Seville , Spain . He": "Seville",  # no candidate
                " , Spain .": "",
            },
        ),
        (
            "It was made by <mask>.",
            ("Amazon.com", "Apple Inc."),
            {" Amazon.com. It": "Amazon.com", " Apple Inc.": "Apple Inc.", " Sony. It": "Sony"},
        ),
        (
            "Rumi taught the <mask> religion.",
            ("Islam", "Islamic Sufi"),
            {
                " Islamic Sufi religion.": "Islamic Sufi",
                " Islam religion of": "Islam",
                " Jain religions": "Jain religions",  # another word
                " Irreligion": "Irreligion",
            },
        ),
        (
            "フランスの首都は<mask>です。",
            ("日本", "日本語"),
            {"日本語です。次の": "日本語", "日本で": "日本", "パリです": "パリ", "パリ。": "パリ。"},
        ),
        ("これは <mask> です", ("東京", "大阪"), {"東京です。": "東京", "京都です。": "京都", "です": ""}),
        ("李白在<mask>中。", ("中国", "日本"), {"中国中。": "中国", "中华中。他": "中华", "日本": "日本"}),
        (
            "Atatürk <mask> 'nın başkentidir.",
            ("Ankara", "İzmir"),
            {
                " Ankara'nın başkentidir. O": "Ankara",
                " İzmir 'nın": "İzmir",
                " Bursa 'nın Başkentidir": "Bursa",
                " Bursa'da": "Bursa'da",
            },
        ),
        (
            "부산과 <mask>는 쌍둥이 도시입니다.",
            ("서울", "대구"),
            {"서울는 쌍둥이": "서울", "광주는 쌍둥이 도시입니다. ": "광주"},
        ),
        ("پایتخت <mask> است.", ("تهران", "ایران"), {" تهران است. و": "تهران", " شیراز است": "شیراز"}),
        ("The capital is <mask>", ("Rome", "Bonn"), {" Rome. It": "Rome. It"}),
        ("Where?", (" Here", " There"), {" Here . ": " Here . "}),
    ],
)
def test_an_answer_fills_the_gap_and_goes_on_with_the_sentence(prompt, candidates, answers):
    item = ParallelItem("q", "", {"x": prompt}, {"x": candidates})
    assert {answer: answer_in_gap(item, "x", answer) for answer in answers} == answers


def test_every_candidate_of_bmlama_is_read_from_its_gap(data_folder: Path):
    for item in load_items("bmlama17", path=data_folder / "bmlama17")[::20]:
        for language, prompt in item.prompts.items():
            rest = prompt.partition(MASK)[2]
            for candidate in item.candidates[language]:
                for answer in (f" {candidate}", candidate + rest, f"{candidate}{rest} {prompt}"):
                    assert answer_in_gap(item, language, answer) == candidate


def test_further_right_answers_need_a_first_one():
    item = ParallelItem("q", "", {"en": "Q"}, {"en": ("a", "b")}, also=(1,))
    with pytest.raises(DataError, match=r"here: gold is null, and further right ones are \(1,\)"):
        validate(item, "here")


def test_items_say_how_many_they_are_and_show_the_first():
    items = Items([GOOD], skipped=["x:1: bad"])
    told = repr(items)
    assert told.startswith(f"Items(1 items in {len(GOOD.languages)} languages (")
    assert "1 skipped; the first, " in told
    assert len(told) < 400
    assert repr(Items()) == "Items(0 items in 0 languages ())"
    page = Items([replace(GOOD, prompts={name: "<script>" for name in GOOD.prompts})])._repr_html_()
    assert "<script>" not in page
    assert page.count("<b>") == len(GOOD.languages)
