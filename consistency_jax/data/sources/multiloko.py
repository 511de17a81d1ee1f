"""MultiLoKo: questions about what is known in one place, asked in its language and in English (arXiv 2504.10356).

The unpacked folder `benchmark_data` has a folder a language, by its English name (`swedish/`), with `dev.jsonl` (250
questions that were written in it) and `dev_translated_human_english.jsonl` (the same in English; of English, a file for
each of the others). An object a line: `id`, `question`, `targets` (texts, of which each is right), `output_type`.

An item's group is the language that its question comes from, which the mother-tongue effect is measured by.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from consistency_jax.data.examples import ANCHOR
from consistency_jax.data.items import DataError
from consistency_jax.data.sources.files import AGAIN, first_file, text_of, value_of
from consistency_jax.data.sources.parallel import by_id, keyed
from consistency_jax.data.sources.source import Row, Rows, Source, bare_row, each

# As the folders are called; "zh" and "zh-Hant" are Mandarin in simplified and in traditional characters.
NAMES = {
    "en": "english",
    "ar": "arabic",
    "bn": "bengali",
    "yue": "cantonese",
    "cs": "czech",
    "nl": "dutch",
    "fa": "farsi",
    "fr": "french",
    "de": "german",
    "he": "hebrew",
    "hi": "hindi",
    "id": "indonesian",
    "it": "italian",
    "ja": "japanese",
    "km": "khmer",
    "ko": "korean",
    "ms": "malay",
    "mr": "marathi",
    "pl": "polish",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "zh": "simplified_mandarin",
    "es": "spanish",
    "sv": "swedish",
    "tl": "tagalog",
    "th": "thai",
    "zh-Hant": "traditional_mandarin",
    "tr": "turkish",
    "ur": "urdu",
    "vi": "vietnamese",
}
DOWNLOAD = (
    "Set data.path to the unpacked folder benchmark_data, which holds english/dev.jsonl ...; name the languages that "
    "it has: languages=en+fr"
)
SOURCE = Source(
    "written",
    DOWNLOAD,
    tuple(NAMES),
    answers=False,
    train_size=0,
    values={"translated": ("human", "machine")},
)


class Asked(NamedTuple):
    question: str
    targets: tuple[str, ...]
    where: str


def read(path: Path, languages: Sequence[str], *, translated: str = "human") -> Rows:
    """Reads MultiLoKo.

    Args:
        path: the folder.
        languages: English and others; questions that come from a language that is not named are left out.
        translated: by whom, "human" or "machine".

    Returns:
        Ids `LANGUAGE/ID`; questions that come from English are asked in every language, others in their own and in
        English.

    Raises:
        DataError: naming file, reason and mend.
    """
    if ANCHOR not in languages:
        reason = f"{', '.join(languages)} without English have no question in common"
        raise DataError.at("data.languages", reason, "Name en, too")
    rows: list[Row | DataError] = []
    warnings: list[str] = []
    for source in languages:
        own = languages if source == ANCHOR else [source, ANCHOR]
        files = {
            name: _file(
                path, source, "dev" if name == source else f"dev_translated_{translated}_{NAMES[name]}"
            )
            for name in own
        }
        tables = {name: keyed(file, "id", _asked) for name, file in files.items()}
        joined, odd = by_id(tables[source], tables, files)
        keys = list(tables[source])
        rows += each(joined, lambda i, asked, source=source, keys=keys: _row(source, keys[i], asked))
        warnings += odd
    return Rows(rows, warnings)


def _file(folder: Path, language: str, name: str) -> Path:
    return first_file(folder / NAMES[language], [f"{name}.jsonl"], "questions", DOWNLOAD)


def _asked(record: Any, where: str) -> Asked:
    targets = value_of(record, "targets", where)
    if not isinstance(targets, list) or not targets or not all(isinstance(own, str) for own in targets):
        raise DataError.at(where, f"targets are {targets!r:.60}, not a list of texts", AGAIN)
    return Asked(text_of(record, "question", where), tuple(targets), where)


def _row(source: str, key: str, own: Mapping[str, Asked]) -> Row:
    texts = {language: asked.question for language, asked in own.items()}
    targets = {language: asked.targets for language, asked in own.items()}
    return bare_row(f"{source}/{key}", source, texts, own[source].where, targets)
