"""KLAR: 2,619 facts of 20 relations in 17 languages, each asked by five templates, from the original JSON files.

Source: Wang et al., "Lost in Multilinguality: Dissecting Cross-lingual Factual Inconsistency in Transformer Language
Models", arXiv 2504.04264. A folder a language, a file a relation: `en/capital.json`. A question ends where its mask
stands, last in every template but some Japanese ones, whose です is left out.

A language may be asked by another template than the first: `en-t2` is English by the second. So the templates of one
language are as many languages, `languages=en-t1+en-t2+en-t3`: their consistency, between paraphrases, is what the
consistency between languages is held against.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from consistency_jax.data.items import MASK, DataError, ParallelItem
from consistency_jax.data.sources.files import AGAIN, decode, id_of, parse, text_of, value_of
from consistency_jax.data.sources.parallel import by_id, by_template, check_alike
from consistency_jax.data.sources.source import Row, Rows, Source, each

DOWNLOAD = "Set data.path to the folder with en/capital.json ... (github.com/boschresearch/KLAR-CLC)"
SOURCE = Source("written", DOWNLOAD)
FACTS = 2619
SUBJECT = "<subject>"


class Fact(NamedTuple):
    """One fact in one language, by one template."""

    key: str
    prompt: str
    candidates: tuple[str, ...]
    right: int
    relation: str
    where: str


def read(path: Path, languages: Sequence[str] | None) -> Rows:
    """Reads KLAR, its facts in the order of the relations' names.

    Args:
        path: the folder with a folder a language.
        languages: `sw`, or `sw-t3` for the third template; None: all, by the first.

    Returns:
        Items `capital-5960` (relation and original index); group = the relation.

    Raises:
        DataError: a folder without facts, or a language or template that it does not have.
    """
    folders = {folder.parent.name: folder.parent for folder in sorted(path.glob("*/*.json"))}
    if not folders:
        raise DataError.at(str(path), "no folder of a language with JSON files", DOWNLOAD)
    tables, places = {}, {}
    for code in languages or folders:
        language, number = by_template(code)
        if language not in folders:
            told = f"{', '.join(folders)}, each also as {next(iter(folders))}-t2 by its second template"
            raise DataError.at("klar", f"unknown language {code!r}", f"Known: {told}")
        places[code] = folders[language]
        tables[code] = _facts(folders[language], number)
    first = folders.get("en") or next(iter(folders.values()))  # its order is the set's, whatever is asked for
    rows, warnings = by_id(_facts(first, 1), tables, places)

    def make(_: int, own: Mapping[str, Fact]) -> Row:
        check_alike(own, "right")
        fact = next(iter(own.values()))
        item = ParallelItem(
            id=fact.key,
            group=fact.relation,
            prompts={code: own[code].prompt for code in own},
            candidates={code: own[code].candidates for code in own},
            gold=fact.right,
        )
        return Row(item, fact.where)

    return Rows(each(rows, make), warnings, published=FACTS)


def _facts(folder: Path, number: int) -> dict[str, Fact | DataError]:
    """Relation and index -> the fact, or why it cannot be read; in the order of the files' names."""
    found: dict[str, Fact | DataError] = {}
    for file in sorted(folder.glob("*.json")):
        record = parse(decode(file.read_bytes(), str(file)), str(file))
        templates = value_of(record, "prompt_templates", str(file))
        samples = value_of(record, "samples", str(file))
        if not isinstance(templates, list) or not isinstance(samples, list):
            raise DataError.at(str(file), "prompt_templates or samples is no list", AGAIN)
        if number > len(templates):
            raise DataError.at(
                str(file), f"there is no template {number} of {len(templates)}", "Take another one"
            )
        template = templates[number - 1]
        if not isinstance(template, str) or template.count(MASK) != 1 or SUBJECT not in template:
            raise DataError.at(
                str(file), f"template {number} is {template!r:.60}", "It needs <subject> and one <mask>"
            )
        for place, sample in enumerate(samples):
            key = where = f"{file}: sample {place}"
            try:
                where = f"{file}: index {id_of(sample, 'index', where)}"
                key = f"{file.stem}-{sample['index']}"
                if key in found:
                    raise DataError.at(where, "the index stands twice", AGAIN)
                found[key] = _fact(sample, template, key, where)
            except DataError as error:
                found[key if key not in found else where] = error
    return found


def _fact(sample: object, template: str, key: str, where: str) -> Fact:
    head = template.partition(MASK)[0].replace(SUBJECT, text_of(sample, "subject", where))
    names = [name.strip() for name in text_of(sample, "object_candidates", where).split(", ")]
    right = text_of(sample, "object", where)
    if names.count(right) != 1:
        reason = f"the object {right!r:.40} is {names.count(right)} times among {len(names)} candidates"
        raise DataError.at(where, reason, AGAIN)
    space = " " if head[-1:].isspace() else ""  # as the template has it: none in Chinese and most of Japanese
    candidates, relation = tuple(space + name for name in names), key.rpartition("-")[0]
    return Fact(key, head.rstrip(), candidates, names.index(right), relation, where)
