"""BMLAMA-17: 6,792 cloze facts in 17 languages with 2 to 10 candidates, from the original TSV files.

Source: Qi, Fernandez, Bisazza, "Cross-Lingual Consistency of Factual Knowledge in Multilingual Language
Models", EMNLP 2023. One file a language (`en.tsv` ...), quoted as CSV, separated by tabs; columns are known
by their position (prompt with `<mask>`, gold, candidates joined by ", ", subject), as the Chinese header
has five names. Rows are parallel by index. The gold always stands last, so candidates are shuffled: one
seed a row, and the same order in every language. BMLAMA-53 (`bmlama53.py`) is the same in other languages.
"""

import dataclasses
import functools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from consistency_jax.data.items import MASK, DataError, ParallelItem
from consistency_jax.data.sources.files import AGAIN, csv_lines
from consistency_jax.data.sources.parallel import by_place
from consistency_jax.data.sources.source import Experiment, Row, Rows, Source, Typical, each

LANGUAGES = (
    *("en", "fr", "nl", "es", "ru", "ja", "zh", "ko", "vi"),
    *("el", "hu", "he", "tr", "ca", "ar", "uk", "fa"),
)
DOWNLOAD = "Set data.path to the folder that holds en.tsv, fr.tsv ... of BMLAMA"
SOURCE = Source(
    "either",
    DOWNLOAD,
    LANGUAGES,
    train_size=5000,
    values={"cloze": ("sentence", "end"), "split_by": ("row", "subject")},
    experiment=Experiment(1250, LANGUAGES, instances=5000),
    typical=Typical(candidates=10, prompt=10, answer=7),  # means over the data
)
GAP = "____"


class Fact(NamedTuple):
    """One line of one file."""

    prompt: str
    gold: str
    candidates: tuple[str, ...]
    subject: str
    where: str


def read_edition(
    name: str,
    published: int,
    path: Path,
    languages: Sequence[str],
    *,
    cloze: str = "sentence",
    unique_gold: bool = False,
    split_by: str = "row",
    shuffle: bool = True,
    single: bool = True,
) -> Rows:
    """Reads an edition of BMLAMA.

    Args:
        name: of the edition, and of its rows' ids.
        published: its number of rows, 0 where not known.
        path: the folder with one `<language>.tsv` a language.
        cloze: "sentence", the whole sentence with its mask, as the metric's published code scores it; or "end", the
            answer after the sentence, "X was born in ____. ____ =" (this project's wording, alike in all languages: the
            mask stands inside the sentence in many of them).
        unique_gold: leave out the rows that hold a second true answer (among the candidates is the gold of
            another row with the same English prompt): 1,026 rows of BMLAMA-17.
        split_by: "row", as published, or "subject": rows of one relation and subject stay on one side (2,889 rows of
            BMLAMA-17 share their prompt with another).
        shuffle: False keeps the order of the files (the gold last).
        single: False leaves out the rows with one candidate, which is always right and has no rank (BMLAMA-53 has 34);
            as published they stay, with a warning.

    Returns:
        Ids `bmlama17-<row>`, group = the English template (`[X] was born in [Y].`), "" where there is no en.tsv. The
        order of candidates depends on the row only.

    Raises:
        DataError: naming file, reason and mend.
    """
    tables = {language: _table(path / f"{language}.tsv") for language in languages}
    facts = by_place(tables, path)
    english = tables.get("en") or _english(path / "en.tsv", len(facts))
    for option, used in (("unique_gold", unique_gold), ("split_by", split_by == "subject")):
        if used and not english:
            reason = f"no such file, and {option} compares English rows"
            raise DataError.at(str(path / "en.tsv"), reason, DOWNLOAD)
    alone = frozenset(
        i
        for i, fact in enumerate(next(iter(tables.values())))
        if isinstance(fact, Fact) and len(fact.candidates) == 1
    )
    left_out = _second_true_answer(english) if unique_gold else frozenset()
    told = f"{len(alone)} rows have one candidate, which is always right and has no rank; single=False leaves them out."

    def make(i: int, own: Mapping[str, Fact]) -> Row:
        item = ParallelItem(
            id=f"{name}-{i:04d}",
            group=relation(english[i]) if english and isinstance(english[i], Fact) else "",
            prompts={language: fact.prompt for language, fact in own.items()},
            candidates={language: fact.candidates for language, fact in own.items()},
            gold=len(own[languages[0]].candidates) - 1,
        )
        item = answer_at_end(item) if cloze == "end" else item
        return Row(item, own[languages[-1]].where, left_out=i in left_out or not single and i in alone)

    # a bad English row stands alone
    units = [fact.prompt if isinstance(fact, Fact) else i for i, fact in enumerate(english)]
    return Rows(
        each(facts, make),
        warnings=[f"{path}: {told}"] if alone and single else [],
        published=published,
        units=units if split_by == "subject" else None,
        shuffle=name if shuffle else "",
    )


read = functools.partial(read_edition, "bmlama17", 6792)


def answer_at_end(item: ParallelItem) -> ParallelItem:
    """A cloze as a prompt that its answer follows: "X was born in ____. ____ =" + " Rome"."""
    return dataclasses.replace(
        item,
        prompts={k: f"{prompt.replace(MASK, GAP).strip()} {GAP} =" for k, prompt in item.prompts.items()},
        candidates={k: tuple(f" {text.strip()}" for text in texts) for k, texts in item.candidates.items()},
    )


def relation(english: Fact) -> str:
    """The English template of a row, its relation in all but name: `[X] was born in [Y].`"""
    return english.prompt.replace(english.subject, "[X]").replace(MASK, "[Y]")


def _second_true_answer(english: Sequence[Fact | DataError]) -> frozenset[int]:
    golds = defaultdict(set)
    for fact in english:
        if isinstance(fact, Fact):
            golds[fact.prompt].add(fact.gold)
    return frozenset(
        i
        for i, fact in enumerate(english)
        if isinstance(fact, Fact) and len(golds[fact.prompt].intersection(fact.candidates)) > 1
    )


def _english(file: Path, count: int) -> list[Fact | DataError]:
    """The English rows, which name the groups whatever languages were asked for; none without the file."""
    facts = _table(file) if file.is_file() else []
    return facts if len(facts) == count else []


def _table(file: Path) -> list[Fact | DataError]:
    if not file.is_file():
        raise DataError.at(str(file), "no such file", DOWNLOAD)
    return each(csv_lines(file, "\t", header=True), lambda _, line: _fact(line.get(), line.where))


def _fact(fields: list[str], where: str) -> Fact:
    if len(fields) != 4:
        raise DataError.at(where, f"the row has {len(fields)} columns, not 4", AGAIN)
    prompt, gold, joined, subject = fields
    candidates = tuple(joined.split(", "))
    if prompt.count(MASK) != 1:
        raise DataError.at(where, f"the prompt has {prompt.count(MASK)} {MASK}", "Keep exactly one")
    if candidates[-1] != gold:
        raise DataError.at(where, f"the last candidate is not the gold {gold!r}", "Use the original files")
    return Fact(prompt, gold, candidates, subject, where)
