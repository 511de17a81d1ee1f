"""Tables of any columns: the forms of public benchmarks, and of a spreadsheet."""

import json
from collections import Counter
from pathlib import Path

import pytest
import source_files
from source_files import as_csv, as_jsonl, write

from consistency_jax.config.recipes import set_source
from consistency_jax.data.items import DataError, Items
from consistency_jax.data.sources import load_items

ROWS = 6
OPTIONS = "option_a+option_b+option_c+option_d"


def rows(language: str, count: int = ROWS) -> list[dict[str, object]]:
    """The columns of Global-MMLU."""
    told = []
    for number in range(count):
        text, options, gold = source_files.question(language, number)
        named = dict(zip(OPTIONS.split("+"), options, strict=True))
        told.append(
            {"sample_id": f"law/{number}", "subject": "law", "question": text, "answer": "ABCD"[gold]} | named
        )
    return told


def check(items: Items, languages: tuple[str, ...], space: bool = True) -> None:
    """The texts and right answers of `source_files.question`."""
    assert items.languages == languages
    assert len(items) == ROWS
    for number, item in enumerate(items):
        for language in languages:
            text, options, gold = source_files.question(language[:2], number)
            gap = " " if space and language not in ("zh", "ja") else ""
            assert item.prompts[language] == text
            assert item.candidates[language] == tuple(gap + option for option in options)
            assert item.gold == gold


def test_files_of_a_language_each_in_every_form(tmp_path: Path):
    columns = {"prompt": "question", "candidates": OPTIONS, "gold": "answer", "id": "sample_id"}
    for language in ("en", "zh"):
        own = rows(language)
        write(tmp_path / "jsonl" / f"global_{language}.jsonl", as_jsonl(own))
        table = [list(own[0]), *(list(row.values()) for row in own)]
        write(tmp_path / "csv" / language / "test.csv", as_csv(table))
        write(tmp_path / "csv" / language / "dev.csv", as_csv(table[:2]))
        write(tmp_path / "tsv" / f"{language}.tsv", as_csv(table, "\t"))
    for form in ("jsonl", "csv", "tsv"):
        items = load_items("mapped", path=tmp_path / form, **columns)
        check(items, ("en", "zh"))
        assert [item.id for item in items] == [f"law/{number}" for number in range(ROWS)]
    items = load_items("mapped", path=tmp_path / "csv", **columns, part="dev", group="subject")
    assert [item.group for item in items] == ["law"]
    only = load_items("mapped", path=tmp_path / "tsv" / "{language}.tsv", languages=["zh"], **columns)
    assert only.languages == ("zh",)


def test_parquet_in_parts_with_lists(tmp_path: Path):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    for language in ("en", "de"):
        told = []
        for number in range(ROWS):
            text, options, gold = source_files.question(language, number)
            told.append({"q": text, "choices": {"text": options, "label": list("ABCD")}, "label": gold})
        for part, own in enumerate((told[:4], told[4:])):
            file = tmp_path / language / f"test-{part:05d}-of-00002.parquet"
            file.parent.mkdir(exist_ok=True)
            parquet.write_table(pyarrow.Table.from_pylist(own), file)
    options = {"prompt": "q", "candidates": "choices.text", "gold": "label"}
    check(load_items("mapped", path=tmp_path, **options), ("de", "en"))
    with pytest.raises(DataError, match="no column 'choices.words'; the row has q, choices, label"):
        load_items("mapped", path=tmp_path, **options | {"candidates": "choices.words"})


