"""Tables with a row a question, in files of one language each or in files of all: CSV, TSV, JSON lines, Parquet; in a
folder, one file, or a data set of the Hugging Face Hub.
"""

import ast
import io
import itertools
import json
import re
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from babel import Locale, UnknownLocaleError

from consistency_jax.data.items import DataError
from consistency_jax.data.sources.files import AGAIN, OPENERS, Line, json_lines, records
from consistency_jax.runtime.files import HUB_ID, expanded

ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")
DOWNLOAD = (
    "Give a folder with files named by their languages, or a data set of the Hub; where a column tells the language, "
    "name it: language=COLUMN"
)
_LANGUAGE = re.compile("[a-z]{2,3}([-_]([A-Z][a-z]{3}|[A-Z]{2}))?")  # en, eng_Latn, pt-BR
_SHARD = re.compile(r"-\d+-of-\d+$")
_SPLITS = ("dev", "val")  # what looks like a language and is none


# ----------------------------------------------------------------------------------------------------------------- rows
def lines_of(files: Sequence[Path], columns: Sequence[str] = ()) -> Iterator[Line]:
    """The rows of files of one form as dictionaries, one after another.

    Args:
        columns: names that a CSV, TSV or Parquet file must hold.

    Raises:
        DataError: a file that cannot be read, is empty or lacks a column.
    """
    return itertools.chain.from_iterable(_lines(file, columns) for file in files)


def _lines(file: Path, columns: Sequence[str]) -> Iterator[Line]:
    form = form_of(file)
    if form not in ENDINGS:
        raise DataError.at(str(file), "its name ends as none that is read", f"Known: {', '.join(ENDINGS)}")
    if form == ".jsonl":
        return json_lines(file)
    if form == ".parquet":
        return _parquet_lines(file, columns)
    return records(file, columns, "\t" if form == ".tsv" else ",")


def form_of(file: Path) -> str:
    """How the name of a file ends, without what tells that it is packed."""
    return (Path(file.stem).suffix if file.suffix in OPENERS else file.suffix).lower()


def _parquet_lines(file: Path, columns: Sequence[str]) -> Iterator[Line]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise DataError.at(str(file), "reading Parquet needs pyarrow", "pip install pyarrow") from None
    try:
        names = parquet.read_schema(file).names
        missing = [column for column in columns if column not in names]
        if missing:
            reason = f"no column {', '.join(map(repr, missing))}; the file has {', '.join(names[:12])}"
            raise DataError.at(str(file), reason, "Use the original file")
        rows = parquet.read_table(file, columns=list(columns) or None).to_pylist()
    except (ArrowException, OSError) as error:
        reason = str(error).split("\n")[0]
        raise DataError.at(str(file), f"the file cannot be read ({reason:.100})", AGAIN) from None
    return (Line(f"{file}:{number}", row) for number, row in enumerate(rows, start=1))


