"""MultiJail: 315 harmful prompts in ten languages, without answers, from the original CSV.

Source: Deng et al., "Multilingual Jailbreak Challenges in Large Language Models", ICLR 2024. Columns: id, source, tags,
then one a language. What a set of harmful prompts is for: to measure, and to train, refusals alike in all languages.
"""

from collections.abc import Sequence
from pathlib import Path

from consistency_jax.data.sources.files import Line, first_file, records
from consistency_jax.data.sources.source import Row, Rows, Source, bare_row, each

LANGUAGES = ("en", "zh", "it", "vi", "ar", "ko", "th", "bn", "sw", "jv")
DOWNLOAD = "Set data.path to MultiJail.csv or its folder"
SOURCE = Source("written", DOWNLOAD, LANGUAGES, train_size=0, answers=False)


def read(path: Path, languages: Sequence[str]) -> Rows:
    """Reads MultiJail, the CSV file or its folder: ids `multijail-<id>`, group = the first of the tags."""
    file = path if path.is_file() else first_file(path, ["MultiJail.csv"], "MultiJail.csv", DOWNLOAD)

    def make(_: int, line: Line) -> Row:
        row = line.get()
        tag = row["tags"].strip("[]").split("', '")[0].strip("'\" ")
        texts = {language: row[language] for language in languages}
        return bare_row(f"multijail-{row['id'].strip()}", tag, texts, line.where)

    return Rows(each(records(file, ("id", "tags", *languages)), make), published=315)