def test_the_columns_of_belebele(tmp_path: Path):
    for language in ("eng_Latn", "deu_Latn"):
        told = []
        for number in range(ROWS):
            text, options, gold = source_files.question(language[:2], number)
            answers = {f"mc_answer{k + 1}": option for k, option in enumerate(options)}
            row = {"link": "web", "question_number": number, "flores_passage": "Text.", "question": text}
            told.append(row | answers | {"correct_answer_num": str(gold + 1)})
        write(tmp_path / "data" / f"{language}.jsonl", as_jsonl(told))
    options = {
        "prompt": "{flores_passage}\\n{question}",
        "candidates": "mc_answer1+mc_answer2+mc_answer3+mc_answer4",
        "gold": "correct_answer_num",
        "id": "link+question_number",
    }
    items = load_items("mapped", path=tmp_path, languages=["eng_Latn", "deu_Latn"], **options)
    assert items[1].prompts == {"eng_Latn": "Text.\nWhich, 1?", "deu_Latn": "Text.\nWelche, 1?"}
    assert [item.gold for item in items] == [number % 4 for number in range(ROWS)]
    assert items[0].id == "web-0"
    items = load_items("mapped", path=tmp_path, answers="letters", **options)
    assert items.languages == ("deu_Latn", "eng_Latn")
    assert items[0].candidates["eng_Latn"] == (" A", " B", " C", " D")
    assert items[0].prompts["deu_Latn"].endswith("0?\nA. Apfel\nB. Birne\nC. Pflaume\nD. Feige\nAntwort:")
    assert items.warnings == []
    (tmp_path / "data" / "deu_Latn.jsonl").rename(tmp_path / "data" / "quy_Latn.jsonl")
    items = load_items("mapped", path=tmp_path, answers="letters", **options)
    assert items[0].prompts["quy_Latn"].endswith("D. Feige\nAnswer:")
    assert "the word 'Answer' is English in quy_Latn;" in items.warnings[0]


def test_a_column_tells_the_language(tmp_path: Path):
    told = [
        [*rows(language)[number].values(), language] for number in range(ROWS) for language in ("en", "ja")
    ]
    file = write(tmp_path / "all.csv", as_csv([[*rows("en")[0], "lang"], *told]))
    options = {"prompt": "question", "candidates": OPTIONS, "gold": "answer", "language": "lang"}
    check(load_items("mapped", path=file, **options), ("en", "ja"))
    check(load_items("mapped", path=file, languages=["ja"], id="sample_id", **options), ("ja",))
    with pytest.raises(DataError, match="unknown language 'fr'. Known: en, ja"):
        load_items("mapped", path=file, languages=["fr"], **options)
    bad = as_csv([[*rows("en")[0], "lang"], *told]) + "x,y\r\n"
    with pytest.raises(DataError, match="all.csv:14: the row has 2 columns"):
        load_items("mapped", path=write(file, bad), **options)
    items = load_items("mapped", path=file, id="sample_id", on_error="skip", **options)
    check(items, ("en", "ja"))
    assert len(items.skipped) == 1


def test_a_spreadsheet_has_columns_of_each_language(tmp_path: Path):
    head = [
        "question_en",
        "question_de",
        *(f"{k}_{language}" for language in ("en", "de") for k in "abcd"),
        "right",
    ]
    told = []
    for number in range(ROWS):
        (one, ours, gold), (two, theirs, _) = (source_files.question(k, number) for k in ("en", "de"))
        told.append([one, two, *ours, *theirs, ours[gold]])
    file = write(tmp_path / "sheet.csv", as_csv([head, *told]))
    candidates = "+".join(f"{k}_{{language}}" for k in "abcd")
    options = {"prompt": "question_{language}", "candidates": candidates}
    check_no_gold = load_items("mapped", path=file, **options)
    assert check_no_gold.languages == ("en", "de")
    assert check_no_gold[0].gold is None
    golds = [
        ["right_de"],
        *([theirs[gold]] for _, theirs, gold in (source_files.question("de", n) for n in range(ROWS))),
    ]
    both = [
        [*row[:-1], row[-1], gold[0]]
        for row, gold in zip([[*head[:-1], "right_en"], *told], golds, strict=True)
    ]
    check(
        load_items("mapped", path=write(file, as_csv(both)), gold="right_{language}", **options), ("en", "de")
    )
    check(load_items("mapped", path=file, languages=["de"], gold="right_{language}", **options), ("de",))
    with pytest.raises(
        DataError, match="no language has the columns ask_{language}, a_.*; there are question_en"
    ):
        load_items("mapped", path=file, **options | {"prompt": "ask_{language}"})


