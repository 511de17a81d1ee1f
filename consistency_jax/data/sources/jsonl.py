"""Parallel items from JSONL, one item a line:

    {"id": "Q1", "group": "geography", "gold": 0, "prompts": {"en": "The capital of France is", "fr": "..."},
     "candidates": {"en": [" Paris", " Rome"], "fr": [" Paris", " Rome"]}}

A candidate is put after its prompt (or into the gap) exactly as it is: its leading space is the file's to write, in the
languages that write one. Where two words run together for want of it, that is a warning.

`<mask>` in a prompt marks a cloze; `context` ({language: text}) is optional; `gold` may be null or absent, or a
list where several candidates are right: any of them counts, and the first is what SFT and DPO learn. A question that
is answered in words has, in place of candidates, `targets`, texts that are right: {"en": ["Paris"], "fr": ["Paris"]}.
Any other key is an error: a misspelt one would be lost without a word.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from consistency_jax.data.items import DataError, ParallelItem, doubled_candidates
from consistency_jax.data.sources.files import Line, id_of, json_lines, value_of
from consistency_jax.data.sources.source import Row, Rows, Source, each

SOURCE = Source(
    "written", "Name a .jsonl file (data=FILE, or the key data.path)", values={"doubled": ("refuse", "keep")}
)
KEYS = ("id", "group", "gold", "prompts", "candidates", "context", "targets")


def read(
    path: Path,
    languages: Sequence[str] | None,
    split: str | None,
    *,
    bare: bool = False,
    doubled: str = "refuse",
) -> Rows:
    """Reads a JSONL file; of a folder `<split>.jsonl`, or every file where split is None.

    Args:
        path: the file, which is split by seed, or a folder with one file a split.
        bare: whether items may be prompts alone, without "candidates" (see `facts.require_answers`).
        doubled: "refuse", or "keep", with a warning: items with the same candidate twice, which tie.

    Raises:
        DataError: a folder without a file of the split, or a file without lines.
    """

    def make(_: int, line: Line) -> Row:
        item = parse_item(line.get(), line.where, bare)
        for reason in doubled_candidates(item) if doubled == "refuse" else ():
            mend = "Make the candidates distinct, or keep them: data.options.doubled=keep"
            raise DataError.at(line.where, reason, mend)
        alone = ["it has one candidate, which is always right and has no rank"]
        return Row(item, line.where, alone if item.num_candidates == 1 else None)

    if path.is_file():
        return Rows(each(json_lines(path), make), bare=bare)
    files = {file.stem: file for file in sorted(path.glob("*.jsonl"))}
    if split is None and files:  # every row
        return Rows(
            [row for file in files.values() for row in each(json_lines(file), make)], bare=bare, taken=True
        )
    if split not in files:
        known = ", ".join(files) or "none (it has no .jsonl file)"
        raise DataError.at(str(path), f"no file for split {split!r} in this folder", f"Known: {known}")
    rows = Rows(each(json_lines(files.pop(split)), make), bare=bare, taken=True)
    if set(languages or ()) <= set(rows.languages):
        return rows
    others = (Rows(each(json_lines(file), make)) for file in files.values())
    return rows._replace(beside=[language for other in others for language in other.languages])


def parse_item(record: Any, where: str, bare: bool = False) -> ParallelItem:
    """The item of one JSON value, its types checked; `validate` checks the rest.

    Raises:
        DataError: a missing or unknown key, or a value of the wrong type.
    """
    name = id_of(record, "id", where)
    if "chosen" in record or "rejected" in record:
        raise DataError.at(
            where,
            "this is a preference pair, not a parallel item",
            "Objectives that align languages need candidates; pairs are for DPO, SimPO, ORPO and SFT",
        )
    if unknown := [key for key in record if key not in KEYS]:
        mend = f"Known: {', '.join(KEYS)}. Other columns are named, prompt=... and so on (docs/data.md)"
        raise DataError.at(where, f"unknown key {', '.join(map(repr, unknown))}", mend)
    gold = record.get("gold")
    right = gold if isinstance(gold, list) and gold else [] if gold is None else [gold]
    if any(isinstance(k, bool) or not isinstance(k, int) for k in right):
        raise DataError.at(where, f"gold is {gold!r}", "Give an index, a list of them, or null")
    group = record.get("group") or ""
    if not isinstance(group, str):
        raise DataError.at(where, f"group is {group!r}", "Give a string")
    prompts = _texts(value_of(record, "prompts", where), "prompts", where)
    if bare or "targets" in record:
        record = {"candidates": dict.fromkeys(prompts, [])} | record
    candidates = _lists(value_of(record, "candidates", where), "candidates", where)
    targets = _lists(record.get("targets", {}), "targets", where)
    context = record.get("context")
    return ParallelItem(
        id=name,
        group=group,
        prompts=prompts,
        candidates=candidates,
        gold=right[0] if right else None,
        also=tuple(right[1:]),
        context=None if context is None else _texts(context, "context", where),
        targets=targets,
    )


def _lists(value: Any, key: str, where: str) -> dict[str, tuple[str, ...]]:
    if not _is_map(value) or not all(isinstance(own, list) for own in value.values()):
        raise DataError.at(where, f"{key} is not a map from language to a list", 'Write {"en": [" a", " b"]}')
    for language, texts in value.items():
        if not all(isinstance(text, str) for text in texts):
            raise DataError.at(where, f"a {key[:-1]} in {language!r} is not a string", "Quote it")
    return {language: tuple(texts) for language, texts in value.items()}


def _texts(value: Any, key: str, where: str) -> dict[str, str]:
    if not _is_map(value) or not all(isinstance(text, str) for text in value.values()):
        raise DataError.at(where, f"{key} is not a map from language to text", 'Write {"en": "..."}')
    return dict(value)


def _is_map(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(key, str) and key for key in value)
