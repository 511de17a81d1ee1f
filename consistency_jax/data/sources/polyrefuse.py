"""PolyRefuse: harmful and harmless instructions in 14 languages, without answers, from the original JSON lines.

Source: Wang et al., "Refusal Direction is Universal Across Safety-Aligned Languages", 2025. One object a line, id and
category, then one key a language; one file for each kind and split, `polyrefuse_harmful_train.jsonl` ... (with or
without `polyrefuse_`). Harmless instructions are there to measure over-refusal.
"""

from collections.abc import Sequence
from pathlib import Path

from consistency_jax.data.items import DataError
from consistency_jax.data.sources.files import Line, first_file, json_lines, text_of
from consistency_jax.data.sources.source import Row, Rows, Source, bare_row, each

LANGUAGES = ("en", "ar", "de", "es", "fr", "it", "ja", "ko", "nl", "pl", "ru", "th", "yo", "zh")
KINDS = ("harmful", "harmless")
PARTS = {"train": ("train",), "validation": ("val",), "test": ("test",), None: ("train", "val", "test")}
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
        split: "train", "validation" (the set's val), "test" (val too, where there is no test file), or None for all.
        kind: "harmful", "harmless" or "both".

    Returns:
        The original ids (`harmful_train/0`); group = the kind, with the category where the set has one
        (`harmful: cybercrime_intrusion`). A language that a whole file lacks is told, and its other languages are read.

    Raises:
        DataError: a file that is not there.
    """

    def make(_: int, own: tuple[str, Sequence[str], Line]) -> Row:
        each_kind, known, line = own
        record, where = line.get(), line.where
        key = text_of(record, "id", where)
        category = text_of(record, "category", where) if record.get("category") else ""
        texts = {language: text_of(record, language, where) for language in known}
        return bare_row(key, f"{each_kind}: {category}" if category else each_kind, texts, where)

    rows, warnings = [], []
    for each_kind in KINDS if kind == "both" else (kind,):
        for file in _files(path, each_kind, split):
            lines = list(json_lines(file))
            known = [language for language in languages if any(_has(line, language) for line in lines)]
            if lacking := [language for language in languages if language not in known]:
                warnings.append(f"{file} lacks {', '.join(lacking)}; its other languages are read.")
            rows += [(each_kind, known, line) for line in lines]
    return Rows(each(rows, make), warnings)


def _has(line: Line, language: str) -> bool:
    return isinstance(line.value, dict) and language in line.value


def _files(path: Path, kind: str, split: str | None) -> list[Path]:
    """Those of a kind and split. Without a file of its own, test is val."""

    def file(part: str) -> Path:
        name = f"{kind}_{part}.jsonl"
        return first_file(path, [f"polyrefuse_{name}", name], name, DOWNLOAD)

    files = [file(part) for part in PARTS[split] if part != "test"]
    if split in ("test", None):
        try:
            files.append(file("test"))
        except DataError:
            files = files or [file("val")]
    return files
