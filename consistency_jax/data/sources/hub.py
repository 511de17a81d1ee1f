"""Multiple-choice questions as the published DCO code reads them: the re-uploads JRQi/BMLAMA17, JRQi/MMMLU, JRQi/XCSQA.

Columns: `Prompt`, `Ans`, `Candidate Ans` (the text of a Python list, or a list), one configuration a language, rows
parallel by index. From the Hugging Face Hub, or from a folder with the same files: CSV, TSV, JSON lines or Parquet, as
`en.tsv`, `en/test.parquet` or `bmlama_en.csv`. Lists are parsed as literals; no text is ever run.
"""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from consistency_jax.data.items import MASK, DataError, ParallelItem, check_languages
from consistency_jax.data.sources import bmlama17, mmmlu
from consistency_jax.data.sources.files import AGAIN, Line, json_lines, records
from consistency_jax.data.sources.parallel import by_place, check_alike
from consistency_jax.data.sources.source import Experiment, Row, Rows, Source, each
from consistency_jax.runtime.files import expanded

COLUMNS = ("Prompt", "Ans", "Candidate Ans")
ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")
NO_SPACES = frozenset(("zh", "ja", "th"))  # written without spaces between words
DOWNLOAD = "Set data.path to a folder with one file a language, or to a data set of the Hub, JRQi/MMMLU say"


def languages_at(path: str) -> tuple[str, ...]:
    """The published languages of a re-upload, by whose order its instances are drawn; () for another path."""
    for part in reversed(Path(path).parts):
        for name, languages in (("mmmlu", mmmlu.LANGUAGES), ("bmlama17", bmlama17.LANGUAGES)):
            if name in part.lower().replace("-", ""):
                return languages
    return ()


SOURCE = Source(
    "written",
    train_size=5000,
    values={"join": ("space", "verbatim")},
    experiment=Experiment(1250, instances=5000),
    languages_at=languages_at,
)


class Question(NamedTuple):
    """One question in one language."""

    prompt: str
    candidates: tuple[str, ...]
    answer: int
    where: str


def read(
    path: Path | None,
    languages: Sequence[str] | None,
    *,
    part: str = "test",
    shuffle: bool = True,
    join: str = "space",
) -> Rows:
    """Reads a data set with the columns Prompt, Ans and Candidate Ans.

    Args:
        path: a folder, or the id of a data set on the Hub; `{language}` in it stands for each language.
        languages: None = all that the files are named by.
        part: which file of a language, where it has several: its name holds this word.
        shuffle: the order of candidates: one seed a row, shared by the languages (in BMLAMA the gold stands last);
            False keeps the files'.
        join: "space": where the answer follows the prompt (there is no `<mask>`) it is parted from it by one space,
            except in Chinese, Japanese and Thai. "verbatim": prompt and answer stand as the file has them, as the
            published code joins them.

    Returns:
        Ids `hub-<row>` and no groups.

    Raises:
        DataError: naming file, reason and mend.
    """
    if path is None:
        raise DataError.at("data.path", "the source 'hub' needs a folder or a Hub id", DOWNLOAD)
    files = _files(str(path), languages, part)
    languages = check_languages(languages or files, files, str(path))
    tables = {k: each(_lines(files[k]), lambda _, line, k=k: _question(line, k, join)) for k in languages}

    def make(i: int, own: Mapping[str, Question]) -> Row:
        check_alike(own, "answer")
        item = ParallelItem(
            id=f"hub-{i:05d}",
            group="",
            prompts={language: question.prompt for language, question in own.items()},
            candidates={language: question.candidates for language, question in own.items()},
            gold=own[languages[0]].answer,
        )
        return Row(item, own[languages[-1]].where)

    return Rows(each(by_place(tables, path), make), shuffle="hub" if shuffle else "")


# ----------------------------------------------------------------------------------------------------------------- rows
def _question(line: Line, language: str, join: str) -> Question:
    record = line.get()
    if not isinstance(record, dict) or not all(column in record for column in COLUMNS):
        raise DataError.at(line.where, f"the row lacks one of {', '.join(COLUMNS)}", AGAIN)
    prompt, answer, candidates = (record[column] for column in COLUMNS)
    if not isinstance(prompt, str) or not isinstance(answer, str):
        raise DataError.at(line.where, "Prompt or Ans is not a text", AGAIN)
    candidates = _literal(candidates, line.where)
    if answer not in candidates:
        raise DataError.at(line.where, f"Ans {answer!r:.60} is not among the candidates", AGAIN)
    if join == "verbatim":
        return Question(prompt, tuple(candidates), candidates.index(answer), line.where)
    space = "" if MASK in prompt or language in NO_SPACES else " "
    texts = tuple(space + text.strip() for text in candidates)
    return Question(prompt.strip(), texts, candidates.index(answer), line.where)


