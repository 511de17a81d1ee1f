"""The splits of a config: their items, checked, what was odd about them, and the trees made of them."""

import dataclasses
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from consistency_jax.data.facts import require_answers, with_one_right
from consistency_jax.data.items import DataError, Items, ItemSequence
from consistency_jax.data.sources import code_of, load_items, source_options
from consistency_jax.data.stored_items import in_memory, stored_or_read
from consistency_jax.data.trees.builder import BadCells, TreeBuilder, cached_trees
from consistency_jax.data.trees.chat import ChatTemplate
from consistency_jax.data.trees.forest import ANSWER, PROMPT, UNCOUNTED, Forest
from consistency_jax.data.trees.round_trip import round_trip
from consistency_jax.errors import ConfigError
from consistency_jax.models.huggingface import Model
from consistency_jax.runtime.files import write_text
from consistency_jax.scoring.tables import NeutralAnswers, neutral_answers


@dataclasses.dataclass(frozen=True)
class Split:
    """Items of one split with their trees, tree n = item * L + language; `neutral`: the answers alone, for pmi."""

    name: str
    items: ItemSequence
    languages: tuple[str, ...]
    trees: Forest
    neutral: NeutralAnswers | None = None

    def alone(self, language: str) -> "Split":
        """The same items in one of its languages, without neutral answers."""
        own = np.arange(self.languages.index(language), len(self.trees), len(self.languages))
        return dataclasses.replace(self, languages=(language,), trees=self.trees.take(own), neutral=None)


def load_split(
    config: ConfigDict, name: str, groups: Sequence[str] = (), bare: bool = False, one_right: bool = False
) -> ItemSequence:
    """The items of one split of `config.data`, with a word about what was skipped or odd.

    Args:
      groups: only items of these; empty for all.
      bare: take prompts without answers too.
      one_right: see `with_one_right`.

    Raises:
      ConfigError: a split without items, or a group of items or of languages that it has nothing of.
      DataError: for bad data (or skipped rows that leave nothing), or prompts without answers that are not asked for.
    """
    data = config.data
    options = data.options.to_dict()
    if "seed" in source_options(data.source):  # three seeds of a run are three splits, as published
        options = {"seed": config.seed} | options
    path = data.path or None
    settings = {
        "name": data.source,
        "languages": tuple(data.languages) or None,
        "split": name,
        "on_error": data.on_error,
    }

    def read() -> Items:
        items = load_items(path=path, **settings, **options)
        return with_one_right(items) if one_right else items

    items = stored_or_read(
        path, settings | {"one_right": one_right}, read, options=options, code=code_of(data.source)
    )
    print_warnings(items, f"split {name!r}")
    if not items:
        raise ConfigError(f"split {name!r} of data.source={data.source!r} has no items")
    if not bare:
        require_answers(items, f"split {name!r} of data.source={data.source!r}")
    own = [item.group for item in items] if groups else []
    known = sorted({*own})
    for group in groups:
        if group not in known:
            raise ConfigError(f"split {name!r} has no group {group!r}; it has: {', '.join(known)}")
    for group, members in config.evaluation.groups.items():
        if name in data.test and not set(members) & set(languages_of(config, items)):
            raise ConfigError(
                f"evaluation.groups.{group}={tuple(members)} holds no language of split {name!r}, which has "
                f"{', '.join(languages_of(config, items))}"
            )
    return items.take(n for n, group in enumerate(own) if group in groups) if groups else items


def load_tests(config: ConfigDict, bare: bool = False) -> dict[str, ItemSequence]:
    """The items of each test split: in all languages, of `data.test_groups`, `data.test_items` of them. `bare` and
    errors as in `load_split`."""
    return {
        name: evenly(load_split(config, name, config.data.test_groups, bare), config.data.test_items)
        for name in config.data.test
    }


def evenly(items: ItemSequence, count: int) -> ItemSequence:
    """So many items from all over the list, which may be sorted by subject; all for 0, or where they are fewer."""
    if not 0 < count < len(items):
        return items
    places = np.linspace(0, len(items) - 1, count).round().astype(int)
    return in_memory(items.take(places))


def print_warnings(items: ItemSequence, what: str) -> None:
    """Prints how many rows were skipped or odd, and the first of them."""
    for kind, messages in (("skipped", items.skipped), ("warnings", items.warnings)):
        if messages:
            print(f"data: {what}: {len(messages)} {kind}, the first: {messages[0]}")


def languages_of(config: ConfigDict, items: ItemSequence) -> tuple[str, ...]:
    """The order of axis L: as the config names them, else as the data has them."""
    return tuple(config.data.languages) or items.languages


def chat_of(config: ConfigDict, model: Model) -> ChatTemplate | None:
    """The chat that prompts are turns of, as `config.data` says; None: they stand as they are.

    Raises:
      DataError: a tokenizer without the chat template asked for.
    """
    if config.data.chat_template == "off":
        return None
    return ChatTemplate(model.tokenizer, config.data.system_prompt)


