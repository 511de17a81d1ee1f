"""X-CSQA: commonsense questions with five options in 16 languages, from the original JSON lines.

Source: Lin et al., "Common Sense Beyond English", ACL 2021. One folder a language (`en/dev.jsonl`; Japanese is `jap`),
one object a line: `{"id", "lang", "question": {"stem", "choices": [{"label": "A", "text"} x 5]}, "answerKey": "D"}`, or
with the choices as the Hub has them, `{"label": ["A", ...], "text": [...]}`.
Ids are shared by the languages. dev has 1,000 rows with labels; the labels of the test file were never published.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from consistency_jax.data.items import DataError
from consistency_jax.data.sources.choices import ANSWERS, LETTERS, Question, choice_row
from consistency_jax.data.sources.files import AGAIN, first_file, text_of
from consistency_jax.data.sources.parallel import by_id, check_alike, keyed
from consistency_jax.data.sources.source import Experiment, Row, Rows, Source, Typical, each

LANGUAGES = ("en", "zh", "de", "es", "fr", "it", "ja", "nl", "pl", "pt", "ru", "ar", "vi", "hi", "sw", "ur")
DOWNLOAD = "Set data.path to the folder X-CSQA, which holds en/dev.jsonl, zh/dev.jsonl ..."
SOURCE = Source(
    "candidate",
    DOWNLOAD,
    LANGUAGES,
    train_size=800,
    values={"part": ("dev", "test"), "answers": ANSWERS},
    experiment=Experiment(1400, LANGUAGES, instances=5600),  # 800 questions, seven draws of each
    typical=Typical(candidates=5, prompt=25, answer=3),  # as its description lets one expect
)
CHOICES = 5


def read(path: Path, languages: Sequence[str], *, part: str = "dev", answers: str = "letters") -> Rows:
    """Reads X-CSQA.

    Args:
        path: the folder with one folder a language (or `X-CSQA/` in it, or files `en.jsonl` ...).
        part: which of the original files, "dev" (with labels) or "test" (without).
        answers: "letters" (options in the prompt, " A" ... " E" as candidates) or "full" (the options themselves).

    Returns:
        The original ids, in the order of the English file.

    Raises:
        DataError: naming file, reason and mend.
    """
    files = {language: _file(path, language, part) for language in languages}
    tables = {language: _table(file, language, part) for language, file in files.items()}
    order = _order(path, part, tables)
    questions, warnings = by_id(order, tables, files)
    keys = list(order)

    def make(i: int, own: Mapping[str, Question]) -> Row:
        check_alike(own, "answer")
        return choice_row(keys[i], own, answers)

    return Rows(each(questions, make), warnings, published=1000 if part == "dev" else 0)


def _file(folder: Path, language: str, part: str) -> Path:
    names = [language, "jap"] if language == "ja" else [language]
    places = [f"{name}/{part}.jsonl" for name in names]
    places += [f"X-CSQA/{place}" for place in places] + [f"{name}.jsonl" for name in names]
    return first_file(folder, places, f"{part} file of {language!r}", DOWNLOAD)


def _order(folder: Path, part: str, tables: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The English rows, in whose order the ids come whatever languages were asked for; the first's without them."""
    try:
        return tables.get("en") or _table(_file(folder, "en", part), "en", part)
    except DataError:
        return next(iter(tables.values()))


def _table(file: Path, language: str, part: str) -> dict[str, Question | DataError]:
    return keyed(file, "id", lambda record, where: _question(record, where, language, part))


def _question(record: dict[str, Any], where: str, language: str, part: str) -> Question:
    named = text_of(record, "lang", where) if "lang" in record else language
    if {named, language} - {"ja", "jap"} and named != language:
        raise DataError.at(where, f"the language is {named!r}, not {language!r}", AGAIN)
    question = record.get("question")
    stem = text_of(question, "stem", where)
    if not stem:
        raise DataError.at(where, "the stem is empty", "Drop the row: data.on_error=skip")
    options = _options(question.get("choices"), where)
    answer = text_of(record, "answerKey", where) if "answerKey" in record or part == "dev" else ""
    if answer not in options and (answer or part == "dev"):
        reason = f"answerKey is {answer!r}, with choices {', '.join(options)}"
        raise DataError.at(where, reason, "Take the dev file, which has labels")
    gold = list(options).index(answer) if answer else None
    return Question(stem, tuple(options.values()), gold, where)


def _options(choices: Any, where: str) -> dict[str, str]:
    """label -> text, in the order of the labels."""
    if isinstance(choices, dict) and isinstance(labels := choices.get("label"), list):  # as the Hub holds it
        texts = choices.get("text")
        if not isinstance(texts, list) or len(texts) != len(labels):
            raise DataError.at(where, "choices has other numbers of labels and texts", AGAIN)
        choices = [{"label": label, "text": text} for label, text in zip(labels, texts, strict=True)]
    if not isinstance(choices, list):
        raise DataError.at(where, "choices is not a list", AGAIN)
    options = {text_of(c, "label", where): text_of(c, "text", where) for c in choices}
    if sorted(options) != list(LETTERS[:CHOICES]) or len(choices) != CHOICES:
        found = ", ".join(map(repr, options))
        raise DataError.at(where, f"choices are labelled {found}, not A to E", AGAIN)
    for label, text in options.items():
        if not text:
            raise DataError.at(where, f"choice {label} is empty", "Drop the row: data.on_error=skip")
    return dict(sorted(options.items()))