@pytest.mark.parametrize(
    ("golds", "expected"),
    [
        ("0123", [0, 1, 2, 3]),
        ("1234", [0, 1, 2, 3]),
        ("ABCD", [0, 1, 2, 3]),
        ("badc", [1, 0, 3, 2]),
        (["1.0", "0.0", "3.0", "1.0"], [1, 0, 3, 1]),
        (["apple", "fig", "pear", "plum"], [0, 3, 1, 2]),
        (["", "", "", ""], [None] * 4),
    ],
)
def test_how_the_right_answer_is_told(tmp_path: Path, golds: list[str], expected: list[int | None]):
    told = [row | {"answer": gold} for row, gold in zip(rows("en", 4), golds, strict=True)]
    write(tmp_path / "en.jsonl", as_jsonl(told))
    items = load_items("mapped", path=tmp_path, prompt="question", candidates=OPTIONS, gold="answer")
    assert [item.gold for item in items] == expected


def test_what_may_be_read_in_two_ways_is_asked(tmp_path: Path):
    options = {"path": tmp_path, "prompt": "question", "candidates": OPTIONS, "gold": "answer"}
    told = [row | {"answer": gold} for row, gold in zip(rows("en", 4), "1232", strict=True)]
    write(tmp_path / "en.jsonl", as_jsonl(told))
    with pytest.raises(DataError, match="'1' may be told counted from 0 or counted from 1. Say which"):
        load_items("mapped", **options)
    assert [item.gold for item in load_items("mapped", **options, numbered="0")] == [1, 2, 3, 2]
    assert [item.gold for item in load_items("mapped", **options, numbered="1")] == [0, 1, 2, 1]
    told[2]["answer"] = "9"
    write(tmp_path / "en.jsonl", as_jsonl(told))
    with pytest.raises(DataError, match="en.jsonl:3: the right answer is '9', of 4 candidates"):
        load_items("mapped", **options, numbered="0")
    assert len(load_items("mapped", **options, numbered="0", on_error="skip")) == 3


def test_a_column_that_is_no_language_and_a_language_that_comes_late(tmp_path: Path):
    options = {"prompt": "q_{language}", "candidates": "a_{language}+b_{language}"}
    late = [{"q_en": "One?", "a_en": "x", "b_en": "y", "q_id": 17, "q_type": "t"}]
    late += [{"q_en": "Two?", "a_en": "x", "b_en": "y", "q_sw": "Mbili?", "a_sw": "x", "b_sw": "y"}]
    file = write(tmp_path / "sheet.jsonl", as_jsonl(late))
    items = load_items("mapped", path=file, on_error="skip", **options)
    assert items.languages == ("en", "sw")
    assert len(items) == len(items.skipped) == 1
    with pytest.raises(DataError, match="sheet.jsonl:1: no language has the columns"):
        load_items("mapped", path=write(file, "5\n"), **options)


def test_languages_of_columns_are_those_given_or_those_that_look_like_one(tmp_path: Path):
    head = ["q_en", "q_sw", "q_id", "q_EN", "a", "b"]
    file = write(tmp_path / "x.csv", as_csv([head, ["One?", "Moja?", 17, "ONE?", "x", "y"]]))
    options = {"path": file, "prompt": "q_{language}", "candidates": "a+b"}
    assert load_items("mapped", **options).languages == ("en", "sw")  # id holds numbers
    assert load_items("mapped", languages=["EN", "sw"], **options)[0].prompts == {"EN": "ONE?", "sw": "Moja?"}
    within = {"prompt": "In {language}: {q_en}", "language": "q_sw"}
    assert load_items("mapped", **options | within)[0].prompts == {"Moja?": "In Moja?: One?"}
    nested = [{"q": {"en": "One?", "sw": "Moja?"}, "o": {"en": ["x", "y"], "sw": ["z", "w"]}}]
    file = write(tmp_path / "y.jsonl", as_jsonl(nested))
    items = load_items("mapped", path=file, prompt="q.{language}", candidates="o.{language}")
    assert items[0].candidates == {"en": (" x", " y"), "sw": (" z", " w")}
    only = write(tmp_path / "z.csv", as_csv([["q_first", "a", "b"], ["One?", "x", "y"]]))
    with pytest.raises(DataError, match="Say which of first are: languages=A"):
        load_items("mapped", **options | {"path": only})


