"""MGSM: 250 problems of GSM8K in eleven languages, whose answers are numbers (Shi et al., arXiv 2210.03057).

A file a language, `mgsm_en.tsv`, two columns without a header: the problem, and the number that is right. Rows of the
languages belong together by their order.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

from consistency_jax.data.items import DataError
from consistency_jax.data.sources.files import AGAIN, Line, csv_lines, first_file
from consistency_jax.data.sources.parallel import by_place
from consistency_jax.data.sources.source import Row, Rows, Source, bare_row, each

LANGUAGES = ("en", "es", "fr", "de", "ru", "zh", "ja", "th", "sw", "bn", "te")
DOWNLOAD = "Set data.path to the folder with mgsm_en.tsv ...; name the languages that it has: languages=en+sw"
SOURCE = Source("written", DOWNLOAD, LANGUAGES, answers=False, train_size=0)


def read(path: Path, languages: Sequence[str]) -> Rows:
    """Reads MGSM; ids are `mgsm-NUMBER`, by the row. The problems are as they are published: `ask` may put words around
    them (a system prompt, solved examples).

    Raises:
        DataError: a missing file, files of different lengths, or a row that is no problem and a number.
    """
    files = {
        language: first_file(path, [f"mgsm_{language}.tsv"], f"file of {language!r}", DOWNLOAD)
        for language in languages
    }
    lines = by_place({language: list(csv_lines(file, "\t")) for language, file in files.items()}, path)
    return Rows(each(lines, _row), published=250)


def _row(number: int, own: Mapping[str, Line]) -> Row:
    texts, right, first = {}, {}, None
    for language, line in own.items():
        fields = line.get()
        try:
            text, answer = fields
            value = Fraction(answer.strip().replace(",", ""))
        except (ValueError, ZeroDivisionError):
            reason = (
                f"the row has {len(fields)} columns, the last {fields[-1]!r:.40}, not a problem and a number"
            )
            raise DataError.at(line.where, reason, AGAIN) from None
        first = first or (value, line.where)
        if value != first[0]:
            reason = f"the answer is {answer.strip()}, at {first[1]} it is another: rows are not parallel"
            raise DataError.at(line.where, reason, AGAIN)
        texts[language], right[language] = text, [answer.replace(",", "")]
    return bare_row(f"mgsm-{number:03d}", "", texts, first[1], right)
