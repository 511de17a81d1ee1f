"""The seeded splits: as published, and with rows kept for validation; the published training instances."""

import json
import random

import pytest
import source_files

from consistency_jax.data.items import DataError
from consistency_jax.data.sources import load_items
from consistency_jax.data.sources.bmlama17 import LANGUAGES
from consistency_jax.data.sources.splits import Plan, split_rows


def test_train_and_test_are_as_published():
    random.seed(3)
    train = random.sample(list(range(50)), 30)
    assert split_rows(50, Plan("train", 30, 3), "x") == train
    assert split_rows(50, Plan("test", 0.6, 3), "x") == sorted(set(range(50)) - set(train))
    assert split_rows(50, Plan(None, 30, 3), "x") == list(range(50))
    assert split_rows(50, Plan("test", 0, 3), "x") == list(range(50))  # a set that is not trained on


def test_validation_is_taken_from_train_and_moves_no_test_row():
    whole, test = (split_rows(50, Plan(split, 30, 3), "x") for split in ("train", "test"))
    train, validation = (split_rows(50, Plan(s, 30, 3, 0.1), "x") for s in ("train", "validation"))
    assert train + validation == whole
    assert len(validation) == 5
    assert split_rows(50, Plan("test", 30, 3, 5), "x") == test


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        (Plan("dev", 30), "unknown split 'dev'"),
        (Plan("train", 50), "Choose from 1 to 49"),
        (Plan("train", 0), "Choose from 1 to 49"),
        (Plan("train", 30, 0, 30), "Choose from 0 to 29"),
        (Plan("validation", 30), "data.options.validation_size"),
    ],
)
def test_splits_that_cannot_be_are_told(plan, reason):
    with pytest.raises(DataError, match=reason):
        split_rows(50, plan, "x")