@pytest.mark.parametrize("form", ["long", "wide", "each"])
def test_a_table_of_empty_rows_is_one_error(tmp_path: Path, form: str):
    head, name = (["q_en", "a", "b"], "x.csv") if form == "wide" else (["lang", "q", "a", "b"], "en.csv")
    file = write(tmp_path / name, as_csv([head, [""] * len(head)]))
    columns = {"prompt": "q_{language}" if form == "wide" else "q", "candidates": "a+b"}
    columns |= {"language": "lang"} if form == "long" else {}
    with pytest.raises(DataError, match="csv: every row is empty. Give the file with the questions"):
        load_items("mapped", path=file, **columns)


def test_an_empty_row_within_keeps_its_place_and_a_translation_may_leave_out_the_answer(tmp_path: Path):
    head = ["q", "a", "b", "g"]
    write(
        tmp_path / "en.csv",
        as_csv([head, *([f"E{n}", "x", "y", "A"] for n in (1, 2)), [" "] * 4, ["E4", "x", "y", "B"]]),
    )
    write(tmp_path / "sw.csv", as_csv([head, *([f"S{n}", "x", "y", ""] for n in (1, 2, 3, 4))]))
    columns = {"prompt": "q", "candidates": "a+b", "gold": "g"}
    items = load_items("mapped", path=tmp_path, on_error="skip", **columns)
    assert [(item.prompts["en"], item.prompts["sw"], item.gold) for item in items] == [
        ("E1", "S1", 0),
        ("E2", "S2", 0),
        ("E4", "S4", 1),
    ]
    with pytest.raises(DataError, match="en.csv:4"):
        load_items("mapped", path=tmp_path, **columns)


def test_rows_of_empty_cells_and_unlabelled_ones(tmp_path: Path):
    head = ["lang", "q", "a", "b", "g"]
    told = [["en", "One?", "None", "Some", ""], ["en", "Two?", "None", "Some", "Some"], ["", "", "", "", ""]]
    file = write(tmp_path / "x.csv", as_csv([head, *told]))
    columns = {"prompt": "q", "candidates": "a+b", "gold": "g", "language": "lang"}
    assert [item.gold for item in load_items("mapped", path=file, **columns)] == [None, 1]
    file = write(tmp_path / "x.csv", as_csv([head, *told[:2], ["", "Three?", "x", "y", ""]]))
    with pytest.raises(DataError, match="x.csv:4: lang is empty"):
        load_items("mapped", path=file, **columns)


def test_how_it_is_told_may_be_said_on_the_command_line(tmp_path: Path):
    from consistency_jax.config import get_config

    told = [row | {"answer": gold} for row, gold in zip(rows("en", 4), "1232", strict=True)]
    file = write(tmp_path / "en.jsonl", as_jsonl(told))
    columns = f"prompt=question,candidates={OPTIONS},gold=answer"
    config = get_config("audit", f"path=x,data={file},{columns},numbered=1")
    items = load_items(config.data.source, path=config.data.path, **config.data.options)
    assert [item.gold for item in items] == [0, 1, 2, 1]
    options = dict(config.data.options) | {"numbered": 0}  # as --config.data.options.numbered=0 comes
    assert [item.gold for item in load_items("mapped", path=file, **options)] == [1, 2, 3, 2]


@pytest.mark.parametrize("name", ["audit", "custom", "real", "gemma3"])
def test_every_config_keeps_what_a_source_is_told(name: str):
    from consistency_jax.config import get_config

    options = get_config(name, "path=x,data=mmmlu,data_path=y,answers=full").data.options
    assert options["answers"] == "full"


