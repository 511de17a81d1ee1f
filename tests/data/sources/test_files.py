"""Damaged files of every format: one clear error, or a row that is counted and skipped, and never anything else."""

import csv
import gzip
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import source_files

from consistency_jax.data.items import DataError
from consistency_jax.data.sources import files, load_items

Change = Callable[[bytes], bytes | None]  # a file's bytes -> the damaged ones; None: the file is gone


class Format(NamedTuple):
    """A format: how to write a good set, how to read it, and the file of it to damage."""

    source: str
    make: Callable[[Path], Path]
    file: str  # relative to the folder
    rows: int  # items of the good set
    options: dict[str, Any]
    delimiter: str = ""  # "": JSON lines
    header: bool = True


FORMATS = {
    "bmlama17": Format("bmlama17", source_files.bmlama, "zh.tsv", 8, {"languages": ["en", "zh"]}, "\t"),
    "mmmlu": Format("mmmlu", source_files.mmmlu, "test/mmlu_DE-DE.csv", 8, {"languages": ["en", "de"]}, ","),
    "mmlu": Format(
        "mmmlu", source_files.mmmlu, "test/law_test.csv", 8, {"languages": ["en", "de"]}, ",", False
    ),
    "mmmlu parallel": Format(
        "mmmlu",
        lambda path: source_files.mmmlu_parallel(path / "p.jsonl").parent,
        "p.jsonl",
        8,
        {"languages": ["en", "de"]},
    ),
    "xcsqa": Format("xcsqa", source_files.xcsqa, "zh/dev.jsonl", 20, {"languages": ["en", "zh"]}),
    "hub": Format("hub", source_files.hub, "zh.tsv", 8, {"languages": ["en", "zh"]}, "\t"),
    "multijail": Format(
        "multijail",
        lambda path: source_files.multijail(path).parent,
        "MultiJail.csv",
        4,
        {"languages": ["en", "jv"]},
        ",",
    ),
    "polyrefuse": Format(
        "polyrefuse", source_files.polyrefuse, "polyrefuse_harmful_val.jsonl", 12, {"languages": ["en", "zh"]}
    ),
    "xsafety": Format(
        "xsafety",
        source_files.xsafety,
        "sp/Insult.csv",
        8,
        {"languages": ["en", "es"], "kinds": ("Insult", "commonsense")},
        ",",
        False,
    ),
    "pku_saferlhf": Format("pku_saferlhf", source_files.pku, "data/train.jsonl", 6, {"split": "train"}),
    "instructions": Format(
        "instructions",
        source_files.instructions,
        "questions_Deutsch.jsonl",
        5,
        {"languages": ["en", "de"]},
    ),
}


def lines(change: Callable[[list[bytes]], list[bytes]]) -> Change:
    """A change of the list of lines, each with its end."""
    return lambda raw: b"".join(change(raw.splitlines(keepends=True)))


def line(number: int, change: Callable[[bytes], bytes]) -> Change:
    return lines(lambda own: [*own[:number], change(own[number]), *own[number + 1 :]])


def cells(change: Callable[[list[str]], list[str]], delimiter: str, number: int = 2) -> Change:
    """A change of the cells of one row."""

    def changed(raw: bytes) -> bytes:
        rows = list(csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline=""), delimiter=delimiter))
        rows[number] = change(rows[number])
        return source_files.as_csv(rows, delimiter).encode()

    return changed


def record(change: Callable[[dict], object], number: int = 2) -> Change:
    """A change of one JSON object: what `change` gives, or the object itself where it gives None."""

    def changed(raw: bytes) -> bytes:
        value = json.loads(raw)
        result = change(value)
        return json.dumps(value if result is None else result).encode() + b"\n"

    return line(number, changed)


