"""Multiple-choice questions as the published DCO code reads them: the re-uploads JRQi/BMLAMA17, JRQi/MMMLU, JRQi/XCSQA.

Columns: `Prompt`, `Ans`, `Candidate Ans` (the text of a Python list, or a list), one configuration a language, rows
parallel by index. From the Hugging Face Hub, or from a folder with the same files: CSV, TSV, JSON lines or Parquet, as
`en.tsv`, `en/test.parquet` or `bmlama_en.csv`. Lists are parsed as literals; no text is ever run.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from consistency_jax.data.items import MASK, DataError, ParallelItem, check_languages
from consistency_jax.data.sources import bmlama17, mmmlu
from consistency_jax.data.sources.choices import parted
from consistency_jax.data.sources.files import AGAIN, Line
from consistency_jax.data.sources.language_files import DOWNLOAD, files_by_language, lines_of, texts_of
from consistency_jax.data.sources.parallel import by_place, check_alike
from consistency_jax.data.sources.source import Experiment, Row, Rows, Source, each

COLUMNS = ("Prompt", "Ans", "Candidate Ans")


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
            except in `choices.NO_SPACES`. "verbatim": prompt and answer stand as the file has them, as the
            published code joins them.

    Returns:
        Ids `hub-<row>` and no groups.

    Raises:
        DataError: naming file, reason and mend.
    """
    if path is None:
        raise DataError.at("data.path", "the source 'hub' needs a folder or a Hub id", DOWNLOAD)
    files = files_by_language(str(path), languages, part)
    languages = check_languages(languages or files, files, str(path))
    tables = {
        k: each(lines_of(files[k], COLUMNS), lambda _, line, k=k: _question(line, k, join)) for k in languages
    }

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


def _question(line: Line, language: str, join: str) -> Question:
    record = line.get()
    if not isinstance(record, dict) or not all(column in record for column in COLUMNS):
        raise DataError.at(line.where, f"the row lacks one of {', '.join(COLUMNS)}", AGAIN)
    prompt, answer, candidates = (record[column] for column in COLUMNS)
    if not isinstance(prompt, str) or not isinstance(answer, str):
        raise DataError.at(line.where, "Prompt or Ans is not a text", AGAIN)
    candidates = texts_of(candidates, "Candidate Ans", line.where)
    if answer not in candidates:
        raise DataError.at(line.where, f"Ans {answer!r:.60} is not among the candidates", AGAIN)
    if join == "verbatim":
        return Question(prompt, tuple(candidates), candidates.index(answer), line.where)
    space = "" if MASK in prompt or not parted(language) else " "
    texts = tuple(space + text.strip() for text in candidates)
    return Question(prompt.strip(), texts, candidates.index(answer), line.where)
