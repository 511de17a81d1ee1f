r"""Any table with a row a question: CSV, TSV, JSON lines or Parquet, a file, a folder or a data set of the Hub.

Options of the source say which column is what:

    data=facebook/belebele,prompt="{flores_passage}\n{question}",candidates=mc_answer1+mc_answer2+mc_answer3+mc_answer4,
    gold=correct_answer_num,id=link+question_number,answers=letters

A language has files of its own, named by it; or `language` names the column that tells it; or each language has columns
of its own, `prompt=question_{language}`.
"""

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from consistency_jax.data.items import MASK, DataError, ParallelItem, check_languages
from consistency_jax.data.sources.choices import LETTERS, Question, answer_word, choice_row, parted
from consistency_jax.data.sources.files import Line
from consistency_jax.data.sources.language_files import (
    files_by_language,
    files_of_all,
    lines_of,
    looks_like_language,
    texts_of,
)
from consistency_jax.data.sources.parallel import by_id, by_place, check_alike, counted
from consistency_jax.data.sources.source import Row, Rows, Source, bare_row, each

PLAIN = "plain"
SOURCE = Source(
    "written",
    values={
        "answers": (PLAIN, "letters", "full"),
        "join": ("space", "verbatim"),
        "numbered": ("auto", "0", "1", "letter", "text"),
    },
)
LANGUAGE = "{language}"
IDS = ("id", "ID", "Id", "idx", "qid", "question_id", "sample_id")  # columns that look like `id`
MAP = (
    "Name them: prompt=question,candidates=a+b+c+d (or one column of lists),gold=answer; or, of questions that are "
    "answered in words, targets=answer (docs/data.md)"
)
_NAME = re.compile(r"\{((?:[^{}]|\{language\})+)\}")
_NUMBER = re.compile(r"(\d{1,4})(?:\.0)?")  # pandas writes whole numbers beside empty cells as 1.0


class Cell(NamedTuple):
    """One question in one language, its right answer as the file has it; `targets` in the place of candidates."""

    prompt: str
    candidates: tuple[str, ...]
    gold: Any
    key: str
    group: str
    where: str


def read(
    path: Path | None,
    languages: Sequence[str] | None,
    *,
    prompt: str = "",
    candidates: str = "",
    gold: str = "",
    targets: str = "",
    language: str = "",
    id: str = "",
    group: str = "",
    answers: str = PLAIN,
    numbered: str = "auto",
    part: str = "test",
    join: str = "space",
) -> Rows:
    r"""Reads a table by the names of its columns. `a.b` is what stands under b in column a, `a.0` the first of a list.

    Args:
        path: a file, a folder, or the id of a data set on the Hub; `{language}` in it stands for each language.
        prompt: a column, or a text with columns in braces, "{passage}\n{question}".
        candidates: the column that holds a list, or several columns joined by +; empty cells at the end are none.
        gold: the column of the right answer; "": not known, as DCO and CLC need none.
        targets: in place of candidates and gold, for questions that are answered in words: the column of what is right,
            a text, a number, or a list of texts of which each is.
        language: the column of the language; "": files, or columns, are named by it.
        id: the column, or several joined by +, by which rows of the languages belong together; "": by their order.
        group: the column of what to average by.
        answers: "plain": an answer follows its prompt; "letters" and "full" write a question as `choices.ask` does.
        numbered: how the right answer is told: counted from 0 or from 1, by letter, or by its text; "auto": as fits
            the most rows (another row is an error), and where several do with other answers that is an error.
        part: which files, where a language has several: their names hold this word.
        join: "space": a plain answer is parted from its prompt by one space, except in languages that write none
            (`choices.NO_SPACES`) and in the gap of a `<mask>`. "verbatim": as the file has it.

    Raises:
        DataError: naming file, reason and mend.
    """
    if path is None:
        raise DataError.at("data.path", "the source 'mapped' needs a file, a folder or a Hub id", MAP)
    if not prompt or bool(candidates) == bool(targets):
        told = (
            "candidates and targets are both named"
            if targets and prompt
            else "which column is what is not said"
        )
        raise DataError.at(str(path), told, f"{MAP}{_columns(str(path), part)}")
    if targets and (gold or answers != PLAIN):
        raise DataError.at(
            str(path), "gold and answers are of candidates", "Name targets alone: targets=answer"
        )
    columns = Columns(prompt, candidates or targets, gold, language, id, group, bool(targets))
    tables = _tables(str(path), languages, part, columns)
    cells = {name: _cells(lines, columns.of(name)) for name, lines in tables.items()}
    reading = _reading(cells, numbered) if gold else None
    questions = {
        name: each(own, lambda _, cell, name=name: _question(cell, reading, name, answers, join))
        for name, own in cells.items()
    }
    warnings: list[str] = []
    if id:
        places = {name: f"{path}, language {name!r}" for name in questions}
        named = {name: _by_key(own, cells[name], places[name]) for name, own in questions.items()}
        first = next(iter(named.values()))
        rows, warnings = by_id({key: first[key] for key in counted(first)}, named, places)
    else:
        rows = by_place(questions, path)
        lines = next(iter(tables.values()))
        if (
            named := language
            and isinstance(lines[0].value, dict)
            and [key for key in lines[0].value if key in IDS]
        ):
            told = "rows of the languages belong together by their order"
            warnings.append(f"{path}: {told}; the column {named[0]!r} may say which do: id={named[0]}")
    if answers != PLAIN and (unasked := [name for name in tables if not answer_word(name)]):
        named = ", ".join(unasked[:8]) + ", ..." * (len(unasked) > 8)
        warnings.append(f"{path}: the word 'Answer' is English in {named}; answers=plain has none")

    def make(i: int, own: Mapping[str, Question]) -> Row:
        known = {language: question for language, question in own.items() if question.answer is not None}
        if known:  # translations may leave out what the original tells
            check_alike(known, "answer")
            answer = next(iter(known.values())).answer
            own = {language: question._replace(answer=answer) for language, question in own.items()}
        first = next(iter(own.values()))
        name = first.number or f"row-{i:05d}"
        if targets:
            texts = {language: question.text for language, question in own.items()}
            right = {language: question.options for language, question in own.items() if question.options}
            return bare_row(name, first.subject, texts, first.where, right)
        if answers != PLAIN:
            return choice_row(name, own, answers)
        item = ParallelItem(
            id=name,
            group=first.subject,
            prompts={language: question.text for language, question in own.items()},
            candidates={language: question.options for language, question in own.items()},
            gold=first.answer,
        )
        return Row(item, first.where)

    return Rows(each(rows, make), warnings, bare=bool(targets))


