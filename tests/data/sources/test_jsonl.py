"""The JSONL reader: what it reads, and one clear error for each kind of bad line."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from consistency_jax.data.facts import with_one_right
from consistency_jax.data.items import DataError, Items, ParallelItem, pick, right_answers
from consistency_jax.data.sources import load_items
from consistency_jax.errors import UserError

RECORD = {
    "id": "Q1",
    "group": "geography",
    "gold": 0,
    "prompts": {"en": "The capital of France is", "fr": "La capitale de la France est"},
    "candidates": {"en": [" Paris", " Rome"], "fr": [" Paris", " Rome"]},
}


def write(folder: Path, *records: object, name: str = "set.jsonl") -> Path:
    file = folder / name
    lines = (record if isinstance(record, str) else json.dumps(record) for record in records)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def test_reads_the_documented_format(tmp_path: Path):
    other = {**RECORD, "id": "Q2", "gold": None, "prompts": {"en": "x <mask>", "de": "y <mask>"}}
    other["candidates"] = {"en": ["a", "b", "c"], "de": ["d", "e", "f"]}
    other["context"] = {"de": "z"}
    file = write(tmp_path, RECORD, "", other)
    items = load_items("jsonl", path=file)
    assert [item.id for item in items] == ["Q1", "Q2"]
    assert items[0].candidates["fr"] == (" Paris", " Rome")
    assert (items[0].gold, items[1].gold) == (0, None)
    assert items[1].context == {"de": "z"}
    assert items.languages == ("en", "fr", "de")
    assert not items.skipped
    told = "2 of 2 items are not asked in all languages; lacking in fr 1, de 1."
    assert items.warnings == [f"jsonl: {told}"]
    kept = load_items("jsonl", path=file, languages=["fr", "en"])
    assert kept[0].languages == ("fr", "en")
    assert kept[1].languages == ("en",)
    assert kept[1].context is None
    only = load_items("jsonl", path=file, languages=["de"])
    assert [item.id for item in only] == ["Q2"]
    assert "Q1" in only.warnings[0]


def changed(**change: object) -> dict:
    return {**RECORD, "id": "bad", **change}


BAD = [
    ('{"id": "x", ', "the line is not JSON"),
    ("[1]", "not a JSON object"),
    ({k: v for k, v in RECORD.items() if k != "prompts"}, "key 'prompts' is missing"),
    (changed(id=None), "id is None"),
    (changed(id=1.5), "id is 1.5. Give a name that is unique"),
    (changed(id="Q1"), "id 'Q1' was already used at .*set.jsonl:1"),
    (changed(gold="0"), "gold is '0'"),
    (changed(gold=True), "gold is True"),
    (changed(gold=[]), r"gold is \[\]. Give an index, a list"),
    (changed(gold=[0, "1"]), "gold is .0, '1'."),
    (changed(gold=[0, 0]), "gold names candidate 0 twice"),
    (changed(gold=[1, 2]), "gold is 1, 2, with 2 candidates"),
    (changed(gold=5), "gold is 5, with 2 candidates"),
    (changed(prompts=["x"]), "prompts is not a map"),
    (changed(prompts={"en": "x", "fr": 3}), "prompts is not a map"),
    (changed(prompts={"en": "", "fr": "x"}), "prompt in 'en' is empty"),
    (changed(candidates={"en": "Paris", "fr": "Rome"}), "candidates is not a map"),
    (changed(candidates={"en": [" a", 1], "fr": [" a", " b"]}), "a candidate in 'en' is not a string"),
    (changed(candidates={"en": [" a"], "fr": [" a", " b"]}), "'fr' has 2 candidates, 'en' has 1"),
    (changed(candidates={"en": [" a", " b"], "de": [" a", " b"]}), "same languages .*de, fr"),
    (changed(candidates={"en": [" a", " a"], "fr": [" a", " b"]}), "more than once"),
    (changed(context="x"), "context is not a map"),
    (
        changed(targets={"en": ["Paris"]}),
        r"targets in 'en' are \['Paris'\]. Give texts that are right, .*no candidates",
    ),
    (changed(targets={"en": "Paris"}), "targets is not a map from language to a list"),
    (changed(targets={"en": [1]}), "a target in 'en' is not a string"),
    ({"id": "x", "prompts": {"en": "Where?"}, "targets": {"en": [" "]}}, "targets in 'en' are"),
    ({"id": "x", "prompts": {"en": "Where?"}, "targets": {"sw": ["Misri"]}}, "targets in 'sw' are"),
    (
        {"id": "x", "prompts": {"en": "Where?"}, "targets": {"en": ["\ud800"]}},
        "target 0 in 'en' holds a lone",
    ),
    (changed(chosen=" a", rejected=" b"), "preference pair"),
    (changed(golds=1), "unknown key 'golds'. Known: id, group, gold, prompts, candidates, context"),
    (json.dumps(changed())[:-1] + ', "gold": 1}', "the key 'gold' stands twice in one object"),
    (json.dumps(changed()).replace('"fr"', '"en"'), "the key 'en' stands twice in one object"),
    (changed(prompts={"en": "a \ud800 b", "fr": "x"}), r"prompt in 'en' holds a lone surrogate, '\\ud800'"),
    (changed(candidates={"en": [" a", " b"], "fr": [" a", "\udc00"]}), "candidate 1 in 'fr' holds a lone"),
    (changed(context={"en": "\ud83d"}), "context in 'en' holds a lone"),
    (changed(id="\ud800"), r"the id holds a lone surrogate, '\\ud800'"),
    (changed(group="\ud800"), "the group holds a lone"),
    (changed(prompts={"\ud800": "x"}, candidates={"\ud800": [" a"]}), "name of language .* holds a lone"),
    ('{"id": ' + "[" * 100_000 + "]" * 100_000 + "}", "the line is nested too deeply"),
    ('{"id": ' + "1" * 5000 + "}", "the line cannot be read .*digits"),
]


@pytest.mark.parametrize(("record", "reason"), BAD)
def test_a_bad_line_is_named_or_skipped(tmp_path: Path, record: object, reason: str):
    file = write(tmp_path, RECORD, record, {**RECORD, "id": "Q3"})
    with pytest.raises(DataError, match=f"set.jsonl:2: .*{reason}"):
        load_items("jsonl", path=file)
    items = load_items("jsonl", path=file, on_error="skip")
    assert [item.id for item in items] == ["Q1", "Q3"]
    assert len(items.skipped) == 1
    assert "set.jsonl:2" in items.skipped[0]


def test_one_candidate_is_told(tmp_path: Path):
    items = load_items(
        "jsonl", path=write(tmp_path, RECORD, changed(candidates={"en": [" a"], "fr": [" b"]}))
    )
    assert len(items) == 2
    (told,) = items.warnings
    assert told.endswith("set.jsonl:2: it has one candidate, which is always right and has no rank")


def test_a_question_that_is_answered_in_words_has_targets(tmp_path: Path):
    asked = {"id": "x", "prompts": {"en": "Where?", "sw": "Wapi?"}, "targets": {"en": ["Egypt", "Kemet"]}}
    (item,) = load_items("jsonl", path=write(tmp_path, asked))
    assert item.targets == {"en": ("Egypt", "Kemet")}
    assert item.candidates == {"en": (), "sw": ()}


def test_every_row_of_a_folder_of_splits(tmp_path: Path):
    for name in ("train", "test"):
        write(tmp_path, RECORD | {"id": name}, name=f"{name}.jsonl")
    assert [item.id for item in load_items("jsonl", path=tmp_path, split="every")] == ["test", "train"]


def test_a_number_may_be_an_id(tmp_path: Path):
    assert load_items("jsonl", path=write(tmp_path, changed(id=7)))[0].id == "7"
    with pytest.raises(DataError, match="id '7' was already used at .*set.jsonl:1"):
        load_items("jsonl", path=write(tmp_path, changed(id=7), changed(id="7")))


def test_gold_may_be_a_list(tmp_path: Path):
    three = {"en": [" a", " b", " c"], "fr": [" d", " e", " f"]}
    file = write(tmp_path, changed(gold=[2, 0], candidates=three), RECORD)
    several, one = load_items("jsonl", path=file)
    assert (several.gold, several.also, several.right) == (2, (0,), (2, 0))
    assert (one.gold, one.also, one.right) == (0, (), (0,))
    np.testing.assert_array_equal(
        right_answers([several, one], 3), [[True, False, True], [True, False, False]]
    )
    np.testing.assert_array_equal(right_answers([one], 3), [0])
    # What is right follows its candidates.
    assert pick(several, [1, 0, 2]).right == (2, 1)
    assert pick(several, [1, 0]).right == (1,)
    assert pick(several, [1]).right == ()
    alone = with_one_right(Items([several, one]))
    assert alone[0].candidates == {"en": (" b", " c"), "fr": (" e", " f")}
    assert (alone[0].right, alone[1]) == ((1,), one)
    # A twin of the right text, in one language alone, is no wrong answer in any.
    twin = ParallelItem(
        "t", "", {"en": "Q", "fr": "Q"}, {"en": ("a", "b", "c"), "fr": ("d", "e", "d")}, gold=0
    )
    assert twin.wrong == (1,)
    assert with_one_right(Items([twin]))[0].candidates == {"en": ("a", "b"), "fr": ("d", "e")}
    assert dataclasses.replace(twin, gold=None).wrong == (0, 1, 2)
    # Published draws of wrong candidates draw neither.
    lines = [
        changed(id=f"Q{n}", gold=[2, 0], candidates={"en": [*"abcd"], "fr": [*"abcd"]}) for n in range(8)
    ]
    file = write(tmp_path, *lines)
    plan = {"languages": ["en", "fr"], "train_size": 4, "instances": 8, "wrong_only": True}
    drawn = load_items("jsonl", path=file, split="train", **plan)
    assert {text for item in drawn for text in item.candidates["en"]} == {"b", "d"}


def test_bytes_that_are_not_utf8_are_named(tmp_path: Path):
    file = tmp_path / "set.jsonl"
    file.write_bytes(json.dumps(RECORD).encode() + b'\n{"id": "\xff"}\n')
    with pytest.raises(DataError, match="set.jsonl:2: the line is not UTF-8"):
        load_items("jsonl", path=file)


def test_byte_order_marks_and_blank_lines_are_no_lines(tmp_path: Path):
    file = tmp_path / "set.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(RECORD).encode() + b"\n\xef\xbb\xbf\n \r\n\xef\xbb\xbf")
    assert [item.id for item in load_items("jsonl", path=file)] == ["Q1"]


def test_pairs_of_surrogates_are_characters(tmp_path: Path):
    record = {**RECORD, "prompts": {"en": "\U0001f600 is", "fr": "x"}}
    (item,) = load_items("jsonl", path=write(tmp_path, json.dumps(record)))  # escaped as \\ud83d\\ude00
    assert item.prompts["en"] == "\U0001f600 is"


def only(language: str, number: int) -> dict:
    texts = {"prompts": {language: "x"}, "candidates": {language: [" a", " b"]}}
    return {**RECORD, "id": f"Q{number}", **texts}


def test_a_language_may_be_in_one_split_alone(tmp_path: Path):
    splits = {"split": "train"}, {"split": "test"}
    file = write(tmp_path, *(only("en", n) for n in range(10)))
    drawn = {item.id for item in load_items("jsonl", path=file, split="train")}
    ragged = [only("sw" if f"Q{n}" in drawn and n % 2 else "en", n) for n in range(10)]
    file = write(tmp_path, *ragged)
    train, test = (load_items("jsonl", path=file, languages=["en", "sw"], **split) for split in splits)
    assert set(train.languages) == {"en", "sw"}
    assert set(test.languages) == {"en"}
    folder = tmp_path / "splits"
    folder.mkdir()
    write(folder, only("en", 0), "{", name="train.jsonl")
    write(folder, only("en", 1), only("sw", 2), name="test.jsonl")
    train = load_items("jsonl", path=folder, split="train", languages=["sw", "en"], on_error="skip")
    assert [item.id for item in train] == ["Q0"]
    for path, split in ((file, "test"), (folder, "test"), (folder, "train")):
        with pytest.raises(DataError, match="unknown language 'fr'. Known: en, sw"):
            load_items("jsonl", path=path, split=split, languages=["fr"], on_error="skip")


def test_a_file_splits_by_seed_and_a_folder_by_name(tmp_path: Path):
    records = [{**RECORD, "id": f"Q{i}"} for i in range(10)]
    file = write(tmp_path, *records)
    train = load_items("jsonl", path=file, split="train", train_size=0.7, seed=3)
    test = load_items("jsonl", path=file, split="test", train_size=0.7, seed=3)
    assert len(train) == 7
    assert {item.id for item in train} | {item.id for item in test} == {f"Q{i}" for i in range(10)}
    assert [item.id for item in test] == sorted(item.id for item in test)
    folder = tmp_path / "splits"
    folder.mkdir()
    write(folder, RECORD, name="train.jsonl")
    assert len(load_items("jsonl", path=folder, split="train")) == 1
    with pytest.raises(DataError, match="no file for split 'test' .* Known: train"):
        load_items("jsonl", path=folder, split="test")
    with pytest.raises(DataError, match="train_size divides rows into splits, and these files are splits"):
        load_items("jsonl", path=folder, split="train", train_size=0.5)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ({"name": "nowhere"}, "unknown data set 'nowhere'. Known: .*cldr, bmlama17, .*, jsonl"),
        ({"languages": ["en", "xx"]}, "unknown language 'xx'. Known: en, fr"),
        ({"languages": ["en", "en"]}, "Name each language once"),
        ({"languages": []}, "Name each language once"),
        ({"split": "dev"}, "unknown split 'dev'. Known: train, validation, test"),
        ({"split": "train", "train_size": 1}, "a set of 1 row cannot be split"),
        ({"on_error": "ignore"}, "unknown value .ignore.. Known: raise, skip"),
        ({"colour": 1}, "unknown option 'colour'. Known: train_size, seed"),
        ({"train_size": math.nan}, "train_size=nan is no number of rows, or share of them. Its default: 0.8"),
        ({"train_size": True}, "train_size=True is no number"),
        ({"validation_size": "x"}, "validation_size='x' is no number"),
        ({"seed": [1]}, r"seed=\[1\] is no whole number"),
        ({"instances": 2.5}, "instances=2.5 is no whole number"),
        ({"name": "xsafety", "kinds": 5}, "kinds=5 is neither a text nor a list of texts"),
        ({"bare": "x"}, "bare='x' is neither True nor False"),
        ({"path": "~nobody-here/x"}, "~nobody-here/x: .*; write the whole path"),
        ({"path": None}, "data.path: the source 'jsonl' needs a file or folder. Name a .jsonl"),
        ({"path": "nowhere.jsonl"}, "nowhere.jsonl: no such file or folder"),
    ],
)
def test_a_bad_call_lists_what_is_known(tmp_path: Path, call: dict, reason: str):
    with pytest.raises(UserError, match=reason):
        load_items(**{"name": "jsonl", "path": write(tmp_path, RECORD), **call})


def test_an_empty_file_is_an_error(tmp_path: Path):
    with pytest.raises(DataError, match="set.jsonl: the file has no rows"):
        load_items("jsonl", path=write(tmp_path, ""))


def test_spaces_are_the_files_own_and_their_want_is_a_warning(tmp_path: Path):
    bare = {**RECORD, "id": "Q2", "candidates": {"en": [" Paris", " Rome"], "fr": ["Paris", "Rome"]}}
    file = write(tmp_path, RECORD, bare)
    items = load_items("jsonl", path=file)
    assert items[1].candidates["fr"] == ("Paris", "Rome")
    assert len(items.warnings) == 1
    assert "set.jsonl:2: in 'fr' no space parts the prompt" in items.warnings[0]
    assert not load_items("jsonl", path=file, languages=["en"]).warnings


def test_rows_that_are_skipped_are_those_of_the_split(tmp_path: Path):
    lines = [{**RECORD, "id": f"Q{n}"} for n in range(9)]
    file = write(tmp_path, *lines[:4], "{", *lines[4:])
    parts = [load_items("jsonl", path=file, split=s, on_error="skip") for s in ("train", "test")]
    assert sorted(len(part.skipped) for part in parts) == [0, 1]
    assert sum(map(len, parts)) == 9


def test_instances_need_every_language_and_one_file(tmp_path: Path):
    file = write(tmp_path, RECORD, *(only("en", n) for n in range(2, 9)))
    options = {"split": "train", "train_size": 5, "instances": 5}
    with pytest.raises(DataError, match=r"set.jsonl:\d: the item lacks some of the languages"):
        load_items("jsonl", path=file, languages=["en", "fr"], **options)
    with pytest.raises(
        DataError, match="data.languages: instances=5 are drawn by the order of the languages"
    ):
        load_items("jsonl", path=file, **options)
    folder = tmp_path / "splits"
    folder.mkdir()
    write(folder, RECORD, name="train.jsonl")
    with pytest.raises(DataError, match="splits: .*these files are splits of their own"):
        load_items("jsonl", path=folder, languages=["en", "fr"], **options)


def test_bare_prompts_are_read_where_they_are_asked_for(tmp_path: Path):
    file = write(tmp_path, {"id": "a", "prompts": {"en": "x", "de": "y"}})
    item = load_items("jsonl", path=file, bare=True)[0]
    assert item.candidates == {"en": (), "de": ()}
    with pytest.raises(DataError, match="the key 'candidates' is missing"):
        load_items("jsonl", path=file)


def test_one_rule_for_doubled_candidates(tmp_path: Path):
    twice = RECORD | {"id": "Q2", "candidates": {"en": [" Paris", " Paris"], "fr": [" Paris", " Rome"]}}
    file = write(tmp_path, RECORD, twice)
    with pytest.raises(DataError, match="set.jsonl:2: .*more than once. Make .*data.options.doubled=keep"):
        load_items("jsonl", path=file)
    items = load_items("jsonl", path=file, on_error="skip")
    assert [item.id for item in items] == ["Q1"]
    assert len(items.skipped) == 1
    items = load_items("jsonl", path=file, doubled="keep")
    assert [item.id for item in items] == ["Q1", "Q2"]
    assert items.warnings == [f"{file}:2: language 'en' holds the candidate ' Paris' more than once"]


def test_numbers_of_numpy_are_numbers(tmp_path: Path):
    file = write(tmp_path, *({**RECORD, "id": f"Q{n}"} for n in range(10)))
    options = {"train_size": np.float32(0.5), "seed": np.int64(3)}
    assert len(load_items("jsonl", path=file, split="train", **options)) == 5
