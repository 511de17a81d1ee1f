"""BMLAMA-17: 6,792 cloze facts in 17 languages with 2 to 10 candidates, from the original TSV files.

Source: Qi, Fernandez, Bisazza, "Cross-Lingual Consistency of Factual Knowledge in Multilingual Language
Models", EMNLP 2023. One file a language (`en.tsv` ...), quoted as CSV, separated by tabs; columns are known
by their position (prompt with `<mask>`, gold, candidates joined by ", ", subject), as the Chinese header
has five names. Rows are parallel by index. The gold always stands last, so candidates are shuffled: one
seed a row, and the same order in every language.
"""

import csv
import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from consistency_jax.data.items import (
    MASK,
    DataError,
    Items,
    ParallelItem,
    check_languages,
    doubled_candidates,
    validate,
)
from consistency_jax.data.sources.splits import split_rows

LANGUAGES = (
    *("en", "fr", "nl", "es", "ru", "ja", "zh", "ko", "vi"),
    *("el", "hu", "he", "tr", "ca", "ar", "uk", "fa"),
)
LEADING_SPACE = "mask"
DOWNLOAD = "Set data.path to the folder that holds en.tsv, fr.tsv ... of BMLAMA-17"
AGAIN = "Download the original file again"


class Row(NamedTuple):
    """One line of one file."""

    prompt: str
    gold: str
    candidates: tuple[str, ...]
    subject: str
    line: int


def read(
    path: str | Path | None,
    languages: Sequence[str] | None = None,
    split: str | None = None,
    on_error: str = "raise",
    *,
    unique_gold: bool = False,
    shuffle: bool = True,
    train_size: int | float = 5000,
    seed: int = 0,
    validation_size: int | float = 0,
) -> Items:
    """Reads BMLAMA-17.

    Args:
        path: the folder with one `<language>.tsv` a language.
        languages: which, in this order; None = all 17.
        split: None (every row, in file order), "train" or "test" as published.
        on_error: "raise", or "skip": a row that is bad in any of the languages is left out and listed.
        unique_gold: leave out the rows that hold a second true answer (among the candidates is the gold of
            another row with the same English prompt): 1,026 rows.
        shuffle: False keeps the order of the files (the gold last).
        train_size: rows in "train".
        seed: of the split. The order of candidates depends on the row only.
        validation_size: how many of those to keep apart for validation.

    Returns:
        Items with ids `bmlama17-<row>`, group = the English template (`[X] was born in [Y].`), "" where
        there is no en.tsv.

    Raises:
        DataError: naming file, line, reason and mend.
    """
    languages = check_languages(LANGUAGES if languages is None else languages, LANGUAGES, "bmlama17")
    folder = _folder(path)
    tables = {language: _read_table(folder / f"{language}.tsv", on_error) for language in languages}
    counts = {language: len(rows) for language, rows in tables.items()}
    if len(set(counts.values())) > 1:
        raise DataError.at(
            str(folder), f"files have different numbers of rows ({counts})", "Download them again"
        )
    n = counts[languages[0]]
    english = _english(folder, tables, on_error)
    if unique_gold and english is None:
        raise DataError.at(
            str(folder / "en.tsv"), "no such file, and unique_gold compares English rows", DOWNLOAD
        )
    ambiguous = _second_true_answer(english) if unique_gold else frozenset()

    items = Items()
    for i in split_rows(n, split, train_size, seed, "bmlama17", validation_size):
        if i in ambiguous:
            continue
        where = str(folder)
        try:
            rows = {}
            for language in languages:
                row = tables[language][i]
                if isinstance(row, DataError):
                    raise row
                rows[language] = row
                where = f"{folder / language}.tsv:{row.line}"
            item = _item(i, rows, english[i] if english else None, shuffle)
            validate(item, where, allow_doubled=True)
        except DataError as error:
            if on_error == "raise":
                raise
            items.skipped.append(str(error))
            continue
        items.warnings.extend(f"{where}: {reason}" for reason in doubled_candidates(item))
        items.append(item)
    return items


