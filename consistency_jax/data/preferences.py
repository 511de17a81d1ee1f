"""Preference pairs from JSONL, one pair a line: monolingual, and not aligned by index between languages.

    {"id": "Q1", "language": "fr", "prompt": "La capitale de la France est", "chosen": " Paris", "rejected": " Rome",
     "provenance": {"selection": "calm", "votes": [5, 2]}}

An answer is put after the prompt (or into the gap of its `<mask>`) exactly as it is. `id` names the question that a
pair was made from: several pairs may share it, in one language too. `provenance` (any JSON object) is for the reader
alone. `"written": false` says that the answers are candidates of a question, behind which no end is trained
(data.train.end). Any other key is an error.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from consistency_jax.data.items import (
    MASK,
    DataError,
    Items,
    ParallelItem,
    check_characters,
    check_names,
    no_collection,
    run_together,
)
from consistency_jax.data.sources.files import id_of, json_lines, value_of
from consistency_jax.runtime.files import expanded

TEXTS = ("language", "prompt", "chosen", "rejected")
KEYS = ("id", *TEXTS, "provenance", "written")


@dataclass(frozen=True)
class Pair:
    """One preference: of two answers to a prompt, which one is to become likelier.

    Attributes:
        id: of the question that it was made from.
        language: of all three texts.
        prompt, chosen, rejected: the texts; `<mask>` in the prompt marks the answer's gap.
        provenance: how it came about (scores, votes), JSON values.
        written: as in `ParallelItem`.
        where: its place, `file:line`, for messages; "" where it was made here.
    """

    id: str
    language: str
    prompt: str
    chosen: str
    rejected: str
    provenance: Mapping[str, Any] = field(default_factory=dict)
    written: bool = True
    where: str = field(default="", compare=False, repr=False)


class Pairs(list[Pair]):
    """What `read_pairs` returns: a list of pairs, with one message in `skipped` for each line left out."""

    def __init__(self, pairs: Iterable[Pair] = (), *, skipped: Iterable[str] = ()):
        super().__init__(pairs)
        self.skipped: list[str] = list(skipped)


def read_pairs(path: str | Path, on_error: str = "raise") -> Pairs:
    """Reads a file of preference pairs.

    Args:
        path: the file.
        on_error: "raise", or "skip": bad lines are left out and listed.

    Raises:
        DataError: naming file, line, reason and mend.
    """
    path = expanded(path)
    if not path.is_file():
        raise DataError.at(str(path), "no such file", "Check the path of the preference pairs")
    pairs = Pairs()
    for line in json_lines(path):
        try:
            pairs.append(parse_pair(line.get(), line.where))
        except DataError as error:
            if on_error == "raise":
                raise
            pairs.skipped.append(str(error))
    if not pairs:
        raise DataError.at(str(path), f"no usable line ({len(pairs.skipped)} skipped)", "Check the file")
    return pairs


def load_pairs(
    pairs: str | Path, on_error: str = "raise", languages: Sequence[str] | None = None, together: bool = False
) -> Items:
    """A file of preference pairs as training items, with what was left out; arguments and errors are those of
    `read_pairs` and `pair_items`."""
    with no_collection():
        read = read_pairs(pairs, on_error)
        items = pair_items(read, str(pairs), languages, together=together)
        items.skipped = read.skipped
        return items


def pairs_text(pairs: Iterable[Pair]) -> str:
    """Pairs as JSONL."""
    records = ({key: value for key, value in asdict(pair).items() if key in KEYS} for pair in pairs)
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def parse_pair(record: Any, where: str) -> Pair:
    """The pair of one JSON value, checked.

    Raises:
        DataError: a missing or unknown key, a value of the wrong type, or texts that make no pair.
    """
    name = id_of(record, "id", where)
    if "prompts" in record or "candidates" in record:
        raise DataError.at(
            where,
            "this is a parallel item, not a preference pair",
            "Give it as data.path with data.source=jsonl, or make pairs of it: python -m consistency_jax.pairs",
        )
    if unknown := [key for key in record if key not in KEYS]:
        raise DataError.at(where, f"unknown key {', '.join(map(repr, unknown))}", f"Known: {', '.join(KEYS)}")
    for key in TEXTS:
        if not isinstance(value_of(record, key, where), str):
            raise DataError.at(where, f"{key} is {record[key]!r}, not a string", "Quote it")
        if not record[key].strip():
            raise DataError.at(where, f"{key} is empty", "Write it, or drop the pair")
    if not isinstance(record.get("provenance", {}), dict):
        raise DataError.at(where, "provenance is not a JSON object", 'Write {"...": ...}, or leave it out')
    if not isinstance(record.get("written", True), bool):
        raise DataError.at(where, f"written is {record['written']!r}", "Write true or false, or leave it out")
    more = record.get("provenance", {}), record.get("written", True)
    pair = Pair(name, *(record[key] for key in TEXTS), *more, where)
    check_characters([("the id", pair.id), *((f"the {key}", getattr(pair, key)) for key in TEXTS)], where)
    check_names([pair.id, pair.language], where)
    if not pair.prompt.replace(MASK, "").strip():
        raise DataError.at(where, "the prompt is empty but for its mask", "Write the question, or drop it")
    if pair.prompt.count(MASK) > 1:
        raise DataError.at(
            where, f"the prompt has {pair.prompt.count(MASK)} {MASK}", "Keep one mask a prompt"
        )
    if pair.chosen == pair.rejected:
        raise DataError.at(where, "chosen and rejected are the same text", "Drop the pair: it says nothing")
    return pair


def pair_items(
    pairs: Sequence[Pair], where: str, languages: Sequence[str] | None = None, *, together: bool = False
) -> Items:
    """Pairs as training items with the candidates (chosen, rejected), and gold 0.

    Each has one language; with `together`, those that its question has: the first pairs of an id in each language make
    one item, the second ones the next, ... What is chosen in one language then stands beside what is chosen in another,
    and is no translation of it.

    An item's `group` is its pairs' id, which several may share; its own id says which pair it is.

    Args:
        pairs: in the order of the file.
        where: the file, for messages.
        languages: those to keep; None = all. Pairs of others are left out, with one warning for each language.
        together: whole questions, as batching.name=grouped takes them.

    Raises:
        DataError: where no pair is left.
    """
    known = tuple(dict.fromkeys(pair.language for pair in pairs))
    number: Counter[tuple[str, str]] = Counter()
    left_out: Counter[str] = Counter()
    gathered: dict[str, dict[str, Pair]] = {}
    for pair in pairs:
        if languages is not None and pair.language not in languages:
            left_out[pair.language] += 1
            continue
        number[pair.id, pair.language] += 1
        n = number[pair.id, pair.language]
        name = f"{pair.id}/{n}" if together else f"{pair.id}/{pair.language}/{n}"
        gathered.setdefault(name, {})[pair.language] = pair
    items = Items()
    for name, own in gathered.items():
        first = next(iter(own.values()))
        item = ParallelItem(
            id=name,
            group=first.id,
            prompts={language: pair.prompt for language, pair in own.items()},
            candidates={language: (pair.chosen, pair.rejected) for language, pair in own.items()},
            gold=0,
            written=all(pair.written for pair in own.values()),
            where=first.where,
        )
        items.append(item)
        items.warnings.extend(f"{where}: pair {item.id!r}: {reason}." for reason in run_together(item))
    if not items:
        raise DataError.at(
            where,
            f"no pair is in one of data.languages ({', '.join(languages or ())})",
            f"The file has {', '.join(known) or 'none'}",
        )
    for language, count in left_out.items():
        items.warnings.append(f"{where}: {language!r} is not in data.languages; pairs left out: {count}.")
    return items
