"""PolyRefuse: harmful and harmless instructions in 14 languages, without answers, from the original JSON lines.

Source: Wang et al., "Refusal Direction is Universal Across Safety-Aligned Languages", 2025. One object a line, id and
category, then one key a language; one file for each kind and split, `polyrefuse_harmful_train.jsonl` ... (with or
without `polyrefuse_`). Harmless instructions are there to measure over-refusal.
"""

from collections.abc import Sequence
from pathlib import Path

from consistency_jax.data.items import DataError, Items, check_languages
from consistency_jax.data.sources.files import AGAIN, first_file, folder_of, json_lines, text_of
from consistency_jax.data.sources.prompts import Prompt, prompt_items
from consistency_jax.data.sources.splits import Plan

LANGUAGES = ("en", "ar", "de", "es", "fr", "it", "ja", "ko", "nl", "pl", "ru", "th", "yo", "zh")
LEADING_SPACE = "written"
KINDS = ("harmful", "harmless")
FILES = {"train": ("train",), "validation": ("val",), "test": ("val",), None: ("train", "val")}
DOWNLOAD = "Set data.path to the folder with polyrefuse_harmful_train.jsonl ..."


def read(
    path: str | Path | None,
    languages: Sequence[str] | None = None,
    split: str | None = None,
    on_error: str = "raise",
    *,
    kind: str = "both",
) -> Items:
    """Reads PolyRefuse.

    Args:
        path: the folder with the files.
        languages: which, in this order; None = all 14.
        split: "train", "validation" (the set's val; "test" is the same), or None for both.
        on_error: "raise", or "skip": bad rows are left out and listed.
        kind: "harmful", "harmless" or "both".

    Returns:
        Prompts without candidates; the original ids (`harmful_train/0`); group = the kind, with the category where the
        set has one (`harmful: cybercrime_intrusion`).

    Raises:
        DataError: naming file, line, reason and mend.
    """
    if kind not in (*KINDS, "both"):
        raise DataError.at("polyrefuse", f"unknown kind {kind!r}", f"Known: {', '.join(KINDS)}, both")
    if split not in FILES:
        raise DataError.at("polyrefuse", f"unknown split {split!r}", "Known: train, validation, test, every")
    languages = check_languages(LANGUAGES if languages is None else languages, LANGUAGES, "polyrefuse")
    folder = folder_of(path, "polyrefuse", DOWNLOAD)
    rows: list[Prompt | DataError] = []
    for each in KINDS if kind == "both" else (kind,):
        for part in FILES[split]:
            name = f"{each}_{part}.jsonl"
            file = first_file(folder, [f"polyrefuse_{name}", name], name, DOWNLOAD)
            lines = list(json_lines(file))
            if not lines:
                raise DataError.at(str(file), "the file has no rows", AGAIN)
            for line in lines:
                try:
                    record = line.get()
                    key = text_of(record, "id", line.where)
                    category = text_of(record, "category", line.where) if record.get("category") else ""
                    texts = {k: text_of(record, k, line.where) for k in languages}
                    rows.append(Prompt(key, f"{each}: {category}" if category else each, texts, line.where))
                except DataError as error:
                    rows.append(error)
    return prompt_items(rows, languages, Plan(None, 0), source="polyrefuse", on_error=on_error)
