"""Parallel instructions without answers: one JSON-lines file a language, as the translations of Vicuna's 80 questions.

`questions_English.jsonl`, `questions_Deutsch.jsonl` ...: question_id, text, category; ids are shared by the languages.
What CM-Align samples its answers from. A file may be named by the language's code as well (`questions_sw.jsonl`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from consistency_jax.data.items import DataError, check_languages
from consistency_jax.data.sources.files import text_of
from consistency_jax.data.sources.parallel import by_id, keyed
from consistency_jax.data.sources.source import Row, Rows, Source, bare_row, each

CODES = {
    **{"English": "en", "Arabic": "ar", "Chinese": "zh", "Deutsch": "de", "French": "fr", "Hindi": "hi"},
    **{"Indonesian": "id", "Italian": "it", "Japanese": "ja", "Korean": "ko", "Portuguese": "pt"},
    "Spanish": "es",
}
DOWNLOAD = "Set data.path to the folder with questions_English.jsonl, questions_Deutsch.jsonl ..."
SOURCE = Source("written", DOWNLOAD, train_size=0, answers=False)


class Instruction(NamedTuple):
    """One instruction in one language."""

    text: str
    category: str
    where: str


def read(path: Path, languages: Sequence[str] | None) -> Rows:
    """Reads parallel instructions, the folder with one file a language (None = all that are there, English first).

    Returns:
        Ids `instruction-<question_id>`, in the order of the English file (else the first); group = the category.

    Raises:
        DataError: no file, or an unknown language.
    """
    files = {}
    for file in sorted(path.glob("questions_*.jsonl")):
        name = file.stem.removeprefix("questions_")
        files[CODES.get(name, name)] = file
    if not files:
        raise DataError.at(str(path), "no file questions_<language>.jsonl", DOWNLOAD)
    known = sorted(files, key=lambda code: (code != "en", code))
    languages = check_languages(languages or known, known, str(path))
    order = keyed(files[known[0]], "question_id", _instruction)
    tables = {k: keyed(files[k], "question_id", _instruction) for k in languages}
    rows, warnings = by_id(order, tables, files)
    keys = list(order)

    def make(i: int, own: Mapping[str, Instruction]) -> Row:
        first = order[keys[i]]
        texts = {language: instruction.text for language, instruction in own.items()}
        return bare_row(f"instruction-{keys[i]}", first.category, texts, first.where)

    return Rows(each(rows, make), warnings)


def _instruction(record: dict[str, Any], where: str) -> Instruction:
    text, category = (text_of(record, name, where) for name in ("text", "category"))
    return Instruction(text, category, where)