def _literal(value: Any, where: str) -> list[str]:
    """The list of texts that a cell holds or spells."""
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise DataError.at(where, f"Candidate Ans {value!r:.60} is no list of texts", AGAIN) from None
    if not isinstance(value, list | tuple) or not all(isinstance(text, str) for text in value):
        raise DataError.at(where, f"Candidate Ans {value!r:.60} is no list of texts", AGAIN)
    return list(value)


def _lines(file: Path) -> Iterator[Line]:
    if file.suffix == ".jsonl":
        return json_lines(file)
    if file.suffix == ".parquet":
        return _parquet_lines(file)
    return records(file, COLUMNS, "\t" if file.suffix == ".tsv" else ",")


def _parquet_lines(file: Path) -> Iterator[Line]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise DataError.at(str(file), "reading Parquet needs pyarrow", "pip install pyarrow") from None
    try:
        names = parquet.read_schema(file).names
        missing = [column for column in COLUMNS if column not in names]
        if missing:
            raise DataError.at(
                str(file), f"no column {', '.join(map(repr, missing))}", "Use the original file"
            )
        rows = parquet.read_table(file, columns=list(COLUMNS)).to_pylist()
    except (ArrowException, OSError) as error:
        reason = str(error).split("\n")[0]
        raise DataError.at(str(file), f"the file cannot be read ({reason:.100})", AGAIN) from None
    return (Line(f"{file}:{number}", row) for number, row in enumerate(rows, start=1))


# ---------------------------------------------------------------------------------------------------------------- files
def _files(path: str, languages: Sequence[str] | None, part: str) -> dict[str, Path]:
    """language -> its file."""
    if "{language}" not in path:
        folder = _folder(path)
        found = _by_language(folder, languages, part)
        if not found:
            wanted = "*.csv, *.tsv, *.jsonl or *.parquet named by a language"
            raise DataError.at(path, f"no file {wanted} here", DOWNLOAD)
        return found
    if languages is None:
        raise DataError.at("data.languages", f"the path {path} needs to be told its languages", "Name them")
    files = {}
    for language in languages:
        folder = _folder(path.replace("{language}", language))
        files[language] = folder if folder.is_file() else _one(_data_files(folder), str(folder), part)
    return files


def _folder(path: str) -> Path:
    """The path itself, or a snapshot of the Hub's data set of this name, downloaded once."""
    local = expanded(path)
    if local.exists():
        return local
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", path):
        raise DataError.at(path, "no such folder", DOWNLOAD)
    from huggingface_hub import snapshot_download

    try:
        patterns = [f"*{ending}" for ending in ENDINGS]
        return Path(snapshot_download(path, repo_type="dataset", allow_patterns=patterns))
    except Exception as error:  # the hub client raises network, permission and name errors of many kinds
        reason = str(error).strip().split("\n")[0]
        raise DataError.at(
            path, f"no such folder, and the Hub gave no data set ({reason})", DOWNLOAD
        ) from error


def _by_language(folder: Path, languages: Sequence[str] | None, part: str) -> dict[str, Path]:
    """A language's files are in a folder of its name, or named by it (`en.tsv`, `bmlama_en.csv`, `en-test.csv`)."""
    own: dict[str, list[Path]] = {}
    for file in _data_files(folder):
        *folders, stem = file.relative_to(folder).with_suffix("").parts
        words = [
            word for name in folders for word in (name, name.rpartition("_")[2], name.rpartition("-")[2])
        ]
        words += re.split(r"[-_.]", stem)
        for word in dict.fromkeys(words):
            if word in languages if languages is not None else re.fullmatch("[a-z]{2,3}", word):
                own.setdefault(word, []).append(file)
                break
    return {
        language: _one(files, f"{folder}, language {language!r}", part) for language, files in own.items()
    }


def _data_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.suffix in ENDINGS and file.is_file())


def _one(files: list[Path], where: str, part: str) -> Path:
    named = [file for file in files if part in re.split(r"[-_.]", file.stem)] or files
    if len(named) != 1:
        found = ", ".join(file.name for file in named[:6]) or "none"
        raise DataError.at(
            where, f"{len(named)} files where one is wanted ({found})", "Set data.options.part"
        )
    return named[0]