# Damage that any text file may take. "error": it is told; "rows": it is told, and `skip` leaves out a row, or two, and
# reads the others; "fine": the file means the same; "either": what is told depends on the format.
ANY: dict[str, tuple[Change, str]] = {
    "missing": (lambda raw: None, "error"),
    "empty": (lambda raw: b"", "error"),
    "UTF-16": (lambda raw: raw.decode("utf-8-sig").encode("utf-16"), "either"),
    "zipped": (gzip.compress, "either"),
    "a byte that is no UTF-8": (line(2, lambda own: own.replace(own[3:4], b"\xff", 1)), "rows"),
    "half of the file": (lambda raw: raw[: len(raw) // 2], "either"),
    "a row left out": (lines(lambda own: [*own[:2], *own[3:]]), "either"),
    "a row twice": (lines(lambda own: [*own[:3], own[2], *own[3:]]), "either"),
    "byte order mark": (lambda raw: b"\xef\xbb\xbf" + raw.removeprefix(b"\xef\xbb\xbf"), "fine"),
    "blank lines at the end": (lambda raw: raw + b"\n\n", "fine"),
    "other line ends": (lambda raw: raw.replace(b"\r\n", b"\n"), "fine"),
}


def csv_damage(delimiter: str, header: bool) -> dict[str, tuple[Change, str]]:
    other = ";" if delimiter == "," else ","
    damage: dict[str, tuple[Change, str]] = {
        "a huge cell": (cells(lambda row: ["x" * 200_000, *row[1:]], delimiter), "rows"),
        "a column more": (cells(lambda row: [*row, "more"], delimiter), "rows"),
        "no text in the last column": (cells(lambda row: [*row[:-1], ""], delimiter), "either"),
        "an open quote": (line(2, lambda own: b'"' + own.replace(b'"', b"")), "error"),
        "a row of blanks": (cells(lambda row: [" "] * len(row), delimiter), "rows"),
    }
    if header:
        damage |= {
            "another delimiter": (lambda raw: raw.replace(delimiter.encode(), other.encode()), "error"),
            "a column less": (cells(lambda row: row[:-1], delimiter), "rows"),
            "two columns swapped": (cells(lambda row: [row[1], row[0], *row[2:]], delimiter), "either"),
            "only a header": (lines(lambda own: own[:1]), "error"),
        }
    return damage


JSON: dict[str, tuple[Change, str]] = {
    "a line longer than may be": (
        line(2, lambda own: own[:-2] + b' , "more": "%b"}\n' % (b"x" * 9000)),
        "rows",
    ),
    "half a line": (line(2, lambda own: own[: len(own) // 2] + b"\n"), "rows"),
    "no object": (line(2, lambda own: b"[1, 2]\n"), "rows"),
    "a number": (line(2, lambda own: b"3\n"), "rows"),
    "null": (line(2, lambda own: b"null\n"), "rows"),
    "a key twice": (line(2, lambda own: own.replace(b"{", b'{"x": 1, "x": 2, ', 1)), "rows"),
    "single quotes": (line(2, lambda own: own.replace(b'"', b"'")), "rows"),
    "nested too deeply": (line(2, lambda own: b"[" * 5000 + b"\n"), "rows"),
    "texts that are numbers": (record(lambda value: dict.fromkeys(value, 3)), "rows"),
    "empty texts": (record(lambda value: dict.fromkeys(value, "")), "rows"),
    "no keys": (record(lambda value: {}), "rows"),
    "other keys": (record(lambda value: {f"{key}_": own for key, own in value.items()}), "rows"),
}

OWN: dict[str, dict[str, tuple[Change, str]]] = {
    "bmlama17": {
        "no mask": (line(2, lambda own: own.replace(b"<mask>", b"")), "rows"),
        "two masks": (line(2, lambda own: own.replace(b"<mask>", b"<mask> <mask>")), "rows"),
        "gold not last": (cells(lambda r: [r[0], r[2].split(", ")[0], *r[2:]], "\t"), "rows"),
        "a candidate less": (cells(lambda r: [*r[:2], r[2].partition(", ")[2], r[3]], "\t"), "rows"),
        "an empty candidate": (cells(lambda r: [*r[:2], ", " + r[2].partition(", ")[2], r[3]], "\t"), "rows"),
    },
    "mmmlu": {
        "no such answer": (cells(lambda r: [*r[:6], "E", r[7]], ","), "rows"),
        "another answer": (cells(lambda r: [*r[:6], "D", r[7]], ","), "rows"),
        "another subject": (cells(lambda r: [*r[:7], "law"], ","), "rows"),
        "an empty option": (cells(lambda r: [*r[:3], " ", *r[4:]], ","), "rows"),
        "a number twice": (cells(lambda r: ["0", *r[1:]], ","), "rows"),
        "columns of other names": (line(0, lambda own: own.replace(b"Question", b"Frage")), "error"),
        "a column named twice": (line(0, lambda own: own.replace(b"D,", b"D,D,")), "error"),
    },
    "mmlu": {
        "a subject missing": (lambda raw: None, "error"),
        "no such answer": (cells(lambda r: [*r[:5], "4"], ","), "rows"),
        "an empty question": (cells(lambda r: ["", *r[1:]], ","), "rows"),
        "another delimiter": (lambda raw: raw.replace(b",", b";"), "either"),
        "a column less": (cells(lambda r: r[:5], ","), "rows"),
        "answers first": (cells(lambda r: [r[5], *r[:5]], ","), "rows"),
    },
    "mmmlu parallel": {
        "an id twice": (record(lambda r: r | {"id": "x/0"}), "rows"),
        "no such answer": (record(lambda r: r | {"answer": "b"}), "rows"),
        "an option less": (record(lambda r: r["de"].pop()), "rows"),
        "a language less": (record(lambda r: {k: v for k, v in r.items() if k != "de"}), "rows"),
        "an option that is null": (record(lambda r: r | {"de": [*r["de"][:4], None]}), "rows"),
        "half a surrogate": (record(lambda r: r | {"de": ["\ud800", *r["de"][1:]]}), "rows"),
    },
    "xcsqa": {
        "an id twice": (record(lambda r: r | {"id": "q0"}), "rows"),
        "an unknown id": (record(lambda r: r | {"id": "other"}), "rows"),
        "no label": (record(lambda r: r | {"answerKey": ""}), "rows"),
        "another label": (record(lambda r: r | {"answerKey": "A"}), "rows"),
        "another language": (record(lambda r: r | {"lang": "de"}), "rows"),
        "a choice less": (record(lambda r: r["question"]["choices"].pop() and None), "rows"),
        "a choice twice": (
            record(lambda r: r["question"]["choices"].append(r["question"]["choices"][0])),
            "rows",
        ),
        "choices by column": (
            record(lambda r: r["question"].update(choices={"label": [], "text": []})),
            "rows",
        ),
        "an empty choice": (record(lambda r: r["question"]["choices"][3].update(text=" ")), "rows"),
        "no stem": (record(lambda r: r["question"].pop("stem") and None), "rows"),
        "half a surrogate": (record(lambda r: r["question"].update(stem="\udc00")), "rows"),
    },
    "hub": {
        "no list": (cells(lambda r: [*r[:2], "a, b"], "\t"), "rows"),
        "a list that is not closed": (cells(lambda r: [*r[:2], r[2][:-1]], "\t"), "rows"),
        "a list of numbers": (cells(lambda r: [*r[:2], "[1, 2]"], "\t"), "rows"),
        "an expression": (cells(lambda r: [*r[:2], "['x'] * 4"], "\t"), "rows"),
        "nested too deeply": (cells(lambda r: [*r[:2], "[" * 3000], "\t"), "rows"),
        "an answer that is no candidate": (cells(lambda r: [r[0], "no", r[2]], "\t"), "rows"),
        "another answer": (cells(lambda r: [r[0], "苹果", r[2]], "\t"), "rows"),
        "a candidate less": (cells(lambda r: [*r[:2], "['梨', '李子']"], "\t"), "rows"),
        "columns of other names": (line(0, lambda own: own.replace(b"Ans", b"Gold")), "error"),
    },
    "multijail": {
        "a language missing": (line(0, lambda own: own.replace(b",jv", b",xx")), "error"),
        "a language twice": (line(0, lambda own: own.replace(b",sw", b",jv")), "error"),
        "an id twice": (cells(lambda r: ["0", *r[1:]], ","), "rows"),
        "a prompt missing": (cells(lambda r: [*r[:3], " ", *r[4:]], ","), "rows"),
        "no header": (lines(lambda own: own[1:]), "error"),
    },
    "polyrefuse": {
        "an id twice": (record(lambda r: r | {"id": "harmful_val/0"}), "rows"),
        "an id of another file": (record(lambda r: r | {"id": "harmful_train/0"}), "rows"),
        "a language missing": (record(lambda r: r.pop("zh") and None), "rows"),
        "a language empty": (record(lambda r: r | {"zh": ""}), "rows"),
        "a list": (record(lambda r: r | {"zh": ["x"]}), "rows"),
        "half a surrogate": (record(lambda r: r | {"zh": "\ud800"}), "rows"),
    },
    "xsafety": {
        "another delimiter": (lines(lambda own: [row.replace(b'"', b"") for row in own]), "either"),
        "two texts": (cells(lambda r: [r[0], r[0]], ",", 1), "rows"),
        "a kind missing": (lambda raw: None, "error"),
        "a row more": (lambda raw: raw + b"one more\n", "either"),
    },
    "pku_saferlhf": {
        "no prompt": (record(lambda r: r.pop("prompt") and None), "rows"),
        "an empty answer": (record(lambda r: r | {"response_1": " "}), "rows"),
        "a third answer": (record(lambda r: r | {"safer_response_id": 2}), "rows"),
        "no answer": (record(lambda r: r | {"safer_response_id": -1}), "rows"),
        "true for 1": (record(lambda r: r | {"safer_response_id": True}), "rows"),
        "1 for true": (record(lambda r: r | {"is_response_0_safe": 1}), "rows"),
        "half a surrogate": (record(lambda r: r | {"prompt": "\ud800"}), "rows"),
    },
    "instructions": {
        "an id twice": (record(lambda r: r | {"question_id": 1}), "rows"),
        "an unknown id": (record(lambda r: r | {"question_id": 77}), "rows"),
        "no id": (record(lambda r: r.pop("question_id") and None), "rows"),
        "null for an id": (record(lambda r: r | {"question_id": None}), "rows"),
        "no text": (record(lambda r: r | {"text": " "}), "rows"),
        "half a surrogate": (record(lambda r: r | {"text": "\ud800"}), "rows"),
    },
}


def damages(name: str) -> dict[str, tuple[Change, str]]:
    form = FORMATS[name]
    by_form = csv_damage(form.delimiter, form.header) if form.delimiter else JSON
    return ANY | by_form | OWN[name]


CASES = [(name, kind) for name in FORMATS for kind in damages(name)]


@pytest.mark.parametrize(("name", "kind"), CASES, ids=[f"{name}: {kind}" for name, kind in CASES])
def test_damage_is_one_clear_error_or_a_counted_skip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str
):
    monkeypatch.setattr(files, "LONGEST", 8192)
    form, (change, expected) = FORMATS[name], damages(name)[kind]
    folder = form.make(tmp_path)
    good = load_items(form.source, path=folder, **form.options)
    assert len(good) == form.rows
    file = folder / form.file
    damaged = change(file.read_bytes())
    if damaged is None:
        file.unlink()
    else:
        file.write_bytes(damaged)

    def outcome(on_error: str) -> Any:
        try:
            return load_items(form.source, path=folder, on_error=on_error, **form.options)
        except DataError as error:
            return error

    raised, skipped = outcome("raise"), outcome("skip")
    for error in (raised, skipped):
        if isinstance(error, DataError):  # "place: reason. mend", and no page of the file
            assert re.fullmatch(r".+: .+\. .+", str(error), re.DOTALL)
            assert len(str(error)) < 600 + 3 * len(str(folder))
    if expected == "fine":
        assert list(raised) == list(skipped) == list(good)
        return
    if expected == "either" and not isinstance(raised, DataError):
        # readable, and so no more than fewer or other rows, of which a warning tells (counts are published)
        assert len(raised) != len(good) or list(raised) != list(good) or raised.warnings
        return
    assert isinstance(raised, DataError)
    assert str(folder) in str(raised)
    if not isinstance(skipped, DataError):
        assert skipped.skipped
        assert all(item.prompts in [own.prompts for own in good] for item in skipped)
    if expected == "rows":
        assert not isinstance(skipped, DataError)
        assert len(good) - 2 <= len(skipped) < len(good)


def test_a_row_whose_quote_is_never_closed_does_not_swallow_the_rest(tmp_path: Path):
    file = tmp_path / "en.csv"
    file.write_text('q,a\n1,x\n2,"y\n3,z\n4,x')
    told = list(files.records(file, ["q"]))
    assert told[0].value == {"q": "1", "a": "x"}
    assert len(told) == 2
    assert re.search(r"en.csv:3: a quote opens in the row, and none closes it", str(told[1].value))
    file.write_text('q,a\n1,"x\ny"\n2,y')  # a closed one may hold lines, and the last line may end without
    assert [line.value["a"] for line in files.records(file, ["q"])] == ["x\ny", "y"]


def test_blank_names_behind_a_header_are_what_a_spreadsheet_leaves(tmp_path: Path):
    file = tmp_path / "en.csv"
    file.write_text("q,a,,\n1,x,,\n")
    assert [line.value["a"] for line in files.records(file, ["q"])] == ["x"]
    file.write_text("q,a,a\n1,x,y\n")
    with pytest.raises(DataError, match="a column is named twice"):
        list(files.records(file, ["q"]))


def test_there_are_twenty_damages_of_each_format():
    assert {name: len(damages(name)) >= 20 for name in FORMATS} == dict.fromkeys(FORMATS, True)