def test_fewer_candidates_are_empty_cells(tmp_path: Path):
    told = [row | {"option_d": None, "answer": "A"} for row in rows("en", 2)] + rows("en", 2)
    write(tmp_path / "en.jsonl", as_jsonl(told))
    items = load_items("mapped", path=tmp_path, prompt="question", candidates=OPTIONS, gold="answer")
    assert [item.num_candidates for item in items] == [3, 3, 4, 4]
    told = [row | {"option_d": float("nan"), "answer": "A"} for row in rows("en", 2)]  # as pandas has them
    write(tmp_path / "en.jsonl", "".join(json.dumps(row) + "\n" for row in told))
    items = load_items("mapped", path=tmp_path, prompt="question", candidates=OPTIONS, gold="answer")
    assert [item.num_candidates for item in items] == [3, 3]


def test_what_is_missing_is_told(tmp_path: Path):
    write(tmp_path / "en.jsonl", as_jsonl(rows("en")))
    options = {"prompt": "question", "candidates": OPTIONS, "gold": "answer"}
    with pytest.raises(
        DataError, match="which column is what is not said. .*The first file has: sample_id, sub"
    ):
        load_items("mapped", path=tmp_path)
    with pytest.raises(DataError, match="en.jsonl:1: no column 'ask'; the row has sample_id, subject"):
        load_items("mapped", path=tmp_path, **options | {"prompt": "ask"})
    with pytest.raises(DataError, match="question 'Which, 0.' is no list of texts"):
        load_items("mapped", path=tmp_path, **options | {"candidates": "question"})
    write(tmp_path / "de.jsonl", as_jsonl(rows("de")[:-1]))
    with pytest.raises(DataError, match="different numbers of rows"):
        load_items("mapped", path=tmp_path, **options)
    with pytest.raises(DataError, match="language 'de': id 'law/5' is missing"):
        load_items("mapped", path=tmp_path, languages=["en", "de"], id="sample_id", **options)
    assert len(load_items("mapped", path=tmp_path, id="sample_id", on_error="skip", **options)) == 5
    write(tmp_path / "de.jsonl", as_jsonl([row | {"answer": "A"} for row in rows("de")]))
    with pytest.raises(DataError, match="its answer is 1, that of .*: rows are not parallel"):
        load_items("mapped", path=tmp_path, **options)
    write(tmp_path / "en.jsonl", as_jsonl([row | {"sample_id": "x"} for row in rows("en")]))
    with pytest.raises(DataError, match="id 'x' stands twice"):
        load_items("mapped", path=tmp_path, languages=["en"], id="sample_id", **options)


def test_a_broken_line_is_told_by_its_own_reason(tmp_path: Path):
    options = {"prompt": "question", "candidates": OPTIONS, "id": "sample_id"}
    write(tmp_path / "en.jsonl", as_jsonl(rows("en")))
    write(tmp_path / "de.jsonl", as_jsonl(rows("de")).replace('{"sample_id": "law/2"', "{", 1))
    for languages in (["en", "de"], ["de", "en"]):
        with pytest.raises(DataError, match="de.jsonl:3: the line is not JSON"):
            load_items("mapped", path=tmp_path, languages=languages, **options)
    write(tmp_path / "wide.csv", "q_en,q_de,a,b\n1,2,3\n4,5,6\n")
    with pytest.raises(DataError, match="wide.csv:2: the row has 3 columns, the header 4"):
        load_items("mapped", path=tmp_path / "wide.csv", prompt="q_{language}", candidates="a+b")


@pytest.mark.parametrize("change", [{"question": " "}, {"option_b": ""}])
@pytest.mark.parametrize("answers", ["letters", "full"])
def test_a_letter_stands_for_no_empty_option_and_answers_no_empty_question(tmp_path: Path, change, answers):
    for language in ("en", "de"):
        own = rows(language)
        write(tmp_path / f"{language}.jsonl", as_jsonl([own[0] | change, *own[1:]]))
    options = {"prompt": "question", "candidates": OPTIONS, "gold": "answer", "answers": answers}
    with pytest.raises(DataError, match="jsonl:1: .*empty"):
        load_items("mapped", path=tmp_path, **options)
    assert len(load_items("mapped", path=tmp_path, on_error="skip", **options)) == ROWS - 1