def texts_of(value: Any, column: str, where: str) -> list[str]:
    """The list of texts that a cell holds, or spells as JSON or as a literal of Python; nothing is ever run.

    Raises:
        DataError: it does not, or two texts stand there without a comma, as numpy prints them.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = _literal(value, column, where)
    if not isinstance(value, list | tuple) or not all(isinstance(text, str) for text in value):
        raise DataError.at(where, f"{column} {value!r:.60} is no list of texts", AGAIN)
    return list(value)


def _literal(text: str, column: str, where: str) -> Any:
    try:
        value = ast.literal_eval(text)
        tokens = tokenize.generate_tokens(io.StringIO(text.strip()).readline)
        between = (tokenize.NL, tokenize.NEWLINE, tokenize.COMMENT)
        words = [token.type for token in tokens if token.type not in between]
    except (ValueError, SyntaxError, MemoryError, RecursionError, tokenize.TokenError):
        raise DataError.at(where, f"{column} {text!r:.60} is no list of texts", AGAIN) from None
    if (tokenize.STRING, tokenize.STRING) in zip(words, words[1:]):  # Python would join them
        raise DataError.at(
            where, f"{column} {text!r:.60} has texts without a comma between", "Write ['a', 'b']"
        )
    return value


# ---------------------------------------------------------------------------------------------------------------- files
def files_by_language(path: str, languages: Sequence[str] | None, part: str) -> dict[str, list[Path]]:
    """language -> its file, or the parts that it was cut into; `{language}` in the path stands for each.

    Args:
        part: which file of a language, where it has several: its name holds this word.

    Raises:
        DataError: no such folder, no file named by a language, or several of one.
    """
    if "{language}" not in path:
        folder = folder_of(path)
        found = _by_language(folder, languages, part)
        if not found:
            wanted = f"{', '.join(f'*{ending}' for ending in ENDINGS)} named by a language"
            raise DataError.at(path, f"no file {wanted} here", DOWNLOAD)
        return found
    if languages is None:
        raise DataError.at("data.languages", f"the path {path} needs to be told its languages", "Name them")
    files = {}
    for language in languages:
        folder = folder_of(path.replace("{language}", language))
        files[language] = (
            [folder] if folder.is_file() else _one(data_files(folder), str(folder), part, folder)
        )
    return files


def folder_of(path: str) -> Path:
    """The path itself, or a snapshot of the Hub's data set of this name, downloaded once.

    Raises:
        DataError: it is neither.
    """
    local = expanded(path)
    if local.exists():
        return local
    if not HUB_ID.fullmatch(path):
        raise DataError.at(path, "no such file or folder", DOWNLOAD)
    from huggingface_hub import snapshot_download

    try:
        patterns = [f"*{ending}" for ending in ENDINGS]
        return Path(snapshot_download(path, repo_type="dataset", allow_patterns=patterns))
    except Exception as error:  # the hub client raises network, permission and name errors of many kinds
        reason = str(error).strip().split("\n")[0]
        raise DataError.at(
            path, f"no such file or folder, and the Hub gave no data set ({reason})", DOWNLOAD
        ) from error


def files_of_all(path: str, part: str) -> list[Path]:
    """The file itself, or the folder's files; of several those whose names hold the part.

    Raises:
        DataError: there are none, or none of several holds the part.
    """
    folder = folder_of(path)
    files = [folder] if folder.is_file() else data_files(folder)
    if not files:
        raise DataError.at(path, f"no file {', '.join(f'*{ending}' for ending in ENDINGS)} here", DOWNLOAD)
    named = [file for file in files if _has(file, part, folder if folder.is_dir() else folder.parent)]
    if not named and len(files) > 1:
        found = ", ".join(str(file.relative_to(folder)) for file in files[:6])
        raise DataError.at(
            path, f"{len(files)} files, and none is named {part!r} ({found})", "Say which: part=WORD"
        )
    if len(forms := sorted({file.suffix for file in named or files})) > 1:
        raise DataError.at(path, f"files in several forms ({', '.join(forms)})", "Give the files of one form")
    return named or files


def data_files(folder: Path) -> list[Path]:
    """Every table below a folder, by name."""
    return sorted(file for file in folder.rglob("*") if file.suffix in ENDINGS and file.is_file())


def _by_language(folder: Path, languages: Sequence[str] | None, part: str) -> dict[str, list[Path]]:
    """A language's files are in a folder of its name, or named by it (`en.tsv`, `bmlama_en.csv`, `en-test.csv`)."""
    words, whole = {}, {}
    base, files = (folder.parent, [folder]) if folder.is_file() else (folder, data_files(folder))
    for file in files:
        *folders, stem = file.relative_to(base).with_suffix("").parts
        named = [
            word for name in folders for word in (name, name.rpartition("_")[2], name.rpartition("-")[2])
        ]
        # Of one file alone nothing tells which of its words is a language, unless that is said: my_data.csv.
        several = folder.is_dir() or languages is not None
        named = dict.fromkeys([*named, stem, *(re.split(r"[-_.]", stem) if several else [])])
        words[file] = [
            word for word in named if word not in _SPLITS and _names(word, languages, folder.is_file())
        ]
        whole[file] = {*folders, stem}
    # A word of every file's name (`set` of set_en, set_sw) is no language, where others tell the files apart.
    common = set.intersection(*map(set, words.values())) if len(words) > 1 and languages is None else set()
    own: dict[str, list[Path]] = {}
    for file, named in words.items():
        for word in [word for word in named if word not in common] or named:
            own.setdefault(word, []).append(file)
            break
    for language, files in own.items():  # `et` goes before `translation-et`
        own[language] = [file for file in files if language in whole[file]] or files
    lacking = [name for name, files in own.items() if not any(_has(file, part, base) for file in files)]
    if 0 < len(lacking) < len(own):
        reason = f"some languages have a file named {part!r}, and none has {', '.join(lacking)}"
        raise DataError.at(str(folder), reason, "Say which: part=WORD, or name the languages that have one")
    return {
        language: _one(files, f"{folder}, language {language!r}", part, base)
        for language, files in own.items()
    }


def _names(word: str, languages: Sequence[str] | None, known: bool) -> bool:
    """Whether a word is a language: one of those wanted, or what looks like one, and (`known`) has a name."""
    if languages is not None:
        return word in languages
    return looks_like_language(word) and (not known or len(word) > 3 or _is_named(word))


def looks_like_language(word: str) -> bool:
    """en, eng_Latn, pt-BR."""
    return bool(_LANGUAGE.fullmatch(word)) and word not in _SPLITS


def _is_named(word: str) -> bool:
    try:
        return Locale.parse(word.replace("-", "_")).get_display_name("en") is not None
    except (UnknownLocaleError, ValueError):
        return False


def _one(files: list[Path], where: str, part: str, below: Path) -> list[Path]:
    named = [file for file in files if _has(file, part, below)] or files
    if len({file.with_name(_SHARD.sub("", file.stem) + file.suffix) for file in named}) != 1:
        found = ", ".join("/".join(file.parts[-2:]) for file in named[:6]) or "none"
        raise DataError.at(where, f"{len(named)} files where one is wanted ({found})", "Say which: part=WORD")
    return named


def _has(file: Path, part: str, below: Path) -> bool:
    """Whether a word of a file's name, or a folder that it lies in, is a part's."""
    return part in (*re.split(r"[-_.]", file.stem), *file.relative_to(below).parts[:-1])