def _item(i: int, rows: dict[str, Row], english: Row | DataError | None, shuffle: bool) -> ParallelItem:
    count = len(next(iter(rows.values())).candidates)
    order = list(range(count))
    if shuffle:
        random.Random(f"bmlama17-{i}").shuffle(order)
    candidates = {}
    for language, row in rows.items():
        # A row of another length keeps its own order: `validate` reports the unequal counts.
        same = len(row.candidates) == count
        candidates[language] = tuple(row.candidates[k] for k in order) if same else row.candidates
    return ParallelItem(
        id=f"bmlama17-{i:04d}",
        group=relation(english) if isinstance(english, Row) else "",
        prompts={language: row.prompt for language, row in rows.items()},
        candidates=candidates,
        gold=order.index(count - 1),
    )


def relation(english: Row) -> str:
    """The English template of a row, its relation in all but name: `[X] was born in [Y].`"""
    return english.prompt.replace(english.subject, "[X]").replace(MASK, "[Y]")


def _second_true_answer(english: Sequence[Row | DataError]) -> frozenset[int]:
    golds = defaultdict(set)
    for row in english:
        if isinstance(row, Row):
            golds[row.prompt].add(row.gold)
    return frozenset(
        i
        for i, row in enumerate(english)
        if isinstance(row, Row) and len(golds[row.prompt].intersection(row.candidates)) > 1
    )


def _english(
    folder: Path, tables: dict[str, list[Row | DataError]], on_error: str
) -> list[Row | DataError] | None:
    """The English rows, which name the groups whatever languages were asked for; None without the file."""
    if "en" in tables:
        return tables["en"]
    file = folder / "en.tsv"
    if not file.is_file():
        return None
    rows = _read_table(file, on_error)
    return rows if len(rows) == len(next(iter(tables.values()))) else None


def _folder(path: str | Path | None) -> Path:
    if path is None:
        raise DataError.at("data.path", "the source 'bmlama17' needs a folder", DOWNLOAD)
    folder = Path(path)
    if not folder.is_dir():
        raise DataError.at(str(folder), "no such folder", DOWNLOAD)
    return folder


def _read_table(file: Path, on_error: str) -> list[Row | DataError]:
    """Every row of a file, in order; with on_error "skip" a bad one is its error: rows are parallel."""
    if not file.is_file():
        raise DataError.at(str(file), "no such file", DOWNLOAD)
    table: list[Row | DataError] = []
    # The csv module wants newline="" (fields are quoted, lines end in CRLF); a bare split loses quoted golds.
    # Bytes that are no UTF-8 pass as surrogates, so that `_row` can tell their line.
    with open(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        reader = csv.reader(lines, delimiter="\t")
        rows = _rows(reader)
        next(rows, None)
        for fields in rows:
            try:
                table.append(_row(fields, f"{file}:{reader.line_num}", reader.line_num))
            except DataError as error:
                if on_error == "raise":
                    raise
                table.append(error)
    if not table:
        raise DataError.at(str(file), "the file has no rows", AGAIN)
    return table


def _rows(reader: Iterator[list[str]]) -> Iterator[list[str] | csv.Error]:
    """The rows of a csv reader; one that it cannot read is its error, and reading goes on after it."""
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield error


def _row(fields: list[str] | csv.Error, where: str, line: int) -> Row:
    if isinstance(fields, csv.Error):
        raise DataError.at(where, f"the row cannot be read ({fields})", AGAIN)
    if broken := re.search("[\ud800-\udfff]", "".join(fields)):
        raise DataError.at(where, f"the row is not UTF-8 (byte {ord(broken[0]) - 0xDC00:#x})", AGAIN)
    if len(fields) != 4:
        raise DataError.at(where, f"the row has {len(fields)} columns, not 4", AGAIN)
    prompt, gold, joined, subject = fields
    candidates = tuple(joined.split(", "))
    if prompt.count(MASK) != 1:
        raise DataError.at(where, f"the prompt has {prompt.count(MASK)} {MASK}", "Keep exactly one")
    if candidates[-1] != gold:
        raise DataError.at(where, f"the last candidate is not the gold {gold!r}", "Use the original files")
    return Row(prompt, gold, candidates, subject, line)