def test_splits_of_rows_with_ids_are_the_same_whatever_languages_are_asked_for(tmp_path: Path):
    told = [{"id": str(n), "q": f"question {n}", "a": "x", "b": "y", "gold": "A"} for n in range(20)]
    write(tmp_path / "en.jsonl", as_jsonl(told))
    write(tmp_path / "sw.jsonl", as_jsonl(told[::-1]))
    options = {"path": tmp_path, "prompt": "q", "candidates": "a+b", "gold": "gold", "id": "id"}
    options |= {"train_size": 15, "seed": 1}
    train = load_items("mapped", languages=["en", "sw"], split="train", **options)
    for languages in (["en", "sw"], ["sw", "en"], ["sw"]):
        test = load_items("mapped", languages=languages, split="test", **options)
        assert {item.id for item in test} == {str(n) for n in range(20)} - {item.id for item in train}
        assert [item.id for item in load_items("mapped", languages=languages, **options)] == [
            *map(str, range(20))
        ]


def test_lists_of_each_language_are_found_as_objects_are(tmp_path: Path):
    told = [
        {"id": n, "answer": "AB"[n % 2], "en": [f"q {n}", "a", "b"], "sw": [f"swali {n}", "c", "d"]}
        for n in range(4)
    ]
    write(tmp_path / "q.jsonl", as_jsonl(told))
    options = {"prompt": "{language}.0", "candidates": "{language}.1+{language}.2", "gold": "answer"}
    items = load_items("mapped", path=tmp_path / "q.jsonl", **options)
    assert items.languages == ("en", "sw")
    assert items[1].prompts == {"en": "q 1", "sw": "swali 1"}
    assert items[1].candidates["sw"] == (" c", " d")
    assert items[1].gold == 1


def test_data_is_a_set_a_file_a_folder_or_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from consistency_jax.config import default
    from consistency_jax.config.parsing import parse_arg
    from consistency_jax.config.recipes import COLUMNS

    monkeypatch.chdir(tmp_path)
    write(tmp_path / "q.jsonl", as_jsonl(rows("en")))
    write(tmp_path / "sheets" / "en.csv", "a\n1\n")
    write(tmp_path / "lines" / "train.jsonl", "{}\n")

    def source(arg: str) -> tuple[str, str, dict[str, object]]:
        config = default()
        set_source(config, parse_arg(arg, data="", data_path="", languages="", **COLUMNS))
        return config.data.source, config.data.path, dict(config.data.options)

    columns = "prompt=question,candidates=a+b"
    told = {"prompt": "question", "candidates": "a+b"}
    assert source("data=q.jsonl") == ("jsonl", "q.jsonl", {})
    assert source(f"data=q.jsonl,{columns}") == ("mapped", "q.jsonl", told)
    assert source("data=lines") == ("jsonl", "lines", {})
    assert source(f"data=sheets,{columns}") == ("mapped", "sheets", told)
    assert source("data=sheets/en.csv") == ("mapped", "sheets/en.csv", {})
    assert source(f"data=CohereLabs/Global-MMLU,{columns}") == ("mapped", "CohereLabs/Global-MMLU", told)
    assert source(f"data=mapped,data_path=sheets,{columns}") == ("mapped", "sheets", told)
    assert source("data=missing/q.jsonl") == ("jsonl", "missing/q.jsonl", {})
    assert source("") == ("jsonl", "", {})  # whatever lies in the folder where it is called
    assert source("data=missing/q.jsonl.gz") == ("jsonl", "missing/q.jsonl.gz", {})
    (tmp_path / "q.csv.gz").write_bytes(b"")
    assert source(f"data=q.csv.gz,{columns}") == ("mapped", "q.csv.gz", told)
    assert source("data=mmmlu,data_path=x,answers=full") == ("mmmlu", "x", {"answers": "full"})


def test_rows_that_are_paired_by_their_order_though_a_column_may_name_them_are_told(tmp_path: Path):
    long = [{"lang": name, "id": row.pop("sample_id"), **row} for name in ("en", "zh") for row in rows(name)]
    write(tmp_path / "long.jsonl", as_jsonl(long))
    columns = {"prompt": "question", "candidates": OPTIONS, "gold": "answer", "language": "lang"}
    items = load_items("mapped", path=tmp_path / "long.jsonl", **columns)
    assert items.warnings == [
        f"{tmp_path / 'long.jsonl'}: rows of the languages belong together by their order; "
        "the column 'id' may say which do: id=id"
    ]
    assert load_items("mapped", path=tmp_path / "long.jsonl", id="id", **columns).warnings == []