# -------------------------------------------------------------------------------------------------------------- columns
class Columns(NamedTuple):
    """Which column is what, as the options say."""

    prompt: str
    candidates: str
    gold: str
    language: str
    id: str
    group: str
    open: bool = False  # `candidates` are the texts that are right

    @property
    def by_language(self) -> list[str]:
        """Those that are named by a language."""
        prompt = [name for name in _NAME.findall(self.prompt) if f"{{{name}}}" != LANGUAGE] or [self.prompt]
        return [name for name in (*prompt, *self.candidates.split("+"), self.gold) if LANGUAGE in name]

    def of(self, language: str) -> "Columns":
        """The columns of a language, where they are named by it."""
        return Columns(*(name.replace(LANGUAGE, language) for name in self[:-1]), self.open)

    def cell(self, line: Line) -> Cell:
        """The question of a row.

        Raises:
            DataError: it lacks a column, or holds something else there.
        """
        record, where = line.get(), line.where
        if _NAME.search(self.prompt):
            written = self.prompt.replace("\\n", "\n")
            prompt = _NAME.sub(lambda found: _text(record, found[1], where), written)
        else:
            prompt = _text(record, self.prompt, where)
        names = self.candidates.split("+")
        if self.open:
            texts = _targets(_value(record, self.candidates, where), self.candidates, where)
        elif len(names) > 1:
            texts = [_text(record, name, where, empty=True) for name in names]
        else:
            texts = texts_of(_value(record, names[0], where), names[0], where)
        while not self.open and texts and not texts[-1].strip():  # fewer options than others have
            texts.pop()
        key = "-".join(_text(record, name, where) for name in self.id.split("+")) if self.id else ""
        group = _text(record, self.group, where, empty=True) if self.group else ""
        gold = _value(record, self.gold, where) if self.gold else None
        unknown = isinstance(gold, str) and not gold.strip()
        return Cell(prompt, tuple(texts), None if unknown else gold, key, group, where)


def _cells(lines: Iterable[Line], columns: Columns) -> list[Cell | DataError]:
    return each(lines, lambda _, line: columns.cell(line))


def _value(record: Any, name: str, where: str) -> Any:
    value = record
    for key in [name] if isinstance(record, dict) and name in record else name.split("."):
        if isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
            continue
        if not isinstance(value, dict) or key not in value:
            found = ", ".join(map(str, list(record)[:16])) if isinstance(record, dict) else "no columns"
            raise DataError.at(where, f"no column {name!r}; the row has {found}", "Name one of these")
        value = value[key]
    return value


