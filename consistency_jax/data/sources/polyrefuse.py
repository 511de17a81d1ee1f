"""PolyRefuse: harmful and harmless instructions in 14 languages, without answers, from the original JSON lines.

Source: Wang et al., "Refusal Direction is Universal Across Safety-Aligned Languages", 2025. One object a line, id and
category, then one key a language; one file for each kind and split, `polyrefuse_harmful_train.jsonl` ... (with or
without `polyrefuse_`). Harmless instructions are there to measure over-refusal.
"""

from collections.abc import Sequence
from pathlib import Path

from consistency_jax.data.sources.files import Line, first_file, json_lines, text_of
from consistency_jax.data.sources.source import Row, Rows, Source, bare_row, each

LANGUAGES = ("en", "ar", "de", "es", "fr", "it", "ja", "ko", "nl", "pl", "ru", "th", "yo", "zh")
KINDS = ("harmful", "harmless")
FILES = {"train": ("train",), "validation": ("val",), "test": ("val",), None: ("train", "val")}
DOWNLOAD = "Set data.path to the folder with polyrefuse_harmful_train.jsonl ..."
SOURCE = Source(
    "written",
    DOWNLOAD,
    LANGUAGES,
    splits=("train", "validation", "test"),
    answers=False,
    values={"kind": (*KINDS, "both")},
)


def read(path: Path, languages: Sequence[str], split: str | None, *, kind: str = "both") -> Rows:
    """Reads PolyRefuse.

    Args:
        path: the folder with the files.
        split: "train", "validation" (the set's val; "test" is the same), or None for both.
        kind: "harmful", "harmless" or "both".

    Returns:
        The original ids (`harmful_train/0`); group = the kind, with the category where the set has one
        (`harmful: cybercrime_intrusion`).

    Raises:
        DataError: a file that is not there.
    """

    def make(_: int, own: tuple[str, Line]) -> Row:
        each_kind, line = own
        record, where = line.get(), line.where
        key = text_of(record, "id", where)
        category = text_of(record, "category", where) if record.get("category") else ""
        texts = {language: text_of(record, language, where) for language in languages}
        return bare_row(key, f"{each_kind}: {category}" if category else each_kind, texts, where)

    lines = []
    for each_kind in KINDS if kind == "both" else (kind,):
        for part in FILES[split]:
            name = f"{each_kind}_{part}.jsonl"
            file = first_file(path, [f"polyrefuse_{name}", name], name, DOWNLOAD)
            lines += [(each_kind, line) for line in json_lines(file)]
    return Rows(each(lines, make))
