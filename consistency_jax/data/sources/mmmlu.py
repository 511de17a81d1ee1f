"""MMMLU: the 14,042 test questions of MMLU in 15 languages, from the original files.

Sources: Hendrycks et al., "Measuring Massive Multitask Language Understanding", ICLR 2021 (English: one CSV without
header a subject, `test/anatomy_test.csv`); OpenAI's MMMLU (one CSV a locale, `mmlu_AR-XY.csv` with columns "",
Question, A, B, C, D, Answer, Subject, and no English). English in that form (`mmlu_EN-US.csv`) is read too, and so is
one file of parallel JSON lines, `{"id", "subject", "answer": "B", "en": [question, A, B, C, D], "ar": [...]}`. Rows are
parallel by index: MMLU's subjects in alphabetical order.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from consistency_jax.data.items import DataError, check_languages
from consistency_jax.data.sources.choices import ANSWERS, Question, ask, choice_row
from consistency_jax.data.sources.files import AGAIN, Line, csv_lines, json_lines, records, text_of
from consistency_jax.data.sources.parallel import by_place, check_alike
from consistency_jax.data.sources.source import Experiment, Row, Rows, Source, Typical, each
from consistency_jax.runtime.files import expanded

CODES = (
    *("EN_US", "AR_XY", "BN_BD", "DE_DE", "ES_LA", "FR_FR", "HI_IN", "ID_ID"),
    *("IT_IT", "JA_JP", "KO_KR", "PT_BR", "SW_KE", "YO_NG", "ZH_CN"),
)
LOCALES = {code[:2].lower(): code for code in CODES}
LANGUAGES = tuple(LOCALES)
LETTERS = "ABCD"
DOWNLOAD = "Set data.path to the folder with mmlu_AR-XY.csv ... and MMLU's test/*_test.csv, or to one parallel .jsonl"
SOURCE = Source(
    "candidate",
    DOWNLOAD,
    train_size=5000,
    values={"answers": ANSWERS},
    experiment=Experiment(1250, LANGUAGES, instances=5000),
    typical=Typical(candidates=4, prompt=115, answer=11),  # means over the data
)

Table = list[Question | DataError]


def read(
    path: Path,
    languages: Sequence[str] | None,
    *,
    english: str = "",
    answers: str = "letters",
    shots: int = 0,
    dev: str = "",
    shots_language: str = "",
) -> Rows:
    """Reads MMMLU.

    Args:
        path: the folder with the CSV files (there, or in its folder `test`), or a file of parallel JSON lines.
        languages: None = all that are there.
        english: folder (or file) of the English questions, where they are not in `path`.
        answers: "letters" (options in the prompt, " A" ... " D" as candidates) or "full" (the options themselves).
        shots: solved questions of the same subject before each question, from the dev split.
        dev: where those are, in any form that path may have; empty: the folder `dev` beside the test questions.
            OpenAI translated no dev questions: `shots_language=en` takes MMLU's own.
        shots_language: language of the solved questions; empty: that of the question.

    Returns:
        Ids `mmmlu-<row>`, group = the subject.

    Raises:
        DataError: naming file, reason and mend.
    """
    english, dev = (str(expanded(name)) if name else "" for name in (english, dev))
    tables = _tables(path, languages, "test", english)
    before = _shots(path, dev, tuple(tables), shots_language, shots, answers)

    def make(i: int, own: Mapping[str, Question]) -> Row:
        check_alike(own, "subject", "answer", "number")
        first = next(iter(own.values()))
        context = {language: _context(before, language, first) for language in own} if shots else None
        return choice_row(f"mmmlu-{i:05d}", own, answers, context)

    return Rows(each(by_place(tables, path), make), published=14042)


# ---------------------------------------------------------------------------------------------------- solved questions
def _shots(
    path: Path, dev: str, languages: Sequence[str], shots_language: str, shots: int, answers: str
) -> dict[str, dict[str, str]]:
    """language -> subject -> its solved questions as text."""
    if shots < 0 or (not shots and (dev or shots_language)):
        raise DataError.at("data.options.shots", f"shots={shots}", "Give the number of solved questions")
    if not shots:
        return {}
    sources = {language: shots_language or language for language in languages}
    asked = check_languages(dict.fromkeys(sources.values()), LANGUAGES, "data.options.shots_language")
    tables = _tables(Path(dev) if dev else path, asked, "dev", "", beside=not dev)
    solved: dict[str, dict[str, list[str]]] = {}
    for language, table in tables.items():
        subjects: dict[str, list[str]] = defaultdict(list)
        for question in table:
            if isinstance(question, DataError):
                raise question
            prompt, candidates = ask(language, question.text, question.options, answers)
            if len(subjects[question.subject]) < shots:
                subjects[question.subject].append(prompt + candidates[question.answer])
        for subject, texts in subjects.items():
            if len(texts) < shots:
                reason = f"{len(texts)} solved questions in {language!r} for {subject!r}"
                raise DataError.at("data.options.shots", reason, f"Take shots={len(texts)} or fewer")
        solved[language] = subjects
    joined = {k: {s: "\n\n".join(texts) for s, texts in subjects.items()} for k, subjects in solved.items()}
    return {language: joined[source] for language, source in sources.items()}


def _context(before: dict[str, dict[str, str]], language: str, question: Question) -> str:
    if question.subject not in before[language]:
        reason = f"no solved question for its subject {question.subject!r}"
        raise DataError.at(question.where, reason, "Give the whole dev split, data.options.dev")
    return before[language][question.subject]


# ---------------------------------------------------------------------------------------------------------------- files
def _tables(
    path: Path, languages: Sequence[str] | None, part: str, english: str, beside: bool = False
) -> dict[str, Table]:
    """The questions of a part ("test" or "dev") in each language; `beside`: in the folder of that name only."""
    if path.is_dir():
        found = [] if beside else sorted((*path.glob("*.jsonl"), *path.glob("*.jsonl.gz")))
        files = _locale_files(path, part, english, beside)
        if found and not files:
            if len(found) > 1:
                raise DataError.at(str(path), f"{len(found)} .jsonl files", "Set data.path to one of them")
            return _parallel_file(found[0], languages)
        if not files:
            raise DataError.at(str(path), f"no questions of the {part} split here", DOWNLOAD)
        if languages is None:
            languages = [language for language in LANGUAGES if language in files]
        languages = check_languages(languages, LANGUAGES, "mmmlu")
        for language in languages:
            if language not in files:
                name = f"mmlu_{LOCALES[language].replace('_', '-')}.csv"
                reason = f"no {part} questions in {language!r}" + (
                    f" ({name}, or MMLU's folder of *_{part}.csv)" if language == "en" else f" ({name})"
                )
                raise DataError.at(str(path), reason, DOWNLOAD if part == "test" else "See data.options.dev")
        return {language: _table(files[language], part) for language in languages}
    if beside:
        raise DataError.at(str(path), "a file has no dev split beside it", "Set data.options.dev")
    return _parallel_file(path, languages)


def _locale_files(path: Path, part: str, english: str, beside: bool) -> dict[str, list[Path]]:
    """language -> its files: one with a header, or one a subject without."""
    codes = {locale: language for language, locale in LOCALES.items()}
    folders = [path / part] if beside else [path / part, path]
    files: dict[str, list[Path]] = {}
    for folder in (*folders, *(Path(english) / part, Path(english)) * bool(english)):
        subjects = sorted(folder.glob(f"*_{part}.csv"))
        if subjects:
            files.setdefault("en", subjects)
        for file in sorted(folder.glob("*.csv")):
            code = re.search(r"(?:^|_)([A-Za-z]{2})[-_]([A-Za-z]{2})$", file.stem)
            language = codes.get(f"{code[1]}_{code[2]}".upper()) if code else None
            if language:
                files.setdefault(language, [file])
    if english and Path(english).is_file():
        files["en"] = [Path(english)]
    return files


def _table(files: Sequence[Path], part: str) -> Table:
    if files[0].stem.endswith(f"_{part}"):
        subjects = sorted((file.stem.removesuffix(f"_{part}"), file) for file in files)
        lines = [(subject, line) for subject, file in subjects for line in csv_lines(file)]
        return each(lines, lambda _, own: _of_subject(*own))
    seen: dict[str, str] = {}

    def make(_: int, line: Line) -> Question:
        row = line.get()
        texts = [row[name] for name in ("Question", *LETTERS)]
        question = _checked(texts, row["Answer"], row["Subject"], row.get("", ""), line.where)
        if question.number:
            _once(seen, f"number {question.number} of {question.subject}", line.where)
        return question

    return each(records(files[0], ("Question", *LETTERS, "Answer", "Subject")), make)


def _once(seen: dict[str, str], name: str, where: str) -> None:
    if seen.setdefault(name, where) != where:
        raise DataError.at(where, f"{name} was already used at {seen[name]}", AGAIN)


def _of_subject(subject: str, line: Line) -> Question:
    """The question of a row of a file without header, which is of one subject."""
    row = line.get()
    if len(row) != 6:
        raise DataError.at(line.where, f"the row has {len(row)} columns, not 6", AGAIN)
    return _checked(row[:5], row[5], subject, "", line.where)


def _checked(texts: Sequence[str], answer: str, subject: str, number: str, where: str) -> Question:
    question, *options = (text.strip() for text in texts)
    if answer.strip() not in tuple(LETTERS):
        raise DataError.at(where, f"the answer is {answer!r:.60}, not A, B, C or D", AGAIN)
    for name, text in zip(("question", *LETTERS), (question, *options)):
        if not text:
            raise DataError.at(where, f"{name} is empty", "Drop the row: data.on_error=skip")
    if not re.fullmatch(r"\w+", subject.strip()):
        raise DataError.at(where, f"the subject is {subject!r:.60}", AGAIN)
    return Question(question, tuple(options), LETTERS.index(answer.strip()), where, subject.strip(), number)


def _parallel_file(file: Path, languages: Sequence[str] | None) -> dict[str, Table]:
    """The tables of a file of parallel JSON lines, whose languages are those of most of its lines."""
    lines = list(json_lines(file))
    good = [line.value for line in lines if isinstance(line.value, dict)]
    if not good:
        raise DataError.at(str(file), "the file has no usable line", AGAIN)
    # "id" is the line's name here: Indonesian would have to be a list
    count = {language: sum(isinstance(row.get(language), list) for row in good) for language in LANGUAGES}
    known = [language for language in LANGUAGES if 2 * count[language] > len(good)]
    languages = check_languages(languages or known, known, str(file))

    seen: dict[str, str] = {}

    def make(_: int, line: Line) -> dict[str, Question]:
        row = line.get()
        key, answer, subject = (text_of(row, name, line.where) for name in ("id", "answer", "subject"))
        _once(seen, f"id {key!r}", line.where)
        texts = {language: _texts(row, language, line.where) for language in languages}
        return {k: _checked(own, answer, subject, key, line.where) for k, own in texts.items()}

    rows = each(lines, make)
    return {k: [row if isinstance(row, DataError) else row[k] for row in rows] for k in languages}


def _texts(row: dict[str, Any], language: str, where: str) -> list[str]:
    texts = row.get(language)
    if not isinstance(texts, list) or len(texts) != 5 or not all(isinstance(t, str) for t in texts):
        raise DataError.at(where, f"{language!r} is no list of question, A, B, C and D", AGAIN)
    return texts