def _text(record: Any, name: str, where: str, empty: bool = False) -> str:
    """The text of a column; a number is written out."""
    value = _value(record, name, where)
    if empty and (value is None or value != value):  # NaN is what pandas writes for nothing
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value != value:
        raise DataError.at(where, f"{name} is {value!r:.60}, not a text", "Name the column of a text")
    return str(value)


def _targets(value: Any, column: str, where: str) -> list[str]:
    """What is right: a text, a number, or a list of these, which may be spelt; [] where that is not told."""
    if isinstance(value, str) and isinstance(spelt := _spelt_list(value), list):
        # numpy prints lists of texts without commas, which Python joins
        value = texts_of(value, column, where) if all(isinstance(own, str) for own in spelt) else spelt
    several = value if isinstance(value, list | tuple) else [value]
    texts = [_text({column: own}, column, where, empty=True) for own in several if own == own]
    return [text for text in texts if text.strip()]


def _spelt_list(text: str) -> Any:
    """What a text spells as a literal of Python; None where it spells none."""
    try:
        return ast.literal_eval(text.strip()) if text.strip().startswith("[") else None
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def _columns(path: str, part: str) -> str:
    """What the first file holds, for a message; "" where that cannot be read."""
    try:
        record = next(iter(lines_of(files_of_all(path, part)[:1]))).get()
    except DataError:
        return ""
    return f". The first file has: {', '.join(map(str, record))}" if isinstance(record, dict) else ""


# --------------------------------------------------------------------------------------------------------------- tables
def _tables(
    path: str, languages: Sequence[str] | None, part: str, columns: Columns
) -> dict[str, Sequence[Line]]:
    """language -> its rows."""
    if not columns.language and LANGUAGE not in path and columns.by_language:
        lines = _rows(files_of_all(path, part))
        known = _named(lines, columns.by_language, languages)
        return dict.fromkeys(check_languages(languages or known, known, path), lines)
    if not columns.language:
        files = files_by_language(path, languages, part)
        return {name: _rows(files[name]) for name in check_languages(languages or files, files, path)}
    found: dict[str, list[Line]] = {}
    unread = []
    for line in _rows(files_of_all(path, part)):
        try:
            language = _text(line.get(), columns.language, line.where).strip()
            if not language:
                raise DataError.at(
                    line.where, f"{columns.language} is empty", "Write the language of the row"
                )
            found.setdefault(language, []).append(line)
        except DataError as error:
            if not columns.id:  # which rows belong together is told by their order, and it is lost
                raise
            unread.append(Line(line.where, error))
    if not found:
        raise unread[0].value
    tables = {name: found[name] for name in check_languages(languages or found, found, path)}
    next(iter(tables.values())).extend(unread)
    return tables


def _rows(files: Sequence[Path]) -> list[Line]:
    """The rows of files, without those of empty cells that spreadsheets leave behind the last one.

    Raises:
        DataError: there are none.
    """
    lines = list(lines_of(files))
    while lines and _is_empty(lines[-1]):
        lines.pop()
    if not lines:
        raise DataError.at(str(files[0]), "every row is empty", "Give the file with the questions")
    return lines


def _is_empty(line: Line) -> bool:
    return isinstance(line.value, dict) and all(
        cell is None or not str(cell).strip() for cell in line.value.values()
    )


def _named(lines: Sequence[Line], wanted: Sequence[str], languages: Sequence[str] | None) -> list[str]:
    """The languages that a table has all columns of: those given, or the words in the place of `{language}` that look
    like one, and whose prompts are texts."""
    records = [line.value for line in lines if isinstance(line.value, dict)]
    keys = dict.fromkeys(key for record in records for key in _keys(record))
    if not records:
        lines[0].get()  # why none can be read
    patterns = [re.compile(re.escape(name).replace(re.escape(LANGUAGE), "(.+)")) for name in wanted]
    found = [[match[1] for key in keys if (match := pattern.fullmatch(key))] for pattern in patterns]
    words = [word for word in found[0] if all(word in own for own in found)]
    if languages is None:
        first = [wanted[0].replace(LANGUAGE, word) for word in words]
        texts = [any(_is_words(record.get(name)) for record in records) or "." in name for name in first]
        known = [word for word, own in zip(words, texts, strict=True) if own and looks_like_language(word)]
    else:
        known = words
    if not known:
        told = ", ".join(wanted)
        has = ", ".join(list(keys)[:16]) or "no columns"
        mend = f"Say which of {', '.join(words)} are: languages=A+B" if words else "Name these"
        raise DataError.at(lines[0].where, f"no language has the columns {told}; there are {has}", mend)
    return known