NESTED = {
    "prompt": "prompts.0.question",
    "candidates": "+".join(f"prompts.0.option_{letter}" for letter in "abcd"),
    "gold": "label",
    "id": "metadata.sample_id",
    "group": "metadata.cultural_sensitivity_label",
}


def test_columns_of_lists_and_of_objects_are_named_with_dots(tmp_path: Path):
    for language in ("en", "zh"):
        nested = [
            {
                "metadata": {"sample_id": own["sample_id"], "cultural_sensitivity_label": "CS"},
                "prompts": [
                    {key: value for key, value in own.items() if key in ("question", *OPTIONS.split("+"))}
                ],
                "label": own["answer"],
            }
            for own in rows(language)
        ]
        write(tmp_path / f"lite_{language}_test.jsonl", as_jsonl(nested))
    items = load_items("mapped", path=tmp_path, **NESTED)
    check(items, ("en", "zh"))
    assert {item.group for item in items} == {"CS"}
    for name in ("prompts.1.question", "prompts.x.question"):
        with pytest.raises(DataError, match=f"no column '{name}'"):
            load_items("mapped", path=tmp_path, **NESTED | {"prompt": name})


def test_global_mmlu_lite_as_it_is_stored(data_folder: Path):
    if not (folder := data_folder / "global_mmlu_lite").is_dir():
        pytest.skip("no Global-MMLU-Lite")
    for part, counts in (("test", {"CS": 200, "CA": 200}), ("dev", None)):
        items = load_items("mapped", path=folder, part=part, answers="letters", **NESTED)
        assert items.languages == ("en", "id", "vi", "zh")
        assert len(items) == {"test": 400, "dev": 215}[part]
        if counts:
            assert Counter(item.group for item in items) == counts


def test_a_column_of_what_is_right_makes_questions_that_are_answered_in_words(tmp_path: Path):
    told = [
        {"q_en": "Where?", "a_en": "Egypt", "q_sw": "Wapi?", "a_sw": '["Misri", "Misri ya kale"]'},
        {"q_en": " How many?", "a_en": 18, "q_sw": "Ngapi?", "a_sw": ["18", "kumi na nane"]},
        {"q_en": "Who?", "a_en": "", "q_sw": "Nani?", "a_sw": None},
    ]
    file = write(tmp_path / "open.jsonl", as_jsonl(told))
    items = load_items("mapped", path=file, prompt="q_{language}", targets="a_{language}")
    assert [item.prompts["en"] for item in items] == ["Where?", "How many?", "Who?"]
    assert [item.targets for item in items] == [
        {"en": ("Egypt",), "sw": ("Misri", "Misri ya kale")},
        {"en": ("18",), "sw": ("18", "kumi na nane")},
        {},
    ]
    assert not any(item.num_candidates for item in items)
    only = load_items("mapped", path=file, prompt="q_{language}", targets="a_{language}", languages=["sw"])
    assert only[0].targets == {"sw": ("Misri", "Misri ya kale")}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidates": "a_{language}"}, "candidates and targets are both named"),
        ({"gold": "a_{language}"}, "gold and answers are of candidates"),
        ({"answers": "letters"}, "gold and answers are of candidates"),
        ({"targets": "b"}, "no column 'b'"),
        ({"targets": "c"}, "c is {'x': 1}, not a text"),
        ({"targets": "d"}, "d is True, not a text"),
    ],
)
def test_what_is_right_is_a_text_a_number_or_a_list(tmp_path: Path, options, message):
    row = {"q_en": "Where?", "a_en": "Egypt", "q_sw": "Wapi?", "a_sw": "Misri", "c": {"x": 1}, "d": [True]}
    file = write(tmp_path / "open.jsonl", as_jsonl([row]))
    with pytest.raises(DataError, match=message):
        load_items("mapped", path=file, **{"prompt": "q_{language}", "targets": "a_{language}"} | options)