def published(seed: int, answers: list[int], languages: list[str], size: int, count: int) -> list[tuple]:
    """The published draws, told anew: (row, languages, chosen, rejected) of each instance."""
    random.seed(seed)
    instances = []
    train = random.sample(list(range(len(answers))), size)
    for _ in range(count // size):
        for row in train:
            if len(languages) == 2:
                one, two = languages
            else:
                one, two = random.sample(languages, 2)
            if answers[row] < 2:
                continue
            chosen, rejected = random.sample(list(range(answers[row])), 2)
            instances.append((row, (one, two), chosen, rejected))
    return instances


@pytest.mark.parametrize("languages", [["en", "ar"], ["de", "en", "ar"]], ids=["pair", "all"])
@pytest.mark.parametrize("seed", [0, 3])
def test_instances_are_the_published_draws(tmp_path, seed, languages):
    folder = source_files.mmmlu(tmp_path)
    options = {"languages": languages, "answers": "full", "seed": seed, "train_size": 5}
    whole = load_items("mmmlu", path=folder, **options)
    items = load_items("mmmlu", path=folder, split="train", instances=15, **options)
    expected = published(seed, [4] * 8, languages, 5, 15)
    assert len(items) == len({item.id for item in items}) == 15
    for item, (row, pair, *pick) in zip(items, expected, strict=True):
        assert item.languages == pair
        assert item.id.startswith(f"mmmlu-{row:05d}#")
        for language in pair:
            assert item.candidates[language] == tuple(whole[row].candidates[language][k] for k in pick)
            assert item.prompts[language] == whole[row].prompts[language]
        assert item.gold == (pick.index(whole[row].gold) if whole[row].gold in pick else None)
    test = load_items("mmmlu", path=folder, split="test", instances=15, **options)
    assert {item.id for item in test} == {item.id for item in whole} - {i.id[:11] for i in items}
    assert test[0].num_candidates == 4


def test_false_examples_leave_the_gold_out(tmp_path):
    rows = [["Prompt", "Ans", "Candidate Ans", "Subject"]]
    rows += [[f"{n} <mask>.", "gold", ", ".join([*"abcd"[: n % 4 + 1], "gold"]), "s"] for n in range(8)]
    for language in ("en", "fr"):
        source_files.write(tmp_path / f"{language}.tsv", source_files.as_csv(rows, "\t"))
    options = {"languages": ["en", "fr"], "split": "train", "train_size": 6, "seed": 1}
    items = load_items("bmlama17", path=tmp_path, instances=12, wrong_only=True, **options)
    expected = published(1, [n % 4 + 1 for n in range(8)], ["en", "fr"], 6, 12)
    assert [item.candidates["fr"] for item in items] == [("abcd"[c], "abcd"[r]) for _, _, c, r in expected]
    assert {item.gold for item in items} == {None}
    with pytest.raises(DataError, match="wrong_only is a way to draw instances"):
        load_items("bmlama17", path=tmp_path, wrong_only=True, **options)


def test_tests_of_instances_tell_of_gaps_as_all_do(tmp_path):
    questions = [
        {
            "id": f"q{n}",
            "prompts": {"en": f"{n}?", "sw": f"{n}!"},
            "candidates": {"en": ["a", "b"], "sw": ["c", "d"]},
        }
        for n in range(8)
    ]
    questions[5] = {"id": "q5", "prompts": {"en": "5?"}, "candidates": {"en": ["a", "b"]}}
    path = tmp_path / "q.jsonl"
    path.write_text("".join(json.dumps(question) + "\n" for question in questions))
    options = {"path": path, "train_size": 4, "split": "test", "languages": ["en", "sw"]}
    seeds = [seed for seed in range(9) if "q5" in [i.id for i in load_items("jsonl", seed=seed, **options)]]
    told = load_items("jsonl", seed=seeds[0], **options).warnings
    assert any("1 of 4 items are not asked in all languages" in each for each in told)
    assert load_items("jsonl", seed=seeds[0], instances=8, **options).warnings == told


@pytest.mark.parametrize(
    "change", [{"instances": 7}, {"languages": ["en"]}, {"validation_size": 1}], ids=lambda c: next(iter(c))
)
def test_instances_that_cannot_be_drawn_are_told(tmp_path, change):
    options = {"languages": ["en", "ar"], "train_size": 5, "instances": 10} | change
    with pytest.raises(DataError, match="cannot be drawn as published. Take a multiple of the rows"):
        load_items("mmmlu", path=source_files.mmmlu(tmp_path), split="train", **options)


def test_units_stay_on_one_side():
    units = [n // 3 for n in range(60)]
    parts = {s: split_rows(60, Plan(s, 40, 5, 10), "x", units=units) for s in ("train", "validation", "test")}
    assert sorted(sum(parts.values(), [])) == list(range(60))
    sides = [{units[i] for i in rows} for rows in parts.values()]
    assert sum(map(len, sides)) == 20
    assert len(parts["test"]) in range(18, 21)
    assert parts["train"] != sorted(parts["train"])


@pytest.mark.parametrize(("seed", "languages"), [(0, ["en", "he"]), (2, list(LANGUAGES[:5]))])
def test_instances_of_the_real_set(data_folder, seed, languages):
    # BMLAMA-17: 5,000 instances of 5,000 rows with 2 to 10 candidates; what is drawn depends on each row's number
    options = {"path": data_folder / "bmlama17", "languages": languages, "seed": seed}
    whole = load_items("bmlama17", shuffle=False, **options)
    items = load_items("bmlama17", split="train", instances=5000, **options)
    expected = published(seed, [item.num_candidates for item in whole], languages, 5000, 5000)
    for item, (row, pair, *pick) in zip(items, expected, strict=True):
        assert item.id == f"{whole[row].id}#0"
        assert item.candidates == {
            language: tuple(whole[row].candidates[language][k] for k in pick) for language in pair
        }


def test_wrong_candidates_are_told_by_what_they_say(tmp_path):
    """A row whose other candidates but one repeat the gold gives no instance, and later draws stay in step."""
    lists = [["1", "2", "3"], ["3", "4", "4"], ["5", "6", "5", "7"], ["8", "9", "10"], ["a", "b", "c"]]
    answers = ["3", "4", "5", "8", "b"]
    rows = [
        ["Prompt", "Ans", "Candidate Ans"],
        *([f"Q{n}:", answers[n], repr(own)] for n, own in enumerate(lists)),
    ]
    for language in ("en", "de", "fr"):
        source_files.write(tmp_path / f"{language}.tsv", source_files.as_csv(rows, "\t"))

    random.seed(5)
    expected, languages = [], ["en", "de", "fr"]
    train = random.sample(list(range(5)), 4)
    for _ in range(3):
        for row in train:
            one, two = random.sample(languages, 2)
            wrong = [text for text in lists[row] if text != answers[row]]
            if len(wrong) < 2:
                continue
            first, second = random.sample(list(range(len(wrong))), 2)
            expected.append((f"Q{row}:", (one, two), (wrong[first], wrong[second])))

    items = load_items(
        "hub",
        path=tmp_path,
        languages=languages,
        split="train",
        train_size=4,
        seed=5,
        instances=12,
        wrong_only=True,
        shuffle=False,
    )
    found = [
        (
            item.prompts[item.languages[0]],
            item.languages,
            tuple(t.strip() for t in item.candidates[item.languages[0]]),
        )
        for item in items
    ]
    assert found == expected
    assert len(found) < 12