def _keys(record: Mapping[str, Any] | list, before: str = "") -> Iterator[str]:
    """The columns of a row, those of objects with a dot."""
    for key, value in record.items() if isinstance(record, Mapping) else enumerate(record):
        yield f"{before}{key}"
        if isinstance(value, dict | list):
            yield from _keys(value, f"{before}{key}.")


def _is_words(value: Any) -> bool:
    """Whether a cell holds a text, and no number."""
    return isinstance(value, str) and bool(value.strip()) and not _NUMBER.fullmatch(value.strip())


def _by_key(
    questions: Sequence[Question | DataError], cells: Sequence[Cell | DataError], where: str
) -> dict[str, Question | DataError]:
    table: dict[str, Question | DataError] = {}
    for place, (question, cell) in enumerate(zip(questions, cells, strict=True)):
        key = f"{where}:{place}" if isinstance(cell, DataError) else cell.key
        if key in table:
            question = DataError.at(cell.where, f"id {key!r} stands twice", "Name a column of unique ids")
        table[key] = question
    return table


# -------------------------------------------------------------------------------------------------------------- answers
def _counted(start: int) -> Callable[[Cell], int | None]:
    def read(cell: Cell) -> int | None:
        found = _NUMBER.fullmatch(str(cell.gold).strip())
        number = int(found[1]) - start if found else -1
        return number if 0 <= number < len(cell.candidates) else None

    return read


def _lettered(cell: Cell) -> int | None:
    text = str(cell.gold).strip().strip("().").upper()
    number = LETTERS.find(text) if len(text) == 1 else -1
    return number if 0 <= number < len(cell.candidates) else None


def _spelt(cell: Cell) -> int | None:
    texts = [text.strip() for text in cell.candidates]
    text = str(cell.gold).strip()
    return texts.index(text) if text in texts else None


READINGS: dict[str, Callable[[Cell], int | None]] = {
    "0": _counted(0),
    "1": _counted(1),
    "letter": _lettered,
    "text": _spelt,
}


def _reading(cells: Mapping[str, Sequence[Cell | DataError]], numbered: str) -> Callable[[Cell], int | None]:
    """How the column of right answers is to be read: as fits the most rows.

    Raises:
        DataError: several fit equally many rows and tell other answers.
    """
    if numbered != "auto":
        return READINGS[numbered]
    every = [
        cell for own in cells.values() for cell in own if isinstance(cell, Cell) and cell.gold is not None
    ]
    told = {name: [reading(cell) for cell in every] for name, reading in READINGS.items()}
    counts = {name: sum(each is not None for each in own) for name, own in told.items()}
    most = max(counts.values(), default=0)
    best = [name for name, count in counts.items() if count == most]
    if most and any(told[name] != told[best[0]] for name in best):
        words = {"0": "counted from 0", "1": "counted from 1", "letter": "by letter", "text": "by text"}
        kinds = " or ".join(words[name] for name in best)
        cell = next(cell for cell, *own in zip(every, *(told[name] for name in best)) if len(set(own)) > 1)
        reason = f"the right answer {cell.gold!r:.40} may be told {kinds}"
        raise DataError.at(cell.where, reason, f"Say which: numbered={best[0]}")
    return READINGS[best[0]]


def _question(
    cell: Cell, reading: Callable[[Cell], int | None] | None, language: str, answers: str, join: str
) -> Question:
    answer = None if reading is None or cell.gold is None else reading(cell)
    if cell.gold is not None and answer is None:
        reason = f"the right answer is {cell.gold!r:.40}, of {len(cell.candidates)} candidates"
        raise DataError.at(
            cell.where, reason, "Leave gold out where the set has no labels, or say numbered=0, 1, ..."
        )
    prompt, candidates = cell.prompt, cell.candidates
    if answers == "letters" and len(candidates) > len(LETTERS):
        reason = f"{len(candidates)} candidates, and letters for {len(LETTERS)}"
        raise DataError.at(cell.where, reason, "Take answers=full or plain")
    if answers != PLAIN:
        prompt, candidates = prompt.strip(), tuple(text.strip() for text in candidates)
        if not all((prompt, *candidates)):
            raise DataError.at(cell.where, "the question or an option is empty", "Write it, or drop the row")
    elif join == "space":
        space = "" if MASK in prompt or not parted(language) else " "
        prompt, candidates = prompt.strip(), tuple(space + text.strip() for text in candidates)
    return Question(prompt, candidates, answer, cell.where, cell.group, cell.key)
