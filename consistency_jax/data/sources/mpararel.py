"""mParaRel: facts of 38 relations in 46 languages, each asked by several paraphrases, from the original JSON lines.

Source: Fierro and Søgaard, "Factual Consistency of Multilingual Pretrained Language Models", Findings of ACL 2022
(github.com/coastalcph/mpararel, data/mpararel_reviewed). `patterns/en/P36.jsonl` has a paraphrase a line, "the capital
of [X] is [Y]"; `tuples/en/P36.jsonl` a fact, with names and numbers of Wikidata. Facts of the languages belong together
by `lineid`.

A language may be asked by another pattern than its first: `en-t2` is English by the second. The patterns of one
language are then as many languages, whose consistency is what that between languages is held against.
"""

import random
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from consistency_jax.data.items import MASK, DataError, ParallelItem
from consistency_jax.data.sources.files import AGAIN, json_lines, text_of
from consistency_jax.data.sources.parallel import by_template, check_alike, keyed
from consistency_jax.data.sources.source import Row, Rows, Source, Typical, each

DOWNLOAD = "Set data.path to the folder mpararel_reviewed, which holds patterns/ and tuples/"
SOURCE = Source("mask", DOWNLOAD, typical=Typical(10, 12, 4))
SUBJECT, OBJECT = "[X]", "[Y]"


class Fact(NamedTuple):
    """One fact in one language; subject and object as numbers of Wikidata, too."""

    subject: str
    name: str
    object: str
    answer: str
    where: str


def read(path: Path, languages: Sequence[str] | None, *, candidates: int = 10) -> Rows:
    """Reads mParaRel, the facts that all languages asked for have.

    Args:
        path: the folder.
        languages: `sw`, or `sw-t3` for the third pattern; None: all, by the first.
        candidates: of a question: its object, and others of the relation that all of these languages have a name for
            and that are no object of its subject, drawn by the fact's number. (The paper ranks all objects of the
            relation in the language, which are not the same in two.)

    Returns:
        Items `P36-12` (relation and lineid); group = the relation; the object of the fact is right.

    Raises:
        DataError: a folder without facts, a language that it does not have, or fewer than two candidates.
    """
    if candidates < 2:
        raise DataError.at(
            "data.options.candidates", f"{candidates} leave nothing to choose from", "Give 2 or more"
        )
    tuples, patterns = ({folder.name for folder in path.glob(f"{name}/*")} for name in ("tuples", "patterns"))
    known = tuples & patterns  # some languages have names alone
    if not known:
        raise DataError.at(str(path), "no folders tuples/ and patterns/ with a folder a language", DOWNLOAD)
    codes = list(languages or sorted(known))
    asked = {code: by_template(code) for code in codes}
    if unknown := [code for code, (language, _) in asked.items() if language not in known]:
        told = f"{', '.join(sorted(known))}, each also as en-t2 by its second pattern"
        raise DataError.at("mpararel", f"unknown language {unknown[0]!r}", f"Known: {told}")
    names = [
        {file.stem for file in path.glob(f"tuples/{language}/*.jsonl")} for language, _ in asked.values()
    ]
    rows: list[Row | DataError] = []
    warnings: list[str] = []
    for relation in sorted(set.intersection(*names), key=lambda name: (len(name), name)):
        patterns = {
            code: _pattern(path / "patterns" / language / f"{relation}.jsonl", number)
            for code, (language, number) in asked.items()
        }
        if lacking := [code for code, pattern in patterns.items() if not pattern]:
            warnings.append(f"{path}: {relation} has no such pattern in {', '.join(lacking)}; left out")
        else:
            rows += _relation(path / "tuples", relation, patterns, candidates)
    if not rows:
        told = f"no fact is there in all of {', '.join(codes)}"
        raise DataError.at(str(path), told, "Name fewer languages")
    return Rows(rows, warnings)


def _relation(folder: Path, relation: str, patterns: Mapping[str, str], count: int) -> list[Row | DataError]:
    """The facts of a relation, asked by a pattern in each language."""
    files = {code: folder / by_template(code)[0] / f"{relation}.jsonl" for code in patterns}
    tables = {code: keyed(file, "lineid", _fact) for code, file in files.items()}
    good = {
        code: {key: own for key, own in table.items() if isinstance(own, Fact)}
        for code, table in tables.items()
    }
    labels = {code: {fact.object: fact.answer for fact in own.values()} for code, own in good.items()}
    pool = sorted(set.intersection(*map(set, labels.values())))
    right: dict[str, set[str]] = {}
    for fact in (fact for own in good.values() for fact in own.values()):
        right.setdefault(fact.subject, set()).add(fact.object)
    # A fact that a language lacks is no fault of a file: languages have names for different ones.
    first, *others = good.values()
    shared = [key for key in first if all(key in own for own in others)]

    def make(_: int, key: str) -> Row:
        own = {code: facts[key] for code, facts in good.items()}
        check_alike(own, "subject", "object")
        fact, drawn = first[key], random.Random(f"{relation}-{key}")
        objects = _distinct(
            [fact.object, *drawn.sample(pool, min(len(pool), 4 * count))], right[fact.subject], labels, count
        )
        if len(objects) < 2:
            raise DataError.at(
                fact.where, f"no other object of {relation} has a name in all languages", AGAIN
            )
        drawn.shuffle(objects)
        item = ParallelItem(
            id=f"{relation}-{key}",
            group=relation,
            prompts={code: patterns[code].replace(SUBJECT, told.name) for code, told in own.items()},
            candidates={code: tuple(labels[code][name] for name in objects) for code in own},
            gold=objects.index(fact.object),
        )
        return Row(item, fact.where)

    odd = [fact for table in tables.values() for fact in table.values() if isinstance(fact, DataError)]
    return each(shared, make) + odd


def _distinct(
    objects: Sequence[str], right: Collection[str], labels: Mapping[str, Mapping[str, str]], count: int
) -> list[str]:
    """The first of these objects, and then those that are not right, until there are so many; no two of one name."""
    kept: list[str] = []
    used: set[tuple[str, str]] = set()
    for name in objects:
        told = {(code, own[name]) for code, own in labels.items()}
        if not kept or name not in right and not told & used:
            kept.append(name)
            used |= told
        if len(kept) == count:
            break
    return kept


def _fact(record: Any, where: str) -> Fact:
    subject, name, object, answer = (
        text_of(record, key, where) for key in ("sub_uri", "sub_label", "obj_uri", "obj_label")
    )
    if empty := [key for key, text in (("sub_label", name), ("obj_label", answer)) if not text]:
        raise DataError.at(where, f"{empty[0]} is empty", AGAIN)
    return Fact(subject, name, object, answer, where)


def _pattern(file: Path, number: int) -> str:
    """The pattern of this number, with a mask in the place of the object; "" where there are fewer."""
    lines = list(json_lines(file)) if file.is_file() else []  # some relations have names alone
    if number > len(lines):
        return ""
    line = lines[number - 1]
    text = text_of(line.get(), "pattern", line.where)
    if text.count(SUBJECT) != 1 or text.count(OBJECT) != 1:
        raise DataError.at(line.where, f"pattern {text!r:.60} does not have one [X] and one [Y]", AGAIN)
    return text.replace(OBJECT, MASK)