def split_of(
    config: ConfigDict,
    name: str,
    items: ItemSequence,
    model: Model,
    boundary: str,
    languages: Sequence[str] = (),
    *,
    measured: bool = True,
) -> Split:
    """Items that are loaded already, as trees, made or found in the cache; says how many prompts were cut.

    Args:
      languages: those of axis L; empty for `languages_of` the items.
      measured: with all that the config's normalization needs; False for items that are trained on, whose written
        answers end as `data.train.end` says.

    Raises:
      ConfigError: where the model has no tokenizer.
      DataError: for an item that does not fit (with data.on_error=skip such items are left out), or a tokenizer without
        the chat template asked for.
    """
    if model.tokenizer is None:
        raise ConfigError(
            f"the model {config.model.path or model.folder} has no tokenizer; put its files beside config.json"
        )
    languages = tuple(languages) or languages_of(config, items)
    chat = chat_of(config, model)
    builder = TreeBuilder(
        model.tokenizer,
        boundary=boundary,
        max_length=config.data.max_length,
        chat=chat,
        end="never" if measured else config.data.train.end,
    )
    try:
        trees = cached_trees(builder, items, languages)
    except BadCells as error:
        if config.data.on_error == "raise":
            raise DataError(f"{error} Or leave such items out: --config.data.on_error=skip") from error
        items = _without(items, error, len(languages), name)
        trees = cached_trees(builder, items, languages)
    trees.check_rows(model.config.vocab_size, f"split {name!r}")
    for told in odd_trees(trees, config, model, ties=measured or not config.data.train.pairs):
        print(f"data: split {name!r}: {told}")
    read_back = round_trip(model.tokenizer, items, languages)
    if read_back.changed:
        print(f"data: split {name!r}: {read_back}")
    neutral = None
    if measured and needs(config, "pmi"):
        neutral = neutral_answers(builder, items, languages)
    return Split(name, items, languages, trees, neutral)


def odd_trees(trees: Forest, config: ConfigDict, model: Model, ties: bool = True) -> Iterator[str]:
    """What is odd about trees, if anything is: prompts that were cut, or are longer than the model has positions, or
    have candidates that tie."""
    if cut := int((trees.truncated > 0).sum()):
        yield f"{cut} of {len(trees)} prompts cut at data.max_length={config.data.max_length}"
    if beyond := trees.beyond(model.config.max_length):
        yield beyond
    if ties and (alike := int(trees.alike().sum())):
        yield f"{alike} of {len(trees)} prompts have candidates of the same tokens, which tie"


def askable(
    config: ConfigDict, name: str, items: ItemSequence, model: Model, languages: Sequence[str]
) -> ItemSequence:
    """The items whose prompts in these languages the model can answer in free text, whatever their candidates. Errors
    are those of `split_of`: with data.on_error=skip the others are left out."""
    bare = items.only(
        dataclasses.replace(item, candidates=dict.fromkeys(item.prompts, ()), gold=None, also=())
        for item in items
    )
    left = split_of(config, name, bare, model, "separate", languages, measured=False).items
    known = {item.id for item in left}
    return left.only(item for item in items if item.id in known)


def _without(items: ItemSequence, error: BadCells, languages: int, split: str) -> ItemSequence:
    """The items without those that no tree can be made of, in any language, which are told as skipped."""
    bad: dict[int, str] = {}
    for n, told in error.problems.items():
        bad.setdefault(n // languages, told)
    if len(bad) == len(items):
        raise error
    print(f"data: split {split!r}: {len(bad)} more skipped, the first: {next(iter(bad.values()))}")
    kept = items.take(n for n in range(len(items)) if n not in bad)
    kept.skipped += bad.values()
    return kept


def write_skipped(workdir: Path, splits: Iterable[tuple[str, ItemSequence]]) -> None:
    """skipped.jsonl of a workdir: every row of these splits, by name, that data.on_error=skip left out, its split,
    place and reason; no such file where there is none."""
    lines = []
    for name, message in dict.fromkeys((name, told) for name, items in splits for told in items.skipped):
        place, _, reason = message.partition(": ")
        line = {"split": name, "place": place, "reason": reason}
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    file = workdir / "skipped.jsonl"
    if lines:
        write_text(file, "".join(lines))
    elif file.exists():
        file.unlink()


def token_lines(split: Split, tokenizer: Any, count: int) -> Iterator[str]:
    """The first questions of a split in each language, with their first candidates, as the tokens that a model is fed:
    those that nothing counts (BOS), those of the prompt, and those of the answer."""
    for n in range(min(count * len(split.languages), len(split.trees))):
        if (tree := split.trees[n]) is None:
            continue
        item, language = split.items[n // len(split.languages)], split.languages[n % len(split.languages)]
        tokens = np.concatenate([tree.trunk, *tree.branches[:1]]).tolist()
        kinds = np.concatenate([tree.trunk_kind, *tree.branch_kinds[:1]])
        ends = range(len(tokens) + 1)
        texts = [tokenizer.decode(tokens[:end], clean_up_tokenization_spaces=False) for end in ends]
        pieces = [
            repr(
                tokenizer.convert_ids_to_tokens(token) if "\ufffd" in before + after else after[len(before) :]
            )
            for token, (before, after) in zip(tokens, itertools.pairwise(texts), strict=True)
        ]
        parts = (
            " ".join(piece for piece, own in zip(pieces, kinds, strict=True) if own == kind)
            for kind in (UNCOUNTED, PROMPT, ANSWER)
        )
        yield f"{split.name}, {item.id!r}, {language!r}: {' | '.join(parts)}"


def needs(config: ConfigDict, normalization: str) -> bool:
    """Whether tables must hold what this normalization takes."""
    return config.evaluation.all_normalizations or config.evaluation.normalization == normalization
